from __future__ import annotations

import json
from datetime import timedelta

import pytest

from lockboard.demo import bodies
from lockboard.demo.estate import (
    CLUSTERS,
    FOREIGN_BUCKET,
    HOSTILE_HOLDER,
    ROWS,
    SHARED_TABLE,
    Estate,
    Row,
    Version,
    build,
    cluster_of,
)
from lockboard.domain.locks import parse_lock_info
from lockboard.domain.model import Content, LockStatus
from tests.demo.conftest import NOW

ESTATE = build(NOW, seed=7)
ORDINARY = [row for row in ROWS if (row.content, row.variant) in {("ok", ""), ("no_digest", "")}]


def versions(row: Row, estate: Estate = ESTATE) -> tuple[Version, ...]:
    return estate.objects[cluster_of(row.backend).bucket].get(row.key, ())


def attributes(row: Row, suffix: str = "") -> dict[str, object]:
    cluster = cluster_of(row.backend)
    wanted = {"S": f"{cluster.bucket}/{row.key}{suffix}"}
    found = [item for item in ESTATE.items.get(cluster.table or "", ()) if item["LockID"] == wanted]
    return {name: value for item in found for name, value in item.items() if name != "LockID"}


def test_every_content_status_that_lasts_has_a_key() -> None:
    assert {row.content for row in ROWS} == set(Content) - {Content.SETTLING, Content.UNKNOWN}


def test_every_lock_status_has_a_key() -> None:
    assert {row.lock for row in ROWS} == set(LockStatus) - {LockStatus.UNKNOWN}


def test_sixty_keys_are_named_once_each() -> None:
    assert len({(row.backend, row.key) for row in ROWS}) == len(ROWS) == 60


def test_the_same_seed_and_time_give_the_same_estate() -> None:
    assert build(NOW, seed=7) == ESTATE


def test_another_seed_gives_other_bodies() -> None:
    other = build(NOW, seed=8)
    assert all(versions(row, other) != versions(row) for row in ROWS if versions(row))


@pytest.mark.parametrize("shift", [timedelta(0), timedelta(days=200)])
def test_nothing_is_later_than_now(shift: timedelta) -> None:
    estate = build(NOW + shift, seed=7)
    latest = max(v.at for keys in estate.objects.values() for found in keys.values() for v in found)
    assert NOW + shift - timedelta(minutes=20) < latest <= NOW + shift


def test_the_versions_of_a_key_are_in_order_of_time_and_no_two_at_once() -> None:
    for keys in ESTATE.objects.values():
        for found in keys.values():
            times = [version.at for version in found]
            assert times == sorted(set(times))


def test_an_ordinary_history_is_one_lineage_with_growing_serials() -> None:
    for row in (row for row in ORDINARY if cluster_of(row.backend).versioned):
        states = [json.loads(version.body or b"") for version in versions(row)]
        serials = [state["serial"] for state in states]
        assert 4 <= len(states) <= 12
        assert len({state["lineage"] for state in states}) == 1
        assert serials == list(range(serials[0], serials[0] + len(states)))


def test_the_bucket_without_versioning_keeps_one_version_of_a_key() -> None:
    (cluster,) = [cluster for cluster in CLUSTERS if not cluster.versioned]
    assert {len(found) for found in ESTATE.objects[cluster.bucket].values()} == {1}
    assert {found[0].version_id for found in ESTATE.objects[cluster.bucket].values()} == {"null"}


def test_the_digest_of_a_healthy_key_is_the_md5_of_its_last_body() -> None:
    for row in (row for row in ROWS if row.content == "ok"):
        assert attributes(row, "-md5") == {"Digest": {"S": bodies.digest_of(versions(row)[-1].body or b"")}}


def test_a_state_holds_nothing_but_made_up_identifiers() -> None:
    for row in ORDINARY:
        for resource in json.loads(versions(row)[-1].body or b"")["resources"]:
            (instance,) = resource["instances"]
            assert instance["attributes"] == {"id": f"demo-{resource['type']}-{resource['name']}"}


def test_a_lock_in_two_stores_is_the_same_record_byte_for_byte() -> None:
    (row,) = [row for row in ROWS if row.lock == "crashed_mid_write"]
    file = ESTATE.objects[cluster_of(row.backend).bucket][f"{row.key}.tflock"][-1]
    assert attributes(row) == {"Info": {"S": (file.body or b"").decode()}}


def test_a_lock_says_what_terraform_says_and_nothing_else() -> None:
    (row,) = [row for row in ROWS if row.lock == "lock_partial"]
    info = attributes(row)["Info"]
    assert isinstance(info, dict)
    assert list(json.loads(info["S"])) == ["ID", "Operation", "Info", "Who", "Version", "Created", "Path"]
    assert parse_lock_info(info["S"]).path == f"{cluster_of(row.backend).bucket}/{row.key}"


def test_the_hostile_record_is_one_that_go_can_read() -> None:
    (row,) = [row for row in ROWS if row.variant == "hostile"]
    info = attributes(row)["Info"]
    assert isinstance(info, dict)
    assert info["S"].isascii()
    assert parse_lock_info(info["S"]).who == HOSTILE_HOLDER


def test_the_shared_table_holds_items_of_a_bucket_that_is_no_backend() -> None:
    foreign = [
        item for item in ESTATE.items[SHARED_TABLE] if str(item["LockID"]["S"]).startswith(FOREIGN_BUCKET)
    ]
    assert len(foreign) == 4
    assert FOREIGN_BUCKET not in {cluster.bucket for cluster in CLUSTERS}


def test_the_team_works_on_sound_keys_alone() -> None:
    team = [row for row in ROWS if row.team]
    assert len(team) >= 8
    assert {row.lock for row in team} == {"unlocked"}
    assert {row.content for row in team} == {"ok", "no_digest"}
