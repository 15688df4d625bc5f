"""A place in a list as a piece of a URL."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NamedTuple

from lockboard.adapters.store.order import Lane, Order, Position
from lockboard.adapters.store.rows import storable

_LONGEST = 4096
_LARGEST_RANK = 1000


class Cursor(NamedTuple):
    """Go on from this row, which is not shown again: forward, or backward to the page before it."""

    position: Position
    backward: bool


def encode(order: Order, cursor: Cursor) -> str:
    """The cursor as URL-safe text, bound to the order (and to nothing else: filters may change under it)."""
    (lane, values), backward = cursor
    parts = [order.name, int(order.descending), int(backward), lane, *values]
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(order: Order, text: str) -> Cursor | None:
    """What `encode` made for the same order, None for anything else."""
    if not text or len(text) > _LONGEST:
        return None
    try:
        parts = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        name, descending, backward, lane, *values = parts
        if (name, descending, type(lane)) != (order.name, int(order.descending), int) or backward not in (
            0,
            1,
        ):
            return None
        position = _position(order.lanes[lane], lane, values) if 0 <= lane < len(order.lanes) else None
    except (ValueError, TypeError, RecursionError):
        return None
    return Cursor(position, bool(backward)) if position else None


def _position(lane: Lane, number: int, values: list[object]) -> Position | None:
    if len(values) != len(lane.columns):
        return None
    checked: list[object] = []
    for column, value in zip(lane.columns, values, strict=True):
        if column in ("place", "id"):
            if not isinstance(value, str):
                return None
            checked.append(storable(value))
        elif isinstance(value, int | float) and not isinstance(value, bool) and _fits(column, value):
            checked.append(value)
        else:
            return None
    return Position(number, tuple(checked))


def _fits(column: str, value: float) -> bool:
    return abs(value) < (_LARGEST_RANK if column == "rank" else 1e15)
