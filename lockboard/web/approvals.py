"""Requests for a second person: the list, and the page on which one is approved, declined or withdrawn."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, abort

from lockboard.domain.audit import Person
from lockboard.domain.errors import ReadError
from lockboard.domain.plans import Plan, Refused
from lockboard.domain.signin import Approval, Waiting
from lockboard.domain.text import shown
from lockboard.domain.undo import UNDO
from lockboard.services.actions import Actions
from lockboard.services.attempts import NotPermitted, Review, UnknownState
from lockboard.services.second_person import requester_of
from lockboard.services.tickets import whose
from lockboard.web.access import acts, visitor
from lockboard.web.audit_rows import changes
from lockboard.web.audit_words import action_title
from lockboard.web.desk import Desk, answer, frame, render, see_other
from lockboard.web.marks import Mark
from lockboard.web.times import Times

MARKS = {
    Waiting.WAITING: Mark("plan-waits", "attention", "Waiting"),
    Waiting.APPROVED: Mark("plan-works", "ok", "Approved"),
    Waiting.DECLINED: Mark("plan-blocked", "blocked", "Declined"),
    Waiting.WITHDRAWN: Mark("seal-absent", "quiet", "Withdrawn"),
    Waiting.EXPIRED: Mark("seal-absent", "quiet", "Expired"),
}


def blueprint(desk: Desk) -> Blueprint:
    """The routes of requests for a second person."""
    pages = Blueprint("approvals", __name__)

    @pages.get("/approvals")
    def log() -> Response:
        times, actor = desk.times(), visitor().actor
        found = desk.actions.requests(actor) if desk.actions else ()
        rows = [_line(asked, times, actor.person) for asked in found]
        return answer(
            render("approvals/log.html", **frame("Approvals"), rows=rows, acts=desk.actions is not None)
        )

    @pages.get("/approvals/<int:number>")
    def ask(number: int) -> Response:
        try:
            review = _actions(desk).review(visitor().actor, number)
        except UnknownState as error:
            abort(404, str(error))
        except ReadError as error:
            return _unread(number, error)
        return answer(render("approvals/ask.html", **ask_page(desk, review)))

    @pages.post("/approvals/<int:number>/approve")
    def approve(number: int) -> Response:
        actions, actor = _actions(desk), visitor().actor
        try:
            asked = actions.asked(actor, number)
            acts(asked.action_id)
            found = actions.approve(actor, number)
        except UnknownState as error:
            abort(404, str(error))
        except NotPermitted as error:
            abort(403, f"{error} Nothing was done.")
        except ReadError as error:
            return _unread(number, error)
        finally:
            desk.forget()
        if found.record is None:
            return see_other(f"/approvals/{number}")
        return see_other(f"/s/{asked.state_id}?done={found.record}")

    @pages.post("/approvals/<int:number>/decline")
    def decline(number: int) -> Response:
        try:
            _actions(desk).decline(visitor().actor, number)
        except UnknownState as error:
            abort(404, str(error))
        return see_other(f"/approvals/{number}")

    return pages


def ask_page(desk: Desk, review: Review) -> dict[str, Any]:
    """Everything the page prints."""
    times, asked, actor = desk.times(), review.asked, visitor().actor
    plan = review.prepared.plan
    todo = plan if isinstance(plan, Plan) else None
    mine = whose(actor.person) == requester_of(asked)
    live = asked.state is Waiting.WAITING and times.now < asked.expires_at
    return {
        **frame(f"Request {asked.number}"),
        "asked": asked,
        "line": _line(asked, times, actor.person),
        "mine": mine,
        "live": live,
        "can_approve": live and not mine and not review.moved and todo is not None,
        "moved": review.moved and live,
        "why_not": plan.reason if isinstance(plan, Refused) else "",
        "todo": todo,
        "changes": changes({"plan": todo.facts()}) if todo else [],
        "row": review.prepared.row,
        "reason": shown(asked.form.get("reason", "")),
        "ticket": shown(asked.form.get("ticket", "")),
    }


def _line(asked: Approval, times: Times, me: Person) -> dict[str, Any]:
    over = asked.state is Waiting.WAITING and times.now >= asked.expires_at
    state = Waiting.EXPIRED if over else asked.state
    action = UNDO if asked.wanted.get("undoes") is not None else str(asked.wanted["wanted"][0])
    return {
        "number": asked.number,
        "url": f"/approvals/{asked.number}",
        "mark": MARKS[state],
        "action": action_title(action),
        "backend": asked.backend,
        "key": shown(asked.key),
        "who": f"{shown(asked.requester[0], 80)} ({shown(asked.requester[1], 20)})",
        "mine": whose(me) == requester_of(asked),
        "at": times.moment(asked.requested_at),
        "ends": times.moment(asked.expires_at),
        "by": shown(asked.decided_by, 80),
        "decided": times.moment(asked.decided_at),
        "state_url": f"/s/{asked.state_id}",
    }


def _unread(number: int, error: ReadError) -> Response:
    """Nothing can be approved that cannot be looked at."""
    words = f"Nothing was done: AWS could not be read. {str(error).rstrip('.')}."
    context = {"code": 502, "heading": f"Request {number} cannot be looked at now", "words": words}
    return answer(render("error.html", **frame(f"Request {number}"), **context), 502)


def _actions(desk: Desk) -> Actions:
    if desk.actions is None:
        abort(404, "Actions are switched off here, so nothing waits for anybody.")
    return desk.actions
