"""The list page under gunicorn: throughput beside an empty Flask view, and p99 while the refresher works."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.children import Child, end, environment
from benchmarks.figures import Figure, ratio_of, spoken
from lockboard.supervisor import web_command

CONNECTIONS = 2
"""Enough to keep the server busy: while one answer travels, the next is made."""
RATE = 50.0
"""Requests a second while latency is measured: far below what the server could answer."""
CHURN = 100
"""Locks that move between two refreshes while latency is measured, so that the refresher also writes."""
READY_SECONDS = 60.0

LIST = "/states?view=attention"
FRESH = LIST + "&fresh=%d"
"""A parameter that the page does not know makes each request one that no kept page answers. The generation
moves on meanwhile, so that nothing that is kept with it stays true for long either.
"""


def measure(
    config: Path, endpoint: Child, ours: Child, load: Child, rounds: int, seconds: float
) -> list[Figure]:
    """`seconds`: how long one slice of a round takes; of latency, eight times that."""
    port, empty = _free_port(), _free_port()
    command = [*web_command("127.0.0.1", port)[:-1], "lockboard.web.wsgi:application(limited=False)"]
    with _server(command, port, "/readyz", {"LOCKBOARD_CONFIG": str(config)}):
        _require_rows(port)
        with _server(_empty_command(empty), empty, "/"):
            figures = _throughput(ours, load, port, empty, rounds, seconds)
        return [*figures, _slowest(endpoint, ours, load, port, rounds, 8 * seconds)]


def _throughput(ours: Child, load: Child, port: int, empty: int, rounds: int, seconds: float) -> list[Figure]:
    """Each kind of page by turns with the empty view."""

    def speed(port: int, path: str, status: int = 200) -> float:
        asked = {"port": port, "path": path, "seconds": seconds, "connections": CONNECTIONS, "status": status}
        return float(load.ask("throughput", **asked)["per_second"])

    def fresh() -> float:
        ours.send("stir", seconds=seconds)
        try:
            return speed(port, FRESH)
        finally:
            ours.receive()

    kinds: dict[str, tuple[Callable[[], float], float]] = {
        "list page of 50 rows, fresh: an empty view": (fresh, 0.15),
        "list page of 50 rows, nothing changed: an empty view": (lambda: speed(port, LIST), 0.7),
        "pulse with nothing new: an empty view": (
            lambda: speed(port, f"/states/pulse?rev={_generation(port)}", 204),
            0.8,
        ),
    }
    speed(empty, "/")
    figures = []
    for name, (page, bound) in kinds.items():
        page()
        pairs = [(page(), speed(empty, "/")) for _ in range(rounds)]
        mine, theirs = (f"{median(half):,.0f}/s" for half in zip(*pairs, strict=True))
        figures.append(Figure(name, mine, theirs, ratio_of(pairs), bound, at_least=True))
    return figures


def _slowest(endpoint: Child, ours: Child, load: Child, port: int, rounds: int, seconds: float) -> Figure:
    def p99() -> float:
        asked = {"port": port, "path": FRESH, "seconds": seconds, "rate": RATE, "status": 200}
        found: list[float] = load.ask("latency", **asked)["seconds"]
        return found[min(len(found) - 1, int(len(found) * 0.99))]

    pairs = []
    p99()
    for _ in range(rounds):
        idle = p99()
        endpoint.ask("tune", latency=0.03, churn=CHURN)
        ours.send("work", seconds=seconds)
        pairs.append((p99(), idle))
        ours.receive()
        endpoint.ask("tune", latency=0.03)
    busy, idle = (median(half) for half in zip(*pairs, strict=True))
    name = "list page, p99 while the refresher works: while it rests"
    return Figure(name, spoken(busy), spoken(idle), ratio_of(pairs), 1.5, at_least=False)


def _empty_command(port: int) -> list[str]:
    return [*web_command("127.0.0.1", port)[:-1], "benchmarks.empty:application()"]


@contextmanager
def _server(
    command: list[str], port: int, ready: str, more: Mapping[str, str] | None = None
) -> Iterator[None]:
    process = subprocess.Popen(command, env=environment(more), cwd=Path(__file__).resolve().parent.parent)
    try:
        until = time.monotonic() + READY_SECONDS
        while True:
            try:
                _get(port, ready)
                break
            except (urllib.error.URLError, ConnectionError):
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{command[-1]} did not start") from None
                time.sleep(0.1)
        yield
    finally:
        end(process)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _get(port: int, path: str) -> tuple[str, Mapping[str, str]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return answer.read().decode(), answer.headers


def _require_rows(port: int) -> None:
    rows = _get(port, LIST)[0].count(' id="r-')
    if rows != 50:
        raise RuntimeError(f"the list page has {rows} rows, not 50")


def _generation(port: int) -> str:
    return _get(port, "/states/pulse")[1]["Lockboard-Generation"]
