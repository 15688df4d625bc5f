"""What is said of requests: a number for each, and one line when it is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flask import Flask, Response
from flask.globals import request_ctx

from lockboard import logs
from lockboard.web.access import known_visitor
from lockboard.web.chance import CHANCE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

HEADER = "X-Request-Id"
"""Carries the request's number back, so that somebody can tell which of the lines was theirs."""

LONGEST_PATH = 300

_BEGAN = "lockboard.began"
_QUIET = frozenset({"healthz", "readyz", "static", "favicon", "board.pulse"})
"""Endpoints that are asked all the while: said only where they fail."""


def watch_requests(app: Flask, monotonic: Callable[[], float]) -> None:
    """Give every request an ID of ours (one that it brings is not believed) and say when it was answered.

    Wraps `app.wsgi_app` as it stands. A line has the path without its query, which may hold what a sign-in
    brought back or a person searched for.
    """
    inner = app.wsgi_app

    def numbered(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request_id = CHANCE.take(8).hex()
        logs.bind_request(request_id)
        environ[_BEGAN] = monotonic()

        def start(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], object]:
            headers.append((HEADER, request_id))
            return start_response(status, headers, exc_info)

        try:
            return inner(environ, start)
        finally:
            logs.bind_request(None)

    @app.after_request
    def say(answer: Response) -> Response:
        # Once: the proxy looks it up for every attribute.
        asked = request_ctx.request
        if answer.status_code < 500 and asked.endpoint in _QUIET:
            return answer
        visitor = known_visitor()
        logs.tell(
            "web",
            "request",
            method=asked.method[:16],
            route=asked.url_rule.rule if asked.url_rule else None,
            path=asked.path[:LONGEST_PATH],
            status=answer.status_code,
            milliseconds=round((monotonic() - asked.environ[_BEGAN]) * 1000, 1),
            person=visitor.actor.person.name if visitor else None,
            address=asked.remote_addr,
        )
        return answer

    app.wsgi_app = numbered  # type: ignore[method-assign]
