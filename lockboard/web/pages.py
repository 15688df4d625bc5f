"""Health, settings, preferences and help."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from flask import Blueprint, Response, request

from lockboard.domain.access import Permission
from lockboard.domain.areas import prefixes_of
from lockboard.domain.inventory import BackendReport
from lockboard.domain.model import Content, Effect, LockStatus, Severity
from lockboard.domain.text import spoken_span
from lockboard.domain.words import EFFECT_WORDS, SEVERITY_WORDS, words_for
from lockboard.web.access import visitor
from lockboard.web.audit import chain
from lockboard.web.desk import Desk, SettingLine, answer, favicon, frame, me, render, render_region, see_other
from lockboard.web.marks import content_mark, effect_mark, lock_mark
from lockboard.web.prefs import COOKIE, DENSITIES, REFRESHES, THEMES, chosen, zones
from lockboard.web.times import Times

_YEAR = 365 * 86400
_SKEW_LIMIT = 60.0


def blueprint(desk: Desk, settings: Sequence[SettingLine]) -> Blueprint:
    """The routes of the pages that are about Lockboard itself."""
    pages = Blueprint("pages", __name__)

    @pages.get("/health")
    def health() -> Response:
        return answer(render_region("health/health.html", "health/_region.html", **health_page(desk)))

    @pages.get("/settings")
    def show_settings() -> Response:
        return answer(
            render(
                "settings/settings.html",
                **frame("Settings"),
                settings=_readable(settings),
                zones=zones(),
                themes=THEMES,
                densities=DENSITIES,
                refreshes=REFRESHES,
                saved="saved" in request.args,
            )
        )

    @pages.post("/prefs")
    def prefs() -> Response:
        target = see_other("/settings?saved=1#preferences")
        target.set_cookie(
            COOKIE,
            chosen(request.form.to_dict()).cookie(),
            max_age=_YEAR,
            secure=request.is_secure,
            httponly=True,
            samesite="Lax",
        )
        return target

    @pages.get("/help")
    def help_page() -> Response:
        return answer(
            render(
                "help/help.html",
                title="Help · Lockboard",
                icon=favicon(0),
                attention=None,
                health=None,
                **_help(),
            )
        )

    return pages


def _readable(settings: Sequence[SettingLine]) -> list[SettingLine] | None:
    """What is about people only for administrators; None for whom a part of the estate is hidden."""
    if not visitor().actor.rights.everywhere(Permission.VIEW):
        return None
    return [line for line in settings if me().administers or not line.inner]


def health_page(desk: Desk) -> dict[str, object]:
    """Everything the page prints."""
    snapshot, times = desk.watch.snapshot(), desk.times()
    attention = desk.counted(snapshot)[0].get("attention", 0)
    by_name = {report.backend: report for report in snapshot.reports}
    return {
        "title": "Health · Lockboard",
        "icon": favicon(attention),
        "attention": attention,
        "health": desk.health(snapshot, times),
        "old_after": int(desk.old_after.total_seconds()),
        "generation": snapshot.generation,
        "refresh_every": spoken_span(desk.refresh_every),
        "backends": [_backend(desk, name, by_name.get(name), times) for name in desk.backends],
        "chain": chain(desk.audit)
        if desk.audit and visitor().actor.rights.somewhere(Permission.AUDIT)
        else None,
    }


def _backend(desk: Desk, name: str, report: BackendReport | None, times: Times) -> dict[str, Any]:
    backend = desk.backends[name]
    place = {
        "name": name,
        "bucket": backend.bucket,
        "region": backend.region,
        "table": backend.table,
        "prefix": backend.prefix,
    }
    if report is None:
        return {**place, "report": None, "tone": "unknown", "state": "Not read yet"}
    failed = bool(report.error) or not report.complete
    data = times.moment(report.data_at)
    old = report.data_at is not None and times.now - report.data_at > desk.old_after
    skew = report.clock_skew_seconds
    return {
        **place,
        "report": report,
        "tone": "blocked" if failed else "attention" if old else "ok",
        "state": "Could not be read" if failed else "Data is old" if old else "Read completely",
        "data": data,
        "attempted": times.moment(report.attempted_at),
        "swept": times.moment(report.swept_at),
        "duration": _seconds(report.duration_seconds),
        "requests": [(kind, count) for kind, count in report.requests.items() if count],
        "whole": prefixes_of(visitor().actor.rights.scope(Permission.VIEW), name) == ("",),
        "versioning": report.versioning,
        "versioning_bad": report.versioning in ("off", "suspended"),
        "skew": _skew(skew),
        "skew_bad": skew is not None and abs(skew) > _SKEW_LIMIT,
        "stale_after": spoken_span(backend.policy_for(backend.prefix).stale_after),
    }


def _seconds(seconds: float) -> str:
    return (
        f"{seconds * 1000:.0f} ms"
        if seconds < 1
        else f"{seconds:.1f} s"
        if seconds < 60
        else spoken_span(timedelta(seconds=seconds))
    )


def _skew(seconds: float | None) -> str:
    if seconds is None:
        return "not measured yet"
    if abs(seconds) < 1:
        return "under 1 s"
    return f"{spoken_span(timedelta(seconds=abs(seconds)))} {'ahead of' if seconds > 0 else 'behind'} AWS"


def _help() -> dict[str, object]:
    """Every status once, with the anchor that other pages link to."""
    return {
        "contents": [(str(s), content_mark(s), words_for(s)) for s in Content],
        "locks": [
            ("lock_unknown" if s is LockStatus.UNKNOWN else str(s), lock_mark(s), words_for(s))
            for s in LockStatus
        ],
        "effects": [(f"terraform-{s}", effect_mark(s), EFFECT_WORDS[s]) for s in Effect],
        "severities": [(str(s), SEVERITY_WORDS[s]) for s in Severity],
    }
