"""What comes too early, and what no mail client says, in either loop: seen before anything leaves, and logged."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from smtpstate import CloseReason, Connected, ConnectionClosed, Ehlo, RecipientResult, Result, Violation
from smtpstate.policy import EarlyInput, WireRules
from smtpstate_asyncio import Session, connect, serving, smtp_server_protocol
from tests.anyio.loopback import SECONDS
from tests.asyncio_protocol.around import SHAPES, Kept, embedded, nobody_left, server
from tests.early_reply import SURPLUS, serve_once

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from smtpstate import ServerEvent
    from tests.anyio.loopback import Certificates

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
async def nobody_is_left() -> AsyncIterator[None]:
    async with nobody_left():
        yield


class Held:
    """Waits, before it lets a reply go, until it is told to; and keeps how each session ended."""

    def __init__(self, *, waits: bool) -> None:
        self.closed: list[ConnectionClosed] = []
        self.noted: list[frozenset[Violation]] = []
        self.go = asyncio.Event()
        self.reached = asyncio.Event()
        if not waits:
            self.go.set()

    async def iterate(self, session: Session) -> None:
        async for event in session:
            await self.on_event(session, event)

    async def on_event(self, session: Session, event: ServerEvent) -> None:
        self.reached.set()
        await self.go.wait()
        if isinstance(event, ConnectionClosed):
            self.closed.append(event)
            self.noted.append(session.connection.noted)


@asynccontextmanager
async def holding(shape: str, held: Held, **options: Any) -> AsyncIterator[int]:
    if shape == "serve":
        async with serving(held.iterate, "127.0.0.1:0", hostname="mx.example.org", **options) as bound:
            yield bound[0].port
    else:
        async with embedded(smtp_server_protocol(held.on_event, hostname="mx.example.org", **options)) as port:
            yield port


class Peer:
    """A client that says what it is told to, while the loop does nothing else."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), SECONDS)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def say(self, octets: bytes) -> None:
        self.sock.sendall(octets)

    async def hear(self) -> bytes:
        return await asyncio.to_thread(self.sock.recv, 4096)

    async def rest(self) -> bytes:
        """All that the server says, to its end."""
        said = b""
        with suppress(ConnectionResetError):
            while octets := await self.hear():
                said += octets
        return said


HELD = pytest.mark.parametrize("shape", ["serve", "coroutine on_event"])


@pytest.mark.parametrize("shape", SHAPES)
async def test_who_speaks_before_it_is_accepted_is_not_greeted(shape: str, caplog: pytest.LogCaptureFixture) -> None:
    async with server(shape, Kept(), wire=WireRules()) as port:
        with Peer(port) as peer:
            peer.say(b"EHLO client.example\r\n")  # and the loop has not had a chance to accept
            assert await peer.rest() == b"554 Not synchronised: wait for the reply\r\n"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert re.fullmatch(
        r"session \w+: EARLY_TALK from 127\.0\.0\.1:\d+: b'EHLO client\.example\\r\\n'", record.getMessage()
    )


@pytest.mark.parametrize("shape", SHAPES)
async def test_who_does_not_wait_for_the_answer_to_its_hello_is_cut_off(shape: str) -> None:
    kept = Kept()
    async with server(shape, kept, wire=WireRules()) as port:
        with Peer(port) as peer:
            assert (await peer.hear()).startswith(b"220 ")
            peer.say(b"EHLO client.example\r\nMAIL FROM:<a@example.com>\r\n")
            assert (await peer.rest()).splitlines()[-1][:4] == b"554 "
    assert kept.bodies == []


@HELD
async def test_who_speaks_while_a_coroutine_thinks_is_told_so_in_place_of_the_greeting(shape: str) -> None:
    held = Held(waits=True)
    async with holding(shape, held) as port:
        with Peer(port) as peer:
            await held.reached.wait()
            peer.say(b"EHLO client.example\r\n")
            peer.sock.shutdown(socket.SHUT_WR)
            held.go.set()
            assert await peer.rest() == b"554 Not synchronised: wait for the reply\r\n"
    (closed,) = held.closed
    assert (closed.violation, closed.evidence) == (Violation.EARLY_TALK, b"EHLO client.example\r\n")


@HELD
async def test_where_it_is_noted_it_is_greeted(shape: str) -> None:
    held = Held(waits=True)
    async with holding(shape, held, wire=WireRules(early_input=EarlyInput.NOTE)) as port:
        with Peer(port) as peer:
            await held.reached.wait()
            peer.say(b"HELO client.example\r\nQUIT\r\n")
            held.go.set()
            assert [line[:3] for line in (await peer.rest()).splitlines()] == [b"220", b"250", b"221"]
    assert held.noted == [{Violation.EARLY_TALK, Violation.EARLY_COMMAND}]


@HELD
async def test_what_comes_in_a_packet_of_its_own_is_seen_before_the_reply_leaves(shape: str) -> None:
    held = Held(waits=False)
    async with holding(shape, held) as port:
        with Peer(port) as peer:
            assert (await peer.hear()).startswith(b"220 ")
            held.go.clear()
            held.reached.clear()
            peer.say(b"EHLO client.example\r\n")
            await held.reached.wait()
            peer.say(b"MAIL FROM:<a@example.com>\r\n")
            held.go.set()
            assert (await peer.rest()).splitlines()[-1][:4] == b"554 "
    assert held.closed[0].violation is Violation.EARLY_COMMAND


@dataclass
class Meddles(Kept):
    """Has the client speak just before a reply to it leaves, when the loop has not had a turn to read that."""

    peer: Peer | None = None
    says: dict[type[ServerEvent], bytes] = field(default_factory=dict)

    def on_event(self, session: Session, event: ServerEvent) -> None:
        if self.peer is not None:
            self.peer.say(self.says.pop(type(event), b""))
        super().on_event(session, event)


EARLY = [
    pytest.param({Connected: b"EHLO client.example\r\n"}, b"554 ", id="talk"),
    pytest.param({Ehlo: b"MAIL FROM:<a@example.com>\r\n"}, b"554 ", id="command"),
]


@pytest.mark.parametrize(("says", "said"), EARLY)
@pytest.mark.parametrize("shape", ["serve", "on_event", "coroutine on_event"])
async def test_the_loop_is_given_a_turn_to_read_before_a_reply_leaves(
    shape: str, says: dict[type[ServerEvent], bytes], said: bytes
) -> None:
    meddles = Meddles(says=dict(says))
    async with server(shape, meddles, wire=WireRules()) as port:
        with Peer(port) as meddles.peer:
            if Ehlo in says:
                assert (await meddles.peer.hear()).startswith(b"220 ")
                meddles.peer.say(b"EHLO client.example\r\n")
            assert (await meddles.peer.rest()).splitlines()[-1].startswith(said)


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_request_of_http_is_cut_off_and_logged_without_what_it_holds(
    shape: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with server(shape, Kept(), wire=WireRules()) as port:
        with Peer(port) as peer:
            assert (await peer.hear()).startswith(b"220 ")
            peer.say(b"POST /\x1b[2J?secret HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\n")
            assert await peer.rest() == b"221 2.7.0 This is for mail programs only\r\n"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().endswith(r": b'POST /\x1b[2J?*** HTTP/1.1'")


@pytest.mark.parametrize("read", [True, False], ids=["held", "in the socket"])
@pytest.mark.parametrize("surplus", SURPLUS)
async def test_input_that_is_there_before_mail_keeps_mail_here(
    certificates: Certificates,
    surplus: bytes,
    read: bool,
) -> None:
    opened, said = threading.Event(), threading.Event()
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listening = group.create_task(
                asyncio.to_thread(serve_once, listener, certificates.server, surplus, opened, said.set)
            )
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            async with connect(address, tls="implicit", ssl_context=certificates.trusting) as client:
                opened.set()
                if read:
                    assert await asyncio.to_thread(said.wait, SECONDS)
                    await asyncio.sleep(0.01)  # either loop has read it by then, or else has to look
                else:
                    assert said.wait(SECONDS), "the loop has no turn to read it"
                delivery = await client.send(b"hello\r\n", sender="me@example.com", recipients=["you@example.org"])
                broken = client.closed
            heard = await listening
    [result] = delivery
    if surplus:
        assert result == RecipientResult("you@example.org", Result.RETRY, None)
        assert broken == ConnectionClosed(CloseReason.VIOLATION, Violation.UNSOLICITED_REPLY)
        assert heard == b"", "MAIL stays here"
    else:
        assert (result.outcome, broken) == (Result.REFUSED, None)
        assert heard.startswith(b"MAIL FROM:<me@example.com>")
