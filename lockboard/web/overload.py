"""Middleware that lets so many requests work at once and so many wait, and refuses the rest at once: a queue
without an end would answer everybody too late, and nobody could tell it from a server that hangs.

It stands within `SecurityHeaders` and around everything else. The server needs `THREADS`: a request that
waits holds one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from lockboard.web.security import PROBES

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

RUNNING = 16
"""Requests that work at the same time."""

WAITING = 32
"""Requests that wait for one of them to end."""

PATIENCE_SECONDS = 10.0
"""How long one waits at most: less than the fifteen seconds after which the script gives up."""

RETRY_SECONDS = 5

THREADS = RUNNING + WAITING + 16
"""What the server needs: besides those that work and wait, some that refuse, and answer the probes."""

_HEADING = "Too many requests at once"
_TEXT = f"Nothing was done with yours. Try again in {RETRY_SECONDS} seconds."
ABOVE_THE_FORM = [("HX-Retarget", "#oops"), ("Lockboard-Answer", "1")]
"""Headers of what htmx puts above the form that was sent, which stays as it is."""
_PAGE = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>'
    f"{_HEADING} · Lockboard</title></head>\n<body><h1>{_HEADING}</h1><p>{_TEXT}</p></body></html>\n"
)


def oops(heading: str, text: str) -> str:
    """What is put there, of words that are ours or escaped."""
    return (
        '<div id="oops" class="notice notice-attention" role="alert" tabindex="-1">'
        f"<p><strong>{heading}.</strong> {text}</p></div>\n"
    )


class Overload:
    """`app` with a limit. A request counts until its body was sent.

    Probes and files are let through: the first have to tell a busy server from a dead one, the second are in
    memory and make no work.
    """

    def __init__(
        self,
        app: WSGIApplication,
        running: int = RUNNING,
        waiting: int = WAITING,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._app, self._patience = app, patience
        self._free, self._seats = _tokens(running), _tokens(waiting)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO", "") in PROBES or _is_file(environ):
            return self._app(environ, start_response)
        if not self._enter():
            return _refuse(environ, start_response)
        try:
            body = self._app(environ, start_response)
        except BaseException:
            self._free.put(None)
            raise
        return _Body(body, partial(self._free.put, None))

    def _enter(self) -> bool:
        if _took(self._free):
            return True
        if not _took(self._seats):
            return False
        try:
            return _took(self._free, self._patience)
        finally:
            self._seats.put(None)


def _tokens(count: int) -> SimpleQueue[None]:
    """As many as may be taken at a time: a queue, for it costs a tenth of a semaphore (0.1 µs)."""
    found: SimpleQueue[None] = SimpleQueue()
    for _ in range(count):
        found.put(None)
    return found


def _took(tokens: SimpleQueue[None], seconds: float = 0) -> bool:
    try:
        tokens.get(seconds > 0, seconds)
    except Empty:
        return False
    return True


class _Body:
    """A body that says when it was sent, or given up: at its end, or when the server calls `close`, as it
    does in either case (PEP 3333).
    """

    def __init__(self, body: Iterable[bytes], sent: Callable[[], None]) -> None:
        self._body, self._sent, self._open = body, sent, True

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        finally:
            self.close()

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        try:
            getattr(self._body, "close", lambda: None)()
        finally:
            self._sent()


def _is_file(environ: WSGIEnvironment) -> bool:
    return str(environ.get("PATH_INFO", "")).startswith("/static/")


def _refuse(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """503 in the form that the asker can show: above a form that stays, as JSON, or as a page."""
    headers = [("Retry-After", str(RETRY_SECONDS))]
    if environ.get("HTTP_HX_REQUEST_TYPE") == "partial":
        kind, text = "text/html; charset=utf-8", ""
        if environ["REQUEST_METHOD"] == "POST":
            text = oops(_HEADING, _TEXT)
            headers += ABOVE_THE_FORM
    elif environ.get("PATH_INFO", "").startswith("/api/"):
        kind, text = "application/json", json.dumps({"error": f"{_HEADING}. {_TEXT}", "status": 503}) + "\n"
    else:
        kind, text = "text/html; charset=utf-8", _PAGE
    body = text.encode()
    headers += [("Content-Type", kind), ("Content-Length", str(len(body)))]
    start_response("503 Service Unavailable", headers)
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]
