"""Pagination that ends: every listing of S3 and DynamoDB asks here whether and where it goes on."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

from lockboard.domain.errors import ReadError

EMPTY_PAGES = 5
"""Pages without a row in direct succession that are still believed; both services may send some."""

Token = TypeVar("Token", bound=Hashable)


class PageGuard:
    """Refuses a listing that would never end, or that ends without having said so.

    Args:
        action: the IAM action of the listing, for the errors.
        cap: pages after which no listing is believed.
    """

    def __init__(self, action: str, cap: int) -> None:
        self._action, self._cap = action, cap
        self._pages = self._empty = 0
        self._tokens: set[Hashable] = set()
        self._firsts: set[Hashable] = set()

    def next(self, first: Hashable, truncated: bool | None, token: Token | None) -> Token | None:
        """The token to go on with, or None at the end.

        `first` is what identifies the page's first row, None on an empty page; `truncated` what the answer
        says of itself, None where it says nothing.

        Raises:
            ReadError: the answer contradicts itself, or is one that was seen before.
        """
        self._pages += 1
        if truncated is None:
            raise self._refuse("NotAListing", "the answer is not a listing")
        if truncated and not token:
            raise self._refuse("MissingToken", "the listing is cut short and names no next page")
        if first is not None and first in self._firsts:
            raise self._refuse("RepeatedPage", "the listing gave the same page twice")
        if not truncated or token is None:
            return None
        if token in self._tokens:
            raise self._refuse("RepeatedToken", "the listing named the same next page twice")
        self._empty = self._empty + 1 if first is None else 0
        if self._empty > EMPTY_PAGES:
            raise self._refuse(
                "EmptyPages", f"the listing gave {self._empty} empty pages one after the other"
            )
        if self._pages >= self._cap:
            raise self._refuse("EndlessListing", f"the listing did not end within {self._cap} pages")
        self._tokens.add(token)
        self._firsts.add(first)
        return token

    def _refuse(self, code: str, detail: str) -> ReadError:
        return ReadError(self._action, code, detail)
