"""Untrusted text is only ever text: a hostile row gives the same elements and attributes as a harmless."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockboard.domain.inventory import StateRow
from lockboard.domain.text import shown
from lockboard.web.desk import SettingLine
from tests.web.fakes import HOSTILE, estate, report, web

PAYLOADS = (
    HOSTILE,
    "</td></tr></table><form action=//evil>",
    '"><svg onload=alert(1)>',
    "' hx-get='/s/x' hx-trigger='load'",
    "</title><script>alert(1)</script>",
    "<!-- --><textarea>",
    "javascript:alert(1)",
    "{{ 7*7 }}{% include 'x' %}",
    "&lt;b&gt;&amp;#60;",
    "\\x00 \\u202e ?#%2f&=+",
    "&quot; onmouseover=&quot;x",
)
DATA = {
    "href",
    "title",
    "datetime",
    "data-copy",
    "data-q",
    "value",
    "aria-label",
    "data-pulse",
    "hx-get",
    "nonce",
    "hx-nonce",
}


class Skeleton(HTMLParser):
    """Elements and names of attributes in order; of the values, those that are not data."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kept = tuple(
            name if name in DATA or name.startswith("data-") else f"{name}={value}" for name, value in attrs
        )
        self.found.append((tag, kept))
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("href", "action", "src", "hx-get"):
                assert value == "" or (value or "").startswith(("/", "#")), value
                assert not (value or "").startswith("//")

    def handle_endtag(self, tag: str) -> None:
        self.found.append((f"/{tag}", ()))


def skeleton(text: str) -> list[tuple[str, tuple[str, ...]]]:
    parser = Skeleton()
    parser.feed(text)
    return parser.found


def poisoned(value: object, poison: str) -> object:
    """Every free text of a document replaced; what the pages branch on is kept."""
    if isinstance(value, Mapping):
        fixed = {
            "severity",
            "content",
            "lock",
            "terraform",
            "store",
            "action",
            "id",
            "last_modified",
            "created",
            "since",
            "acquired",
        }
        return {
            name: part
            if name in fixed and name != "lock" and not isinstance(part, list)
            else poisoned(part, poison)
            for name, part in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [poisoned(part, poison) for part in value]
    return poison if isinstance(value, str) and value else value


def hostile(row: StateRow, poison: str) -> StateRow:
    text = shown(poison)
    document = poisoned(row.document, text)
    assert isinstance(document, dict)
    return replace(
        row,
        key=f"a/{text}",
        summary=text,
        holder=text,
        operation=text,
        digest=text,
        search=text.lower(),
        document=document,
    )


SITE = web([])


def pages(row: StateRow, error: str) -> list[list[tuple[str, tuple[str, ...]]]]:
    SITE.board.rows = {row.id: row}
    SITE.board.number += 1
    SITE.board.said = [
        report("prod-kr", complete=False, error=error, missing_permission=error),
        report("dev-kr"),
        report("dev-us"),
    ]
    SITE.clock.seconds += 1
    paths = ("/states?view=all", f"/s/{row.id}", "/health")
    return [skeleton(SITE.client.get(path, buffered=True).text) for path in paths]


LOCKED = next(row for row in estate() if row.content == "digest_behind")
BASELINE = pages(hostile(LOCKED, "harmless"), "harmless")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_hostile_row_has_the_skeleton_of_a_harmless_one(payload: str) -> None:
    assert pages(hostile(LOCKED, payload), shown(payload)) == BASELINE


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80).filter(str.strip))
def test_whatever_the_text_the_skeleton_stays(payload: str) -> None:
    assert pages(hostile(LOCKED, payload), shown(payload)) == BASELINE


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_hostile_address_is_only_text(payload: str) -> None:
    client = web(estate()[-3:]).client
    baseline = skeleton(client.get("/states", query_string={"q": "harmless", "view": "all"}).text)

    assert (
        skeleton(client.get("/states", query_string={"q": f"x{payload}"[:11], "view": "all"}).text)
        == baseline
    )
    for path, name in (
        ("/states", "holder"),
        ("/states", "prefix"),
        ("/find", "q"),
        ("/go", "lock"),
        ("/go", "key"),
    ):
        text = client.get(path, query_string={name: payload}).text
        assert "<script>alert" not in text
        assert "<svg onload" not in text


def test_characters_that_change_how_text_reads_are_escaped_wherever_they_come_from() -> None:
    client = web().client
    for path in ("/states?view=all&q=%E2%80%AEgpj", "/go?lock=%E2%80%AEgpj"):
        assert "\u202e" not in client.get(path).text


def test_settings_are_only_text() -> None:
    text = web(settings=[SettingLine("<b>name</b>", HOSTILE, "<i>file</i>")]).client.get("/settings").text

    assert "&lt;b&gt;name&lt;/b&gt;" in text
    assert skeleton(text) == skeleton(web(settings=[SettingLine("n", "v", "s")]).client.get("/settings").text)


def test_a_lone_surrogate_breaks_no_page() -> None:
    row = replace(LOCKED, document={**LOCKED.document, "raw_key": "a\ud800b", "prints": "x\ud800"})
    site = web([row])

    assert site.client.get(f"/s/{row.id}").status_code == 200
    assert site.client.get("/states.csv?view=all").status_code == 200
    assert site.client.get("/api/v1/states").status_code == 200
