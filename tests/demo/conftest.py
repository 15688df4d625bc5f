"""One seeded emulator for the tests that only look."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from lockboard.demo.emulator import Emulator

NOW = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)


@pytest.fixture(scope="package")
def seeded() -> Iterator[Emulator]:
    with Emulator.start(NOW, seed=7) as emulator:
        yield emulator
