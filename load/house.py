"""What is put under load: `lockboard serve` as people start it, on an estate behind a synthetic endpoint, and
a few keys behind an emulator that can be acted on.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from benchmarks.children import Child, end, environment
from benchmarks.estate import BUCKET, REGION, TABLE
from load.browsers import GROUP, SECRET_HEADER, SECRET_VARIABLE
from lockboard.adapters.store import SqlInventory, open_engine
from lockboard.domain.inventory import BackendReport
from lockboard.domain.keys import state_id
from tests.emulators import free_port, moto_server
from torture.deeds import DEEDS, Before, Deed, Place

ESTATE, HANDS = "estate", "hands"
"""The backends: the large one that is read, and the small one that is acted on."""

READY_SECONDS = 120.0
LOOK_SECONDS = 0.1
UNLOCKS = tuple(deed for deed in DEEDS if deed.name in ("unlock the item", "unlock the .tflock"))


@dataclass(frozen=True)
class Held:
    """A key whose lock will be released."""

    deed: Deed
    before: Before

    @property
    def address(self) -> str:
        """Its state ID, as paths have it."""
        return state_id(HANDS, self.before.key)


@dataclass(frozen=True)
class House:
    """A running `lockboard serve`."""

    port: int
    process: subprocess.Popen[bytes]
    endpoint: Child
    inventory: SqlInventory
    place: Place
    held: tuple[Held, ...]
    every: float

    def report(self, backend: str = ESTATE) -> BackendReport | None:
        """What the last refresh of a backend told."""
        return self.inventory.report(backend)

    def attempted(self) -> datetime | None:
        """When the last refresh of the estate was."""
        report = self.report()
        return report.attempted_at if report else None

    def after_refresh(self) -> datetime:
        """Wait until a refresh of the estate has just ended: none is under way then. When it was."""
        before, until = self.attempted(), time.monotonic() + READY_SECONDS
        while (now := self.attempted()) == before or now is None:
            if time.monotonic() > until:
                raise RuntimeError("the estate is not refreshed any more")
            time.sleep(LOOK_SECONDS)
        return now

    def memory_mb(self) -> tuple[float, float]:
        """(now, at most): of the process that serves the pages; zeros where the system does not tell."""
        try:
            server = next(pid for pid in _children(self.process.pid) if b"gunicorn" in _command(pid))
            status = Path(f"/proc/{_children(server)[0]}/status").read_text()
        except (OSError, StopIteration, IndexError):
            return 0.0, 0.0
        found = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.startswith("Vm")}
        return int(found["VmRSS"]) * 1024 / 1e6, int(found["VmHWM"]) * 1024 / 1e6


@contextmanager
def opened(folder: Path, keys: int, actions: int, every: float) -> Iterator[House]:
    """Start everything, wait until all keys are known; end everything with the block.

    actions: how many locks there are to release.  every: seconds between two refreshes.
    """
    (folder / "moto").mkdir()
    with Child("benchmarks.endpoint", str(keys)) as endpoint, moto_server(folder / "moto") as emulator:
        place = Place(emulator, emulator.make_bucket(), emulator.make_table(), "a secret")
        held = tuple(_held(place, number) for number in range(actions))
        store, port = f"sqlite:///{folder / 'lockboard.db'}", free_port()
        config = folder / "lockboard.toml"
        config.write_text(_settings(store, endpoint.ask("address")["port"], place, every))
        log = folder / "serve.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "lockboard", "serve", "--config", str(config), "--port", str(port)],
                env=environment({**_keys(), "LOCKBOARD_PROXY_SECRET": os.environ[SECRET_VARIABLE]}),
                cwd=Path(__file__).resolve().parent.parent,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            _ready(process, port, log)
            engine = open_engine(store)
            house = House(port, process, endpoint, SqlInventory(engine), place, held, every)
            _filled(house, keys, actions)
            yield house
            engine.dispose()
        finally:
            end(process)


_SIGN_IN = f"""\
[auth]
mode = "proxy"
[auth.proxy]
addresses = ["127.0.0.1/32"]
secret_header = "{SECRET_HEADER}"
[[auth.grants]]
role = "operator"
groups = ["{GROUP}"]
unlock_unsuspected = true"""


def _keys() -> dict[str, str]:
    """Keys for one run; a run by root is allowed, since nothing of it lasts."""
    keys = {f"LOCKBOARD_{name}_KEY": secrets.token_hex(32) for name in ("SECRET", "AUDIT")}
    return {**keys, "LOCKBOARD_ALLOW_ROOT": "1"}


def _held(place: Place, number: int) -> Held:
    deed = UNLOCKS[number % len(UNLOCKS)]
    return Held(deed, deed.prepare(place, f"{deed.slug}/{number}/terraform.tfstate"))


def _settings(store: str, endpoint: int, place: Place, every: float) -> str:
    estate, emulator = f"http://127.0.0.1:{endpoint}", place.emulator.url
    lines = [f'[database]\nurl = "{store}"', "[actions]\nenabled = true", _SIGN_IN]
    lines += [f'[refresh]\nevery = "{every:g}s"', _backend(ESTATE, BUCKET, TABLE, estate)]
    lines += [_backend(HANDS, place.bucket, place.table, emulator), 'stale_after = "1s"', ""]
    return "\n".join(lines)


def _backend(name: str, bucket: str, table: str, url: str) -> str:
    named = {"name": name, "bucket": bucket, "region": REGION, "dynamodb_table": table}
    urls = {"s3_endpoint_url": url, "dynamodb_endpoint_url": url}
    return "\n".join(["[[backends]]", *(f'{key} = "{value}"' for key, value in (named | urls).items())])


def _ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"lockboard serve did not start:\n{log.read_text()[-2000:]}") from None
            time.sleep(LOOK_SECONDS)


def _filled(house: House, keys: int, actions: int) -> None:
    until, wanted = time.monotonic() + READY_SECONDS, {ESTATE: keys, HANDS: actions}
    while any((report := house.report(name)) is None or report.states != n for name, n in wanted.items()):
        if time.monotonic() > until:
            raise RuntimeError("the keys were not all found in time")
        time.sleep(LOOK_SECONDS)


def _children(process: int) -> list[int]:
    listing = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(child) for child in listing.split()]


def _command(process: int) -> bytes:
    return Path(f"/proc/{process}/cmdline").read_bytes()
