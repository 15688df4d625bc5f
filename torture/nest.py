"""Lockboard joined once, and forked for every trial: `python -m torture.nest CONFIG FOLDER`.

Nothing is connected when it forks, so each child is to the database and to AWS what a new process is.
Told what to do by lines of JSON (`benchmarks.children`). What the children print goes to
`FOLDER/output.log`, at every level.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, cast

from flask import Flask

from benchmarks.children import Command, answer_commands
from lockboard import __version__
from lockboard.adapters.hands import HandsOpener, Reach
from lockboard.config import Settings, load
from lockboard.domain.audit import LOCKBOARD, Audit, AuditQuery
from lockboard.domain.inventory import Board
from lockboard.domain.keys import PROBE_KEY, state_id
from lockboard.domain.ports import LockTable, States
from lockboard.domain.writes import OpenHands
from lockboard.services.actions import Actions, Place
from lockboard.services.recheck import Rechecker
from lockboard.services.reconcile import DEAD_AFTER, Reconciler
from lockboard.web.app import Services, build_app
from lockboard.web.signin import demo_door
from lockboard.wiring import OpenBackend, open_audit, open_backends, open_store, places_of, utc_now
from tests.databases import state_row
from torture.fuse import Fuse, FusedAudit, FusedHands, FusedStates, FusedTable
from torture.points import Spot, Where

SECRETS: Mapping[str, str] = {
    "LOCKBOARD_SECRET_KEY": "the secret key of a run of torture: no secret",
    "LOCKBOARD_AUDIT_KEY": "the audit key of a run of torture: no secret either",
}
OUTPUT, HEADS = "output.log", "heads.jsonl"

_TOKEN = re.compile(r'name="token" value="([^"]+)"')
_CSRF = re.compile(r'name="csrf" value="([^"]+)"')
_OWN_PAGE = {"Host": "localhost", "Sec-Fetch-Site": "same-origin"}
_REFUSED = 3
"""Exit status of a child that was not let act."""


class Joined(NamedTuple):
    """Everything of one process."""

    fuse: Fuse
    board: Board
    places: Mapping[str, Place]
    audit: Audit
    hands: OpenHands
    actions: Actions
    app: Flask


def settings_of(config: Path) -> Settings:
    """The settings of a run."""
    return load(config, SECRETS)


def _join(settings: Settings, heads: Path) -> Joined:
    """As `web.wsgi` and `wiring.open_actions` do it, with fuses in the ports."""
    fuse = Fuse()
    engine, _, board = open_store(settings)
    opened = open_backends(settings, settle=timedelta(0))
    stream = heads.open("a", encoding="ascii")
    written = open_audit(settings, stream)
    assert written is not None
    audit = cast(Audit, FusedAudit(written, fuse))
    hands = FusedHands(HandsOpener({item.backend.name: _reach(item) for item in opened}), fuse)
    places = {name: _fused(place, fuse) for name, place in places_of(opened).items()}
    actions = Actions(
        board,
        places,
        audit,
        hands,
        secret=str(settings.secret_key),
        clock=utc_now,
        monotonic=time.monotonic,
        sleep=time.sleep,
        new_id=lambda: str(uuid.uuid4()),
        version=__version__,
    )
    services = Services(
        board=board,
        backends={item.backend.name: item.backend for item in opened},
        recheck=Rechecker(board, places_of(opened), utc_now),
        settings=[],
        clock=utc_now,
        refresh_every=settings.refresh.every,
        version=__version__,
        door=demo_door(str(settings.secret_key), utc_now),
        limited=False,
        audit=audit,
        actions=actions,
    )
    app = build_app(services)
    for name in app.jinja_env.list_templates():
        app.jinja_env.get_template(name)
    _require_trust(hands, opened)
    engine.dispose()
    return Joined(fuse, board, places, audit, hands, actions, app)


def _reach(item: OpenBackend) -> Reach:
    settings = item.settings
    return Reach(item.access, settings.bucket, settings.prefix, settings.dynamodb_table)


def _fused(place: Place, fuse: Fuse) -> Place:
    table = cast(LockTable, FusedTable(place.table, fuse)) if place.table else None
    return Place(place.backend, cast(States, FusedStates(place.states, fuse)), table)


def _require_trust(hands: OpenHands, opened: list[OpenBackend]) -> None:
    """Each bucket is tried once, as the first action of a process does, and remembered."""
    for item in opened:
        writers = hands(item.backend.name, PROBE_KEY, LOCKBOARD, str(uuid.uuid4()))
        distrust = writers.states.refuses_wrong_conditions()
        if distrust:
            raise RuntimeError(distrust)


class Nest:
    """Forks one process at a time."""

    def __init__(self, joined: Joined, output: Path) -> None:
        self._joined, self._output = joined, output
        self._pid, self._go, self._told = 0, -1, -1

    def commands(self) -> dict[str, Command]:
        """What the run asks for."""
        return {"start": self.start, "go": self.go, "relapse": self.relapse, "restart": self.restart}

    def start(self, key: str, path: str, form: dict[str, str], where: str, passed: int) -> dict[str, Any]:
        """A process that opens the page of an action, at `path`, and waits."""
        waits, self._go = os.pipe()

        def child(told: int) -> int:
            return _act(self._joined, key, path, form, Spot(Where(where), passed), waits, told)

        self._fork(child, self._go)
        os.close(waits)
        return {"pid": self._pid}

    def go(self) -> dict[str, Any]:
        """Let it submit the form, and wait for its end."""
        os.write(self._go, b"1")
        os.close(self._go)
        return self._ended()

    def relapse(self, where: str, passed: int) -> dict[str, Any]:
        """A new process that settles what is open, and dies of it at the spot if it gets there."""
        self._fork(lambda _: _die_settling(self._joined, Spot(Where(where), passed)))
        return self._ended()

    def restart(self, key: str) -> dict[str, Any]:
        """A new process that settles what is open, once DEAD_AFTER has passed for it."""
        self._fork(lambda told: _settle(self._joined, key, told))
        return self._ended()

    def _fork(self, child: Callable[[int], int], *not_its: int) -> None:
        self._told, told = os.pipe()
        sys.stdout.flush()
        self._pid = os.fork()
        if self._pid:
            os.close(told)
            return
        status = 1
        gc.disable()  # a collection would copy the parent's memory, and the child lives for a moment
        try:
            for end in (self._told, *not_its):
                os.close(end)
            output = os.open(self._output, os.O_WRONLY | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            status = child(told)
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _ended(self) -> dict[str, Any]:
        with os.fdopen(self._told, "rb") as told:
            text = told.read()
        _, status = os.waitpid(self._pid, 0)
        signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        answer: dict[str, Any] = {"signal": signal, "status": status}
        return answer | (json.loads(text) if text else {})


_LATE = DEAD_AFTER + 1.0
"""Seconds after which an intent is that of a dead process, with those in which these small states leave."""


def _act(joined: Joined, key: str, path: str, form: dict[str, str], spot: Spot, waits: int, told: int) -> int:
    """What a person's click does. Where the spot is at the proxy, it is the proxy that kills."""
    # A refresh would have listed the key; the page reads everything of it anew.
    (backend,) = joined.places
    joined.board.put(state_row(key, backend=backend, document={"raw_key": key}))
    client = joined.app.test_client()
    page = client.get(path, headers={"Host": "localhost"}).get_data(as_text=True)
    token, csrf = _TOKEN.search(page), _CSRF.search(page)
    if token is None or csrf is None:
        _tell(told, {"refused": " ".join(re.sub(r"<[^>]+>", " ", page).split())[:2000]})
        return _REFUSED
    os.read(waits, 1)
    joined.fuse.arm(spot)
    answer = client.post(path, data={**form, "token": token[1], "csrf": csrf[1]}, headers=_OWN_PAGE)
    sys.stdout.write(answer.get_data(as_text=True))
    _tell(told, {"answered": answer.status_code, "location": answer.headers.get("Location", "")})
    joined.fuse.reach(Where.ANSWER)
    return 0


def _die_settling(joined: Joined, spot: Spot) -> int:
    joined.fuse.arm(spot)
    _settled(joined, _LATE)
    return 0


def _settled(joined: Joined, after: float) -> int:
    """How many intents a process settles so many seconds after it found them."""
    passed = 0.0
    reconcile = Reconciler(joined.audit, joined.places, joined.hands, joined.actions, lambda: passed)
    found = reconcile()
    passed = after
    return found + reconcile()


def _settle(joined: Joined, key: str, told: int) -> int:
    """What a restarted process does before and after an intent counts as that of a dead one; then its
    pages.
    """
    (backend,) = joined.places

    early = _settled(joined, 0.0)
    late, again = _settled(joined, _LATE), _settled(joined, _LATE)
    address = state_id(backend, key)
    records = [
        {
            "seq": record.seq,
            "kind": record.entry.kind.value,
            "action_id": record.entry.action_id,
            "result": record.entry.result,
            "message": record.entry.message,
        }
        for record in joined.audit.page(AuditQuery(state_id=address)).records
    ]
    newest = records[0]["seq"] if records else 0
    client = joined.app.test_client()
    page = client.get(f"/s/{address}?done={newest}", headers={"Host": "localhost"})
    sys.stdout.write(page.get_data(as_text=True))
    _tell(
        told,
        {
            "settled": [early, late, again],
            "open": [intent.entry.action_id for intent in joined.audit.open_intents()],
            "records": records[::-1],
            "page": [page.status_code, page.get_data(as_text=True)],
        },
    )
    return 0


def _tell(told: int, found: Mapping[str, object]) -> None:
    data = json.dumps(found).encode()
    while data:
        data = data[os.write(told, data) :]


def main(config: Path, folder: Path) -> None:
    """Join, and answer commands."""
    output = folder / OUTPUT
    output.touch()
    logging.basicConfig(filename=output, level=logging.DEBUG)
    nest = Nest(_join(settings_of(config), folder / HEADS), output)
    gc.collect()
    gc.freeze()
    answer_commands({"ready": lambda: {"pid": os.getpid()}, **nest.commands()})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
