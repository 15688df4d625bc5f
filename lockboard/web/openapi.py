"""What programs may ask, as an OpenAPI 3.1 document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lockboard.domain.audit import Kind, Result
from lockboard.domain.inventory import SORTS, VIEWS
from lockboard.domain.locks import LockStore
from lockboard.domain.model import Action, Content, Effect, LockStatus, Severity
from lockboard.domain.undo import UNDO
from lockboard.services.attempts import REASON_LIMIT, TICKET_LIMIT
from lockboard.services.tickets import VIEW_LASTS
from lockboard.web.asked import STATUSES

LARGEST_RECORD = 2**63 - 1
LONGEST_VERSION = 1024
"""Characters of a version ID, as S3 has it."""

_Schema = dict[str, Any]
_ABOUT = (
    "Every Terraform state key with its lock and its digest, and the actions on them. Reading costs no"
    " request to AWS. An action takes two requests: a plan, which reads the key anew and says exactly what"
    " would be done, and the action, which carries out that plan if nothing has changed since. New fields may"
    " appear in answers; what exists keeps its name and meaning."
)


def document(version: str) -> dict[str, Any]:
    """The whole description; `version` is Lockboard's."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Lockboard", "version": version, "description": _ABOUT},
        "servers": [{"url": "/api/v1"}],
        "security": [{"token": []}],
        "tags": [{"name": "reading"}, {"name": "acting", "description": "Where the settings switch it on"}],
        "paths": {
            "/openapi.json": {"get": _openapi()},
            "/states": {"get": _states()},
            "/states/{id}": {"parameters": [_ID], "get": _state()},
            "/states/{id}/plans": {"parameters": [_ID], "post": _plan()},
            "/states/{id}/actions": {"parameters": [_ID], "post": _act()},
            "/audit": {"get": _audit()},
        },
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "lbt_",
                    "description": "An API token: `lbt_` and 43 characters, with a role, an area and an end",
                }
            },
            "schemas": {
                "Error": _ERROR,
                "Estate": _ESTATE,
                "Backend": _BACKEND,
                "State": _STATE,
                "Lock": _LOCK,
                "Plan": _PLAN,
                "Result": _RESULT,
                "PlanRequest": _PLAN_REQUEST,
                "ActionRequest": _ACTION_REQUEST,
            },
        },
    }


# ---------------------------------------------------------------- pieces


def _of(kind: str, description: str = "", **more: Any) -> _Schema:
    return {"type": kind, **({"description": description} if description else {}), **more}


def _maybe(kind: str, description: str = "", **more: Any) -> _Schema:
    """Null where it is not known, or there is none."""
    return {**_of(kind, description, **more), "type": [kind, "null"]}


def _one_of(values: Sequence[object], description: str = "") -> _Schema:
    return _of("string", description, enum=[str(value) for value in values])


def _list(items: _Schema) -> _Schema:
    return {"type": "array", "items": items}


def _object(properties: _Schema, *optional: str, description: str = "") -> _Schema:
    """All properties are always there, but for the optional ones."""
    needed = [name for name in properties if name not in optional]
    return _of("object", description, properties=properties, required=needed)


def _ref(name: str) -> _Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_TEXT = _of("string")
_MOMENT = _of("string", "UTC, RFC 3339, whole seconds", examples=["2026-11-20T18:00:00Z"])
_MAYBE_MOMENT = {**_MOMENT, "type": ["string", "null"]}
_STATE_ID = "5d1c0f3b9a7e4c21"
_VERSION_ID = "3sL4kqtJlcpXroDTDmJ"
_TOKEN = "WyI2ZGJjYzFhNCIsIjVkMWMwZjNiOWE3ZTRjMjEiXQ.c2lnbmF0dXJl"  # noqa: S105  an example, of nothing
_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The `id` of a state",
    "schema": {"type": "string", "pattern": "^[0-9a-f]{16}$", "examples": [_STATE_ID]},
}


# ---------------------------------------------------------------- what is answered

_ERROR = _object(
    {
        "error": _of("string", "What is wrong, in words for people"),
        "status": _of("integer", "The status of the answer"),
        "gone": _of("boolean", "Of a plan that is not possible: nothing is left to do"),
        "problems": _of(
            "object",
            "What to mend, by the name of the field",
            additionalProperties=_TEXT,
        ),
        "missing_permission": _of("string", "The IAM action that Lockboard's role lacks"),
        "record": _maybe("integer", "Number of the audit record that tells of it"),
    },
    "gone",
    "problems",
    "missing_permission",
    "record",
)
_LOCK = _object(
    {
        "store": _one_of(tuple(LockStore)),
        "readable": _of("boolean", "Whether Terraform itself can read it"),
        "id": _maybe("string"),
        "operation": _maybe("string", "As its holder wrote it, like `who` and `version`: a claim, no proof"),
        "who": _maybe("string"),
        "version": _maybe("string"),
        "path": _maybe("string"),
        "created": {**_MAYBE_MOMENT, "description": "By the holder's clock"},
        "acquired": {**_MAYBE_MOMENT, "description": "By the clock of S3"},
        "since": {**_MAYBE_MOMENT, "description": "The better of the two"},
        "age_seconds": _maybe("integer"),
        "problem": _maybe("string", "Why it cannot be read"),
        "raw": _of("string", "The record, with what cannot be seen written as escapes"),
    }
)
_REMEDY = _object(
    {
        "action": _one_of(tuple(Action)),
        "recommended": _of("boolean"),
        "why": _TEXT,
        "version_id": _of("string", "The version that it would restore"),
        "lock_id": _TEXT,
        "digest": _TEXT,
        "store": _one_of(tuple(LockStore), "Where the two stores hold different locks"),
    },
    "version_id",
    "lock_id",
    "digest",
    "store",
)
_VERSION = _object(
    {
        "version_id": _TEXT,
        "last_modified": _MOMENT,
        "size": _maybe("integer"),
        "delete_marker": _of("boolean"),
        "latest": _of("boolean"),
        "md5": _maybe("string"),
        "serial": _maybe("integer"),
        "lineage": _maybe("string"),
        "resources": _maybe("integer"),
        "names_digest": _of("boolean", "Whether the digest is that of its bytes"),
    }
)
_STATE = _object(
    {
        "id": _of("string", "Opaque; the same for ever for one backend and key"),
        "backend": _TEXT,
        "bucket": _TEXT,
        "key": _of("string", "With what cannot be seen written as escapes"),
        "raw_key": _of("string", "The key as it is"),
        "workspace": _maybe("string", "Null for the default one"),
        "severity": _one_of(tuple(Severity)),
        "content": _one_of(tuple(Content), "The object against its digest"),
        "lock": _one_of(tuple(LockStatus)),
        "terraform": _one_of(tuple(Effect), "What a plan does now"),
        "summary": _of("string", "Why, in one or two sentences"),
        "object": _object(
            {
                "exists": _maybe("boolean"),
                "version_id": _maybe("string"),
                "etag": _maybe("string"),
                "size": _maybe("integer"),
                "last_modified": _MAYBE_MOMENT,
                "md5": _maybe("string"),
                "serial": _maybe("integer"),
                "lineage": _maybe("string"),
                "resources": _maybe("integer"),
                "terraform_version": _maybe("string"),
                "encrypted": _maybe("boolean"),
            },
            description="What was not read is null",
        ),
        "digest": _object(
            {
                "present": _maybe("boolean"),
                "valid": _maybe("boolean", "Whether Terraform honours it"),
                "value": _maybe("string"),
                "problem": _maybe("string"),
            }
        ),
        "locks": _list(_ref("Lock")),
        "remedies": {**_list(_REMEDY), "description": "The recommended one first; often none is"},
        "evidence": _list(_object({"fact": _TEXT, "source": _TEXT})),
        "dangers": {**_list(_TEXT), "description": "What goes wrong with the obvious wrong remedy"},
        "prints": _maybe("string", "The heart of what Terraform prints now"),
        "stale_after_seconds": _of("integer"),
        "protected": _of("boolean"),
        "versions": {**_list(_VERSION), "type": ["array", "null"], "description": "Newest first"},
        "versions_complete": _of("boolean"),
        "commands": _list(_object({"label": _TEXT, "command": _TEXT})),
        "settles_at": {**_MAYBE_MOMENT, "description": "Null when the verdict is final"},
        "rechecked_at": _MAYBE_MOMENT,
        "checked_at": {**_MAYBE_MOMENT, "description": "When it was last known to be so"},
    }
)
_BACKEND = _object(
    {
        "name": _TEXT,
        "complete": _of("boolean", "Whether the last refresh read everything"),
        "error": _maybe("string"),
        "states": _of("integer"),
        "requests": _of(
            "object",
            "Sent by the last refresh; 0 for who sees a part of the backend only",
            additionalProperties=_of("integer"),
        ),
        "bucket": _TEXT,
        "region": _TEXT,
        "table": _maybe("string"),
        "missing_permission": _maybe("string"),
        "foreign_items": _of("integer"),
        "sweep_requests": _of("integer"),
        "sweep_error": _maybe("string"),
        "swept_at": _MAYBE_MOMENT,
        "data_at": {**_MAYBE_MOMENT, "description": "When its states were last known to be true"},
        "duration_seconds": _maybe("number"),
        "versioning": _one_of(("enabled", "suspended", "off", "unknown")),
        "clock_skew_seconds": _maybe("number"),
    },
    *("bucket", "region", "table", "missing_permission", "foreign_items", "sweep_requests", "sweep_error"),
    *("swept_at", "data_at", "duration_seconds", "versioning", "clock_skew_seconds"),
    description="Of one that was never read, the first five alone",
)
_ESTATE = _object(
    {"generated_at": _MOMENT, "backends": _list(_ref("Backend")), "states": _list(_ref("State"))}
)
_PLAN = _object(
    {
        "token": _of("string", f"Good for one attempt within {int(VIEW_LASTS.total_seconds())} s"),
        "expires_at": _MOMENT,
        "action": _one_of((*Action, UNDO)),
        "undoes": _maybe("integer", "Number of the audit record that is taken back"),
        "title": _of("string", "What it does, in a line"),
        "recommended": _of("boolean"),
        "consequences": _list(_TEXT),
        "calls": {
            **_list(_object({"operation": _TEXT, "target": _TEXT, "condition": _TEXT})),
            "description": "Every change that is sent to AWS, and what has to hold for it to change anything",
        },
        "confirm": _maybe("string", "What `confirm` of the action has to hold; null for nothing"),
        "confirm_why": _maybe("string"),
        "serial": _maybe("string", "What `serial` has to hold: a lower serial than the newest known"),
        "second_person": _of("boolean", "The action will wait for somebody's approval"),
        "state": {**_ref("State"), "description": "The key as it was read for this plan"},
    }
)
_RESULT = _object(
    {
        "result": _one_of((*Result, "waiting")),
        "message": _TEXT,
        "action_id": _of("string", "The same in the audit log and in CloudTrail's user agent; may be empty"),
        "record": _maybe("integer", "Number of the audit record that tells the result"),
        "request": _maybe("integer", "Number of the request that waits for approval"),
        "replayed": _of("boolean", "The token was used before, and this is what became of it then"),
        "error": _of("string", "The message again, where it was not done"),
        "status": _of("integer"),
    },
    "error",
    "status",
)


# ---------------------------------------------------------------- what is sent


def _body_of(description: str, properties: _Schema, *optional: str) -> _Schema:
    return {**_object(properties, *optional, description=description), "additionalProperties": False}


_VERSION_TO_RESTORE = _of("string", minLength=1, maxLength=LONGEST_VERSION, examples=[_VERSION_ID])
_PLAN_REQUEST: _Schema = {
    "oneOf": [
        _body_of(
            "Remove a lock",
            {
                "action": {"const": Action.FORCE_UNLOCK.value},
                "store": _one_of(tuple(LockStore), "One of two locks that differ"),
            },
            "store",
        ),
        _body_of(
            "Set the digest to the MD5 of the object, or remove it",
            {"action": _one_of((Action.SET_DIGEST, Action.CLEAR_DIGEST))},
        ),
        _body_of(
            "Put an earlier version back",
            {"action": {"const": Action.RESTORE_VERSION.value}, "version_id": _VERSION_TO_RESTORE},
        ),
        _body_of(
            "Take a dead holder's lock over, and set the digest or restore a version under it",
            {"action": {"const": Action.TAKE_OVER.value}, "version_id": _VERSION_TO_RESTORE},
            "version_id",
        ),
        _body_of(
            "Take back what a record tells",
            {
                "action": {"const": UNDO},
                "record": _of("integer", minimum=1, maximum=LARGEST_RECORD, examples=[118]),
            },
        ),
    ],
}
_ACTION_REQUEST = _body_of(
    "A plan's token, and what a person would type. The lengths count without blanks around.",
    {
        "token": _of("string", examples=[_TOKEN]),
        "reason": _of("string", "For the audit log", minLength=3, maxLength=REASON_LIMIT),
        "ticket": _of("string", maxLength=TICKET_LIMIT),
        "confirm": _maybe("string", "The plan's `confirm`"),
        "serial": _maybe("string", "The plan's `serial`"),
    },
    "ticket",
    "confirm",
    "serial",
)


# ---------------------------------------------------------------- operations


def _openapi() -> _Schema:
    return {
        "operationId": "openapi",
        "tags": ["reading"],
        "summary": "This document",
        "responses": {"200": _answer("The document", _of("object")), **_errors(400, 401, 429, 503)},
    }


def _states() -> _Schema:
    text = _of("string", maxLength=1200)
    return {
        "operationId": "states",
        "tags": ["reading"],
        "summary": "Every state that the token may see, or those of a list's parameters",
        "description": "An empty parameter is one that is left out.",
        "parameters": [
            _asked("view", _one_of(("", *VIEWS), "`all` where it is left out")),
            _asked("status", _one_of(("", *sorted(STATUSES)), "A content or a lock status")),
            _asked("backend", text),
            _asked("prefix", {**text, "description": "Start of the key"}),
            _asked("holder", {**text, "description": "Exactly as `who` has it"}),
            _asked(
                "age",
                _of("string", "Locks held longer than this: 90s, 30m, 12h, 7d")
                | {"pattern": "^([1-9][0-9]{0,3}[dhms])?$"},
            ),
            _asked("q", {**text, "description": "Words that all occur in key, bucket, holder, ID or digest"}),
            _asked("sort", _one_of(("", *SORTS, *(f"-{name}" for name in SORTS)), "`-` turns it round")),
        ],
        "responses": {"200": _answer("The states", _ref("Estate")), **_errors(400, 401, 403, 429, 503)},
    }


def _state() -> _Schema:
    return {
        "operationId": "state",
        "tags": ["reading"],
        "summary": "One state, as the last refresh found it",
        "responses": {
            "200": _answer("The state", _ref("State")),
            **_errors(400, 401, 403, 404, 429, 503),
        },
    }


def _audit() -> _Schema:
    text = _of("string", maxLength=1200, pattern="^[^\\u0000]*$")
    ident = _of("string", pattern="^[0-9A-Za-z_-]{0,64}$")
    day = _of("string", "In UTC, included") | {"anyOf": [{"format": "date"}, {"const": ""}]}
    return {
        "operationId": "audit",
        "tags": ["reading"],
        "summary": "The records of the audit log that the token may read, newest first",
        "description": "JSON lines: one about the export, one for each record, and one with their count,"
        " without which it is not whole. The export is itself recorded first. An empty parameter is one that"
        " is left out; `since` may not lie after `until`.",
        "parameters": [
            _asked("kind", _one_of(("", *Kind))),
            _asked("person", text),
            _asked("action", _of("string", pattern="^([a-z][a-z_]{0,39})?$")),
            _asked("result", _one_of(("", *Result))),
            _asked("backend", text),
            _asked("key", {**text, "description": "A part of the key"}),
            _asked("ticket", text),
            _asked("state_id", ident),
            _asked("action_id", ident),
            _asked("since", day),
            _asked("until", day),
        ],
        "responses": {
            "200": {"description": "The records", "content": {"application/x-ndjson": {"schema": _TEXT}}},
            **_errors(400, 401, 403, 404, 429, 503),
        },
    }


def _plan() -> _Schema:
    act = {
        "operationId": "act",
        "description": "Carries it out",
        "parameters": {"id": "$request.path.id"},
        "requestBody": {
            "token": "$response.body#/token",
            "reason": "The runner was killed",
            "confirm": "$response.body#/confirm",
            "serial": "$response.body#/serial",
        },
    }
    examples = {
        "unlock": {"value": {"action": Action.FORCE_UNLOCK.value}},
        "restore": {"value": {"action": Action.RESTORE_VERSION.value, "version_id": _VERSION_ID}},
        "undo": {"value": {"action": UNDO, "record": 118}},
    }
    return {
        "operationId": "plan",
        "tags": ["acting"],
        "summary": "Read the key anew and say what an action would do; changes nothing",
        "requestBody": _sent(_ref("PlanRequest"), examples),
        "responses": {
            "200": _answer("The plan", _ref("Plan")) | {"links": {"act": act}},
            **_errors(400, 401, 403, 404, 409, 413, 415, 429, 500, 502, 503),
        },
    }


def _act() -> _Schema:
    example = {"token": _TOKEN, "reason": "The runner was killed", "ticket": "OPS-311", "confirm": "vpc"}
    told = _ref("Result")
    return {
        "operationId": "act",
        "tags": ["acting"],
        "summary": "Carry out the plan of a token, if nothing has changed since",
        "description": "One token is good for one attempt. Sent again after that, it changes nothing and"
        " answers what became of it: so it may be sent again whenever an answer was lost.",
        "requestBody": _sent(_ref("ActionRequest"), {"unlock": {"value": example}}),
        "responses": {
            "200": _answer("`done`, or `no_change`: it was so already", told),
            "202": _answer("`waiting`: a second person has to approve it. Nothing was done yet", told),
            "409": _answer("`refused`: it is not possible now, or not as planned. Nothing was done", told),
            "502": _answer(
                "`failed`: it was not carried out as planned; the message says how far it came. Without a"
                " `result`: AWS could not be read, and nothing was done",
                {"anyOf": [told, _ref("Error")]},
            ),
            "504": _answer("`unknown`: AWS may or may not have done it. Look before you try again", told),
            **_errors(400, 401, 403, 404, 413, 415, 422, 429, 500, 503),
        },
    }


_SAID = {
    400: "The request is not as described here",
    401: "No token was sent, or it is unknown, over or revoked",
    403: "The token may not do this, or actions are off",
    404: "There is no such thing, or the token may not see it",
    409: "It is not possible now; nothing was done",
    413: "The body is larger than 64 KiB",
    415: "The body is not said to be JSON",
    422: "`problems` says what has to be mended; nothing was done",
    429: "Too many requests",
    500: "Something went wrong in Lockboard; of an action, what was done is not known",
    502: "AWS could not be read; nothing was done",
    503: "The database or the audit log does not answer, or too many requests are at work",
}
_HEADERS = {
    401: {"WWW-Authenticate": {"schema": {"const": "Bearer"}}},
    429: {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}},
    503: {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}},
}


def _errors(*codes: int) -> _Schema:
    return {
        str(code): _answer(_SAID[code], _ref("Error"))
        | ({"headers": _HEADERS[code]} if code in _HEADERS else {})
        for code in codes
    }


def _answer(description: str, schema: _Schema) -> _Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _sent(schema: _Schema, examples: _Schema) -> _Schema:
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}


def _asked(name: str, schema: _Schema) -> _Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema}
