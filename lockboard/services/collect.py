"""The refresher: every backend in a thread of its own, again and again until told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from datetime import timedelta

from lockboard.domain.inventory import BackendReport
from lockboard.services.refresh import Refresher

Log = Callable[[str, BackendReport], None]


class Stopped(BaseException):
    """The process is to end; what it was doing is left as it is.

    No key's own failure, so nothing else catches it.
    """


def pause(stop: threading.Event) -> Callable[[float], None]:
    """A sleep for the readers that ends the refresh, writing nothing, when `stop` is set meanwhile."""

    def sleep(seconds: float) -> None:
        if stop.wait(seconds):
            raise Stopped

    return sleep


def collect(
    refreshers: Sequence[tuple[str, Refresher]], every: timedelta, stop: threading.Event, log: Log
) -> None:
    """Refresh until `stop` is set. A backend that is slow or cannot be read delays no other.

    Raises:
        StoreError: the inventory cannot be written; nothing useful can go on.
    """

    def run(name: str, refresher: Refresher) -> None:
        try:
            while not stop.is_set():
                log(name, refresher.refresh())
                stop.wait(every.total_seconds())
        except Stopped:
            return
        except BaseException:
            stop.set()  # what one thread cannot survive ends all, so that whoever started the process sees it
            raise

    with ThreadPoolExecutor(len(refreshers), thread_name_prefix="refresh") as pool:
        tasks = [pool.submit(run, *pair) for pair in refreshers]
        wait(tasks, return_when=FIRST_EXCEPTION)
    for task in tasks:
        task.result()
