"""Hostile texts in the audit log, in what AWS says of failures, and on a terminal."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

import pytest
from flask.testing import FlaskClient

from lockboard.adapters.s3 import S3States
from lockboard.adapters.store import SqlAudit, migrate, open_audit_engine, open_engine
from lockboard.adapters.witness import stdout_witness
from lockboard.cli import _print_table
from lockboard.domain.audit import Entry, Kind, Person, Result
from lockboard.domain.inventory import BackendReport
from lockboard.domain.keys import state_id
from lockboard.domain.locks import lock_from_item
from lockboard.domain.model import Backend, Observation, Policy
from lockboard.services.memo import Memo
from lockboard.services.refresh import Refresher
from lockboard.services.rows import judge
from tests.databases import sqlite_url
from tests.hostile.payloads import payloads
from tests.hostile.skeleton import Bones, elements, names_of, skeleton, unfit
from tests.hostile.test_pages import FORMULA
from tests.hostile.world import BUCKET, Aws, connect
from tests.services.fakes import FakeClock, FakeInventory
from tests.stub_aws import Answer, Asked, s3_error, stub_aws
from tests.web.audit_fakes import KEY, client_over, lock, plan, receipt, uuid
from tests.web.fakes import NOW, Ticking, web

HARMLESS = ("x", "x\u200bx", " ", "", "x" * 5000, "terraform.tfstate", "a/b", "a/", "x" * 30)
LINE = re.compile(r'<tr role="row" class="row [^>]*id="a-(\d+)".*?</tr>\n', re.DOTALL)
OLDER = re.compile(r'<a href="([^"]+)" rel="next">Older')
IN_BATCHES = 100


class Log(NamedTuple):
    """A log with two records of every text: the numbers of all, of those whose text is harmless, and of the
    outcomes.
    """

    audit: SqlAudit
    client: FlaskClient
    all: frozenset[int]
    harmless: frozenset[int]
    outcomes: tuple[int, ...]


def entries(number: int, text: str) -> Iterator[Entry]:
    """An outcome, and by turns its intent, a refusal or an event, with the text in each field that a person
    or AWS fills.
    """
    held = lock(who=text, id=text, operation=text, raw=text, attribute={"S": text}, etag=text)
    told = plan(
        releases=[held],
        digest={"absent": False, "old": {"S": text}, "new": text},
        restores={"version_id": text, "md5": text, "serial": 1, "lineage": text, "written": text},
    )
    answer = {**receipt("dynamodb:DeleteItem"), "request_id": text, "detail": text, "target": text}
    seen = {"summary": text, "evidence": [{"fact": text, "source": text}]}
    intent = Entry(
        Kind.INTENT,
        "force_unlock",
        Person(text, text, text),
        action_id=uuid(number),
        backend=text,
        bucket=text,
        key=text,
        state_id=state_id("x", text),
        reason=text,
        ticket=text,
        facts={"plan": told, "seen": seen, "lockboard": text},
    )
    steps = {"plan": told, "steps": [answer], text[:100]: {text[:100]: [text]}}
    refused = replace(intent, kind=Kind.REFUSAL, action_id="", result=Result.REFUSED, message=text)
    event = Entry(Kind.EVENT, text or "x", Person(text, text, text), message=text, facts={"filter": text})
    yield (intent, refused, event)[number % 3]
    yield replace(intent, kind=Kind.OUTCOME, result=Result.DONE, message=text, facts=steps)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    url = sqlite_url(tmp_path_factory.mktemp("log"))
    migrate(open_engine(url))
    clock = Ticking(NOW)
    audit = SqlAudit(open_audit_engine(url), KEY, clock, stdout_witness(io.StringIO()))
    made: dict[int, tuple[Kind, bool]] = {}
    plain = HARMLESS * 3
    texts = [*plain, *(payload.text[:20_000] for payload in payloads()), *plain]
    for number, text in enumerate(texts):
        harmless = not len(plain) <= number < len(texts) - len(plain)
        for entry in entries(number, text):
            made[audit.append(entry).seq] = (entry.kind, harmless)
    return Log(
        audit,
        client_over(audit, clock),
        frozenset(made),
        frozenset(seq for seq, (_, harmless) in made.items() if harmless),
        tuple(seq for seq, (kind, _) in made.items() if kind is Kind.OUTCOME),
    )


def fetched(client: FlaskClient, url: str) -> str:
    answer = client.get(url, buffered=True)
    assert answer.status_code == 200, (url, answer.status_code)
    return answer.text


def test_every_line_of_the_log_is_made_of_the_same_whatever_its_texts(log: Log) -> None:
    found: dict[int, Bones] = {}
    url: str | None = "/audit"
    while url:
        text = fetched(log.client, url)
        assert not unfit(text), (url, unfit(text))
        for line in LINE.finditer(text):
            found[int(line[1])] = skeleton(line[0])
        skeleton(LINE.sub("", text))
        older = OLDER.search(text)
        url = older[1].replace("&amp;", "&") if older else None
    fine = {found[seq] for seq in log.harmless}

    assert found.keys() == log.all
    assert [seq for seq, bones in found.items() if bones not in fine] == []


def test_every_record_is_made_of_the_same_whatever_its_texts(log: Log) -> None:
    fine = {skeleton(fetched(log.client, f"/audit/{seq}")) for seq in log.harmless}
    strange = []
    for number, seq in enumerate(log.outcomes):
        text = fetched(log.client, f"/audit/{seq}")
        bones = skeleton(text)
        assert not unfit(text), seq
        if number % 40 == 0:
            assert elements(text) == names_of(bones)
        if bones not in fine:
            strange.append(seq)
    assert strange == []


def test_the_chain_of_hostile_records_verifies(log: Log) -> None:
    found = log.audit.verify()

    assert (found.ok, found.checked >= len(log.all)) == (True, True)


def test_the_log_as_json_lines_has_one_line_for_each_record_and_its_exact_text(log: Log) -> None:
    lines = fetched(log.client, "/audit.jsonl").encode().splitlines()
    records = [json.loads(line) for line in lines]
    wanted = {payload.text[:20_000] for payload in payloads()}

    assert len(records) - 2 == records[-1]["count"] == records[0]["count"]
    assert wanted <= {record["record"]["reason"] for record in records[1:-1]}


def test_the_log_as_csv_has_one_row_for_each_record_and_no_cell_that_a_spreadsheet_runs(log: Log) -> None:
    text = fetched(log.client, "/audit.csv")
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    records = rows[2:-1]

    assert not unfit(text, "\r\n")
    assert rows[-1] == [f"# end: {len(records)} records"]
    assert {len(row) for row in records} == {len(rows[1])}
    assert [cell for row in records for cell in row if cell.startswith(FORMULA)] == []


def test_what_aws_says_of_a_failure_is_only_text() -> None:
    """Through the refresher into the page of the backends' health and its notices."""
    plain = frozenset(
        bone for text in ("x", "x.", "x:x") for page in failing([text]) for bone in skeleton(page)
    )
    shapes = {skeleton(page) for page in failing(["x"] * IN_BATCHES)}
    found = [payload.text for payload in payloads()]
    for start in range(0, len(found), IN_BATCHES):
        for page in failing(found[start : start + IN_BATCHES]):
            bones = skeleton(page)
            assert not unfit(page)
            assert bones in shapes or {name for name, _ in bones} <= {name for name, _ in plain}
            assert set(bones) <= {bone for shape in shapes for bone in shape} | plain


def failing(texts: list[str]) -> list[str]:
    """The pages over as many backends, each refused in one of these texts."""
    backends = {
        f"b{n}": Backend(f"b{n}", BUCKET, "us-east-1", None, "", str.isascii, lambda _: Policy())
        for n in range(len(texts))
    }
    reports = [refused(backend, text) for backend, text in zip(backends.values(), texts, strict=True)]
    client = web([], reports, backends).client
    return [fetched(client, "/health")]


def refused(backend: Backend, text: str) -> BackendReport:
    """The report of a refresh whose listing S3 answers with an error in these words."""
    said = NOT_IN_XML.sub("\ufffd", text[:5000])
    STATES.answer = lambda _: s3_error(403, XML_NAME.sub("", said)[:100] or "AccessDenied", said)
    clock = FakeClock()
    report = Refresher(backend, STATES.states, None, FakeInventory(), clock, clock.monotonic).refresh()
    assert report.error
    return report


NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
XML_NAME = re.compile(r"[<&>\s]")


class _States:
    """One reader for all, answered anew by each test."""

    def __init__(self) -> None:
        with stub_aws(lambda _: s3_error(500, "never")) as stub:
            client = stub.client("s3")
        self.answer: Callable[[Asked], Answer] = Aws().s3
        connect(client, lambda asked: self.answer(asked))  # noqa: PLW0108 - as it is then
        self.states = S3States(client, BUCKET, lambda: datetime(2026, 11, 20, 18, tzinfo=UTC))


STATES = _States()


def test_what_the_command_line_prints_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row for row in _rows() if row["severity"] == "attention"]
    _print_table(iter(rows), [], everything=True)
    said = capsys.readouterr().out

    assert not unfit(said)
    assert said.count("\n") >= 2 * len(rows)


def _rows() -> Iterator[Mapping[str, object]]:
    """Every text as the refresher stores it."""
    backend = Backend("b", BUCKET, "us-east-1", "t", "", str.isascii, lambda _: Policy())
    for payload in payloads():
        found = lock_from_item({"S": payload.text[:5000]})
        seen = Observation("b", BUCKET, payload.text[:900], None, None, found, None, has_table=True)
        yield judge(seen, Memo(), backend, NOW, "")[0].document
