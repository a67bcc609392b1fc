"""What became of a message, by what was answered."""

from __future__ import annotations

import pytest

from smtpstate._events import CloseReason, ConnectionClosed
from smtpstate._outcomes import Answers, Delivery, RecipientResult, Result, is_yes
from smtpstate._replies import Reply

ACCEPTED, RETRY, REFUSED, UNKNOWN = Result.ACCEPTED, Result.RETRY, Result.REFUSED, Result.UNKNOWN
A, B, C = "a@x.example", "b@x.example", "c@x.example"
YES, NO, LATER, BYE = Reply(250), Reply(550), Reply(450), Reply(421)
LOST = ConnectionClosed(CloseReason.EOF)
TOLD = ConnectionClosed(CloseReason.GOING_AWAY, reply=BYE)


def answers(
    mail: Reply | None = YES,
    rcpts: tuple[Reply, ...] = (YES, YES, YES),
    finals: tuple[Reply, ...] = (),
    verdict: Reply | None = None,
    refused: dict[int, Reply] | None = None,
) -> Answers:
    found = Answers((A, B, C))
    found.mail, found.verdict = mail, verdict
    found.rcpts.extend(rcpts)
    found.finals.extend(finals)
    found.refused |= refused or {}
    return found


def outcomes(delivery: Delivery) -> list[tuple[Result, Reply | None]]:
    assert [result.address for result in delivery] == [A, B, C]
    return [(result.outcome, result.reply) for result in delivery]


@pytest.mark.parametrize(
    ("heard", "expected", "reason"),
    [
        (answers(finals=(YES,)), [(ACCEPTED, YES)] * 3, "the end decides for all"),
        (answers(finals=(LATER,)), [(RETRY, LATER)] * 3, "4yz is for now"),
        (answers(finals=(NO,)), [(REFUSED, NO)] * 3, "5yz is for good"),
        (answers(mail=NO, rcpts=()), [(REFUSED, NO)] * 3, "a refusal of MAIL stands"),
        (answers(mail=LATER, rcpts=(NO, NO, NO)), [(RETRY, LATER)] * 3, "whatever was said to the RCPTs behind it"),
        (answers(rcpts=(YES, NO, LATER), finals=(YES,)), [(ACCEPTED, YES), (REFUSED, NO), (RETRY, LATER)], "of RCPT"),
        (answers(verdict=NO), [(REFUSED, NO)] * 3, "of DATA, or in mid-body"),
        (answers(rcpts=(YES, LATER, YES), verdict=NO), [(REFUSED, NO), (RETRY, LATER), (REFUSED, NO)], "of the others"),
        (
            answers(rcpts=(NO, YES), refused={1: LATER}, finals=(YES,)),
            [(REFUSED, NO), (RETRY, LATER), (ACCEPTED, YES)],
            "ours",
        ),
        (
            answers(mail=None, rcpts=(), refused={0: NO}),
            [(REFUSED, NO), (RETRY, None), (RETRY, None)],
            "nothing was sent",
        ),
        (
            answers(mail=NO, rcpts=(), refused={0: LATER}),
            [(RETRY, LATER), (REFUSED, NO), (REFUSED, NO)],
            "ours comes first",
        ),
    ],
)
def test_the_first_refusal_of_a_recipient_stands_and_the_end_decides_for_the_others(
    heard: Answers, expected: list[tuple[Result, Reply | None]], reason: str
) -> None:
    assert outcomes(heard.delivery(RETRY, None, each=False)) == expected, reason


FULL = Reply(552)


@pytest.mark.parametrize(
    ("rcpts", "reply", "expected", "reason"),
    [
        ((YES, FULL, FULL), FULL, RETRY, "RFC 821's code for too many recipients"),
        ((YES, NO, Reply(552, enhanced="5.5.3")), Reply(552, enhanced="5.5.3"), RETRY, "RFC 3463 section 3.6"),
        ((YES, NO, Reply(552, enhanced="5.0.0")), Reply(552, enhanced="5.0.0"), RETRY, "a code that says nothing"),
        ((YES, NO, Reply(552, enhanced="5.2.2")), Reply(552, enhanced="5.2.2"), REFUSED, "the mailbox is full"),
        ((YES, NO, Reply(552, enhanced="5.3.4")), Reply(552, enhanced="5.3.4"), REFUSED, "the message is too large"),
        ((NO, LATER, FULL), FULL, REFUSED, "there was room for nobody, so it is not about their number"),
        ((YES, NO, Reply(554)), Reply(554), REFUSED, "no other code means it"),
    ],
)
def test_552_to_one_recipient_too_many_is_for_now(
    rcpts: tuple[Reply, ...], reply: Reply, expected: Result, reason: str
) -> None:
    """RFC 5321 section 4.5.3.1.10."""
    delivery = answers(rcpts=rcpts, finals=(YES,)).delivery(RETRY, None, each=False)
    assert outcomes(delivery)[-1] == (expected, reply), reason


@pytest.mark.parametrize(
    "heard",
    [
        answers(mail=FULL, rcpts=()),
        answers(finals=(FULL,)),
        answers(verdict=FULL),
        answers(rcpts=(YES, YES), refused={2: FULL}, finals=(FULL,)),
    ],
)
def test_552_to_anything_else_is_for_good(heard: Answers) -> None:
    """To MAIL, to DATA, in mid-body and at the end it is about the message; and what we say ourselves we mean."""
    assert outcomes(heard.delivery(RETRY, None, each=False)) == [(REFUSED, FULL)] * 3


@pytest.mark.parametrize(
    ("finals", "expected", "reason"),
    [
        ((YES, LATER), [(ACCEPTED, YES), (REFUSED, NO), (RETRY, LATER)], "who was refused has none"),
        ((YES,), [(ACCEPTED, YES), (REFUSED, NO), (UNKNOWN, None)], "the last one is missing"),
        ((), [(UNKNOWN, None), (REFUSED, NO), (UNKNOWN, None)], "all are"),
    ],
)
def test_in_lmtp_each_that_was_accepted_has_an_answer_of_its_own(
    finals: tuple[Reply, ...], expected: list[tuple[Result, Reply | None]], reason: str
) -> None:
    """RFC 2033 section 4.2."""
    assert outcomes(answers(rcpts=(YES, NO, YES), finals=finals).delivery(UNKNOWN, LOST, each=True)) == expected, reason


@pytest.mark.parametrize(
    ("undecided", "closed", "told"),
    [(RETRY, None, None), (RETRY, LOST, None), (RETRY, TOLD, BYE), (UNKNOWN, LOST, None), (UNKNOWN, TOLD, None)],
)
def test_who_has_no_answer_has_the_last_word_of_the_server_unless_it_is_unknown(
    undecided: Result, closed: ConnectionClosed | None, told: Reply | None
) -> None:
    delivery = answers(rcpts=(NO, YES)).delivery(undecided, closed, each=False)
    assert outcomes(delivery) == [(REFUSED, NO), (undecided, told), (undecided, told)]
    assert delivery.closed is closed


def test_a_delivery_can_be_asked() -> None:
    delivery = Delivery((RecipientResult(A, ACCEPTED, YES), RecipientResult(B, RETRY, None)))
    assert (delivery.having(ACCEPTED), delivery.having(RETRY), delivery.having(REFUSED)) == ((A,), (B,), ())
    assert not delivery.all_accepted
    assert Delivery(delivery.results[:1]).all_accepted


def test_the_first_digit_says_yes() -> None:
    assert [is_yes(reply) for reply in (None, Reply(252), Reply(354), NO)] == [False, True, False, False]
    assert answers(rcpts=(YES, NO, Reply(251))).accepted == 2
