"""Words that stand only in secrets, and the search for them in all that a program wrote.

Every canary begins with the same letters, so that one search finds all of them, however they are written:
plain, in either case, in base64 at each of its three offsets, in hexadecimal, percent-encoded, as JSON's or
HTML's escapes, or packed with gzip or zlib.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

MARK = "Zk7canaryQ9x"
"""How every canary begins: twelve letters that stand in nothing else."""


def canary(name: str) -> str:
    """The canary of one place; letters and digits, 40 characters."""
    return f"{MARK}{hashlib.sha256(name.encode()).hexdigest()[:28]}"


def _base64_of(mark: bytes, offset: int) -> bytes:
    """What base64 makes of the mark after so many other bytes, without the ends that others change."""
    text = base64.b64encode(b"\0" * offset + mark)
    first = -(-offset * 8 // 6)
    whole = (offset + len(mark)) * 8 // 6
    return text[first:whole]


def spellings() -> dict[str, bytes]:
    """The mark in each way it can be written."""
    mark = MARK.encode()
    found = {
        "plain": mark,
        "small letters": mark.lower(),
        "capitals": mark.upper(),
        "backwards": mark[::-1],
        "UTF-16": MARK.encode("utf-16-le"),
        "hexadecimal": mark.hex().encode(),
        "capital hexadecimal": mark.hex().upper().encode(),
        "percent": b"".join(b"%%%02x" % byte for byte in mark),
        "capital percent": b"".join(b"%%%02X" % byte for byte in mark),
        "JSON escapes": b"".join(b"\\u%04x" % byte for byte in mark),
        "character references": b"".join(b"&#%d;" % byte for byte in mark),
    }
    return found | {f"base64 after {n}": _base64_of(mark, n) for n in range(3)}


_SPELLINGS = spellings()
_GZIP = re.compile(rb"\x1f\x8b\x08")
_ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]")


def found_in(data: bytes) -> list[str]:
    """How canaries are written in it, with some of what stands around; nothing where none is."""
    told = []
    for how, text in _SPELLINGS.items():
        at = data.find(text)
        if at >= 0:
            told.append(f"{how}: {data[max(0, at - 60) : at + 80]!r}")
    for packed in _unpacked(data):
        told += [f"packed, {text}" for text in found_in(packed)]
    return told


def _unpacked(data: bytes) -> Iterator[bytes]:
    for pattern, bits in ((_GZIP, 31), (_ZLIB, 15)):
        for start in pattern.finditer(data):
            try:
                text = zlib.decompressobj(bits).decompress(data[start.start() :], 4_000_000)
            except zlib.error:
                continue
            if len(text) >= len(MARK):
                yield text


def found_below(folder: Path) -> dict[str, list[str]]:
    """The files below the folder that hold canaries, or have one in their name."""
    told = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        try:
            hits = found_in(name.encode()) + (found_in(path.read_bytes()) if path.is_file() else [])
        except FileNotFoundError:
            continue
        if hits:
            told[name] = hits
    return told


def planted() -> dict[str, bytes]:
    """A canary in every way that the search has to find."""
    secret = canary("planted").encode()
    plain = {
        "plain": b"x" + secret + b"y",
        "small letters": secret.lower(),
        "capitals": secret.upper(),
        "hexadecimal": b"00" + secret.hex().encode(),
        "percent": b"".join(b"%%%02X" % byte for byte in secret),
        "JSON escapes": b"".join(b"\\u%04x" % byte for byte in secret),
        "references": b"".join(b"&#%d;" % byte for byte in secret),
        "backwards": secret[::-1],
        "UTF-16": secret.decode().encode("utf-16-le"),
        "gzip": b"head" + gzip.compress(b"x" * 50 + secret) + b"tail",
        "zlib": zlib.compress(secret * 3),
    }
    offsets = {f"base64 {n}": base64.b64encode(b"abcdefgh"[:n] + secret + b"tail") for n in range(6)}
    return plain | offsets | {"base64 for addresses": base64.urlsafe_b64encode(secret)}
