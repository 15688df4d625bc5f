"""State bodies: MD5, whether Terraform would read them, and the few header facts worth showing.

States hold secrets. A body is read once, in blocks, and let go: what is kept of it are the facts of `Body`
and nothing else, and no text about a problem quotes the body. Memory does not grow with the body.

The rules are those of Terraform 1.11 (internal/states/statefile: read.go, version1.go to version4.go) on Go's
encoding/json, each seen with the program itself: the whole body has to be one JSON value, names match
whatever their case, null leaves a field as it was (but takes `version` back), the last duplicate wins, and a
wrong type in any of the duplicates is an error.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto

from lockboard.domain.text import shown

BLOCK = 64 * 1024
"""Bytes looked at in one go."""
MAX_DEPTH = 10_000
"""Levels of nesting that Go's encoding/json reads (`maxNestingDepth`)."""
SHOWN_CHARACTERS = 100
LONGEST_TEXT = 1_000
"""Characters of a header string beyond which its length is no longer counted."""
_RAW_LIMIT = LONGEST_TEXT * 12 + 12  # the longest character is 12 bytes: a surrogate pair as two escapes


class BodyKind(StrEnum):
    """What a state body is to Terraform."""

    EMPTY = "empty"
    """No bytes: taken as no state."""
    STATE = "state"
    """JSON all through, format version 1 to 4, and each field named here of the type Terraform wants.

    What stands inside outputs, instances and check results is read as JSON only: Terraform may still refuse a
    provider address, a duplicate instance or an output that contradicts its type.
    """
    ENCRYPTED = "encrypted"
    """OpenTofu's envelope of an encrypted state (no `version`; `encrypted_data` and `encryption_version`)."""
    BROKEN = "broken"
    """Terraform refuses it; `Body.problem` says why."""


@dataclass(frozen=True, slots=True)
class Body:
    """One body's facts. What is optional is None where the body does not say it (to Terraform: serial 0).

    `md5` is 32 lower-case hexadecimal digits over all bytes, `size` their number. `lineage` and
    `terraform_version` are fit to show. `resources` counts the instances (deposed ones too) of managed
    resources; it is None but for format 4, and there if the body has two lists of them. A BROKEN body keeps
    its `version`, where that could be read, and no other fact.
    """

    md5: str
    size: int
    kind: BodyKind
    problem: str | None = None
    version: int | None = None
    serial: int | None = None
    lineage: str | None = None
    terraform_version: str | None = None
    resources: int | None = None


class BodyReader:
    """Reads one body from chunks of any size; what comes out does not depend on where they were cut.

    Every byte is hashed. Up to the first error all of them are also checked as JSON: structure, strings,
    numbers and nesting. `block` (at least 16 bytes) is how much is looked at in one go. Time is linear in the
    size, but a body made of nothing but deep, narrow nesting takes far longer for each byte than a state
    does.
    """

    def __init__(self, block: int = BLOCK) -> None:
        self._block = max(16, block)
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._size = 0
        self._pending = bytearray()
        self._scanner = _Scanner()
        self._body: Body | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body.

        Raises:
            ValueError: the body is already finished.
        """
        if self._body is not None:
            raise ValueError("the body is finished")
        self._md5.update(chunk)
        self._size += len(chunk)
        rest = memoryview(chunk)
        while rest and self._scanner.problem is None:
            room = self._block - len(self._pending)
            self._pending += rest[:room]
            rest = rest[room:]
            if len(self._pending) == self._block:
                self._scanner.feed(bytes(self._pending))
                self._pending.clear()

    def finish(self) -> Body:
        """The facts of all that was fed. Further calls return the same."""
        if self._body is None:
            self._body = self._finished()
            self._pending.clear()
            self._scanner = _Scanner()
        return self._body

    def _finished(self) -> Body:
        body = Body(self._md5.hexdigest(), self._size, BodyKind.BROKEN)
        if self._size == 0:
            return replace(body, kind=BodyKind.EMPTY)
        self._scanner.feed(bytes(self._pending))
        self._scanner.close()
        return _judge(body, self._scanner)


def read_body(data: bytes) -> Body:
    """The facts of a body that is already whole in memory."""
    reader = BodyReader()
    reader.feed(data)
    return reader.finish()


# What a value is, in the words that a problem uses.
_NULL, _BOOLEAN, _STRING, _OBJECT, _ARRAY = "null", "a boolean", "a string", "an object", "an array"
_WHOLE, _HUGE = "a whole number", "a whole number of 2^63 or more"
_NUMBER = "a number that is negative, too large or not whole"
_NUMBERS = (_WHOLE, _HUGE, _NUMBER)

_Types = Mapping[str, frozenset[str]]
_TEXT, _MAP, _LIST = frozenset({_STRING}), frozenset({_OBJECT}), frozenset({_ARRAY})
_UINT64, _INT63 = frozenset({_WHOLE, _HUGE}), frozenset({_WHOLE})

# Formats 2 and 3 hold the serial as int64, and the upgrade to 4 refuses negative ones.
_FORMAT_1: _Types = {"serial": _INT63, "remote": _MAP, "modules": _LIST}
_FORMAT_3: _Types = {**_FORMAT_1, "terraform_version": _TEXT, "lineage": _TEXT, "backend": _MAP}
_FORMAT_4: _Types = {
    "terraform_version": _TEXT,
    "serial": _UINT64,
    "lineage": _TEXT,
    "outputs": _MAP,
    "resources": _LIST,
    "check_results": _LIST,
}
_FORMATS: Mapping[int, _Types] = {1: _FORMAT_1, 2: _FORMAT_3, 3: _FORMAT_3, 4: _FORMAT_4}
_ENVELOPE: _Types = {"encrypted_data": _TEXT, "encryption_version": _TEXT}
_ENVELOPE_FACTS: _Types = {"serial": _UINT64, "lineage": _TEXT}
_RESOURCE: _Types = {
    "module": _TEXT,
    "mode": _TEXT,
    "type": _TEXT,
    "name": _TEXT,
    "each": _TEXT,
    "provider": _TEXT,
    "instances": _LIST,
}
_HEADER_NAMES = frozenset({"version"}).union(_FORMAT_3, _FORMAT_4, _ENVELOPE)
_RESOURCE_NAMES = frozenset(_RESOURCE)


class _Fields:
    """What one object says under the names asked for, as Go's decoder would set the fields of a struct."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._kinds: dict[str, set[str]] = {}
        self._last: dict[str, tuple[str, str]] = {}
        self._null: set[str] = set()

    def known(self, name: str) -> str | None:
        """The asked-for name that `name` matches by Go's folding: ASCII case, long s and the Kelvin sign."""
        folded = name.replace("\u017f", "s").replace("\u212a", "k").lower()
        return folded if folded in self._names else None

    def see(self, name: str, kind: str, text: str) -> None:
        if kind == _NULL:
            self._null.add(name)
            return
        self._null.discard(name)
        self._kinds.setdefault(name, set()).add(kind)
        self._last[name] = (kind, text)

    def cleared(self, name: str) -> bool:
        """Whether the last that was said under `name` is null."""
        return name in self._null

    def text(self, name: str) -> str | None:
        return self._last[name][1] if name in self._last else None

    def wrong(self, types: _Types) -> str | None:
        """The first field of another type than wanted, in words."""
        for name, wanted in types.items():
            for kind in sorted(self._kinds.get(name, set()) - wanted):
                return f"its {name} is {kind if _WHOLE in wanted else _plain(kind)}, not {min(wanted)}"
        return None

    def all_present(self, types: _Types) -> bool:
        return all(name in self._last for name in types) and self.wrong(types) is None


def _plain(kind: str) -> str:
    """`kind` in words for where no number is wanted, so that it does not matter which."""
    return "a number" if kind in _NUMBERS else kind


def _judge(body: Body, scanner: _Scanner) -> Body:
    """`body` with its kind and facts, in Terraform's order: syntax, version, fields of the format."""
    problem = scanner.problem or _no_object(scanner.top)
    if problem:
        return replace(body, problem=problem)
    header = scanner.header
    if wrong := header.wrong({"version": _UINT64}):
        return replace(body, problem=wrong)
    text = None if header.cleared("version") else header.text("version")
    if text is None:
        return _unversioned(body, header)
    body = replace(body, version=int(text))
    if int(text) not in _FORMATS:
        return replace(body, problem=f"it is of format version {int(text)}; Terraform 1.11 reads 1 to 4")
    types = _FORMATS[int(text)]
    if wrong := header.wrong(types):
        return replace(body, problem=wrong)
    if "terraform_version" in types and not _is_version(header.text("terraform_version")):
        return replace(body, problem="its terraform_version is not a version number")
    if types is _FORMAT_4:
        if problem := scanner.resources.problem:
            return replace(body, problem=problem)
        body = replace(body, resources=scanner.resources.managed)
    return _with_facts(replace(body, kind=BodyKind.STATE), header, types)


def _no_object(top: str) -> str | None:
    if top == _OBJECT:
        return None
    return f'it is JSON, but {_plain(top)} and not an object with a "version"'


def _unversioned(body: Body, header: _Fields) -> Body:
    if header.all_present(_ENVELOPE) and header.text("encryption_version"):
        return _with_facts(replace(body, kind=BodyKind.ENCRYPTED), header, _ENVELOPE_FACTS)
    return replace(body, problem='it has no "version" attribute')


def _with_facts(body: Body, header: _Fields, types: _Types) -> Body:
    """`body` with the facts that a body of this kind has, each only where it is of the type wanted."""

    def fact(name: str) -> str | None:
        return header.text(name) if name in types and not header.wrong({name: types[name]}) else None

    serial = fact("serial")
    return replace(
        body,
        serial=None if serial is None else int(serial),
        lineage=_fit(fact("lineage")),
        terraform_version=_fit(fact("terraform_version")),
    )


def _fit(text: str | None) -> str | None:
    if text is None or len(text) <= LONGEST_TEXT:
        return None if text is None else shown(text, SHOWN_CHARACTERS)
    return f"{shown(text[:SHOWN_CHARACTERS])}… (more than {LONGEST_TEXT - SHOWN_CHARACTERS} more characters)"


_VERSION = re.compile(
    r"v?(?P<numbers>[0-9]+(?:\.[0-9]+)*)"
    r"(?:(?:-|(?=[A-Za-z~-]))[0-9A-Za-z~-]+(?:\.[0-9A-Za-z~-]+)*)?"
    r"(?:\+[0-9A-Za-z~-]+(?:\.[0-9A-Za-z~-]+)*)?"
)


def _is_version(text: str | None) -> bool:
    """Whether hashicorp/go-version, which Terraform reads it with, takes `text`; none and "" pass unread."""
    if not text:
        return True
    found = _VERSION.fullmatch(text) if len(text) <= LONGEST_TEXT else None
    return found is not None and all(int(number) < 2**63 for number in found["numbers"].split("."))


class _Resources:
    """What format 4 says in `resources`: instances of managed ones, and what Terraform refuses first."""

    def __init__(self) -> None:
        self.managed: int | None = 0
        self._lists = 0
        self._type_problem: str | None = None
        self._mode_problem: str | None = None

    @property
    def problem(self) -> str | None:
        return self._type_problem or self._mode_problem

    def begin_list(self) -> None:
        """A `resources` array starts. Go fills a second over the first, so then no count is sure."""
        self._lists += 1
        self.managed = 0 if self._lists == 1 else None
        self._mode_problem = None

    def see_element(self, kind: str) -> None:
        if kind == _NULL:
            self._mode_problem = self._mode_problem or "a resource has no mode"
        elif kind != _OBJECT:
            self._type_problem = self._type_problem or f"an entry of its resources is {_plain(kind)}"

    def see_instance(self, kind: str) -> None:
        if kind not in (_OBJECT, _NULL):
            self._type_problem = self._type_problem or f"an instance of a resource is {_plain(kind)}"

    def end_resource(self, resource: _Fields, instances: int) -> None:
        if wrong := resource.wrong(_RESOURCE):
            self._type_problem = self._type_problem or f"a resource cannot be read: {wrong}"
        mode = resource.text("mode")
        if mode not in ("managed", "data"):
            self._mode_problem = self._mode_problem or 'a resource has a mode other than "managed" and "data"'
        if mode == "managed" and self.managed is not None:
            self.managed += instances


# The patterns read JSON's own grammar (RFC 8259). Runs of one class are possessive and every repeated group
# is atomic, so that a match that fails is never tried again in another way: time is linear whatever the
# bytes. Groups are not made possessive instead, because Python 3.11.2 (Debian 12's) matches those wrongly.
_SPACE_RUN = rb"[ \t\r\n]*+"
_TEXT_RUN = rb'[^"\\\x00-\x1f]*+(?>(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*)'
_WHOLE_STRING = b'"' + _TEXT_RUN + b'"'
_WHOLE_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?>(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)"
_NESTED_AT_ONCE = 4
"""Levels of containers taken in one match: an instance, its attributes, and lists of blocks in them."""


def _value_pattern(levels: int) -> bytes:
    choices = [_WHOLE_STRING, _WHOLE_NUMBER, b"true|false|null"]
    if levels:
        value, space = _value_pattern(levels - 1), _SPACE_RUN
        member = _WHOLE_STRING + space + b":" + space + value
        for opening, item, closing in ((rb"\[", value, rb"\]"), (rb"\{", member, rb"\}")):
            ending = b"(?:," + space + b"(?!" + closing + b")|(?=" + closing + b"))"
            choices.append(opening + space + b"(?>(?:" + item + space + ending + b")*)" + closing)
    return b"(?>" + b"|".join(choices) + b")"


_VALUE_PATTERN = _value_pattern(_NESTED_AT_ONCE)
_SPACE = re.compile(_SPACE_RUN)
_TEXT_PART = re.compile(_TEXT_RUN)
_ESCAPE_PART = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?")
_NUMBER_PART = re.compile(rb"-?(?:(?:0|[1-9][0-9]*+)(?:\.[0-9]*+)?(?:(?<=[0-9])[eE][+-]?[0-9]*+)?)?")
_COMPLETE_NUMBER = re.compile(_WHOLE_NUMBER)
_LONG_DIGITS = re.compile(rb"[0-9]{31,}")
_ELEMENT = re.compile(_VALUE_PATTERN + _SPACE_RUN + b",")
_ELEMENTS = re.compile(b"(?>(?:" + _VALUE_PATTERN + _SPACE_RUN + b"," + _SPACE_RUN + b")*)")
_MEMBERS = re.compile(
    b"(?>(?:" + _SPACE_RUN.join((_WHOLE_STRING, b":", _VALUE_PATTERN, b",", b"")) + b")*)",
)

_LITERALS = {ord("t"): (b"true", _BOOLEAN), ord("f"): (b"false", _BOOLEAN), ord("n"): (b"null", _NULL)}
_KINDS = {char: kind for char, (_, kind) in _LITERALS.items()}
_KINDS |= {ord('"'): _STRING, ord("{"): _OBJECT, ord("["): _ARRAY}
"""What a value is by its first byte; all others begin a number."""
_QUOTE, _BACKSLASH, _COMMA, _COLON = b'"\\,:'
_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_ARRAY, _CLOSE_ARRAY = b"{}[]"
_CLOSING = {_OPEN_OBJECT: _CLOSE_OBJECT, _OPEN_ARRAY: _CLOSE_ARRAY}


class _Step(Enum):
    """What the scanner expects next."""

    VALUE = auto()
    ELEMENT = auto()
    FIRST_ELEMENT = auto()
    NAME = auto()
    FIRST_NAME = auto()
    COLON = auto()
    AFTER_VALUE = auto()
    IN_NAME = auto()
    IN_STRING = auto()


_BEFORE_VALUE = (_Step.VALUE, _Step.ELEMENT, _Step.FIRST_ELEMENT)
_BEFORE_NAME = (_Step.NAME, _Step.FIRST_NAME)


class _BodyError(Exception):
    """The body is not JSON as Go reads it; the message says why, in words that may be shown."""


class _Scanner:
    """Checks blocks of bytes as one JSON value and collects header fields and resources on the way.

    Between blocks it keeps its place, the brackets that are open and one unfinished token of at most 100
    bytes or so; strings are never put together, but for the first bytes of the few that are asked for.
    """

    def __init__(self) -> None:
        self.problem: str | None = None
        self.top = ""
        self.header = _Fields(_HEADER_NAMES)
        self.resources = _Resources()
        self._step = _Step.VALUE
        self._open = bytearray()
        self._tail = b""
        self._seen = 0
        self._name: str | None = None
        self._raw: bytearray | None = None
        self._resource = _Fields(_RESOURCE_NAMES)
        self._in_resources = False
        self._in_instances = False
        self._instances = 0
        self._here: _Fields | None = None
        self._many: re.Pattern[bytes] | None = None
        self._last = False

    def feed(self, block: bytes) -> None:
        """Take the next block. The first has to hold 16 bytes, or the whole body."""
        if self.problem is not None:
            return
        self._seen += len(block)
        buffer = self._tail + block
        try:
            position = self._run(buffer)
        except _BodyError as refused:
            self._stop(str(refused))
        else:
            # Beyond 30 digits a number is out of every range: 30 stand for more, which keeps the tail short.
            self._tail = _LONG_DIGITS.sub(b"1" * 30, buffer[position:])

    def close(self) -> None:
        """The body ends here."""
        self._last = True
        started = bool(self.top) or bool(self._tail)
        self.feed(b"")
        if self.problem is None and not started:
            self._stop("it holds nothing but white space")
        elif self.problem is None and (self._open or self._step is not _Step.AFTER_VALUE):
            self._stop(f"it is cut short: it ends in the middle of its JSON, after {self._seen} bytes")

    def _stop(self, problem: str) -> None:
        self.problem = problem
        self.header, self.resources = _Fields(_HEADER_NAMES), _Resources()
        self._resource, self._raw, self._tail, self._open = _Fields(_RESOURCE_NAMES), None, b"", bytearray()

    def _run(self, buffer: bytes) -> int:
        """Go through `buffer` to its end, or to a token that it does not hold whole; returns where."""
        position, end = 0, len(buffer)
        while position < end:
            if self._step is _Step.IN_STRING or self._step is _Step.IN_NAME:
                after = self._in_text(buffer, position)
            else:
                found = _SPACE.match(buffer, position)
                position = found.end() if found else position
                if position == end:
                    break
                after = self._token(buffer, position)
            if after == position:
                break
            position = after
        return position

    def _token(self, buffer: bytes, position: int) -> int:
        if self._many is not None and self._step is not _Step.VALUE:
            after = self._take_many(self._many, buffer, position)
            if after > position:
                return after
        char = buffer[position]
        step = self._step
        if step is _Step.AFTER_VALUE:
            return self._after_value(buffer, position, char)
        if step is _Step.COLON:
            if char != _COLON:
                raise self._not_json(buffer, position)
            self._step = _Step.VALUE
            return position + 1
        if (step is _Step.FIRST_NAME and char == _CLOSE_OBJECT) or (
            step is _Step.FIRST_ELEMENT and char == _CLOSE_ARRAY
        ):
            return self._leave(position)
        if step not in _BEFORE_NAME:
            return self._value(buffer, position, char)
        if char != _QUOTE:
            raise self._not_json(buffer, position)
        self._step = _Step.IN_NAME
        self._raw = bytearray() if self._here is not None else None
        return position + 1

    def _take_many(self, pattern: re.Pattern[bytes], buffer: bytes, position: int) -> int:
        """All that matches in one go: whole members or elements, each with the comma behind it."""
        if self._step not in _BEFORE_NAME and self._step not in _BEFORE_VALUE:
            return position
        found = pattern.match(buffer, position)
        if found is None or found.end() == position:
            return position
        if pattern is _ELEMENT:
            self._see(_KINDS.get(buffer[position], _NUMBER))
        self._step = _Step.NAME if pattern is _MEMBERS else _Step.ELEMENT
        return found.end()

    def _after_value(self, buffer: bytes, position: int, char: int) -> int:
        if not self._open:
            offset = self._offset(buffer, position)
            raise _BodyError(f"more follows after the end of its JSON, at byte offset {offset}")
        if char == _COMMA:
            self._step = _Step.NAME if self._open[-1] == _OPEN_OBJECT else _Step.ELEMENT
            return position + 1
        if char != _CLOSING[self._open[-1]]:
            raise self._not_json(buffer, position)
        return self._leave(position)

    def _value(self, buffer: bytes, position: int, char: int) -> int:
        if char == _QUOTE:
            self._raw = bytearray() if self._wanted() else None
            self._step = _Step.IN_STRING
            if not self._open:
                self.top = _STRING
            return position + 1
        if char in (_OPEN_OBJECT, _OPEN_ARRAY):
            return self._enter(position, char)
        if char in _LITERALS:
            return self._literal(buffer, position, *_LITERALS[char])
        if char in b"-0123456789":
            return self._number(buffer, position)
        raise self._not_json(buffer, position)

    def _wanted(self) -> bool:
        return self._here is not None and self._name is not None

    def _see(self, kind: str, text: str = "") -> None:
        """A value begins (a container) or is complete (all others)."""
        depth = len(self._open)
        if depth == 0:
            self.top = kind
        elif self._here is not None:
            if self._name is not None:
                self._here.see(self._name, kind, text)
        elif self._in_resources and depth == 2:
            self.resources.see_element(kind)
        elif self._in_instances and depth == 4:
            self.resources.see_instance(kind)
            self._instances += 1

    def _enter(self, position: int, char: int) -> int:
        if len(self._open) >= MAX_DEPTH:
            raise _BodyError(f"it nests deeper than {MAX_DEPTH:,} levels")
        self._see(_KINDS[char])
        if char == _OPEN_ARRAY and self._here is self.header and self._name == "resources":
            self._in_resources = True
            self.resources.begin_list()
        elif char == _OPEN_ARRAY and self._here is self._resource and self._name == "instances":
            self._in_instances = True
            self._instances = 0
        elif char == _OPEN_OBJECT and self._in_resources and len(self._open) == 2:
            self._resource = _Fields(_RESOURCE_NAMES)
            self._instances = 0
        self._open.append(char)
        self._step = _Step.FIRST_NAME if char == _OPEN_OBJECT else _Step.FIRST_ELEMENT
        self._arrive()
        return position + 1

    def _leave(self, position: int) -> int:
        depth = len(self._open)
        if depth == 4:
            self._in_instances = False
        elif depth == 3 and self._here is self._resource:
            self.resources.end_resource(self._resource, self._instances)
        elif depth == 2:
            self._in_resources = False
        self._open.pop()
        self._step = _Step.AFTER_VALUE
        self._arrive()
        return position + 1

    def _arrive(self) -> None:
        """Settle what is collected at the new depth, and what may be taken there in one go."""
        depth = len(self._open)
        in_object = depth > 0 and self._open[-1] == _OPEN_OBJECT
        self._here = None
        if in_object and depth == 1:
            self._here = self.header
        elif in_object and depth == 3 and self._in_resources:
            self._here = self._resource
        if self._here is not None or depth == 0 or (self._in_resources and depth == 2):
            self._many = None
        elif self._in_instances and depth == 4:
            self._many = _ELEMENT
        else:
            self._many = _MEMBERS if in_object else _ELEMENTS

    def _literal(self, buffer: bytes, position: int, word: bytes, kind: str) -> int:
        have = buffer[position : position + len(word)]
        if have == word:
            self._see(kind)
            self._step = _Step.AFTER_VALUE
            return position + len(word)
        if word.startswith(have):
            return position
        wrong = next(index for index, char in enumerate(have) if char != word[index])
        raise self._not_json(buffer, position + wrong)

    def _number(self, buffer: bytes, position: int) -> int:
        part = _NUMBER_PART.match(buffer, position)
        end = part.end() if part else position
        if end == len(buffer) and not self._last:
            return position
        if not _COMPLETE_NUMBER.fullmatch(buffer, position, end):
            if end == len(buffer):
                return position
            raise self._not_json(buffer, end)
        if self._wanted():
            kind = _number_kind(buffer[position:end])
            self._see(kind, "" if kind == _NUMBER else buffer[position:end].decode("ascii"))
        else:
            self._see(_NUMBER)
        self._step = _Step.AFTER_VALUE
        return end

    def _in_text(self, buffer: bytes, position: int) -> int:
        found = _TEXT_PART.match(buffer, position)
        end = found.end() if found else position
        if self._raw is not None:
            self._raw += buffer[position : min(end, position + _RAW_LIMIT - len(self._raw))]
        if end == len(buffer):
            return end
        if buffer[end] == _QUOTE:
            self._end_text()
            return end + 1
        if buffer[end] != _BACKSLASH:
            offset = self._offset(buffer, end)
            raise _BodyError(f"a control character stands in a string, at byte offset {offset}")
        part = _ESCAPE_PART.match(buffer, end)
        wrong = part.end() if part else end
        if wrong < len(buffer):
            raise _BodyError(f"a bad escape stands in a string, at byte offset {self._offset(buffer, wrong)}")
        return end

    def _end_text(self) -> None:
        text = "" if self._raw is None else _decoded(bytes(self._raw))
        self._raw = None
        if self._step is _Step.IN_NAME:
            self._name = self._here.known(text) if self._here is not None else None
            self._step = _Step.COLON
        else:
            self._see(_STRING, text)
            self._step = _Step.AFTER_VALUE

    def _offset(self, buffer: bytes, position: int) -> int:
        """The place in the body as Go counts it, wrong byte included: the figure in Terraform's message."""
        return self._seen - len(buffer) + position + 1

    def _not_json(self, buffer: bytes, position: int) -> _BodyError:
        offset = self._offset(buffer, position)
        if not self.top:
            for start, what in _OTHER_FORMATS.items():
                if buffer.startswith(start, position) and (offset == 1 or start == b"<"):
                    return _BodyError(f"it is not JSON: {what}")
        return _BodyError(f"it is not JSON: syntax error at byte offset {offset}")


_OTHER_FORMATS = {
    b"\xef\xbb\xbf": "it begins with a byte order mark",
    b"\xff\xfe": "it begins with the byte order mark of UTF-16",
    b"\xfe\xff": "it begins with the byte order mark of UTF-16",
    b"\x1f\x8b": "it is compressed with gzip",
    b"<": "it begins like an HTML or XML page",
}


def _number_kind(text: bytes) -> str:
    if not text.isdigit() or len(text) > 20 or int(text) >= 2**64:
        return _NUMBER
    return _WHOLE if int(text) < 2**63 else _HUGE


def _decoded(raw: bytes) -> str:
    """The first characters (one more than are counted) between the quotes; invalid UTF-8 is replaced."""
    if len(raw) >= _RAW_LIMIT:
        found = _TEXT_PART.match(raw)
        raw = found.group() if found else b""
    text: str = json.loads(f'"{raw.decode("utf-8", "replace")}"')
    return text[: LONGEST_TEXT + 1]
