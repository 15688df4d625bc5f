"""One lock table, written: the port `TableWrites` over boto3.

Every change is one TransactWriteItems: its client token makes a repetition harmless, it can check the lock
and change the digest together, and the actor's policy allows writes in transactions only, so that no plain
write can slip in. Items are compared as they were read, by type and value, never by what was understood of
them.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lockboard.adapters.once import Judge, Once, Refusal, unsettled
from lockboard.domain.digests import Attribute
from lockboard.domain.text import shown
from lockboard.domain.writes import Receipt, Sent

_OPERATION = "TransactWriteItems"
_NAMES = {"#lock": "LockID", "#info": "Info", "#digest": "Digest"}
_REASONS = re.compile(r"\[([A-Za-z, ]+)\]")

_ABSENT, _PRESENT = "attribute_not_exists(#lock)", "attribute_exists(#lock)"
_NO_INFO, _NO_DIGEST = "attribute_not_exists(#info)", "attribute_not_exists(#digest)"

_TAKEN, _MOVED = "there is an item already", "the item is no longer as it was seen"
_OURS_LOST = "the lock is no longer ours"

_Change = dict[str, dict[str, Any]]
_Values = Mapping[str, Mapping[str, Any]]


class DynamoTableWrites:
    """Writes one lock table for one action.

    A token is sent once. Were the same sent again within ten minutes with the same change, DynamoDB would
    answer as it did the first time; with another change it refuses (IdempotentParameterMismatch: failed, this
    change was not made). TransactionInProgress can only mean that something on the way sent ours twice and
    the first is still at work: unsettled.

    Args:
        client: a DynamoDB client of one attempt that belongs to this writer alone.
    """

    def __init__(self, client: Any, table: str) -> None:
        self._once, self._table = Once(client, "dynamodb"), table

    def take_lock(self, lock_id: str, info: str, token: str) -> Receipt:
        """See `TableWrites.take_lock`."""
        return self._send(token, lambda: [self._put(_lock(lock_id, info), _ABSENT)], [_TAKEN])

    def replace_lock(self, lock_id: str, old: Attribute | None, info: str, token: str) -> Receipt:
        """See `TableWrites.replace_lock`. What else the old item has, a time to live say, goes with it."""
        return self._send(token, lambda: [self._put(_lock(lock_id, info), *_lock_is(old))], [_MOVED])

    def release_lock(self, lock_id: str, old: Attribute | None, token: str) -> Receipt:
        """See `TableWrites.release_lock`."""
        return self._send(token, lambda: [self._at("Delete", lock_id, *_lock_is(old))], [_MOVED])

    def change_digest(
        self,
        digest_id: str,
        *,
        absent: bool,
        old: Attribute | None,
        new: str | None,
        lock_id: str,
        info: str,
        token: str,
    ) -> Receipt:
        """See `TableWrites.change_digest`. An item that stays keeps its other attributes."""
        if absent and new is None:
            return _not_sent("there is no digest to remove")

        def changes() -> list[_Change]:
            ours = self._at("ConditionCheck", lock_id, "#info = :ours", {":ours": {"S": info}})
            if absent:
                return [ours, self._put({"LockID": {"S": digest_id}, "Digest": {"S": new}}, _ABSENT)]
            condition, values = _digest_is(old)
            if new is None:
                return [ours, self._at("Delete", digest_id, condition, values)]
            values = {**values, ":new": {"S": new}}
            return [ours, self._at("Update", digest_id, condition, values, "SET #digest = :new")]

        return self._send(token, changes, [_OURS_LOST, _TAKEN if absent else _MOVED])

    def _put(self, item: Mapping[str, Any], condition: str, values: _Values | None = None) -> _Change:
        return {"Put": {"Item": item} | self._if(condition, values)}

    def _at(
        self, kind: str, lock_id: str, condition: str, values: _Values | None = None, update: str = ""
    ) -> _Change:
        expression = {"UpdateExpression": update} if update else {}
        key = {"Key": {"LockID": {"S": lock_id}}}
        return {kind: key | expression | self._if(condition, values, update)}

    def _if(self, condition: str, values: _Values | None, update: str = "") -> dict[str, Any]:
        names = {name: full for name, full in _NAMES.items() if name in f"{condition} {update}"}
        found = {
            "TableName": self._table,
            "ConditionExpression": condition,
            "ExpressionAttributeNames": names,
        }
        return found | ({"ExpressionAttributeValues": values} if values else {})

    def _send(self, token: str, changes: Callable[[], list[_Change]], lost: Sequence[str]) -> Receipt:
        """`lost` says for each change what it means that its condition did not hold."""
        try:
            sent = changes()
        except (ValueError, TypeError, AttributeError):
            return _not_sent("the value to compare with is not one that DynamoDB writes")
        action = f"dynamodb:{next(iter(sent[-1]))}Item"
        reply = self._once.send(
            _OPERATION, action, _judge_for(lost), TransactItems=sent, ClientRequestToken=token
        )
        if reply.receipt.sent is Sent.DONE and not _is_dynamodb(reply.answer):
            return unsettled(reply, "the answer is not what DynamoDB writes").receipt
        return reply.receipt


def _lock(lock_id: str, info: str) -> Mapping[str, Any]:
    return {"LockID": {"S": lock_id}, "Info": {"S": info}}


def _lock_is(old: Attribute | None) -> tuple[str, _Values]:
    if old is None:
        return f"{_PRESENT} AND {_NO_INFO} AND {_NO_DIGEST}", {}
    return f"#info = :old AND {_NO_DIGEST}", {":old": low_level(old)}


def _digest_is(old: Attribute | None) -> tuple[str, _Values]:
    if old is None:
        return f"{_PRESENT} AND {_NO_INFO} AND {_NO_DIGEST}", {}
    return f"#digest = :old AND {_NO_INFO}", {":old": low_level(old)}


def low_level(attribute: Attribute) -> Mapping[str, Any]:
    """An attribute as DynamoDB's JSON writes it, in boto3's form: binary values as bytes, however deep.

    Raises:
        ValueError, TypeError, AttributeError: it is nothing that DynamoDB writes.
    """
    [(kind, value)] = attribute.items()
    found: Any = value
    if kind == "B":
        found = _bytes(value)
    elif kind == "BS":
        found = [_bytes(each) for each in _sequence(value)]
    elif kind == "L":
        found = [low_level(each) for each in _sequence(value)]
    elif kind == "M":
        if not isinstance(value, Mapping):
            raise TypeError("a map was expected")
        found = {name: low_level(each) for name, each in value.items()}
    return {kind: found}


def _bytes(value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError("base64 was expected")
    return b64decode(value, validate=True)


def _sequence(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("a list was expected")
    return value


def _judge_for(lost: Sequence[str]) -> Judge:
    def judge(refusal: Refusal) -> tuple[Sent, str] | None:
        if refusal.code == "TransactionCanceledException":
            return _cancelled(refusal, lost)
        if refusal.code in ("TransactionConflictException", "ReplicatedWriteConflictException"):
            return Sent.FAILED, f"another change of the item was under way ({refusal.code})"
        if refusal.code == "TransactionInProgressException":
            return Sent.UNSETTLED, "this change is still at work (TransactionInProgressException)"
        return None

    return judge


def _cancelled(refusal: Refusal, lost: Sequence[str]) -> tuple[Sent, str]:
    """A transaction of which nothing was done; its reasons stand in the order of its changes."""
    reasons = [str(reason.get("Code")) for reason in refusal.document.get("CancellationReasons") or ()]
    if not reasons and (named := _REASONS.search(refusal.message)):
        reasons = [reason.strip() for reason in named[1].split(",")]
    broken = [
        words for words, reason in zip(lost, reasons, strict=False) if reason == "ConditionalCheckFailed"
    ]
    if broken:
        return Sent.LOST, f"{' and '.join(broken)} (ConditionalCheckFailed)"
    if "TransactionConflict" in reasons:
        return Sent.FAILED, "another change of the item was under way (TransactionConflict)"
    told = ", ".join(reason for reason in reasons if reason != "None") or refusal.code
    return Sent.FAILED, f"the transaction was cancelled ({shown(told, 200)}): {refusal.message}"


def _is_dynamodb(answer: Mapping[str, Any]) -> bool:
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(headers.get("content-type", "")).startswith("application/x-amz-json")


def _not_sent(why: str) -> Receipt:
    return Receipt(Sent.FAILED, f"dynamodb:{_OPERATION}", detail=f"nothing was sent: {why}")
