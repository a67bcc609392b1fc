"""serve_messages on threads: what it makes of an on_message that answers, crashes or hangs, and of who goes away."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING

import pytest

from smtpstate import CloseReason, ConnectionClosed, Limits, Refusal, Reply, Timer
from smtpstate_blocking import IncompleteMessage, Listener, Message, serving_messages
from tests.blocking.sockets import SECONDS, Inbox, Recorder, background, wire

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_message_arrives_with_its_envelope() -> None:
    inbox, seen = Inbox(), Recorder()
    with background(serving_messages, inbox, domains=["example.org"], observer=seen) as port, wire(port) as client:
        client.open()
        client.ask(b"MAIL FROM:<a@example.com> SIZE=100")
        assert client.ask(b"RCPT TO:<b@example.com>") == "550 5.7.1 No mail is taken here for that address"
        client.ask(b"RCPT TO:<b@EXAMPLE.org>")
        client.ask(b"RCPT TO:<postmaster>")
        client.ask(b"DATA")
        reply = client.ask(b"Subject: x\r\n\r\n..dot\r\n.")
        (message,) = inbox.messages
        assert reply == f"250 2.0.0 Message accepted as {message.id}"
        assert client.ask(b"QUIT") == "221 2.0.0 Bye"
        assert client.rest() == b""
    assert inbox.bodies == [b"Subject: x\r\n\r\n.dot\r\n"]
    assert message.sender.address == "a@example.com"
    assert [path.address for path in message.recipients] == ["b@EXAMPLE.org", "postmaster"]
    assert (message.size, message.tls, message.received_with) == (100, None, "ESMTP")
    assert message.peer is not None
    assert message.peer.address == "127.0.0.1"
    assert seen.done == [(Reply(250, f"Message accepted as {message.id}", enhanced="2.0.0"), 20)]


def test_a_pipelined_session_in_one_write_is_answered_in_full() -> None:
    inbox = Inbox()
    envelope = b"MAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
    with background(serving_messages, inbox, accept_any=True) as port, wire(port) as client:
        client.open()
        client.say(envelope + b"one\r\n.\r\n" + envelope + b"two\r\n.\r\nQUIT")
        replies = client.rest()
    assert [line[:3] for line in replies.splitlines()] == [b"250", b"250", b"354", b"250"] * 2 + [b"221"]
    assert inbox.bodies == [b"one\r\n", b"two\r\n"]


def say_later(message: Message) -> None:
    list(message.body)
    raise Refusal(554, "No, after all", enhanced="5.7.1")


def say_at_once(message: Message) -> None:
    raise Refusal(452, "Not now\r\n250 fooled")


def crash_later(message: Message) -> None:
    list(message.body)
    raise ZeroDivisionError


def crash_at_once(message: Message) -> None:
    raise ZeroDivisionError


def do_nothing(message: Message) -> None:
    pass


OUTCOMES = [
    pytest.param(say_later, "554 5.7.1 No, after all", 0, id="a refusal after the body is the reply"),
    pytest.param(say_at_once, "452 4.0.0 Not now  250 fooled", 0, id="a refusal in the body goes out at its end"),
    pytest.param(crash_later, "451 4.3.0 Local error in processing", 1, id="a crash after the body"),
    pytest.param(crash_at_once, "451 4.3.0 Local error in processing", 1, id="a crash in the body"),
    pytest.param(do_nothing, "250 2.0.0 Message accepted", 0, id="a body nobody reads is read all the same"),
]


@pytest.mark.parametrize(("on_message", "said", "records"), OUTCOMES)
def test_what_on_message_does_is_the_reply_and_the_session_goes_on(
    on_message: Callable[[Message], None], said: str, records: int, caplog: pytest.LogCaptureFixture
) -> None:
    with background(serving_messages, on_message, accept_any=True) as port, wire(port) as client:
        client.to_body()
        client.say(b"x" * 100_000 + b"\r\n")
        assert client.ask(b"y\r\n.").startswith(said)
        assert client.ask(b"MAIL FROM:<>").startswith("250 ")
        client.ask(b"QUIT")
    assert len(caplog.records) == records


def test_a_client_hears_354_although_on_message_has_other_work_first() -> None:
    go = Event()

    def prepare(message: Message) -> None:
        go.wait(SECONDS)

    with background(serving_messages, prepare, accept_any=True) as port, wire(port) as client:
        client.to_body()  # up to the 354
        go.set()
        assert client.ask(b"x\r\n.").startswith("250 ")


LATE = [
    pytest.param(
        True,
        b"x\r\n.",
        b"451 4.3.0 Local error in processing\r\n421 4.3.0 Local error in processing\r\n",
        (Reply(451, "Local error in processing", enhanced="4.3.0"), 3),
        CloseReason.CLOSED,
        id="after the body",
    ),
    pytest.param(
        False, b"x", b"421 4.3.0 Local error in processing\r\n", (None, 0), CloseReason.TIMEOUT, id="inside the body"
    ),
]


@pytest.mark.parametrize(("reads", "said", "heard", "done", "reason"), LATE)
def test_an_on_message_that_is_late_is_answered_for_and_its_yes_is_worth_nothing(
    said: bytes,
    heard: bytes,
    done: tuple[Reply | None, int],
    reason: CloseReason,
    caplog: pytest.LogCaptureFixture,
    *,
    reads: bool,
) -> None:
    go, failures = Event(), list[Exception]()

    def hang(message: Message) -> None:
        if reads:
            list(message.body)
        go.wait(SECONDS)
        try:
            list(message.body)
        except Exception as error:
            failures.append(error)

    seen, limits = Recorder(), Limits(handler_seconds=0.1, linger_seconds=0.1)
    serving = background(serving_messages, hang, accept_any=True, limits=limits, observer=seen)
    with serving as port, wire(port) as client:
        client.to_body()
        client.say(said)
        assert client.rest() == heard
        assert not seen.done
        go.set()
        assert seen.somebody_left.wait(SECONDS)
    assert seen.done == [done]
    assert [type(failure) for failure in failures] == [RuntimeError if reads else IncompleteMessage]
    assert [record.getMessage().partition(" ")[0] for record in caplog.records] == ["session", "message"]
    assert [closed.reason for closed in seen.closed] == [reason]
    assert seen.closed[0].timer is (None if reads else Timer.HANDLER)


def test_a_message_cut_short_never_looks_complete(caplog: pytest.LogCaptureFixture) -> None:
    failures: list[BaseException] = []
    seen = Recorder()

    def collect(message: Message) -> None:
        try:
            list(message.body)
        except IncompleteMessage as error:
            failures.append(error)
            with pytest.raises(IncompleteMessage):
                next(message.body)
            raise

    with background(serving_messages, collect, accept_any=True, observer=seen) as port:
        with wire(port) as client:
            client.to_body()
            client.say(b"half a message")
        assert seen.somebody_left.wait(SECONDS)
    assert len(failures) == 1
    assert seen.done == [(None, 16)]
    assert not caplog.records  # it is the peer's doing


def test_swallowing_an_incomplete_message_gives_no_yes() -> None:
    def swallow(message: Message) -> None:
        try:
            list(message.body)
        except IncompleteMessage:
            return

    seen, limits = Recorder(), Limits(message=1000)
    serving = background(serving_messages, swallow, accept_any=True, limits=limits, observer=seen)
    with serving as port, wire(port) as client:
        client.to_body()
        assert client.ask(b"x" * 1200 + b"\r\n.") == "552 5.3.4 Message exceeds the size limit"
        assert client.ask(b"MAIL FROM:<>").startswith("250 ")
    assert seen.done[0][0] is None


def test_a_body_can_be_read_once_and_only_inside_on_message() -> None:
    kept: list[Message] = []

    def keep(message: Message) -> None:
        for _ in message.body:
            break
        list(message.body)  # going on is not reading again
        with pytest.raises(RuntimeError, match="once"):
            list(message.body)
        kept.append(message)

    with background(serving_messages, keep, accept_any=True) as port, wire(port) as client:
        client.to_body()
        assert client.ask(b"x\r\n.").startswith("250 ")
        with pytest.raises(RuntimeError, match="gone"):
            next(kept[0].body)


def test_chunks_are_taken_piece_by_piece() -> None:
    inbox = Inbox()
    with background(serving_messages, inbox, accept_any=True) as port, wire(port) as client:
        client.open()
        client.ask(b"MAIL FROM:<>")
        client.ask(b"RCPT TO:<b@example.org>")
        assert client.ask(b"BDAT 4\r\nab").startswith("250 ")
        assert client.ask(b"NOOP").startswith("250 ")
        assert client.ask(b"BDAT 5 LAST\r\ncde").startswith("250 ")
    assert inbox.bodies == [b"ab\r\ncde\r\n"]


def test_a_listener_may_take_any_recipient_while_the_others_do_not() -> None:
    everywhere = Listener("127.0.0.1", 0, accept_any=True)
    with serving_messages(Inbox(), everywhere, "127.0.0.1:0", hostname="mx.example.org") as bound:
        for listener, code in zip(bound, ("250", "550"), strict=True):
            with wire(listener.port) as client:
                client.open()
                client.ask(b"MAIL FROM:<>")
                assert client.ask(b"RCPT TO:<b@example.org>").startswith(code)


def test_a_closed_connection_is_the_reason_that_a_session_ends_with() -> None:
    seen = Recorder()
    with background(serving_messages, Inbox(), observer=seen) as port:
        with wire(port) as client:
            client.open()
        assert seen.somebody_left.wait(SECONDS)
    assert seen.closed == [ConnectionClosed(CloseReason.EOF)]
