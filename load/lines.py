"""One keep-alive connection of a browser, light enough for hundreds of them in one process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

ANSWER_SECONDS = 30.0
"""How long an answer may take; one that takes longer counts as none."""


@dataclass(frozen=True)
class Answer:
    """Header names are in small letters. `took`: seconds from when the request was due to its last byte."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    took: float

    @property
    def busy(self) -> bool:
        """Whether the server said that it has too much to do, and when to come again."""
        return self.status == 503 and self.headers.get("retry-after", "").isdecimal()


@dataclass
class Line:
    """To one port of loopback, opened with the first request and again after the server closed it.

    says: headers of every request, by which the proxy in front would tell who it is.  cookies: what the
    server gave, kept for the lines of this person that follow.
    """

    port: int
    says: Mapping[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = field(default=None, repr=False)

    async def get(self, path: str, due: float, headers: Mapping[str, str] | None = None) -> Answer:
        """`due`: on the clock of `time.perf_counter`, when a browser would have sent it.

        Raises:
            OSError, EOFError, ValueError, TimeoutError: no whole answer came.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status, found, body = await self._exchange(path, headers or {})
        except BaseException:
            self.close()
            raise
        if found.get("connection", "").lower() == "close":
            self.close()
        return Answer(status, found, body, time.perf_counter() - due)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _exchange(self, path: str, more: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
        fresh = self._streams is None
        reader, writer = self._streams = self._streams or await asyncio.open_connection(
            "127.0.0.1", self.port
        )
        headers = {"Host": f"127.0.0.1:{self.port}", "Accept-Encoding": "identity", **self.says, **more}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        lines = (f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"GET {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode("latin-1"))
        head = await _head(reader)
        if not head and not fresh:  # the server had closed an idle connection: browsers send it once more
            self.close()
            return await self._exchange(path, more)
        first, *rest = head.decode("latin-1").split("\r\n")
        pairs = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in rest)]
        given = (value.partition(";")[0].partition("=") for name, value in pairs if name == "set-cookie")
        self.cookies.update({name: value for name, _, value in given})
        found = dict(pairs)
        status = int(first.split(" ")[1])
        return status, found, await _body(reader, status, found)


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return b""
    except ConnectionResetError:
        return b""


async def _body(reader: asyncio.StreamReader, status: int, headers: Mapping[str, str]) -> bytes:
    if status in (204, 304):
        return b""
    if "chunked" in headers.get("transfer-encoding", ""):
        parts = []
        while size := int((await reader.readline()).split(b";")[0], 16):
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readline()
        return b"".join(parts)
    return await reader.readexactly(int(headers.get("content-length", 0)))
