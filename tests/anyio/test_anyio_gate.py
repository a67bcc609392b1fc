"""The anyio server and its gate, over loopback: who is let in, who hears 421, and that every end is counted."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from anyio import BrokenResourceError, EndOfStream, Event, connect_tcp, create_task_group, sleep, wait_all_tasks_blocked

from smtpstate import Connected, Data, Flow, Limits, Rcpt, Reply
from smtpstate_anyio import Admission, Driver, Gate, Gauge, Listener, ListenerProxy, Session, serve, serve_messages
from tests.anyio.loopback import Certificates, Inbox, Recorder, Wire, background, wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import SocketStream

    from smtpstate_anyio import Gauges
    from smtpstate_parts.listen import ListenerTls

pytestmark = pytest.mark.anyio

HERE = ("127.0.0.0/8",)
TOO_MANY = b"421 Too many connections, try again later\r\n"  # no enhanced code in a greeting: RFC 2034 section 4
TOO_MANY_OF_YOU = b"421 Too many connections from your network, try again later\r\n"


def behind(trusted: tuple[str, ...] = HERE, seconds: float = 20.0) -> Listener:
    proxy = ListenerProxy(1, ListenerProxy.parse(1, trusted).trusted, seconds)
    return Listener("127.0.0.1", 0, "plain", accept_any=True, proxy=proxy)


def header(address: str) -> bytes:
    return b"PROXY TCP4 %s 198.51.100.7 56324 25\r\n" % address.encode()


async def rest(stream: SocketStream) -> bytes:
    """What the server says until it closes, with or without a reset."""
    heard = b""
    try:
        while True:
            heard += await stream.receive()
    except (EndOfStream, BrokenResourceError):
        return heard


def is_down_to(now: Gauges, connections: int) -> bool:
    return now.connections.current == connections and not (now.refusals.current and not connections)


async def until(gate: Gate, connections: int) -> Gauges:
    """The figures once that many are there."""
    while not is_down_to(gate.snapshot(), connections):  # noqa: ASYNC110  # the gate knows no events
        await sleep(0.005)
    return gate.snapshot()


@asynccontextmanager
async def greeted(port: int, count: int = 1) -> AsyncIterator[list[Wire]]:
    """Sessions that were greeted and stay."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(wire(port)) for _ in range(count)]
        for client in clients:
            assert (await client.reply()).startswith("220 ")
        yield clients


@pytest.mark.parametrize("tls", ["plain", "starttls"])
async def test_who_is_one_too_many_hears_421_in_place_of_the_greeting(
    tls: ListenerTls, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    gate, seen = Gate(Admission(connections=2, stress=False)), Recorder()
    options: Any = {"gate": gate, "observer": seen, "tls": certificates.server}
    async with background(serve_messages, Inbox(), Listener("127.0.0.1", 0, tls), **options) as port:
        async with greeted(port, 2) as (first, _):
            for _ in range(12):
                async with wire(port) as third:
                    assert await third.rest() == TOO_MANY
            assert (await first.ask(b"QUIT")).startswith("221 ")
            await first.stream.aclose()
            await until(gate, 1)
            async with greeted(port):
                assert gate.snapshot().connections.current == 2
        now = await until(gate, 0)
    assert (now.connections.peak, now.connections.refused, now.total) == (2, 12, 3)
    assert len(seen.opened) == 3, "nobody who is refused is a session"
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("WARNING", f"too many connections: the limit is 2, {row} refused since it was reached") for row in (1, 10)
    ]


async def test_inside_tls_nothing_is_said_for_that_would_cost_a_handshake(certificates: Certificates) -> None:
    options: Any = {"gate": Admission(connections=1), "tls": certificates.server}
    serving = background(serve_messages, Inbox(), Listener("127.0.0.1", 0, "implicit"), **options)
    async with serving as port, await connect_tcp("127.0.0.1", port), await connect_tcp("127.0.0.1", port) as second:
        assert await rest(second) == b""


async def test_no_more_than_so_many_are_told_at_once() -> None:
    gate = Gate(Admission(connections=1, refusals=1))
    serving = background(serve_messages, Inbox(), gate=gate)
    async with serving as port, greeted(port), await connect_tcp("127.0.0.1", port) as lingers:
        assert await lingers.receive() == TOO_MANY
        async with await connect_tcp("127.0.0.1", port) as another:
            assert await rest(another) == b""
        await lingers.aclose()
    assert gate.snapshot().refusals == Gauge(limit=1, current=0, peak=1, refused=1)


async def test_a_source_has_its_share_and_who_is_exempt_has_no_limit() -> None:
    gate = Gate(Admission(per_source=1, exempt=()))
    async with background(serve_messages, Inbox(), gate=gate) as port, greeted(port):
        async with await connect_tcp("127.0.0.1", port) as second:
            assert await rest(second) == TOO_MANY_OF_YOU
        async with await connect_tcp("127.0.0.1", port, local_host="127.0.0.2") as other:
            assert (await other.receive()).startswith(b"220 ")
        assert (await until(gate, 1)).per_source.refused == 1
    async with background(serve_messages, Inbox(), gate=Admission(per_source=1)) as port, greeted(port, 3):
        pass


async def test_behind_a_balancer_the_share_is_the_clients() -> None:
    gate = Gate(Admission(per_source=1))
    async with background(serve_messages, Inbox(), behind(), gate=gate) as port, AsyncExitStack() as stack:
        for number in range(3):
            client = await stack.enter_async_context(wire(port))
            await client.stream.send(header(f"192.0.2.{number}"))
            assert (await client.reply()).startswith("220 ")
        async with await connect_tcp("127.0.0.1", port) as again:
            await again.send(header("192.0.2.1") + b"EHLO c.example\r\n")
            assert await rest(again) == TOO_MANY_OF_YOU
        for _ in range(2):  # the balancer's own checks are nobody's
            client = await stack.enter_async_context(wire(port))
            await client.stream.send(b"PROXY UNKNOWN\r\n")
            assert (await client.reply()).startswith("220 ")
        now = await until(gate, 5)
        assert (now.sources, now.per_source.refused) == (3, 1)
    assert (await until(gate, 0)).sources == 0


@pytest.mark.parametrize(("trusted", "heard"), [(HERE, TOO_MANY), (("192.0.2.0/24",), b"")])
async def test_who_has_not_said_its_header_counts_and_who_may_not_say_one_hears_nothing(
    trusted: tuple[str, ...], heard: bytes
) -> None:
    gate = Gate(Admission(connections=1))
    async with background(serve_messages, Inbox(), behind(trusted), gate=gate) as port:
        held = gate.enter() if heard == b"" else None  # who is not trusted does not stay
        async with await connect_tcp("127.0.0.1", port) as first:
            await until(gate, 1)
            async with await connect_tcp("127.0.0.1", port) as second:
                assert await rest(second) == heard
            if held is None:
                await first.send(header("192.0.2.1"))
                assert (await first.receive()).startswith(b"220 ")
            else:
                held.leave()
        await until(gate, 0)


async def fails(session: Session) -> None:
    async for _ in session:
        raise RuntimeError("a handler that fails")


async def waits(session: Session) -> None:
    async for _ in session:
        await sleep(60)


async def reads(session: Session) -> None:
    async for _ in session:
        pass


SHORT = Limits(command_seconds=0.1, handler_seconds=0.1, linger_seconds=0.1)

# What is served, how, what is said, and how that ends.
ENDS: list[tuple[Any, dict[str, Any], Listener, bytes, str]] = [
    (reads, {}, Listener("127.0.0.1", 0), b"QUIT\r\n", "QUIT"),
    (reads, {"limits": Limits(errors=1)}, Listener("127.0.0.1", 0), b"WHAT\r\n" * 3, "too many errors"),
    (reads, {"limits": SHORT}, Listener("127.0.0.1", 0), b"", "too slow"),
    (fails, {}, Listener("127.0.0.1", 0), b"", "a handler that fails"),
    (waits, {"limits": SHORT}, Listener("127.0.0.1", 0), b"", "a handler that takes too long"),
    (reads, {}, behind(), b"nonsense\r\n", "no header"),
    (reads, {}, behind(seconds=0.1), b"PROXY ", "half a header"),
    (reads, {}, behind(()), header("192.0.2.1"), "nobody is trusted"),
    (reads, {}, behind(), header("192.0.2.1") + b"QUIT\r\n", "QUIT behind a balancer"),
]


@pytest.mark.parametrize(("handler", "options", "listener", "said", "reason"), ENDS)
async def test_however_a_connection_ends_it_counts_no_more(
    handler: Any, options: dict[str, Any], listener: Listener, said: bytes, reason: str
) -> None:
    gate = Gate(Admission(connections=5))
    async with background(serve, handler, listener, gate=gate, **options) as port:
        async with await connect_tcp("127.0.0.1", port) as stream:
            if said:
                await stream.send(said)
            await rest(stream)
        now = await until(gate, 0)
    assert (now.sources, now.bodies.current, now.total) == (0, 0, 1), reason


@pytest.mark.parametrize("by_stop", [True, False], ids=["stopped", "cancelled"])
async def test_nothing_is_left_when_the_server_ends(by_stop: bool) -> None:
    gate, stop = Gate(Admission(connections=3, refusals=5)), Event()
    options: Any = {"gate": gate, "stop": stop, "grace": 0.1, "limits": Limits(linger_seconds=0.1)}
    serving = background(serve_messages, Inbox(), behind(), **options)
    async with AsyncExitStack() as stack:
        async with serving as port:
            for said in (header("192.0.2.1"), header("192.0.2.2"), b"PROXY ", b""):
                stream = await stack.enter_async_context(await connect_tcp("127.0.0.1", port))
                if said:
                    await stream.send(said)
                if said.endswith(b"\n") or not said:
                    await stream.receive()
            now = gate.snapshot()
            assert (now.connections.current, now.refusals.current, now.sources) == (3, 1, 2)
            if by_stop:
                stop.set()
                await until(gate, 0)
        now = gate.snapshot()
    assert (now.connections.current, now.refusals.current, now.sources, now.stress) == (0, 0, 0, False)


BEGINNINGS = [b"DATA", b"BDAT 3\r\nx"]
ENVELOPE = (b"EHLO c.example", b"MAIL FROM:<a@example.com>", b"RCPT TO:<b@example.org>")


async def envelope(client: Wire) -> None:
    for line in ENVELOPE:
        assert (await client.ask(line)).startswith("250 ")


@pytest.mark.parametrize("first", BEGINNINGS)
@pytest.mark.parametrize("second", BEGINNINGS)
async def test_a_body_too_many_is_answered_421(first: bytes, second: bytes) -> None:
    gate, inbox = Gate(Admission(bodies=1, stress=False)), Inbox()
    limits = Limits(linger_seconds=0.1)
    async with background(serve_messages, inbox, accept_any=True, gate=gate, limits=limits) as port:
        async with greeted(port, 4) as (one, other, third, fourth):
            for client in (one, other, third, fourth):
                await envelope(client)
            assert (await one.ask(first))[0] in "23"
            await other.say(second)
            heard = await other.rest()
            assert heard == b"421 4.3.2 Too many messages at once, try again later\r\n"
            assert (await one.ask(b"hello\r\n." if first == b"DATA" else b"BDAT 0 LAST")).startswith("250 ")
            assert (await third.ask(b"DATA")).startswith("354 ")
            await third.stream.aclose()  # in the middle of it
            await until(gate, 2)
            assert (await fourth.ask(b"BDAT 5\r\nabc")).startswith("250 ")
            assert (await fourth.ask(b"RSET")).startswith("250 ")
            assert gate.snapshot().bodies.current == 0
        await until(gate, 0)
    assert len(inbox.bodies) == 1
    now = gate.snapshot().bodies
    assert (now.current, now.peak, now.refused) == (0, 1, 1)


async def test_a_body_counts_until_it_is_answered_and_not_when_it_is_refused() -> None:
    gate = Gate(Admission(bodies=1))
    seen: list[int] = []

    async def handler(session: Session) -> None:
        async for event in session:
            seen.append(gate.snapshot().bodies.current)
            if isinstance(event, Rcpt):
                session.accept()
            elif isinstance(event, Data) and len(seen) < 6:
                session.reply(Reply(554, "not now", enhanced="5.0.0"))

    async with background(serve, handler, gate=gate) as port, greeted(port) as [client]:
        await envelope(client)
        assert (await client.ask(b"DATA")).startswith("554 ")
        assert (await client.ask(b"NOOP")).startswith("250 ")
        assert (await client.ask(b"DATA")).startswith("354 ")
        assert (await client.ask(b"hello\r\n.")).startswith("451 ")
        assert (await client.ask(b"NOOP")).startswith("250 ")
    #        connected, EHLO, MAIL, RCPT, DATA, NOOP, DATA, body, end, NOOP, closed
    assert seen[:10] == [0, 0, 0, 0, 1, 0, 1, 1, 1, 0]


async def test_whom_xclient_names_has_a_share_and_the_front_end_has_none() -> None:
    gate = Gate(Admission(per_source=1, exempt=()))
    listener = Listener.parse("127.0.0.1:0", "plain", accept_any=True, xclient_from=HERE)
    async with background(serve_messages, Inbox(), listener, gate=gate) as port:
        async with greeted(port, 3) as (first, second, third):
            for client in (first, second, third):
                await client.ask(b"EHLO front.example")
            assert (await first.ask(b"XCLIENT NAME=c.example")).startswith("220 ")
            assert gate.snapshot().sources == 0
            assert (await second.ask(b"XCLIENT ADDR=192.0.2.9 PORT=9")).startswith("220 ")
            assert gate.snapshot().sources == 1
            await third.say(b"XCLIENT ADDR=192.0.2.9 PORT=10")
            assert await third.rest() == TOO_MANY_OF_YOU
        await until(gate, 0)
    assert gate.snapshot().sources == 0


async def test_open_sessions_and_new_ones_hear_of_stress(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smtpstate")
    gate, sessions = Gate(Admission(connections=3)), list[Session]()

    async def handler(session: Session) -> None:
        async for event in session:
            if isinstance(event, Connected):
                sessions.append(session)

    async with background(serve, handler, gate=gate) as port:
        async with greeted(port, 2):
            assert [session.connection.stress for session in sessions] == [False] * 2
            async with greeted(port) as [third]:
                assert [session.connection.stress for session in sessions] == [True] * 3
                assert (await third.ask(b"QUIT")).startswith("221 ")
            await until(gate, 2)
            assert [session.connection.stress for session in sessions[:2]] == [False] * 2
        await until(gate, 0)
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("WARNING", "stress begins: 3 of 3 connections, 0 messages under way"),
        ("INFO", "stress ends: 2 of 3 connections, 0 messages under way"),
    ]


class Hasty(Limits):
    """Under stress a command has a tenth of a second."""

    def under_stress(self) -> Limits:
        return replace(self, command_seconds=0.1)


async def test_stress_makes_room_by_those_who_only_hold_connections() -> None:
    gate = Gate(Admission(connections=3))
    async with background(serve_messages, Inbox(), gate=gate, limits=Hasty()) as port:
        async with greeted(port, 2) as idle:
            await wait_all_tasks_blocked()  # they wait for the better part of 300 s
            async with greeted(port) as [last]:
                assert gate.stress
                for client in (*idle, last):
                    assert await client.rest() == b"421 4.4.2 Timeout exceeded\r\n"
        await until(gate, 0)
        assert not gate.stress
        async with greeted(port):
            pass


async def test_there_can_be_stress_from_the_first_on() -> None:
    sessions: list[Session] = []

    async def handler(session: Session) -> None:
        sessions.append(session)
        async for _ in session:
            pass

    async with background(serve, handler, gate=Admission(stress=True)) as port, greeted(port):
        assert sessions[0].connection.stress


class Slow:
    """A machine that waits for its peer, until a deadline that may change."""

    half_close = False
    closed = None
    deadline: float | None = None
    timed_out = False

    def receive_data(self, data: bytes, /) -> None: ...
    def receive_eof(self) -> None: ...
    def connection_lost(self) -> None: ...
    def handle_timeout(self) -> None:
        self.timed_out = True

    def next_event(self) -> Flow:
        return Flow.NEED_DATA

    def data_to_send(self) -> bytes:
        return b""


async def test_a_wait_that_is_under_way_goes_by_the_new_deadline() -> None:
    machine = Slow()
    async with background(serve, reads) as port, await connect_tcp("127.0.0.1", port) as stream:
        assert (await stream.receive()).startswith(b"220 ")
        driver: Driver[object] = Driver(machine, stream)
        driver.rearm()  # nothing waits
        async with create_task_group() as group:
            group.start_soon(driver.move, Flow.NEED_DATA)
            await wait_all_tasks_blocked()
            machine.deadline = 0.0
            driver.rearm()
    assert machine.timed_out
