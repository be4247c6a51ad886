"""
Worker processes that share connections evenly.

A worker of gunicorn takes every connection that waits when it looks, so one of two may get most of the clients, whose
answers then take twice as long while the other is idle. Here a worker leaves a connection to the others for a moment
while one of them has fewer.
"""

from __future__ import annotations

import asyncio
import mmap
import socket
import sys

from gunicorn.arbiter import Arbiter
from uvicorn.config import Config
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from pipeline.observability import get_logger
from pipeline.serving.lean_protocol import LeanProtocol

EMPTY = -1
PATIENCE_S = 0.02
"""How long a connection is left to a worker that has fewer; then whoever is free takes it."""
PAUSE_S = 0.5
"""How long a worker that can take no more, for lack of files or memory, lets connections wait before it tries again."""

log = get_logger(__name__)


class Seats:
    """How many connections each worker has, in memory that all of them share. Made before they start."""

    def __init__(self, workers: int):
        # Twice as many as workers: a new one sits down before an old one has left.
        self._counts = memoryview(mmap.mmap(-1, 16 * max(workers, 1))).cast("q")
        self._taken: dict[int, int] = {}
        for place in range(len(self._counts)):
            self._counts[place] = EMPTY

    def take(self, worker: int) -> Seat:
        """A place for a worker. In the parent process, before the worker starts."""
        free = sorted(set(range(len(self._counts))) - set(self._taken.values()))
        place = free[0] if free else len(self._counts) - 1
        self._taken[worker] = place
        return Seat(self._counts, place)

    def leave(self, worker: int) -> None:
        """In the parent process, when a worker has ended."""
        place = self._taken.pop(worker, None)
        if place is not None:
            self._counts[place] = EMPTY


class Seat:
    """A worker's own count, and what it can see of the others'."""

    def __init__(self, counts: memoryview, place: int):
        self._counts, self._place = counts, place

    def holds(self, connections: int) -> None:
        """Say how many connections this worker has."""
        self._counts[self._place] = connections

    def is_fuller(self) -> bool:
        """Whether another worker has fewer connections."""
        own = self._counts[self._place]
        return any(EMPTY < count < own for count in self._counts)


class FairServer(Server):
    """Uvicorn's server of a `LeanLookups`, which takes its connections itself."""

    seat: Seat

    def __init__(self, config: Config):
        super().__init__(config)
        self._arriving: set[asyncio.Task] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        self._count()
        for listening in sockets or []:
            listening.setblocking(False)
            self._listen(listening)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.should_exit = True
        for listening in sockets or []:
            asyncio.get_running_loop().remove_reader(listening)
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        self._count()                                               # those that hung up
        return await super().on_tick(counter)

    def _count(self) -> None:
        self.seat.holds(len(self.server_state.connections) + len(self._arriving))

    def _listen(self, listening: socket.socket) -> None:
        if not self.should_exit:
            asyncio.get_running_loop().add_reader(listening, self._consider, listening)

    def _consider(self, listening: socket.socket) -> None:
        """Connections wait: take them, but for those that a worker with fewer should have."""
        self._count()
        while not self.seat.is_fuller():
            if not self._take(listening):
                return
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        loop.call_later(PATIENCE_S, self._take_after_all, listening)

    def _take_after_all(self, listening: socket.socket) -> None:
        if not self.should_exit:
            self._listen(listening)
            self._take(listening)

    def _take(self, listening: socket.socket) -> bool:
        """Whether there was a connection, and it could be taken."""
        try:
            taken, _ = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):     # another was quicker, or it hung up
            return False
        except OSError as error:
            log.error("no connection can be taken", error=str(error), again_in_s=PAUSE_S)
            loop = asyncio.get_running_loop()
            loop.remove_reader(listening)                           # it stays readable: the loop would only spin
            loop.call_later(PAUSE_S, self._listen, listening)
            return False
        taken.setblocking(False)
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.connect_accepted_socket(self._protocol, taken))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)
        self._count()
        return True

    def _protocol(self) -> LeanProtocol:
        return LeanProtocol(
            self.config.app, config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


class FairWorker(UvicornWorker):
    """Gunicorn's worker with such a server. `seat` is set before it starts."""

    seat: Seat

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        server = FairServer(config=self.config)
        server.seat = self.seat
        self._install_sigquit_handler()
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
