from __future__ import annotations

import re
from pathlib import Path

import pytest
from jinja2 import StrictUndefined, UndefinedError

from lockboard.web.app import ROOT
from lockboard.web.marks import CONTENT, EFFECT, LOCK
from tests.web.fakes import web

TEMPLATES = sorted((ROOT / "templates").rglob("*.html")) + sorted((ROOT / "templates").rglob("*.svg"))
SPRITE = (ROOT / "static" / "icons.svg").read_text(encoding="utf-8")
SYMBOLS = set(re.findall(r'<symbol id="([\w-]+)"', SPRITE))
each_template = pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))

FORBIDDEN = {
    "code in an attribute": r"\bhx-on|\bon[a-z]+\s*=|javascript:|\bjs:",
    "a trigger that needs eval": r"trigger=\"[^\"]*\[",
    "a style attribute": r"\sstyle\s*=",
    "a style element": r"<style",
    "an inline script": r"<script(?![^>]*\ssrc=)",
    "a script without a nonce": r"<script(?![^>]*\snonce=)",
    "text taken as markup": r"\|\s*safe\b|Markup|autoescape",
    "an attribute without quotes": r"\s[a-z-]+=\{\{",
    "an hx attribute past the helper": r"\shx-[a-z]+=",
    "another origin": r"(?:src|href|action)=\"(?:https?:)?//",
}


def test_there_are_templates() -> None:
    assert len(TEMPLATES) > 15


@each_template
@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_template_has_none_of(path: Path, what: str) -> None:
    assert re.findall(FORBIDDEN[what], path.read_text(encoding="utf-8")) == []


@each_template
def test_every_mark_that_a_template_names_is_in_the_sprite(path: Path) -> None:
    assert set(re.findall(r"\}\}#([a-z][\w-]*)", path.read_text(encoding="utf-8"))) <= SYMBOLS


def test_every_status_has_a_mark_in_the_sprite() -> None:
    assert {mark.icon for marks in (CONTENT, LOCK, EFFECT) for mark in marks.values()} <= SYMBOLS


def test_lock_statuses_differ_by_their_shape_but_for_the_two_that_are_a_death_in_the_middle() -> None:
    icons = sorted(mark.icon for mark in LOCK.values())

    assert len(set(icons)) == len(icons) - 1
    assert LOCK["crashed_mid_write"].icon == LOCK["lockboard_orphan"].icon


@pytest.mark.parametrize("name", ["lockboard.js", "lockboard.css", "icons.svg"])
def test_our_own_files_need_no_eval_no_inline_style_and_no_other_origin(name: str) -> None:
    text = (ROOT / "static" / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")

    assert (
        re.findall(
            r"\beval\(|new Function|innerHTML|insertAdjacentHTML|\.style\b|https?://|data:|@import", text
        )
        == []
    )


MAKERS = {"board.py": 1, "desk.py": 2, "rows.py": 1, "strip.py": 1}
"""Where text is called markup, and how often: each place escapes its values one by one and says so."""


def test_markup_is_made_only_where_every_value_is_escaped() -> None:
    places = {
        str(path.relative_to(ROOT / "lockboard")): [
            line for line in path.read_text(encoding="utf-8").splitlines() if "Markup(" in line
        ]
        for path in sorted((ROOT / "lockboard").rglob("*.py"))
    }

    assert {name: len(lines) for name, lines in places.items() if lines} == {
        f"web/{name}": count for name, count in MAKERS.items()
    }
    assert [line for lines in places.values() for line in lines if "noqa: S704" not in line] == []


@each_template
def test_every_attribute_of_a_template_is_in_quotes(path: Path) -> None:
    """Jinja's own words are taken out first: what they print stands within the quotes around them."""
    text = re.sub(r"\{#.*?#\}|\{%.*?%\}", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"\{\{.*?\}\}", "x", text, flags=re.DOTALL)
    tags = re.findall(r"<[a-zA-Z][^<>]*>", re.sub(r"content='[^']*'", 'content=""', text))

    assert [tag for tag in tags if re.search(r"=(?!\"[^\"]*\")", re.sub(r"\"[^\"]*\"", '""', tag))] == []


def test_every_template_escapes_what_it_prints_and_none_prints_what_it_has_not() -> None:
    app = web().app
    names = app.jinja_env.list_templates()
    assert callable(app.jinja_env.autoescape)

    assert len(names) >= len(TEMPLATES)
    assert [name for name in names if not app.jinja_env.autoescape(name)] == []
    assert app.jinja_env.undefined is StrictUndefined
    with pytest.raises(UndefinedError):
        app.jinja_env.from_string("{{ nothing }}").render()
