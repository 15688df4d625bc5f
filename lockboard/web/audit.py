"""The audit log: the list of its records, one of them whole, its exports, and checking the chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, timedelta
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import quote

from flask import Blueprint, Response, abort, request

from lockboard.domain.access import Permission
from lockboard.domain.audit import (
    SHORTEST_KEY,
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
    Verification,
)
from lockboard.domain.inventory import StateRow
from lockboard.domain.text import shown, spoken_time
from lockboard.domain.undo import LOCK_RETURNS_WITHIN, UNDO, can_be_undone
from lockboard.web import audit_exports
from lockboard.web.access import may, visitor
from lockboard.web.audit_asked import NAMES, AskedAudit, asked_audit
from lockboard.web.audit_rows import (
    Line,
    changes,
    happened,
    line,
    lines,
    pretty,
    replies,
    seen,
    when,
)
from lockboard.web.audit_words import (
    ACTION_TITLES,
    KIND_MEANINGS,
    KIND_TITLES,
    RESULT_MEANINGS,
    RESULT_TITLES,
    day_words,
)
from lockboard.web.board import Choice, Empty
from lockboard.web.desk import Desk, answer, frame, render, see_other
from lockboard.web.times import NEVER, Moment, Times
from lockboard.web.ways import way_to

_ABROAD = ("cross-site", "same-site")
_LARGEST_SEQ = 2**63 - 1
_COPIED = 20_000
_OF_STATE = 20
_NAMED = 5
_PERIODS = (("Today", 1), ("Last 7 days", 7), ("Last 30 days", 30))
_NO_KEY = (
    "Lockboard keeps an audit log once the environment sets LOCKBOARD_AUDIT_KEY (or names a file in"
    f" LOCKBOARD_AUDIT_KEY_FILE): a secret of at least {SHORTEST_KEY} bytes, which chains every record"
    " to the one before it. Until then nothing is recorded here, and no action is offered."
)


_BROKEN = (
    "Switch actions off. Keep a copy of the database, of its backups and of every witness's lines. Check"
    " copies with --no-record, which leaves them as they are. Compare the records from this one on with the"
    " newest backup that verifies, and with CloudTrail."
)
_BROKEN_AT_ONCE = " The key may be another, too: try the one that the log was made with."


class Chain(NamedTuple):
    """What is known of the chain. tone, icon: of its mark.  title: one sentence.  text: what it does and does
    not prove.  bad: the first record that is not as it was written, 0 where none is known.  advice: what to
    do where it is broken.
    """

    tone: str
    icon: str
    title: str
    text: str
    bad: int = 0
    advice: str = ""


class Undoing(NamedTuple):
    """Where a change can be taken back, "" where it cannot.  until: how long, where that is short."""

    url: str = ""
    until: Moment = NEVER


class OfState(NamedTuple):
    """What the log has of one state: a line for each attempt, newest first, and where to read on.

    undo: of the newest change, `undo_seq`.  unread: the log does not answer, so nothing is known of it.
    """

    lines: Sequence[Line] = ()
    total: int = 0
    url: str = ""
    undo_seq: int = 0
    undo: Undoing = Undoing()
    unread: bool = False


def blueprint(desk: Desk) -> Blueprint:
    """The routes of the audit log."""
    pages = Blueprint("audit", __name__)
    checking = Lock()

    @pages.get("/audit")
    def log() -> Response:
        if desk.audit is None:
            return answer(_nothing_kept())
        wanted = asked_audit(request.args)
        if any(not value for name, value in request.args.items() if name in NAMES):
            return see_other(wanted.url())  # a form sends empty fields, too
        return answer(render("audit/log.html", **log_page(desk, desk.audit, wanted)))

    @pages.get("/audit/<int:seq>")
    def record(seq: int) -> Response:
        audit = _kept(desk)
        found = audit.record(seq) if 0 < seq <= _LARGEST_SEQ else None
        if found is None:
            head = audit.head()
            abort(404, _no_record(seq, head))
        return answer(
            render("audit/record.html", **record_page(desk, audit, found, asked_audit(request.args)))
        )

    @pages.get("/audit.csv")
    def as_csv() -> Response:
        return export(desk, "csv")

    @pages.get("/audit.jsonl")
    def as_jsonl() -> Response:
        return export(desk, "jsonl")

    @pages.post("/audit/verify")
    def verify() -> Response:
        audit = _kept(desk)
        if not checking.acquire(blocking=False):
            abort(409, "The chain is being checked at this moment. Its result stands on the audit page.")
        try:
            found = audit.verify()
        finally:
            checking.release()
        _note(audit, _verified(found, visitor().actor.person), broken=not found.ok)
        return see_other("/audit#chain")

    return pages


def _no_record(seq: int, head: Head | None) -> str:
    """The same of a record that is not there and of one about keys that the visitor may not see."""
    if not visitor().actor.rights.everywhere(Permission.AUDIT):
        return f"There is no record {min(seq, _LARGEST_SEQ)} that you may read."
    ends = f"it ends with {head.seq}." if head else "it is empty."
    return f"The log has no record {min(seq, _LARGEST_SEQ)}: {ends}"


def log_page(desk: Desk, audit: Audit, wanted: AskedAudit) -> dict[str, object]:
    """Everything the list's template prints."""
    times = desk.times()
    page, first, pending = audit.page(wanted.query(AuditQuery().limit)), audit.first(), audit.open_intents()
    return {
        **frame("Audit log"),
        "asked": wanted,
        "canonical": wanted.url(),
        "query": wanted.but().string(),
        "from_here": f"?{wanted.string()}" if wanted.string() else "",
        "periods": _periods(wanted, times),
        "window": _window(wanted, page, first),
        "begins": day_words(when(first)) if first else "",
        "rows": lines(page.records, {record.entry.action_id for record in pending}, times),
        "open": [line(one, times, is_open=True) for one in pending[:_NAMED]],
        "open_count": len(pending),
        "tabs": _tabs(wanted),
        "fields": _fields(audit, wanted),
        "hidden": [(name, value) for name, value in wanted.but().pairs() if name in _NOT_IN_FORM],
        "chips": wanted.chips(),
        "pager": _pager(wanted, page),
        "empty": None if page.records else _empty(wanted, first),
        "chain": chain(audit),
        "now": spoken_time(times.now),
    }


def record_page(desk: Desk, audit: Audit, record: Record, wanted: AskedAudit) -> dict[str, object]:
    """Everything a record's template prints. wanted: the list that the reader came from."""
    times, entry = desk.times(), record.entry
    attempt = audit.of_action(entry.action_id) if entry.action_id else [record]
    is_open = entry.kind is Kind.INTENT and not any(one.entry.kind is Kind.OUTCOME for one in attempt)
    intended = next((one.entry.facts for one in attempt if one.entry.kind is Kind.INTENT), None)
    before = audit.record(record.seq - 1) if record.seq > 1 else None
    newer, older = _beside(audit, record, wanted)
    body, proof = record.body, chain(audit)
    return {
        **frame(f"Record {record.seq}"),
        "record": record,
        "line": line(record, times, intended, is_open=is_open),
        "meaning": RESULT_MEANINGS.get(entry.result, ""),
        "kind_meaning": KIND_MEANINGS[entry.kind],
        "is_open": is_open,
        "bucket": shown(entry.bucket, 300),
        "state_known": bool(entry.state_id) and desk.board.state(entry.state_id) is not None,
        "changes": changes(entry.facts, intended),
        "happened": happened(record),
        "replies": replies(entry.facts),
        "seen": seen(entry.facts, intended),
        "others": lines([one for one in attempt if one.seq != record.seq], (), times),
        "pretty": pretty(entry.facts) if entry.facts else "",
        "body": body,
        "copy_body": body if len(body) <= _COPIED else "",
        "mac_before": before.mac if before else "",
        "newer": newer,
        "older": older,
        "from_here": f"?{wanted.string()}" if wanted.string() else "",
        "back": f"{wanted.url()}#a-{record.seq}",
        "list_words": wanted.words(),
        "attempt_url": AskedAudit(action_id=entry.action_id).url() if entry.action_id else "",
        "person_url": AskedAudit(person=entry.person.name).url() if entry.person.name else "",
        "ticket_url": AskedAudit(ticket=entry.ticket).url() if entry.ticket else "",
        "state_url": AskedAudit(state_id=entry.state_id).url() if entry.state_id else "",
        "chain": proof,
        "doubtful": 0 < proof.bad <= record.seq,
        "undoes": _undone(entry),
        "undo": undoing(desk, record, times),
        "reconciled": entry.facts.get("reconciled") is True,
    }


def undoing(desk: Desk, record: Record, times: Times) -> Undoing:
    """Where this change can be taken back; the page there looks whether it still can."""
    entry = record.entry
    if desk.actions is None or not entry.state_id or not can_be_undone(record):
        return Undoing()
    if not may(Permission.ACT, entry.backend, entry.key):
        return Undoing()
    url = way_to(quote(record.entry.state_id, safe="", errors="replace"), UNDO, version=str(record.seq))
    if not record.entry.facts["plan"].get("releases"):
        return Undoing(url)
    end = when(record) + LOCK_RETURNS_WITHIN
    return Undoing(url, times.moment(end)) if times.now < end else Undoing()


def _beside(audit: Audit, record: Record, wanted: AskedAudit) -> tuple[int, int]:
    """The records above and below it in the list that the reader came from, 0 where none is."""
    one = wanted.query(1)
    newer = audit.page(replace(one, before=None, after=record.seq)).records
    older = audit.page(replace(one, before=record.seq, after=None)).records
    return (newer[0].seq if newer else 0), (older[0].seq if older else 0)


def _undone(entry: Entry) -> int:
    """The number of the record that this attempt takes back, 0 where it takes none back."""
    found = entry.facts.get("undoes")
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else 0


def audit_lines(desk: Desk, row: StateRow, times: Times) -> OfState | None:
    """One state's attempts for its own page (`audit/_of_state.html`); None where no log is kept, or the
    visitor may not read it.

    An intent that has its outcome is left out: the outcome tells the story. Only the newest change can be
    taken back from here. A log that cannot be read hides nothing else of the state.
    """
    if desk.audit is None or not may(Permission.AUDIT, row.backend, row.raw_key):
        return None
    try:
        page = desk.audit.page(AuditQuery(state_id=row.id, limit=_OF_STATE))
        pending = {record.entry.action_id for record in desk.audit.open_intents()}
    except AuditError:
        return OfState(unread=True)
    told = [
        record
        for record in page.records
        if record.entry.kind is not Kind.INTENT or record.entry.action_id in pending
    ]
    newest = next((record for record in told if record.entry.result == Result.DONE), None)
    return OfState(
        lines(told, pending, times),
        page.total,
        AskedAudit(state_id=row.id).url(),
        newest.seq if newest else 0,
        undoing(desk, newest, times) if newest else Undoing(),
    )


def chain(audit: Audit) -> Chain:
    """What the last check of the chain said, and what it cannot say."""
    last = audit.last_verification()
    if last is None:
        return Chain(
            "unknown",
            "plan-unknown",
            "The chain has not been checked since Lockboard started",
            "Checking reads every record and compares its MAC.",
        )
    when, found = last
    at = spoken_time(when)
    if not found.ok:
        return Chain(
            "critical",
            "danger",
            f"Chain broken at record {found.bad_seq:,}, found at {at}"
            if found.bad_seq
            else f"Chain broken, found at {at}",
            f"{_sentence(found.problem)} {_sound(found)}",
            found.bad_seq or 0,
            _BROKEN + (_BROKEN_AT_ONCE if found.bad_seq == 1 else ""),
        )
    if found.head is None:
        return Chain("ok", "plan-works", f"Nothing to verify: the log was empty at {at}", _tail(found))
    title = f"Chain verified to record {found.head.seq:,} at {at}"
    return Chain(
        "ok", "plan-works", title, f"No record up to it was changed, removed or added. {_tail(found)}"
    )


def _sentence(text: str) -> str:
    said = shown(text).rstrip(".")
    return f"{said[:1].upper()}{said[1:]}."


def _sound(found: Verification) -> str:
    if not found.checked:
        return "Nothing in the log can be relied on."
    return f"Records up to {found.checked:,} are as they were written; what follows cannot be relied on."


def _tail(found: Verification) -> str:
    if found.tail_proven:
        return "The heads that the witness holds lie in it."
    return "Whether records were cut off at its end shows only beside a witness's heads."


def _kept(desk: Desk) -> Audit:
    if desk.audit is None:
        abort(404, f"No audit log is kept. {_NO_KEY}")
    return desk.audit


def export(desk: Desk, form: str) -> Response:
    """The log as one of `audit_exports.FORMATS`. It is recorded, so no page elsewhere may begin it."""
    audit, wanted = _kept(desk), asked_audit(request.args)
    if request.headers.get("Sec-Fetch-Site") in _ABROAD:
        abort(403, "An export is recorded, so it starts on Lockboard's own page and not on another site's.")
    if request.method == "HEAD":
        return Response(content_type=audit_exports.FORMATS[form])
    return audit_exports.export(audit, wanted, visitor().actor, form)


def _note(audit: Audit, entry: Entry, *, broken: bool) -> None:
    """A log that is broken at its end takes no record, and the page says that it is broken."""
    try:
        audit.append(entry)
    except AuditError:
        if not broken:
            raise


def _verified(found: Verification, person: Person) -> Entry:
    head = found.head
    return Entry(
        kind=Kind.EVENT,
        action="verify",
        person=person,
        message=f"The chain is broken: {found.problem}"
        if not found.ok
        else f"Verified the chain to record {head.seq}."
        if head
        else "Verified the chain: the log is empty.",
        facts={
            "checked": found.checked,
            "head_seq": head.seq if head else 0,
            "head_mac": head.mac if head else "",
            "bad_seq": found.bad_seq,
            "problem": found.problem,
            "tail_proven": found.tail_proven,
        },
    )


# ---------------------------------------------------------------- parts of the list


_NOT_IN_FORM = ("kind", "backend", "state_id", "action_id")


def _nothing_kept() -> str:
    empty = Empty("settings", "No audit log is kept", _NO_KEY, "/settings", "Settings in force")
    return render("audit/none.html", **frame("Audit log"), empty=empty)


def _window(wanted: AskedAudit, page: AuditPage, first: Record | None) -> str:
    """The days, and how many records."""
    count = f"more than {page.total:,}" if page.capped else f"{page.total:,}"
    noun = "record" if page.total == 1 and not page.capped else "records"
    verb = (" matches" if noun == "record" else " match") if wanted.narrowed else ""
    days = wanted.window()
    return f"{days or 'The whole log'}, {count} {noun}{verb}"


def _tabs(wanted: AskedAudit) -> list[Choice]:
    titles: Mapping[str, str] = {"": "All records"} | {
        str(kind): f"{title}s" for kind, title in KIND_TITLES.items()
    }
    return [
        Choice(wanted.but(kind=kind).url(), title, None, kind == wanted.kind)
        for kind, title in titles.items()
    ]


def _periods(wanted: AskedAudit, times: Times) -> list[Choice]:
    """The days people ask for most, up to today, in UTC."""
    today = times.now.astimezone(UTC).date()
    starts = [(title, today - timedelta(days=days - 1)) for title, days in _PERIODS]
    asked = (wanted.since, wanted.until)
    found = [
        Choice(wanted.but(since=start, until=None).url(), title, None, asked == (start, None))
        for title, start in starts
    ]
    return [*found, Choice(wanted.but(since=None, until=None).url(), "All days", None, asked == (None, None))]


def _fields(audit: Audit, wanted: AskedAudit) -> dict[str, Any]:
    """What the form offers; a value that is in force is always among it."""
    people = [*audit.people()]
    if wanted.person and wanted.person not in people:
        people.append(wanted.person)
    actions = dict(ACTION_TITLES)
    if wanted.action:
        actions.setdefault(wanted.action, wanted.action)
    return {
        "people": [(name, shown(name, 120)) for name in people if name],
        "actions": list(actions.items()),
        "results": [(str(result), RESULT_TITLES[result]) for result in Result],
    }


def _pager(wanted: AskedAudit, page: AuditPage) -> dict[str, str]:
    return {
        "newest": wanted.but().url() if wanted.paged else "",
        "newer": wanted.but(after=page.newer).url() if page.newer is not None else "",
        "older": wanted.but(before=page.older).url() if page.older is not None else "",
    }


def _empty(wanted: AskedAudit, first: Record | None) -> Empty:
    if first is None:
        return Empty(
            "calm",
            "The log is empty",
            "Every action, every refusal and every export is recorded from now on.",
        )
    if wanted.paged:
        return Empty(
            "match", "This page is empty", "No record lies there.", wanted.but().url(), "To the newest"
        )
    return Empty(
        "match",
        "No record matches",
        f"None has all of what is asked for above. The log begins {day_words(when(first))}.",
        "/audit",
        "Clear every filter",
    )
