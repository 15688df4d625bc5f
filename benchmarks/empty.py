"""The empty Flask view that the pages are compared with."""

from __future__ import annotations

from flask import Flask


def application() -> Flask:
    """One route with nothing behind it."""
    app = Flask("empty", static_folder=None)
    app.add_url_rule("/", "empty", lambda: "")
    return app
