from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse
from werkzeug.wrappers import Response

from lockboard.web.overload import PATIENCE_SECONDS, RUNNING, THREADS, WAITING, Overload

LONG = 30.0
"""Seconds after which a test that should have ended says so."""


@dataclass
class Slow:
    """An application whose requests stay inside until `done` is set; each that comes releases `inside`."""

    done: threading.Event = field(default_factory=threading.Event)
    inside: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/slow":
            self.inside.release()
            assert self.done.wait(LONG)
        return Response("done")(environ, start_response)


@contextmanager
def crowd(slow: Slow, guard: Overload, running: int, waiting: int) -> Iterator[list[Future[TestResponse]]]:
    """So many requests inside, and so many on their way in."""
    with ThreadPoolExecutor(running + waiting) as pool:
        try:
            inside = [pool.submit(ask, guard, "/slow") for _ in range(running)]
            for _ in inside:
                assert slow.inside.acquire(timeout=LONG)
            yield [*inside, *(pool.submit(ask, guard, "/slow") for _ in range(waiting))]
        finally:
            slow.done.set()


def ask(guard: Overload, path: str, **options: Any) -> TestResponse:
    return Client(guard).open(path, buffered=True, **options)


def test_as_many_as_may_wait_get_their_answer_and_one_more_is_refused_while_they_wait() -> None:
    slow = Slow()
    guard = Overload(slow, running=2, waiting=1, patience=LONG)
    with crowd(slow, guard, running=2, waiting=2) as asked:
        first = wait(asked, LONG, FIRST_COMPLETED)
        slow.done.set()
        statuses = sorted(each.result(LONG).status_code for each in asked)

    assert [each.result().status_code for each in first.done] == [503]
    assert statuses == [200, 200, 200, 503]


def test_a_request_beyond_those_that_may_wait_gets_503_and_when_to_try_again() -> None:
    slow = Slow()
    guard = Overload(slow, running=1, waiting=0)
    with crowd(slow, guard, running=1, waiting=0):
        answer = ask(guard, "/states")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert "Nothing was done with yours" in answer.get_data(as_text=True)


def test_a_request_that_waited_too_long_gets_503() -> None:
    slow = Slow()
    guard = Overload(slow, running=1, waiting=1, patience=0.01)
    with crowd(slow, guard, running=1, waiting=0):
        assert ask(guard, "/states").status_code == 503


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/static/lockboard.css"])
def test_probes_and_files_are_answered_while_everything_else_is_refused(path: str) -> None:
    slow = Slow()
    guard = Overload(slow, running=1, waiting=0)
    with crowd(slow, guard, running=1, waiting=0):
        assert ask(guard, "/states").status_code == 503
        assert ask(guard, path).status_code == 200


def test_places_are_free_again_when_the_crowd_has_gone() -> None:
    slow = Slow()
    guard = Overload(slow, running=3, waiting=0)
    with crowd(slow, guard, running=3, waiting=0):
        assert ask(guard, "/states").status_code == 503

    assert {ask(guard, "/slow").status_code for _ in range(7)} == {200}


def test_an_application_that_fails_gives_its_place_back() -> None:
    def broken(environ: Any, start_response: Any) -> Iterable[bytes]:
        raise RuntimeError("broken")

    guard = Overload(broken, running=1, waiting=0)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="broken"):
            ask(guard, "/states")


def test_a_place_is_held_until_the_body_is_closed_and_closing_twice_frees_one() -> None:
    guard = Overload(Response("done"), running=1, waiting=0)
    environ = {"PATH_INFO": "/states", "REQUEST_METHOD": "GET"}
    body = guard(environ, lambda *_: lambda data: None)

    assert ask(guard, "/states").status_code == 503
    assert b"".join(body) == b"done"
    body.close()  # type: ignore[attr-defined]
    body.close()  # type: ignore[attr-defined]
    assert ask(guard, "/states").status_code == 200


def test_each_kind_of_asker_is_refused_in_a_form_that_it_can_show() -> None:
    slow = Slow()
    guard = Overload(slow, running=1, waiting=0)
    partial = {"HX-Request-Type": "partial"}
    with crowd(slow, guard, running=1, waiting=0):
        deed = ask(guard, "/s/1/unlock", method="POST", headers=partial)
        region = ask(guard, "/states", headers=partial)
        program = ask(guard, "/api/v1/states")
        head = ask(guard, "/states", method="HEAD")

    assert deed.get_data(as_text=True).startswith('<div id="oops"')
    assert (deed.headers["HX-Retarget"], deed.headers["Lockboard-Answer"]) == ("#oops", "1")
    assert (region.status_code, region.get_data()) == (503, b"")
    assert json.loads(program.get_data())["status"] == 503
    assert (head.status_code, head.get_data()) == (503, b"")


def test_the_server_has_a_thread_for_each_that_works_or_waits_and_some_more() -> None:
    assert THREADS > RUNNING + WAITING
    assert WAITING == 32
    assert PATIENCE_SECONDS < 15
