"""One look at everything and a second at what seems wrong, and the exit status that scripts go by."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from lockboard.domain.errors import AccessDenied
from lockboard.services.refresh import Refresher
from lockboard.services.scan import ScanResult, scan
from tests.services.fakes import Estate, FakeClock, md5


def run(*estates: Estate) -> tuple[ScanResult, list[float]]:
    """Scan them all on the first one's inventory; also how long it slept."""
    slept: list[float] = []
    first = estates[0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        for clock in {id(estate.clock): estate.clock for estate in estates}.values():
            clock.pass_(seconds)

    refreshers = [estate.restarted(first.inventory) for estate in estates]
    return scan(refreshers, first.inventory, first.clock, sleep), slept


def _behind(estate: Estate) -> None:
    older = estate.apply("x.tfstate", 1)
    estate.apply("x.tfstate", 2)
    estate.set_digest("x.tfstate", md5(older))


def _old_lock(estate: Estate) -> None:
    estate.clock.pass_(9000)
    estate.lock("a.tfstate", ago=8000)


def _no_versions(estate: Estate) -> None:
    estate.bucket.happen.failing_page["sweep"] = (
        0,
        AccessDenied("s3:ListBucketVersions", "AccessDenied", ""),
    )


def _no_list(estate: Estate) -> None:
    estate.bucket.happen.failing_page["list"] = (0, AccessDenied("s3:ListBucket", "AccessDenied", ""))


SITUATIONS: dict[str, tuple[Callable[[Estate], object], int, int]] = {
    "nothing wrong": (lambda estate: None, 0, 0),
    "a young lock": (lambda estate: estate.lock("a.tfstate"), 0, 0),
    "an old lock": (_old_lock, 1, 0),
    "a mismatch": (_behind, 1, 1),
    "a deleted state": (lambda estate: estate.bucket.delete("a.tfstate"), 1, 1),
    "a sweep that failed": (_no_versions, 2, 0),
    "a listing that failed": (_no_list, 2, 0),
}


@pytest.mark.parametrize(("make", "status", "sleeps"), SITUATIONS.values(), ids=SITUATIONS)
def test_the_exit_status_says_whether_something_needs_attention(
    make: Callable[[Estate], object], status: int, sleeps: int
) -> None:
    estate = Estate()
    estate.apply("a.tfstate")
    make(estate)

    result, slept = run(estate)

    assert result.exit_status() == status
    assert len(slept) == sleeps


def test_what_seems_wrong_is_final_after_the_settle_time() -> None:
    estate = Estate()
    _behind(estate)

    result, slept = run(estate)

    assert [row.content for row in estate.inventory.rows.values()] == ["digest_behind"]
    assert 10 <= slept[0] < 12
    assert result.reports[0].requests["list"] == 1


@pytest.mark.parametrize("skew", [timedelta(hours=-5), timedelta(minutes=5), timedelta(days=1)])
def test_a_clock_that_is_wrong_neither_hastens_nor_delays_the_second_look(skew: timedelta) -> None:
    estate = Estate()
    _behind(estate)
    estate.bucket.skew = skew

    _, slept = run(estate)

    assert [row.content for row in estate.inventory.rows.values()] == ["digest_behind"]
    assert len(slept) == 1
    assert 10 <= slept[0] < 12


def test_an_apply_at_work_is_waited_for_and_then_given_as_it_stands() -> None:
    estate = Estate()
    estate.apply("a.tfstate", 1)
    estate.lock("a.tfstate", ago=60)
    estate.clock.pass_(30)
    estate.apply("a.tfstate", 2, digest=False)

    _, slept = run(estate)

    assert 1 <= len(slept) <= 3
    assert [row.content for row in estate.inventory.rows.values()] == ["digest_behind"]


@pytest.mark.parametrize("skew", [timedelta(minutes=-10), timedelta(), timedelta(minutes=10)])
def test_a_lock_is_as_old_as_aws_says_whatever_our_own_clock_does(skew: timedelta) -> None:
    estate = Estate()
    estate.apply("a.tfstate")
    estate.lock("a.tfstate", file=True)
    estate.clock.pass_(30)
    estate.bucket.skew, ours = skew, FakeClock(estate.clock() + skew)
    refresher = Refresher(estate.backend, estate.bucket, estate.table, estate.inventory, ours, ours.monotonic)

    [state] = scan([refresher], estate.inventory, ours, ours.pass_).states()

    assert [lock["age_seconds"] for lock in state["locks"]] == [30, 30]


def test_two_backends_are_one_answer_in_the_contract() -> None:
    one, two = Estate(name="one"), Estate(name="two")
    one.apply("a.tfstate")
    two.apply("a.tfstate")
    _no_list(two)

    result, _ = run(one, two)
    told = result.contract()
    states = list(told.pop("states"))
    whole = json.loads(json.dumps({**told, "states": states}))

    assert [(backend["name"], backend["complete"]) for backend in whole["backends"]] == [
        ("one", True),
        ("two", False),
    ]
    assert whole["backends"][0]["requests"] == {"list": 1, "scan": 1, "get": 0, "versions": 0}
    assert whole["backends"][1]["missing_permission"] == "s3:ListBucket"
    assert [(state["backend"], state["terraform"]) for state in states] == [
        ("two", "unknown"),
        ("one", "works"),
    ]
    assert result.exit_status() == 2
