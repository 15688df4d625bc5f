"""Recovery: the page that says exactly what would be done to one key, and the form that does it.

A GET reads and shows; only a POST with the token of such a page acts, on one key, and answers with 303 to the
key's own page. With htmx the same answers are put into the page that asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flask import Blueprint, Response, abort, current_app, request

from lockboard.domain.access import Actor, Permission
from lockboard.domain.audit import AuditError, Person, Result
from lockboard.domain.errors import ReadError
from lockboard.domain.locks import LockStore
from lockboard.domain.model import Action
from lockboard.domain.plans import Plan, Refused, Source, Wanted
from lockboard.domain.text import shown
from lockboard.domain.undo import UNDO
from lockboard.services.actions import Actions
from lockboard.services.attempts import (
    REASON_LIMIT,
    TICKET_LIMIT,
    Answer,
    Form,
    Halted,
    NotPermitted,
    Prepared,
    UnknownState,
)
from lockboard.services.tickets import VIEW_LASTS, BadToken
from lockboard.web.access import CSRF_FIELD, acts, may, visitor
from lockboard.web.asked import Asked, asked
from lockboard.web.audit_rows import Change, changes
from lockboard.web.desk import Desk, answer, frame, render, render_region, see_other, wants_fragment
from lockboard.web.detail import known_row, read_failure
from lockboard.web.facts import key_facts
from lockboard.web.times import size
from lockboard.web.ways import WAYS, Way, way_to

ANSWER_WITHIN = "60s"
"""How long the browser waits: longer than an action may take."""
_LARGEST_SEQ = 2**63 - 1
_LONGEST_VERSION = 1024
_SWAPPED = (400, 403, 404, 409, 422, 502, 503)
_FROM_US = "Lockboard-Answer"
"""Header of what this module answers: an error without it comes from a proxy or an accident, and says nothing
of what was done.
"""
_FAILURES = (BadToken, NotPermitted, UnknownState, ReadError, AuditError)


class Errand(NamedTuple):
    """What an address asks for. undoes: number of the record to take back, 0 for any other action.  origin:
    the list that the reader came from.
    """

    state_id: str
    wanted: Wanted
    origin: Asked
    undoes: int = 0

    @property
    def way(self) -> Way:
        return WAYS[UNDO if self.undoes else self.wanted.action]

    @property
    def url(self) -> str:
        """The address itself, in its canonical spelling."""
        action, version = str(self.wanted.action), self.wanted.version_id
        if self.undoes:
            action, version = UNDO, str(self.undoes)
        return way_to(
            self.state_id, action, store=self.wanted.store, version=version, query=self.origin.string()
        )

    @property
    def back(self) -> str:
        """The state's own page."""
        return self.origin.url(f"/s/{self.state_id}")


class Said(NamedTuple):
    """An answer that is a sentence and no form. icon, tone: of its mark."""

    code: int
    heading: str
    text: str
    permission: str = ""
    icon: str = "danger"
    tone: str = "blocked"


def blueprint(desk: Desk) -> Blueprint:
    """The routes that ask and act: each of them for one key."""
    pages = Blueprint("recovery", __name__)

    def both(path: str, name: str, errand: Callable[..., Errand]) -> None:
        def ask(**named: Any) -> Response:
            return _ask(desk, errand(**named))

        def act(**named: Any) -> Response:
            return _act(desk, errand(**named))

        pages.add_url_rule(path, name, ask, methods=["GET"])
        pages.add_url_rule(path, f"do_{name}", act, methods=["POST"])

    both("/s/<state_id>/unlock", "unlock", _unlock)
    both("/s/<state_id>/digest", "digest", _set_digest)
    both("/s/<state_id>/digest/clear", "clear", _clear_digest)
    both("/s/<state_id>/restore/<path:version>", "restore", _restore)
    both("/s/<state_id>/takeover", "takeover", _take_over)
    both("/s/<state_id>/undo/<int:seq>", "undo", _undo)
    return pages


# ---------------------------------------------------------------- what is asked for


def _errand(state_id: str, wanted: Wanted, undoes: int = 0) -> Errand:
    return Errand(state_id, wanted, asked(request.args).but(), undoes)


def _unlock(state_id: str) -> Errand:
    store = request.args.get("store", "")
    if store not in ("", *LockStore):
        abort(400, f"store is one of: {', '.join(LockStore)}.")
    return _errand(state_id, Wanted(Action.FORCE_UNLOCK, store=store))


def _set_digest(state_id: str) -> Errand:
    return _errand(state_id, Wanted(Action.SET_DIGEST))


def _clear_digest(state_id: str) -> Errand:
    return _errand(state_id, Wanted(Action.CLEAR_DIGEST))


def _restore(state_id: str, version: str) -> Errand:
    return _errand(state_id, Wanted(Action.RESTORE_VERSION, version_id=_version(version)))


def _take_over(state_id: str) -> Errand:
    version = _version(request.args.get("version", ""))
    return _errand(state_id, Wanted(Action.TAKE_OVER, version_id=version))


def _undo(state_id: str, seq: int) -> Errand:
    if not 0 < seq <= _LARGEST_SEQ:
        abort(404, "The audit log has no record of that number.")
    return _errand(state_id, Wanted(Action.FORCE_UNLOCK), undoes=seq)


def _version(text: str) -> str:
    if len(text) > _LONGEST_VERSION:
        abort(404, f"No version has an ID of more than {_LONGEST_VERSION} characters.")
    return text


# ---------------------------------------------------------------- asking and acting


def _ask(desk: Desk, errand: Errand) -> Response:
    if desk.actions is None:
        return _switched_off(desk, errand, 200)
    _require_known(desk, errand)
    try:
        prepared = _prepared(desk.actions, visitor().actor, errand)
    except _FAILURES as error:
        return _failed(errand, error)
    return _confirm(desk, errand, prepared, 200)


def _require_known(desk: Desk, errand: Errand) -> None:
    """A key that the visitor may not see is none that they could ask about."""
    row = known_row(desk, errand.state_id)
    if not may(Permission.ACT, row.backend, row.raw_key):
        abort(403, "You may look at this state, but not act on it. Nothing was done.")


def _prepared(actions: Actions, actor: Actor, errand: Errand) -> Prepared:
    if errand.undoes:
        return actions.prepare_undo(actor, errand.state_id, errand.undoes)
    return actions.prepare(actor, errand.state_id, errand.wanted)


def _act(desk: Desk, errand: Errand) -> Response:
    if desk.actions is None:
        return _switched_off(desk, errand, 403)
    _require_known(desk, errand)
    strange = sorted(set(request.form) - {"token", CSRF_FIELD, *Form._fields})
    if strange:
        return _say(errand, _stranger(strange[0]))
    form = Form(*(request.form.get(name, "") for name in Form._fields))
    token = request.form.get("token", "")
    acts(desk.actions.action_id(token))
    try:
        found = desk.actions.perform(visitor().actor, errand.state_id, token, form)
    except _FAILURES as error:
        return _failed(errand, error)
    finally:
        desk.forget()
    return _answered(desk, errand, form, found)


def _answered(desk: Desk, errand: Errand, form: Form, found: Answer) -> Response:
    """What was typed is kept but for the confirmation of what has changed since."""
    if found.prepared and found.problems:
        return _confirm(desk, errand, found.prepared, 422, form, found)
    if found.prepared and found.moved:
        return _confirm(desk, errand, found.prepared, 409, form._replace(confirm="", serial=""), found)
    if found.waits is not None:
        return _go_on(f"/approvals/{found.waits}")
    if found.result is Result.REFUSED or found.record is None:
        return _say(errand, Said(409, "Nothing was done", found.message))
    return _go_on(f"{errand.back}{'&' if '?' in errand.back else '?'}done={found.record}")


def _go_on(url: str) -> Response:
    """htmx follows redirects out of sight, so it is told where to go."""
    if wants_fragment():
        return Response(status=204, headers={"HX-Redirect": url})
    return see_other(url)


def _spoken(person: Person) -> str:
    return f"{shown(person.name, 200)} ({shown(person.method, 100)})"


# ---------------------------------------------------------------- the page


def _confirm(
    desk: Desk,
    errand: Errand,
    prepared: Prepared,
    code: int,
    form: Form | None = None,
    found: Answer | None = None,
) -> Response:
    context = confirm_page(desk, errand, prepared, form or Form(), found)
    return _marked(answer(render_region("recovery/confirm.html", "recovery/_ask.html", **context), code))


def confirm_page(
    desk: Desk, errand: Errand, prepared: Prepared, form: Form, found: Answer | None
) -> dict[str, object]:
    """Everything the page prints. found: the answer that led back to it."""
    plan, refused = prepared.plan, prepared.plan if isinstance(prepared.plan, Refused) else None
    todo = plan if isinstance(plan, Plan) else None
    times = desk.times()
    facts = key_facts(desk, prepared.row, times)
    return {
        **facts,
        **_frame(errand),
        "undoes": errand.undoes,
        "read": times.moment(times.now),
        "lasts": int(VIEW_LASTS.total_seconds()) // 60,
        "locks": _locks(facts["locks"], todo),
        "refused": refused,
        "todo": todo,
        "changes": _changes(todo) if todo else [],
        "source": _source(todo.restores) if todo and todo.restores else [],
        "commands": todo.commands if todo else (),
        "risky": bool(todo and (todo.confirm or todo.accept_serial)),
        "token": prepared.token,
        "person": _spoken(visitor().actor.person),
        "second": prepared.second,
        "form": form,
        "limits": {"reason": REASON_LIMIT, "ticket": TICKET_LIMIT},
        "problems": {problem.field: problem.text for problem in found.problems} if found else {},
        "moved": found.message if found and found.moved else "",
        "sending": _sending(errand.url),
    }


def _frame(errand: Errand) -> dict[str, object]:
    return {
        **frame(errand.way.question),
        "back": errand.back,
        "way": errand.way,
    }


def _locks(locks: list[dict[str, Any]], plan: Plan | None) -> list[dict[str, Any]]:
    """The locks that stand, with what becomes of each: those that the plan touches first."""
    fates = {lock.store.value: "will be removed" for lock in plan.releases} if plan else {}
    fates |= {lock.store.value: "will be taken over" for lock in plan.over} if plan else {}
    other = "stays" if fates else ""
    told = [{**lock, "fate": fates.get(str(lock["store"]), other)} for lock in locks]
    return sorted(told, key=lambda lock: lock["fate"] == "stays")


def _changes(plan: Plan) -> list[Change]:
    """What becomes of the digest and of locks put back; the rest of the page says it of the others."""
    return changes({"plan": {**plan.facts(), "releases": [], "over": [], "restores": None}})


def _source(version: Source) -> list[tuple[str, str]]:
    """The version whose bytes are put back, in label and value."""
    named = (
        ("Version", version.version_id),
        ("Written", version.written),
        ("Size", size(version.size)),
        ("Serial", version.serial),
        ("Resources", version.resources),
        ("MD5", version.md5),
        ("Lineage", version.lineage),
    )
    return [(label, shown(str(value), 300)) for label, value in named if value is not None]


def _sending(url: str) -> Mapping[str, str]:
    """How htmx sends the form: once, and every answer of ours is shown."""
    ours = {f"status:{code}": "swap:outerHTML" for code in _SWAPPED}
    return {
        "post": url,
        "target": "#ask",
        "swap": "outerHTML",
        "sync": "this:drop",
        "disable": "find [type=submit]",
        "config": f"timeout:{ANSWER_WITHIN}",
        **ours,
    }


# ---------------------------------------------------------------- answers without a form


def _switched_off(desk: Desk, errand: Errand, code: int) -> Response:
    known_row(desk, errand.state_id)
    if code != 200:
        return _say(
            errand, Said(code, "Actions are switched off", "This Lockboard only reads. Nothing was done.")
        )
    return answer(render("recovery/off.html", **_frame(errand)), code)


def _failed(errand: Errand, error: Exception) -> Response:
    said = _said(error)
    if isinstance(error, AuditError):
        current_app.logger.error("the audit log failed: %s", error)
    found = _say(errand, said)
    if said.code == 503:
        found.headers["Retry-After"] = "5"
    return found


def _said(error: Exception) -> Said:
    """The one table from failure to status and words."""
    text = str(error).rstrip(".")
    if isinstance(error, BadToken):
        return Said(400, "This form cannot be used", f"{text}. Nothing was done.")
    if isinstance(error, NotPermitted):
        return Said(403, "You may not do this", f"{text}. Nothing was done.", icon="lock", tone="attention")
    if isinstance(error, UnknownState):
        return Said(404, "There is nothing here", f"{text}.", icon="seal-absent", tone="quiet")
    if isinstance(error, ReadError):
        failure = read_failure(error)
        return Said(502, "Nothing was done: AWS could not be read", f"{text}.", failure["permission"])
    if isinstance(error, Halted):
        return Said(503, "Actions wait for the audit log", f"{text}.", tone="attention")
    return Said(503, "Nothing was changed in AWS by this attempt", f"The audit log cannot be used: {text}.")


def _stranger(name: str) -> Said:
    """What is written to AWS is read and worked out here, never typed: not even by a form of one's own."""
    text = f"It has a field that no page of Lockboard sends: {shown(name, 60)}. Nothing was done."
    return Said(400, "This form cannot be used", text)


def _say(errand: Errand, said: Said) -> Response:
    """htmx puts it above the form, where what was typed stays."""
    html = render_region("recovery/said.html", "recovery/_said.html", said=said, **_frame(errand))
    made = _marked(answer(html, said.code))
    if wants_fragment():
        made.headers["HX-Retarget"] = "#oops"
    return made


def _marked(made: Response) -> Response:
    made.headers[_FROM_US] = "1"
    return made
