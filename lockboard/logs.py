"""What every process says while it runs: one line of JSON for each event, on standard error.

`configure` once, early; until then nothing is said. Ours through `get`; what libraries log from WARNING on,
Python's warnings and what nobody caught go the same way. Only the fields in FIELDS come out, each bounded,
and all of it is ASCII: whatever a value holds, an event is one line and cannot steer a terminal.
"""

from __future__ import annotations

import atexit
import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from json.encoder import encode_basestring_ascii
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

import structlog

from lockboard.domain.errors import LockboardError

FIELDS = frozenset(
    {
        # on every line
        *("timestamp", "level", "logger", "event"),
        *("request_id", "action_id"),
        # of a request
        *("method", "route", "path", "status", "milliseconds", "person", "address"),
        # of a refresh
        *("backend", "complete", "states", "rows_written", "requests", "seconds"),
        # of a failure
        *("error", "exception", "causes", "where", "setting"),
        # of a process or an action
        *("process", "pid", "url", "version", "result", "count", "seq", "place", "failures"),
    }
)
"""All that may be said. No headers, cookies, bodies, query strings, states."""

LONGEST_LINE = 4000
"""Bytes. A pipe takes fewer than 4,096 at once, so that lines of two processes never mix."""
LONGEST_VALUE = 1500
GATHERED = 0.1
"""Seconds that a line may wait for others; a warning or an error waits for none."""
FRAMES = 12
"""Places of a traceback that are named, the innermost last."""

_HEAD = ("timestamp", "level", "logger", "event")
_BODY = FIELDS.difference(_HEAD)
_SHORT = 120
_ITEMS = 40
_LOUD = ("boto3", "botocore", "s3transfer", "urllib3", "requests", "authlib", "werkzeug")
"""They log headers and bodies at DEBUG."""

_request: ContextVar[str | None] = ContextVar("lockboard_request", default=None)
_action: ContextVar[str | None] = ContextVar("lockboard_action", default=None)


class Log(Protocol):
    """Where events go: a name for what happened, and fields."""

    def debug(self, event: str, **fields: Any) -> None:
        """Not written."""

    def info(self, event: str, **fields: Any) -> None: ...

    def warning(self, event: str, **fields: Any) -> None: ...

    def error(self, event: str, **fields: Any) -> None: ...


def bind_request(request_id: str | None) -> None:
    """What is said from here on, in this thread, belongs to this request; and to no action yet."""
    _request.set(request_id)
    _action.set(None)


def bind_action(action_id: str | None) -> None:
    """What is said from here on, in this thread, belongs to this action."""
    _action.set(action_id)


def get(name: str) -> Log:
    """The log of one part of Lockboard, such as `web`."""
    log: Log = structlog.wrap_logger(
        _OUTPUT, processors=list(_PROCESSORS), wrapper_class=_LEVELS, context_class=dict
    ).bind(logger=name)
    return log


def tell(name: str, event: str, **fields: Any) -> None:
    """`get(name).info(event, ...)` without the copies that structlog makes of the fields: for what is said of
    every request.
    """
    fields["event"], fields["logger"] = event, name
    _OUTPUT.info(_rendered(_stamped(None, "info", fields)))


def configure(stream: TextIO, *, gather: bool = False) -> None:
    """Say everything on `stream` from now on: ours, Python's warnings, and libraries' from WARNING on.

    gather: what is merely told may come GATHERED seconds late, several lines at a time; for a process that
    forks no more.
    """
    _OUTPUT.stream, _OUTPUT.gathers = stream, gather
    structlog.configure(
        processors=list(_PROCESSORS),
        wrapper_class=_LEVELS,
        context_class=dict,
        logger_factory=lambda *_: _OUTPUT,
    )
    # Below INFO libraries print what they send. Nothing can switch that on again: not a level, not a handler.
    logging.disable(logging.DEBUG)
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)
    root = logging.getLogger()
    root.handlers[:] = [Handler()]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


class Handler(logging.Handler):
    """Writes the standard library's records as our own events."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            said = record.getMessage()
        except Exception:  # noqa: BLE001  wrong arguments in a library's call must not fail a request
            said = str(record.msg)
        fields: dict[str, Any] = {"event": said, "logger": record.name}
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            fields |= describe(error)
        _OUTPUT.msg(_rendered(_stamped(None, record.levelname.lower(), fields)))


def describe(error: BaseException) -> dict[str, Any]:
    """An exception in fields: its kind, those it came from, and where it rose.

    Its text only where we or the operating system wrote it: others quote what they could not read.
    """
    chain = list(islice(_chain(error), 5))
    fields: dict[str, Any] = {
        "exception": _kind(chain[0]),
        "where": _places(error.__traceback__),
    }
    if len(chain) > 1:
        fields["causes"] = [_kind(cause) for cause in chain[1:]]
    reasons = [reason for found in chain if (reason := _reason(found))]
    if reasons:
        fields["error"] = reasons[0]
    return fields


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def _kind(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _reason(error: BaseException) -> str:
    if isinstance(error, LockboardError):
        return str(error)
    return error.strerror or "" if isinstance(error, OSError) and isinstance(error.strerror, str) else ""


def _places(found: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(found)[-FRAMES:]
    return [f"{'/'.join(Path(f.filename).parts[-3:])}:{f.lineno} {f.name}" for f in frames]


# ------------------------------------------------------------------ from fields to a line


def _stamped(_logger: Any, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    second, rest = divmod(int(time.time() * 1000), 1000)
    fields["timestamp"] = f"{_second(second)}.{rest:03d}Z"
    fields["level"] = method
    if (request := _request.get()) is not None:
        fields["request_id"] = request
    if (action := _action.get()) is not None:
        fields["action_id"] = action
    return fields


@lru_cache(maxsize=1)
def _second(now: int) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _line(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> str:
    return _rendered(fields)


def _rendered(fields: Mapping[str, Any]) -> str:
    names = _ordered(tuple(fields))
    line = "{" + ", ".join([f'"{name}": {_spelled(fields[name])}' for name in names]) + "}"
    if len(line) > LONGEST_LINE:
        kept = {name: _plain(fields[name], _SHORT, items=3) for name in names}
        line = _json(kept)
        if len(line) > LONGEST_LINE:  # short texts, but escaped to twelve times their length
            line = _json({name: value for name, value in kept.items() if name in _HEAD})
    return line


def _spelled(value: Any) -> str:
    """A value in JSON. The short texts and small numbers that every request has take the short way."""
    kind = type(value)
    if kind is str and len(value) <= _SHORT and "\x7f" not in value:
        return encode_basestring_ascii(value)
    if kind in (int, float) and -1_000_000 < value < 1_000_000:
        return repr(value)
    return "null" if value is None else _json(_plain(value, LONGEST_VALUE))


@lru_cache(maxsize=256)
def _ordered(fields: tuple[str, ...]) -> tuple[str, ...]:
    """The head of a line is the same for all, whatever is said."""
    head = [name for name in _HEAD if name in fields]
    return (*head, *[name for name in fields if name in _BODY])


def _json(value: Any) -> str:
    # DEL is the one control character that JSON's ASCII lets through.
    return json.dumps(value).replace("\x7f", "\\u007f")


def _plain(value: Any, longest: int, *, items: int = _ITEMS, depth: int = 2) -> Any:
    """A value as JSON has it, bounded; of what is none, the name of its kind."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = str.__str__(value)
        return text if len(text) <= longest else text[:longest] + "…"
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else "a very large number"
    if isinstance(value, float):
        return float(value) if value - value == 0 else str(float(value))
    if depth and isinstance(value, Mapping):
        return {
            _plain(str(name), _SHORT): _plain(item, _SHORT, depth=depth - 1)
            for name, item in islice(value.items(), items)
        }
    if depth and isinstance(value, (list, tuple)):
        return [_plain(item, _SHORT, depth=depth - 1) for item in value[-items:]]
    return type(value).__name__


class _Output:
    """Lines to a stream. One that takes none any more is no reason to fail.

    gathers: whether what is merely told may wait for GATHERED seconds, or until it is as long as a line may
    be, and be written at once: every write lets other threads go first, which at a thousand requests a
    second costs more than the rest of the line.
    """

    def __init__(self) -> None:
        self.stream: TextIO | None = None
        self.gathers = False
        self._turn = threading.Lock()
        self._waiting: list[str] = []
        self._size = 0
        self._something = threading.Event()
        self._writer: threading.Thread | None = None

    def msg(self, line: str) -> None:
        """At once, behind what waits."""
        with self._turn:
            self._write_waiting()
            self._write(line + "\n")

    def info(self, line: str) -> None:
        if not self.gathers:
            self.msg(line)
            return
        with self._turn:
            if self._size + len(line) >= LONGEST_LINE:
                self._write_waiting()
            first = not self._waiting
            self._waiting.append(line)
            self._size += len(line) + 1
            if first:
                self._something.set()
                if self._writer is None:
                    atexit.register(self.flush)
                    self._writer = threading.Thread(target=self._write_on, name="log", daemon=True)
                    self._writer.start()

    def flush(self) -> None:
        """Write what waits."""
        with self._turn:
            self._write_waiting()

    def _write_on(self) -> None:
        while True:
            self._something.wait()
            time.sleep(GATHERED)
            self.flush()

    def _write_waiting(self) -> None:
        lines, self._waiting, self._size = self._waiting, [], 0
        self._something.clear()
        if lines:
            self._write("\n".join(lines) + "\n")

    def _write(self, text: str) -> None:
        if self.stream is None:
            return
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):
            return

    warning = error = critical = exception = log = msg
    debug = info


_OUTPUT = _Output()
_PROCESSORS = (_stamped, _line)
_LEVELS = structlog.make_filtering_bound_logger(logging.INFO)


def _uncaught(kind: type[BaseException], error: BaseException, found: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        return
    get("process").error("ended by an error that nobody expected", **describe(error))


def _uncaught_in_thread(given: threading.ExceptHookArgs) -> None:
    if given.exc_value is not None and not isinstance(given.exc_value, SystemExit):
        get("process").error("a thread ended by an error that nobody expected", **describe(given.exc_value))
