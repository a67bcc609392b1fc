"""Handlers of each kind: what becomes of those that raise, hang or return early, and of their sessions."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from smtpstate import (
    Body,
    CloseReason,
    Connected,
    ConnectionClosed,
    Data,
    Ehlo,
    EndOfMessage,
    Limits,
    LocalProtocolError,
    Mail,
    Noop,
    Rcpt,
    TraceLine,
)
from smtpstate_asyncio import Gate, Message, Session, serve, serving, serving_messages, smtp_server_protocol
from tests.anyio.loopback import NOTING, SECONDS, wire
from tests.asyncio_protocol.around import Kept, Log, embedded, nobody_left, server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from smtpstate import ServerEvent
    from smtpstate.trace import TraceRecord

pytestmark = pytest.mark.anyio

OnEvent = Any


def iterating(act: Callable[[Session, ServerEvent], Awaitable[None]], **options: Any) -> Any:
    """A server whose handler iterates, and does `act` for each event."""

    async def handler(session: Session) -> None:
        async for event in session:
            await act(session, event)

    return port_of(serving(handler, "127.0.0.1:0", hostname="mx.example.org", wire=NOTING, **options))


def called(act: Callable[[Session, ServerEvent], Awaitable[None]], **options: Any) -> Any:
    """A server that calls `act` for each event."""
    return embedded(smtp_server_protocol(act, hostname="mx.example.org", wire=NOTING, **options))


def called_plainly(act: Callable[[Session, ServerEvent], Awaitable[None]], **options: Any) -> Any:
    """The same where `act` never waits, as a plain function."""

    def plain(session: Session, event: ServerEvent) -> None:
        with suppress(StopIteration):
            act(session, event).send(None)  # type: ignore[attr-defined]  # a coroutine

    return embedded(smtp_server_protocol(plain, hostname="mx.example.org", wire=NOTING, **options))


class port_of:
    def __init__(self, serving_it: AbstractAsyncContextManager[list[Any]]) -> None:
        self.serving_it = serving_it

    async def __aenter__(self) -> int:
        port: int = (await self.serving_it.__aenter__())[0].port
        return port

    async def __aexit__(self, *about: Any) -> None:
        await self.serving_it.__aexit__(*about)


WAITING = [pytest.param(iterating, id="iterating"), pytest.param(called, id="on_event")]
EACH = [*WAITING, pytest.param(called_plainly, id="plain on_event")]


@pytest.fixture(autouse=True)
async def nobody_is_left() -> AsyncIterator[None]:
    async with asyncio.timeout(SECONDS), nobody_left():
        yield


@pytest.mark.parametrize("shape", EACH)
async def test_it_sees_the_events_and_ends_with_the_connection(shape: Any) -> None:
    events: list[ServerEvent] = []

    async def act(session: Session, event: ServerEvent) -> None:
        events.append(event)
        if isinstance(event, Rcpt | EndOfMessage):
            session.accept()

    async with shape(act) as port, wire(port) as client:
        await client.to_body()
        await client.ask(b"x\r\n.")
        await client.ask(b"QUIT")
        assert await client.rest() == b""
    kinds = [type(event) for event in events if isinstance(event, Connected | Data | Body | EndOfMessage)]
    assert kinds == [Connected, Data, Body, EndOfMessage]
    assert events[-1] == ConnectionClosed(CloseReason.QUIT)
    assert [type(event) for event in events].count(ConnectionClosed) == 1


@pytest.mark.parametrize("shape", EACH)
async def test_silence_takes_no_message(shape: Any) -> None:
    async def act(session: Session, event: ServerEvent) -> None:
        if isinstance(event, Rcpt):
            session.accept()

    async with shape(act) as port, wire(port) as client:
        await client.to_body()
        assert await client.ask(b".") == "451 4.3.0 Local error in processing"


CRASHES = [
    pytest.param(Connected, b"421 Local error in processing\r\n", id="a greeting is no place for 451"),
    pytest.param(
        Rcpt,
        b"451 4.3.0 Local error in processing\r\n421 4.3.0 Local error in processing\r\n",
        id="what is owed gets its 451, and the session does not go on",
    ),
    pytest.param(Body, b"421 4.3.0 Local error in processing\r\n", id="nothing is owed inside a body"),
]


@pytest.mark.parametrize("shape", EACH)
@pytest.mark.parametrize(("kind", "said"), CRASHES)
async def test_one_that_raises_leaves_one_record_and_a_reply(
    shape: Any, kind: type, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(session: Session, event: ServerEvent) -> None:
        if isinstance(event, kind):
            raise ZeroDivisionError
        if isinstance(event, Rcpt):
            session.accept()

    async with shape(act) as port:
        for _ in range(2):  # and the next session is none the wiser
            async with wire(port) as client:
                if kind is not Connected:
                    await client.open()
                    await client.say(b"MAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nDATA")
                if kind is Body:
                    for _ in range(3):
                        await client.reply()
                    await client.say(b"x")
                assert (await client.rest()).endswith(said)
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


@pytest.mark.parametrize("shape", EACH)
async def test_a_mistake_is_its_own(shape: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def act(session: Session, event: ServerEvent) -> None:
        if isinstance(event, Ehlo):
            session.accept("two\r\nlines")

    async with shape(act) as port, wire(port) as client:
        await client.reply()
        await client.say(b"EHLO client.example")
        assert (await client.rest()).startswith(b"451 ")
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].exc_info[0] is LocalProtocolError


async def hang(session: Session, event: ServerEvent) -> None:
    if isinstance(event, Rcpt):
        await asyncio.Event().wait()


async def test_an_iterating_one_that_hangs_is_cancelled_and_the_session_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with iterating(hang, limits=Limits(handler_seconds=0.1)) as port:
        for _ in range(2):
            async with wire(port) as client:
                await client.open()
                await client.say(b"MAIL FROM:<>\r\nRCPT TO:<b@example.org>")
                assert [line[:3] for line in (await client.rest()).splitlines()] == [b"250", b"451", b"421"]
    assert len(caplog.records) == 2


async def test_a_callback_that_hangs_is_cancelled_and_the_session_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async with called(hang, limits=Limits(handler_seconds=0.1)) as port, wire(port) as client:
        await client.open()
        await client.ask(b"MAIL FROM:<>")
        for _ in range(2):
            assert (await client.ask(b"RCPT TO:<b@example.org>")).startswith("451 ")
        assert (await client.ask(b"QUIT")).startswith("221 ")
    assert len(caplog.records) == 2


async def test_one_that_hangs_inside_a_body_ends_the_session() -> None:
    async def act(session: Session, event: ServerEvent) -> None:
        if isinstance(event, Body):
            await asyncio.Event().wait()
        if isinstance(event, Rcpt):
            session.accept()

    async with called(act, limits=Limits(handler_seconds=0.1)) as port, wire(port) as client:
        await client.to_body()
        await client.say(b"x")
        assert (await client.rest()).startswith(b"421 4.3.0 ")


@pytest.mark.parametrize("shape", WAITING)
async def test_one_that_hangs_over_the_end_is_cancelled(shape: Any, caplog: pytest.LogCaptureFixture) -> None:
    cancelled = asyncio.Event()

    async def act(session: Session, event: ServerEvent) -> None:
        if isinstance(event, ConnectionClosed):
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

    async with shape(act, limits=Limits(handler_seconds=0.1)) as port:
        async with wire(port) as client:
            await client.open()
        await cancelled.wait()
    assert len(caplog.records) == 1


async def test_one_that_does_not_let_itself_be_cancelled_is_late_all_the_same() -> None:
    said: list[bool] = []

    async def act(session: Session, event: ServerEvent) -> None:
        if isinstance(event, Rcpt):
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            said.append(session.accept())

    async with called(act, limits=Limits(handler_seconds=0.1)) as port, wire(port) as client:
        await client.open()
        await client.ask(b"MAIL FROM:<>")
        assert (await client.ask(b"RCPT TO:<b@example.org>")).startswith("451 ")
    assert said == [False]


async def test_a_callback_may_take_the_events_that_follow() -> None:
    async def act(session: Session, event: ServerEvent) -> None:
        if isinstance(event, Mail):
            session.accept()
            async for later in session:
                seen.append(type(later))
                if isinstance(later, Noop):
                    return
                assert not isinstance(later, Rcpt) or session.accept("by the one that iterates")
        elif isinstance(event, Rcpt):
            session.accept("by the other")

    seen: list[type] = []
    async with called(act) as port, wire(port) as client:
        await client.open()
        await client.ask(b"MAIL FROM:<>")
        assert (await client.ask(b"RCPT TO:<b@example.org>")).endswith("by the one that iterates")
        await client.ask(b"NOOP")
        assert (await client.ask(b"RCPT TO:<b@example.org>")).endswith("by the other")
    assert seen == [Rcpt, Noop]


async def test_a_handler_that_returns_early_closes_with_421() -> None:
    async def handler(session: Session) -> None:
        async for event in session:
            if isinstance(event, Ehlo):
                return

    async with serving(handler, "127.0.0.1:0", hostname="mx.example.org") as bound, wire(bound[0].port) as client:
        await client.reply()
        await client.say(b"EHLO client.example")
        assert await client.rest() == b"421 Service shutting down\r\n"


async def test_a_handler_that_goes_on_after_the_end_gets_no_more() -> None:
    done = asyncio.Event()

    async def handler(session: Session) -> None:
        async for _ in session:
            pass
        with pytest.raises(StopAsyncIteration):
            await anext(session)
        done.set()

    async with serving(handler, "127.0.0.1:0", hostname="mx.example.org") as bound:
        async with wire(bound[0].port) as client:
            await client.open()
        await done.wait()


async def test_a_client_that_vanishes_while_a_handler_thinks_is_noticed_after_it() -> None:
    thinking, go_on, taken = asyncio.Event(), asyncio.Event(), list[Message]()

    async def think(message: Message) -> None:
        async for _ in message.body:
            pass
        thinking.set()
        await go_on.wait()
        taken.append(message)

    log = Log()
    serving_it = serving_messages(think, "127.0.0.1:0", hostname="mx.example.org", accept_any=True, observer=log)
    async with serving_it as bound:
        async with wire(bound[0].port) as client:
            await client.to_body()
            await client.say(b"x\r\n.")
            await thinking.wait()
        go_on.set()
        await log.somebody_left.wait()
    assert len(taken) == 1
    assert log.closed[0].reason in (CloseReason.EOF, CloseReason.LOST)


async def test_nothing_is_read_while_a_handler_thinks() -> None:
    thinking, go_on = asyncio.Event(), asyncio.Event()

    async def act(session: Session, event: ServerEvent) -> None:
        if isinstance(event, Rcpt | EndOfMessage):
            session.accept()
        if isinstance(event, Body) and not go_on.is_set():
            thinking.set()
            await go_on.wait()

    async with called(act) as port, wire(port) as client:
        await client.to_body()
        await client.say(b"x")
        await thinking.wait()
        with suppress(TimeoutError):  # the buffers of two sockets, and one read, are full
            async with asyncio.timeout(1):
                for _ in range(1000):
                    await client.stream.send(b"y" * 65_534 + b"\r\n")
                pytest.fail("65 MB went somewhere")
        go_on.set()


# Observers.


async def test_an_observer_that_fails_ends_its_session_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Log):
        def session_opened(self, session: Session) -> None:
            super().session_opened(session)
            if len(self.opened) == 1:
                raise ZeroDivisionError

    async with server("on_event", Kept(), observer=Broken()) as port:
        async with wire(port) as client:
            assert await client.rest() == b""
        async with wire(port) as client:
            await client.open()
    assert len(caplog.records) == 1


@pytest.mark.parametrize("shape", ["serve", "on_event"])
async def test_an_observer_that_fails_at_the_end_keeps_nothing_open(
    shape: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Log):
        def session_closed(self, session: Session, closed: ConnectionClosed) -> None:
            super().session_closed(session, closed)
            raise ZeroDivisionError

    gate = Gate()
    async with server(shape, Kept(), observer=Broken(), gate=gate) as port, wire(port) as client:
        await client.open()
        await client.ask(b"QUIT")
        assert await client.rest() == b""
    assert gate.snapshot().connections.current == 0
    assert len(caplog.records) == 1


@pytest.mark.parametrize("shape", ["serve", "on_event", "coroutine on_event", "serve_messages"])
async def test_an_observer_that_cannot_bear_a_line_ends_its_session(
    shape: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Log):
        def trace(self, session: Session, record: TraceRecord) -> None:
            if isinstance(record, TraceLine) and record.line.startswith(b"MAIL"):
                raise ZeroDivisionError

    async with server(shape, Kept(), observer=Broken()) as port:
        async with wire(port) as client:
            await client.open()
            await client.say(b"MAIL FROM:<>")
            await client.rest()
        async with wire(port) as client:
            await client.open()
    assert len(caplog.records) >= 1


# The drain.


async def finish(idle: Any, busy: Any) -> None:
    assert await idle.rest() == b"421 4.3.2 Service shutting down\r\n"
    await idle.stream.aclose()
    assert (await busy.ask(b"x\r\n.")).startswith("250 ")
    assert await busy.rest() == b"421 4.3.2 Service shutting down\r\n"
    await busy.stream.aclose()


@pytest.mark.parametrize("shape", ["serve_messages", "plain on_message", "serve", "on_event", "coroutine on_event"])
async def test_a_drain_tells_idle_sessions_and_lets_busy_ones_finish(shape: str) -> None:
    kept, log = Kept(), Log()
    async with asyncio.TaskGroup() as clients, server(shape, kept, observer=log) as port:
        idle_wire, busy_wire = wire(port), wire(port)
        idle, busy = await idle_wire.__aenter__(), await busy_wire.__aenter__()
        await idle.open()
        await busy.to_body()
        clients.create_task(finish(idle, busy))
    assert kept.bodies == [b"x\r\n"]
    assert len(log.closed) == 2


@pytest.mark.parametrize("how", ["cancelled", "stopped"])
async def test_serve_drains_however_it_ends(how: str) -> None:
    stop, port = asyncio.Event(), 0

    async def handler(session: Session) -> None:
        async for _ in session:
            pass

    async with serving(handler, "127.0.0.1:0", hostname="mx.example.org") as bound:
        port = bound[0].port  # and free again, in a moment
    serving_it = asyncio.create_task(serve(handler, f"127.0.0.1:{port}", hostname="mx.example.org", stop=stop))
    while True:
        with suppress(OSError):
            async with wire(port) as client:
                await client.open()
                if how == "cancelled":
                    serving_it.cancel()
                else:
                    stop.set()
                assert await client.rest() == b"421 4.3.2 Service shutting down\r\n"
                break
        await asyncio.sleep(0)
    if how == "cancelled":
        with pytest.raises(asyncio.CancelledError):
            await serving_it
    else:
        await serving_it


@pytest.mark.parametrize("shape", ["serve_messages", "serve"])
async def test_grace_ends_and_the_rest_is_cut_off(shape: str, caplog: pytest.LogCaptureFixture) -> None:
    async def hangs(message: Message) -> None:
        await asyncio.Event().wait()

    async def handler(session: Session) -> None:
        async for event in session:
            if isinstance(event, Rcpt):
                session.accept()
            if isinstance(event, Data):
                session.accept()
                await session.flush()
                await asyncio.Event().wait()

    options: Any = {"hostname": "mx.example.org", "grace": 0.1, "limits": Limits(linger_seconds=0.1)}
    loop = asyncio.get_running_loop()
    if shape == "serve":
        serving_it = serving(handler, "127.0.0.1:0", **options)
    else:
        serving_it = serving_messages(hangs, "127.0.0.1:0", accept_any=True, **options)
    async with asyncio.TaskGroup() as group:
        async with serving_it as bound:
            wires = [wire(bound[0].port) for _ in range(2)]
            waiting, hanging = [await one.__aenter__() for one in wires]
            await waiting.open()
            await waiting.ask(b"MAIL FROM:<>")
            await hanging.to_body()
            rests = [group.create_task(client.rest()) for client in (waiting, hanging)]
            started = loop.time()
        assert 0.09 <= loop.time() - started < 5.0
    assert [rest.result() for rest in rests] == [b"421 4.3.2 Service shutting down\r\n"] * 2
    for client in (waiting, hanging):
        await client.stream.aclose()
    assert not caplog.records


async def test_a_drain_that_is_cancelled_leaves_nobody() -> None:
    factory = smtp_server_protocol(Kept().on_event, hostname="mx.example.org")
    async with embedded(factory, grace=0.01) as port, wire(port) as client:
        await client.open()
        await client.ask(b"MAIL FROM:<>")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await factory.drain(100)
        assert await client.rest() == b""
        assert not factory.sessions
