"""The endless refresher: it ends when told, and does not hide what it cannot survive."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any, cast

import pytest

from lockboard.domain.errors import StoreError
from lockboard.services.collect import Stopped, collect, pause
from lockboard.services.refresh import Refresher


class Scripted:
    """Stands for a Refresher: each refresh runs the next step."""

    def __init__(self, *steps: Any) -> None:
        self.steps, self.done = list(steps), 0

    def refresh(self) -> str:
        self.done += 1
        step = self.steps.pop(0) if self.steps else None
        if callable(step):
            step()
        return "report"


def test_every_backend_is_refreshed_until_the_stop_is_set() -> None:
    stop = threading.Event()
    slow, quick = Scripted(), Scripted(None, None, stop.set)
    logged: list[str] = []
    pairs = cast("list[tuple[str, Refresher]]", [("slow", slow), ("quick", quick)])
    collect(pairs, timedelta(milliseconds=1), stop, lambda name, _: logged.append(name))
    assert quick.done == 3
    assert {"slow", "quick"} <= set(logged)


def test_a_store_that_cannot_be_written_ends_all_and_is_raised() -> None:
    def fail() -> None:
        raise StoreError("disk full")

    stop, other = threading.Event(), Scripted()
    pairs = cast("list[tuple[str, Refresher]]", [("failing", Scripted(fail)), ("other", other)])
    with pytest.raises(StoreError, match="disk full"):
        collect(pairs, timedelta(hours=1), stop, lambda *_: None)
    assert stop.is_set()


def test_a_refresh_that_waits_for_its_budget_is_given_up_when_told_to_stop() -> None:
    stop = threading.Event()

    def wait() -> None:
        stop.set()
        pause(stop)(3600)

    waiting = Scripted(wait)
    pairs = cast("list[tuple[str, Refresher]]", [("waiting", waiting)])
    collect(pairs, timedelta(hours=1), stop, lambda *_: pytest.fail("a refresh given up reports nothing"))
    assert waiting.done == 1


def test_a_pause_that_nobody_interrupts_returns() -> None:
    stop = threading.Event()
    pause(stop)(0)
    stop.set()
    with pytest.raises(Stopped):
        pause(stop)(0)
