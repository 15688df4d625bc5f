"""What a request gets that cannot be answered: the one table from failure to status and words."""

from __future__ import annotations

import json

from flask import Flask, Response, request
from markupsafe import escape
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from lockboard.domain.audit import AuditError
from lockboard.domain.errors import StoreError
from lockboard.services.attempts import Halted
from lockboard.web.access import began_to_act
from lockboard.web.asked import BadQuery
from lockboard.web.desk import answer, favicon, render, wants_fragment
from lockboard.web.overload import ABOVE_THE_FORM, oops

_WORDS = {
    400: (
        "This request cannot be understood",
        "Something in its address or its fields is not as it should be.",
    ),
    403: ("This request was refused", "It did not come from one of Lockboard's own pages."),
    404: ("There is nothing here", "The address is wrong, or what it named is gone."),
    405: ("This address does not do that", "It was asked with a method that it does not know."),
    409: ("This is not possible now", "Something else is at work there. Look again in a moment."),
    413: (
        "This is too much text",
        "A request may carry 64 KiB. The first lines of an error message are enough to find a state.",
    ),
    415: ("This is sent in a form that is not read here", "Programs send JSON, and say so."),
    429: (
        "Too many requests",
        (
            "This was asked for more often than is allowed in so short a time, so nothing was done. It works"
            " again in a minute; after very many actions or checks of the log, within the hour."
        ),
    ),
    500: (
        "Something went wrong in Lockboard",
        "Nothing was changed in AWS. The log of the server says what happened.",
    ),
    503: (
        "The inventory cannot be read",
        (
            "Lockboard's own database does not answer, so nothing can be said about any state. Terraform is"
            " not affected. This page works again once the database does."
        ),
    ),
}

_NO_RECORD = (
    "The audit log cannot be used",
    (
        "Nothing was changed in AWS: what cannot be recorded is not done. This works again once the log's"
        " database does."
    ),
)

_OWN_WORDS = frozenset({400, 401, 403, 404, 409, 415})

_NOTHING = "Lockboard's own database does not answer. Nothing was changed in AWS."
_UNSURE = (
    "Whether something was changed in AWS is not known. Look at the state and at the audit log before you try"
    " again; the log of the server says what happened."
)


def set_up(app: Flask) -> None:
    """Register the handlers."""

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        code = error.code or 500
        if code < 400 and error.response is not None:
            return Response(error.response.get_data(), code, dict(error.response.headers))  # type: ignore[attr-defined]
        return _with_headers(_answer(code, _said(error)), error)

    @app.errorhandler(BadQuery)
    def bad_query(error: BadQuery) -> Response:
        return _answer(400, str(error))

    @app.errorhandler(StoreError)
    def store_failed(error: StoreError) -> Response:
        app.logger.error("the store failed: %s", error)
        return _later(_answer(503, _unsure()))

    @app.errorhandler(AuditError)
    def not_recorded(error: AuditError) -> Response:
        """`Halted` says itself what was done before its record was lost."""
        app.logger.error("the audit log failed: %s", error)
        why = str(error).rstrip(".")
        said = str(error) if isinstance(error, Halted) else f"{why[:1].upper()}{why[1:]}. {_NO_RECORD[1]}"
        return _later(_answer(503, said, _NO_RECORD))

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        app.logger.error("a request failed", exc_info=error)
        return _answer(500, _UNSURE if began_to_act() else "")


def _said(error: HTTPException) -> str:
    """Our own words; werkzeug's are for programmers."""
    own = error.description != type(error).description
    return error.description if own and error.description and error.code in _OWN_WORDS else ""


def _unsure() -> str:
    """An accident in the middle of an action may have come after its change; one before it did not."""
    if began_to_act():
        return _UNSURE
    return _NOTHING if request.method == "POST" else ""


def _with_headers(made: Response, error: HTTPException) -> Response:
    """Those that a status has to have (RFC 9110)."""
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        made.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    if made.status_code == 401:
        made.headers["WWW-Authenticate"] = "Bearer"
    return made


def _later(made: Response) -> Response:
    made.headers["Retry-After"] = "5"
    return made


def _above_the_form(code: int, title: str, text: str) -> Response:
    """A form of htmx is told that it was refused. Where an action had begun it is told nothing: the page then
    says itself that it may or may not have happened.
    """
    made = Response(oops(escape(title), escape(text)), code, content_type="text/html; charset=utf-8")
    made.headers.extend(ABOVE_THE_FORM)
    return made


def _answer(code: int, said: str, words_of: tuple[str, str] | None = None) -> Response:
    title, words = words_of or _WORDS.get(
        code, (f"The request failed ({code})", "It cannot be answered as it is.")
    )
    if request.path.startswith("/api/") or request.path.endswith((".json", ".jsonl", ".csv")):
        return Response(
            json.dumps({"error": said or title, "status": code}) + "\n", code, content_type="application/json"
        )
    if wants_fragment():
        if request.method == "POST" and not began_to_act():
            return _above_the_form(code, title, said or words)
        return Response(status=code)
    return answer(
        render(
            "error.html",
            title=f"{title} · Lockboard",
            icon=favicon(0),
            attention=None,
            health=None,
            code=code,
            heading=title,
            words=said or words,
        ),
        code,
    )
