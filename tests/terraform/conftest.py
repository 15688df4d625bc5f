"""Fixtures of this room: a maker of stacks, each with a bucket and a lock table of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import needs
from tests.emulators import Emulator
from tests.terraform.workspace import Stack


@dataclass(frozen=True)
class Stacks:
    """Makes stacks of one test on one emulator."""

    terraform: str
    emulator: Emulator
    folder: Path

    def make(
        self,
        key: str = "app/terraform.tfstate",
        *,
        name: str = "stack",
        versioned: bool = True,
        table: bool = True,
        use_lockfile: bool = False,
        beside: Stack | None = None,
        workspace_key_prefix: str | None = None,
        endpoint: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Stack:
        """A stack in a bucket and table of its own, or in those of the stack it stands `beside`."""
        return Stack(
            terraform=self.terraform,
            folder=self.folder / name,
            emulator=self.emulator,
            bucket=beside.bucket if beside else self.emulator.make_bucket(versioned=versioned),
            key=key,
            table=self._table(beside) if table else None,
            use_lockfile=use_lockfile,
            workspace_key_prefix=workspace_key_prefix,
            endpoint=endpoint,
            options=options or {},
        )

    def _table(self, beside: Stack | None) -> str:
        return beside.table if beside and beside.table else self.emulator.make_table()

    def applied(self, key: str = "app/terraform.tfstate", **settings: Any) -> Stack:
        """A stack with two state versions: serial 1 with one resource, serial 2 or more with two."""
        stack = self.make(key, **settings)
        stack.apply(network="10.0.0.0/16")
        stack.apply(network="10.0.0.0/16", cluster="blue")
        return stack


@pytest.fixture
def stacks(emulator: Emulator, tmp_path: Path) -> Stacks:
    return Stacks(needs.terraform(), emulator, tmp_path)
