"""A request is known to be whole the moment it is, and one that never will be is refused."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gunicorn.http import errors
from hypothesis import given, settings
from hypothesis import strategies as st

from lockboard.web.chance import Chance
from lockboard.web.intake import LONGEST_BODY, Intake, TooLong, _Socket

HEAD = b"POST /find HTTP/1.1\r\nHost: localhost\r\n"


def fed(data: bytes, size: int = 1) -> list[bool]:
    """What is said after each piece."""
    intake = Intake()
    return [intake.take(data[at : at + size]) for at in range(0, len(data), size)]


def take_all(intake: Intake, piece: bytes) -> None:
    """The same piece 200 times, or until it is refused."""
    for _ in range(200):
        intake.take(piece)


WHOLE = {
    "no body": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no headers": b"GET / HTTP/1.0\r\n\r\n",
    "a length of nothing": HEAD + b"Content-Length: 0\r\n\r\n",
    "a body": HEAD + b"Content-Length: 5\r\n\r\nq=rds",
    "odd spelling": HEAD + b"cOnTeNt-LeNgTh:\t 005 \r\n\r\nq=rds",
    "an end of the head in the body": HEAD + b"Content-Length: 6\r\n\r\nq=\r\n\r\n",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nq=\r\n00A\r\n0123456789\r\n0\r\n\r\n",
    "an end of chunks within one": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n0\r\n\r\n\r\n0\r\n\r\n",
    "no chunks": HEAD + b"Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
    "the head of another protocol": b"PRI * HTTP/2.0\r\n\r\n",
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_request_is_whole_with_its_last_byte_and_not_before(name: str) -> None:
    data = WHOLE[name]
    assert fed(data) == [False] * (len(data) - 1) + [True]


@pytest.mark.parametrize("name", WHOLE)
def test_it_does_not_matter_in_which_pieces_a_request_comes(name: str) -> None:
    data = WHOLE[name]
    for size in (2, 3, 7, 1000):
        assert fed(data, size)[-1]


@given(st.sampled_from(sorted(WHOLE)), st.data())
@settings(max_examples=300)
def test_no_first_part_of_a_request_is_whole(name: str, drawn: st.DataObject) -> None:
    data = WHOLE[name]
    cuts = sorted(drawn.draw(st.sets(st.integers(1, len(data) - 1), max_size=6)))
    intake, found = Intake(), []
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        found.append(intake.take(data[start:end]))
    assert found == [False] * len(cuts) + [True]
    assert bytes(intake.data) == data


@given(st.lists(st.binary(max_size=30), max_size=8))
@settings(max_examples=500)
def test_any_bytes_are_taken_or_refused(pieces: list[bytes]) -> None:
    intake = Intake()
    for piece in [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *pieces]:
        try:
            if intake.take(piece):
                break
        except errors.ParseException:
            break


def test_what_follows_is_kept_for_the_next_request() -> None:
    intake = Intake()
    assert intake.take(WHOLE["a body"] + b"GET /next")
    assert bytes(intake.data).endswith(b"q=rdsGET /next")


def test_empty_lines_before_a_request_are_passed_over() -> None:
    intake = Intake()
    assert intake.take(b"\r\n\r\n") is False
    assert intake.take(b"\r\n" + WHOLE["no body"])
    assert bytes(intake.data) == WHOLE["no body"]


def test_a_body_that_is_too_long_is_left_out_and_said_to_be() -> None:
    intake = Intake()
    assert intake.take(HEAD + b"Content-Length: %d\r\n\r\n" % (LONGEST_BODY + 1))
    assert intake.partial
    intake = Intake()
    assert not intake.take(HEAD + b"Content-Length: %d\r\n\r\n" % LONGEST_BODY)
    assert intake.take(b"x" * LONGEST_BODY)
    assert not intake.partial


def test_a_length_of_thousands_of_digits_is_too_long_like_any_other() -> None:
    intake = Intake()
    assert intake.take(HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n")
    assert intake.partial


def test_who_waits_to_be_told_to_send_a_body_is_told_to() -> None:
    intake = Intake()
    assert not intake.take(HEAD + b"Expect: 100-Continue\r\nContent-Length: 5\r\n\r\n")
    assert intake.continues
    intake = Intake()
    assert intake.take(HEAD + b"Expect: 100-continue\r\nContent-Length: 999999\r\n\r\n")
    assert not intake.continues


REFUSED = {
    "two lengths": b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
    "two lengths in other spelling": b"Content-Length: 5\r\ncontent-length: 6\r\n\r\n",
    "a negative length": b"Content-Length: -5\r\n\r\n",
    "a signed length": b"Content-Length: +5\r\n\r\n",
    "a list of lengths": b"Content-Length: 5, 5\r\n\r\n",
    "a hexadecimal length": b"Content-Length: 0x5\r\n\r\n",
    "an empty length": b"Content-Length:\r\n\r\n",
    "length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    "chunks twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "another coding": b"Transfer-Encoding: gzip\r\n\r\n",
    "another coding before chunks": b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "a coding with a control character": b"Transfer-Encoding: \x0bchunked\r\n\r\n",
    "no size": b"Transfer-Encoding: chunked\r\n\r\n\r\n",
    "a size that is none": b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "a signed size": b"Transfer-Encoding: chunked\r\n\r\n+5\r\n",
    "a size with an extension": b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\n",
    "a size without an end": b"Transfer-Encoding: chunked\r\n\r\n00000000005",
    "a chunk without an end": b"Transfer-Encoding: chunked\r\n\r\n5\r\n0123456789",
    "trailers": b"Transfer-Encoding: chunked\r\n\r\n0\r\nHost: evil\r\n\r\n",
    "folded": b"Transfer-Encoding:\r\n chunked\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_body_whose_end_two_readers_could_see_differently_is_refused(name: str) -> None:
    with pytest.raises(errors.ParseException):
        Intake().take(HEAD + REFUSED[name])


def test_chunks_without_an_end_are_refused() -> None:
    intake = Intake()
    intake.take(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    with pytest.raises(TooLong):
        take_all(intake, b"400\r\n" + b"x" * 1024 + b"\r\n")
    with pytest.raises(TooLong):
        Intake().take(HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n")
    intake = Intake()
    intake.take(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    with pytest.raises(TooLong):
        intake.take(b"1\r\na\r\n" * LONGEST_BODY)


def test_chunks_carry_as_much_as_a_body_with_a_length_may_and_no_more() -> None:
    start = HEAD + b"Transfer-Encoding: chunked\r\n\r\n8000\r\n" + b"a" * 0x8000 + b"\r\n"
    assert Intake().take(start + b"8000\r\n" + b"b" * 0x8000 + b"\r\n0\r\n\r\n")
    with pytest.raises(TooLong):
        Intake().take(start + b"8001\r\n")


def test_a_head_without_an_end_is_refused() -> None:
    intake = Intake()
    with pytest.raises(errors.LimitRequestHeaders):
        take_all(intake, b"X: " + b"y" * 995 + b"\r\n")


@pytest.fixture
def line() -> Iterator[tuple[_Socket, socket.socket]]:
    """A client's socket as a thread has it, and the client."""
    ours, client = socket.socketpair()
    found = _Socket(fileno=ours.detach())
    found.settimeout(10)
    client.settimeout(10)
    with found, client:
        yield found, client


def received(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += client.recv(65_536)
    return data


@pytest.mark.parametrize("body", [b"", b"x", b"y" * 3_000_000], ids=len)
def test_the_head_of_an_answer_goes_with_its_body(
    line: tuple[_Socket, socket.socket], body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, client = line
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(received, client, len(head + body + b"more"))
        ours.hold()
        ours.sendall(head)
        if body:
            ours.sendall(body)
        ours.let_go()
        ours.sendall(b"more")
        assert reading.result(10) == head + body + b"more"


def test_a_head_waits_for_what_follows_and_no_longer(line: tuple[_Socket, socket.socket]) -> None:
    ours, client = line
    ours.hold()
    ours.sendall(b"head")
    client.settimeout(0)
    with pytest.raises(BlockingIOError):
        client.recv(1)
    ours.let_go()
    ours.let_go()

    assert client.recv(100) == b"head"


@pytest.mark.parametrize("taken", [1, 4, 5, 9])
def test_a_system_that_takes_a_part_gets_the_rest(
    line: tuple[_Socket, socket.socket], taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, client = line

    def some(self: _Socket, pieces: Sequence[bytes]) -> int:
        return self.send(b"".join(pieces)[:taken])

    monkeypatch.setattr(_Socket, "sendmsg", some)
    ours.hold()
    ours.sendall(b"head")
    ours.sendall(b"12345")

    assert received(client, 9) == b"head12345"


def test_a_file_comes_behind_its_head(line: tuple[_Socket, socket.socket], tmp_path: Path) -> None:
    ours, client = line
    (tmp_path / "file").write_bytes(b"content")
    ours.hold()
    ours.sendall(b"head")
    with (tmp_path / "file").open("rb") as file:
        ours.sendfile(file)

    assert received(client, 11) == b"headcontent"


def test_no_byte_of_chance_is_given_out_twice_also_not_to_a_child() -> None:
    chance = Chance()
    mine = [chance.take(16) for _ in range(1000)]
    with ThreadPoolExecutor(8) as pool:
        mine += pool.map(chance.take, [16] * 1000)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, chance.take(16))
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 16)
    os.close(reading)
    os.close(writing)

    assert len({*mine, theirs, chance.take(16), chance.take(16)}) == 2003
    assert len(chance.take(10_000)) == 10_000
