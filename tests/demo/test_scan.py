from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lockboard.demo.emulator import Emulator
from lockboard.demo.estate import ROWS, Row
from lockboard.demo.run import configuration

SCAN = "from lockboard.cli import main; main()"


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """What `lockboard scan` prints of the estate, with the exit status under `status`."""
    folder = tmp_path_factory.mktemp("scan")
    with Emulator.start(datetime.now(UTC)) as emulator:
        config = Path(folder, "lockboard.toml")
        config.write_text(configuration(emulator.url, folder), encoding="utf-8")
        words = [sys.executable, "-c", SCAN, "scan", "--config", str(config), "--format", "json"]
        done = subprocess.run(words, env=dict(os.environ), capture_output=True, timeout=120, check=False)
    assert done.stdout, done.stderr.decode("utf-8", "replace")
    return {**json.loads(done.stdout), "status": done.returncode}


def found(scanned: Mapping[str, Any], row: Row) -> tuple[str, str]:
    (state,) = [s for s in scanned["states"] if (s["backend"], s["key"]) == (row.backend, row.key)]
    return state["content"], state["lock"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.backend}-{row.key}")
def test_scan_gives_the_key_the_status_that_it_was_made_with(scanned: Mapping[str, Any], row: Row) -> None:
    assert found(scanned, row) == (row.content, row.lock)


def test_scan_lists_no_key_that_the_estate_does_not_have(scanned: Mapping[str, Any]) -> None:
    listed = {(state["backend"], state["key"]) for state in scanned["states"]}
    assert listed == {(row.backend, row.key) for row in ROWS}


def test_scan_says_by_its_exit_status_that_something_needs_attention(scanned: Mapping[str, Any]) -> None:
    assert scanned["status"] == 1
    assert all(backend["complete"] for backend in scanned["backends"])
