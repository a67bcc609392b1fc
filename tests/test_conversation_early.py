"""The conversation, alone: octets that come where the peer has to wait."""

from __future__ import annotations

import pytest

from smtpstate._commands import Verb
from smtpstate._config import ServerConfig
from smtpstate._conversation import Conversation
from smtpstate._events import CloseReason, ConnectionClosed, Violation
from smtpstate._replies import Reply
from smtpstate.policy import EarlyInput, WireRules

OK = Reply(250, "OK", enhanced="2.0.0")
WAIT = b"554 5.5.0 Not synchronised: wait for the reply\r\n"


def talk(early_input: EarlyInput = EarlyInput.FORBID, *, greeted: bool = True) -> Conversation:
    conversation = Conversation(
        ServerConfig("mx.example.org", wire=WireRules(early_input=early_input)), None, handshake=False
    )
    if greeted:
        conversation.answer(Verb.CONNECT, Reply(220))
        conversation.take()
    return conversation


def ended(conversation: Conversation) -> tuple[Violation | None, bytes]:
    ending = conversation.closing.ending
    assert ending is not None
    assert ending.reason is CloseReason.VIOLATION
    return ending.violation, ending.evidence


def test_where_nothing_is_due_nothing_is_early() -> None:
    conversation = talk()
    conversation.lines.receive_data(b"NOOP\r\n")
    assert not conversation.came_early()
    assert conversation.noted == frozenset()


@pytest.mark.parametrize("queued", [False, True])
def test_before_the_greeting_has_left_the_end_takes_its_place(queued: bool) -> None:
    conversation = talk(greeted=False)
    if queued:
        conversation.answer(Verb.CONNECT, Reply(220))
    conversation.lines.receive_data(b"EHLO x\r\n")
    assert conversation.came_early()
    assert conversation.take() == b"554 Not synchronised: wait for the reply\r\n"
    assert ended(conversation) == (Violation.EARLY_TALK, b"EHLO x\r\n")


def test_a_pause_ends_it_when_more_is_there() -> None:
    conversation = talk()
    assert not conversation.pause(Violation.EARLY_GROUP)
    conversation.lines.receive_data(b"DATA\r\n")
    assert conversation.pause(Violation.EARLY_GROUP, secret=True)
    assert conversation.take() == WAIT
    assert ended(conversation) == (Violation.EARLY_GROUP, b"***")


def test_a_reply_that_was_taken_ends_the_pause() -> None:
    conversation = talk()
    conversation.pause(Violation.EARLY_GROUP)
    assert not conversation.reads_first, "no reply is queued"
    conversation.say(OK)
    assert conversation.reads_first
    assert conversation.take() == b"250 2.0.0 OK\r\n"
    assert not conversation.reads_first
    conversation.lines.receive_data(b"x")
    assert not conversation.came_early()


def test_a_reply_that_is_held_back_does_not() -> None:
    conversation = talk()
    conversation.pause(Violation.EARLY_GROUP)
    conversation.say(OK, late=True)
    assert not conversation.reads_first
    assert conversation.take() == b""
    conversation.lines.receive_data(b"x")
    assert conversation.came_early()
    assert conversation.take() == b"250 2.0.0 OK\r\n" + WAIT


def test_what_is_noted_ends_nothing() -> None:
    conversation = talk(EarlyInput.NOTE)
    conversation.pause(Violation.EARLY_COMMAND)
    conversation.lines.receive_data(b"x")
    assert not conversation.came_early()
    assert conversation.noted == {Violation.EARLY_COMMAND}
    assert conversation.closing.ending is None


@pytest.mark.parametrize("why", ["over", "handshake", "eof"])
def test_reading_first_is_for_those_who_may_still_be_early(why: str) -> None:
    conversation = talk()
    conversation.pause(Violation.EARLY_GROUP)
    conversation.say(OK)
    if why == "over":
        conversation.wind_up(ConnectionClosed(CloseReason.CLOSED))
    elif why == "handshake":
        conversation.handshake = True
    else:
        conversation.closing.eof = True
    assert not conversation.reads_first
