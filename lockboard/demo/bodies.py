"""Invented state bodies and locks in the formats that Terraform writes. Nothing in them is secret or real."""

from __future__ import annotations

import base64
import json
import random
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import md5

PROVIDER = 'provider["mirror.example.com/hashicorp/aws"]'
RESOURCES = (
    ("aws_vpc", "main"),
    ("aws_subnet", "private_a"),
    ("aws_subnet", "private_b"),
    ("aws_security_group", "service"),
    ("aws_iam_role", "task"),
    ("aws_iam_policy", "read_only"),
    ("aws_s3_bucket", "assets"),
    ("aws_lb", "public"),
    ("aws_lb_target_group", "api"),
    ("aws_ecs_cluster", "apps"),
    ("aws_ecs_service", "api"),
    ("aws_cloudwatch_log_group", "api"),
    ("aws_route53_record", "api"),
    ("aws_db_instance", "orders"),
    ("aws_elasticache_cluster", "sessions"),
    ("aws_sqs_queue", "jobs"),
    ("aws_sns_topic", "alerts"),
    ("aws_kms_alias", "app"),
    ("aws_nat_gateway", "egress"),
    ("aws_ecr_repository", "images"),
)
HOLDERS = (
    "runner@fv-az881-525",
    "runner@fv-az1204-77",
    "root@runner-t3qyxf-project-7120-concurrent-0",
    "atlantis@atlantis-0",
    "jenkins@ci-agent-3",
    "minji@MacBook-Pro-4.local",
    "dana@ops-laptop",
    "ubuntu@ip-172-31-2-133",
    "root@ip-10-91-17-147.us-west-2.compute.internal",
    "root@4f1c2b9d77aa",
)
RELEASES = ("1.5.7", "1.9.8", "1.10.5", "1.11.4")
_VERSION_ID = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._"


@dataclass(frozen=True, slots=True)
class State:
    """What tells one state body from another. `resources` are indices of RESOURCES."""

    lineage: str
    serial: int
    release: str
    resources: tuple[int, ...]

    def written_again(self, rng: random.Random) -> State:
        """The next state a changing apply would write: serial one higher, a resource more or less."""
        absent = [i for i in range(len(RESOURCES)) if i not in self.resources]
        if absent and (len(self.resources) < 4 or rng.random() < 0.75):
            resources = tuple(sorted((*self.resources, rng.choice(absent))))
        else:
            gone = rng.choice(self.resources)
            resources = tuple(i for i in self.resources if i != gone)
        return replace(self, serial=self.serial + 1, resources=resources)


def first_state(rng: random.Random) -> State:
    """The state of a young stack."""
    resources = tuple(sorted(rng.sample(range(len(RESOURCES)), rng.randint(3, 9))))
    return State(new_uuid(rng), rng.randint(1, 40), rng.choice(RELEASES), resources)


def body_of(state: State) -> bytes:
    """The object body: state format version 4, indented and ended by a newline as Terraform writes it."""
    document = {
        "version": 4,
        "terraform_version": state.release,
        "serial": state.serial,
        "lineage": state.lineage,
        "outputs": {},
        "resources": [_resource(*RESOURCES[index]) for index in state.resources],
        "check_results": None,
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def _resource(kind: str, name: str) -> dict[str, object]:
    return {
        "mode": "managed",
        "type": kind,
        "name": name,
        "provider": PROVIDER,
        "instances": [
            {"schema_version": 0, "attributes": {"id": f"demo-{kind}-{name}"}, "sensitive_attributes": []}
        ],
    }


def next_body(body: bytes, rng: random.Random) -> bytes:
    """The body that a changing apply would write over `body`, which must be one that `body_of` made."""
    document = json.loads(body)
    index = {resource: i for i, resource in enumerate(RESOURCES)}
    resources = tuple(index[r["type"], r["name"]] for r in document["resources"])
    state = State(document["lineage"], document["serial"], document["terraform_version"], resources)
    return body_of(state.written_again(rng))


def edited_by_hand(body: bytes) -> bytes:
    """The same state with one attribute changed in an editor: serial and lineage stay."""
    document = json.loads(body)
    document["resources"][0]["instances"][0]["attributes"]["id"] += "-renamed"
    return json.dumps(document, indent=2).encode() + b"\n"


def encrypted(state: State, rng: random.Random) -> bytes:
    """A body as OpenTofu's state encryption writes it; what it claims to encrypt is noise."""
    noise = base64.b64encode(rng.randbytes(900)).decode()
    meta = {"key_provider.pbkdf2.demo": base64.b64encode(rng.randbytes(48)).decode()}
    document = {
        "serial": state.serial,
        "lineage": state.lineage,
        "meta": meta,
        "encrypted_data": noise,
        "encryption_version": "v0",
    }
    return json.dumps(document, separators=(",", ":")).encode()


def digest_of(body: bytes) -> str:
    """The Digest value of a body: 32 lower-case hexadecimal digits."""
    return md5(body, usedforsecurity=False).hexdigest()


def dice(seed: str) -> random.Random:
    """Chance that falls the same way for the same seed."""
    return random.Random(seed)  # noqa: S311 -- invented data, no secret


def new_uuid(rng: random.Random) -> str:
    """A lock ID or lineage."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def new_version_id(rng: random.Random) -> str:
    """An S3 version ID: 32 characters of its alphabet."""
    return "".join(rng.choices(_VERSION_ID, k=32))


def lock_info(lock_id: str, operation: str, who: str, release: str, created: datetime, path: str) -> str:
    """LockInfo JSON as Terraform writes it to the table's `Info` and to the `.tflock` (statemgr/locker.go).

    `created` is aware; it is written in UTC with trailing zeros of the fraction trimmed, and what Go escapes
    is escaped.
    """
    moment = created.astimezone(UTC)
    fraction = f".{moment.microsecond:06d}".rstrip("0").rstrip(".")
    fields = {
        "ID": lock_id,
        "Operation": operation,
        "Info": "",
        "Who": who,
        "Version": release,
        "Created": f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z",
        "Path": path,
    }
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=any("\ud800" <= c <= "\udfff" for c in who))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
