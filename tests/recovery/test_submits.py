"""One form sent many times, over a live server and by two replicas: one change, one answer, one chain."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlencode, urlsplit

import pytest
from flask import Flask
from werkzeug.serving import make_server

from lockboard.web.overload import RUNNING, WAITING
from tests.faults import call
from tests.recovery.conftest import NewHouse
from tests.recovery.deeds import DEEDS
from tests.recovery.house import Answer, House, action_of
from tests.recovery.page import OURS, Asking

pytestmark = pytest.mark.terraform

SUBMITS = 50
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """Over a real socket, a thread for each request."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()


def sent(host: str, asking: Asking, start: threading.Barrier) -> tuple[int, str]:
    """The status and where it leads, of one submit that begins together with the others."""
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.connect()
    start.wait()
    try:
        connection.request("POST", asking.action, urlencode(asking.filled()), {**OURS, **FORM})
        answer = connection.getresponse()
        answer.read()
        return answer.status, urlsplit(answer.headers.get("Location", "")).query
    finally:
        connection.close()


@pytest.mark.parametrize("name", ["unlock both", "set the digest"])
def test_fifty_submits_of_one_form_at_once_are_one_change_and_equal_answers_but_for_those_turned_away(
    house: House, name: str
) -> None:
    key, deed = house.key(), DEEDS[name]
    deed.make(key)
    asking = deed.ask(key.known()).asking
    assert asking is not None
    start = threading.Barrier(SUBMITS)

    with served(house.app) as host, ThreadPoolExecutor(SUBMITS) as pool:
        answers = list(pool.map(lambda _: sent(host, asking, start), range(SUBMITS)))

    turned_away = answers.count((503, ""))
    told = {answer for answer in answers if answer != (503, "")}
    assert turned_away <= SUBMITS - RUNNING - WAITING
    assert [status for status, _ in told] == [303], told
    assert deed.mended(key)
    assert len(key.writes()) == deed.writes
    assert len({action_of(seen) for seen in key.changes()}) == 1
    assert [record.entry.kind.value for record in key.records()] == ["outcome", "intent"]


def test_a_form_sent_again_after_its_answer_says_the_same_and_changes_nothing(house: House) -> None:
    key = house.key().healthy()
    key.locked()
    page = key.known().ask("unlock")
    first = key.send(page)
    key.locked()
    writes = len(key.changes())

    again = key.send(page)

    assert again.record == first.record
    assert len(key.changes()) == writes
    assert not key.free


def test_a_form_that_is_sent_again_while_the_first_submit_is_still_reading_has_one_answer(
    house: House,
) -> None:
    key = house.key().healthy()
    key.locked()
    page = key.known().ask("unlock")
    overtaking: list[Answer] = []
    house.proxy.on(lambda seen: not seen.mutates, call(before=lambda _: overtaking.append(key.send(page))))

    overtaken = key.send(page)

    assert [answer.record for answer in overtaking] == [overtaken.record]
    assert overtaken.result == "done", overtaken.message
    assert len(key.records()) == 2


@pytest.mark.postgres
def test_two_replicas_make_one_change_and_one_chain(new_house: NewHouse, postgresql_url: str) -> None:
    """The same form to both at once, and two forms for the same lock."""
    first = new_house(database_url=postgresql_url)
    second = new_house(database_url=postgresql_url, proxy=first.proxy, bucket=first.bucket, table=first.table)
    for same_form in (True, False):
        for _ in range(3):
            key = first.key().healthy()
            key.locked()
            asked = [key.known().ask("unlock").asking for _ in range(2)]
            forms = [form for form in asked if form]
            assert len(forms) == 2
            start = threading.Barrier(2)
            first.proxy.recording.clear()
            with served(first.app) as one, served(second.app) as two, ThreadPoolExecutor(2) as pool:
                sending = [
                    pool.submit(sent, one, forms[0], start),
                    pool.submit(sent, two, forms[0 if same_form else 1], start),
                ]
                answers = [each.result() for each in sending]

            assert sorted(key.writes()) == ["DeleteObject", "TransactWriteItems"]
            assert key.free
            results = [record.entry.result for record in key.records()]
            assert results.count("done") + results.count("failed") <= 2
            if same_form:
                assert answers[0] == answers[1]
                assert results.count("done") == 1
    assert first.audit.verify().ok
    assert second.audit.head() == first.audit.head()
