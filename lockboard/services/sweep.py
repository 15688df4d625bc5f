"""The slower look at object versions: it finds what listing and table cannot show, states deleted with no
digest left.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from lockboard.domain.errors import ReadError
from lockboard.domain.keys import LOCKFILE_SUFFIX
from lockboard.domain.model import Backend
from lockboard.domain.ports import States
from lockboard.services.picture import Swept

RETRY = timedelta(minutes=5)
"""When a sweep that failed is tried again, unless the next is due earlier."""


class Sweeper:
    """Sweeps one backend now and then.

    `found` is what the last sweep that succeeded found, at `at`; `error` why the last one failed, None if it
    did not.
    """

    def __init__(self, backend: Backend, states: States) -> None:
        self._backend, self._states = backend, states
        self._tried_at: datetime | None = None
        self.found = Swept()
        self.at: datetime | None = None
        self.error: str | None = None
        self.versioning = "unknown"

    def due(self, now: datetime) -> bool:
        """Whether it is time."""
        every = min(RETRY, self._backend.sweep_every) if self.error else self._backend.sweep_every
        return self._tried_at is None or now - self._tried_at >= every

    def sweep(self, now: datetime, is_known: Callable[[str], bool]) -> None:
        """Read all versions once. `is_known` tells a key that has been a state before, whatever its name."""
        self._tried_at, self.versioning = now, self._states.versioning()
        deleted: dict[str, str | None] = {}
        lockfiles: set[str] = set()
        try:
            for page in self._states.sweep_pages(self._backend.prefix):
                deleted.update(
                    (one.key, one.marker)
                    for one in page
                    if one.marker is not None and not one.key.endswith(LOCKFILE_SUFFIX)
                )
                lockfiles.update(
                    one.key.removesuffix(LOCKFILE_SUFFIX) for one in page if one.key.endswith(LOCKFILE_SUFFIX)
                )
        except ReadError as error:
            self.error = str(error)
            return
        states = {
            key: marker
            for key, marker in deleted.items()
            if self._backend.state_key(key) or is_known(key) or key in lockfiles
        }
        self.found, self.at, self.error = Swept(states, lockfiles), now, None
