"""What an IAM policy says of a call: a small evaluator, because the emulators enforce none.

    allowed(policy, "s3:DeleteObject", "arn:aws:s3:::b/k.tflock", {"s3:if-match": '"e"'})
    denied([actor, session], proxy.recording.requests)    # [] where both allow everything that was seen

It knows what Lockboard's policies are made of and refuses the rest (`NotUnderstood`), so that nothing in a
policy is passed over unseen. The rules are those of the IAM reference on evaluation, policy variables and
conditions: an explicit denial wins, nothing is allowed by default, all conditions of a statement have to
hold, any value of one condition may. `*` and `?` match within a segment of an ARN, `${*}`, `${?}` and `${$}`
are those characters themselves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tests.emulators import REGION
from tests.faults import ITEM_ACTIONS, Seen

ACCOUNT = "123456789012"

Policy = Mapping[str, Any] | str
"""A policy document, or its text as STS gets it."""
Context = Mapping[str, str | Sequence[str]]
"""Condition keys of a request; those that it does not have are left out."""

_ELEMENTS = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}
_SPECIAL = re.compile(r"\$\{(.*?)\}|([*?])", re.DOTALL)
_CONDITIONS = ("if-match", "if-none-match")
_OF_BUCKETS = {"s3:ListBucket", "s3:ListBucketVersions", "s3:GetBucketVersioning"}
_OF_OBJECTS = {
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:GetObject",
    "s3:GetObjectVersion",
    "s3:GetObjectVersionTagging",
    "s3:PutObject",
    "s3:PutObjectTagging",
}


class NotUnderstood(Exception):
    """The evaluator does not know this part of a policy, or which permissions this request needs."""


# ------------------------------------------------------------------ policies


def allowed(policy: Policy, action: str, resource: str, context: Context | None = None) -> bool:
    """Whether this policy lets `action` (`s3:PutObject`) be done to `resource` (an ARN): some statement
    allows it and none denies it.

    Raises:
        NotUnderstood: see above.
    """
    document = _document(policy)
    if document.keys() != {"Version", "Statement"} or document["Version"] != "2012-10-17":
        raise NotUnderstood(f"policy of {sorted(document)}")
    call = Call(action, resource, context or {})
    effects = {one["Effect"] for one in document["Statement"] if _applies(one, call)}
    return effects == {"Allow"}


@dataclass(frozen=True)
class Call:
    """One permission that a request needs."""

    action: str
    resource: str
    context: Context = field(default_factory=dict)

    def allowed_by(self, *policies: Policy) -> bool:
        """Whether each of them allows it: a session has what its role and its session policy both allow."""
        return all(allowed(policy, self.action, self.resource, self.context) for policy in policies)


def _document(policy: Policy) -> Mapping[str, Any]:
    if not isinstance(policy, str):
        return policy
    return _parsed(policy)


@lru_cache(maxsize=64)
def _parsed(text: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(text)
    return found


def _applies(statement: Mapping[str, Any], call: Call) -> bool:
    if unknown := statement.keys() - _ELEMENTS:
        raise NotUnderstood(f"statement with {sorted(unknown)}")
    return (
        _named(statement, "Action", lambda pattern: _action_matches(pattern, call.action))
        and _named(statement, "Resource", lambda pattern: _arn_matches(pattern, call.resource))
        and all(
            _holds(operator, key, _listed(wanted), call.context)
            for operator, conditions in statement.get("Condition", {}).items()
            for key, wanted in conditions.items()
        )
    )


def _named(statement: Mapping[str, Any], element: str, matches: Any) -> bool:
    if f"Not{element}" in statement:
        return not any(matches(pattern) for pattern in _listed(statement[f"Not{element}"]))
    return any(matches(pattern) for pattern in _listed(statement[element]))


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _action_matches(pattern: str, action: str) -> bool:
    return _glob(pattern.lower()).fullmatch(action.lower()) is not None


def _arn_matches(pattern: str, arn: str) -> bool:
    if pattern == "*":
        return True
    wanted, given = pattern.split(":", 5), arn.split(":", 5)
    return len(wanted) == len(given) and all(
        _glob(one).fullmatch(other) for one, other in zip(wanted, given, strict=True)
    )


@lru_cache(maxsize=1024)
def _glob(pattern: str) -> re.Pattern[str]:
    parts, at = [], 0
    for special in _SPECIAL.finditer(pattern):
        parts.append(re.escape(pattern[at : special.start()]))
        at = special.end()
        variable, wildcard = special.groups()
        if wildcard:
            parts.append(".*" if wildcard == "*" else ".")
        elif variable in ("*", "?", "$"):
            parts.append(re.escape(variable))
        else:
            raise NotUnderstood(f"policy variable {variable}")
    return re.compile("".join([*parts, re.escape(pattern[at:])]), re.DOTALL)


def _holds(operator: str, key: str, wanted: list[str], context: Context) -> bool:
    quantifier, _, name = operator.rpartition(":")
    given = next((_listed(value) for own, value in context.items() if own.lower() == key.lower()), None)
    if name == "Null":
        return wanted == (["true"] if given is None else ["false"])
    if name == "StringLikeIfExists":
        if given is None:
            return True
        name = "StringLike"
    compare = {"StringEquals": _equal, "StringLike": _like}.get(name)
    if compare is None or quantifier not in ("", "ForAnyValue", "ForAllValues"):
        raise NotUnderstood(f"operator {operator}")
    found = [any(compare(one, value) for one in wanted) for value in given or ()]
    if quantifier == "ForAllValues":
        return all(found)
    if not quantifier and len(found) > 1:
        raise NotUnderstood(f"{operator} of several values")
    return any(found)


def _equal(wanted: str, value: str) -> bool:
    if "${" in wanted:
        raise NotUnderstood(f"a variable in {wanted}")
    return wanted == value


def _like(wanted: str, value: str) -> bool:
    return _glob(wanted).fullmatch(value) is not None


# ------------------------------------------------------------------ requests


def calls_of(seen: Seen) -> list[Call]:
    """The permissions that AWS asks for before it does what a recorded request says.

    Raises:
        NotUnderstood: it is nothing that Lockboard sends.
    """
    if seen.target:
        return _item_calls(seen)
    bucket, _, key = seen.path.removeprefix("/").partition("/")
    context = {f"s3:{name}": seen.headers[name] for name in _CONDITIONS if name in seen.headers}
    context |= {"s3:prefix": seen.query["prefix"]} if "prefix" in seen.query else {}
    calls = []
    for action in sorted(seen.iam_actions):
        if action not in _OF_BUCKETS | _OF_OBJECTS:
            raise NotUnderstood(f"{action} of {seen.method} {seen.path}")
        path = "" if action in _OF_BUCKETS else f"/{key}"
        calls.append(Call(action, f"arn:aws:s3:::{bucket}{path}", context))
    key_arn = seen.headers.get("x-amz-server-side-encryption-aws-kms-key-id")
    return calls + ([Call("kms:GenerateDataKey", key_arn)] if key_arn else [])


def _item_calls(seen: Seen) -> list[Call]:
    if seen.operation != "TransactWriteItems":
        return [_item_call(f"dynamodb:{seen.operation}", seen.document)]
    parts = [pair for one in seen.document["TransactItems"] for pair in one.items()]
    return [_item_call(ITEM_ACTIONS[kind], part, seen.operation) for kind, part in parts]


def _item_call(action: str, part: Mapping[str, Any], enclosing: str = "") -> Call:
    key = part.get("Key") or part.get("Item")
    context: dict[str, Sequence[str]] = {"dynamodb:LeadingKeys": [key["LockID"]["S"]]} if key else {}
    if enclosing:
        context["dynamodb:EnclosingOperation"] = [enclosing]
    table = part["TableName"]
    arn = table if table.startswith("arn:") else f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}"
    return Call(action, arn, context)


def denied(policies: Sequence[Policy], requests: Iterable[Seen]) -> list[str]:
    """What these policies together would have refused of recorded requests; AssumeRole, which a role's trust
    policy decides on, is left out.
    """
    calls = [call for seen in requests if seen.operation != "AssumeRole" for call in calls_of(seen)]
    return [f"{call.action} on {call.resource}" for call in calls if not call.allowed_by(*policies)]
