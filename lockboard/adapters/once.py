"""One request, sent once, and what is known of it afterwards.

A retry turns "done, and the answer was lost" into "refused: it is no longer there", so the clients of
`aws.Single` do not retry, and what else in botocore sends a request a second time is switched off here. Then
each way in which a request ends has one meaning:

- it never left this machine (no credentials, no name, refused, no TLS): failed;
- the service refused it with a 4xx: failed, or lost where the condition is what did not hold;
- anything after the first byte may have left (time-out, closed connection, half an answer, any 5xx, also a
  503 that asks for fewer requests: something between here and the service may have said it): unsettled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from botocore import xform_name
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ProxyConnectionError,
    ReadTimeoutError,
)

from lockboard.adapters.aws import READ_FAILURES, clean, translate, unread
from lockboard.domain.text import shown
from lockboard.domain.writes import Receipt, Sent

LARGEST_AT_ONCE = 1024**2
"""Bytes of a body that is sent without asking first whether it is wanted."""

_BEFORE_SENDING = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A service's 4xx or 5xx. status: HTTP.  code, message: its own.  document: all that it said."""

    status: int
    code: str
    message: str
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a request: the parsed `answer` of one that is done, the `refusal` of one refused."""

    receipt: Receipt
    answer: Mapping[str, Any] = field(default_factory=dict)
    refusal: Refusal | None = None


Judge = Callable[[Refusal], tuple[Sent, str] | None]
"""What a service's refusal means and the words for it; None for the general rule by its HTTP status."""


class Once:
    """Sends requests of one client, each once. Safe from several threads.

    Args:
        client: one with `total_max_attempts` of 1, used for nothing else.
        service: as the IAM action begins: `s3`, `dynamodb`.
    """

    def __init__(self, client: Any, service: str) -> None:
        self._client, self._service = client, service
        self._thread = threading.local()
        events = client.meta.events
        events.register("before-call", _follow_no_redirect)
        events.register("before-call", _send_small_bodies_at_once)
        events.register("before-send", self._leaves)
        events.register("before-parse", _check_length)

    def send(self, operation: str, action: str, judge: Judge, **parameters: Any) -> Reply:
        """One request. Raises nothing.

        operation: `PutObject`.  action: the IAM action that it needs.
        """
        name = f"{self._service}:{operation}"
        self._thread.left = False
        try:
            answer: Mapping[str, Any] = getattr(self._client, xform_name(operation))(**parameters)
        except ClientError as error:
            return _refused(error, name, action, judge)
        except Exception as error:  # noqa: BLE001  whatever else it is, it must become a word
            sent, detail = self._failure(error, action)
            return Reply(Receipt(sent, name, detail=detail))
        return Reply(Receipt(Sent.DONE, name, request_id_of(answer)), answer)

    def _failure(self, error: Exception, action: str) -> tuple[Sent, str]:
        if self._thread.left and not _never_connected(error):
            return Sent.UNSETTLED, _lost_words(error)
        if isinstance(error, (BotoCoreError, UnicodeError)) and isinstance(error, READ_FAILURES):
            return Sent.FAILED, f"nothing was sent: {unread(translate(error, action)).reason}"
        return Sent.FAILED, f"nothing was sent: the request could not be made ({type(error).__name__})"

    def _leaves(self, **_: object) -> None:
        self._thread.left = True


def request_id_of(answer: Mapping[str, Any]) -> str:
    """AWS's ID of an answered request, "" where it gave none."""
    return shown(str(answer.get("ResponseMetadata", {}).get("RequestId") or ""), 200)


def status_of(answer: Mapping[str, Any]) -> int:
    """The HTTP status of an answer."""
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def unsettled(reply: Reply, detail: str) -> Reply:
    """The same reply, which is not what this service writes when it did what was asked."""
    receipt = reply.receipt
    return Reply(Receipt(Sent.UNSETTLED, receipt.operation, receipt.request_id, detail))


def _refused(error: Any, name: str, action: str, judge: Judge) -> Reply:
    document = error.response
    told = document.get("Error", {})
    refusal = Refusal(
        status_of(document), str(told.get("Code") or ""), clean(str(told.get("Message") or "")), document
    )
    if refusal.status >= 500 and refusal.status != 501:
        code = shown(refusal.code, 100)
        sent, detail = Sent.UNSETTLED, f"the service answered {refusal.status} ({code}), which proves nothing"
    else:
        sent, detail = judge(refusal) or (Sent.FAILED, unread(translate(error, action)).reason)
    return Reply(Receipt(sent, name, request_id_of(document), detail), refusal=refusal)


def _lost_words(error: Exception) -> str:
    kind = type(error).__name__
    if isinstance(error, ReadTimeoutError):
        return f"no answer came in time ({kind})"
    if isinstance(error, ConnectionClosedError):
        return f"the connection ended before the answer ({kind})"
    return f"no answer that could be read ({kind})"


def _never_connected(error: Exception) -> bool:
    """Whether the connection was not made, or its TLS not agreed, so that no byte of the request left."""
    return isinstance(error, _BEFORE_SENDING) or any(
        "do_handshake" in _functions(one) for one in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = [one.__cause__, one.__context__, getattr(one, "kwargs", {}).get("error"), *one.args]
        waiting += [each for each in inner if isinstance(each, BaseException)]


def _functions(error: BaseException) -> set[str]:
    """The names of the functions that an error came through."""
    names, at = set(), error.__traceback__
    while at is not None:
        names.add(at.tb_frame.f_code.co_name)
        at = at.tb_next
    return names


def _follow_no_redirect(params: Mapping[str, Any], **_: object) -> None:
    """botocore sends a request for a bucket of another region again; to it, this one was so already."""
    redirect = params["context"].get("s3_redirect")
    if redirect is not None:
        redirect["redirected"] = True


def _send_small_bodies_at_once(params: Mapping[str, Any], **_: object) -> None:
    """Asking first whether a body is wanted saves sending a large one in vain, and costs a small one a round
    trip, or a second where something on the way does not answer.
    """
    body = params["body"]
    if isinstance(body, BytesIO) and body.getbuffer().nbytes <= LARGEST_AT_ONCE:
        params["headers"].pop("Expect", None)


def _check_length(response_dict: Mapping[str, Any], **_: object) -> None:
    """An answer cut short must not be taken for a shorter one, which botocore would do."""
    body, length = response_dict["body"], response_dict["headers"].get("Content-Length")
    if isinstance(body, bytes) and length is not None and int(length) != len(body):
        raise ValueError("the answer is shorter or longer than its head says")
