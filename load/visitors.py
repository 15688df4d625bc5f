"""Somebody who acts by the forms of the pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from urllib.parse import urlencode


@dataclass
class Form:
    """A form of a page. fields: hidden ones with their values.  buttons: (name, value, words)."""

    action: str = ""
    id: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str, str]] = field(default_factory=list)


class Forms(HTMLParser):
    """The forms of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[Form] = []
        self._open: Form | None = None
        self._button: tuple[str, str] | None = None
        self._words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._open = Form(given.get("action", ""), given.get("id", ""))
            self.found.append(self._open)
        elif self._open is not None and tag == "input" and given.get("type") == "hidden":
            self._open.fields[given["name"]] = given.get("value", "")
        elif self._open is not None and tag == "button":
            self._button, self._words = (given.get("name", ""), given.get("value", "")), ""

    def handle_data(self, data: str) -> None:
        self._words += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None
        elif tag == "button" and self._open is not None and self._button is not None:
            self._open.buttons.append((*self._button, " ".join(self._words.split())))
            self._button = None


class Visitor:
    """One person at one browser, without script. says: headers of every request."""

    def __init__(self, port: int, says: Mapping[str, str]) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=30)
        self._says = {**says, "Sec-Fetch-Site": "same-origin", "Origin": f"http://127.0.0.1:{port}"}
        self._kept: dict[str, str] = {}

    def ask(self, path: str, form: Mapping[str, str] | None = None) -> tuple[int, str]:
        """GET, or POST where there is a form: status and text. Raises OSError."""
        headers = dict(self._says)
        if self._kept:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self._kept.items())
        body = None
        if form is not None:
            body, headers["Content-Type"] = urlencode(form), "application/x-www-form-urlencoded"
        self._connection.request("GET" if form is None else "POST", path, body, headers)
        answer = self._connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        for line in answer.headers.get_all("Set-Cookie") or ():
            self._kept.update({name: found.value for name, found in SimpleCookie(line).items()})
        return answer.status, text

    def close(self) -> None:
        self._connection.close()


def form_of(page: str, identity: str) -> Form:
    """The form of that ID. Raises RuntimeError where there is none."""
    for form in Forms(page).found:
        if form.id == identity:
            return form
    raise RuntimeError(f"the page has no form {identity!r}")
