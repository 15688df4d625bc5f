"""gunicorn's threaded worker for clients that take their time: a thread is given whole requests only.

As it comes, gunicorn reads a request in the thread that answers it, without an end to its patience, and waits
for a client to hang up in the loop that serves everybody: 16 half requests stop it for good, and each client
that does not hang up stops it for two seconds. Here the loop collects what comes, and threads wait for nobody
who sends.
"""

from __future__ import annotations

import errno
import re
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.http import errors
from gunicorn.workers.gthread import TConn, ThreadWorker

LONGEST_HEAD = 64 * 1024
"""Bytes of a request line and its headers; gunicorn's own limits are on each of them."""
LONGEST_BODY = 64 * 1024
"""Bytes; a request with a longer one is passed on without it, since the application refuses it unread."""
MOST_CHUNKED = 2 * LONGEST_BODY
"""Bytes of a body in chunks, with their sizes."""
GATHER_WITHIN = 10.0
"""Seconds in which a request has to come as a whole; also those that a new connection may stay silent."""
SEND_WITHIN = 30.0
"""Seconds that a client may take for a part of an answer."""
SEND_BUFFER = 256 * 1024
"""Bytes that the kernel takes of an answer at once: a page that nobody reads holds no thread."""
LINGER = 2.0
"""Seconds that a client has to hang up once it is answered for the last time."""
MOST_DISCARDED = 2 * 1024 * 1024
"""Bytes read and thrown away meanwhile: of a text that is too long, so that the browser sees why."""
MOST_LINGERING = 128

_PIECE = 64 * 1024
_MARKED = re.compile(rb"\n[ \t]*(?:content-length|transfer-encoding|expect)[ \t]*:", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")


class TooLong(errors.ParseException):  # type: ignore[misc]
    """The body is longer than any that is read."""


class Intake:
    """What came of one request, and whether that is all of it.

    partial: its body is left out.  continues: the client waits to be told to send the body.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.partial = self.continues = False
        self._looked = self._body = self._carried = 0
        self._end: int | None = None

    def take(self, piece: bytes) -> bool:
        """Whether the request is whole now.

        Raises:
            ParseException: it can never be one that is answered.
        """
        self.data += piece
        if not self._body:
            self._find_body()
        if not self._body:
            return False
        return self._chunks() if self._end is None else len(self.data) >= self._end

    def _find_body(self) -> None:
        while not self._looked and self.data.startswith(b"\r\n"):
            del self.data[:2]
        found = self.data.find(b"\r\n\r\n", max(0, self._looked - 3))
        self._looked = len(self.data)
        if found > LONGEST_HEAD or (found < 0 and self._looked > LONGEST_HEAD):
            raise errors.LimitRequestHeaders("limit request head size")
        if found >= 0:
            self._body = self._looked = found + 4
            self._end = self._measure(bytes(self.data[:found]))

    def _measure(self, head: bytes) -> int | None:
        """Where the request ends; None where its chunks say so."""
        if not _MARKED.search(head):
            return self._body
        named: dict[bytes, list[bytes]] = {}
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            named.setdefault(name.strip(b" \t").lower(), []).append(value.strip(b" \t"))
        lengths, codings = named.get(b"content-length", []), named.get(b"transfer-encoding", [])
        if codings and (lengths or [coding.lower() for coding in codings] != [b"chunked"]):
            raise errors.UnsupportedTransferCoding("TRANSFER-ENCODING")
        if len(lengths) > 1 or not all(length.isdigit() for length in lengths):
            raise errors.InvalidHeader("CONTENT-LENGTH")
        self.continues = b"100-continue" in (value.lower() for value in named.get(b"expect", ()))
        return None if codings else self._body + self._length(lengths)

    def _length(self, lengths: list[bytes]) -> int:
        digits = lengths[0].lstrip(b"0") if lengths else b""
        if len(digits) > 9 or int(digits or b"0") > LONGEST_BODY:
            self.partial, self.continues = True, False
            return 0
        return int(digits or b"0")

    def _chunks(self) -> bool:
        """Sizes and bytes alone: what else chunks may carry is refused, for nobody needs it here."""
        while (line := self.data.find(b"\r\n", self._looked, self._looked + 10)) >= 0:
            digits = bytes(self.data[self._looked : line])
            if not _CHUNK_SIZE.fullmatch(digits):
                raise errors.InvalidChunkSize(digits)
            size = int(digits, 16)
            after = line + 2 + size
            if self._carried + size > LONGEST_BODY or after - self._body > MOST_CHUNKED:
                raise TooLong
            if len(self.data) < after + 2:
                return False
            if self.data[after : after + 2] != b"\r\n":
                raise errors.ChunkMissingTerminator(bytes(self.data[after : after + 2]))
            if not size:
                return True
            self._looked = after + 2
            self._carried += size
        if len(self.data) >= self._looked + 10:
            raise errors.InvalidChunkSize(bytes(self.data[self._looked : self._looked + 10]))
        return False


class _Socket(socket.socket):
    """A client's. A thread finds nothing in it to read, for all that it may read was taken before; where it
    sends, it waits for so long and no longer.
    """

    _holds = False
    _head = b""

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        return b""

    def hold(self) -> None:
        """What is sent next is the head of an answer: it goes with the first of the body. Each call to the
        system lets another thread go first.
        """
        self._holds = True

    def let_go(self) -> None:
        """Send the head that no body followed."""
        head, self._head, self._holds = self._head, b"", False
        if head:
            super().sendall(head)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        if self._holds and not self._head:
            self._head = bytes(data)
            return
        head, self._head, self._holds = self._head, b"", False
        sent = self.sendmsg((head, data)) - len(head) if head else 0
        if sent < 0:
            super().sendall(head[sent:])
        if sent < len(data):
            super().sendall(data[max(sent, 0) :] if sent else data, flags)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        self.let_go()
        return super().sendfile(file, offset, count)

    def take(self) -> bytes | None:
        """What there is now: None where nothing is, b"" after the end."""
        try:
            return super().recv(_PIECE)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def say(self, word: bytes) -> None:
        """Send something short, or not."""
        with suppress(OSError):
            self.send(word)

    def setblocking(self, flag: bool, /) -> None:
        self.settimeout(SEND_WITHIN if flag else 0)


class _Connection(TConn):  # type: ignore[misc]
    """A client's connection. intake: of the request at hand.  discarded: bytes thrown away at its end."""

    def __init__(self, worker: PatientWorker, sock: socket.socket, client: Any, server: Any) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        super().__init__(worker.cfg, _Socket(fileno=sock.detach()), client, server)
        self.worker = worker
        self.intake = Intake()
        self.discarded = 0

    def close(self, graceful: bool = False) -> None:
        if graceful:
            self.worker.linger(self)
        else:
            super().close()


class PatientWorker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's, with whole requests for its threads; it terminates no TLS."""

    gather_within = GATHER_WITHIN
    linger_within = LINGER

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lingering: deque[_Connection] = deque()

    def accept(self, listener: Any) -> None:
        """Take one more; where there are too many, who has waited longest without asking anything goes."""
        try:
            sock, client = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._make_room()
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                raise
            return
        self.nr_conns += 1
        if self.nr_conns >= self.worker_connections:
            self._make_room()
        self.enqueue_req(_Connection(self, sock, client, listener.getsockname()))

    def enqueue_req(self, conn: _Connection) -> None:
        """Called wherever there may be a request: it goes to a thread once it is whole."""
        conn.intake = Intake()
        conn.sock.setblocking(False)
        held = conn.parser.unreader.take_buffered() if conn.initialized else b""
        then = self._next(conn, held or conn.sock.take())
        if then is not None:
            then()
            return
        conn.timeout = time.monotonic() + self.gather_within
        self._listen(conn, self.pending_conns, self.on_pending_socket_readable)

    def on_pending_socket_readable(self, conn: _Connection, client: Any) -> None:
        """Take what has come of a request."""
        then = self._next(conn, conn.sock.take())
        if then is not None:
            self._leave(conn, self.pending_conns)
            then()

    def _next(self, conn: _Connection, piece: bytes | None) -> Callable[[], None] | None:
        """What is to be done with a connection that has said this; None while it has more to say."""
        if piece is None:
            return None
        if not piece:
            return partial(self._forget, conn)
        try:
            whole = conn.intake.take(piece)
        except errors.ParseException as error:
            return partial(self._refuse, conn, error)
        if whole:
            return partial(self._hand_over, conn)
        if conn.intake.continues:
            conn.intake.continues = False
            conn.sock.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    def _hand_over(self, conn: _Connection) -> None:
        conn.data_ready = True
        conn.init()
        conn.parser.unreader.unread(bytes(conn.intake.data))
        conn.intake.data.clear()
        super().enqueue_req(conn)

    def _refuse(self, conn: _Connection, error: Exception) -> None:
        self.nr_conns -= 1
        self.handle_error(None, conn.sock, conn.client, error)
        conn.close(graceful=True)

    def _forget(self, conn: _Connection) -> None:
        self.nr_conns -= 1
        conn.close()

    def handle_request(self, req: Any, conn: _Connection) -> Any:
        """Called in a thread. After a body that was left out nobody knows where the next request begins."""
        if conn.intake.partial:
            req.force_close()
        conn.sock.hold()
        try:
            again = super().handle_request(req, conn)
        except BaseException:
            with suppress(OSError):
                conn.sock.let_go()
            raise
        conn.sock.let_go()
        return again

    def linger(self, conn: _Connection) -> None:
        """Wait in the loop until the client hangs up, so that it gets the answer whole (RFC 9112, 9.6)."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            conn.close()
            return
        if len(self.lingering) >= MOST_LINGERING:
            _hang_up(self.lingering[0])
        conn.timeout = time.monotonic() + self.linger_within
        self._listen(conn, self.lingering, self.on_lingering_socket_readable)

    def on_lingering_socket_readable(self, conn: _Connection, client: Any) -> None:
        """Discard what comes after the last answer."""
        piece = conn.sock.take()
        if piece is None:
            return
        conn.discarded += len(piece)
        if not piece or conn.discarded > MOST_DISCARDED:
            self._leave(conn, self.lingering)
            conn.close()

    def murder_pending(self) -> None:
        """Close what has waited for too long: called after every turn of the loop."""
        super().murder_pending()
        while self.lingering and self.lingering[0].timeout <= time.monotonic():
            conn = self.lingering[0]
            self._leave(conn, self.lingering)
            conn.close()

    def _cap_keepalive(self, deadline: float) -> None:
        """When the worker stops, silent connections do not keep it from that."""
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def _make_room(self) -> None:
        for waiting in (self.keepalived_conns, self.pending_conns):
            if waiting:
                _hang_up(waiting[0])
                return

    def _listen(
        self, conn: _Connection, waiting: deque[_Connection], then: Callable[[_Connection, Any], None]
    ) -> None:
        conn.sock.setblocking(False)
        waiting.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(then, conn))

    def _leave(self, conn: _Connection, waiting: deque[_Connection]) -> None:
        waiting.remove(conn)
        self.poller.unregister(conn.sock)


def _hang_up(conn: _Connection) -> None:
    """To be found at its end by the loop, which may have an event of it in hand already."""
    with suppress(OSError):
        conn.sock.shutdown(socket.SHUT_RDWR)
