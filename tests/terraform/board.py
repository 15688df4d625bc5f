"""Lockboard's side of a case: `lockboard scan`, its JSON read strictly by the contract."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from lockboard.cli import main
from tests.emulators import REGION
from tests.terraform.workspace import Stack

SETTLE_SECONDS = 1
SCAN_WITHIN_SECONDS = 120.0

ROW = {
    *("id", "backend", "bucket", "key", "severity", "content", "lock", "terraform", "summary"),
    *("object", "digest", "locks", "remedies", "checked_at"),
}
OBJECT = {"exists", "version_id", "etag", "size", "last_modified", "md5", "serial", "lineage"}
DIGEST = {"present", "valid", "value"}
LOCK = {"store", "readable", "id", "operation", "who", "version", "created", "age_seconds"}
BACKEND = {"name", "complete", "error", "states", "requests"}
SEVERITIES = {"critical", "blocked", "attention", "busy", "ok", "unknown"}

EXIT_NOTHING_WRONG, EXIT_ATTENTION, EXIT_UNREAD = 0, 1, 2


@dataclass(frozen=True)
class Verdict:
    """What Lockboard says of one state key; the fields are the contract's."""

    content: str
    lock: str
    terraform: str
    severity: str
    summary: str
    object: Mapping[str, Any]
    digest: Mapping[str, Any]
    locks: Sequence[Mapping[str, Any]]
    remedies: Sequence[Mapping[str, Any]]

    @property
    def words(self) -> tuple[str, str, str, str]:
        """content, lock, terraform, severity."""
        return self.content, self.lock, self.terraform, self.severity

    @property
    def digest_words(self) -> tuple[bool, bool, str | None]:
        """Whether there is an entry, whether Terraform can use it, and its value."""
        return self.digest["present"], self.digest["valid"], self.digest["value"]

    @property
    def recommended(self) -> Mapping[str, Any] | None:
        """The remedy that stands first, where it is recommended; None where nothing is."""
        first = self.remedies[0] if self.remedies else None
        return first if first is not None and first["recommended"] else None

    def remedy(self, action: str) -> Mapping[str, Any] | None:
        """The first remedy of that kind, recommended or not."""
        return next((remedy for remedy in self.remedies if remedy["action"] == action), None)


@dataclass(frozen=True)
class Report:
    """One scan: its exit status, the backends and the verdict of each state key."""

    rc: int
    backends: Sequence[Mapping[str, Any]]
    verdicts: Mapping[str, Verdict]


def look(stack: Stack, **settings: str) -> Verdict:
    """Scan the stack's bucket and give the verdict of its state key."""
    report = scan(stack, **settings)
    key = stack.stored.key
    assert key in report.verdicts, f"no row for {key!r}, only for {sorted(report.verdicts)}"
    return report.verdicts[key]


def look_until(stack: Stack, lock: str, **settings: str) -> None:
    """Scan again and again until the lock has this status: for what only the passing of time brings about."""
    deadline = time.monotonic() + SCAN_WITHIN_SECONDS
    while (found := look(stack, **settings)).lock != lock:
        assert time.monotonic() < deadline, found


def scan(stack: Stack, **settings: str) -> Report:
    """Scan the stack's bucket; `settings` are further settings of the backend, such as `stale_after`."""
    folder = stack.folder.with_name(f"{stack.folder.name}.board")
    folder.mkdir(exist_ok=True)
    config = folder / "lockboard.toml"
    config.write_text(_configuration(stack, folder, settings), "utf-8")
    return _read(_run(folder, config))


def _configuration(stack: Stack, folder: Path, settings: Mapping[str, str]) -> str:
    backend = {
        "name": "test",
        "bucket": stack.bucket,
        "region": REGION,
        "s3_endpoint_url": stack.s3_url,
        "dynamodb_endpoint_url": stack.emulator.url,
        **({"dynamodb_table": stack.table} if stack.table else {}),
        **settings,
    }
    lines = ["[database]", f"url = {json.dumps(f'sqlite:///{folder}/lockboard.db')}", "[[backends]]"]
    return "\n".join([*lines, *(f"{name} = {json.dumps(value)}" for name, value in backend.items()), ""])


def _run(folder: Path, config: Path) -> Result:
    """In this process: to start Python and import it all takes as long as Terraform does."""
    command = ["scan", "--config", str(config), "--format", "json", "--settle", str(SETTLE_SECONDS)]
    return CliRunner().invoke(main, command, env={"HOME": str(folder)}, catch_exceptions=False)


def _read(run: Result) -> Report:
    assert run.exit_code in {EXIT_NOTHING_WRONG, EXIT_ATTENTION, EXIT_UNREAD}, run.stderr
    assert run.stdout, run.stderr
    content = json.loads(run.stdout)
    for backend in content["backends"]:
        assert set(backend) >= BACKEND
    verdicts = {row["key"]: _verdict(row) for row in content["states"]}
    return Report(run.exit_code, content["backends"], verdicts)


def _verdict(row: Mapping[str, Any]) -> Verdict:
    assert set(row) >= ROW
    assert set(row["object"]) >= OBJECT
    assert set(row["digest"]) >= DIGEST
    assert all(set(lock) >= LOCK for lock in row["locks"])
    assert all(set(remedy) >= {"action", "recommended"} for remedy in row["remedies"])
    assert row["severity"] in SEVERITIES
    assert row["summary"]
    names = ("content", "lock", "terraform", "severity", "summary", "object", "digest", "locks", "remedies")
    return Verdict(**{name: row[name] for name in names})
