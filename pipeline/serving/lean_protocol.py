"""
The short way of a look-up, where a request arrives: the answer is written when its last byte has been read.

For each request, uvicorn makes a task, an event and two messages, which costs as much as the look-up. Here a plain
look-up is answered without them; HTTP is still read by uvicorn's parser, and all else goes uvicorn's way.
"""

from __future__ import annotations

import os
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pipeline.serving.lean_lookups import PATH, LeanLookups

MOST_BYTES = 1 << 16
"""Of a request's body; a larger one asks for more users than are answered at once."""


class LeanProtocol(HttpToolsProtocol):
    """A connection."""

    def __init__(self, lookups: LeanLookups, **uvicorns: Any):
        super().__init__(**uvicorns)
        self.lookups = lookups
        self._arrived: list[bytes] | None = None                    # the body of a request that may be answered here

    def on_headers_complete(self) -> None:
        self._arrived = [] if self._may_answer() else None
        if self._arrived is None:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._arrived is None:
            super().on_body(body)
        else:
            self._arrived.append(body)

    def on_message_complete(self) -> None:
        if self._arrived is None:
            super().on_message_complete()
            return
        body, self._arrived = b"".join(self._arrived), None
        answer = self.lookups.answer_now(body)
        if answer is None:
            super().on_headers_complete()
            super().on_body(body)
            super().on_message_complete()
            return
        headers = b"".join([b"%s: %s\r\n" % header for header in self.server_state.default_headers])
        length = b"content-length: %d\r\ncontent-type: application/json\r\n\r\n" % len(answer)
        self._write(b"".join([b"HTTP/1.1 200 OK\r\n", headers, length, answer]))
        self.on_response_complete()

    def _write(self, answer: bytes) -> None:
        """At once: the event loop would keep it until it has answered everybody who asked meanwhile."""
        sent = 0
        if self.transport.get_write_buffer_size() == 0:
            try:
                sent = os.write(self.transport.get_extra_info("socket").fileno(), answer)
            except OSError:                                         # full or gone, which the transport finds out itself
                sent = 0
        if sent < len(answer):
            self.transport.write(answer[sent:])

    def _may_answer(self) -> bool:
        parser = self.parser
        return (
            self.url == PATH.encode() and parser.get_method() == b"POST" and parser.get_http_version() == "1.1"
            and parser.should_keep_alive() and not parser.should_upgrade() and not self.expect_100_continue
            and not self.root_path and not self.access_log and self.limit_concurrency is None
            and (self.cycle is None or self.cycle.response_complete) and not self.pipeline
            and not self.flow.write_paused and not self.transport.is_closing()
            and self._length() <= MOST_BYTES and self.lookups.takes(self.headers)
        )

    def _length(self) -> int:
        """The length of the body, from its header; too long where the header does not say it."""
        said = [value for name, value in self.headers if name.lower() == b"content-length"]
        return int(said[0]) if len(said) == 1 and said[0].isdigit() else MOST_BYTES + 1
