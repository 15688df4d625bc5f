"""Which of the permissions that actions need are there, found with writes whose conditions cannot hold, so
that none of them changes anything but the probe's own object.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable

from lockboard.adapters.probe import NOTHING, Probe
from lockboard.domain.bodies import read_body
from lockboard.domain.keys import PROBE_KEY, digest_id, lock_id
from lockboard.domain.writes import Hands, Receipt, Restorable, Sent

UNTRIED = "s3:GetObjectVersion, s3:GetObjectVersionTagging, s3:PutObjectTagging"
"""What a restore needs as well. Only a state's own version could show it, and none is touched by a probe."""
_NOBODY = "lockboard probe"
_NEVER_AN_ETAG = "0" * 32


def probe_writes(hands: Hands, bucket: str, prefix: str) -> list[Probe]:
    """Try each write that an action makes. The S3 ones only where the store honours conditions: elsewhere a
    try would write.
    """
    key = prefix + PROBE_KEY
    distrust = hands.states.refuses_wrong_conditions()
    probes = [
        Probe("s3:PutObject, s3:DeleteObject", not distrust, distrust or "conditions on .tflock are honoured")
    ]
    if not distrust:
        body = b"{}"
        nothing = Restorable(body, read_body(body), "", "")
        probes.append(
            _told("s3:PutObject", hands.states.put_state(key, nothing, _NEVER_AN_ETAG), "on state keys")
        )
        probes.append(Probe(UNTRIED, True, f"{NOTHING}: a restore needs them and fails without"))
    if hands.table:
        table, own, old = hands.table, lock_id(bucket, key), {"S": _NOBODY}
        digest = hashlib.md5(b"", usedforsecurity=False).hexdigest()
        tries: tuple[tuple[str, Callable[[], Receipt]], ...] = (
            ("dynamodb:PutItem", lambda: table.replace_lock(own, old, _NOBODY, _token())),
            ("dynamodb:DeleteItem", lambda: table.release_lock(own, old, _token())),
            (
                "dynamodb:UpdateItem",
                lambda: table.change_digest(
                    digest_id(bucket, key),
                    absent=False,
                    old=old,
                    new=digest,
                    lock_id=own,
                    info=_NOBODY,
                    token=_token(),
                ),
            ),
        )
        probes += [_told(action, send(), "in a transaction") for action, send in tries]
    return probes


def _told(action: str, receipt: Receipt, where: str) -> Probe:
    """A condition that did not hold shows that the permission is there."""
    if receipt.sent is Sent.LOST:
        return Probe(action, True, f"allowed {where}")
    if receipt.sent is Sent.DONE:
        return Probe(
            action, False, "a write whose condition cannot hold was made: this service ignores conditions"
        )
    return Probe(action, False, receipt.detail)


def _token() -> str:
    return str(uuid.uuid4())
