"""Moments and lengths of time as the pages write them."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import NamedTuple

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Moment(NamedTuple):
    """iso: RFC 3339 in UTC.  age: how long ago.  short, long: to the minute, to the second, with the zone."""

    iso: str
    age: str
    short: str
    long: str


NEVER = Moment("", "", "", "")


class Times:
    """Writes moments in one zone, as seen from one `now`."""

    def __init__(self, now: datetime, zone: tzinfo) -> None:
        self.now, self.zone = now, zone
        self._seconds, self._year = now.timestamp(), now.astimezone(zone).year
        self.zone_name = now.astimezone(zone).tzname() or "UTC"

    def moment(self, when: datetime | None) -> Moment:
        """NEVER for None."""
        return NEVER if when is None else self.at(when.timestamp())

    def at(self, seconds: float | None) -> Moment:
        """Of seconds since 1970; NEVER for None and for what is no moment."""
        if seconds is None:
            return NEVER
        try:
            iso, short, long = _written(int(seconds), self.zone, self._year)
        except (OverflowError, ValueError, OSError):
            return NEVER
        return Moment(iso, age_words(self._seconds - seconds), short, long)

    def of(self, text: object) -> Moment:
        """Of an RFC 3339 text; NEVER where it is none."""
        if not isinstance(text, str) or not text:
            return NEVER
        try:
            when = datetime.fromisoformat(text)
            return self.moment(when if when.tzinfo else when.replace(tzinfo=UTC))
        except (OverflowError, ValueError):
            return NEVER


@lru_cache(maxsize=16_384)
def _written(seconds: int, zone: tzinfo, this_year: int) -> tuple[str, str, str]:
    """`iso`, `short` and `long` of a moment; only its age changes from one page to the next."""
    utc = datetime.fromtimestamp(seconds, UTC)
    local = utc.astimezone(zone)
    iso, here, name = utc.isoformat(), local.isoformat(" "), local.tzname() or "UTC"
    day = f"{local.day} {_MONTHS[local.month - 1]}"
    short = f"{day} {here[11:16]} {name}" if local.year == this_year else f"{day} {local.year}"
    return f"{iso[:19]}Z", short, f"{here[:19]} {name}"


def age_words(seconds: float) -> str:
    """`domain.text.spoken_span` of so many seconds, made for thousands of calls an hour."""
    whole = int(seconds)
    if whole < 60:
        return f"{max(whole, 0)} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        hours, minutes = divmod(whole // 60, 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(whole // 3600, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def size(count: object) -> str:
    """Bytes in the unit people read: `512 B`, `48 kB`, `5.4 MB`."""
    if not isinstance(count, int) or isinstance(count, bool):
        return ""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.5:
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
    return f"{value / 1000:.1f} TB"
