"""One listing and one scan, joined: which state keys there are, and what the two say of each.

Reads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b

from lockboard import __version__
from lockboard.domain.digests import Digest
from lockboard.domain.keys import DIGEST_SUFFIX, LOCKFILE_SUFFIX, digest_id, lock_id
from lockboard.domain.locks import Lock
from lockboard.domain.model import Backend, StateObject
from lockboard.domain.ports import Listed, TableItem
from lockboard.services.investigate import digest_of, is_lock_item, lock_of

Items = Mapping[str, TableItem | str]
"""LockID to item; the bare text of the digest where the item is nothing but a digest, as nearly all of them
are.
"""


@dataclass(slots=True)
class Swept:
    """What the last sweep of object versions found: keys under a delete marker with its version ID (None
    where a refresh found the key gone since, and no marker), and keys that ever had a lock file.
    """

    deleted: dict[str, str | None] = field(default_factory=dict)
    lockfile_history: set[str] = field(default_factory=set)


class Picture:
    """What one refresh saw of a backend.

    `keys` are its state keys, `foreign` how many items belong to other buckets.
    """

    def __init__(self, backend: Backend, objects: Mapping[str, Listed], items: Items, swept: Swept) -> None:
        self._backend, self.objects, self.items, self.swept = backend, objects, items, swept
        self.foreign, named = self._named_by_items()
        self.keys = {key for key in objects if backend.state_key(key) and not key.endswith(LOCKFILE_SUFFIX)}
        self.keys |= {key.removesuffix(LOCKFILE_SUFFIX) for key in objects if key.endswith(LOCKFILE_SUFFIX)}
        self.keys |= {key for key in swept.lockfile_history if key in objects}
        self.keys |= named | swept.deleted.keys()
        self.keys.discard("")  # what a name leaves that is nothing but a suffix

    def _named_by_items(self) -> tuple[int, set[str]]:
        bucket, prefix = self._backend.bucket + "/", self._backend.prefix
        foreign, named = 0, set()
        for name, item in self.items.items():
            key = name[len(bucket) :]
            if not key or not name.startswith(bucket):
                foreign += 1
                continue
            if isinstance(item, str) or not is_lock_item(item, key):
                key = key.removesuffix(DIGEST_SUFFIX)
            if key.startswith(prefix):
                named.add(key)
        return foreign, named

    def changed_since(self, before: Picture | None) -> set[str]:
        """Keys of which listing or table say something else than `before`, with those that share a name with
        them.
        """
        if before is None:
            return set(self.keys)
        names = _changed(before.objects, self.objects)
        bucket = self._backend.bucket + "/"
        changed = _changed(before.items, self.items)
        names.update(name[len(bucket) :] for name in changed if name.startswith(bucket))
        names |= before.swept.lockfile_history ^ self.swept.lockfile_history
        names |= _changed(before.swept.deleted, self.swept.deleted)
        return {related for name in names for related in _related(name)}

    def lockfile(self, key: str) -> Listed | None:
        """The listed `.tflock` beside a state key."""
        return self.objects.get(key + LOCKFILE_SUFFIX)

    def state(self, key: str) -> StateObject | None:
        """The state object as the listing shows it, its bytes not read."""
        listed = self.objects.get(key)
        return listed_object(listed) if listed else None

    def digest(self, key: str) -> Digest | None:
        found = digest_of(self._item(digest_id(self._backend.bucket, key)))
        assert found is None or isinstance(found, Digest)
        return found

    def table_lock(self, key: str) -> Lock | None:
        own = self._item(lock_id(self._backend.bucket, key))
        found = lock_of(own, key, stands_as_state=self.stands_as_state(key))
        assert found is None or isinstance(found, Lock)
        return found

    def _item(self, name: str) -> TableItem | None:
        item = self.items.get(name)
        return TableItem(name, None, {"S": item}) if isinstance(item, str) else item

    def sibling(self, key: str) -> str | None:
        """Another state key that shares a lock ID or a lock file with this one: both stand as objects of
        their own.
        """
        if not self.stands_as_state(key):
            return None
        pairs = [key + DIGEST_SUFFIX, key + LOCKFILE_SUFFIX]
        pairs += [
            key.removesuffix(suffix) for suffix in (DIGEST_SUFFIX, LOCKFILE_SUFFIX) if key.endswith(suffix)
        ]
        return next((other for other in pairs if self.stands_as_state(other)), None)

    def stands_as_state(self, key: str) -> bool:
        """Whether an object at this key is a state: by its name, or, where the name is one of Terraform's
        own, because the table keeps its digest or lock.
        """
        if key not in self.objects:
            return False
        if not key.endswith((DIGEST_SUFFIX, LOCKFILE_SUFFIX)) or self._backend.state_key(key):
            return key in self.keys
        own = self.items.get(lock_id(self._backend.bucket, key))
        has_digest = digest_id(self._backend.bucket, key) in self.items
        return has_digest or (isinstance(own, TableItem) and own.info is not None)

    def lockfile_history(self, key: str) -> bool:
        return key in self.swept.lockfile_history

    def fingerprint(self, key: str) -> str:
        """Identifies everything the verdict is made of, as far as listing, table and settings tell it."""
        bucket = self._backend.bucket
        facts = (
            __version__,
            self._backend.policy_for(key),
            # The marker tells one deletion from the next; where an object stands again it means nothing.
            self.objects.get(key) or self.swept.deleted.get(key),
            self.lockfile(key),
            self.items.get(lock_id(bucket, key)),
            self.items.get(digest_id(bucket, key)),
            self.sibling(key),
            self.lockfile_history(key),
        )
        return blake2b(repr(facts).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def listed_object(listed: Listed) -> StateObject:
    """A listed row as a StateObject."""
    _, etag, size, modified = listed
    moment = datetime.fromisoformat(modified)
    return StateObject(etag, size, moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _related(name: str) -> set[str]:
    """The keys of which an object or an item of this name says something: the key it is of, and those that
    share a name with that.
    """
    of = {name, name.removesuffix(DIGEST_SUFFIX), name.removesuffix(LOCKFILE_SUFFIX)}
    beside = {key + suffix for key in of for suffix in (DIGEST_SUFFIX, LOCKFILE_SUFFIX)}
    return of | beside | {key.removesuffix(end) for key in of for end in (DIGEST_SUFFIX, LOCKFILE_SUFFIX)}


def _changed(before: Mapping[str, object], after: Mapping[str, object]) -> set[str]:
    names = {
        name for name, value in after.items() if (last := before.get(name)) is not value and last != value
    }
    names.update(before.keys() - after.keys())
    return names
