"""One look at every backend, and a second at what seems wrong, for the command line and scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from lockboard.domain.inventory import BackendReport, Board, Query
from lockboard.domain.ports import Clock
from lockboard.domain.text import utc
from lockboard.services.documents import dated
from lockboard.services.refresh import Refresher

MOST_LOOKS = 3
"""Second looks before a verdict is given as it stands: a busy state may never settle."""

CLOCK_GRAIN = timedelta(seconds=1)
"""AWS's Date header has whole seconds, so its clock is known only to one."""


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What `lockboard scan` found, and the exit status it stands for."""

    reports: Sequence[BackendReport]
    board: Board
    clock: Clock

    def exit_status(self) -> int:
        """0: nothing is wrong; 1: something needs attention; 2: a backend could not be read."""
        if not all(report.complete and report.sweep_error is None for report in self.reports):
            return 2
        return 1 if self.board.counts().get("attention", 0) else 0

    def contract(self) -> dict[str, Any]:
        """The machine-readable contract, with `states` as an iterator in order of severity."""
        return contract(self.reports, self.states(), self.clock)

    def states(self) -> Iterator[dict[str, Any]]:
        reports = {report.backend: report for report in self.reports}
        now = self.clock()
        for row in self.board.export(Query(view="all")):
            yield dated(row.document, now, reports.get(row.backend))


def contract(
    reports: Sequence[BackendReport], states: Iterator[dict[str, Any]], clock: Clock
) -> dict[str, Any]:
    """The top of the contract; `states` is left as an iterator, to be written as it is read."""
    return {
        "generated_at": utc(clock()),
        "backends": [backend_entry(report) for report in reports],
        "states": states,
    }


def backend_entry(report: BackendReport) -> dict[str, Any]:
    """One backend in the contract.

    `requests` are those of the refresh with its second look; `sweep_requests` come on top.
    """
    return {
        "name": report.backend,
        "bucket": report.bucket,
        "region": report.region,
        "table": report.table,
        "complete": report.complete,
        "error": report.error,
        "missing_permission": report.missing_permission,
        "states": report.states,
        "foreign_items": report.foreign_items,
        "requests": {kind: report.requests.get(kind, 0) for kind in ("list", "scan", "get", "versions")},
        "sweep_requests": report.sweep_requests,
        "sweep_error": report.sweep_error,
        "swept_at": utc(report.swept_at) if report.swept_at else None,
        "data_at": utc(report.data_at) if report.data_at else None,
        "duration_seconds": report.duration_seconds,
        "versioning": report.versioning,
        "clock_skew_seconds": report.clock_skew_seconds,
    }


def never_read(name: str) -> dict[str, Any]:
    """The entry of a backend that no refresh has read yet: not complete."""
    return {"name": name, "complete": False, "error": "not read yet", "states": 0, "requests": {}}


def scan(
    refreshers: Sequence[Refresher], board: Board, clock: Clock, sleep: Callable[[float], None]
) -> ScanResult:
    """Refresh every backend, wait until what seems wrong can be decided, and look at just that again."""
    reports = [refresher.refresh() for refresher in refreshers]
    for _ in range(MOST_LOOKS):
        waits = [wait for wait in (refresher.settles_in() for refresher in refreshers) if wait is not None]
        if not waits:
            break
        sleep(max(0.0, (max(waits) + CLOCK_GRAIN).total_seconds()))
        reports = [
            refresher.second_look() or report for refresher, report in zip(refreshers, reports, strict=True)
        ]
    return ScanResult(reports, board, clock)
