"""An audit log in memory, and a week of made-up records: `Audit` for the tests of the pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from flask.testing import FlaskClient

from lockboard.domain.access import Rights
from lockboard.domain.audit import (
    GENESIS,
    LOCKBOARD,
    AlreadyRecorded,
    Audit,
    AuditError,
    AuditPage,
    AuditQuery,
    Entry,
    Head,
    Kind,
    Person,
    Record,
    Result,
    Stored,
    Verification,
    body_of,
    mac_of,
    verify,
    visible,
)
from lockboard.domain.keys import state_id
from lockboard.domain.ports import Clock
from lockboard.web.app import Services, build_app
from tests.web.entrances import ALL_RIGHTS, always, with_own_forms
from tests.web.fake_actions import FakeActions
from tests.web.fakes import BACKENDS, SETTINGS, FakeBoard, Recheck, Ticking, estate, report

KEY = b"k" * 32
KIM = Person("kim", "loopback", "127.0.0.1")
ALEX = Person("alex@acme.example", "demo", "10.20.30.40")
COUNTED = 10_000


class FakeAudit:
    """`Audit` in a list. `broken`: no record is taken.  asked: the queries of `page` and `export`.
    after_intent: happens as an intent was taken.
    """

    def __init__(self, clock: Clock, records: Sequence[Record] = ()) -> None:
        self.clock, self.records = clock, list(records)
        self.broken = False
        self.asked: list[AuditQuery] = []
        self.checks = 0
        self.counted = COUNTED
        self.after_intent: Callable[[], None] = lambda: None
        self.during_check: Callable[[], None] = lambda: None
        self._last: tuple[datetime, Verification] | None = None

    def append(self, entry: Entry) -> Record:
        if self.broken:
            raise AuditError("the database is read-only")
        if entry.kind in (Kind.INTENT, Kind.OUTCOME) and any(
            (r.entry.kind, r.entry.action_id) == (entry.kind, entry.action_id) for r in self.records
        ):
            raise AlreadyRecorded("it has one already")
        self.put(self.clock(), entry)
        taken = self.records[-1]
        if entry.kind is Kind.INTENT:
            self.after_intent()
        return taken

    def put(self, at: datetime, entry: Entry) -> None:
        """As of any time."""
        seq, body = len(self.records) + 1, body_of(at, entry)
        previous = self.records[-1].mac if self.records else GENESIS
        self.records.append(Record(seq, at, entry, body, mac_of(KEY, seq, previous, body)))

    def record(self, seq: int) -> Record | None:
        return next((r for r in self.records if r.seq == seq), None)

    def of_action(self, action_id: str) -> Sequence[Record]:
        return [r for r in self.records if r.entry.action_id == action_id]

    def open_intents(self) -> Sequence[Record]:
        told = {r.entry.action_id for r in self.records if r.entry.kind is Kind.OUTCOME}
        return [r for r in self.records if r.entry.kind is Kind.INTENT and r.entry.action_id not in told]

    def page(self, query: AuditQuery) -> AuditPage:
        self.asked.append(query)
        found = self._matching(query)
        if query.after is not None:
            part = [r for r in found if r.seq > query.after][-query.limit :]
        else:
            part = [r for r in found if query.before is None or r.seq < query.before][: query.limit]
        older = bool(part) and part[-1].seq != found[-1].seq
        newer = bool(part) and part[0].seq != found[0].seq
        return AuditPage(
            part,
            part[-1].seq if older else None,
            part[0].seq if newer else None,
            min(len(found), self.counted),
            capped=len(found) > self.counted,
        )

    def people(self) -> Sequence[str]:
        return sorted({r.entry.person.name for r in self.records})[:200]

    def export(self, query: AuditQuery) -> Iterator[Record]:
        self.asked.append(query)
        yield from self._matching(query)

    def first(self) -> Record | None:
        return self.records[0] if self.records else None

    def head(self) -> Head | None:
        return Head(self.records[-1].seq, self.records[-1].mac) if self.records else None

    def verify(self, heads: Sequence[Head] = ()) -> Verification:
        self.checks += 1
        self.during_check()
        found = verify([Stored(r.seq, r.body, r.mac, {}) for r in self.records], KEY, heads)
        self._last = (self.clock(), found)
        return found

    def last_verification(self) -> tuple[datetime, Verification] | None:
        return self._last

    def tamper(self, seq: int) -> None:
        """Somebody with access to the database edits a reason."""
        found = self.records[seq - 1]
        entry = replace(found.entry, reason="nothing to see here")
        self.records[seq - 1] = replace(found, entry=entry, body=body_of(found.at, entry))

    def _matching(self, query: AuditQuery) -> list[Record]:
        return [record for record in reversed(self.records) if _passes(query, record)]


def _passes(query: AuditQuery, record: Record) -> bool:
    entry = record.entry
    exact = (
        (query.person, entry.person.name),
        (query.action, entry.action),
        (query.kind, entry.kind.value),
        (query.result, entry.result),
        (query.backend, entry.backend),
        (query.ticket, entry.ticket),
        (query.state_id, entry.state_id),
        (query.action_id, entry.action_id),
    )
    return (
        visible(entry, query.scope)
        and all(wanted in ("", value) for wanted, value in exact)
        and all(word in entry.key.lower() for word in query.key.lower().split())
        and (query.since is None or record.at >= query.since)
        and (query.until is None or record.at < query.until)
    )


def uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def lock(
    store: str = "dynamodb", who: str | None = "root@runner-t3qyxf-project-7120", **changes: Any
) -> dict[str, Any]:
    """A lock record as a plan's facts have it."""
    raw = f'{{"ID":"6dbcc1a4-52bc-0b13-1e4f-9a8b7c6d5e4f","Who":"{who}","Operation":"OperationTypeApply"}}'
    return {
        "store": store,
        "id": "6dbcc1a4-52bc-0b13-1e4f-9a8b7c6d5e4f",
        "who": who,
        "operation": "OperationTypeApply",
        "raw": raw,
        "attribute": {"S": raw} if store == "dynamodb" else None,
        "etag": None if store == "dynamodb" else "9b2cf535f27731c974343645a3985328",
        "version_id": None,
        **changes,
    }


def plan(**parts: Any) -> dict[str, Any]:
    """A plan as an intent's facts have it: nothing is changed but the parts given."""
    nothing: dict[str, Any] = {
        "releases": [],
        "puts_back": [],
        "over": [],
        "standing": None,
        "restores": None,
        "digest": None,
    }
    return {"table": "terraform-lock", "held": False, **nothing, **parts}


UNLOCK = plan(releases=[lock()])
REPAIR = plan(
    held=True,
    standing={
        "etag": "a" * 32,
        "version_id": "v-7",
        "md5": "1a2b3c4d5e6f708192a3b4c5d6e7f809",
        "size": 5321,
        "serial": 12,
    },
    digest={
        "absent": False,
        "old": {"S": "fad67a84f7ddef1a9de62c85afc3b70a"},
        "new": "1a2b3c4d5e6f708192a3b4c5d6e7f809",
    },
)
RESTORE = plan(
    held=True,
    restores={
        "version_id": "v-41",
        "md5": "fad67a84f7ddef1a9de62c85afc3b70a",
        "size": 5300,
        "serial": 41,
        "lineage": "3f8c1c1e-6d0a-4b7e-9c55-0a1b2c3d4e5f",
        "written": "2026-11-18 09:12:44 UTC",
        "resources": 37,
    },
)


SEEN: dict[str, Any] = {
    "content": "ok",
    "lock": "lock_stale",
    "terraform": "waits",
    "summary": "Suspected stale: held since 2026-11-02 09:12:44 UTC, longer than the limit of 1 h.",
    "evidence": [
        {"fact": "State written 2026-10-20 08:07:04 UTC, 6412 bytes.", "source": "S3"},
        {"fact": "No state write since this lock was taken.", "source": "DynamoDB"},
    ],
}
"""What a reading told, as an intent keeps it."""


def receipt(operation: str, sent: str = "done", number: int = 1) -> dict[str, Any]:
    return {
        "operation": operation,
        "sent": sent,
        "request_id": f"REQ{number:04d}EXAMPLE",
        "detail": "",
        "version_id": None,
        "etag": None,
    }


def attempt(
    number: int,
    action: str,
    place: tuple[str, str],
    person: Person = KIM,
    *,
    reason: str = "runner was killed",
    ticket: str = "",
    result: str = Result.DONE,
    message: str = "",
    facts: dict[str, Any] | None = None,
) -> tuple[Entry, Entry]:
    """Intent and outcome of one change."""
    backend, key = place
    intent = Entry(
        kind=Kind.INTENT,
        action=action,
        person=person,
        action_id=uuid(number),
        backend=backend,
        bucket=f"acme-{backend}-tfstate",
        key=key,
        state_id=state_id(backend, key),
        reason=reason,
        ticket=ticket,
        facts={"plan": facts or UNLOCK, "lockboard": "0.1.0", "seen": SEEN},
    )
    told = {"plan": facts or UNLOCK, "steps": [receipt("dynamodb:DeleteItem", number=number)]}
    return intent, replace(intent, kind=Kind.OUTCOME, result=result, message=message, facts=told)


IAM = ("prod-kr", "Prod/terraform/iam/terraform.tfstate")
RDS = ("prod-kr", "Prod/terraform/rds/terraform.tfstate")
CDN = ("prod-kr", "cdn/edge.tfstate")
BATCH = ("dev-kr", "batch/remote")


def week(clock: Clock) -> FakeAudit:
    """One record of every kind and result: begins on 3 Feb 2026, the last intent is still open."""
    log, now = FakeAudit(clock), clock()
    log.put(
        now - timedelta(days=290, hours=9),
        Entry(Kind.EVENT, "start", LOCKBOARD, message="Lockboard 0.1.0 started."),
    )
    told = (
        (18, attempt(1, "force_unlock", IAM, ticket="OPS-1841", message="The lock item is removed.")),
        (17, attempt(2, "restore_version", RDS, ALEX, reason="deleted in the console", facts=RESTORE)),
        (
            9,
            attempt(
                3,
                "set_digest",
                CDN,
                ALEX,
                result=Result.FAILED,
                message="The condition was refused.",
                facts=REPAIR,
            ),
        ),
        (
            3,
            attempt(
                4, "force_unlock", BATCH, result=Result.UNKNOWN, message="No reply came that can be trusted."
            ),
        ),
    )
    for days, (intent, outcome) in told:
        log.put(now - timedelta(days=days, seconds=2), intent)
        log.put(now - timedelta(days=days), outcome)
    refused = replace(
        attempt(5, "force_unlock", IAM, ALEX)[0],
        kind=Kind.REFUSAL,
        facts={"lockboard": "0.1.0", "seen": SEEN},
    )
    log.put(
        now - timedelta(days=2),
        replace(refused, result=Result.REFUSED, message="The lock is not as the page showed it."),
    )
    gone = replace(refused, action_id=uuid(6), result=Result.NO_CHANGE, message="No lock is held any more.")
    log.put(now - timedelta(days=1), gone)
    log.put(
        now - timedelta(hours=1),
        Entry(Kind.EVENT, "heartbeat", LOCKBOARD, message="Nothing happened for an hour."),
    )
    log.put(now - timedelta(seconds=12), attempt(7, "take_over", CDN, reason="laptop lost", facts=REPAIR)[0])
    return log


@dataclass
class AuditSite:
    """The application over a log in memory; everybody who asks is KIM, at the address asked from."""

    log: FakeAudit
    clock: Ticking
    client: FlaskClient


def site(
    made: Callable[[Clock], FakeAudit] = week,
    *,
    kept: bool = True,
    acts: bool = False,
    rights: Rights = ALL_RIGHTS,
) -> AuditSite:
    """Actions are off unless `acts`."""
    clock = Ticking()
    log = made(clock)
    return AuditSite(log, clock, client_over(log if kept else None, clock, acts=acts, rights=rights))


def client_over(
    log: Audit | None, clock: Ticking, *, acts: bool = False, rights: Rights = ALL_RIGHTS
) -> FlaskClient:
    """The application over any log."""
    board = FakeBoard(estate(), [report(name) for name in BACKENDS])
    services = Services(
        board,
        BACKENDS,
        Recheck(board),
        SETTINGS,
        clock,
        timedelta(seconds=15),
        "0.1.0",
        always(KIM.name, KIM.method, rights, clock),
        limited=False,
        audit=log,
        actions=FakeActions(board, BACKENDS, log, clock).as_actions() if acts and log else None,
    )
    return with_own_forms(build_app(services, monotonic=clock.monotonic)).test_client()
