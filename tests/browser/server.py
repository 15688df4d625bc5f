"""The real application over a real SQLite inventory, on a port of its own, behind a gate that can fail it."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, cast

from flask import Flask
from sqlalchemy import inspect, text
from werkzeug.http import http_date
from werkzeug.serving import WSGIRequestHandler, make_server

from lockboard.adapters.store import SqlBoard, SqlInventory, migrate, open_engine
from lockboard.domain.audit import Audit
from lockboard.domain.inventory import BackendReport, Changes, StateRow
from lockboard.domain.model import Backend
from lockboard.domain.text import utc
from lockboard.web.app import Services, SettingLine, build_app
from tests.browser.estate import NOW, Seen
from tests.web.entrances import always
from tests.web.fake_actions import FakeActions

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PATIENCE = 10.0
"""Seconds after which a request that is held, or waited for, is given up as a failure of the test."""

SETTINGS = (
    SettingLine("database.url", "sqlite:////var/lib/lockboard/lockboard.db", "file"),
    SettingLine("secret_key", "••••••••", "environment"),
    SettingLine("backends[0].stale_after", "1h", "default"),
)


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    method: str
    path: str
    query: str
    source: str
    """What htmx names as the element that asked, "" for the browser itself."""

    @property
    def url(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path


class Held:
    """A request that waits at the gate until it is let go."""

    def __init__(self) -> None:
        self._arrived, self._gone = threading.Event(), threading.Event()

    def wait(self) -> None:
        self._arrived.set()
        if not self._gone.wait(PATIENCE):
            raise TimeoutError("a held request was never let go")

    def has_arrived(self) -> bool:
        return self._arrived.is_set()

    def let_go(self) -> None:
        self._gone.set()


Rule = Callable[[Asked], bool]


class Gate:
    """WSGI middleware before the application: counts requests; fails, holds or cuts what it is told to.

    date: the server's time, as every answer tells it; no time by default, because tests move the clock of the
    page alone.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._rules: list[tuple[Rule, int | Held | None]] = []
        self.asked: list[Asked] = []
        self.date: datetime | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        asked = Asked(
            environ["REQUEST_METHOD"],
            environ.get("PATH_INFO", ""),
            environ.get("QUERY_STRING", ""),
            environ.get("HTTP_HX_SOURCE", ""),
        )
        self.asked.append(asked)
        for rule, answer in list(self._rules):
            if not rule(asked):
                continue
            if isinstance(answer, Held):
                answer.wait()
            elif answer is None:
                cast(socket.socket, environ["werkzeug.socket"]).shutdown(socket.SHUT_RDWR)
                raise ConnectionResetError
            else:
                start_response(
                    f"{answer} Made up", [("Content-Type", "text/html"), ("Cache-Control", "no-store")]
                )
                return [b"<!doctype html><title>Bad gateway</title><table><tr><td>nginx says no</table>"]
        return self._app(environ, start_response)

    @contextmanager
    def answering(self, status: int, rule: Rule) -> Iterator[None]:
        """A proxy in front answers with an error page of its own."""
        with self._under(rule, status):
            yield

    @contextmanager
    def cutting(self, rule: Rule) -> Iterator[None]:
        """The connection is lost before any answer."""
        with self._under(rule, None):
            yield

    @contextmanager
    def holding(self, rule: Rule) -> Iterator[Held]:
        """Requests wait until they are let go, at the latest when the block ends."""
        held = Held()
        try:
            with self._under(rule, held):
                yield held
        finally:
            held.let_go()

    @contextmanager
    def _under(self, rule: Rule, answer: int | Held | None) -> Iterator[None]:
        entry = (rule, answer)
        self._rules.append(entry)
        try:
            yield
        finally:
            self._rules.remove(entry)

    def pulses(self) -> int:
        return sum(asked.path == "/states/pulse" for asked in self.asked)

    def live(self) -> int:
        """Requests that the page made by itself."""
        return sum(asked.source.endswith(("#pulse", "#region")) for asked in self.asked)


class Clock:
    """Tells the time that it was set to."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class Served:
    """An application on a port of its own, behind a gate."""

    def __init__(self, app: Flask) -> None:
        self.gate = gate = Gate(app.wsgi_app)

        class Handler(WSGIRequestHandler):
            def date_time_string(self, timestamp: float | None = None) -> str:
                return http_date(gate.date) if gate.date else ""

        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        self._server = make_server("127.0.0.1", 0, self.gate, threaded=True, request_handler=Handler)
        self._server.daemon_threads = True  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Lab(Served):
    """A dashboard over one estate, with the handles a test turns."""

    def __init__(
        self,
        folder: Path,
        seen: Sequence[Seen],
        backends: Mapping[str, Backend],
        reports: Sequence[BackendReport],
        audit: Callable[[Clock], Audit] | None = None,
        *,
        acts: bool = False,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self._engine = open_engine(f"sqlite:///{folder / 'board.db'}")
        migrate(self._engine)
        self._inventory, self.board = SqlInventory(self._engine), SqlBoard(self._engine)
        self._seen, self.reports = seen, {found.backend: found for found in reports}
        self.clock = Clock()
        self.recheck_answer: Seen | Exception | None = None
        self.restore()
        kept = audit(self.clock) if audit else None
        self.actions = FakeActions(self.board, backends, kept, self.clock) if acts and kept else None
        services = Services(
            self.board,
            backends,
            self._recheck,
            SETTINGS,
            self.clock,
            timedelta(seconds=15),
            "0.1.0",
            always(clock=self.clock),
            audit=kept,
            actions=self.actions.as_actions() if self.actions else None,
            limited=False,
        )
        seconds = count()  # every look at the store is a fresh one
        app = build_app(services, monotonic=lambda: float(next(seconds)))
        super().__init__(app)

    def restore(self) -> None:
        """The estate as it was at first; the generation goes on."""
        self.clock.now = NOW
        self.recheck_answer = None
        for name, found in self.reports.items():
            rows = [seen.row() for seen in self._seen if seen.backend == name]
            keep = {row.id for row in rows}
            drop = [id_ for id_ in self._inventory.known(name) if id_ not in keep]
            self._inventory.apply(Changes(name, rows, drop, found))

    def change(self, *seen: Seen) -> None:
        """A refresh finds these keys anew."""
        for name in {one.backend for one in seen}:
            rows = [one.row(self.clock.now) for one in seen if one.backend == name]
            self._inventory.apply(Changes(name, rows, [], self.reports[name]))

    def drop(self, *seen: Seen) -> None:
        """A refresh no longer finds these keys."""
        for one in seen:
            self._inventory.apply(Changes(one.backend, [], [one.id], self.reports[one.backend]))

    def look_again(self) -> None:
        """Refreshes that find nothing new: the data is as of the clock's now, the generation stays."""
        now = self.clock.now
        for name, found in self.reports.items():
            self._inventory.apply(Changes(name, [], [], replace(found, attempted_at=now, data_at=now)))

    def report(self, found: BackendReport) -> None:
        """A refresh that changes nothing but how it went."""
        self._inventory.apply(Changes(found.backend, [], [], found))

    def lose_the_store(self) -> None:
        """The database is there and its tables are not: nothing in it can be read any more."""
        with self._engine.begin() as connection:
            for table in inspect(connection).get_table_names():
                connection.execute(text(f'DROP TABLE IF EXISTS "{table}"'))

    def _recheck(self, backend: str, state_id: str) -> StateRow:
        if isinstance(self.recheck_answer, Exception):
            raise self.recheck_answer
        row = self.recheck_answer.row(self.clock.now) if self.recheck_answer else self.board.state(state_id)
        assert row is not None
        fresh = replace(row, document={**row.document, "rechecked_at": utc(self.clock.now)})
        self.board.put(fresh)
        return fresh
