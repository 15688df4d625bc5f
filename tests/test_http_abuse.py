"""A real gunicorn as `lockboard serve` starts it, and clients that mean no good: it goes on answering
others.
"""

from __future__ import annotations

import re
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from lockboard.domain.keys import state_id
from lockboard.supervisor import web_command
from lockboard.web.intake import GATHER_WITHIN
from tests.abused import ACTED, HastyWorker, build
from tests.needs import ROOT
from tests.web.entrances import CSRF

PROMPT = 2.0
"""Seconds in which a normal page answers whatever others do."""
ENDS = 6.0
"""Seconds after which a connection that is still open is a failure."""
MORE_MEMORY = 50 * 1024 * 1024

KEY = state_id("dev-kr", "batch/remote")
MINE = f"Sec-Fetch-Site: same-origin\r\nX-CSRF-Token: {CSRF}\r\n"
"""What lets a change through: with it, only the rest of a request can keep it from acting."""
FORM = "Content-Type: application/x-www-form-urlencoded\r\n"


class Heard(NamedTuple):
    """Everything a client got. ended: whether the server closed the connection."""

    data: bytes
    ended: bool

    @property
    def codes(self) -> list[int]:
        return [int(code) for code in re.findall(rb"(?:^|\r\n|\n|>)HTTP/1\.[01] (\d{3}) ", self.data)]

    @property
    def code(self) -> int:
        """Of the last answer, 0 where there is none."""
        return self.codes[-1] if self.codes else 0


class Server:
    """The running gunicorn."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port, self.process, self.log = port, process, log

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    def open(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=ENDS)

    def head(
        self, target: str = "/states", method: str = "GET", more: str = "", version: str = "HTTP/1.1"
    ) -> bytes:
        """A request's head that asks for the connection to be closed. more: whole lines."""
        text = f"{method} {target} {version}\r\nHost: {self.host}\r\nConnection: close\r\n{more}\r\n"
        return text.encode("latin-1")

    def say(self, data: bytes) -> Heard:
        """Send it and listen to the end."""
        with self.open() as client:
            with suppress(OSError):  # the server may have heard enough before the end
                client.sendall(data)
            return listen(client)

    def post(self, target: str, body: bytes, more: str = FORM) -> Heard:
        head = self.head(target, "POST", f"{MINE}{more}Content-Length: {len(body)}\r\n")
        return self.say(head + body)

    def get(self, target: str = "/states") -> Heard:
        """A normal page, as somebody else asks for it."""
        began = time.monotonic()
        heard = self.say(self.head(target))
        assert (heard.code, heard.ended) == (200, True), heard.data[:400]
        assert time.monotonic() - began < PROMPT
        return heard

    def acted(self) -> int:
        return int(self.get(ACTED).data.rpartition(b"\r\n\r\n")[2])

    def worker(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def memory(self) -> int:
        """Bytes that the worker holds."""
        status = Path(f"/proc/{self.worker()}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024


def listen(client: socket.socket, seconds: float = ENDS) -> Heard:
    """Until the server closes the connection, or for so long."""
    parts: list[bytes] = []
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        client.settimeout(left)
        try:
            part = client.recv(65536)
        except TimeoutError:
            break
        except OSError:
            return Heard(b"".join(parts), True)
        if not part:
            return Heard(b"".join(parts), True)
        parts.append(part)
    return Heard(b"".join(parts), False)


MOST = 300
"""Connections that the server keeps here; by itself it keeps 1,000."""
HASTY = (
    f"--worker-class={HastyWorker.__module__}.{HastyWorker.__qualname__}",
    f"--worker-connections={MOST}",
)


@contextmanager
def running(log: Path, *flags: str) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    *command, _ = web_command("127.0.0.1", port)
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*command, *flags, "tests.abused:application()"], cwd=ROOT, stdout=said, stderr=said
        )
    try:
        _wait_for(port, process)
        yield Server(port, process, log)
    finally:
        process.terminate()
        process.wait(60)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            if b" 200 " in listen(client).data:
                return
        time.sleep(0.05)
    raise AssertionError("gunicorn does not answer")


class Before(NamedTuple):
    worker: int
    memory: int


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Before]]:
    with running(tmp_path_factory.mktemp("abuse") / "log", *HASTY) as found:
        for target in ("/states", "/states.json", f"/s/{KEY}", f"/s/{KEY}/unlock", "/help", "/audit"):
            found.get(target)
        yield found, Before(found.worker(), found.memory())


@pytest.fixture
def server(house: tuple[Server, Before]) -> Iterator[Server]:
    """After whatever a test did: a normal page is prompt, nobody acted, and it is still the same worker."""
    found, before = house
    acted = found.acted()
    yield found
    found.get()
    assert found.acted() == acted
    assert found.worker() == before.worker
    assert b"Traceback" not in found.log.read_bytes()


def fine(heard: Heard) -> None:
    """Answered without a failure of ours, and hung up."""
    assert heard.ended
    assert heard.codes, "no answer"
    assert all(code < 500 for code in heard.codes), heard.data[:400]


# ---------------------------------------------------------------- size


def test_an_address_of_8_kb_is_read_and_one_of_9_kb_refused(server: Server) -> None:
    fine(server.say(server.head("/states?prefix=" + "a" * 8000)))
    assert server.say(server.head("/states?prefix=" + "a" * 9000)).code == 414


def test_more_than_64_headers_are_refused(server: Server) -> None:
    assert server.say(server.head(more="".join(f"X-{n}: 1\r\n" for n in range(100)))).code == 431


def test_a_header_of_9_kb_is_refused(server: Server) -> None:
    assert server.say(server.head(more=f"X-Long: {'a' * 9000}\r\n")).code == 431


def test_headers_without_an_end_are_refused(server: Server) -> None:
    heard = server.say(server.head()[:-2] + b"X-More: 1\r\n" * 20_000)
    assert heard.ended
    assert heard.code in (0, 431)  # what is still on its way may overtake the answer


def test_a_form_of_a_megabyte_is_refused_in_words(server: Server) -> None:
    heard = server.post("/find", b"q=" + b"a" * 1_000_000)
    assert (heard.code, heard.ended) == (413, True)
    assert b"too much text" in heard.data


def test_a_form_of_a_megabyte_that_never_comes_is_refused_at_once(server: Server) -> None:
    began = time.monotonic()
    heard = server.say(server.head("/find", "POST", f"{MINE}{FORM}Content-Length: 1000000\r\n"))
    assert (heard.code, heard.ended) == (413, True)
    assert time.monotonic() - began < PROMPT


def test_ten_thousand_fields_take_no_time(server: Server) -> None:
    began = time.monotonic()
    fine(server.post("/find", b"&".join(b"a%d=" % n for n in range(10_000))))
    fine(server.post("/find", b"&" * 60_000))
    fine(server.post("/find", b"a=1;" * 15_000))
    fine(server.post(f"/s/{KEY}/recheck", b"&".join(b"a=" for _ in range(20_000))))
    assert time.monotonic() - began < PROMPT


def test_a_form_of_many_parts_is_refused(server: Server) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="q"\r\n\r\n1\r\n'
    kind = "Content-Type: multipart/form-data; boundary=x\r\n"
    assert server.post("/find", part * 900 + b"--x--\r\n", kind).code == 413
    for body in (b"", b"--x", part[:30], part * 3, b"--x\r\n" * 8000, b"--x\r\n\r\n\r\n--x--"):
        fine(server.post("/find", body, kind))
    for bad in ("boundary=", "", "boundary=" + "y" * 5000, 'boundary="'):
        fine(server.post("/find", part, f"Content-Type: multipart/form-data; {bad}\r\n"))


def test_chunks_without_an_end_are_refused(server: Server) -> None:
    head = server.head("/find", "POST", f"{MINE}{FORM}Transfer-Encoding: chunked\r\n")
    heard = server.say(head + (b"400\r\n" + b"a" * 1024 + b"\r\n") * 1000)
    assert (heard.code, heard.ended) == (413, True)


def test_chunks_that_carry_more_than_a_form_may_are_refused(server: Server) -> None:
    head = server.head("/find", "POST", f"{MINE}{FORM}Transfer-Encoding: chunked\r\n")
    body = b"10000\r\nq=" + b"a" * 0xFFFE + b"\r\n"
    assert server.say(head + body + b"0\r\n\r\n").code == 200
    assert server.say(head + body + b"1\r\na\r\n0\r\n\r\n").code == 413


def test_chunks_that_end_are_read(server: Server) -> None:
    head = server.head("/find", "POST", f"{MINE}{FORM}Transfer-Encoding: chunked\r\n")
    assert server.say(head + b"5\r\nq=rds\r\n0\r\n\r\n").code == 200
    assert (
        server.say(head + b"".join(b"1\r\n%c\r\n" % c for c in b"q=" + b"r" * 3000) + b"0\r\n\r\n").code
        == 200
    )


@pytest.mark.parametrize(
    "chunks",
    [b"x\r\n", b"5;a=b\r\nq=rds\r\n0\r\n\r\n", b"5\r\nq=rds0\r\n\r\n", b"0\r\nHost: evil\r\n\r\n", b"-1\r\n"],
)
def test_chunks_that_are_none_are_refused(server: Server, chunks: bytes) -> None:
    head = server.head("/find", "POST", f"{MINE}{FORM}Transfer-Encoding: chunked\r\n")
    assert server.say(head + chunks).code == 400


def test_many_cookies_are_read_or_refused(server: Server) -> None:
    fine(server.say(server.head(more="Cookie: " + "; ".join(f"a{n}=1" for n in range(900)) + "\r\n")))
    fine(server.say(server.head(more="Cookie: " + "a;" * 4000 + "\r\n")))
    fine(server.say(server.head(more="Cookie: lockboard=" + "a" * 8000 + "\r\n")))
    every = "; ".join(f"a{n}=1" for n in range(5000))
    lines = [every[at : at + 8000] for at in range(0, len(every), 8000)]
    fine(server.say(server.head(more="".join(f"Cookie: {line}\r\n" for line in lines))))


# ---------------------------------------------------------------- bytes that are no text


@pytest.mark.parametrize(
    "target",
    [
        "/s/%ff%fe",
        "/%ff",
        "/%c0%ae%c0%ae/etc/passwd",
        "/states?prefix=%ff",
        "/states?%ff=%ff",
        "/find?q=%ed%a0%80",
        "/s/%00",
        "/static/%00.css",
        "/static/..%2f..%2fpyproject.toml",
        "/static/%2e%2e/%2e%2e/pyproject.toml",
        "/static//etc/passwd",
        "//evil.example/",
        "/%0d%0aSet-Cookie:%20a=b",
        "/states?prefix=%0d%0aSet-Cookie:%20a=b",
        "/states?sort=%00&view=%0a",
        "/go?key=%ff&bucket=%00",
        "/audit?person=%ff%00",
        "/audit/99999999999999999999999999",
        "/favicon/-1.svg",
        f"/s/{KEY}/restore/%ff%00%0d%0a",
        f"/s/{KEY}/undo/0",
        "/%",
        "/%zz",
        "/states?%",
        "/states#/../help",
        "/states;a=b?c;d",
        "?",
        "*",
        "states",
        "/" + "a/" * 3000,
        "/states?" + "&" * 7000,
        "/states?" + "a[b][c]=" * 900,
    ],
)
def test_an_address_of_any_bytes_has_an_answer(server: Server, target: str) -> None:
    heard = server.say(server.head(target))
    fine(heard)
    assert b"\r\nSet-Cookie: a=b" not in heard.data
    assert b"root:" not in heard.data
    assert b"[build-system]" not in heard.data


@pytest.mark.parametrize(
    "line",
    [
        b"GET /\xff HTTP/1.1",
        "GET /결제 HTTP/1.1".encode(),
        b"GET /\x00 HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET /a\rb HTTP/1.1",
        b"GET /a\nX: b HTTP/1.1",
        b"GET  / HTTP/1.1",
        b"GET\t/\tHTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\x00",
        b"HTTP/1.1 200 OK",
        b"get / HTTP/1.1",
        b"G\xc3\xa9T / HTTP/1.1",
        b"GET / HTTP/1.1.1",
        b"GET / HTTP/2.0",
        b"GET / HTTP/9.9",
        b"GET / ICAP/1.0",
        b"GET /",
        b"PRI * HTTP/2.0",
    ],
)
def test_a_first_line_that_is_none_is_refused(server: Server, line: bytes) -> None:
    heard = server.say(line + f"\r\nHost: {server.host}\r\n\r\n".encode())
    assert (heard.code, heard.ended) == (400, True)
    assert line[:12] not in heard.data or len(line) < 3


@pytest.mark.parametrize(
    "body",
    [
        b"q=%ff%fe",
        b"q=\xff\xfe\x00",
        b"\xff=\xff",
        b"q=%ed%a0%80",
        b"%",
        b"=",
        b"q",
        b"q=" + b"%" * 30_000,
        b"\x00" * 9000,
    ],
)
def test_a_form_of_any_bytes_has_an_answer(server: Server, body: bytes) -> None:
    fine(server.post("/find", body))
    for kind in (
        "application/json",
        "text/plain; charset=\x7f",
        "x" * 300,
        "application/x-www-form-urlencoded; charset=utf-7",
    ):
        fine(server.post("/find", body, f"Content-Type: {kind}\r\n"))


@pytest.mark.parametrize(
    "line",
    [
        b"Cookie: lockboard_prefs=\xff\xfe",
        b"Cookie: \xff=\xff; ;;;=; =",
        b'Cookie: a="\\377\\"',
        b"Accept: \xff, */*;q=nan, ;;;,",
        b"Accept-Encoding: gzip;q=\xff",
        b"Accept-Language: " + b"a," * 4000,
        b'If-None-Match: \xff W/, "", *',
        b"If-None-Match: " + b'"a",' * 1900,
        b"If-Modified-Since: yesterday",
        b"If-Modified-Since: Thu, 99 Foo 99999999999 99:99:99 GMT",
        b"Range: bytes=0-0",
        b"Range: bytes=" + b"0-1," * 1900,
        b"Range: bytes=99999999999999999999-",
        b"Range: cats=-",
        b"If-Range: \xff",
        b"HX-Request: true\r\nHX-Request-Type: partial\r\nHX-Source: \xff",
        b"HX-Current-URL: javascript:\xff",
        b"Sec-Fetch-Site: \xff",
        b"Origin: null",
        b"Authorization: Bearer \xff",
        b"Authorization: Basic " + b"=" * 4000,
        b"X-Forwarded-For: 127.0.0.1, \xff, ::::",
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example",
        b'Forwarded: for="_\xff";proto="',
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        b"Upgrade: websocket\r\nSec-WebSocket-Key: a",
        b"Date: \xff",
        b"TE: trailers, deflate;q=0.5",
        b"Keep-Alive: timeout=99999999",
        b"Priority: u=9, i",
        b"Content-Type: \xff",
        b"Content-Encoding: gzip",
        b"Max-Forwards: -1",
    ],
)
@pytest.mark.parametrize("target", ["/states", "/static/lockboard.css"])
def test_a_header_of_any_bytes_has_an_answer(server: Server, target: str, line: bytes) -> None:
    heard = server.say(server.head(target)[:-2] + line + b"\r\n\r\n")
    fine(heard)
    assert b"evil.example" not in heard.data


# ---------------------------------------------------------------- who is asked, and where a request ends


@pytest.mark.parametrize(
    "hosts",
    [
        b"Host: evil.example",
        b"Host: localhost.evil.example",
        b"Host: evil.example:80@localhost",
        b"Host: localhost@evil.example",
        b"Host: ",
        b"Host: [::1",
        b"Host: [::1]evil.example",
        b"Host: \xff",
        b"Host: localhost, evil.example",
        b"Host: localhost\r\nHost: localhost",
        b"Host: localhost\r\nHost: evil.example",
        b"X-Host: localhost",
        b"Host : localhost",
        b"Host: evil.example\r\nX-Forwarded-Host: localhost",
    ],
)
def test_another_host_is_not_answered_for(server: Server, hosts: bytes) -> None:
    heard = server.say(b"GET /states HTTP/1.1\r\nConnection: close\r\n" + hosts + b"\r\n\r\n")
    assert (heard.code, heard.ended) == (400, True)


@pytest.mark.parametrize(
    "host",
    ["localhost:99999999999", "localhost:-1", "localhost:x", "LOCALHOST", "localhost:", "localhost:80:80"],
)
def test_a_port_of_any_kind_changes_nothing(server: Server, host: str) -> None:
    heard = server.say(f"GET /states HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    fine(heard)


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example/states",
        "http://localhost/states",
        "https://evil.example:443/s/x",
        "ftp://localhost/",
        "//evil.example/states",
        "javascript:alert(1)",
    ],
)
def test_a_whole_url_as_address_leads_nowhere_else(server: Server, target: str) -> None:
    heard = server.say(server.head(target))
    fine(heard)
    assert b"\r\nLocation: http" not in heard.data
    assert b"\r\nLocation: //" not in heard.data


AMBIGUOUS = {
    "two lengths": "Content-Length: 0\r\nContent-Length: 44\r\n",
    "two equal lengths": "Content-Length: 3\r\nContent-Length: 3\r\n",
    "a list of lengths": "Content-Length: 3, 3\r\n",
    "a signed length": "Content-Length: +3\r\n",
    "a spaced length": "Content-Length: 3 3\r\n",
    "a length with a vertical tab": "Content-Length: \x0b3\r\n",
    "length and chunks": "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
    "chunks and length": "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    "chunks with a space before the colon": "Transfer-Encoding : chunked\r\n",
    "chunks with a tab": "Transfer-Encoding:\tchunked, chunked\r\n",
    "chunks misspelt": "Transfer-Encoding: xchunked\r\n",
    "chunks after identity": "Transfer-Encoding: identity, chunked\r\n",
    "chunks twice": "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "chunks folded": "Transfer-Encoding:\r\n chunked\r\n",
    "chunks with a null": "Transfer-Encoding: \x00chunked\r\n",
    "a folded header": "X-Folded: a\r\n b\r\n",
    "a header without a name": ": a\r\n",
    "a header without a colon": "Nothing\r\n",
    "a header with a space in its name": "X Y: a\r\n",
    "an underscored header": "X_Forwarded_For: 127.0.0.1\r\n",
    "an underscored length": "Content_Length: 3\r\n",
    "a bare line feed": "X: a\nY: b\r\n",
    "a bare return": "X: a\rY: b\r\n",
    "a null": "X: \x00\r\n",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_two_servers_could_read_differently_is_refused_and_nothing_after_it_heard(
    server: Server, name: str
) -> None:
    hidden = server.head(f"/s/{KEY}/unlock", "POST", f"{MINE}{FORM}Content-Length: 7\r\n") + b"token=x"
    start = f"POST /find HTTP/1.1\r\nHost: {server.host}\r\n{MINE}{FORM}{AMBIGUOUS[name]}\r\n"
    heard = server.say(start.encode("latin-1") + b"0\r\n\r\n" + hidden)
    assert (heard.codes, heard.ended) == ([400], True)


def test_http_1_0_chunks_are_refused(server: Server) -> None:
    head = server.head("/find", "POST", f"{MINE}{FORM}Transfer-Encoding: chunked\r\n", "HTTP/1.0")
    assert server.say(head + b"0\r\n\r\n").code == 400


def test_a_body_that_nobody_asked_for_is_not_taken_for_the_next_request(server: Server) -> None:
    hidden = server.head(f"/s/{KEY}/unlock", "POST", f"{MINE}{FORM}Content-Length: 7\r\n") + b"token=x"
    for target in ("/states", "/static/lockboard.css", "/healthz", "/nowhere"):
        start = f"GET {target} HTTP/1.1\r\nHost: {server.host}\r\nContent-Length: {len(hidden)}\r\n\r\n"
        heard = server.say(start.encode() + hidden + server.head("/healthz"))
        assert len(heard.codes) == 2
        assert heard.code == 200
    start = f"GET /states HTTP/1.1\r\nHost: {server.host}\r\nContent-Length: 700000\r\n\r\n"
    heard = server.say(start.encode() + hidden)
    assert (len(heard.codes), heard.ended) == (1, True)


def test_requests_that_come_together_are_answered_in_order(server: Server) -> None:
    ask = f"GET /healthz HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode()
    lost = f"GET /nowhere HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode()
    heard = server.say((ask + lost) * 100 + server.head("/states"))
    assert (heard.codes, heard.ended) == ([200, 404] * 100 + [200], True)


def test_old_protocols_are_answered_or_refused(server: Server) -> None:
    assert server.say(server.head(version="HTTP/1.0")).code == 200
    assert server.say(b"GET /states HTTP/1.0\r\n\r\n").code == 400
    assert server.say(b"GET /states HTTP/1.1\r\nConnection: close\r\n\r\n").code == 400


def test_who_asks_before_sending_a_body_is_told_to_send_it(server: Server) -> None:
    head = server.head("/find", "POST", f"{MINE}{FORM}Expect: 100-continue\r\nContent-Length: 5\r\n")
    with server.open() as client:
        client.sendall(head)
        assert client.recv(200).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.sendall(b"q=rds")
        heard = listen(client)
    assert (heard.code, heard.ended) == (200, True)
    assert server.say(server.head("/find", "POST", "Expect: a miracle\r\n")).code == 417


# ---------------------------------------------------------------- what acts, and what never does


def doors() -> list[tuple[str, str]]:
    """Each address that takes a POST, and its endpoint."""
    app, _ = build()
    filled = {"state_id": KEY, "version": "v-0", "seq": "1", "number": "1"}
    found = []
    for rule in app.url_map.iter_rules():
        if "POST" in (rule.methods or ()):
            path = re.sub(r"<(?:[^:>]+:)?([^>]+)>", lambda m: filled.get(m[1], "1"), rule.rule)
            found.append((path, rule.endpoint))
    return sorted(found)


DOORS = doors()
METHODS = (
    "HEAD",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PATCH",
    "PUT",
    "DELETE",
    "PROPFIND",
    "UNLOCK",
    "POSTX",
    "post",
    "GET",
)


def test_the_actions_are_among_the_addresses_that_are_tried() -> None:
    assert {f"/s/{KEY}/unlock", f"/s/{KEY}/digest", f"/s/{KEY}/restore/v-0"} <= {path for path, _ in DOORS}


@pytest.mark.parametrize("method", METHODS)
def test_no_method_but_post_acts(server: Server, method: str) -> None:
    """Nor one that says it is a POST."""
    lines = f"{MINE}{FORM}X-HTTP-Method-Override: POST\r\nX-HTTP-Method: POST\r\nX-Method-Override: POST\r\n"
    body = b"token=x&reason=y&confirm=z&_method=POST"
    for path, _ in DOORS:
        for target in (path, f"{path}?_method=POST&token=x&reason=y"):
            heard = server.say(server.head(target, method, f"{lines}Content-Length: {len(body)}\r\n") + body)
            fine(heard)
            if method not in ("GET", "HEAD", "OPTIONS"):
                assert heard.code in (400, 403, 404, 405), (method, target, heard.data[:200])


def test_a_post_that_says_it_is_something_else_is_a_post(server: Server) -> None:
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        heard = server.post("/find?_method=DELETE", b"q=rds&_method=DELETE", f"{FORM}{name}: DELETE\r\n")
        assert heard.code == 200


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "Sec-Fetch-Site: cross-site\r\n",
        "Origin: http://evil.example\r\n",
        "Sec-Fetch-Site: same-origin\r\n",
    ],
)
def test_a_form_of_another_site_or_without_its_token_does_not_act(server: Server, lines: str) -> None:
    for path, endpoint in DOORS:
        if not endpoint.startswith("recovery."):
            continue
        head = server.head(path, "POST", f"{lines}{FORM}Content-Length: 7\r\n")
        assert server.say(head + b"token=x").code in (400, 403)


NAMES = re.findall(
    r"\w+",
    """
    view status backend prefix holder older_than q sort dir after density group state seen rev done store
    version key bucket path lock kind action result person ticket since until from to state_id action_id token
    reason confirm serial csrf next limit page theme zone
    """,
)


def test_every_field_given_twice_and_more_is_answered(server: Server) -> None:
    targets = (
        "/states",
        "/states/pulse",
        "/find",
        "/go",
        "/audit",
        f"/s/{KEY}",
        f"/s/{KEY}/unlock",
        "/api/v1/states",
    )
    for target in targets:
        for values in (("a", "b"), ("", "%00"), ("1", "-1", "9" * 30), ("%ff", "&&", "=")):
            query = "&".join(f"{name}={value}" for name in NAMES for value in values)
            fine(server.say(server.head(f"{target}?{query}")))
    fields = "&".join(f"{name}={value}" for name in NAMES for value in ("a", "b")).encode()
    for path in ("/find", "/prefs"):
        fine(server.post(path, fields))


def test_the_count_of_what_acted_counts(house: tuple[Server, Before]) -> None:
    """Without this, all of the above could be true of nothing."""
    server, _ = house
    acted = server.acted()
    server.post(f"/s/{KEY}/unlock", b"token=x")
    assert server.acted() == acted + 1


# ---------------------------------------------------------------- slow, silent and rude clients


@contextmanager
def crowd(server: Server, size: int, words: Callable[[int], bytes]) -> Iterator[list[socket.socket]]:
    """So many clients that have said something, and then hold their breath."""
    with ExitStack() as stack:
        clients = []
        for number in range(size):
            client = stack.enter_context(server.open())
            if said := words(number):
                client.sendall(said)
            clients.append(client)
        yield clients


def probed(client: socket.socket) -> bool:
    """Whether the answer of /healthz comes, after which the connection stays open."""
    data = b""
    while not data.endswith(b"\r\n\r\nok\n"):
        part = client.recv(65536)
        if not part:
            return False
        data += part
    return data.startswith(b"HTTP/1.1 200 ")


def half(server: Server, number: int) -> bytes:
    """A part of a request, of many kinds."""
    whole = server.head("/find", "POST", f"{MINE}{FORM}Content-Length: 50\r\n") + b"q=rds"
    chunks = server.head("/find", "POST", f"{MINE}{FORM}Transfer-Encoding: chunked\r\n")
    kinds = (
        b"",
        b"G",
        b"GET /states HTTP/1.1\r\n",
        b"GET /states HTTP/1.1\r\nHost: localhost\r\nX-a: b\r\n",
        whole[:-3],
        whole,
        chunks,
        chunks + b"5\r\nq=r",
        chunks + b"5\r\nq=rds\r\n",
        server.head("/find", "POST", f"{MINE}{FORM}Content-Length: 65000\r\n") + b"q" * 60_000,
        chunks + b"ffff\r\nq=rds\r\n0\r\n\r\n",
        server.head()[:-4] + b"\r\nContent-Length: 9\r\n\r\n0\r\n\r\n",
    )
    return kinds[number % len(kinds)]


def test_two_hundred_clients_in_mid_request_keep_nobody_waiting_and_are_let_go(server: Server) -> None:
    with crowd(server, 200, lambda number: half(server, number)) as clients:
        for _ in range(5):
            server.get()
        heard = [listen(client) for client in clients]
    assert all(each.ended for each in heard)
    assert all(code < 500 for each in heard for code in each.codes)


def test_two_hundred_clients_that_send_a_byte_now_and_then_keep_nobody_waiting(server: Server) -> None:
    request = server.head()
    with crowd(server, 200, lambda number: request[:10]) as clients:
        began = time.monotonic()
        for at in range(10, 18):
            for client in clients:
                with suppress(OSError):
                    client.send(request[at : at + 1])
            server.get()
        assert all(listen(client).ended for client in clients)
    assert time.monotonic() - began < 3 * HastyWorker.gather_within + PROMPT


def test_two_hundred_idle_connections_keep_nobody_waiting_and_can_be_used_again(server: Server) -> None:
    ask = f"GET /healthz HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode()
    with crowd(server, 200, lambda number: ask) as clients:
        for client in clients:
            assert probed(client)
        for _ in range(5):
            server.get()
        for client in clients[::20]:
            client.sendall(ask)
            assert probed(client)


def test_clients_that_never_hang_up_keep_nobody_waiting(server: Server) -> None:
    ask = f"GET /healthz HTTP/1.0\r\nHost: {server.host}\r\n\r\n".encode()
    with crowd(server, 100, lambda number: ask):
        for _ in range(5):
            server.get()


def test_clients_that_read_nothing_keep_nobody_waiting(server: Server) -> None:
    ask = f"GET /states.json HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode()
    with crowd(server, 60, lambda number: ask):
        for _ in range(5):
            server.get()


def test_a_hundred_downloads_that_are_broken_off_are_forgotten(server: Server) -> None:
    def rude() -> None:
        for _ in range(10):
            with suppress(OSError), server.open() as client:
                client.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
                )  # a reset, no goodbye
                client.sendall(server.head("/states.json"))
                client.recv(100)

    threads = [threading.Thread(target=rude) for _ in range(10)]
    for thread in threads:
        thread.start()
    server.get()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


def test_a_client_that_has_finished_speaking_is_still_answered(server: Server) -> None:
    with server.open() as client:
        client.sendall(server.head())
        client.shutdown(socket.SHUT_WR)
        heard = listen(client)
    assert (heard.code, heard.ended) == (200, True)


def test_more_connections_than_the_server_keeps_shut_nobody_out(server: Server) -> None:
    """Who has waited longest without asking anything goes first."""
    ask = f"GET /healthz HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode()
    with crowd(server, MOST + 100, lambda number: ask if number % 2 else b"") as clients:
        server.get()
        assert listen(clients[1], 1.0).ended
        assert not listen(clients[-1], 0.1).ended


def test_many_at_once_that_come_and_go_keep_nobody_waiting(server: Server) -> None:
    """More than are kept, and all of them moving: who is sent away may just be saying something."""
    ask = f"GET /healthz HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode()

    def busy() -> None:
        with crowd(server, MOST // 4, lambda number: ask) as clients:
            for _ in range(4):
                for client in clients:
                    with suppress(OSError):
                        client.sendall(ask)
                for client in clients[::3]:
                    client.close()

    threads = [threading.Thread(target=busy) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


def test_a_worker_that_may_open_no_more_files_goes_on(server: Server) -> None:
    worker = server.worker()
    held = len(list(Path(f"/proc/{worker}/fd").iterdir()))
    before = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (held + 20, before[1]))
    try:
        with crowd(server, 60, lambda number: b"GET"):
            server.get()
    finally:
        resource.prlimit(worker, resource.RLIMIT_NOFILE, before)


def test_a_server_that_is_told_to_stop_does_not_wait_for_the_silent(tmp_path: Path) -> None:
    with running(tmp_path / "log") as server:
        with crowd(server, 40, lambda number: half(server, number)):
            server.get()
            began = time.monotonic()
            server.process.terminate()
            server.process.wait(30)
        assert time.monotonic() - began < GATHER_WITHIN - PROMPT
        assert server.process.returncode == 0


def test_all_of_this_left_the_worker_as_it_was(house: tuple[Server, Before]) -> None:
    server, before = house
    assert server.worker() == before.worker
    assert server.memory() - before.memory < MORE_MEMORY
    assert b'"error"' not in server.log.read_bytes()
