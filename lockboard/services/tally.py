"""How many requests a piece of work sent, over both ports of a backend."""

from __future__ import annotations

from lockboard.domain.ports import LockTable, Requests, States


class Tally:
    """Sums the counters of a bucket and its table, which may be one and the same."""

    def __init__(self, states: States, table: LockTable | None) -> None:
        counters = [states.requests, table.requests] if table else [states.requests]
        self._counters: list[Requests] = [
            counters[0],
            *(one for one in counters[1:] if one is not counters[0]),
        ]

    def counts(self) -> dict[str, int]:
        """Requests so far, by kind."""
        kinds = self._counters[0].snapshot()
        return {kind: sum(one.counts.get(kind, 0) for one in self._counters) for kind in kinds}

    def since(self, before: dict[str, int]) -> dict[str, int]:
        """Requests since an earlier `counts()`."""
        return {kind: count - before.get(kind, 0) for kind, count in self.counts().items()}

    def throttled(self) -> int:
        """How often a service asked for fewer requests."""
        return sum(one.throttled for one in self._counters)
