"""The refresher: every backend in a thread of its own, again and again until told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

from lockboard.domain.errors import StoreError
from lockboard.domain.inventory import BackendReport
from lockboard.services.refresh import Refresher

Log = Callable[[str, BackendReport], None]


def collect(
    refreshers: Sequence[tuple[str, Refresher]], every: timedelta, stop: threading.Event, log: Log
) -> None:
    """Refresh until `stop` is set. A backend that is slow or failing delays no other.

    Raises:
        StoreError: the inventory cannot be written; nothing useful can go on.
    """
    failures: list[StoreError] = []

    def run(name: str, refresher: Refresher) -> None:
        while not stop.is_set():
            try:
                log(name, refresher.refresh())
            except StoreError as error:
                failures.append(error)
                stop.set()
            stop.wait(every.total_seconds())

    threads = [
        threading.Thread(target=run, args=pair, name=f"refresh-{pair[0]}", daemon=True) for pair in refreshers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive() and not stop.is_set():
            thread.join(0.5)
    for thread in threads:
        thread.join(timeout=30)
    if failures:
        raise failures[0]
