"""`python -m tools.audit_deps`: ask pip-audit about every package that the container holds.

Exit status: 0 none has a known vulnerability, 1 one has, 2 it could not be found out. pip-audit itself ends
with 0 where an index answers "not found" to every question, as mirrors without advisories do; that is 2 here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tools.pins import Pin, container_pins

Audit = Callable[[Sequence[Pin]], Any]
"""Pins -> what pip-audit printed, read as JSON. Raises NotDone."""

TIMEOUT_SECONDS = 15


class NotDone(Exception):
    """Nothing is known of the packages; the text says why."""


def pip_audit(pins: Sequence[Pin]) -> Any:
    """Run it on a file with these pins."""
    with tempfile.TemporaryDirectory(prefix="lockboard-audit-") as folder:
        file = Path(folder, "requirements.txt")
        file.write_text("".join(f"{pin.line}\n" for pin in pins), encoding="utf-8")
        options = ["--require-hashes", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
        run = subprocess.run(
            [sys.executable, "-m", "pip_audit", "-r", str(file), *options, "--timeout", str(TIMEOUT_SECONDS)],
            text=True,
            capture_output=True,
            check=False,
        )
    try:
        return json.loads(run.stdout)
    except ValueError:
        last = (run.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise NotDone(f"pip-audit failed: {last[:300]}") from None


def audit(pins: Sequence[Pin], ask: Audit) -> list[str]:
    """What is known against these packages, a line each. One is asked for first: where nothing is known of
    that, nothing would be of the others.

    Raises:
        NotDone: not every one of them was looked up.
    """
    _looked_up(pins[:1], ask(pins[:1]))
    found = _looked_up(pins, ask(pins))
    return [_told(each, vulnerability) for each in found for vulnerability in each["vulns"]]


def _told(package: dict[str, Any], vulnerability: dict[str, Any]) -> str:
    mended = ", ".join(vulnerability["fix_versions"]) or "none yet"
    return f"{package['name']} {package['version']}: {vulnerability['id']}, mended in {mended}"


def _looked_up(pins: Sequence[Pin], told: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = told["dependencies"]
    skipped = [each for each in found if "vulns" not in each]
    if skipped:
        raise NotDone(f"{skipped[0]['name']}: {skipped[0].get('skip_reason', 'it was left out')}")
    if {(each["name"], each["version"]) for each in found} != {(pin.name, pin.version) for pin in pins}:
        raise NotDone(f"{len(found)} of {len(pins)} packages were looked up")
    return found


def report(pins: Sequence[Pin], ask: Audit) -> tuple[int, str]:
    """Exit status and words."""
    try:
        found = audit(pins, ask)
    except NotDone as error:
        return 2, f"NOT DONE: the {len(pins)} packages were not checked for known vulnerabilities. {error}"
    if found:
        return 1, "\n".join(["KNOWN VULNERABILITIES:", *found])
    return 0, f"None of {len(pins)} packages has a known vulnerability."


if __name__ == "__main__":
    status, words = report(container_pins(), pip_audit)
    print(words, file=sys.stderr if status else sys.stdout)
    sys.exit(status)
