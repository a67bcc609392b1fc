"""What a peer may spend of ours: time, memory and places; and what a proxy may say."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from anyio import BrokenResourceError
from anyio.abc import SocketAttribute

from smtpstate import CloseReason, ConnectionClosed, EndOfMessage, Limits, Rcpt, Timer
from smtpstate_asyncio import (
    Admission,
    Gate,
    Listener,
    ListenerProxy,
    connect,
    serving,
    serving_messages,
    smtp_server_protocol,
)
from tests.anyio.loopback import SECONDS, wire
from tests.asyncio_protocol.around import TO, Kept, Log, embedded, nobody_left, server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from smtpstate_asyncio import Message, Session
    from tests.anyio.loopback import Certificates, Wire

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
async def nobody_is_left() -> AsyncIterator[None]:
    async with asyncio.timeout(SECONDS), nobody_left():
        yield


SHAPES = ["serve", "on_event", "serve_messages"]


# Time.


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_silent_client_is_told_421_and_closed(shape: str) -> None:
    log, limits = Log(), Limits(command_seconds=0.1, linger_seconds=0.1)
    async with server(shape, Kept(), limits=limits, observer=log) as port, wire(port) as client:
        assert (await client.rest()).endswith(b"421 4.4.2 Timeout exceeded\r\n")
        await log.somebody_left.wait()  # the client never closes, and yet
    assert log.closed == [ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.COMMAND)]


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_trickle_of_a_body_is_cut(shape: str) -> None:
    log, limits = Log(), Limits(body_seconds=0.3, linger_seconds=0.1)
    async with server(shape, Kept(), limits=limits, observer=log) as port, wire(port) as client:
        await client.to_body()
        with suppress(BrokenResourceError):
            while not log.closed:
                await client.stream.send(b"x")
                await asyncio.sleep(0.01)
        assert (await client.rest()).startswith(b"421 4.4.2 ")
    assert log.closed[0].timer is Timer.BODY


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_trickle_of_a_handshake_is_cut(shape: str, certificates: Certificates) -> None:
    log, limits = Log(), Limits(handshake_seconds=0.2, linger_seconds=0.1)
    listener = Listener("127.0.0.1", 0, "implicit")
    options: Any = {"limits": limits, "observer": log, "tls": certificates.server}
    async with server(shape, Kept(), listener, **options) as port, wire(port) as client:
        with suppress(BrokenResourceError):
            for octet in b"\x16\x03\x01\x02\x00\x01":
                await client.stream.send(bytes([octet]))
                await asyncio.sleep(0.05)
        with suppress(BrokenResourceError):
            await client.rest()
        await log.somebody_left.wait()
    assert log.closed[0].reason is CloseReason.TIMEOUT


class Narrow(Log):
    """Has the system take little for a client that does not read, so that we need not say much to see it."""

    def session_opened(self, session: Session) -> None:
        transport = session.driver._transport
        assert transport is not None
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


def narrow(client: Wire) -> None:
    """The same at the other end."""
    stream: Any = client.stream
    stream.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_client_that_never_reads_is_cut_off(shape: str) -> None:
    limits = Limits(command_seconds=0.3, linger_seconds=0.1, errors=10**9, junk=10**9, commands=10**9)
    log = Narrow()
    async with server(shape, Kept(), limits=limits, observer=log) as port, wire(port) as client:
        await client.open()
        narrow(client)
        with suppress(BrokenResourceError):
            while True:
                await client.say(b"RSET\r\n" * 10_000)
        await log.somebody_left.wait()
    assert log.closed[0].reason is CloseReason.TIMEOUT


async def test_replies_come_late_after_many_errors() -> None:
    limits = Limits(soft_errors=1, error_delay_seconds=0.1)
    loop = asyncio.get_running_loop()
    async with server("on_event", Kept(), limits=limits) as port, wire(port) as client:
        await client.open()
        assert (await client.ask(b"NONSENSE")).startswith("500 ")
        started = loop.time()
        assert (await client.ask(b"NONSENSE")).startswith("500 ")
        assert loop.time() - started >= 0.09


# Memory.


async def test_a_slow_reader_of_a_big_body_holds_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gets rid of as much as two sockets and one read take, and then waits."""
    given = 0
    go_on, begun = asyncio.Event(), asyncio.Event()

    async def slow(message: Message) -> None:
        begun.set()
        await go_on.wait()
        async for _ in message.body:
            pass

    async def body() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(1000):
            given += 1
            yield b"y" * 65_534 + b"\r\n"

    limits = Limits(message=10**8)
    options: Any = {"hostname": "mx.example.org", "accept_any": True, "limits": limits}
    serving_it = serving_messages(slow, "127.0.0.1:0", **options)
    async with serving_it as bound, connect(bound[0].address, tls="off") as client:
        sending = asyncio.create_task(client.send(body(), **TO))
        await begun.wait()
        last = -1
        while last != given:
            last = given
            await asyncio.sleep(0.1)
        assert given < 500, "65 MB do not fit"
        out = client.connection._out
        assert out.size < 300_000
        go_on.set()
        assert (await sending).all_accepted
    assert given == 1000


async def test_many_replies_for_a_slow_reader_hold_little() -> None:
    limits = Limits(errors=10**9, junk=10**9, commands=10**9)
    factory = smtp_server_protocol(Kept().on_event, hostname="mx.example.org", limits=limits, observer=Narrow())
    async with embedded(factory, grace=0.1) as port, wire(port) as client:
        await client.open()
        narrow(client)
        [session] = factory.sessions
        while not session.driver.full:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await client.say(b"RSET\r\n" * 10_000)
        assert session.connection._talk.out.size < 10**6
        for _ in range(1000):
            await client.line()
        await client.stream.aclose()


# Places.


async def test_a_hundred_sessions_at_once(certificates: Certificates) -> None:
    kept = Kept()

    async def deliver(port: int) -> None:
        async with connect(f"127.0.0.1:{port}", ssl_context=certificates.trusting) as client:
            assert (await client.send(b"x" * 10_000, **TO)).all_accepted

    async with server("serve_messages", kept, tls=certificates.server) as port, asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(deliver(port))
    assert len(kept.bodies) == 100


@pytest.mark.parametrize("shape", SHAPES)
async def test_who_is_one_too_many_hears_421_in_place_of_the_greeting(
    shape: str, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate(Admission(connections=1, refusals=1))
    async with server(shape, Kept(), gate=gate) as port:
        async with wire(port) as first:
            await first.open()
            async with wire(port) as second, wire(port) as third:
                said = sorted([await second.rest(), await third.rest()])
                assert said[-1] == b"421 Too many connections, try again later\r\n"
        await until(lambda: not gate.snapshot().connections.current)
        async with wire(port) as fourth:
            await fourth.open()
    figures = gate.snapshot()
    assert (figures.connections.current, figures.refusals.current, figures.total) == (0, 0, 2)
    assert "too many connections" in caplog.text


async def test_a_source_has_its_share_and_stress_reaches_open_sessions() -> None:
    gate = Gate(Admission(connections=2, per_source=1, exempt=()))
    log = Log()
    factory = smtp_server_protocol(Kept().on_event, hostname="mx.example.org", gate=gate, observer=log)
    async with embedded(factory) as port, wire(port) as first:
        await first.open()
        [session] = factory.sessions
        stress: list[bool] = []
        gate.watch(lambda _: stress.append(session.connection.stress))
        async with wire(port) as second:
            assert (await second.rest()).startswith(b"421 Too many connections from your network")
        assert stress == [True, True, False], "it begins, the second is refused, it ends"
    assert gate.snapshot().connections.current == 0


async def test_who_may_have_no_body_is_told_before_it() -> None:
    gate = Gate(Admission(bodies=1))
    async with server("serve_messages", Kept(), gate=gate) as port, wire(port) as first, wire(port) as second:
        await first.to_body()
        await second.open()
        await second.ask(b"MAIL FROM:<>")
        await second.ask(b"RCPT TO:<b@example.org>")
        assert (await second.ask(b"DATA")).startswith("421 4.3.2 Too many messages at once")
        assert (await first.ask(b".")).startswith("250 ")


# Where it listens.


async def test_where_nobody_can_listen_is_an_oserror_and_nonsense_a_valueerror() -> None:
    async def handler(session: Session) -> None:
        async for event in session:
            if isinstance(event, Rcpt | EndOfMessage):
                session.accept()

    async def try_to(*listen: Any, **options: Any) -> None:
        async with serving(handler, *listen, hostname="mx.example.org", **options):
            pytest.fail("it listens")

    async with server("serve", Kept()) as port:
        with pytest.raises(OSError, match="in use"):
            await try_to("127.0.0.1:0", f"127.0.0.1:{port}")
    for address in ("", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536", "::1:25", "[::1]"):
        with pytest.raises(ValueError, match=r"address|brackets|HOST"):
            await try_to(address)
    with pytest.raises(ValueError, match="context"):
        await try_to(Listener("127.0.0.1", 0, "implicit"))
    with pytest.raises(ValueError, match="nowhere"):
        await try_to()
    with pytest.raises(ValueError, match="context"):
        smtp_server_protocol(Kept().on_event, hostname="mx.example.org", listener=Listener("", 0, "implicit"))


async def test_every_address_is_one_for_each_family() -> None:
    async with serving_messages(Kept().reads, ":0", "[::1]:0", hostname="mx.example.org") as bound:
        assert {one.host for one in bound} >= {"0.0.0.0", "::1"}
        assert all(one.port for one in bound)
        for one in bound:
            host = one.host if one.host not in ("0.0.0.0", "::") else "127.0.0.1" if one.host == "0.0.0.0" else "::1"
            async with connect(f"[{host}]:{one.port}" if ":" in host else f"{host}:{one.port}", tls="off"):
                pass


# A proxy.


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - a gate has no event for it
        await asyncio.sleep(0.001)


def behind(*trusted: str, seconds: float = 5.0) -> Listener:
    proxy = ListenerProxy.parse(1, trusted)
    return Listener("127.0.0.1", 0, proxy=ListenerProxy(proxy.version, proxy.trusted, seconds))


HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\n"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cut", [1, 99])
async def test_the_peer_is_whom_the_header_names(shape: str, cut: int) -> None:
    peers: list[str] = []

    class Seen(Log):
        def session_opened(self, session: Session) -> None:
            peers.append(str(session.peer))

    async with server(shape, Kept(), behind("127.0.0.0/8"), observer=Seen()) as port, wire(port) as client:
        for start in range(0, len(HEADER), cut):
            await client.stream.send(HEADER[start : start + cut])
            await asyncio.sleep(0)
        await client.open()
    assert len(peers) == 1
    assert "192.0.2.7" in peers[0]


UNHEARD = [
    pytest.param("192.0.2.0/24", HEADER, id="from somewhere else"),
    pytest.param("127.0.0.0/8", b"EHLO client.example\r\n", id="no header"),
    pytest.param("127.0.0.0/8", b"PROXY TCP4", id="half a header"),
]


@pytest.mark.parametrize(("trusted", "said"), UNHEARD)
async def test_without_a_header_there_is_no_session(trusted: str, said: bytes) -> None:
    log, gate = Log(), Gate()
    listener = behind(trusted, seconds=0.2)
    async with server("on_event", Kept(), listener, observer=log, gate=gate) as port, wire(port) as client:
        with suppress(BrokenResourceError):
            await client.stream.send(said)
        with suppress(BrokenResourceError):
            assert await client.rest() == b""
    assert log.opened == []
    assert gate.snapshot().connections.current == 0


async def test_a_drain_does_not_wait_for_a_header() -> None:
    gate = Gate()
    async with wire_outlives(behind("127.0.0.0/8", seconds=100), gate) as client:
        with suppress(BrokenResourceError):
            assert await client.rest() == b""
    assert gate.snapshot().connections.current == 0


def wire_outlives(listener: Listener, gate: Gate) -> Any:
    class Outlives:
        async def __aenter__(self) -> Any:
            serving_it = server("on_event", Kept(), listener, gate=gate)
            port = await serving_it.__aenter__()
            self.wire = wire(port)
            client = await self.wire.__aenter__()
            await until(lambda: gate.snapshot().connections.current > 0)
            await serving_it.__aexit__(None, None, None)
            return client

        async def __aexit__(self, *about: Any) -> None:
            await self.wire.__aexit__(*about)

    return Outlives()
