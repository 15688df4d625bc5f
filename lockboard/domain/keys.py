"""Lock IDs, state keys and workspaces: how Terraform's S3 backend names things (backend_state.go, client.go
`lockPath`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from fnmatch import translate

DIGEST_SUFFIX = "-md5"
LOCKFILE_SUFFIX = ".tflock"
DEFAULT_WORKSPACE_PREFIX = "env:"

PROBE_KEY = ".lockboard/probe"
"""Below a backend's prefix, the name that the test of conditional writes uses, `.tflock` behind it, because
that is all the actor may delete. Listings leave it out.
"""

_ACCESS_POINT = re.compile(r"(arn:[^/]*:accesspoint/[^/]*)(?:/(.*))?\Z", re.DOTALL)


def lock_id(bucket: str, key: str) -> str:
    """The `LockID` of a state's lock item."""
    return f"{bucket}/{key}"


def digest_id(bucket: str, key: str) -> str:
    """The `LockID` of a state's digest item."""
    return f"{bucket}/{key}{DIGEST_SUFFIX}"


def split_lock_id(text: str) -> tuple[str, str] | None:
    """(bucket, key) of a `LockID`, or None where it has no slash and so was not written by this backend.

    Bucket names have no slash, so the first one divides; an access point's ARN may stand in the bucket's
    place and has one itself.
    """
    if found := _ACCESS_POINT.match(text):
        return (found[1], found[2]) if found[2] else None
    bucket, slash, key = text.partition("/")
    return (bucket, key) if slash and bucket and key else None


def workspace_of(key: str, prefix: str = DEFAULT_WORKSPACE_PREFIX) -> tuple[str, str] | None:
    """(workspace, key in the configuration) of a non-default workspace's key, or None for the default
    workspace.

    Terraform joins `workspace_key_prefix/workspace/key`; with an empty prefix a workspace cannot be told from
    a folder.
    """
    if not prefix or not key.startswith(prefix + "/"):
        return None
    name, slash, rest = key[len(prefix) + 1 :].partition("/")
    return (name, rest) if slash and name and rest else None


def state_id(backend: str, key: str) -> str:
    """The opaque address of a key in URLs: 16 hexadecimal digits, the same for ever for one backend name and
    key.
    """
    return hashlib.sha256(f"{backend}\0{key}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """A test of whether a whole key matches one of the shell-style patterns; `*` also crosses slashes."""
    suffixes = tuple(p[1:] for p in patterns if p.startswith("*") and not set("*?[") & set(p[1:]))
    rest = [translate(p) for p in patterns if p[1:] not in suffixes or not p.startswith("*")]
    if not rest:
        return lambda key: key.endswith(suffixes)
    pattern = re.compile("|".join(rest), re.DOTALL)
    return lambda key: key.endswith(suffixes) or pattern.match(key) is not None
