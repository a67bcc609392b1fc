"""What comes too early, and what no mail client says, through a socket: seen, cut off, and logged."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import pytest
from anyio import EndOfStream, Event, connect_tcp

from smtpstate import ConnectionClosed, Violation
from smtpstate.policy import EarlyInput, WireRules
from smtpstate_anyio import Session, serve
from tests.anyio.loopback import background

if TYPE_CHECKING:
    from anyio.abc import SocketStream

pytestmark = pytest.mark.anyio


async def everything(stream: SocketStream) -> bytes:
    """All that the server says, to its end."""
    said = b""
    try:
        while True:
            said += await stream.receive()
    except EndOfStream:
        return said


class Held:
    """A handler that waits before it lets the greeting go, and keeps how each session ended."""

    def __init__(self, *, waits: bool) -> None:
        self.closed: list[ConnectionClosed] = []
        self.noted: list[frozenset[Violation]] = []
        self.go = Event()
        if not waits:
            self.go.set()

    async def __call__(self, session: Session) -> None:
        async for event in session:
            await self.go.wait()
            if isinstance(event, ConnectionClosed):
                self.closed.append(event)
                self.noted.append(session.connection.noted)


async def test_who_speaks_before_the_greeting_is_told_so_in_its_place(caplog: pytest.LogCaptureFixture) -> None:
    handler = Held(waits=True)
    async with background(serve, handler, wire=WireRules()) as port, await connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"EHLO client.example\r\n")
        await stream.send_eof()
        handler.go.set()
        assert await everything(stream) == b"554 Not synchronised: wait for the reply\r\n"
    (closed,) = handler.closed
    assert (closed.violation, closed.evidence) == (Violation.EARLY_TALK, b"EHLO client.example\r\n")
    (record,) = [record for record in caplog.records if "EARLY_TALK" in record.getMessage()]
    assert re.fullmatch(
        r"session \w+: EARLY_TALK from 127\.0\.0\.1:\d+: b'EHLO client\.example\\r\\n'", record.getMessage()
    )


async def test_where_it_is_noted_it_is_greeted() -> None:
    handler = Held(waits=True)
    wire = WireRules(early_input=EarlyInput.NOTE)
    async with background(serve, handler, wire=wire) as port, await connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"HELO client.example\r\nQUIT\r\n")
        handler.go.set()
        said = await everything(stream)
        assert [line[:3] for line in said.splitlines()] == [b"220", b"250", b"221"]
    assert handler.noted == [{Violation.EARLY_TALK, Violation.EARLY_COMMAND}]


async def test_what_comes_in_a_packet_of_its_own_is_seen_before_the_reply_leaves() -> None:
    handler = Held(waits=False)
    async with background(serve, handler, wire=WireRules()) as port, await connect_tcp("127.0.0.1", port) as stream:
        assert (await stream.receive()).startswith(b"220 ")
        handler.go = Event()
        await stream.send(b"EHLO client.example\r\n")
        await stream.send(b"MAIL FROM:<a@example.com>\r\n")
        handler.go.set()
        said = await everything(stream)
        assert said.splitlines()[-1][:4] == b"554 "
    assert handler.closed[0].violation is Violation.EARLY_COMMAND


async def test_a_request_of_http_is_cut_off_and_logged_without_what_it_holds(caplog: pytest.LogCaptureFixture) -> None:
    handler = Held(waits=False)
    async with background(serve, handler, wire=WireRules()) as port, await connect_tcp("127.0.0.1", port) as stream:
        assert (await stream.receive()).startswith(b"220 ")
        await stream.send(b"POST /\x1b[2J?secret HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\n")
        assert await everything(stream) == b"221 2.7.0 This is for mail programs only\r\n"
    (record,) = [record for record in caplog.records if "FORBIDDEN_COMMAND" in record.getMessage()]
    assert record.levelno == logging.WARNING
    assert record.getMessage().endswith(r": b'POST /\x1b[2J?*** HTTP/1.1'")
