"""The Digest entry: MD5 of the state object's bytes that Terraform leaves in the lock table (client.go
`putMD5`, `getMD5`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lockboard.domain.text import shown

Attribute = Mapping[str, object]
"""A DynamoDB attribute value as the service writes it: one type letter to its value, `{"S": "…"}`."""

MD5_OF_NOTHING = "d41d8cd98f00b204e9800998ecf8427e"
_HEX_MD5 = re.compile(r"[0-9a-fA-F]{32}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Digest:
    """A digest item.

    `value` is 32 lower-case hexadecimal digits where Terraform honours it, else None and `problem` says why
    not. `attribute` is the Digest exactly as the service holds it, None where the item has none.
    """

    value: str | None
    raw: str
    problem: str | None = None
    attribute: Attribute | None = None

    @property
    def valid(self) -> bool:
        return self.value is not None


def parse_digest(attribute: Attribute | None) -> Digest:
    """Read the `Digest` attribute as Terraform does: anything but a string of 32 hexadecimal digits switches
    its check off.
    """
    if attribute is None:
        return Digest(None, "", "the item has no Digest attribute")
    text = attribute.get("S")
    if not isinstance(text, str):
        kind = shown(" ".join(str(name) for name in attribute) or "none", 20)
        return Digest(
            None,
            shown(str(next(iter(attribute.values()), "")), 200),
            f"its type is {kind}, not S (string)",
            attribute,
        )
    if _HEX_MD5.match(text):
        return Digest(text.lower(), text, attribute=attribute)
    if len(text) != 32:
        return Digest(None, shown(text, 200), f"it has {len(text)} characters, not 32", attribute)
    return Digest(None, shown(text, 200), "it is not hexadecimal", attribute)
