"""A worker that has run out of files stops for a moment, and goes on when there are some again."""

import asyncio
import os
import resource
import socket
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from uvicorn.config import Config

from pipeline.serving import fair_workers
from pipeline.serving.fair_workers import FairServer, Seats


class Greeting(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        transport.write(b"hello")
        transport.close()


class GreetingServer(FairServer):
    def _protocol(self) -> Greeting:
        return Greeting()


@contextmanager
def no_file_left():
    """Inside, this process can open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = max(int(file.name) for file in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 8, hard))
    taken = []
    try:
        while True:
            try:
                taken.append(os.dup(0))
            except OSError:
                break
        yield
    finally:
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.fault("a feature server's worker has no file descriptor left")
@pytest.mark.parametrize("way", ["_listen", "_take_after_all"])
def test_a_worker_without_files_neither_spins_nor_stops_for_ever(monkeypatch, way):
    monkeypatch.setattr(fair_workers, "PAUSE_S", 0.1)

    async def served(listening: socket.socket, client: socket.socket) -> bytes:
        server = GreetingServer(Config(lambda: None))
        server.seat = Seats(1).take(1)
        with no_file_left():
            getattr(server, way)(listening)
            await asyncio.sleep(0.45)
        said = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 5), 10)
        server.should_exit = True
        asyncio.get_running_loop().remove_reader(listening)
        return said

    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as client:
        listening.setblocking(False)
        client.connect(listening.getsockname())
        client.setblocking(False)
        with capture_logs() as lines:
            assert asyncio.run(served(listening, client)) == b"hello"
    assert 2 <= len(lines) <= 6 and "Too many open files" in lines[0]["error"]
