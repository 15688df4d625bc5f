"""What every answer carries and every request must pass, before any page sees it."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, abort
from flask.globals import request_ctx

from lockboard.web.chance import CHANCE

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

NONCE = "lockboard.nonce"
"""Where the answer's nonce stands in the WSGI environment."""

HEADERS = "lockboard.headers"
"""Where a view may leave headers, as (name, value): quicker than through an answer of Flask's."""

PROBES = frozenset({"/healthz", "/readyz"})
"""What is answered to everybody, under any name, whatever else is going on."""

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types htmx; script-src 'nonce-"
)
_NOTHING_PERMITTED = ", ".join(
    f"{feature}=()"
    for feature in (
        "accelerometer",
        "camera",
        "display-capture",
        "geolocation",
        "microphone",
        "payment",
        "usb",
    )
)
_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", _NOTHING_PERMITTED),
    ("Vary", "HX-Request-Type"),
)
_NO_STORE = ("Cache-Control", "no-store")
_HSTS = ("Strict-Transport-Security", "max-age=31536000; includeSubDomains")


class SecurityHeaders:
    """Middleware, so that answers made before or after the views (errors, files) carry the headers too.

    `Cache-Control` stays as the view set it; HSTS is sent over https only, as its RFC asks.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        nonce = urlsafe_b64encode(CHANCE.take(18)).decode()
        environ[NONCE] = nonce
        secure = environ.get("wsgi.url_scheme") == "https"

        def start(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], object]:
            if "Cache-Control" not in [name for name, _ in headers]:
                headers.append(_NO_STORE)
            headers.extend(_HEADERS)
            headers.extend(environ.get(HEADERS, ()))
            headers.append(("Content-Security-Policy", f"{_POLICY}{nonce}'"))
            if secure:
                headers.append(_HSTS)
            return start_response(status, headers, exc_info)

        return self._app(environ, start)


def guard(app: Flask, trusted_hosts: Sequence[str]) -> None:
    """Refuse requests for another host's name (400), and changes that did not start on our pages (403); those
    of the API are left to the gate, which asks for a token, so that whoever has none is counted before.
    """
    exact = frozenset(name.lower() for name in trusted_hosts if not name.startswith("."))
    suffixes = tuple(name.lower() for name in trusted_hosts if name.startswith("."))

    @app.before_request
    def check() -> None:
        asked = request_ctx.request  # once: the proxy looks it up for every attribute
        if asked.path in PROBES:
            return  # a load balancer asks by the address of the machine
        host = asked.environ.get("HTTP_HOST", "").lower()
        end = host.find("]") + 1 if host.startswith("[") else host.find(":")
        name = host if end <= 0 or host[end : end + 1] not in ("", ":") else host[:end]
        if name not in exact and not (suffixes and name.endswith(suffixes)):
            abort(
                400, "This server does not answer to that host name. Its names are set in the configuration."
            )
        if asked.method in ("GET", "HEAD", "OPTIONS") or asked.path.startswith("/api/"):
            return
        if not is_from_own_page(asked):
            abort(403, "This request did not come from one of Lockboard's own pages.")


def is_from_own_page(asked: Request) -> bool:
    """Whether a browser says that one of our pages sent it."""
    site = asked.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    return asked.headers.get("Origin") == asked.host_url.rstrip("/")
