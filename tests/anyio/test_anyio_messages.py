"""serve_messages: what it makes of an on_message that answers, crashes or hangs, and of clients that go away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from anyio import (
    Event,
    create_task_group,
    fail_after,
    sleep,
    sleep_forever,
)

from smtpstate import (
    CloseReason,
    ConnectionClosed,
    Ehlo,
    EndOfMessage,
    Limits,
    Rcpt,
    Refusal,
    Reply,
    Timer,
)
from smtpstate_anyio import IncompleteMessage, Listener, Message, Session, serve_messages
from tests.anyio.loopback import SECONDS, Inbox, Recorder, background, wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.anyio

TAKES = {"domains": ["example.org"]}


async def accept_all(session: Session) -> None:
    async for event in session:
        if isinstance(event, Rcpt | EndOfMessage):
            session.accept()


async def test_a_message_arrives_with_its_envelope() -> None:
    inbox, seen = Inbox(), Recorder()
    async with background(serve_messages, inbox, **TAKES, observer=seen) as port, wire(port) as client:
        await client.open()
        await client.ask(b"MAIL FROM:<a@example.com> SIZE=100")
        assert await client.ask(b"RCPT TO:<b@example.com>") == "550 5.7.1 No mail is taken here for that address"
        await client.ask(b"RCPT TO:<b@EXAMPLE.org>")
        await client.ask(b"RCPT TO:<postmaster>")
        await client.ask(b"DATA")
        reply = await client.ask(b"Subject: x\r\n\r\n..dot\r\n.")
        (message,) = inbox.messages
        assert reply == f"250 2.0.0 Message accepted as {message.id}"
        assert await client.ask(b"QUIT") == "221 2.0.0 Bye"
        assert await client.rest() == b""
    assert inbox.bodies == [b"Subject: x\r\n\r\n.dot\r\n"]
    assert message.sender.address == "a@example.com"
    assert [path.address for path in message.recipients] == ["b@EXAMPLE.org", "postmaster"]
    assert (message.size, message.tls, message.received_with) == (100, None, "ESMTP")
    assert message.hello == Ehlo("client.example")
    assert message.peer is not None
    assert message.peer.address == "127.0.0.1"
    assert seen.done == [(Reply(250, f"Message accepted as {message.id}", enhanced="2.0.0"), 20)]
    assert [closed.reason for closed in seen.closed] == [CloseReason.QUIT]
    assert len(seen.opened) == 1
    assert seen.lines[0].line == b"220 mx.example.org ESMTP\r\n"


async def test_a_pipelined_session_in_one_write_is_answered_in_full() -> None:
    inbox = Inbox()
    envelope = b"MAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
    async with background(serve_messages, inbox, **TAKES) as port, wire(port) as client:
        await client.open()
        await client.say(envelope + b"one\r\n.\r\n" + envelope + b"two\r\n.\r\nQUIT")
        replies = await client.rest()
    assert [line[:3] for line in replies.splitlines()] == [b"250", b"250", b"354", b"250"] * 2 + [b"221"]
    assert inbox.bodies == [b"one\r\n", b"two\r\n"]


async def test_helo_means_smtp_in_the_received_line() -> None:
    inbox = Inbox()
    async with background(serve_messages, inbox, accept_any=True) as port, wire(port) as client:
        await client.reply()
        await client.ask(b"HELO client.example")
        await client.say(b"MAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n\r\n.\r\nQUIT")
        await client.rest()
    assert [message.received_with for message in inbox.messages] == ["SMTP"]


async def say_later(message: Message) -> None:
    async for _ in message.body:
        pass
    raise Refusal(554, "No, after all", enhanced="5.7.1")


async def say_at_once(message: Message) -> None:
    raise Refusal(452, "Not now\r\n250 fooled")


async def crash_later(message: Message) -> None:
    async for _ in message.body:
        pass
    raise ZeroDivisionError


async def crash_at_once(message: Message) -> None:
    raise ZeroDivisionError


async def say_in_a_task_group(message: Message) -> None:
    async with create_task_group():
        raise Refusal(450, "Busy")


async def do_nothing(message: Message) -> None:
    pass


OUTCOMES = [
    pytest.param(say_later, "554 5.7.1 No, after all", 0, id="a refusal after the body is the reply"),
    pytest.param(say_at_once, "452 4.0.0 Not now  250 fooled", 0, id="a refusal in the body goes out at its end"),
    pytest.param(say_in_a_task_group, "450 4.0.0 Busy", 0, id="a task group does not hide a refusal"),
    pytest.param(crash_later, "451 4.3.0 Local error in processing", 1, id="a crash after the body"),
    pytest.param(crash_at_once, "451 4.3.0 Local error in processing", 1, id="a crash in the body"),
    pytest.param(do_nothing, "250 2.0.0 Message accepted", 0, id="a body nobody reads is read all the same"),
]


@pytest.mark.parametrize(("on_message", "said", "records"), OUTCOMES)
async def test_what_on_message_does_is_the_reply_and_the_session_goes_on(
    on_message: Callable[[Message], Awaitable[None]], said: str, records: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with background(serve_messages, on_message, accept_any=True) as port, wire(port) as client:
        await client.to_body()
        await client.say(b"x" * 100_000 + b"\r\n")
        reply = await client.ask(b"y\r\n.")
        assert reply.startswith(said)
        assert (await client.ask(b"MAIL FROM:<>")).startswith("250 ")
        await client.ask(b"QUIT")
    assert len(caplog.records) == records


async def test_a_client_hears_354_although_on_message_has_other_work_first() -> None:
    go = Event()

    async def prepare(message: Message) -> None:
        await go.wait()

    async with background(serve_messages, prepare, accept_any=True) as port, wire(port) as client:
        await client.to_body()  # up to the 354
        go.set()
        assert (await client.ask(b"x\r\n.")).startswith("250 ")


async def test_a_hanging_on_message_is_cancelled_after_the_body_and_the_session_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cancelled = []

    async def hang(message: Message) -> None:
        async for _ in message.body:
            pass
        try:
            await sleep_forever()
        finally:
            cancelled.append(message.id)

    seen = Recorder()
    limits = Limits(handler_seconds=0.1)
    serving = background(serve_messages, hang, accept_any=True, limits=limits, observer=seen)
    async with serving as port, wire(port) as client:
        await client.to_body()
        assert await client.ask(b"x\r\n.") == "451 4.3.0 Local error in processing"
        assert (await client.ask(b"MAIL FROM:<>")).startswith("250 ")
        await client.ask(b"QUIT")
    assert len(cancelled) == len(caplog.records) == 1
    assert seen.done[0][0] == Reply(451, "Local error in processing", enhanced="4.3.0")


async def test_a_hanging_on_message_in_the_body_ends_the_session_with_421(caplog: pytest.LogCaptureFixture) -> None:
    async def hang(message: Message) -> None:
        await sleep_forever()

    seen = Recorder()
    limits = Limits(handler_seconds=0.1)
    serving = background(serve_messages, hang, accept_any=True, limits=limits, observer=seen)
    async with serving as port, wire(port) as client:
        await client.to_body()
        await client.say(b"x")
        assert await client.rest() == b"421 4.3.0 Local error in processing\r\n"
        await client.stream.aclose()
        async with wire(port) as another:
            await another.open()
    assert len(caplog.records) == 1
    assert seen.done[0] == (None, 0)
    assert seen.closed[0] == ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.HANDLER)


async def test_waiting_for_a_slow_client_costs_the_handler_nothing() -> None:
    inbox = Inbox()
    limits = Limits(handler_seconds=0.2)
    async with background(serve_messages, inbox, accept_any=True, limits=limits) as port, wire(port) as client:
        await client.to_body()
        for _ in range(4):
            await sleep(0.1)
            await client.say(b"x")
        assert (await client.ask(b".")).startswith("250 ")
    assert inbox.bodies == [b"x\r\n" * 4]


async def test_a_message_cut_short_never_looks_complete(caplog: pytest.LogCaptureFixture) -> None:
    failures: list[BaseException] = []
    done = Event()
    seen = Recorder()

    async def collect(message: Message) -> None:
        try:
            async for _ in message.body:
                pass
        except IncompleteMessage as error:
            failures.append(error)
            with pytest.raises(IncompleteMessage):
                await anext(message.body)
            done.set()
            raise

    async with background(serve_messages, collect, accept_any=True, observer=seen) as port:
        async with wire(port) as client:
            await client.to_body()
            await client.say(b"half a message")
        await done.wait()
    assert len(failures) == 1
    assert seen.done == [(None, 16)]
    assert not caplog.records  # it is the peer's doing


async def test_swallowing_an_incomplete_message_gives_no_yes() -> None:
    async def swallow(message: Message) -> None:
        try:
            async for _ in message.body:
                pass
        except IncompleteMessage:
            return

    seen = Recorder()
    limits = Limits(message=1000)
    serving = background(serve_messages, swallow, accept_any=True, limits=limits, observer=seen)
    async with serving as port, wire(port) as client:
        await client.to_body()
        assert await client.ask(b"x" * 1200 + b"\r\n.") == "552 5.3.4 Message exceeds the size limit"
        assert (await client.ask(b"MAIL FROM:<>")).startswith("250 ")
    assert seen.done[0][0] is None


async def test_far_too_much_is_answered_at_once_and_closes() -> None:
    inbox = Inbox()
    limits = Limits(message=1000)
    async with background(serve_messages, inbox, accept_any=True, limits=limits) as port, wire(port) as client:
        await client.to_body()
        await client.say(b"x" * 2000)
        assert await client.rest() == b"552 5.3.4 Message exceeds the size limit\r\n"
    assert not inbox.messages


async def test_a_body_can_be_read_once_and_only_inside_on_message() -> None:
    kept: list[Message] = []

    async def keep(message: Message) -> None:
        async for _ in message.body:
            break
        async for _ in message.body:  # going on is not reading again
            pass
        with pytest.raises(RuntimeError, match="once"):
            async for _ in message.body:
                pass
        kept.append(message)

    async with background(serve_messages, keep, accept_any=True) as port, wire(port) as client:
        await client.to_body()
        assert (await client.ask(b"x\r\n.")).startswith("250 ")
        with pytest.raises(RuntimeError, match="gone"):
            await anext(kept[0].body)


async def test_a_listener_may_take_any_recipient_while_the_others_do_not() -> None:
    inbox = Inbox()
    everywhere = Listener("127.0.0.1", 0, accept_any=True)
    ports: list[int] = []
    with fail_after(SECONDS):
        async with create_task_group() as group:

            async def run(*, task_status) -> None:
                await serve_messages(
                    inbox, everywhere, "127.0.0.1:0", hostname="mx.example.org", task_status=task_status
                )

            ports += [bound.port for bound in await group.start(run)]
            for port, code in zip(ports, ("250", "550"), strict=True):
                async with wire(port) as client:
                    await client.open()
                    await client.ask(b"MAIL FROM:<>")
                    assert (await client.ask(b"RCPT TO:<x@example.net>"))[:3] == code
            group.cancel_scope.cancel()
