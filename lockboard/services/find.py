"""Smart paste: whatever an operator has at hand, read as the state it is about.

The shapes of the messages are those of Terraform's S3 backend (client.go, statemgr/locker.go) from 0.9 on, of
OpenTofu and of Terragrunt, as people copy them: from a terminal, from a CI log, from a chat. Pure, and never
an exception: what is not understood comes back as words to search for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, unquote, unquote_plus, urlsplit

from lockboard.domain.keys import DIGEST_SUFFIX, LOCKFILE_SUFFIX, lock_id, split_lock_id, state_id
from lockboard.domain.model import Backend

INPUT_LIMIT = 64 * 1024
"""Characters of a paste that are looked at."""

_WORDS_LIMIT = 1200
_BLOCK_LIMIT = 8 * 1024
_LINE_LIMIT = 4 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """What a paste names; "" where it names none.

    bucket, key: as S3 has them. A key without a bucket may be `bucket/key`, or a `LockID`: see `candidates`.
    lock_id: the lock's own ID, a UUID.  digest: 32 lower-case hexadecimal digits.  holder: Terraform's `Who`.
    words: the paste itself, where it is one line that may be a part of a name.
    """

    bucket: str = ""
    key: str = ""
    lock_id: str = ""
    digest: str = ""
    holder: str = ""
    words: str = ""

    @property
    def exact(self) -> str:
        """The one value to look up beside the candidates.

        "" where bucket and key are known and no lock ID is: a digest or key that a state elsewhere shares
        would then lead to the wrong one.
        """
        if self.lock_id or (self.bucket and self.key):
            return self.lock_id
        return self.digest or self.key or self.holder

    @property
    def nothing(self) -> bool:
        """Whether the paste named nothing at all."""
        return self == Finding()


def understand(text: str) -> Finding:
    """Read a key, an S3 address of any kind, a lock ID, a digest, a holder or a whole error message."""
    tidy = _plain(text[:INPUT_LIMIT]).strip()
    if not tidy:
        return Finding()
    found = _message(tidy)
    if found is None and "\n" not in tidy:
        return _one_line(tidy)
    return found or _mentions(tidy)


def candidates(finding: Finding, backends: Sequence[Backend]) -> tuple[str, ...]:
    """Ids of the states the finding may mean, the most literal first; () where its bucket is not configured.

    A name that ends in `-md5` or `.tflock` may be a state or stand beside one, and a key without a bucket may
    begin with one: all readings are given, for only those that exist will be found.
    """
    if not finding.key:
        return ()
    ids = (
        state_id(backend.name, reading)
        for backend in backends
        for key in _keys_in(finding, backend)
        for reading in _readings(key)
    )
    return tuple(dict.fromkeys(ids))


def _keys_in(finding: Finding, backend: Backend) -> Iterator[str]:
    if finding.bucket:
        if finding.bucket == backend.bucket:
            yield finding.key
        return
    yield finding.key
    start = lock_id(backend.bucket, "")
    if finding.key.startswith(start):
        yield finding.key.removeprefix(start)


def _readings(key: str) -> Iterator[str]:
    yield key
    for suffix in (DIGEST_SUFFIX, LOCKFILE_SUFFIX):
        if key.endswith(suffix):
            yield key.removesuffix(suffix)


# What a terminal or a log adds

_ESCAPES = re.compile(
    r"\x1b\[[0-?]{0,32}[ -/]{0,8}[@-~]|\x1b\][^\x07\x1b]{0,512}(?:\x07|\x1b\\)|\x1b[@-Z\\-_]"
)
_LOST_ESCAPES = re.compile(r"\[(?:\d{1,3};){0,4}\d{0,3}m")
_BARS = re.compile("[│┃]")
_FRAMES = str.maketrans("", "", "╷╵╭╰")


def _plain(text: str) -> str:
    """Without colours, with one kind of newline, and JSON's escapes undone where the message came as JSON."""
    text = _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    if "\\n" in text and ("@message" in text or "diagnostic" in text):
        text = text.replace("\\n", "\n").replace('\\"', '"')
    return text


def _lines(text: str) -> Iterator[str]:
    """Lines without the bar that Terraform draws, and whatever a log put before it."""
    for line in text.split("\n"):
        parts = _BARS.split(line[:_LINE_LIMIT], maxsplit=1)
        yield _LOST_ESCAPES.sub("", parts[-1]).translate(_FRAMES)


# Error messages

_LOCK_LABELS = ("ID:", "Path:", "Operation:", "Who:", "Version:", "Created:", "Info:")
_DIGEST_LABELS = ("Bucket:", "Key:", "Calculated checksum:", "Stored checksum:", "This may")
_MAY_BREAK = ("Path:", "Key:")
_BROKEN_FROM = 60
"""A line shorter than this was not broken by the width of a terminal."""
_UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_HEX = r"[0-9a-fA-F]{32}"
_QUOTED = r"\"((?:[^\"\\]|\\.){1,4000})\""
_ADVISED = re.compile(rf"following value: ?({_HEX})(?![0-9a-fA-F])")
_EXISTING = re.compile(r"does not match (?:the )?existing lock(?: ID)? \(?[\"']([^\"']{1,200})[\"']")
_ASKED = re.compile(r"lock ID [\"']([^\"']{1,200})[\"']")
_NO_ACCESS = re.compile(rf"[Uu]nable to access object {_QUOTED} in S3 bucket \"([^\"]{{1,300}})\"")
_NO_LOCK = re.compile(rf"no lock info found for: {_QUOTED}")
_NO_FILE = re.compile(r"from S3 bucket '([^']{1,300})' with key '([^'\n]{1,4000})'")
_RECORD = re.compile(
    r"\\?\"(ID|Path|Who|LockID)\\?\"\s{0,4}:\s{0,4}(?:\{\s{0,4}\"S\"\s{0,4}:\s{0,4})?\\?\"([^\"\\]{1,4000})"
)


def _message(text: str) -> Finding | None:
    """What an error message or a lock record says, or None if it is neither."""
    flat = " ".join(" ".join(_lines(text)).split())
    return _lock_error(text) or _digest_error(text, flat) or _unlock_error(flat) or _lock_record(text)


def _lock_error(text: str) -> Finding | None:
    _, heading, rest = text.partition("Lock Info:")
    if not heading:
        return None
    fields = _labelled(rest, _LOCK_LABELS)
    if not fields.get("ID:") and not fields.get("Path:"):
        return None
    bucket, key = _split(fields.get("Path:", ""))
    return Finding(bucket, key, fields.get("ID:", ""), holder=fields.get("Who:", ""))


def _digest_error(text: str, flat: str) -> Finding | None:
    if "does not have the expected content" not in flat:
        return None
    fields = _labelled(text[max(0, text.find("expected")) :], _DIGEST_LABELS)
    advised = _ADVISED.search(flat)
    named = (fields.get("Stored checksum:", ""), fields.get("Calculated checksum:", ""))
    digest = _first([*named, advised[1] if advised else ""], _ONLY_HEX)
    return Finding(fields.get("Bucket:", ""), fields.get("Key:", ""), digest=digest.lower())


def _unlock_error(flat: str) -> Finding | None:
    if found := _EXISTING.search(flat) or _ASKED.search(flat):
        return Finding(lock_id=found[1])
    if found := _NO_ACCESS.search(flat):
        return Finding(found[2], _unquoted(found[1]))
    if found := _NO_LOCK.search(flat):
        return Finding(*_split(_unquoted(found[1])))
    if found := _NO_FILE.search(flat):
        return Finding(found[1], found[2])
    return None


def _lock_record(text: str) -> Finding | None:
    """The JSON of a lock: an Info attribute, a .tflock body, or an item as the AWS command line prints it."""
    fields: dict[str, str] = {}
    for name, value in _RECORD.findall(text):
        fields.setdefault(name, value)
    path = fields.get("Path") or fields.get("LockID", "")
    if not path or (len(fields) == 1 and "LockID" not in fields):
        return None
    return Finding(*_split(path), lock_id=fields.get("ID", ""), holder=fields.get("Who", ""))


def _labelled(text: str, labels: Sequence[str]) -> dict[str, str]:
    """Label -> value of the first line that has it; a path broken by a terminal's width is joined again."""
    names = "|".join(labels)
    block = "\n".join(_lines(text[:_BLOCK_LIMIT]))
    # A chat may have joined all lines into one.
    block = re.sub(rf"(?<=\S)[ \t]{{1,16}}(?=(?:{names})(?:[ \t]|$))", "\n", block, flags=re.MULTILINE)
    label = re.compile(rf"(?:^|[\s\]|>:)])({names})(?:[ \t]+(.*)|)$")
    found: dict[str, str] = {}
    broken = ""
    for line in block.split("\n"):
        match = label.search(line)
        if match and match[1] not in found:
            found[match[1]] = (match[2] or "").strip()
        elif not match and broken:
            found[broken] += line.strip()
        named = match[1] if match else broken
        broken = named if named in _MAY_BREAK and len(line) >= _BROKEN_FROM else ""
    return found


def _split(path: str) -> tuple[str, str]:
    return split_lock_id(path) or ("", path)


def _unquoted(text: str) -> str:
    """Undo the quoting of Go's %q, as far as keys need it."""
    return re.sub(r"\\([\"\\])", r"\1", text)


# One line: a name of some kind

_ONLY_UUID = re.compile(_UUID)
_ONLY_HEX = re.compile(_HEX)
_HOLDER = re.compile(r"[^\s@/]*@[^\s@/:]+")
_ADDRESS = re.compile(r"(?:s3|https?)://[^\s\"'<>`]+|arn:aws[a-z-]*:s3:[^\s\"'<>`]+", re.IGNORECASE)
_S3_ARN = re.compile(r"arn:aws[a-z-]*:s3:::([^/]+)/(.+)", re.DOTALL)
_VERSION_ID = re.compile(r"\?versionId=[^/?]{0,1100}\Z", re.IGNORECASE)
_PAIRS = ("''", '""', "``", "<>")
_AROUND_WORDS = "\"'`<>,;().[]{}=:"


def _one_line(text: str) -> Finding:
    bare = _unwrapped(text)
    if _ONLY_UUID.fullmatch(bare):
        return Finding(lock_id=bare.lower(), words=bare)
    if _ONLY_HEX.fullmatch(bare):
        return Finding(digest=bare.lower(), words=bare)
    if _HOLDER.fullmatch(bare):
        return Finding(holder=bare, words=bare)
    if found := _address(bare):
        return found
    mentioned = _mentions(bare) if " " in bare else Finding()
    if not mentioned.nothing:
        return mentioned
    return Finding(key=bare[:_WORDS_LIMIT], words=bare[:_WORDS_LIMIT])


def _unwrapped(text: str) -> str:
    """Without the quotes that come along from code, a table or a chat."""
    bare = text.rstrip(",;") if text[0] in "\"'`<" else text
    return bare[1:-1].strip() or text if bare[:1] + bare[-1:] in _PAIRS and len(bare) > 1 else text


def _mentions(text: str) -> Finding:
    """The first address in running text, or the first lock ID and digest that stand as words of their own."""
    for found in _ADDRESS.finditer(text):
        if (address := _address(found[0].rstrip(".,;:)]}"))) is not None:
            return address
    words = [word.strip(_AROUND_WORDS) for word in text.split()]
    return Finding(lock_id=_first(words, _ONLY_UUID).lower(), digest=_first(words, _ONLY_HEX).lower())


def _first(words: Iterable[str], pattern: re.Pattern[str]) -> str:
    return next((word for word in words if pattern.fullmatch(word)), "")


def _address(text: str) -> Finding | None:
    """An S3 URI, an ARN or a web address of an object, of a console page or of an item of the lock table."""
    lower = text[:16].lower()
    if lower.startswith("s3://"):
        bucket, _, key = _VERSION_ID.sub("", text[5:]).partition("/")
        return _object(bucket, key) if bucket else None
    if lower.startswith("arn:"):
        if found := _S3_ARN.fullmatch(text):
            return Finding(found[1], found[2])
        split = split_lock_id(text)
        return Finding(*split) if split else None
    if lower.startswith(("http://", "https://")):
        return _web_address(text)
    return None


def _web_address(text: str) -> Finding | None:
    try:
        url = urlsplit(text)
        host = (url.hostname or "").lower()
    except ValueError:  # such as an unclosed [ in the host
        return None
    if host.endswith(("console.aws.amazon.com", "console.amazonaws.cn", "console.amazonaws-us-gov.com")):
        return _console(url)
    aws = ".amazonaws.com" in host
    path = (
        unquote_plus(url.path) if aws else unquote(url.path)
    )  # S3 takes a plus sign in an address for a space
    path = path.removeprefix("/")
    virtual = re.fullmatch(r"(.+)\.s3[.-].*", host) if aws else None
    if virtual:
        return _object(virtual[1], path)
    bucket, _, key = path.partition("/")
    return Finding(bucket, key) if bucket and key else None


def _console(url: SplitResult) -> Finding | None:
    item = re.search(r"[?&]pk=([^&]{1,8000})", url.fragment)
    if item:
        return Finding(*_split(unquote(item[1])))
    page = re.fullmatch(r"/s3/(?:object|buckets)/([^/]+)/?", url.path)
    if not page:
        return None
    prefix = parse_qs(url.query).get("prefix", [""])[0]
    return _object(unquote(page[1]), prefix)


def _object(bucket: str, key: str) -> Finding:
    """An object, or a folder or whole bucket to search in."""
    if not key or key.endswith("/"):
        return Finding(bucket, words=key or bucket)
    return Finding(bucket, key)
