"""A page as a person meets it: what it says, the form on it, and that form filled in and sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser

OURS = {"Sec-Fetch-Site": "same-origin"}
"""What a browser sends with a form of the page's own site."""
REASON = "the runner was killed"


@dataclass(frozen=True)
class Asking:
    """The form of a confirmation page. hidden: its fixed fields.  typed: of the fields that ask for something
    to be typed exactly, what they ask for.
    """

    action: str
    hidden: Mapping[str, str]
    typed: Mapping[str, str]

    def filled(self, **fields: str) -> dict[str, str]:
        """Every field, filled in as the page asks; `fields` are what a person types instead or besides."""
        return {**self.hidden, "reason": REASON, **self.typed, **fields}


@dataclass(frozen=True)
class Page:
    """One answer. text: every run of white space as one space.  asking: None where it has no form to confirm.
    told: the text of what it says first (`told` or `oops`).  location: where it leads on.
    """

    status: int
    text: str
    asking: Asking | None
    told: str
    location: str


def read_page(status: int, html: str, location: str) -> Page:
    """What stands on it."""
    reader = _Reader()
    reader.feed(html)
    asking = Asking(reader.action, reader.hidden, reader.typed) if reader.action else None
    return Page(status, _words(reader.text), asking, _words(reader.told), location)


def _words(pieces: list[str]) -> str:
    return " ".join("".join(pieces).split())


@dataclass
class _Reader(HTMLParser):
    text: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    hidden: dict[str, str] = field(default_factory=dict)
    typed: dict[str, str] = field(default_factory=dict)
    action: str = ""
    label: str = ""
    in_form: bool = False
    in_code: bool = False
    teller: str = ""
    depth: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        if not self.teller and named.get("id") in ("told", "oops"):
            self.teller, self.depth = tag, 0
        if tag == self.teller:
            self.depth += 1
        if tag == "form" and named.get("id") == "deed":
            self.in_form, self.action = True, named["action"]
        elif tag == "input" and self.in_form and named.get("type") == "hidden":
            self.hidden[named["name"]] = named["value"]
        elif tag == "label":
            self.label = named.get("for", "")
        self.in_code = tag == "code"

    def handle_endtag(self, tag: str) -> None:
        self.in_form = self.in_form and tag != "form"
        self.label = "" if tag == "label" else self.label
        self.in_code = False
        if tag == self.teller:
            self.depth -= 1
            self.teller = self.teller if self.depth else ""

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.teller:
            self.told.append(data)
        if self.label and self.in_code:
            self.typed[self.label] = self.typed.get(self.label, "") + data
