"""The trickle attack on real sockets: who drips is cut when T is over, and told so where that is possible."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from anyio import (
    BrokenResourceError,
    ClosedResourceError,
    connect_tcp,
    create_task_group,
    create_tcp_listener,
    current_time,
    sleep,
    sleep_forever,
)
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSStream

from smtpstate import CloseReason, ConnectionBroken, ConnectionClosed, Limits, Result, Timer
from smtpstate_anyio import Listener, connect, serve_messages
from tests.anyio.loopback import Certificates, Inbox, Recorder, Wire, background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import ByteStream, SocketStream

pytestmark = pytest.mark.anyio

T = 0.6  # seconds for a request
LATE = 1.0  # no later than this after the deadline
RATE = 100.0
LIMITS = Limits(
    greeting_seconds=T,
    command_seconds=T,
    data_seconds=T,
    block_seconds=T,
    body_seconds=T,
    end_seconds=T,
    handshake_seconds=T,
    linger_seconds=0.1,
    body_rate=RATE,
)


@asynccontextmanager
async def attacker(port: int, tls: str, certificates: Certificates) -> AsyncIterator[Wire]:
    """A client that has said EHLO, inside TLS or in clear."""
    async with await connect_tcp("127.0.0.1", port) as plain:
        stream: ByteStream = plain
        if tls == "implicit":
            stream = await TLSStream.wrap(plain, hostname="localhost", ssl_context=certificates.trusting)
        client = Wire(stream)
        assert (await client.reply()).startswith("220 ")
        if tls == "starttls":
            await client.ask(b"EHLO client.example")
            assert (await client.ask(b"STARTTLS")).startswith("220 ")
            client = Wire(await TLSStream.wrap(plain, hostname="localhost", ssl_context=certificates.trusting))
        assert (await client.ask(b"EHLO client.example")).startswith("250 ")
        yield client


async def drip(client: Wire, octet: bytes, seconds: float) -> None:
    """An octet at a time, until the other side has had enough."""
    try:
        while True:
            await client.stream.send(octet)
            await sleep(seconds)
    except (BrokenResourceError, ClosedResourceError):
        return


@pytest.mark.parametrize("tls", ["plain", "starttls", "implicit"])
@pytest.mark.parametrize(
    ("opening", "octet", "seconds", "timer"),
    [
        (None, b"N", T, Timer.COMMAND),
        (b"DATA", b"x", T / (1 - 50 / RATE), Timer.BODY),
        (b"BDAT 1000000 LAST", b"x", T / (1 - 50 / RATE), Timer.BODY),
    ],
)
async def test_a_client_that_drips_is_cut(
    tls: str, opening: bytes | None, octet: bytes, seconds: float, timer: Timer, certificates: Certificates
) -> None:
    """Every 20 ms an octet: 50 octets a second, half of what a body has to bring."""
    seen = Recorder()
    context = None if tls == "plain" else certificates.server
    address = Listener("127.0.0.1", 0, "implicit" if tls == "implicit" else None)
    async with (
        background(
            serve_messages, Inbox(), address, accept_any=True, tls=context, limits=LIMITS, observer=seen
        ) as port,
        attacker(port, tls, certificates) as client,
        create_task_group() as group,
    ):
        if opening is not None:
            await client.ask(b"MAIL FROM:<>")
            await client.ask(b"RCPT TO:<a@b.example>")
            await (client.ask if opening == b"DATA" else client.say)(opening)
        start = current_time()
        group.start_soon(drip, client, octet, 0.02)
        answer = await client.reply()
        waited = current_time() - start
        await seen.somebody_left.wait()
        group.cancel_scope.cancel()
    assert answer == "421 4.4.2 Timeout exceeded"
    assert T - 0.1 <= waited <= seconds + LATE, "no octet comes late, but the system may be slow to wake who sends them"
    assert seen.closed == [ConnectionClosed(CloseReason.TIMEOUT, timer=timer)]


# The client.


@asynccontextmanager
async def dripping(*replies: bytes, then: bytes, reads: bool = True) -> AsyncIterator[int]:
    """A server that answers line by line as it is told, drips `then`, and reads no more unless it `reads`."""

    async def handle(stream: SocketStream) -> None:
        client = Wire(stream)
        async with stream:
            await stream.send(replies[0])
            for reply in replies[1:]:
                await client.line()
                await stream.send(reply)
            if reads:
                await drip(client, then, 0.02)
            await sleep_forever()

    async with await create_tcp_listener(local_host="127.0.0.1") as listener, create_task_group() as group:
        group.start_soon(listener.serve, handle)
        yield listener.extra(SocketAttribute.local_port)
        group.cancel_scope.cancel()


FAST = replace(LIMITS, body_rate=100_000.0)  # or the system's buffers take long to fill


async def test_a_server_that_drips_its_greeting_is_left() -> None:
    async with dripping(b"2", then=b"2") as port:
        start = current_time()
        with pytest.raises(ConnectionBroken) as caught:
            async with connect(f"127.0.0.1:{port}", tls="off", limits=LIMITS):
                pass
        waited = current_time() - start
    assert caught.value.closed == ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.GREETING)
    assert T - 0.1 <= waited <= T + LATE


@pytest.mark.parametrize(
    ("replies", "reads", "outcome", "reason"),
    [
        (3, True, Result.RETRY, "the answer to RCPT drips"),
        (4, False, Result.RETRY, "the body is not read"),
        (5, True, Result.UNKNOWN, "the answer to the lone dot drips"),
    ],
)
async def test_a_server_that_drips_is_left(replies: int, reads: bool, outcome: Result, reason: str) -> None:
    answers = (b"220 mx\r\n", b"250 mx\r\n", b"250 OK\r\n", b"250 OK\r\n", b"354 go\r\n")
    message = b"\r\n" + b"x\r\n" * (10 if reads else 10_000_000)
    async with (
        dripping(*answers[:replies], then=b"2", reads=reads) as port,
        connect(f"127.0.0.1:{port}", tls="off", limits=FAST) as client,
    ):
        start = current_time()
        delivery = await client.send(message, sender="", recipients=["a@b.example"])
        waited = current_time() - start
    assert [result.outcome for result in delivery] == [outcome], reason
    assert T - 0.1 <= waited <= T + LATE
