"""What was asked, what waits to be asked, and where the session stands if all of it succeeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from smtpstate import Connected, Data, Ehlo, EndOfMessage, Mail, Noop, Outcome, Phase, Rcpt, StartTls
from smtpstate._outstanding import Outstanding
from smtpstate._state import Session
from smtpstate._verbs import Verb
from smtpstate.extensions import XClient

if TYPE_CHECKING:
    from smtpstate import Command

MAIL = Mail.of("a@example.com")
RCPT = Rcpt.of("b@example.org")


def greeted() -> tuple[Session, Outstanding]:
    session = Session()
    outstanding = Outstanding(session)
    session.advance(Verb.CONNECT, Outcome.OK)
    outstanding.answered()
    return session, outstanding


def ask(outstanding: Outstanding, *commands: Command) -> None:
    for command in commands:
        outstanding.ask(command)
        outstanding.hope(command)


def phase(outstanding: Outstanding) -> Phase:
    return outstanding.assumed.phase


def test_the_greeting_is_due_before_anything_is_asked() -> None:
    outstanding = Outstanding(Session())
    assert (len(outstanding), outstanding.asked, outstanding.unsent) == (1, 1, 0)
    assert outstanding.first == Connected()
    assert outstanding.assumed.phase is Phase.GREETED, "as if it will be a welcome"


def test_when_all_is_answered_nothing_is_first() -> None:
    _, outstanding = greeted()
    assert (len(outstanding), outstanding.first, outstanding.all) == (0, None, ())


def test_what_is_assumed_is_where_success_leads() -> None:
    session, outstanding = greeted()
    ask(outstanding, Ehlo("c.example"), MAIL, RCPT, Data())
    assert outstanding.assumed.phase is Phase.BODY
    assert session.phase is Phase.GREETED, "nothing was answered yet"
    assert (outstanding.asked, outstanding.unsent) == (4, 4)


def test_where_a_hope_was_in_vain_what_is_left_is_hoped_for_from_there() -> None:
    session, outstanding = greeted()
    session.advance(Verb.EHLO, Outcome.OK)
    outstanding.missed()
    ask(outstanding, MAIL, RCPT)
    assert phase(outstanding) is Phase.RCPT
    session.advance(Verb.MAIL, Outcome.FAIL)
    outstanding.answered()
    outstanding.missed()
    assert phase(outstanding) is Phase.READY, "a recipient of no message"


def test_it_is_made_anew_once_however_many_hopes_were_in_vain() -> None:
    _, outstanding = greeted()
    before = outstanding.assumed
    for _ in range(3):
        outstanding.missed()
    after = outstanding.assumed
    assert after is not before
    assert outstanding.assumed is after


@pytest.mark.parametrize(
    ("before", "pipelining", "may", "reason"),
    [
        ((), False, True, "nothing is outstanding"),
        ((Noop(),), False, False, "the server takes one at a time"),
        ((MAIL, RCPT), True, True, "neither ends its group"),
        ((MAIL, Data()), True, False, "its answer decides what comes next"),
        ((StartTls(),), True, False, "nothing may follow in clear"),
    ],
)
def test_what_may_be_written_now(before: tuple[Command, ...], *, pipelining: bool, may: bool, reason: str) -> None:
    _, outstanding = greeted()
    ask(outstanding, *before)
    assert outstanding.may_write(pipelining=pipelining) is may, reason


def test_what_waits_is_written_in_order_when_those_before_are_answered() -> None:
    _, outstanding = greeted()
    ask(outstanding, Noop())
    for command in (MAIL, RCPT):
        outstanding.queue(command)
    assert (len(outstanding), outstanding.all) == (3, (Noop(), MAIL, RCPT))
    assert outstanding.next_queued(pipelining=False) is None
    outstanding.answered()
    assert outstanding.next_queued(pipelining=False) is MAIL
    assert not outstanding.has_mail, "it was handed out, and not asked yet"
    outstanding.ask(MAIL)
    assert outstanding.has_mail
    assert outstanding.next_queued(pipelining=False) is None
    assert outstanding.next_queued(pipelining=True) is RCPT
    assert outstanding.next_queued(pipelining=True) is None


@pytest.mark.parametrize("hello", [Ehlo("c.example"), XClient(name="c.example")])
def test_while_a_hello_is_outstanding_it_is_counted(hello: Command) -> None:
    _, outstanding = greeted()
    ask(outstanding, hello)
    assert outstanding.hellos == 1
    outstanding.answered()
    assert outstanding.hellos == 0


def test_the_end_of_a_message_is_a_question_like_others() -> None:
    _, outstanding = greeted()
    outstanding.ask(EndOfMessage())
    assert (outstanding.first, outstanding.hellos) == (EndOfMessage(), 0)
    outstanding.clear()
    assert len(outstanding) == 0
