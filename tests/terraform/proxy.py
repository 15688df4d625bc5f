"""A loopback proxy before an emulated S3 for two things no emulator does: deny one object, hide an MD5.

`deny`: GET and HEAD of that object answer 403 as S3 does, while listing its bucket still works.
`opaque_etags`: an ETag says nothing about the MD5 of the body, as with SSE-KMS; a condition on such an ETag
is translated back.
"""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}
ETAG = re.compile(rb"(?<![0-9a-f])([0-9a-f]{32})(?![0-9a-f])")
CONDITIONS = {"if-match", "if-none-match"}
DENIED = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
)


def opaque(etag: bytes) -> bytes:
    """The ETag read backwards: no longer the MD5 of the body, and its own inverse."""
    return etag[::-1]


@contextmanager
def s3_proxy(upstream: str, *, deny: str | None = None, opaque_etags: bool = False) -> Iterator[str]:
    """Serve `upstream` on a loopback port and give the URL; `deny` is `bucket/key`."""
    address = urlsplit(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            body = self._body()
            if deny is not None and self.command in {"GET", "HEAD"} and self._path() == f"/{deny}":
                self._answer(403, [("Content-Type", "application/xml")], DENIED)
                return
            status, headers, answer = self._forward(body)
            if opaque_etags:
                headers = [(name, self._hide(name, value)) for name, value in headers]
                answer = ETAG.sub(lambda found: opaque(found[1]), answer) if b"<ETag>" in answer else answer
            self._answer(status, headers, answer)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a test that fails shows what it needs itself."""

        def _path(self) -> str:
            return unquote(urlsplit(self.path).path)

        def _hide(self, name: str, value: str) -> str:
            if name.lower() != "etag":
                return value
            return ETAG.sub(lambda found: opaque(found[1]), value.encode()).decode()

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return body

        def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            if opaque_etags:
                for name in [name for name in headers if name.lower() in CONDITIONS]:
                    headers[name] = self._hide("etag", headers[name])
            connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
            try:
                connection.request(
                    self.command, self.path, body, headers | {"Content-Length": str(len(body))}
                )
                answer = connection.getresponse()
                content = answer.read()
                return answer.status, answer.getheaders(), content
            finally:
                connection.close()

        def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            length = str(len(body))
            self.send_response_only(status)
            for name, value in headers:
                if self.command == "HEAD" and name.lower() == "content-length":
                    length = value
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
