"""The load generator: keep-alive connections to one server, in a process of its own."""

from __future__ import annotations

import selectors
import socket
import time
from typing import Any

from benchmarks.children import answer_commands

_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


class Connection:
    """One request at a time over one socket. A `%d` in the path becomes another number with every request.

    Of an answer only the head is kept and the rest is counted, so that the client never is what holds up.
    """

    turn = 0
    room = bytearray(1 << 18)

    def __init__(self, port: int, path: str) -> None:
        self._path = path
        self._head = f"HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: keep-alive\r\n\r\n".encode()
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._start = b""
        self._wanted = self._status = 0

    def send(self) -> None:
        Connection.turn += 1
        path = self._path % Connection.turn if "%d" in self._path else self._path
        self._start, self._wanted = b"", 0
        self.socket.sendall(b"GET " + path.encode("ascii") + b" " + self._head)

    def receive(self) -> int:
        """Take what is there. The status once the answer is whole, 0 before."""
        count = self.socket.recv_into(self.room)
        if not count:
            raise RuntimeError("the server closed the connection")
        if not self._wanted:
            self._start += self.room[:count]
            end = self._start.find(_END)
            if end < 0:
                return 0
            head = self._start[:end].lower()
            at = head.find(_LENGTH)
            length = int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            self._status = int(head[9:12])
            self._wanted, count = end + len(_END) + length, len(self._start)
        self._wanted -= count
        return 0 if self._wanted > 0 else self._status

    def round_trip(self) -> int:
        self.send()
        while not (status := self.receive()):
            pass
        return status


def throughput(port: int, path: str, seconds: float, connections: int, status: int) -> dict[str, Any]:
    """Requests a second with so many connections always waiting for an answer, each with this status."""
    opened = [Connection(port, path) for _ in range(connections)]
    with selectors.DefaultSelector() as selector:
        for connection in opened:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send()
        began, answered, waiting = time.perf_counter(), 0, connections
        while waiting:
            for key, _ in selector.select(30):
                connection = key.data
                if not (found := connection.receive()):
                    continue
                _expect(found, status, path)
                answered += 1
                if time.perf_counter() - began < seconds:
                    connection.send()
                else:
                    waiting -= 1
        took = time.perf_counter() - began
    for connection in opened:
        connection.socket.close()
    return {"per_second": answered / took, "answered": answered}


def latency(port: int, path: str, seconds: float, rate: float, status: int) -> dict[str, Any]:
    """Seconds from when each of `rate` requests a second was due to its answer, sorted."""
    connection = Connection(port, path)
    _expect(connection.round_trip(), status, path)
    began, found = time.perf_counter(), []
    for number in range(int(seconds * rate)):
        due = began + number / rate
        if (early := due - time.perf_counter()) > 0:
            time.sleep(early)
        _expect(connection.round_trip(), status, path)
        found.append(time.perf_counter() - due)
    connection.socket.close()
    return {"seconds": sorted(found)}


def _expect(found: int, status: int, path: str) -> None:
    if found != status:
        raise RuntimeError(f"{path} was answered with {found}, not {status}")


if __name__ == "__main__":
    answer_commands({"throughput": throughput, "latency": latency})
