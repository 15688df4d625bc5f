"""The writers of one action: clients of their own, under the actor's role where one is set.

With a role, each action has a session of fifteen minutes at most, named after the person and the action, so
that CloudTrail tells who did what, and limited to the one state key. Without one, the backend's own
credentials write.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lockboard.adapters.aws import Access, RoleCredentials, Single, without_role
from lockboard.adapters.dynamodb_writes import DynamoTableWrites
from lockboard.adapters.policies import session_policy
from lockboard.adapters.s3_writes import S3StateWrites, Trust
from lockboard.domain.audit import Person
from lockboard.domain.writes import Hands

SESSION_SECONDS = 900
"""The shortest that STS grants."""
LONGEST_NAME = 64
"""Characters of a role session's name and of a source identity."""
LONGEST_ACTION_ID = 36
NOBODY = "unknown"
"""Stands for a person without a name."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_+=,.@-]")


@dataclass(frozen=True)
class Reach:
    """One backend as its writers reach it.

    actor_role_arn: the role to assume for each action, with the credentials that `access.role_arn` is assumed
    with and the same external ID.  source_identity: also send the person's name as the session's source
    identity, which the role's trust policy has to allow (`sts:SetSourceIdentity`).
    """

    access: Access
    bucket: str
    prefix: str = ""
    table: str | None = None
    actor_role_arn: str | None = None
    source_identity: bool = False


class HandsOpener:
    """Opens the writers of an action: an `OpenHands`. Safe from several threads.

    Args:
        backends: by name.
        monotonic: seconds that only go forward.
    """

    def __init__(
        self, backends: Mapping[str, Reach], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._backends, self._monotonic = dict(backends), monotonic
        self._singles = {name: _single(reach) for name, reach in self._backends.items()}
        self._trusts: dict[tuple[str | None, str], Trust] = {}
        self._lock = threading.Lock()

    def __call__(self, backend: str, key: str, person: Person, action_id: str) -> Hands:
        """See `OpenHands`.

        Raises:
            ReadError: the role was not granted, or STS did not answer.
            SettingsError: a profile, region or endpoint is wrong.
            KeyError: there is no such backend.
        """
        reach, single = self._backends[backend], self._singles[backend]
        agent = f"lockboard-action/{_name(action_id)}"
        credentials = _assumed(single, reach, key, person, action_id, agent)
        clients = single.clients(agent, credentials)
        states = S3StateWrites(
            clients.s3,
            reach.bucket,
            reach.prefix,
            bodies=clients.bodies,
            trust=self._trust(reach),
            monotonic=self._monotonic,
        )
        table = DynamoTableWrites(clients.dynamodb, reach.table) if reach.table else None
        return Hands(states, table)

    def _trust(self, reach: Reach) -> Trust:
        """What is known of a bucket is known to all backends in it."""
        with self._lock:
            place = (reach.access.s3_endpoint_url, reach.bucket)
            return self._trusts.setdefault(place, Trust(self._monotonic))


def _single(reach: Reach) -> Single:
    return Single(without_role(reach.access) if reach.actor_role_arn else reach.access)


def _assumed(
    single: Single, reach: Reach, key: str, person: Person, action_id: str, agent: str
) -> RoleCredentials | None:
    role = reach.actor_role_arn
    if role is None:
        return None
    policy = session_policy(reach.bucket, reach.prefix, key, reach.table, partition=role.split(":")[1])
    identity = {"SourceIdentity": source_identity(person)} if reach.source_identity else {}
    return single.assume(
        role,
        agent,
        RoleSessionName=session_name(person, action_id),
        DurationSeconds=SESSION_SECONDS,
        Policy=policy,
        **identity,
    )


def session_name(person: Person, action_id: str) -> str:
    """`person-action`, of the characters and the length that STS takes (2 to 64); the action's ID is never
    cut for the name's sake.
    """
    action = _name(action_id)[:LONGEST_ACTION_ID]
    return f"{_name(person.name)[: LONGEST_NAME - 1 - len(action)] or NOBODY}-{action}"


def source_identity(person: Person) -> str:
    """The person's name as STS takes it."""
    name = _name(person.name)[:LONGEST_NAME] or NOBODY
    return name if len(name) > 1 else f"{name}-"


def _name(text: str) -> str:
    return _NOT_IN_NAMES.sub("_", text)
