from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import pytest

from lockboard.domain.model import Action, Content, Effect, LockStatus, Severity
from lockboard.domain.words import (
    ACTION_WORDS,
    CONTENT_WORDS,
    EFFECT_WORDS,
    LOCK_WORDS,
    SEVERITY_WORDS,
    Words,
    words_for,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"
AXES: dict[type[StrEnum], Mapping[str, Words]] = {
    Content: CONTENT_WORDS,
    LockStatus: LOCK_WORDS,
    Effect: EFFECT_WORDS,
    Severity: SEVERITY_WORDS,
    Action: ACTION_WORDS,
}
axes = pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.__name__)
statuses = pytest.mark.parametrize(
    "status", [*Content, *LockStatus], ids=lambda status: f"{type(status).__name__}-{status}"
)


@axes
def test_every_member_has_words_and_no_words_are_left_over(axis: type[StrEnum]) -> None:
    assert list(AXES[axis]) == list(axis)


@axes
def test_no_two_statuses_of_an_axis_have_the_same_title(axis: type[StrEnum]) -> None:
    titles = [words.title for words in AXES[axis].values()]
    assert sorted(set(titles)) == sorted(titles)


@axes
def test_titles_fit_a_badge_and_the_rest_are_whole_sentences(axis: type[StrEnum]) -> None:
    for words in AXES[axis].values():
        assert 0 < len(words.title) <= 28, words.title
        assert words.title[-1] != ".", words.title
        for sentence in (words.meaning, words.advice):
            assert sentence[0].isupper(), sentence
            assert sentence[-1] == ".", sentence
            assert "  " not in sentence, sentence


@statuses
def test_every_status_but_the_two_quiet_ones_has_a_runbook_page_that_exists(
    status: Content | LockStatus,
) -> None:
    page = words_for(status).runbook
    if status in (Content.OK, LockStatus.UNLOCKED):
        assert page is None
    else:
        assert page == f"runbook/{status.replace('_', '-')}.md"
        assert (DOCS / page).is_file()


def test_every_runbook_page_belongs_to_a_status() -> None:
    pages = {page.name for page in (DOCS / "runbook").glob("*.md")} - {"README.md"}
    named = {words.runbook for words in (*CONTENT_WORDS.values(), *LOCK_WORDS.values())} - {None}
    assert {f"runbook/{page}" for page in pages} == named


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Content.UNKNOWN, CONTENT_WORDS["unknown"]),
        (LockStatus.UNKNOWN, LOCK_WORDS["unknown"]),
        (Effect.UNKNOWN, EFFECT_WORDS["unknown"]),
        (Severity.UNKNOWN, SEVERITY_WORDS["unknown"]),
        (Content.OK, CONTENT_WORDS["ok"]),
        (Severity.OK, SEVERITY_WORDS["ok"]),
        (Effect.BLOCKED, EFFECT_WORDS["blocked"]),
        (Severity.BLOCKED, SEVERITY_WORDS["blocked"]),
        (Action.CLEAR_DIGEST, ACTION_WORDS["clear_digest"]),
    ],
)
def test_a_value_that_two_axes_share_gets_the_words_of_its_own_axis(
    status: Content | LockStatus | Effect | Severity | Action, words: Words
) -> None:
    assert words_for(status) is words
