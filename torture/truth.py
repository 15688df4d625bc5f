"""What has to hold after every kill, at whatever point. The proxy and the emulator say what is true."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from lockboard.domain.keys import LOCKFILE_SUFFIX
from lockboard.domain.locks import LOCKBOARD_OPERATION, UnreadableLock, parse_lock_info
from tests.faults import Seen
from torture.arena import Standing, Trial, action_of
from torture.deeds import Before, Change, md5

INVARIANTS: Mapping[str, str] = {
    "I0": "the process died of SIGKILL, at the point",
    "I1": "every change at the proxy has an earlier committed intent",
    "I2": "no intent is open after the restart, and none was settled too early",
    "I3": "at most one change of each kind for an action",
    "I4": "a lock removed had exactly the confirmed record or ETag",
    "I5": "the digest is the old one or the MD5 of the current body",
    "I6": "no version is gone or changed",
    "I7": "a lock that stands is the one before or labelled ours, and none of ours is left",
    "I8": "the chain verifies, with every head of the witness",
    "I9": "no secret of a state in the log, the database, the pages or the output",
    "I10": "the words in the log and on the page are those of the truth",
}

Fault = tuple[str, str]
"""An invariant, and how it was broken."""


def faults_of(trial: Trial) -> list[Fault]:
    """Every invariant that this trial broke, of those that one trial can break."""
    found = [*_killed(trial), *_intended(trial), *_settled(trial), *_once(trial), *_exact(trial)]
    found += [*_digests(trial), *_versions(trial), *_locks(trial), *_words(trial)]
    return found


def _killed(trial: Trial) -> Iterator[Fault]:
    if not trial.killed:
        yield "I0", f"the process was not killed: {dict(trial.ended)}"


def _intended(trial: Trial) -> Iterator[Fault]:
    for what in trial.unintended:
        yield "I1", what


def _settled(trial: Trial) -> Iterator[Fault]:
    early, late, again = trial.settled["settled"]
    if early or again:
        yield "I2", f"{early} intents were settled too early, {again} a second time"
    if trial.settled["open"]:
        yield "I2", f"still open: {trial.settled['open']}"
    kinds = [record["kind"] for record in trial.settled["records"]]
    if kinds not in ([], ["intent", "outcome"]):
        yield "I2", f"the records are {kinds}"
    if late > 1:
        yield "I2", f"{late} intents were open"


def _once(trial: Trial) -> Iterator[Fault]:
    done = Counter(change_of(seen, trial.before) for seen in trial.writes if seen.committed)
    for change, times in done.items():
        if times > 1:
            yield "I3", f"{times} times: {change}"
    if len({action_of(seen) for seen in trial.writes}) > 1:
        yield "I3", "changes of more than one action"


def _exact(trial: Trial) -> Iterator[Fault]:
    """By the conditions that were sent, since the emulators honour them."""
    # The ETag of a `.tflock`: the emulators' are the MD5 of the bytes.
    own_etags = {md5(seen.body) for seen in trial.writes if _writes_file(seen, trial.before)}
    for seen in trial.writes:
        if not seen.conditional or "versionId" in seen.query:
            yield "I4", f"{seen.operation} without a condition, or of a version"
        change = change_of(seen, trial.before)
        if change is Change.RELEASE_ITEM and not _names_item(seen, trial):
            yield "I4", "the item removed is neither the confirmed one nor ours"
        if change is Change.RELEASE_FILE and not _names_file(seen, trial, own_etags):
            yield "I4", "the .tflock removed is neither the confirmed one nor ours"


def _names_item(seen: Seen, trial: Trial) -> bool:
    (one,) = seen.document["TransactItems"]
    confirmed = one["Delete"]["ExpressionAttributeValues"][":old"]["S"]
    return confirmed == trial.before.item or _is_ours(confirmed, trial)


def _names_file(seen: Seen, trial: Trial, own_etags: set[str]) -> bool:
    etag = seen.headers["if-match"].strip('"')
    file = trial.before.file
    return etag in own_etags or (file is not None and etag == md5(file.encode()))


def _writes_file(seen: Seen, before: Before) -> bool:
    return change_of(seen, before) in (Change.TAKE_FILE, Change.RETURN_FILE)


def _digests(trial: Trial) -> Iterator[Fault]:
    for when, standing in (("after the kill", trial.between), ("after the restart", trial.after)):
        now = md5(standing.body) if standing.body is not None else None
        if standing.digest not in (trial.before.digest, now):
            yield "I5", f"{when} it is {standing.digest}"


def _versions(trial: Trial) -> Iterator[Fault]:
    expected: Mapping[str, str | None] = trial.before.versions
    for when, standing in (("after the kill", trial.between), ("after the restart", trial.after)):
        if not expected.items() <= standing.versions.items():
            yield "I6", f"{when} the versions are {standing.versions}, before {expected}"
        expected = standing.versions


def _locks(trial: Trial) -> Iterator[Fault]:
    before = trial.before
    for store, old, between, after in (
        ("item", before.item, trial.between.item, trial.after.item),
        (".tflock", before.file, trial.between.file, trial.after.file),
    ):
        if between not in (None, old) and not _is_ours(between, trial):
            yield "I7", f"after the kill an unknown {store} stands: {between}"
        if after not in (None, old):
            yield "I7", f"after the restart another {store} is left: {after}"


def _is_ours(text: str | None, trial: Trial) -> bool:
    """Labelled so that Terraform shows who holds it and can release it by its ID."""
    try:
        info = parse_lock_info(text or "")
    except UnreadableLock:
        return False
    ids = {record["action_id"] for record in trial.settled["records"]}
    return (
        info.operation.startswith(LOCKBOARD_OPERATION)
        and info.who.startswith("lockboard/")
        and info.id in ids
        and bool(info.path)
    )


def _words(trial: Trial) -> Iterator[Fault]:
    committed = {change_of(seen, trial.before) for seen in trial.writes if seen.committed}
    done = trial.deed.wants <= committed
    if done != _is_mended(trial):
        yield "I10", f"the proxy saw {sorted(committed)}, which is not what stands: {_short(trial.after)}"
    if not done and not _is_as_before(trial):
        yield "I10", f"not done, and yet something else stands than before: {_short(trial.after)}"
    outcome = next((r for r in trial.settled["records"] if r["kind"] == "outcome"), None)
    if outcome is None:
        if committed:
            yield "I10", f"changed without a word: {sorted(committed)}"
        return
    said, wanted = outcome["result"], "done" if done else "failed"
    if said != wanted:
        yield "I10", f"recorded as {said}, in truth {wanted}: {outcome['message']}"
    elif not done and not any(
        word in outcome["message"] for word in ("nothing was changed", "did not happen")
    ):
        yield "I10", f"the words of something half done, and nothing was: {outcome['message']}"
    status, page = trial.settled["page"]
    if status != 200 or html.escape(outcome["message"]) not in page.replace("&#34;", "&quot;").replace(
        "&#39;", "&#x27;"
    ):
        yield "I10", f"the page ({status}) does not say what is recorded: {outcome['message']}"
    answered = trial.ended.get("answered")
    if answered is not None and (answered, done) != (303, True):
        yield "I10", f"the person was answered {answered}, and done is {done}"


def _is_mended(trial: Trial) -> bool:
    before, after = trial.before, trial.after
    if before.goal is None:
        return after.item is None and after.file is None
    now = md5(after.body) if after.body is not None else None
    return now == before.goal == after.digest and after.item is None and after.file is None


def _is_as_before(trial: Trial) -> bool:
    before, after = trial.before, trial.after
    locks = (after.item, after.file) == (before.item, before.file)
    return locks and after.digest == before.digest and after.body == before.bodies[-1]


def _short(standing: Standing) -> str:
    body = md5(standing.body) if standing.body is not None else None
    return f"body {body}, digest {standing.digest}, item {standing.item}, .tflock {standing.file}"


def change_of(seen: Seen, before: Before) -> Change:
    """What kind of change a request asks for."""
    if seen.target:
        return _of_items(seen.document["TransactItems"], before)
    if seen.path.endswith(LOCKFILE_SUFFIX):
        if seen.method == "DELETE":
            return Change.RELEASE_FILE
        return Change.RETURN_FILE if seen.body.decode() == before.file else Change.TAKE_FILE
    if seen.method != "PUT":
        raise ValueError(f"{seen.method} {seen.path} is no change that an action makes")
    return Change.PUT


def _of_items(items: list[dict[str, Any]], before: Before) -> Change:
    ((kind, change),) = items[-1].items()
    name = change["Item"]["LockID"]["S"] if kind == "Put" else change["Key"]["LockID"]["S"]
    if name.endswith("-md5"):
        return Change.DIGEST
    if kind == "Delete":
        return Change.RELEASE_ITEM
    if kind != "Put":
        raise ValueError(f"{json.dumps(change)} is no change that an action makes")
    return Change.RETURN_ITEM if change["Item"]["Info"]["S"] == before.item else Change.TAKE_ITEM
