"""The anyio server: events and verdicts, sessions, listeners and the drain, over loopback sockets."""

from __future__ import annotations

import errno
import logging
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
from anyio import (
    BrokenResourceError,
    EndOfStream,
    Event,
    create_task_group,
    current_time,
    fail_after,
    sleep_forever,
    wait_all_tasks_blocked,
)

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
    Rcpt,
    Reply,
    Timer,
)
from smtpstate_anyio import Listener, Message, Session, serve, serve_messages
from smtpstate_anyio._listen import Opened, open_listeners
from tests.anyio.loopback import SECONDS, Inbox, Recorder, Wire, background, wire

if TYPE_CHECKING:
    from anyio.abc import SocketListener, SocketStream

pytestmark = pytest.mark.anyio


async def accept_all(session: Session) -> None:
    async for event in session:
        if isinstance(event, Rcpt | EndOfMessage):
            session.accept()


async def test_a_handler_sees_the_events_and_ends_with_the_connection() -> None:
    events: list[object] = []

    async def handler(session: Session) -> None:
        async for event in session:
            events.append(event)
            if isinstance(event, Rcpt | EndOfMessage):
                session.accept()
        with pytest.raises(StopAsyncIteration):
            await anext(session)

    async with background(serve, handler) as port, wire(port) as client:
        await client.to_body()
        await client.ask(b"x\r\n.")
        await client.ask(b"QUIT")
        await client.rest()
    assert [type(event) for event in events if isinstance(event, Connected | Data | Body | EndOfMessage)] == [
        Connected,
        Data,
        Body,
        EndOfMessage,
    ]
    assert events[-1] == ConnectionClosed(CloseReason.QUIT)


async def test_the_last_reply_is_followed_by_the_end_at_once() -> None:
    linger = Limits(linger_seconds=100 * SECONDS)
    async with background(serve, accept_all, limits=linger) as port, wire(port) as client:
        await client.open()
        assert await client.ask(b"QUIT") == "221 2.0.0 Bye"
        assert await client.rest() == b"", "the write side is shut down while the linger has hardly begun"


async def test_silence_takes_no_message() -> None:
    async def handler(session: Session) -> None:
        async for event in session:
            if isinstance(event, Rcpt):
                session.accept()

    async with background(serve, handler) as port, wire(port) as client:
        await client.to_body()
        assert await client.ask(b".") == "451 4.3.0 Local error in processing"


async def test_a_handler_that_returns_early_closes_with_421() -> None:
    async def handler(session: Session) -> None:
        async for event in session:
            if isinstance(event, Ehlo):
                return

    async with background(serve, handler) as port, wire(port) as client:
        await client.reply()
        await client.say(b"EHLO client.example")
        assert await client.rest() == b"421 Service shutting down\r\n"


async def test_a_handler_that_closes_in_its_own_words() -> None:
    async def handler(session: Session) -> None:
        async for event in session:
            if isinstance(event, Ehlo):
                session.close(Reply(521, "Not you", enhanced="5.3.2"))

    async with background(serve, handler) as port, wire(port) as client:
        await client.reply()
        await client.say(b"EHLO client.example")
        assert await client.rest() == b"521 Not you\r\n"


CRASHES = [
    pytest.param(Connected, b"421 Local error in processing\r\n", id="a greeting is no place for 451"),
    pytest.param(
        Rcpt,
        b"451 4.3.0 Local error in processing\r\n421 4.3.0 Local error in processing\r\n",
        id="what is owed gets its 451, and without a handler the session cannot go on",
    ),
    pytest.param(Body, b"421 4.3.0 Local error in processing\r\n", id="nothing is owed inside a body"),
]


@pytest.mark.parametrize(("kind", "said"), CRASHES)
async def test_a_handler_that_raises_leaves_one_record_and_a_reply(
    kind: type, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(session: Session) -> None:
        async for event in session:
            if isinstance(event, kind):
                raise ZeroDivisionError
            if isinstance(event, Rcpt):
                session.accept()

    async with background(serve, handler) as port:
        for _ in range(2):  # and the next session is none the wiser
            async with wire(port) as client:
                await client.say(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nx")
                assert (await client.rest()).endswith(said)
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


async def test_a_handler_that_hangs_is_cancelled_and_the_server_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(session: Session) -> None:
        async for event in session:
            if isinstance(event, Rcpt):
                await sleep_forever()

    async with background(serve, handler, limits=Limits(handler_seconds=0.1)) as port:
        for _ in range(2):
            async with wire(port) as client:
                await client.open()
                await client.say(b"MAIL FROM:<>\r\nRCPT TO:<b@example.org>")
                replies = await client.rest()
                assert [line[:3] for line in replies.splitlines()] == [b"250", b"451", b"421"]
    assert len(caplog.records) == 2


async def test_a_mistake_in_a_handler_is_its_own(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(session: Session) -> None:
        async for event in session:
            if isinstance(event, Ehlo):
                session.accept("two\r\nlines")

    async with background(serve, handler) as port, wire(port) as client:
        await client.reply()
        await client.say(b"EHLO client.example")
        assert (await client.rest()).startswith(b"451 ")
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].exc_info[0] is LocalProtocolError


async def test_a_client_that_vanishes_while_the_handler_thinks_is_noticed_after_it() -> None:
    thinking, go_on = Event(), Event()
    taken: list[Message] = []

    async def think(message: Message) -> None:
        async for _ in message.body:
            pass
        thinking.set()
        await go_on.wait()
        taken.append(message)

    seen = Recorder()
    async with background(serve_messages, think, accept_any=True, observer=seen) as port:
        async with wire(port) as client:
            await client.to_body()
            await client.say(b"x\r\n.")
            await thinking.wait()
        go_on.set()
        await seen.somebody_left.wait()
        async with wire(port) as client:
            await client.to_body()
    assert len(taken) == 1
    assert seen.closed[0].reason in (CloseReason.EOF, CloseReason.LOST)


async def test_a_silent_client_is_told_421_and_closed() -> None:
    seen = Recorder()
    limits = Limits(command_seconds=0.1, linger_seconds=0.1)
    async with background(serve, accept_all, limits=limits, observer=seen) as port, wire(port) as client:
        assert (await client.rest()).endswith(b"421 4.4.2 Timeout exceeded\r\n")
        await seen.somebody_left.wait()  # the client never closes, and yet
    assert seen.closed == [ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.COMMAND)]


async def test_a_client_that_never_reads_is_cut_off() -> None:
    seen = Recorder()
    limits = Limits(command_seconds=0.3, linger_seconds=0.1, errors=10**9, junk=10**9, commands=10**9)
    async with background(serve, accept_all, limits=limits, observer=seen) as port, wire(port) as client:
        with suppress(BrokenResourceError):
            while True:
                await client.say(b"HELP\r\n" * 10_000)
        await seen.somebody_left.wait()
    assert seen.closed[0].reason is CloseReason.TIMEOUT


async def test_an_observer_that_fails_ends_its_session_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Recorder):
        def session_opened(self, session: Session) -> None:
            super().session_opened(session)
            if len(self.opened) == 1:
                raise ZeroDivisionError

    async with background(serve, accept_all, observer=Broken()) as port:
        async with wire(port) as client:
            with pytest.raises((EndOfStream, BrokenResourceError)):
                await client.reply()
        async with wire(port) as client:
            await client.open()
    assert len(caplog.records) == 1


async def test_a_hundred_sessions_at_once() -> None:
    inbox = Inbox()

    async def deliver(port: int) -> None:
        async with wire(port) as client:
            await client.to_body()
            assert (await client.ask(b"x\r\n.")).startswith("250 ")
            await client.ask(b"QUIT")

    async with background(serve_messages, inbox, accept_any=True) as port, create_task_group() as group:
        for _ in range(100):
            group.start_soon(deliver, port)
    assert len(inbox.bodies) == len({message.id for message in inbox.messages}) == 100


# Listening.


async def test_running_out_of_descriptors_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Exhausted:
        """A listener that fails twice before it works."""

        def __init__(self, listener: SocketListener) -> None:
            self.listener = listener
            self.failures = 2

        async def accept(self) -> SocketStream:
            if self.failures:
                self.failures -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return await self.listener.accept()

        async def aclose(self) -> None:
            await self.listener.aclose()

    async def open_exhausted(listen: list[Listener], *, has_tls: bool) -> list[Opened]:
        return [
            replace(opened, socket=Exhausted(opened.socket))  # type: ignore[arg-type]  # quacks like one
            for opened in await open_listeners(listen, has_tls=has_tls)
        ]

    monkeypatch.setattr("smtpstate_anyio._server.open_listeners", open_exhausted)
    async with background(serve, accept_all) as port, wire(port) as client:
        await client.open()
    assert [record.getMessage() for record in caplog.records] == [
        f"no connection can be accepted on 127.0.0.1:{port}: [Errno 24] Too many open files"
    ]


async def test_a_busy_port_is_an_oserror() -> None:
    async with background(serve, accept_all) as port:
        with pytest.raises(OSError, match=r".") as caught:
            await serve(accept_all, f"127.0.0.1:{port}", hostname="mx.example.org")
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("address", ["", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536", "::1:25", "[::1]"])
async def test_nonsense_to_listen_on_is_a_valueerror(address: str) -> None:
    with pytest.raises(ValueError, match=r"address|brackets|HOST"):
        await serve(accept_all, address, hostname="mx.example.org")


async def test_tls_needs_a_context_and_a_server_an_address() -> None:
    with pytest.raises(ValueError, match="context"):
        await serve(accept_all, Listener("127.0.0.1", 0, "implicit"), hostname="mx.example.org")
    with pytest.raises(ValueError, match="nowhere"):
        await serve(accept_all, hostname="mx.example.org")


async def test_a_bound_listener_says_what_it_is() -> None:
    with fail_after(SECONDS):
        async with create_task_group() as group:

            async def run(*, task_status) -> None:
                await serve(accept_all, "[::1]:0", hostname="mx.example.org", task_status=task_status)

            (bound,) = await group.start(run)
            assert str(bound) == f"[::1]:{bound.port} (plain)"
            assert bound.port > 0
            group.cancel_scope.cancel()


# The drain.


async def finish(idle: Wire, busy: Wire, over: Event) -> None:
    assert await idle.rest() == b"421 4.3.2 Service shutting down\r\n"
    await idle.stream.aclose()
    assert not over.is_set()
    assert (await busy.ask(b"x\r\n.")).startswith("250 ")
    assert await busy.rest() == b"421 4.3.2 Service shutting down\r\n"
    await busy.stream.aclose()
    await over.wait()


@pytest.mark.parametrize("how", ["cancelled", "stopped"])
async def test_a_drain_tells_idle_sessions_and_lets_busy_ones_finish(how: str) -> None:
    inbox, seen, stop, ready, over = Inbox(), Recorder(), Event(), Event(), Event()

    async def run(*, task_status) -> None:
        serve_it = partial(serve_messages, inbox, "127.0.0.1:0", hostname="mx.example.org", accept_any=True)
        try:
            await serve_it(stop=stop, observer=seen, task_status=task_status)
        finally:
            over.set()

    async def both(port: int) -> None:
        async with wire(port) as idle, wire(port) as busy:
            await idle.open()
            await busy.to_body()
            ready.set()
            await finish(idle, busy, over)

    with fail_after(SECONDS):
        async with create_task_group() as clients, create_task_group() as group:
            (bound,) = await group.start(run)
            clients.start_soon(both, bound.port)
            await ready.wait()
            await wait_all_tasks_blocked()
            if how == "stopped":
                stop.set()
            else:
                group.cancel_scope.cancel()
    assert inbox.bodies == [b"x\r\n"]
    assert len(seen.closed) == 2


async def test_grace_ends_and_the_rest_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    stop = Event()

    async def hang(message: Message) -> None:
        await sleep_forever()

    limits = Limits(linger_seconds=0.1)
    serving = background(serve_messages, hang, accept_any=True, stop=stop, grace=0.1, limits=limits)
    async with serving as port, wire(port) as waiting, wire(port) as hanging:
        await waiting.open()
        await waiting.ask(b"MAIL FROM:<>")
        await hanging.to_body()
        started = current_time()
        stop.set()
        assert await waiting.rest() == b"421 4.3.2 Service shutting down\r\n"
        assert await hanging.rest() == b"421 4.3.2 Service shutting down\r\n"
        assert 0.1 <= current_time() - started < 5.0
    assert not caplog.records
