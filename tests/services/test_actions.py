"""Actions from the page to the record: what is done, what is refused, and what is said when the reply is lost
or the process dies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from lockboard.domain.audit import AuditError, Kind, Record, Result
from lockboard.domain.errors import ReadError
from lockboard.domain.keys import LOCKFILE_SUFFIX, digest_id, lock_id, state_id
from lockboard.domain.locks import parse_lock_info
from lockboard.domain.model import Action, Policy, Unread
from lockboard.domain.plans import Plan, Refused, Wanted
from lockboard.domain.ports import TableItem
from lockboard.domain.writes import SLOWEST
from lockboard.services.actions import Actions
from lockboard.services.attempts import Form, Halted, UnknownState
from lockboard.services.reconcile import DEAD_AFTER, Reconciler
from lockboard.services.tickets import BadToken
from tests.services.action_fakes import ACTOR, FORM, KIM, Fault, Killed, World
from tests.services.fakes import Estate, FakeTable, info_json, md5, state_body

KEY = "team/vpc/terraform.tfstate"
FILE = KEY + LOCKFILE_SUFFIX
ITEM, DIGEST = lock_id("b", KEY), digest_id("b", KEY)
HOUR = 3600.0


def settle(world: World) -> World:
    """Seen twice, so that a mismatch is one."""
    world.estate.refresh()
    world.estate.refresh(after=20)
    world.committed.clear()
    return world


def stale(*, table: bool = True, file: bool = True) -> World:
    """A healthy state under a lock that nobody has written under for hours."""
    world = World()
    world.estate.apply(KEY)
    world.estate.clock.pass_(1)
    world.estate.lock(KEY, table=table, file=file)
    world.estate.clock.pass_(3 * HOUR)
    return settle(world)


def deleted() -> World:
    """Deleted by hand; the digest still names the last version."""
    world = World()
    world.estate.apply(KEY, 3)
    world.estate.bucket.delete(KEY)
    return settle(world)


def behind() -> World:
    """The digest write of serial 2 was lost."""
    world = World()
    world.estate.apply(KEY, 1)
    world.estate.apply(KEY, 2, digest=False)
    return settle(world)


def rolled_back() -> World:
    """An older object was put over the newest: the digest names the newest."""
    world = World()
    old, new = state_body(1), state_body(2)
    world.estate.bucket.put(KEY, old)
    world.estate.bucket.put(KEY, new)
    world.estate.set_digest(KEY, md5(new))
    world.estate.bucket.put(KEY, old)
    return settle(world)


def orphan() -> World:
    """Nothing is left but a digest that names nothing."""
    world = World()
    world.estate.apply(KEY)
    world.estate.set_digest(KEY, "a" * 32)
    world.estate.bucket.delete(KEY)
    return settle(world)


def crashed() -> World:
    """State written under a lock, digest not, and the holder is gone."""
    world = World()
    world.estate.apply(KEY, 1)
    world.estate.clock.pass_(60)
    world.estate.lock(KEY, file=True)
    world.estate.clock.pass_(5)
    world.estate.apply(KEY, 2, digest=False)
    world.estate.clock.pass_(3 * HOUR)
    return settle(world)


@dataclass(frozen=True)
class Case:
    """A situation, the action on it, the writes it takes, and a look at whether it is mended."""

    make: Callable[[], World]
    wanted: Wanted
    writes: tuple[str, ...]
    mended: Callable[[World], bool]
    untouched: Callable[[World], bool]


def lock_is_gone(world: World) -> bool:
    return ITEM not in world.estate.table.items and world.estate.bucket.current(FILE) is None


def lock_stands(world: World) -> bool:
    return ITEM in world.estate.table.items and world.estate.bucket.current(FILE) is not None


def digest(world: World) -> object:
    item = world.estate.table.items.get(DIGEST)
    return item.digest["S"] if item and item.digest else None


def body(world: World) -> bytes | None:
    found = world.estate.bucket.current(KEY)
    return found.body if found else None


TAKE = ("take_lockfile", "take_lock")
RELEASE = ("release_lockfile", "release_lock")
CASES = {
    "unlock": Case(stale, Wanted(Action.FORCE_UNLOCK), RELEASE, lock_is_gone, lock_stands),
    "set digest": Case(
        behind,
        Wanted(Action.SET_DIGEST),
        (*TAKE, "change_digest", *RELEASE),
        lambda w: digest(w) == md5(state_body(2)),
        lambda w: digest(w) == md5(state_body(1)),
    ),
    "clear digest": Case(
        orphan,
        Wanted(Action.CLEAR_DIGEST),
        (*TAKE, "change_digest", *RELEASE),
        lambda w: digest(w) is None,
        lambda w: digest(w) == "a" * 32,
    ),
    "undelete": Case(
        deleted,
        Wanted(Action.RESTORE_VERSION, version_id="v1"),
        (*TAKE, "put_state", *RELEASE),
        lambda w: body(w) == state_body(3) and digest(w) == md5(state_body(3)),
        lambda w: body(w) is None,
    ),
    "restore over a live object": Case(
        rolled_back,
        Wanted(Action.RESTORE_VERSION, version_id="v2"),
        (*TAKE, "put_state", *RELEASE),
        lambda w: body(w) == state_body(2) and digest(w) == md5(state_body(2)),
        lambda w: body(w) == state_body(1),
    ),
    "restore with its digest": Case(
        behind,
        Wanted(Action.RESTORE_VERSION, version_id="v1"),
        (*TAKE, "put_state", *RELEASE),
        lambda w: body(w) == state_body(1) and digest(w) == md5(state_body(1)),
        lambda w: body(w) == state_body(2),
    ),
    "take over": Case(
        crashed,
        Wanted(Action.TAKE_OVER),
        ("take_lockfile", "replace_lock", "change_digest", *RELEASE),
        lambda w: digest(w) == md5(state_body(2)),
        lambda w: digest(w) == md5(state_body(1)),
    ),
}
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def outcome(world: World) -> Record:
    return world.audit.records[-1]


def ours(world: World) -> bool:
    """Whether a lock of Lockboard stands anywhere."""
    item, file = world.estate.table.items.get(ITEM), world.estate.bucket.current(FILE)
    texts = [str(item.info) if item else "", (file.body or b"").decode() if file else ""]
    return any("lockboard-" in text for text in texts)


# ---------------------------------------------------------------- what goes well


@EVERY
def test_an_action_mends_what_it_is_for_with_exactly_its_writes(case: Case) -> None:
    world = case.make()

    answer = world.confirm(world.look(KEY, case.wanted))

    assert (answer.result, answer.problems, answer.moved) == (Result.DONE, (), False)
    assert tuple(name for name, _ in world.committed) == case.writes
    assert case.mended(world)
    assert lock_is_gone(world)


@EVERY
def test_intent_and_outcome_are_recorded_around_the_change(case: Case) -> None:
    world = case.make()

    answer = world.confirm(world.look(KEY, case.wanted))

    intent, told = (record.entry for record in world.audit.records)
    assert (intent.kind, told.kind, told.result) == (Kind.INTENT, Kind.OUTCOME, "done")
    assert {intent.action_id, told.action_id} == {answer.action_id}
    assert (told.person, told.reason, told.ticket, told.key) == (KIM, FORM.reason, FORM.ticket, KEY)
    assert told.facts["plan"] == intent.facts["plan"]
    assert [step["request_id"] for step in told.facts["steps"]] == ["r-1"] * len(case.writes)
    assert answer.record == 2


@EVERY
def test_no_version_is_ever_removed(case: Case) -> None:
    world = case.make()
    before = list(world.estate.bucket.versions.get(KEY, ()))

    world.confirm(world.look(KEY, case.wanted))

    assert world.estate.bucket.versions.get(KEY, [])[-len(before) :] == before if before else True


def test_the_exact_record_of_a_removed_lock_is_kept() -> None:
    world = stale()
    raw = world.estate.table.items[ITEM].info

    world.act(KEY, Action.FORCE_UNLOCK)

    file, item = outcome(world).entry.facts["plan"]["releases"]
    assert item["attribute"] == raw
    assert file["raw"] == raw["S"]  # type: ignore[index]


def test_the_intent_keeps_on_what_evidence_it_was_decided() -> None:
    world = stale()

    world.act(KEY, Action.FORCE_UNLOCK)

    seen = world.audit.records[0].entry.facts["seen"]
    assert (seen["content"], seen["lock"], seen["terraform"]) == ("ok", "lock_stale", "waits")
    assert seen["summary"].startswith("Suspected stale: held by ")
    assert {"fact": "No state write since this lock was taken.", "source": "DynamoDB"} in seen["evidence"]


def test_a_refusal_keeps_on_what_evidence_it_was_decided() -> None:
    world = stale()
    prepared = world.look(KEY, Wanted(Action.FORCE_UNLOCK))
    world.estate.unlock(KEY)

    world.confirm(prepared)

    assert outcome(world).entry.facts["seen"]["lock"] == "unlocked"


def test_the_lock_that_is_held_meanwhile_says_who_holds_it_and_why() -> None:
    world = behind()
    seen: list[object] = []
    world.before["change_digest"] = lambda: seen.append(world.estate.table.items[ITEM].info)

    answer = world.act(KEY, Action.SET_DIGEST)

    info = parse_lock_info(seen[0]["S"])  # type: ignore[index]
    assert (info.id, info.operation, info.who, info.path) == (
        answer.action_id,
        "lockboard-repair",
        "lockboard/kim",
        ITEM,
    )


def test_a_stack_without_a_table_is_restored_under_its_lock_file_alone() -> None:
    world = World(Estate(has_table=False))
    world.estate.apply(KEY, 3)
    world.estate.bucket.delete(KEY)
    settle(world)

    answer = world.act(KEY, Action.RESTORE_VERSION, version="v1")

    assert answer.result is Result.DONE
    assert [name for name, _ in world.committed] == ["take_lockfile", "put_state", "release_lockfile"]


def test_a_restore_gives_no_digest_to_a_stack_that_has_none() -> None:
    world = World()
    world.estate.apply(KEY, 3, digest=False)
    world.estate.bucket.delete(KEY)
    settle(world)

    assert world.act(KEY, Action.RESTORE_VERSION, version="v1").result is Result.DONE
    assert digest(world) is None


@pytest.mark.parametrize("info", ["", "not json", "[]", {"N": "1"}, {"B": "AAE="}, {"NULL": True}, None])
def test_a_lock_that_terraform_cannot_read_is_removed_by_its_exact_bytes(info: object) -> None:
    world = World()
    world.estate.apply(KEY)
    world.estate.table.put(ITEM, info=info)
    settle(world)

    assert world.act(KEY, Action.FORCE_UNLOCK).result is Result.DONE
    assert ITEM not in world.estate.table.items


def test_two_different_locks_are_released_one_at_a_time() -> None:
    world = World()
    world.estate.apply(KEY)
    world.estate.lock(KEY, "id-1", ago=600)
    world.estate.lock(KEY, "id-2", table=False, file=True)
    settle(world)

    both = world.look(KEY, Wanted(Action.FORCE_UNLOCK))
    answer = world.act(KEY, Action.FORCE_UNLOCK, store="tflock")

    assert isinstance(both.plan, Refused)
    assert "one at a time" in both.plan.reason
    assert answer.result is Result.DONE
    assert world.estate.bucket.current(FILE) is None
    assert ITEM in world.estate.table.items


# ---------------------------------------------------------------- what is refused


def test_a_page_of_another_person_or_state_is_no_form_of_ours() -> None:
    world = stale()
    prepared = world.look(KEY, Wanted(Action.FORCE_UNLOCK))
    other = replace(ACTOR, person=replace(KIM, name="eve"))

    for person, state, token in (
        (other, prepared.row.id, prepared.token),
        (ACTOR, "0" * 16, prepared.token),
        (ACTOR, prepared.row.id, prepared.token + "x"),
        (ACTOR, prepared.row.id, ""),
    ):
        with pytest.raises(BadToken):
            world.actions.perform(person, state, token, FORM)
    assert not world.committed


def test_a_form_tells_which_attempt_it_is_for_and_a_made_up_one_does_not() -> None:
    world = stale()
    prepared = world.look(KEY, Wanted(Action.FORCE_UNLOCK))

    assert world.actions.action_id(prepared.token) == world.confirm(prepared).action_id
    assert [world.actions.action_id(token) for token in ("", "x.y", prepared.token + "x")] == ["", "", ""]


def test_a_state_that_nobody_knows_has_no_page() -> None:
    with pytest.raises(UnknownState):
        stale().actions.prepare(ACTOR, "0" * 16, Wanted(Action.FORCE_UNLOCK))


def test_a_page_older_than_two_minutes_is_refused_and_shown_anew() -> None:
    world = stale()
    prepared = world.look(KEY, Wanted(Action.FORCE_UNLOCK))
    world.estate.clock.pass_(121)

    answer = world.confirm(prepared)

    assert (answer.result, answer.moved) == (Result.REFUSED, True)
    assert answer.prepared is not None
    assert world.confirm(answer.prepared).result is Result.DONE


@pytest.mark.parametrize(
    ("form", "field"),
    [
        (Form("", "", "vpc"), "reason"),
        (Form("  x ", "", "vpc"), "reason"),
        (Form("y" * 501, "", "vpc"), "reason"),
        (Form("runner killed", "z" * 101, "vpc"), "ticket"),
        (Form("runner killed", "", "VPC"), "confirm"),
        (Form("runner killed", "", ""), "confirm"),
    ],
)
def test_a_field_that_is_not_as_it_must_be_stops_it_before_anything_is_recorded(
    form: Form, field: str
) -> None:
    world = World()
    world.estate.apply(KEY)
    world.estate.lock(KEY)  # young: the name has to be typed
    settle(world)
    prepared = world.look(KEY, Wanted(Action.FORCE_UNLOCK))

    answer = world.actions.perform(ACTOR, prepared.row.id, prepared.token, form)

    assert [problem.field for problem in answer.problems] == [field]
    assert not world.committed
    assert not world.audit.records
    assert answer.prepared is not None
    assert world.confirm(answer.prepared).result is Result.DONE


def test_a_lower_serial_has_to_be_typed_as_well() -> None:
    world = behind()
    prepared = world.look(KEY, Wanted(Action.RESTORE_VERSION, version_id="v1"))

    assert world.confirm(prepared, serial="").problems[0].field == "serial"
    assert isinstance(prepared.plan, Plan)
    assert prepared.plan.accept_serial == "1"


def test_a_lock_taken_again_since_the_page_is_never_removed() -> None:
    world = stale()
    prepared = world.look(KEY, Wanted(Action.FORCE_UNLOCK))
    world.estate.unlock(KEY)
    world.estate.lock(KEY, "id-2", file=True, who="new@ci")

    answer = world.confirm(prepared)

    assert (answer.result, answer.moved) == (Result.REFUSED, True)
    assert lock_stands(world)
    assert not world.committed
    assert outcome(world).entry.kind is Kind.REFUSAL
    assert answer.prepared is not None
    assert "new@ci" in answer.prepared.row.holder


def test_a_lock_taken_again_between_reading_and_writing_is_never_removed() -> None:
    world = stale(file=False)
    prepared = world.look(KEY, Wanted(Action.FORCE_UNLOCK))

    def retake() -> None:
        world.estate.unlock(KEY)
        world.estate.lock(KEY, "id-2", who="new@ci")

    world.before["release_lock"] = retake
    answer = world.confirm(prepared)

    assert (answer.result, answer.moved) == (Result.REFUSED, True)
    assert "id-2" in str(world.estate.table.items[ITEM].info)
    assert outcome(world).entry.result == "refused"


def test_a_lock_already_gone_is_said_calmly_and_recorded() -> None:
    world = stale()
    prepared = world.look(KEY, Wanted(Action.FORCE_UNLOCK))
    world.estate.unlock(KEY)

    answer = world.confirm(prepared)

    assert answer.result is Result.NO_CHANGE
    assert outcome(world).entry.result == "no_change"


@pytest.mark.parametrize("name", ["set digest", "undelete", "clear digest"])
def test_a_repair_never_runs_beside_somebody_who_has_just_locked(name: str) -> None:
    case = CASES[name]
    world = case.make()
    prepared = world.look(KEY, case.wanted)
    world.before["take_lock"] = lambda: world.estate.lock(KEY, "id-9")

    answer = world.confirm(prepared)

    assert answer.result is Result.REFUSED
    assert case.untouched(world)
    assert "id-9" in str(world.estate.table.items[ITEM].info)
    assert not ours(world)


@pytest.mark.parametrize("name", ["set digest", "undelete", "restore over a live object"])
def test_a_state_written_since_is_never_written_over(name: str) -> None:
    case = CASES[name]
    world = case.make()
    prepared = world.look(KEY, case.wanted)
    newest = state_body(9, note="by -lock=false")
    world.before["take_lock"] = lambda: world.estate.bucket.put(KEY, newest)

    answer = world.confirm(prepared)

    assert answer.result is Result.REFUSED
    assert body(world) == newest
    assert lock_is_gone(world)


def test_a_state_written_in_the_very_moment_is_never_written_over() -> None:
    world = rolled_back()
    newest = state_body(9, note="by -lock=false")
    world.before["put_state"] = lambda: world.estate.bucket.put(KEY, newest)

    answer = world.act(KEY, Action.RESTORE_VERSION, version="v2")

    assert answer.result is Result.REFUSED
    assert body(world) == newest
    assert lock_is_gone(world)


def test_after_a_failed_take_over_the_old_lock_stands_again() -> None:
    world = crashed()
    before = world.estate.table.items[ITEM].info
    world.faults["change_digest"] = Fault.REFUSED

    answer = world.act(KEY, Action.TAKE_OVER)

    assert answer.result is Result.FAILED
    assert world.estate.table.items[ITEM].info == before
    found = world.estate.bucket.current(FILE)
    assert found is not None
    assert (found.body or b"").decode() == before["S"]  # type: ignore[index]


def test_a_store_that_does_not_honour_conditions_is_not_written_to() -> None:
    world = World(honours="This store overwrites whatever If-None-Match says.")
    world.estate.apply(KEY, 3)
    world.estate.bucket.delete(KEY)
    settle(world)

    answer = world.act(KEY, Action.RESTORE_VERSION, version="v1")

    assert (answer.result, answer.message) == (Result.REFUSED, world.honours)
    assert not world.sent
    assert outcome(world).entry.kind is Kind.REFUSAL


def test_a_lock_in_the_table_alone_needs_no_word_from_s3() -> None:
    world = stale(file=False)
    world.honours = "This store ignores conditions."

    assert world.act(KEY, Action.FORCE_UNLOCK).result is Result.DONE


def test_what_cannot_be_read_is_never_acted_on() -> None:
    for part in ("get", "lockfile"):
        world = stale()
        world.estate.bucket.happen.unread[part, KEY] = Unread("access denied", "AccessDenied", denied=True)
        assert isinstance(world.look(KEY, Wanted(Action.FORCE_UNLOCK)).plan, Refused)
    for item in (ITEM, DIGEST):
        world = stale()
        world.estate.table.happen.unread["item", item] = Unread("access denied", "AccessDenied", denied=True)
        assert isinstance(world.look(KEY, Wanted(Action.FORCE_UNLOCK)).plan, Refused)


def test_a_protected_key_always_asks_for_its_name() -> None:
    world = World(Estate(policy=Policy(protected=True)))
    world.estate.apply(KEY)
    world.estate.lock(KEY, ago=5 * HOUR)
    settle(world)

    plan = world.look(KEY, Wanted(Action.FORCE_UNLOCK)).plan

    assert isinstance(plan, Plan)
    assert plan.confirm == "vpc"


def test_a_lock_that_is_also_a_digest_is_never_removed() -> None:
    world = World(Estate(include=("*.tfstate", "*-md5")))
    other = KEY.removesuffix(".tfstate") + ".tfstate-md5"
    world.estate.apply(KEY)
    world.estate.apply(other)
    settle(world)

    plan = world.look(other, Wanted(Action.FORCE_UNLOCK)).plan

    assert isinstance(plan, Refused)
    assert "delete a digest" in plan.reason


# ---------------------------------------------------------------- one form, one change


def test_a_form_sent_again_changes_nothing_and_says_the_same() -> None:
    world = stale()
    prepared = world.look(KEY, Wanted(Action.FORCE_UNLOCK))
    first = world.confirm(prepared)
    world.estate.lock(KEY, "id-7", file=True)

    again = world.confirm(prepared)

    assert (again.result, again.message, again.record) == (first.result, first.message, first.record)
    assert again.replayed
    assert lock_stands(world)
    assert len(world.audit.records) == 2


# ---------------------------------------------------------------- the log comes first


@EVERY
def test_without_a_record_of_the_intent_nothing_reaches_aws(case: Case) -> None:
    world = case.make()
    prepared = world.look(KEY, case.wanted)
    world.audit.broken = True

    with pytest.raises(AuditError):
        world.confirm(prepared)

    assert not world.sent


@EVERY
def test_where_the_outcome_cannot_be_recorded_nothing_more_is_done_until_it_is(case: Case) -> None:
    world = case.make()
    world.estate.apply("other.tfstate")
    world.estate.table.put(lock_id("b", "other.tfstate"), info="not json")
    world.estate.refresh()
    prepared = world.look(KEY, case.wanted)

    def break_log() -> None:
        world.audit.broken = True

    world.before[case.writes[0]] = break_log
    with pytest.raises(Halted, match="could not be recorded"):
        world.confirm(prepared)
    world.audit.broken = False
    assert world.reconcile() == 0
    with pytest.raises(Halted, match="Nothing is changed until it is"):
        world.act("other.tfstate", Action.FORCE_UNLOCK)

    world.estate.clock.pass_(60)
    assert world.reconcile() == 1
    assert outcome(world).entry.result == "done"
    assert world.act("other.tfstate", Action.FORCE_UNLOCK).result is Result.DONE


# ---------------------------------------------------------------- lost replies


@EVERY
@pytest.mark.parametrize("fault", [Fault.REPLY_LOST, Fault.NEVER_SENT, Fault.REFUSED])
def test_no_word_is_false_whatever_happens_to_any_write(case: Case, fault: Fault) -> None:
    for name in dict.fromkeys(case.writes):
        world = case.make()
        world.faults[name] = fault

        answer = world.confirm(world.look(KEY, case.wanted))

        assert not world.faults
        mended, untouched = case.mended(world), case.untouched(world)
        if answer.result is Result.DONE:
            assert mended, (name, answer.message)
        if answer.result in (Result.REFUSED, Result.NO_CHANGE):
            assert untouched, (name, answer.message)
        if fault is Fault.REPLY_LOST:
            assert (answer.result, mended) == (Result.DONE, True), (name, answer.message)
        if answer.result is Result.FAILED:
            assert not mended, (name, answer.message)
        if ours(world):
            assert "own" in answer.message


@EVERY
def test_a_process_that_was_frozen_after_its_intent_changes_nothing(case: Case) -> None:
    """By then another replica may have settled the intent, as a failure."""
    world = case.make()
    prepared = world.look(KEY, case.wanted)
    world.audit.after_intent = lambda: world.estate.clock.pass_(46)

    answer = world.confirm(prepared)

    assert (answer.result, world.sent) == (Result.FAILED, [])
    assert "longer than 30 s" in answer.message
    assert case.untouched(world)


def test_the_second_of_two_locks_is_not_removed_too_late_and_the_person_is_told() -> None:
    world = stale()
    world.before["release_lockfile"] = lambda: world.estate.clock.pass_(31)

    answer = world.act(KEY, Action.FORCE_UNLOCK)

    assert (answer.result, world.sent) == (Result.FAILED, ["release_lockfile"])
    assert answer.message.startswith("The .tflock object was removed, but not the lock item in DynamoDB")


def garbled() -> World:
    """A stale lock in the table that no text can stand for, over a digest that is behind."""
    world = stale(file=False)
    world.estate.table.items[ITEM] = TableItem(ITEM, {"B": "AAECAw=="}, None)
    world.estate.set_digest(KEY, "b" * 32)
    return settle(world)


@pytest.mark.parametrize("failing", ["take_lockfile", "replace_lock"])
def test_a_lock_that_was_not_taken_over_is_not_said_to_be_gone(failing: str) -> None:
    world = garbled()
    prepared = world.look(KEY, Wanted(Action.TAKE_OVER))
    assert isinstance(prepared.plan, Plan), prepared.plan
    world.faults[failing] = Fault.REFUSED

    answer = world.confirm(prepared)

    assert answer.result is Result.FAILED
    assert "is gone" not in answer.message
    assert world.estate.table.items[ITEM].info == {"B": "AAECAw=="}
    assert not ours(world)


def test_a_reading_that_fails_after_a_change_takes_nothing_back_from_the_answer() -> None:
    world = CASES["set digest"].make()
    prepared = world.look(KEY, CASES["set digest"].wanted)
    table, whole = world.estate.table, world.estate.table.item
    changed = len(world.committed)

    def unreadable(name: str) -> Any:
        if "change_digest" in world.sent and len(world.committed) > changed:
            raise ReadError("dynamodb:GetItem", "Unreachable", "no answer")
        return whole(name)

    table.item = unreadable  # type: ignore[method-assign,assignment]
    answer = world.confirm(prepared)

    assert answer.result is Result.DONE
    assert "Nothing was changed" not in answer.message


# ---------------------------------------------------------------- death


@EVERY
@pytest.mark.parametrize("fault", [Fault.KILLED_BEFORE, Fault.KILLED_AFTER])
def test_after_a_death_at_any_write_the_record_is_completed_and_no_lock_of_ours_stays(
    case: Case, fault: Fault
) -> None:
    for name in dict.fromkeys(case.writes):
        world = case.make()
        prepared = world.look(KEY, case.wanted)
        world.faults[name] = fault
        with pytest.raises(Killed):
            world.confirm(prepared)

        world.new_process()
        assert world.reconcile() == 0  # it may still be at work
        world.estate.clock.pass_(46)
        assert world.reconcile() == 1

        told = outcome(world).entry
        assert told.kind is Kind.OUTCOME
        assert not ours(world), (name, told.message)
        if told.result == "done":
            assert case.mended(world), (name, told.message)
        if told.result == "failed" and case.wanted.action is not Action.FORCE_UNLOCK:
            assert case.untouched(world), (name, told.message)
        assert len({n for n, _ in world.committed if n in ("put_state", "change_digest")}) == len(
            [n for n, _ in world.committed if n in ("put_state", "change_digest")]
        )
        assert world.reconcile() == 0


def undeletable() -> World:
    """Deleted by hand; the digest names no version, so it follows a restore."""
    world = World()
    world.estate.apply(KEY, 1)
    world.estate.apply(KEY, 2)
    world.estate.set_digest(KEY, "b" * 32)
    world.estate.bucket.delete(KEY)
    return settle(world)


def half_restored(size: int | None = None) -> World:
    """A restore whose process died between the state and its digest. size: what the log has as the
    version's.
    """
    world = undeletable()
    prepared = world.look(KEY, Wanted(Action.RESTORE_VERSION, version_id="v2"))
    world.faults["put_state"] = Fault.KILLED_AFTER
    with pytest.raises(Killed):
        world.confirm(prepared)
    world.new_process()
    if size is not None:
        world.audit.open_intents()[0].entry.facts["plan"]["restores"]["size"] = size
    assert world.reconcile() == 0
    world.estate.clock.pass_(60 if size is None else DEAD_AFTER + 1)
    return world


def test_a_restore_that_died_before_its_digest_is_finished() -> None:
    world = half_restored()

    world.reconcile()

    assert outcome(world).entry.result == "done"
    assert digest(world) == md5(state_body(2))
    assert lock_is_gone(world)


def test_a_restore_whose_digest_somebody_else_changed_meanwhile_is_not_called_done() -> None:
    world = half_restored()
    world.before["change_digest"] = lambda: world.estate.set_digest(KEY, "c" * 32)

    assert world.reconcile() == 0  # it lost: what stands now has to be read again first
    assert world.reconcile() == 1

    assert outcome(world).entry.result == "failed"
    assert "the digest is not as it should be" in outcome(world).entry.message
    assert digest(world) == "c" * 32
    assert lock_is_gone(world)


def test_the_end_of_a_restore_whose_reply_is_lost_is_settled_by_the_next_look() -> None:
    world = half_restored()
    world.faults["change_digest"] = Fault.REPLY_LOST

    assert world.reconcile() == 0
    assert world.reconcile() == 1

    assert outcome(world).entry.result == "done"
    assert world.sent.count("change_digest") == 1


def test_an_intent_is_left_open_while_aws_cannot_be_read() -> None:
    world = stale()
    world.faults["release_lockfile"] = Fault.KILLED_AFTER
    with pytest.raises(Killed):
        world.act(KEY, Action.FORCE_UNLOCK)
    world.new_process()
    assert world.reconcile() == 0
    world.estate.clock.pass_(60)
    world.estate.table.happen.unread["item", ITEM] = Unread("throttled", "SlowDown")

    assert world.reconcile() == 0
    world.estate.table.happen.unread.clear()
    assert world.reconcile() == 1


def replica(world: World) -> Reconciler:
    """That of another process, in which nothing of this one's is at work."""
    clock = world.estate.clock
    actions = Actions(
        world.estate.inventory,
        world.places,
        world.audit,
        world.open,
        secret="s" * 32,
        clock=clock,
        monotonic=clock.monotonic,
        sleep=clock.pass_,
        new_id=lambda: "00000000-0000-4000-8000-000000000000",
        version="0.1.0",
    )
    return Reconciler(world.audit, world.places, world.open, actions, clock.monotonic)


def settled_by_a_new_process(world: World) -> None:
    world.new_process()
    assert world.reconcile() == 0
    world.estate.clock.pass_(60)
    assert world.reconcile() == 1


def frozen_before(world: World, write: str) -> None:
    """The process stands still for an hour, in which another takes it for dead and settles its action."""
    other = replica(world)

    def frozen() -> None:
        other()
        world.estate.clock.pass_(HOUR)
        assert other() == 1

    world.before[write] = frozen


def test_an_intent_is_as_old_as_this_process_has_seen_it_whatever_the_clocks_say() -> None:
    world = CASES["restore with its digest"].make()
    other, settled = replica(world), []
    prepared = world.look(KEY, CASES["restore with its digest"].wanted)
    world.before["put_state"] = lambda: settled.append(other())
    intent = world.audit.put
    world.audit.put = lambda at, entry: intent(at - timedelta(days=1), entry)  # type: ignore[method-assign]

    answer = world.confirm(prepared)

    assert (answer.result, settled) == (Result.DONE, [0])
    assert CASES["restore with its digest"].mended(world)


def test_a_clock_that_was_ahead_for_a_moment_keeps_no_death_from_being_settled() -> None:
    world = CASES["set digest"].make()
    prepared = world.look(KEY, CASES["set digest"].wanted)
    intent = world.audit.put
    world.audit.put = lambda at, entry: intent(at + timedelta(days=1), entry)  # type: ignore[method-assign]
    world.faults["change_digest"] = Fault.KILLED_BEFORE
    with pytest.raises(Killed):
        world.confirm(prepared)
    world.new_process()

    assert world.reconcile() == 0
    world.estate.clock.pass_(46)
    assert world.reconcile() == 1
    assert lock_is_gone(world)


def test_who_was_taken_for_dead_and_was_not_says_so_in_the_log() -> None:
    world = CASES["restore with its digest"].make()
    prepared = world.look(KEY, CASES["restore with its digest"].wanted)
    frozen_before(world, "put_state")
    answer = world.confirm(prepared)

    settled, late = (record.entry for record in world.audit.records[-2:])
    assert (settled.kind, settled.result) == (Kind.OUTCOME, "failed")
    assert (late.kind, late.action, late.result) == (Kind.EVENT, "late_outcome", answer.result.value)
    assert answer.record == world.audit.records[-1].seq
    assert answer.message in late.message
    assert "was restored" in late.message
    again = world.confirm(prepared)
    assert (again.replayed, again.record, again.message) == (True, answer.record, late.message)


def test_two_failures_that_tell_of_different_things_are_both_in_the_log() -> None:
    world = undeletable()
    prepared = world.look(KEY, Wanted(Action.RESTORE_VERSION, version_id="v2"))
    frozen_before(world, "put_state")
    answer = world.confirm(prepared)

    settled, late = (record.entry for record in world.audit.records[-2:])
    assert (settled.result, late.result, answer.result) == ("failed", "failed", Result.FAILED)
    assert "nothing was changed" in settled.message
    assert "was restored, but the digest was not changed" in late.message
    assert answer.record == world.audit.records[-1].seq


@pytest.mark.parametrize("size", [1, 2 * SLOWEST])
def test_a_death_while_a_large_version_leaves_is_settled_later(size: int) -> None:
    world = half_restored(size)

    assert world.reconcile() == (1 if size == 1 else 0)
    world.estate.clock.pass_(2)
    assert world.reconcile() == (0 if size == 1 else 1)


@pytest.mark.parametrize("place", ["file", "item"])
def test_the_settling_says_which_lock_it_could_not_put_back(place: str) -> None:
    world = World()
    world.estate.apply(KEY, 1)
    world.estate.apply(KEY, 2, digest=False)
    if place == "file":
        world.estate.bucket.put(FILE, b"garbled, not a record")
    else:
        world.estate.table.items[ITEM] = TableItem(ITEM, {"B": "AAECAw=="}, None)
    settle(world)
    prepared = world.look(KEY, Wanted(Action.TAKE_OVER))
    world.faults["change_digest"] = Fault.KILLED_BEFORE
    with pytest.raises(Killed):
        world.confirm(prepared)
    settled_by_a_new_process(world)

    what = ".tflock object" if place == "file" else "lock item in DynamoDB"
    assert f"The {what} that stood there before cannot be written again" in outcome(world).entry.message


@pytest.mark.parametrize("name", ["unlock", "clear digest"])
def test_what_happened_where_the_backend_was_then_is_not_read_where_it_is_now(name: str) -> None:
    world = CASES[name].make()
    prepared = world.look(KEY, CASES[name].wanted)
    world.faults[CASES[name].writes[-1]] = Fault.KILLED_BEFORE
    with pytest.raises(Killed):
        world.confirm(prepared)
    world.estate.table = FakeTable()
    world.estate.backend = replace(world.estate.backend, table="locks-new")
    settled_by_a_new_process(world)

    assert outcome(world).entry.result == "unknown"
    assert "no longer configured as it was" in outcome(world).entry.message


def test_a_digest_that_was_set_for_a_state_which_is_gone_is_not_settled_as_done() -> None:
    world = CASES["set digest"].make()
    prepared = world.look(KEY, CASES["set digest"].wanted)
    world.faults["change_digest"] = Fault.KILLED_AFTER
    with pytest.raises(Killed):
        world.confirm(prepared)
    world.estate.bucket.put(KEY, state_body(9))
    settled_by_a_new_process(world)

    assert outcome(world).entry.result == "failed"
    assert "written by somebody else" in outcome(world).entry.message


# ---------------------------------------------------------------- the world moves on meanwhile


@pytest.mark.parametrize("name", ["take over", "set digest"])
def test_a_digest_of_bytes_that_are_gone_is_not_called_done(name: str) -> None:
    world = CASES[name].make()
    prepared = world.look(KEY, CASES[name].wanted)
    world.before["change_digest"] = lambda: world.estate.bucket.put(KEY, state_body(9))

    answer = world.confirm(prepared)

    assert answer.result is Result.FAILED
    assert "The digest was set" in answer.message
    assert "somebody wrote the state" in answer.message
    assert not ours(world)


def test_a_restore_that_was_written_over_is_not_called_done() -> None:
    world = undeletable()
    prepared = world.look(KEY, Wanted(Action.RESTORE_VERSION, version_id="v2"))
    world.before["change_digest"] = lambda: world.estate.bucket.put(KEY, state_body(9))

    answer = world.confirm(prepared)

    assert answer.result is Result.FAILED
    assert "was restored. The digest was set" in answer.message
    assert "somebody wrote the state" in answer.message


def test_a_lock_file_that_others_took_after_ours_was_removed_is_never_released() -> None:
    world = CASES["set digest"].make()
    prepared = world.look(KEY, CASES["set digest"].wanted)
    world.faults["take_lockfile"] = Fault.REPLY_LOST

    def retaken() -> None:
        world.estate.bucket.delete(FILE)
        world.estate.lock(KEY, "live-apply", table=False, file=True)

    def armed() -> None:
        world.estate.bucket.happen.after["lockfile"] = retaken

    world.before["take_lockfile"] = armed
    world.confirm(prepared)

    found = world.estate.bucket.current(FILE)
    assert found is not None
    assert b"live-apply" in (found.body or b"")


def test_a_form_sent_again_is_never_told_that_nothing_was_done_while_the_log_cannot_be_read() -> None:
    world = stale()
    prepared = world.look(KEY, Wanted(Action.FORCE_UNLOCK))
    world.confirm(prepared)

    def unread(action_id: str) -> Sequence[Record]:
        raise AuditError("it does not answer")

    world.audit.of_action = unread  # type: ignore[method-assign]
    with pytest.raises(Halted, match="sent before, and done then, cannot be read"):
        world.confirm(prepared)


# ---------------------------------------------------------------- undo


def undo(world: World, seq: int | None) -> Any:
    assert seq is not None
    return world.actions.prepare_undo(ACTOR, state_id("dev", KEY), seq)


def test_a_removed_lock_is_put_back_byte_for_byte() -> None:
    world = stale()
    before = dict(world.estate.table.items), world.estate.bucket.current(FILE)
    answer = world.act(KEY, Action.FORCE_UNLOCK)

    again = world.confirm(undo(world, answer.record))

    assert again.result is Result.DONE
    assert world.estate.table.items == before[0]
    assert (world.estate.bucket.current(FILE) or before[1]).body == (before[1] and before[1].body)  # type: ignore[union-attr]
    assert outcome(world).entry.action == "undo"


def test_a_lock_is_not_put_back_over_another_or_after_a_quarter_of_an_hour() -> None:
    world = stale()
    answer = world.act(KEY, Action.FORCE_UNLOCK)
    world.estate.lock(KEY, "id-5")
    assert isinstance(undo(world, answer.record).plan, Refused)

    world.estate.unlock(KEY)
    world.estate.clock.pass_(901)
    assert "15 min" in undo(world, answer.record).plan.reason


@pytest.mark.parametrize("name", ["set digest", "clear digest", "restore over a live object", "take over"])
def test_a_repair_is_taken_back_to_what_was_before(name: str) -> None:
    case = CASES[name]
    world = case.make()
    answer = world.confirm(world.look(KEY, case.wanted))

    again = world.confirm(undo(world, answer.record))

    assert (again.result, again.message) == (Result.DONE, again.message)
    assert case.untouched(world)


@pytest.mark.parametrize("old", ["", "not-hex \u202e evil\x1b[31m", "a" * 31])
def test_a_digest_that_terraform_ignored_is_not_brought_back(old: str) -> None:
    world = World()
    world.estate.apply(KEY, 1)
    world.estate.set_digest(KEY, {"S": old})
    answer = settle(world).act(KEY, Action.SET_DIGEST)

    plan = undo(world, answer.record).plan

    assert isinstance(plan, Refused)
    assert "Terraform ignores" in plan.reason


def test_a_lock_file_whose_bytes_were_not_all_text_is_removed_and_not_put_back() -> None:
    world = World()
    world.estate.apply(KEY)
    record = info_json("id-1", ITEM, world.estate.clock()).encode()
    world.estate.bucket.put(FILE, record.replace(b"root", b"r\xf6\xf6t"))
    world.estate.clock.pass_(3 * HOUR)
    answer = settle(world).act(KEY, Action.FORCE_UNLOCK)

    plan = undo(world, answer.record).plan

    assert answer.result is Result.DONE
    assert isinstance(plan, Refused)
    assert "exact record is not known" in plan.reason


def test_a_restore_whose_reply_was_lost_is_taken_back_all_the_same() -> None:
    case = CASES["restore over a live object"]
    world = case.make()
    prepared = world.look(KEY, case.wanted)
    world.faults["put_state"] = Fault.REPLY_LOST
    answer = world.confirm(prepared)

    again = world.confirm(undo(world, answer.record))

    assert again.result is Result.DONE
    assert case.untouched(world)


def test_a_restore_that_its_process_did_not_live_to_tell_of_is_taken_back_too() -> None:
    case = CASES["restore over a live object"]
    world = case.make()
    prepared = world.look(KEY, case.wanted)
    world.faults["release_lockfile"] = Fault.KILLED_BEFORE
    with pytest.raises(Killed):
        world.confirm(prepared)
    settled_by_a_new_process(world)

    again = world.confirm(undo(world, outcome(world).seq))

    assert again.result is Result.DONE
    assert case.untouched(world)


def test_nothing_is_taken_back_in_another_bucket_or_table() -> None:
    world = stale()
    answer = world.act(KEY, Action.FORCE_UNLOCK)
    world.estate.backend = replace(world.estate.backend, table="locks-new")
    world.new_process()

    assert "another bucket or lock table" in undo(world, answer.record).plan.reason


@pytest.mark.parametrize("ahead", [-300, 120, 300])
def test_a_lock_is_put_back_whatever_our_clock_is_to_that_of_aws(ahead: int) -> None:
    world = stale()
    skew = timedelta(seconds=ahead)
    world.estate.bucket.skew = skew
    world.actions = world.new_process()
    answer = world.act(KEY, Action.FORCE_UNLOCK)
    world.estate.clock.pass_(5)

    assert isinstance(undo(world, answer.record).plan, Plan)
    world.estate.clock.pass_(900)
    assert "within 15 min" in undo(world, answer.record).plan.reason


def test_of_an_attempt_that_was_refused_nothing_is_taken_back() -> None:
    world = stale()
    prepared = world.look(KEY, Wanted(Action.FORCE_UNLOCK))
    world.estate.unlock(KEY)
    answer = world.confirm(prepared)

    plan = undo(world, answer.record).plan

    assert isinstance(plan, Refused)
    assert "Nothing was changed by this attempt" in plan.reason


def test_an_attempt_that_did_not_end_well_is_not_said_to_have_changed_nothing() -> None:
    world = CASES["set digest"].make()
    prepared = world.look(KEY, CASES["set digest"].wanted)
    world.before["change_digest"] = lambda: world.estate.bucket.put(KEY, state_body(9))
    answer = world.confirm(prepared)

    plan = undo(world, answer.record).plan

    assert isinstance(plan, Refused)
    assert "look at what stands now" in plan.reason


def test_a_lock_is_not_put_back_by_a_record_from_the_future() -> None:
    world = stale()
    intent = world.audit.put
    world.audit.put = lambda at, entry: intent(at + timedelta(hours=10), entry)  # type: ignore[method-assign]
    answer = world.act(KEY, Action.FORCE_UNLOCK)
    world.estate.clock.pass_(HOUR)

    assert "within 15 min" in undo(world, answer.record).plan.reason


def test_a_repair_is_not_taken_back_once_the_state_was_written_again() -> None:
    for name in ("set digest", "restore over a live object"):
        world = CASES[name].make()
        answer = world.confirm(world.look(KEY, CASES[name].wanted))
        world.estate.apply(KEY, 12)

        assert isinstance(undo(world, answer.record).plan, Refused)


def test_an_undelete_is_not_taken_back_because_no_state_is_ever_deleted() -> None:
    world = deleted()
    answer = world.act(KEY, Action.RESTORE_VERSION, version="v1")

    assert "never does" in undo(world, answer.record).plan.reason


def test_the_page_says_when_aws_cannot_be_read() -> None:
    world = stale()

    def unreadable(*_: object) -> TableItem:
        raise ReadError("dynamodb:GetItem", "Unreachable", "no answer")

    world.estate.table.item = unreadable  # type: ignore[method-assign,assignment]
    with pytest.raises(ReadError):
        world.look(KEY, Wanted(Action.FORCE_UNLOCK))
    assert info_json("a", "b", world.estate.clock()).startswith("{")
