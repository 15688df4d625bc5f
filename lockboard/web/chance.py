"""Unpredictable bytes for what every request needs some of."""

from __future__ import annotations

import os
import secrets
import threading

_FETCHED = 4096


class Chance:
    """Bytes of the system's, fetched many at a time and each given out once.

    To ask the system lets another thread go first, which is what it costs on a busy server.
    """

    def __init__(self) -> None:
        self._left = b""
        self._turn = threading.Lock()
        os.register_at_fork(after_in_child=self._forget)

    def take(self, count: int) -> bytes:
        """So many bytes that were never given out before; a child process has none of its parent's."""
        with self._turn:
            if len(self._left) < count:
                self._left = secrets.token_bytes(max(_FETCHED, count))
            found, self._left = self._left[:count], self._left[count:]
            return found

    def _forget(self) -> None:
        self._left, self._turn = b"", threading.Lock()


CHANCE = Chance()
