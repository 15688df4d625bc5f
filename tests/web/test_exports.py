from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockboard.web.exports import COLUMNS, safe_cell
from tests.web.fakes import BACKENDS, estate, report, web

CONTRACT = {
    "id",
    "backend",
    "bucket",
    "key",
    "severity",
    "content",
    "lock",
    "terraform",
    "summary",
    "object",
    "digest",
    "locks",
    "remedies",
    "checked_at",
}


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_every_key_of_the_list_in_its_order() -> None:
    site = web()
    rows = table(site.client.get("/states.csv?view=locked&sort=key").text)
    held = sorted(row.key for row in site.board.rows.values() if row.lock != "unlocked")

    assert [row["key"] for row in rows] == held
    assert tuple(rows[0]) == COLUMNS


def test_csv_says_who_holds_what_since_when() -> None:
    [row] = table(web().client.get("/states.csv?view=all&q=batch").text)

    assert row["holder"] == "ubuntu@ip-172-31-2-133"
    assert row["locked_since"] == "2026-11-16T15:00:00Z"
    assert row["checked_at"] == "2026-11-20T17:59:52Z"


def test_csv_names_the_lock_of_the_holder_that_it_shows() -> None:
    held = next(row for row in estate() if row.key == "batch/remote")
    [lock] = json.loads(json.dumps(held.document["locks"]))
    unreadable = {**lock, "store": "tflock", "id": None, "who": None}
    row = replace(held, document={**held.document, "locks": [unreadable, lock]})
    [cells] = table(web([row]).client.get("/states.csv?view=all").text)

    assert (cells["holder"], cells["lock_id"]) == (lock["who"], lock["id"])


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_csv_is_a_formula(start: str) -> None:
    row = replace(estate()[0], key=f"{start}cmd|' /C calc'!A0", holder=f"{start}1+1")
    [cells] = table(web([row]).client.get("/states.csv?view=all").text)

    assert cells["key"].startswith("'")
    assert cells["holder"].startswith("'")


@given(st.text())
def test_a_safe_cell_never_begins_like_a_formula_and_keeps_its_text(text: str) -> None:
    cell = safe_cell(text)

    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert cell.endswith(text)


def test_csv_quotes_what_would_end_a_cell_or_a_line() -> None:
    row = replace(estate()[0], summary='a "b", c\nd')

    assert table(web([row]).client.get("/states.csv?view=all").text)[0]["summary"] == 'a "b", c\nd'


def test_exports_are_files_with_a_date_in_their_name() -> None:
    client = web().client

    assert (
        client.get("/states.csv").headers["Content-Disposition"]
        == 'attachment; filename="lockboard-20261120T180000Z.csv"'
    )
    assert client.get("/states.json").headers["Content-Type"] == "application/json"
    assert "Content-Disposition" not in client.get("/api/v1/states").headers


def test_the_interface_gives_every_state_by_the_contract() -> None:
    found = json.loads(web().client.get("/api/v1/states").data)

    assert found["generated_at"] == "2026-11-20T18:00:00Z"
    assert [backend["name"] for backend in found["backends"]] == list(BACKENDS)
    assert {"name", "complete", "error", "states", "requests"} <= set(found["backends"][0])
    assert len(found["states"]) == 29
    assert all(set(state) >= CONTRACT for state in found["states"])


def test_the_interface_dates_each_lock_and_each_state() -> None:
    states = json.loads(web().client.get("/api/v1/states?q=batch").data)["states"]

    assert [(s["locks"][0]["age_seconds"], s["checked_at"]) for s in states] == [
        (4 * 86400 + 3 * 3600, "2026-11-20T17:59:52Z")
    ]


def test_a_lock_is_dated_by_the_clock_of_aws() -> None:
    client = web(reports=[report("dev-kr", clock_skew_seconds=-90.0)]).client
    lists = [client.get(f"{path}?q=batch").get_json() for path in ("/api/v1/states", "/states.json")]
    found = [state for one in lists for state in one["states"]]
    found.append(client.get(f"/api/v1/states/{found[0]['id']}").get_json())

    assert [state["locks"][0]["age_seconds"] for state in found] == [(4 * 24 + 3) * 3600 + 90] * 3


def test_a_backend_never_read_is_not_complete() -> None:
    found = json.loads(web(reports=[report("dev-kr")]).client.get("/api/v1/states").data)

    assert [backend["complete"] for backend in found["backends"]] == [True, False, False]


def test_an_export_without_rows_is_still_whole() -> None:
    client = web([]).client

    assert json.loads(client.get("/states.json").data)["states"] == []
    assert table(client.get("/states.csv").text) == []


def test_an_export_of_many_rows_is_sent_in_pieces() -> None:
    rows = [replace(estate()[0], id=f"{n:016x}", key=f"k{n:03}") for n in range(200)]
    pieces = list(web(rows).client.get("/api/v1/states").response)

    assert len(pieces) > 5
    assert (
        len(json.loads(b"".join(bytes(piece) for piece in pieces if isinstance(piece, bytes)))["states"])
        == 200
    )


@pytest.mark.parametrize("path", ["/states.csv", "/states.json", "/api/v1/states"])
def test_a_store_that_fails_gives_an_error_and_not_half_a_file(path: str) -> None:
    site = web()
    site.board.broken = True
    answer = site.client.get(path)

    assert answer.status_code == 503
    assert json.loads(answer.data) == {"error": "The inventory cannot be read", "status": 503}
