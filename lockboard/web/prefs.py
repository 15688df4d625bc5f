"""Personal preferences: one cookie, strictly read, never trusted for more than looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from zoneinfo import ZoneInfo, available_timezones

from flask import request

COOKIE = "lockboard_prefs"
THEMES = ("auto", "light", "dark")
DENSITIES = ("comfortable", "compact")
REFRESHES = ("5", "10", "30", "60", "off")
SWITCH = ("on", "off")


@dataclass(frozen=True, slots=True)
class Preferences:
    """zone: an IANA name.  refresh: seconds between two looks, or `off`.  shortcuts: one of SWITCH."""

    zone: str = "UTC"
    theme: str = "auto"
    density: str = "comfortable"
    refresh: str = "10"
    shortcuts: str = "on"

    def cookie(self) -> str:
        return ".".join((self.zone, self.theme, self.density, self.refresh, self.shortcuts))


@cache
def zones() -> tuple[str, ...]:
    """Zones that this computer knows, UTC first."""
    return (
        "UTC",
        *sorted(name for name in available_timezones() if "/" in name and not name.startswith("Etc/")),
    )


@lru_cache(maxsize=64)
def zone(name: str) -> ZoneInfo:
    """The zone of one of `zones()`."""
    return ZoneInfo(name)


def chosen(form: Mapping[str, str]) -> Preferences:
    """Preferences from a form or a cookie's fields; whatever is not on offer falls back to its default."""
    default = Preferences()
    return Preferences(
        zone=_offered(form.get("zone"), zones(), default.zone),
        theme=_offered(form.get("theme"), THEMES, default.theme),
        density=_offered(form.get("density"), DENSITIES, default.density),
        refresh=_offered(form.get("refresh"), REFRESHES, default.refresh),
        shortcuts=_offered(form.get("shortcuts"), SWITCH, default.shortcuts),
    )


def _offered(value: str | None, choices: tuple[str, ...], default: str) -> str:
    return value if value in choices else default


@lru_cache(maxsize=256)
def from_cookie(value: str) -> Preferences:
    """The preferences that `Preferences.cookie` wrote."""
    return chosen(dict(zip(Preferences.__dataclass_fields__, value.split("."), strict=False)))


def preferences() -> Preferences:
    """Of the request at hand."""
    if "HTTP_COOKIE" not in request.environ:
        return from_cookie("")
    return from_cookie(request.cookies.get(COOKIE, ""))
