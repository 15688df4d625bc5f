"""What a page is made of, its words left out.

Our pages are written in so strict a dialect of HTML that one expression reads it: names in lower case, every
value in double quotes, no `<` in any text. Whatever is not of that dialect is refused here, so that no reader
can see an element in a page where another sees text. What stands in the dialect is read in the same way by
every parser, which `test_pages.py` holds against the standard library's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlsplit

from lockboard.domain.text import shown

_TAG = re.compile(
    r"<(/?[a-z][a-z0-9]*)((?:\s+[a-zA-Z][a-zA-Z0-9:_-]*(?:=\"[^\"<>]*\")?)*)\s*/?>"
    r"|<!doctype html>|<meta name=\"htmx-config\" content='\{[^'<>]*\}'>"
)
_ATTRIBUTE = re.compile(r"\s+([a-zA-Z][a-zA-Z0-9:_-]*)(?:=\"([^\"]*)\")?")
_URLS = frozenset(
    ("href", "src", "action", "hx-get", "hx-post", "formaction", "data-pulse", "data-copy-link")
)
_WORDS = frozenset(
    (
        "title",
        "value",
        "datetime",
        "aria-label",
        "data-copy",
        "data-q",
        "data-at",
        "data-rev",
        "data-here",
        "data-now",
        "nonce",
    )
) | {"hx-nonce", "data-attention", "data-reason", "data-old"}
_ID = re.compile(r"[0-9a-f]{16}")
_NUMBERS = re.compile(r"\d+")

Bone = tuple[str, tuple[str, ...]]
Bones = tuple[Bone, ...]


class NotOurHtml(AssertionError):
    """Something stands in a page that no template of ours writes."""


def skeleton(page: str) -> Bones:
    """Elements and their attributes in order: of texts and of words meant for people nothing, of addresses
    the path and the names asked for, of all else the value.

    Raises:
        NotOurHtml: it is not of our dialect, or an address leads elsewhere.
    """
    found: list[Bone] = []
    at = page.find("<")
    while at >= 0:
        tag = _TAG.match(page, at)
        if tag is None:
            raise NotOurHtml(f"neither text nor an element of ours: {page[max(0, at - 60) : at + 90]!r}")
        name, attributes = tag.groups()
        if name:
            found.append(_bone(name, attributes))
        elif tag[0].startswith("<meta"):
            found.append(("meta", ("name=htmx-config", "content")))
        at = page.find("<", tag.end())
    return tuple(found)


@lru_cache(maxsize=20_000)
def _bone(name: str, attributes: str) -> Bone:
    kept = tuple(_kept(attribute, value) for attribute, value in _ATTRIBUTE.findall(attributes))
    return name, kept


def _kept(name: str, value: str) -> str:
    if name.startswith("on") or name in ("style", "srcdoc"):
        raise NotOurHtml(f"an attribute that acts: {name}")
    if name in _WORDS:
        return name
    if name in _URLS:
        return f"{name}={_address(value)}"
    value = _ID.sub("ID", value)
    return f"{name}={_NUMBERS.sub('N', value) if name == 'id' else value}"


def _address(value: str) -> str:
    value = (
        value.replace("&amp;", "&")
        .replace("&#34;", '"')
        .replace("&#39;", "'")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
    )
    if not value or value.startswith("#"):
        return value
    if (
        not value.startswith("/")
        or value[1:2] in ("/", "\\")
        or not value.isascii()
        or not value.isprintable()
    ):
        raise NotOurHtml(f"an address that leads elsewhere: {value[:120]!r}")
    parts = urlsplit(value)
    path = _NUMBERS.sub("N", _ID.sub("ID", parts.path))
    if "/restore/" in path:
        path = path[: path.index("/restore/")] + "/restore/VERSION"
    names = " ".join(name for name, _ in parse_qsl(parts.query, keep_blank_values=True))
    return f"{path}?{names}#{_NUMBERS.sub('N', _ID.sub('ID', parts.fragment))}"


def unfit(page: str, allowed: Iterable[str] = "\n") -> set[str]:
    """Characters in it that can change how it reads and are not written as escapes."""
    return {c for c in set(page).difference(allowed) if shown(c) != c}


class Elements(HTMLParser):
    """Elements and the names of their attributes, as the standard library reads a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.found.append((f"/{tag}", ()))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_comment(self, data: str) -> None:
        raise NotOurHtml(f"a comment: {data[:60]!r}")

    def handle_pi(self, data: str) -> None:
        raise NotOurHtml(f"an instruction: {data[:60]!r}")

    def unknown_decl(self, data: str) -> None:
        raise NotOurHtml(f"a declaration: {data[:60]!r}")


def elements(page: str) -> list[tuple[str, tuple[str, ...]]]:
    """What the standard library's parser finds."""
    reader = Elements()
    reader.feed(page)
    reader.close()
    return reader.found


def names_of(bones: Bones) -> list[tuple[str, tuple[str, ...]]]:
    """The same of our own reading."""
    return [(name, tuple(value.partition("=")[0].lower() for value in kept)) for name, kept in bones]
