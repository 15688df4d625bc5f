"""For programs: the JSON contract, and the actions under the same rules as on the pages.

An action takes two requests, as a person does: one that asks for a plan, and one that carries out the very
plan that was answered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from flask import Blueprint, Response, abort, current_app, request

from lockboard.domain.access import Permission
from lockboard.domain.audit import AuditError, Result
from lockboard.domain.errors import AccessDenied, LockboardError, ReadError
from lockboard.domain.inventory import BackendReport
from lockboard.domain.locks import LockStore
from lockboard.domain.model import Action
from lockboard.domain.plans import Refused, Wanted
from lockboard.domain.text import shown, utc
from lockboard.domain.undo import UNDO
from lockboard.services.actions import Actions
from lockboard.services.attempts import Answer, Form, Halted, NotPermitted, Prepared, UnknownState
from lockboard.services.documents import dated, served
from lockboard.services.tickets import VIEW_LASTS, BadToken
from lockboard.web.access import acts, may, visitor
from lockboard.web.asked import asked
from lockboard.web.audit import export
from lockboard.web.desk import Desk
from lockboard.web.detail import known_row
from lockboard.web.exports import as_json
from lockboard.web.openapi import LARGEST_RECORD, LONGEST_VERSION, document

_FAILURES = (BadToken, NotPermitted, UnknownState, ReadError, AuditError)
_CODES = {
    Result.DONE: 200,
    Result.NO_CHANGE: 200,
    Result.REFUSED: 409,
    Result.FAILED: 502,
    Result.UNKNOWN: 504,
}
"""Only what is as it was wanted is a success: scripts look at nothing else."""


class _Fields(NamedTuple):
    """Which fields a body has to have, and which it may have besides."""

    needed: frozenset[str]
    optional: frozenset[str] = frozenset()


_PLANS: Mapping[str, _Fields] = {
    Action.FORCE_UNLOCK: _Fields(frozenset({"action"}), frozenset({"store"})),
    Action.SET_DIGEST: _Fields(frozenset({"action"})),
    Action.CLEAR_DIGEST: _Fields(frozenset({"action"})),
    Action.RESTORE_VERSION: _Fields(frozenset({"action", "version_id"})),
    Action.TAKE_OVER: _Fields(frozenset({"action"}), frozenset({"version_id"})),
    UNDO: _Fields(frozenset({"action", "record"})),
}
_ACT = _Fields(frozenset({"token", "reason"}), frozenset({"ticket", "confirm", "serial"}))
_AS_THE_PLAN_SAYS = ("confirm", "serial")
"""Null in a plan that asks for nothing to be typed, so it may come back as null."""


def blueprint(desk: Desk) -> Blueprint:
    """The routes for programs."""
    pages = Blueprint("api", __name__, url_prefix="/api/v1")

    @pages.get("/openapi.json")
    def openapi() -> Response:
        return _json(document(desk.version))

    @pages.get("/states")
    def states() -> Response:
        """Every key, or those of the list's own parameters."""
        now = desk.clock()
        rows = desk.board.export(asked(request.args, view="all").query(now))
        return as_json(rows, desk.watch.snapshot().reports, now, desk.backends, attachment=False)

    @pages.get("/states/<state_id>")
    def state(state_id: str) -> Response:
        row = known_row(desk, state_id)
        return _json(dated(row.document, desk.clock(), _report(desk, row.backend)))

    @pages.get("/audit")
    def audit() -> Response:
        return export(desk, "jsonl")

    @pages.post("/states/<state_id>/plans")
    def plan(state_id: str) -> Response:
        actions, sent = _ready(desk, state_id), _body()
        try:
            return _planned(desk, _prepared(actions, state_id, sent))
        except _FAILURES as error:
            return _failed(error)

    @pages.post("/states/<state_id>/actions")
    def act(state_id: str) -> Response:
        actions, (token, form) = _ready(desk, state_id), _confirmed(_body())
        try:
            acts(actions.action_id(token))
            found = actions.perform(visitor().actor, state_id, token, form)
            return _answered(found)
        except _FAILURES as error:
            return _failed(error)
        finally:
            desk.forget()

    return pages


def _ready(desk: Desk, state_id: str) -> Actions:
    """Where the visitor may act on this key at all."""
    row = known_row(desk, state_id)
    if desk.actions is None:
        abort(403, "Actions are switched off: this Lockboard only reads. Nothing was done.")
    if not may(Permission.ACT, row.backend, row.raw_key):
        abort(403, "You may look at this state, but not act on it. Nothing was done.")
    return desk.actions


# ---------------------------------------------------------------- what is asked for


def _prepared(actions: Actions, state_id: str, sent: Mapping[str, Any]) -> Prepared:
    action = sent.get("action")
    if not isinstance(action, str) or action not in _PLANS:
        abort(400, f"action is one of: {', '.join(_PLANS)}.")
    _require(sent, _PLANS[action])
    if action == UNDO:
        return actions.prepare_undo(visitor().actor, state_id, _record(sent))
    store, version = _text(sent, "store", ""), _text(sent, "version_id", "")
    if "store" in sent and store not in tuple(LockStore):
        abort(400, f"store is one of: {', '.join(LockStore)}; leave it out for the lock as a whole.")
    if "version_id" in sent and not 0 < len(version) <= LONGEST_VERSION:
        abort(400, f"version_id has 1 to {LONGEST_VERSION} characters.")
    return actions.prepare(visitor().actor, state_id, Wanted(Action(action), store, version))


def _confirmed(sent: Mapping[str, Any]) -> tuple[str, Form]:
    """The plan's token, and what a person would have typed."""
    _require(sent, _ACT)
    typed = {name: "" if sent.get(name) is None else _text(sent, name, "") for name in _AS_THE_PLAN_SAYS}
    return _text(sent, "token"), Form(_text(sent, "reason"), _text(sent, "ticket", ""), **typed)


def _body() -> Mapping[str, Any]:
    """The JSON object that was sent."""
    if request.mimetype != "application/json":
        abort(415, "Send JSON: Content-Type: application/json.")
    text = request.get_data()
    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_not_json)
    except (ValueError, RecursionError):
        abort(400, "The body is not JSON in UTF-8, or names a field twice, or is nested too deep.")
    if not isinstance(found, dict):
        abort(400, "The body is not a JSON object.")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is named twice")
    return found


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _require(sent: Mapping[str, Any], fields: _Fields) -> None:
    """A field that this request does not have is refused, so that none is thought to count."""
    strange = sorted(set(sent) - fields.needed - fields.optional)
    if strange:
        abort(400, f"There is no such field here: {shown(strange[0], 60)}.")
    missing = sorted(fields.needed - set(sent))
    if missing:
        abort(400, f"{missing[0]} is missing.")


def _text(sent: Mapping[str, Any], name: str, without: str | None = None) -> str:
    found = sent.get(name, without)
    if not isinstance(found, str):
        abort(400, f"{name} is text.")
    return found


def _record(sent: Mapping[str, Any]) -> int:
    found = sent["record"]
    if isinstance(found, float) and found.is_integer():
        found = int(found)  # 118.0 is an integer in JSON
    if isinstance(found, bool) or not isinstance(found, int) or not 0 < found <= LARGEST_RECORD:
        abort(400, "record is the number of the audit record to undo.")
    return found


# ---------------------------------------------------------------- what is answered


def _report(desk: Desk, backend: str) -> BackendReport | None:
    return next((report for report in desk.watch.snapshot().reports if report.backend == backend), None)


def _planned(desk: Desk, found: Prepared) -> Response:
    if isinstance(found.plan, Refused):
        return _json({"error": found.plan.reason, "status": 409, "gone": found.plan.gone}, 409)
    plan, now, report = found.plan, desk.clock(), _report(desk, found.row.backend)
    return _json(
        {
            "token": found.token,
            "expires_at": utc(now + VIEW_LASTS),
            "action": UNDO if found.undoes else plan.action.value,
            "undoes": found.undoes,
            "title": plan.title,
            "recommended": plan.recommended,
            "consequences": [*plan.consequences],
            "calls": [
                {"operation": c.operation, "target": c.target, "condition": c.condition} for c in plan.calls
            ],
            "confirm": plan.confirm or None,
            "confirm_why": plan.confirm_why or None,
            "serial": plan.accept_serial or None,
            "second_person": found.second,
            "state": served(found.row.document, report.aws_time(now) if report else now, None),
        }
    )


def _answered(found: Answer) -> Response:
    if found.problems:
        problems = {problem.field: problem.text for problem in found.problems}
        said = {"error": "Nothing was done: there is something to mend.", "status": 422}
        return _json({**said, "problems": problems}, 422)
    body: dict[str, Any] = {
        "result": "waiting" if found.waits is not None else found.result.value,
        "message": found.message,
        "action_id": found.action_id,
        "record": found.record,
        "request": found.waits,
        "replayed": found.replayed,
    }
    code = 202 if found.waits is not None else _CODES[found.result]
    if code >= 400:
        body = {"error": found.message, "status": code, **body}
    return _json(body, code)


def _failed(error: LockboardError) -> Response:
    """The same table as for the pages, in words for programs."""
    text = str(error).rstrip(".")
    if isinstance(error, BadToken):
        return _refused(
            400,
            "This token is of no plan for this state and whoever sends it, or Lockboard's secret key has"
            " changed. Ask for a plan again. Nothing was done.",
        )
    if isinstance(error, NotPermitted):
        return _refused(403, f"{text}. Nothing was done.", record=error.seq)
    if isinstance(error, UnknownState):
        return _refused(404, f"{text}.")
    if isinstance(error, ReadError):
        missing = error.operation if isinstance(error, AccessDenied) else None
        return _refused(502, f"Nothing was done: AWS could not be read. {text}.", missing_permission=missing)
    current_app.logger.error("the audit log failed: %s", error)
    told = (
        f"{text}."
        if isinstance(error, Halted)
        else f"Nothing was done: the audit log cannot be used: {text}."
    )
    made = _refused(503, told)
    made.headers["Retry-After"] = "5"
    return made


def _refused(code: int, error: str, **more: object) -> Response:
    """An error; what is not known of it is left out."""
    known = {name: value for name, value in more.items() if value is not None}
    return _json({"error": error, "status": code, **known}, code)


def _json(found: object, code: int = 200) -> Response:
    return Response(json.dumps(found) + "\n", code, content_type="application/json")
