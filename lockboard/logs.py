"""What every process says while it runs: one line of JSON for each event, on standard error.

`configure` once, early; until then nothing is said. Ours through `get`; what libraries log from WARNING on,
Python's warnings and what nobody caught go the same way. Only the fields in FIELDS come out, each bounded,
and all of it is ASCII: whatever a value holds, an event is one line and cannot steer a terminal.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from itertools import islice
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


def request_id() -> str | None:
    """Of the request at hand."""
    return _request.get()


def get(name: str) -> Log:
    """The log of one part of Lockboard, such as `web`."""
    log: Log = structlog.wrap_logger(
        _OUTPUT, processors=list(_PROCESSORS), wrapper_class=_LEVELS, context_class=dict
    ).bind(logger=name)
    return log


def configure(stream: TextIO) -> None:
    """Say everything on `stream` from now on: ours, Python's warnings, and libraries' from WARNING on."""
    _OUTPUT.stream = stream
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
    stamp = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
    fields["timestamp"] = stamp.removesuffix("+00:00") + "Z"
    fields["level"] = method
    if (request := _request.get()) is not None:
        fields["request_id"] = request
    if (action := _action.get()) is not None:
        fields["action_id"] = action
    return fields


def _line(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> str:
    return _rendered(fields)


def _rendered(fields: Mapping[str, Any]) -> str:
    kept = {name: _plain(fields[name], LONGEST_VALUE) for name in _ordered(fields)}
    line = _json(kept)
    if len(line) > LONGEST_LINE:
        kept = {name: _plain(value, _SHORT, items=3) for name, value in kept.items()}
        line = _json(kept)
    if len(line) > LONGEST_LINE:  # short texts, but escaped to twelve times their length
        line = _json({name: value for name, value in kept.items() if name in _HEAD})
    return line


def _ordered(fields: Mapping[str, Any]) -> list[str]:
    """The head of a line is the same for all, whatever is said."""
    head = [name for name in _HEAD if name in fields]
    return head + [name for name in fields if name in _BODY]


def _json(fields: Mapping[str, Any]) -> str:
    # DEL is the one control character that JSON's ASCII lets through.
    return json.dumps(fields).replace("\x7f", "\\u007f")


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
    """Lines to a stream. One that takes none any more is no reason to fail."""

    def __init__(self) -> None:
        self.stream: TextIO | None = None
        self._turn = threading.Lock()

    def msg(self, line: str) -> None:
        stream = self.stream
        if stream is None:
            return
        with self._turn:
            try:
                stream.write(line + "\n")
                stream.flush()
            except (OSError, ValueError):
                return

    debug = info = warning = error = critical = exception = log = msg


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
