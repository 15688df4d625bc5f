from __future__ import annotations

from dataclasses import replace

import pytest

from lockboard.domain.keys import state_id
from tests.web.fakes import UUID, estate, web

OWN = {"Sec-Fetch-Site": "same-origin"}
APP = state_id("prod-kr", "app.tfstate")
REMOTE = state_id("dev-kr", "batch/remote")
LOCK_ERROR = """
│ Error: Error acquiring the state lock
│
│ Error message: operation error DynamoDB: PutItem, ConditionalCheckFailedException
│ Lock Info:
│   ID:        00000000-0000-0000-0000-000000000000
│   Path:      acme-dev-kr-tfstate/batch/remote
│   Operation: OperationTypeApply
│   Who:       ubuntu@ip-172-31-2-133
"""


@pytest.mark.parametrize(
    ("paste", "state"),
    [
        ("app.tfstate", APP),
        ("s3://acme-prod-kr-tfstate/app.tfstate", APP),
        ("acme-prod-kr-tfstate/app.tfstate", APP),
        ("acme-prod-kr-tfstate/app.tfstate-md5", APP),
        ("ubuntu@ip-172-31-2-133", REMOTE),
        (LOCK_ERROR, REMOTE),
        (" ".join(LOCK_ERROR.split("\n")), REMOTE),
    ],
)
def test_a_paste_that_means_one_state_lands_on_it(paste: str, state: str) -> None:
    client = web().client

    for answer in (
        client.get("/find", query_string={"q": paste}),
        client.post("/find", data={"q": paste}, headers=OWN),
    ):
        assert (answer.status_code, answer.headers.get("Location")) == (303, f"/s/{state}")


def test_a_paste_that_means_several_states_lists_them_worst_first() -> None:
    text = web().client.get("/find?q=vpc").text

    assert "2 states match" in text
    assert text.count('class="key"') == 2


def test_more_than_are_shown_are_not_counted_but_can_all_be_searched() -> None:
    row = next(iter(estate()))
    rows = [replace(row, id=f"{n:016x}", key=f"team{n}/x.tfstate", search=f"team{n}/x") for n in range(21)]
    more = web(rows).client.get("/find?q=team").text
    exactly = web(rows[:20]).client.get("/find?q=team").text

    assert "More than 20 states match. These are the first 20, the most likely first." in more
    assert 'href="/states?view=all&amp;q=team"' in more
    assert more.count('class="key"') == 20
    assert "20 states match. The most likely is the first." in exactly
    assert "/states?view=all&amp;q=team" not in exactly


def test_a_lock_id_that_several_locks_share_lists_them() -> None:
    assert "states match" in web().client.get(f"/find?q={UUID}").text


def test_what_was_not_found_is_said_with_what_was_understood() -> None:
    answer = web().client.get("/find?q=s3://unknown-bucket/x.tfstate")

    assert answer.status_code == 200
    assert "No state was found for this." in answer.text
    assert "The bucket <code>unknown-bucket</code> is not among the configured backends." in answer.text
    assert "<code>x.tfstate</code>" in answer.text


def test_the_paste_stays_in_its_field() -> None:
    text = web().client.post("/find", data={"q": "nothing <b>like</b> this\nhere"}, headers=OWN).text

    assert "nothing &lt;b&gt;like&lt;/b&gt; this\nhere</textarea>" in text


def test_an_empty_search_claims_nothing() -> None:
    text = web().client.get("/find?q=").text

    assert "No state was found" not in text


@pytest.mark.parametrize(
    "query",
    [
        "bucket=acme-prod-kr-tfstate&key=app.tfstate",
        "path=acme-prod-kr-tfstate/app.tfstate",
    ],
)
def test_a_deep_link_lands_on_its_state(query: str) -> None:
    answer = web().client.get(f"/go?{query}")

    assert (answer.status_code, answer.headers.get("Location")) == (303, f"/s/{APP}")


def test_a_deep_link_to_a_lock_that_was_released_is_a_readable_404() -> None:
    answer = web().client.get("/go?lock=11111111-1111-1111-1111-111111111111")

    assert answer.status_code == 404
    assert "It may have been released or deleted since" in answer.text


@pytest.mark.parametrize(
    "key", ["../../etc/passwd", "a//b", "%2e%2e/x", "x' OR 1=1 --", "\x00", "~" * 1024, "a?b#c&d=e"]
)
def test_an_odd_key_is_a_search_and_nothing_else(key: str) -> None:
    client = web().client

    assert client.get("/find", query_string={"q": key}).status_code == 200
    assert client.get("/go", query_string={"bucket": "acme-prod-kr-tfstate", "key": key}).status_code == 404
