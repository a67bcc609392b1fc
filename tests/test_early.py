"""Where a peer has to wait, alone."""

from __future__ import annotations

import pytest

from smtpstate._early import SyncPoint, early, has_to_wait
from smtpstate._events import Violation
from smtpstate._verbs import Verb


@pytest.mark.parametrize(
    ("verb", "pipelined", "alone"),
    [
        (Verb.MAIL, False, True),
        (Verb.RCPT, False, True),
        (Verb.RSET, False, True),
        (Verb.EHLO, True, True),
        (Verb.HELO, True, True),
        (Verb.DATA, True, True),
        (Verb.NOOP, True, True),
        (Verb.VRFY, True, True),
        (Verb.EXPN, True, True),
        (Verb.AUTH, True, True),
        (Verb.STARTTLS, True, True),
        (Verb.XCLIENT, True, True),
        (Verb.OWN, True, True),
        (Verb.QUIT, False, False),
        (Verb.BDAT, False, False),
        (Verb.XFORWARD, False, False),
    ],
)
def test_after_which_verbs_it_has_to_wait(verb: Verb, pipelined: bool, alone: bool) -> None:
    assert has_to_wait(verb, pipelining=True) is pipelined
    assert has_to_wait(verb, pipelining=False) is alone


def test_what_it_is_called() -> None:
    assert {early(verb) for verb in (Verb.EHLO, Verb.HELO, Verb.LHLO)} == {Violation.EARLY_COMMAND}
    assert early(Verb.DATA) is Violation.EARLY_GROUP


def test_it_is_over_when_the_reply_has_left_and_not_before() -> None:
    point = SyncPoint()
    assert (point.due, point.reads_first) == (Violation.EARLY_TALK, False)
    point.left()
    assert point.due is Violation.EARLY_TALK, "what left was something else"
    point.answered()
    assert point.reads_first
    point.left()
    assert point.due is None
    assert not point.reads_first
    point.reach(Violation.EARLY_GROUP, secret=True)
    assert (point.due, point.secret, point.reads_first) == (Violation.EARLY_GROUP, True, False)
    point.answered()
    point.fed()
    assert not point.reads_first, "it is known by now"
    point.left()
    point.reach(Violation.EARLY_COMMAND)
    assert (point.due, point.secret) == (Violation.EARLY_COMMAND, False)
