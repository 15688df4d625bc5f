"""The JSON contract: one entry for each state key, built once from an observation and its verdict, dated when
served.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from lockboard.domain.bodies import Body, BodyKind
from lockboard.domain.digests import Digest
from lockboard.domain.holders import held_locks
from lockboard.domain.inventory import BackendReport
from lockboard.domain.keys import LOCKFILE_SUFFIX, digest_id, lock_id, state_id, workspace_of
from lockboard.domain.locks import Lock, info_as_json
from lockboard.domain.model import (
    Backend,
    History,
    Observation,
    Policy,
    Remedy,
    StateObject,
    Verdict,
    Version,
)
from lockboard.domain.text import shown, utc

Document = dict[str, Any]
FUTURE_TOLERANCE = Policy().future_tolerance
"""A lock that begins later than this from now has no age that is known."""
_RAW_LIMIT = 4096
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def document(seen: Observation, verdict: Verdict, backend: Backend) -> Document:
    """The entry of one key. Nothing in it changes with time alone; `served` adds what does."""
    policy = backend.policy_for(seen.key)
    workspace = workspace_of(seen.key, seen.workspace_prefix)
    return {
        "id": state_id(seen.backend, seen.key),
        "backend": seen.backend,
        "bucket": seen.bucket,
        "key": shown(seen.key),
        "raw_key": seen.key,
        "workspace": shown(workspace[0]) if workspace else None,
        "severity": verdict.severity.value,
        "content": verdict.content.value,
        "lock": verdict.lock.value,
        "terraform": verdict.terraform.value,
        "summary": verdict.summary,
        "object": _object(seen.state),
        "digest": _digest(seen.digest),
        "locks": [_lock(lock) for lock in held_locks(seen)],
        "remedies": [_remedy(remedy) for remedy in verdict.remedies],
        "evidence": [{"fact": item.fact, "source": item.source} for item in verdict.evidence],
        "dangers": list(verdict.dangers),
        "prints": verdict.prints,
        "stale_after_seconds": int(policy.stale_after.total_seconds()),
        "protected": policy.protected,
        "versions": _versions(seen),
        "versions_complete": seen.history.complete if isinstance(seen.history, History) else False,
        "commands": _commands(seen, backend.table, backend.region),
        "settles_at": utc(verdict.settles_at) if verdict.settles_at else None,
        "rechecked_at": None,
    }


def dated(entry: Mapping[str, Any], now: datetime, report: BackendReport | None) -> Document:
    """The entry as it is given out when our own clock says `now`, by the last report of its backend."""
    if report is None:
        return served(entry, now, None)
    return served(entry, report.aws_time(now), report.data_at)


def served(entry: Mapping[str, Any], now: datetime, checked_at: datetime | None) -> Document:
    """The entry as it is given out: with the age of each lock and the time its key was last read.

    `now` is AWS's time, by which locks are taken and judged.
    """
    locks = [{**lock, "age_seconds": _age(lock.get("since"), now)} for lock in entry.get("locks", ())]
    rechecked = entry.get("rechecked_at")
    checked = utc(checked_at) if checked_at else None
    return {**entry, "locks": locks, "checked_at": max(filter(None, (rechecked, checked)), default=None)}


def _age(since: str | None, now: datetime) -> int | None:
    if not since:
        return None
    age = now - datetime.fromisoformat(since)
    return None if age < -FUTURE_TOLERANCE else max(0, round(age.total_seconds()))


def _object(state: object) -> Document:
    found: Document = dict.fromkeys(
        ("version_id", "etag", "size", "last_modified", "md5", "serial", "lineage")
    )
    found |= {"exists": None, "resources": None, "terraform_version": None, "encrypted": None}
    if state is None:
        return found | {"exists": False}
    if not isinstance(state, StateObject):
        return found
    found |= {
        "exists": True,
        "version_id": state.version_id,
        "etag": shown(state.etag, 200),
        "size": state.size,
        "last_modified": utc(state.last_modified),
    }
    return found | (_body(state.body) if isinstance(state.body, Body) else {})


def _body(body: Body) -> Document:
    return {
        "md5": body.md5,
        "serial": body.serial,
        "lineage": body.lineage,
        "resources": body.resources,
        "terraform_version": body.terraform_version,
        "encrypted": body.kind is BodyKind.ENCRYPTED,
    }


def _digest(digest: object) -> Document:
    if digest is None:
        return {"present": False, "valid": False, "value": None, "problem": None}
    if not isinstance(digest, Digest):
        return {"present": None, "valid": None, "value": None, "problem": "could not be read"}
    return {
        "present": True,
        "valid": digest.valid,
        "value": digest.value or shown(digest.raw, 200),
        "problem": digest.problem,
    }


def _lock(lock: Lock) -> Document:
    fields = (
        dict(info_as_json(lock.info))
        if lock.info
        else dict.fromkeys(("id", "operation", "who", "version", "path"))
    )
    created = lock.info.created if lock.info else None
    return {
        "store": lock.store.value,
        "readable": lock.readable,
        **fields,
        "created": utc(created) if created else None,
        "acquired": utc(lock.acquired) if lock.acquired else None,
        "since": utc(lock.since) if lock.since else None,
        "problem": lock.problem,
        "raw": shown(lock.raw, _RAW_LIMIT),
    }


def _remedy(remedy: Remedy) -> Document:
    found: Document = {"action": remedy.action.value, "recommended": remedy.recommended, "why": remedy.why}
    named = {
        "version_id": remedy.version_id,
        "lock_id": remedy.lock_id,
        "digest": remedy.digest,
        "store": remedy.store,
    }
    return found | {name: value for name, value in named.items() if value is not None}


def _versions(seen: Observation) -> list[Document] | None:
    if not isinstance(seen.history, History):
        return None
    digest = seen.digest.value if isinstance(seen.digest, Digest) else None
    return [_version(version, digest) for version in seen.history.versions]


def _version(version: Version, digest: str | None) -> Document:
    body = version.body if isinstance(version.body, Body) else None
    return {
        "version_id": version.version_id,
        "last_modified": utc(version.last_modified),
        "size": version.size,
        "delete_marker": version.delete_marker,
        "latest": version.latest,
        "md5": body.md5 if body else None,
        "serial": body.serial if body else None,
        "lineage": body.lineage if body else None,
        "resources": body.resources if body else None,
        "names_digest": bool(digest) and version.holds(digest or ""),
    }


def _commands(seen: Observation, table: str | None, region: str) -> list[Document]:
    """What to type to look at the same things by hand, whatever region the shell is set to.

    Words come from AWS, so each is quoted and joined to its option by `=`.
    """
    if shown(seen.key) != seen.key:
        return []  # a command with an escaped key would name another object
    there = f" --region={shlex.quote(region)}"
    bucket, key = shlex.quote(seen.bucket), shlex.quote(seen.key)
    lock_file = shlex.quote(f"s3://{seen.bucket}/{seen.key}{LOCKFILE_SUFFIX}")
    commands = [
        ("List the versions", f"aws s3api list-object-versions{there} --bucket={bucket} --prefix={key}"),
        ("Read the lock file", f"aws s3 cp{there} {lock_file} -"),
    ]
    if table:
        of = f"aws dynamodb get-item{there} --consistent-read --table-name={shlex.quote(table)}"
        commands += [
            ("Read the lock", f"{of} --key={_item_key(lock_id(seen.bucket, seen.key))}"),
            ("Read the digest", f"{of} --key={_item_key(digest_id(seen.bucket, seen.key))}"),
        ]
    ids = {lock.info.id for lock in held_locks(seen) if lock.info and _UUID.fullmatch(lock.info.id)}
    commands += [
        (f"Force-unlock {id} (only once its holder is known to be dead)", f"terraform force-unlock {id}")
        for id in sorted(ids)
    ]
    return [{"label": label, "command": command} for label, command in commands]


def _item_key(name: str) -> str:
    return shlex.quote(json.dumps({"LockID": {"S": name}}, ensure_ascii=False))
