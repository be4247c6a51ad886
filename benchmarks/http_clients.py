"""Clients of an HTTP server that cost it next to nothing: sockets, requests made beforehand, one thread for all."""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Iterator, Sequence

HEAD = (
    "POST /get-online-features HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n"
)


def request_of(body: dict) -> bytes:
    """A request as it goes over the wire."""
    content = json.dumps(body)
    return (HEAD.format(len(content)) + content).encode()


def asked_by(clients: int, port: int, requests: Sequence[bytes]) -> tuple[list[float], float, bytes]:
    """Ask everything over so many connections, each of which sends its next request when it has its answer.

    Each connection's first answer is left out of the times: it waits for the connection to be taken.

    Returns:
        The seconds from sending a request to having its whole answer, of each; the seconds of all together; and the
        last answer's body.
    """
    waiting = iter(requests)
    taken, content = [], b""
    with selectors.DefaultSelector() as ready:
        for _ in range(clients):
            one = _Client(port)
            ready.register(one.connection, selectors.EVENT_READ, one)
            one.send(next(waiting))
        began, open_ones = time.perf_counter(), clients
        while open_ones:
            for key, _ in ready.select(60) or _nobody():
                one = key.data
                if not one.receive():
                    continue
                if one.is_known:
                    taken.append(time.perf_counter() - one.sent_at)
                one.is_known = True
                content = one.body()
                if (request := next(waiting, None)) is not None:
                    one.send(request)
                else:
                    ready.unregister(one.connection)
                    one.connection.close()
                    open_ones -= 1
    return taken, time.perf_counter() - began, content


class _Client:
    """One connection and the answer that is arriving on it."""

    def __init__(self, port: int):
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.parts: list[bytes] = []
        self.missing, self.sent_at, self.is_known = -1, 0.0, False

    def send(self, request: bytes) -> None:
        self.parts, self.missing = [], -1
        self.sent_at = time.perf_counter()
        self.connection.sendall(request)

    def receive(self) -> bool:
        """Whether the answer is whole now."""
        part = self.connection.recv(1 << 20)
        assert part, "the server hung up"
        self.parts.append(part)
        if self.missing < 0:
            arrived = b"".join(self.parts)
            head, found, body = arrived.partition(b"\r\n\r\n")
            if not found:
                return False
            assert head.startswith(b"HTTP/1.1 200"), arrived[:500]
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            self.parts, self.missing = [body], length - len(body)
        else:
            self.missing -= len(part)
        return self.missing == 0

    def body(self) -> bytes:
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)


def _nobody() -> Iterator:
    raise SystemExit("The server answered nobody for a minute.")
