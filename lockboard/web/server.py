"""gunicorn's settings, its worker and its log: `gunicorn --config python:lockboard.web.server`.

Every name in small letters that gunicorn has as a setting is one. Given as a module because some have no
flag, and so that no `gunicorn.conf.py` of the current folder is read. The command line, which goes before
this, gives the address (`lockboard.supervisor.web_command`).

Nobody's X-Forwarded-* headers and no scheme are believed here, not even over loopback or a Unix socket, as is
gunicorn's way: `[web] proxies` alone says whose are.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from gunicorn import util
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.http import errors
from gunicorn.http import wsgi as answers

from lockboard import logs
from lockboard.web.intake import PatientWorker, TooLong
from lockboard.web.overload import THREADS
from lockboard.web.security import SecurityHeaders

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

worker_class = "lockboard.web.server.Worker"
logger_class = "lockboard.web.server.ServerLog"
loglevel = "warning"
accesslog = None

workers = 1
threads = THREADS
timeout = 60
graceful_timeout = 45
keepalive = 75
backlog = 128
_MEMORY = "/dev/shm"  # noqa: S108  a heartbeat that no disk delays
worker_tmp_dir = _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else None

limit_request_line = 8190  # a key of 1,024 bytes takes three times that in an address, and stands there twice
limit_request_fields = 64
limit_request_field_size = 8190
"""16380 where a load balancer passes its JWT on: `web_command` says so."""

header_map = "refuse"
forwarder_headers = ""
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
proxy_allow_ips = ""
strip_header_spaces = False
permit_obsolete_folding = False
permit_unconventional_http_method = False
permit_unconventional_http_version = False
control_socket_disable = True

BIND = "LOCKBOARD_BIND"
"""Environment variable that tells the application where it is listened on: hosts, between spaces."""

NAME = "Lockboard"

answers.SERVER = NAME  # what the header `Server` says, without a version; there is no setting for it


def on_starting(server: Any) -> None:
    """Called by gunicorn once the command line is read, before any worker is forked."""
    places = [place if isinstance(place, str) else place[0] for place in server.cfg.address]
    os.environ[BIND] = " ".join(places)


class ServerLog(Logger):  # type: ignore[misc]
    """gunicorn's own words as lines of ours."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        logs.configure(sys.stderr)
        for log in (self.error_log, self.access_log):
            log.handlers[:] = [logs.Handler()]


_STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (errors.LimitRequestLine, 414, "URI Too Long"),
    (errors.LimitRequestHeaders, 431, "Request Header Fields Too Large"),
    (errors.ExpectationFailed, 417, "Expectation Failed"),
    (errors.InvalidResponseHeader, 500, "Internal Server Error"),
    (errors.InvalidResponseHeaderName, 500, "Internal Server Error"),
    (errors.ConfigurationProblem, 500, "Internal Server Error"),
    (TooLong, 413, "Content Too Large"),
    (errors.ParseException, 400, "Bad Request"),
)


def status_of(error: BaseException) -> tuple[int, str]:
    """What a request gets that never reached the application."""
    for kind, status, reason in _STATUS:
        if isinstance(error, kind):
            return status, reason
    return 500, "Internal Server Error"


class Worker(PatientWorker):
    """Answers what cannot be read as HTTP with our headers, and quotes nothing of it anywhere. Why the
    application does not start is one line, too.
    """

    def init_process(self) -> None:
        try:
            super().init_process()
        except Exception as error:  # noqa: BLE001  gunicorn would print it once more, as it is
            logs.get("server").error("the web process cannot go on", **logs.describe(error))
            sys.exit(1 if self.booted else Arbiter.WORKER_BOOT_ERROR)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        status, reason = status_of(exc)
        log = logs.get("server")
        address = addr[0] if isinstance(addr, tuple) and addr else None
        if status >= 500:
            log.error("a request failed in the server", status=status, address=address, **logs.describe(exc))
        else:
            log.warning(
                "a request could not be read", status=status, address=address, exception=type(exc).__name__
            )
        try:
            util.write_nonblock(client, refusal(status, reason))
        except OSError:
            return


def refusal(status: int, reason: str) -> bytes:
    """A whole answer of HTTP/1.1 that ends the connection."""
    body = f"{reason}\n".encode("ascii")
    headers = (
        ("Server", NAME),
        ("Date", util.http_date()),
        ("Connection", "close"),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        *_protections(),
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {status} {reason}\r\n{head}\r\n".encode("latin-1") + body


def _protections() -> list[tuple[str, str]]:
    """The headers that every answer of the application carries."""
    found: list[tuple[str, str]] = []

    def start(
        _status: str, headers: list[tuple[str, str]], _failure: Any = None
    ) -> Callable[[bytes], object]:
        found.extend(headers)
        return bytes.__len__

    def nothing(_environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        start("400 Bad Request", [])
        return ()

    SecurityHeaders(nothing)({}, start)
    return found
