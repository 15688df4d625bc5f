"""Forms that are too much: refused in words, before they cost anything."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from lockboard.web.app import LARGEST_REQUEST
from tests.web.fakes import web

OWN = {"Sec-Fetch-Site": "same-origin"}
FORM = "application/x-www-form-urlencoded"
CPU_SECONDS = 1.0


class Endless(io.RawIOBase):
    """A body that goes on for ever; it counts what was read of it."""

    def __init__(self, piece: bytes) -> None:
        super().__init__()
        self.piece, self.given = piece, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        data = (self.piece * (len(buffer) // len(self.piece) + 1))[: len(buffer)]
        buffer[:] = data
        self.given += len(data)
        return len(data)


@pytest.fixture
def client() -> FlaskClient:
    return web().client


def find(
    client: FlaskClient, body: bytes, kind: str = FORM, more: Mapping[str, str] | None = None
) -> TestResponse:
    return client.post("/find", data=body, content_type=kind, headers={**OWN, **(more or {})})


def test_a_form_as_long_as_is_allowed_is_read_and_one_byte_more_is_not(client: FlaskClient) -> None:
    assert find(client, b"q=" + b"a" * (LARGEST_REQUEST - 2)).status_code == 200
    assert find(client, b"q=" + b"a" * (LARGEST_REQUEST - 1)).status_code == 413


def test_people_are_told_that_it_was_too_much_text(client: FlaskClient) -> None:
    page = find(client, b"q=" + b"a" * LARGEST_REQUEST)
    assert (page.status_code, page.mimetype) == (413, "text/html")
    assert "This is too much text" in page.text
    assert "64 KiB" in page.text


def test_a_form_of_htmx_is_refused_in_words_above_it(client: FlaskClient) -> None:
    partial = {"HX-Request": "true", "HX-Request-Type": "partial"}
    answer = find(client, b"q=" + b"a" * LARGEST_REQUEST, more=partial)
    assert (answer.status_code, answer.headers["HX-Retarget"]) == (413, "#oops")
    assert "This is too much text." in answer.text
    assert "<html" not in answer.text


@pytest.mark.parametrize("kind", [FORM, "multipart/form-data; boundary=x"])
def test_a_body_without_an_end_is_read_no_further_than_is_allowed(client: FlaskClient, kind: str) -> None:
    """The server in front refuses such a body, so that no form is read in part: see `test_http_abuse`."""
    piece = b"q=a&" if kind == FORM else b'--x\r\nContent-Disposition: form-data; name="q"\r\n\r\n1\r\n'
    body = Endless(piece)
    answer = client.post(
        "/find",
        content_type=kind,
        headers=OWN,
        environ_overrides={
            "wsgi.input": io.BufferedReader(body),
            "wsgi.input_terminated": True,
            "HTTP_TRANSFER_ENCODING": "chunked",
            "CONTENT_LENGTH": "",
        },
    )
    assert answer.status_code == (200 if kind == FORM else 413)
    assert body.given <= 2 * LARGEST_REQUEST


def parts(number: int, content: bytes = b"1") -> bytes:
    one = b'--x\r\nContent-Disposition: form-data; name="q"\r\n\r\n' + content + b"\r\n"
    return one * number + b"--x--\r\n"


def test_fifty_parts_are_read_and_one_more_is_not(client: FlaskClient) -> None:
    kind = "multipart/form-data; boundary=x"
    assert find(client, parts(50), kind).status_code == 200
    assert find(client, parts(51), kind).status_code == 413


HEAVY: dict[str, tuple[bytes, str]] = {
    "10,000 fields": (b"&".join(b"f%d=" % number for number in range(10_000))[:LARGEST_REQUEST], FORM),
    "one field 20,000 times": (b"&".join([b"q="] * 20_000), FORM),
    "nothing but separators": (b"&" * LARGEST_REQUEST, FORM),
    "nothing but escapes": (b"q=" + b"%41" * 21_000, FORM),
    "broken escapes": (b"q=" + b"%" * 65_000, FORM),
    "bytes that are no text": (b"q=" + b"\xff" * 65_000, FORM),
    "many part borders": (b"--x\r\n" * 13_000, "multipart/form-data; boundary=x"),
    "one part without an end": (b"--x\r\n" + b"a" * 65_000, "multipart/form-data; boundary=x"),
    "a part of returns": (parts(1, b"\r" * 65_000), "multipart/form-data; boundary=x"),
    "a part of near borders": (parts(1, b"\r\n--" * 16_000), "multipart/form-data; boundary=x"),
    "a part with a long header": (
        b"--x\r\nX: " + b"a" * 65_000 + b"\r\n\r\n1\r\n--x--\r\n",
        "multipart/form-data; boundary=x",
    ),
}


@pytest.mark.parametrize("name", HEAVY)
def test_no_form_that_is_short_enough_takes_long(client: FlaskClient, name: str) -> None:
    body, kind = HEAVY[name]
    assert len(body) <= LARGEST_REQUEST + 100
    began = time.process_time()
    answer = find(client, body, kind)
    assert answer.status_code < 500
    assert time.process_time() - began < CPU_SECONDS


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c.post("/find", data=b"q=a", content_type="multipart/form-data", headers=OWN),
        lambda c: c.post("/find", data=b"q=a", content_type="multipart/form-data; boundary=", headers=OWN),
        lambda c: c.post("/find", data=b"q=a", content_type=f"{FORM}; charset=utf-7", headers=OWN),
        lambda c: c.post("/find", data=b"q=a", content_type='\x7f;;;="', headers=OWN),
        lambda c: c.post("/find", data=b"q=a", headers={**OWN, "Content-Type": "x/" + "y" * 8000}),
        lambda c: c.post("/find", data=b"[" * 60_000, content_type="application/json", headers=OWN),
    ],
)
def test_a_form_of_a_strange_kind_is_answered(
    client: FlaskClient, spoil: Callable[[FlaskClient], TestResponse]
) -> None:
    assert spoil(client).status_code < 500
