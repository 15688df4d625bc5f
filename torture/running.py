"""Arenas with everything they need, and many trials in them."""

from __future__ import annotations

import secrets
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests import needs
from tests.databases import postgresql_server, sqlite_url
from tests.emulators import Emulator, ministack_server, moto_server
from torture.arena import Arena, Trial, arena
from torture.deeds import DEEDS
from torture.points import Point
from torture.truth import INVARIANTS, Fault, faults_of

DATABASES = ("SQLite", "PostgreSQL")
EMULATORS = ("moto", "ministack")
CHAIN_EVERY = 25
"""Trials after which the whole chain is checked, besides the end."""


@dataclass
class Tally:
    """What the trials of one database came to. kills: by deed's name and point. outcomes: by the word in
    the log.
    """

    database: str
    emulator: str
    kills: Counter[tuple[str, Point]] = field(default_factory=Counter)
    broken: Counter[tuple[str, Point]] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    by_invariant: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    relapses: int = 0
    writes: int = 0
    chains: int = 0
    slowest: float = 0.0

    @property
    def trials(self) -> int:
        return self.kills.total()

    def count(self, trial: Trial, faults: Sequence[Fault]) -> None:
        """One more trial."""
        place = (trial.deed.name, trial.point)
        self.kills[place] += trial.killed
        self.broken[place] += bool(faults)
        outcomes = [r["result"] for r in trial.settled["records"] if r["kind"] == "outcome"]
        self.outcomes[outcomes[0] if outcomes else "nothing to record"] += 1
        self.restarts += trial.settled["settled"][1]
        self.relapses += trial.relapsed
        self.writes += sum(seen.committed for seen in trial.writes)
        self.slowest = max(self.slowest, trial.seconds)
        for invariant, how in faults:
            self.fault(invariant, f"{trial.deed.name}, {trial.point.name}, {trial.spot}: {how}")

    def fault(self, invariant: str, how: str) -> None:
        """One broken invariant."""
        self.by_invariant[invariant] += 1
        self.faults.append(f"{invariant}: {how}")

    def check_chain(self, held: Arena) -> None:
        """I8."""
        self.chains += 1
        if problem := held.broken_chain():
            self.fault("I8", problem)

    def finish(self, held: Arena) -> None:
        """What is looked at once, at the end: I8 and I9."""
        self.check_chain(held)
        for where in held.leaks():
            self.fault("I9", f"a state's secret is in {where}")


@contextmanager
def open_arena(database: str, emulator: str) -> Iterator[Arena]:
    """A database and an emulator of their own, thrown away at the end. Skips (see `tests.needs`) what is
    missing.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lockboard-torture-")))
        home, files = folder / "emulator", folder / "arena"
        home.mkdir()
        files.mkdir()
        sqlite = database == "SQLite"
        url = sqlite_url(files) if sqlite else stack.enter_context(postgresql_server()).fresh()
        canary = f"canary-{secrets.token_hex(12)}"
        served = stack.enter_context(_emulator(emulator, home))
        yield stack.enter_context(arena(database, url, served, files, canary))


@contextmanager
def _emulator(name: str, folder: Path) -> Iterator[Emulator]:
    made = moto_server(folder) if name == "moto" else ministack_server(needs.ministack(), folder)
    with made as emulator:
        yield emulator


def run(databases: Mapping[str, str], turns: int, say: Callable[[str], None]) -> list[Tally]:
    """Every deed at every point so many times, side by side in each database with its emulator."""
    over = threading.Event()

    def one(database: str) -> Tally:
        tally = Tally(database, databases[database])
        with open_arena(database, databases[database]) as held:
            for turn in range(turns):
                _turn(held, tally, turn, over)
                say(f"{database}: {tally.trials} kills, {len(tally.faults)} broken promises")
            tally.finish(held)
        return tally

    with ThreadPoolExecutor(len(databases)) as pool:
        futures = [pool.submit(one, database) for database in databases]
        try:
            return [future.result() for future in futures]
        finally:
            over.set()


def _turn(held: Arena, tally: Tally, turn: int, over: threading.Event) -> None:
    for deed in DEEDS:
        for point in Point:
            if over.is_set():
                return
            trial = held.hold(deed, point, turn)
            tally.count(trial, faults_of(trial))
            if held.held % CHAIN_EVERY == 0:
                tally.check_chain(held)


def table(tally: Tally) -> str:
    """Kills by deed and point; a cell with a broken promise says how many of its trials had one."""
    heads = ["", *(point.name for point in Point), "kills"]
    rows = [heads]
    for deed in DEEDS:
        cells = [_cell(tally, deed.name, point) for point in Point]
        rows.append([deed.name, *cells, str(sum(tally.kills[deed.name, point] for point in Point))])
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = [
        "  ".join(
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def _cell(tally: Tally, deed: str, point: Point) -> str:
    broken = tally.broken[deed, point]
    return f"{tally.kills[deed, point]}" + (f" ({broken} broken)" if broken else "")


def told(tally: Tally) -> str:
    """The table, the invariants and the outcomes, in words."""
    outcomes = ", ".join(f"{count:,} {word}" for word, count in sorted(tally.outcomes.items()))
    lines = [
        f"{tally.database} on {tally.emulator}: {tally.trials:,} kills.",
        f"{tally.relapses:,} times the restarted process was killed as well.",
        f"{tally.restarts:,} intents settled after a restart, {tally.writes:,} changes made at the service.",
        f"Outcomes in the log: {outcomes}.",
        "",
        table(tally),
        "",
    ]
    for name, words in INVARIANTS.items():
        broken = tally.by_invariant[name]
        lines.append(f"{name.ljust(3)}  {f'BROKEN {broken} times' if broken else 'held'}  {words}")
    return "\n".join([*lines, *sorted(tally.faults)[:50]])


def complain(text: str) -> None:
    """How far it is, on standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
