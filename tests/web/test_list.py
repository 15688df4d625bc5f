from __future__ import annotations

import html
import re
from dataclasses import replace
from datetime import timedelta

import pytest

from lockboard.domain.model import Severity
from tests.web.fakes import BACKENDS, NOW, STORIES, Web, estate, report, web

CALM = [story.row() for story in STORIES[-8:]]


def row_ids(text: str) -> list[str]:
    return re.findall(r'<tr role="row" id="r-(\w+)"', text)


def listed(site: Web, query: str = "") -> list[str]:
    """Keys of the rows, in order."""
    return [site.board.rows[id_].key for id_ in row_ids(site.client.get(f"/states{query}").text)]


def visible(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_the_first_page_leads_to_what_needs_attention() -> None:
    assert web().client.get("/").headers["Location"] == "/states?view=attention"


def test_rows_come_worst_first() -> None:
    site = web()
    ranks = [site.board.rows[id_].rank for id_ in row_ids(site.client.get("/states").text)]

    assert ranks == sorted(ranks)
    assert ranks[0] == Severity.CRITICAL.rank


def test_the_headline_counts_what_needs_attention() -> None:
    assert "17 of 29 keys need attention" in visible(web().client.get("/states?view=all").text)


@pytest.mark.parametrize("view", ["attention", "locked", "digest", "unreadable", "all"])
def test_each_tab_says_how_many_keys_it_holds(view: str) -> None:
    site = web()
    text = site.client.get(f"/states?view={view}").text

    assert len(row_ids(text)) == site.board.counts()[view]
    assert f'<span class="count">{site.board.counts()[view]}</span>' in text


def test_filters_combine() -> None:
    assert listed(web(), "?view=all&backend=dev-us&status=no_digest&q=staging") == [
        "env:/staging/app.tfstate"
    ]


def test_a_filter_by_age_keeps_only_locks_held_longer() -> None:
    assert set(listed(web(), "?view=locked&age=3d")) == {"batch/remote", "결제/원장.tfstate"}


def test_a_filter_by_holder_is_exact() -> None:
    assert listed(web(), "?view=all&holder=atlantis%40atlantis-0") == ["remote"]


def test_every_active_filter_can_be_taken_away() -> None:
    text = web().client.get("/states?view=all&backend=dev-kr&q=vpc&prefix=Dev").text

    assert (
        'href="/states?view=all&amp;backend=dev-kr&amp;prefix=Dev" aria-label="Remove the filter: “vpc”"'
        in text
    )
    assert (
        'href="/states?view=all&amp;prefix=Dev&amp;q=vpc" aria-label="Remove the filter: backend dev-kr"'
        in text
    )


def test_the_search_keeps_the_other_filters_without_a_script() -> None:
    text = web().client.get("/states?view=all&backend=dev-kr&q=vpc").text

    assert '<input type="hidden" form="search" name="view" value="all">' in text
    assert '<input type="hidden" form="search" name="backend" value="dev-kr">' in text
    assert 'name="q" value=' not in text


def test_a_row_leads_to_its_page_within_the_same_list() -> None:
    site = web()
    row = next(row for row in site.board.rows.values() if row.key == "cdn/edge.tfstate")

    assert f'href="/s/{row.id}?view=all&amp;q=edge"' in site.client.get("/states?view=all&q=edge&n=4").text


def test_a_column_that_is_sorted_says_how_and_turns_around() -> None:
    text = web().client.get("/states?view=all&sort=key").text

    assert 'aria-sort="ascending"><a href="/states?view=all&amp;sort=-key">Key</a>' in text
    assert text.count("aria-sort=") == 1


def test_pages_follow_each_other_and_say_where_they_are() -> None:
    rows = [replace(estate()[0], id=f"{n:016x}", key=f"k{n:03}") for n in range(120)]
    site = web(rows)
    first = site.client.get("/states").text
    following = re.search(r'<a href="([^"]+)" rel="next"', first)
    assert following
    second = site.client.get(html.unescape(following[1])).text

    assert "1\u201350 of 120" in visible(first)
    assert 'rel="prev"' not in first
    assert "51\u2013100 of 120" in visible(second)
    assert 'rel="prev"' in second
    assert not set(row_ids(first)) & set(row_ids(second))


def test_both_axes_and_the_effect_stand_in_words_beside_their_marks() -> None:
    text = visible(web().client.get("/states?view=all&q=iam").text)

    assert "Digest behind state Crashed mid-write" in text
    assert "Blocked" in text


@pytest.mark.parametrize("content", ["unknown", "state_unreadable", "from_a_newer_version"])
def test_what_is_not_known_is_never_drawn_as_well(content: str) -> None:
    row = replace(
        estate()[-1], content=content, lock="unknown", terraform="unknown", rank=Severity.UNKNOWN.rank
    )
    text = web([row]).client.get("/states?view=all").text

    assert "tone-ok" not in text
    assert "seal-match" not in text
    assert "plan-works" not in text
    assert "no object" not in text
    assert "lock-unknown" in text


@pytest.mark.parametrize("damage", [{"summary": None}, {"digest": 7}, {"operation": 5}, {"summary": ["x"]}])
def test_one_row_that_cannot_be_shown_leaves_the_others(damage: dict[str, object]) -> None:
    good, last = estate()[:-1], estate()[-1]
    site = web([*good, replace(last, **damage)])  # type: ignore[arg-type]
    answer = site.client.get("/states?view=all")

    assert answer.status_code == 200
    assert len(row_ids(answer.text)) == 29
    assert "cannot be shown. Re-check it." in answer.text


def test_without_backends_the_page_says_so() -> None:
    text = web([], [], {}).client.get("/states").text

    assert "No backend is configured" in text
    assert "Nothing needs attention" not in text


def test_before_the_first_refresh_nothing_is_claimed() -> None:
    text = web([], []).client.get("/states").text

    assert "The first refresh is running" in text
    assert "No data yet" in text
    assert "othing needs attention" not in text


def test_when_nothing_needs_attention_the_page_says_how_much_was_checked_and_when() -> None:
    text = visible(web(CALM).client.get("/states").text)

    assert "Nothing needs attention All 8 keys checked 8 s ago." in text


def test_the_age_of_that_check_goes_on_and_starts_anew_with_each() -> None:
    text = web(CALM).client.get("/states").text

    assert (
        'All 8 keys checked <time class="ago" data-checked datetime="2026-11-20T17:59:52Z">8 s</time> ago.'
        in text
    )


def test_nothing_is_called_calm_while_a_backend_cannot_be_read() -> None:
    failed = report(
        "prod-kr", complete=False, error="s3:ListBucket: AccessDenied", data_at=NOW - timedelta(hours=3)
    )
    text = visible(web(CALM, [report("dev-kr"), report("dev-us"), failed]).client.get("/states").text)

    assert "Nothing that is known needs attention" in text
    assert "All 8 keys" not in text
    assert "not every backend could be read" in text


def test_no_match_says_so_and_how_many_there_are_elsewhere() -> None:
    text = visible(web().client.get("/states?q=vpc").text)

    assert "Nothing under “Needs attention” matches Among all keys, 2 keys match." in text


def test_no_match_claims_no_more_than_was_counted_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    site = web()
    whole = site.board.page
    monkeypatch.setattr(
        site.board,
        "page",
        lambda query: replace(found, total=1000, capped=True) if (found := whole(query)).rows else found,
    )

    assert "Among all keys, more than 1,000 keys match." in visible(site.client.get("/states?q=vpc").text)


def test_a_backend_that_could_not_be_read_is_named_with_the_permission_and_its_rows_with_their_age() -> None:
    failed = report(
        "prod-kr",
        complete=False,
        error="s3:ListBucket: AccessDenied: not authorized",
        missing_permission="s3:ListBucket",
        data_at=NOW - timedelta(hours=3),
    )
    site = web(reports=[report("dev-kr"), failed, report("dev-us")])
    text = site.client.get("/states?view=all").text

    assert "prod-kr could not be read." in visible(text)
    assert "Missing permission: s3:ListBucket" in visible(text)
    assert "20 Nov 15:00 UTC ( 3 h ago)" in visible(text)
    late = sum(row.backend == "prod-kr" for row in site.board.rows.values())
    assert text.count('<span class="late">as of 20 Nov 15:00 UTC</span>') == late


def test_old_data_is_called_old() -> None:
    old = [report(name, data_at=NOW - timedelta(minutes=20)) for name in BACKENDS]

    assert "This data is old." in visible(web(reports=old).client.get("/states").text)
    assert "This data is old." not in visible(web().client.get("/states").text)


@pytest.mark.parametrize(("skew", "told"), [(None, False), (-60.0, False), (61.0, True), (-90.0, True)])
def test_a_clock_that_is_wrong_is_told_on_the_board_for_the_backends_that_say_so(
    skew: float | None, told: bool
) -> None:
    reports = [report("dev-kr", clock_skew_seconds=skew), report("dev-us"), report("prod-kr")]

    text = visible(web(reports=reports).client.get("/states").text)

    said = "Lockboard's clock and AWS's differ by more than a minute (dev-kr)."
    assert (said in text, "no lock there is called stale" in text) == (told, told)


def test_the_strip_shows_each_lock_once_with_its_age() -> None:
    site = web()
    text = site.client.get("/states").text
    held = [row for row in site.board.rows.values() if row.locked_since is not None]

    assert text.count('tabindex="-1"><title>') == len(held)
    assert "batch/remote: held for 4 d 3 h, apply, ubuntu@ip-172-31-2-133</title>" in text
    assert "stale limit 1 h" in text


def test_a_strip_that_does_not_hold_every_lock_says_which_it_shows() -> None:
    held = next(row for row in estate() if row.locked_since is not None)
    rows = [replace(held, id=f"{n:016x}", key=f"k{n:03}") for n in range(201)]
    many, all_of_them = (visible(web(some).client.get("/states").text) for some in (rows, rows[:200]))

    assert "the picture shows the 200 held longest." in many
    assert "How long each of the 200 locks held longest has been held" in many
    assert "the picture shows" not in all_of_them
    assert "How long each lock has been held" in all_of_them


def test_times_are_written_in_the_zone_asked_for() -> None:
    client = web().client
    client.set_cookie("lockboard_prefs", "Asia/Seoul.auto.comfortable.10.on")
    text = client.get("/states?view=locked").text

    assert '<time class="ago" datetime="2026-11-20T17:48:00Z" title="2026-11-21 02:48:00 KST">12 min' in text
    assert "21 Nov 02:48 KST</span>" in text
    assert "times in KST" in text


def test_a_search_that_is_a_paste_goes_to_find() -> None:
    client = web().client

    for paste in ("s3://acme-prod-kr-tfstate/app.tfstate", "Error acquiring the state lock Lock Info: ID: x"):
        answer = client.get("/states", query_string={"q": paste})
        assert answer.status_code == 303
        assert answer.headers["Location"].startswith("/find?q=")
        swapped = client.get("/states", query_string={"q": paste}, headers={"HX-Request-Type": "partial"})
        assert swapped.headers["HX-Redirect"] == answer.headers["Location"]


def test_words_of_a_key_are_no_paste() -> None:
    assert web().client.get("/states?view=all&q=Prod/terraform/vpc").status_code == 200
