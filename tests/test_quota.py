"""What LIMITS counts, alone."""

from __future__ import annotations

import pytest

from smtpstate._address import ForwardPath, Mailbox
from smtpstate._carried import ServerLimits
from smtpstate._commands import Command, Mail, Noop, Rcpt
from smtpstate._errors import LocalProtocolError
from smtpstate._quota import Excess, Plan, Tally, plan

TRANSACTIONS, RECIPIENTS, DOMAINS = Excess.TRANSACTIONS, Excess.RECIPIENTS, Excess.DOMAINS
MAIL, NOOP = Mail.of("me@me.example"), Noop()
A, B, Y, Z = (Rcpt.of(address) for address in ("a@x.example", "b@x.example", "y@y.example", "z@z.example"))
POSTMASTER = Rcpt.of("postmaster")


@pytest.mark.parametrize(
    ("limits", "had", "command", "excess", "reason"),
    [
        (ServerLimits(), [MAIL, *([A] * 50), MAIL], MAIL, None, "nothing is limited"),
        (ServerLimits(transactions=2), [MAIL], MAIL, None, "the second of two"),
        (ServerLimits(transactions=2), [MAIL, MAIL], MAIL, TRANSACTIONS, "the third"),
        (ServerLimits(transactions=1), [MAIL], A, None, "its recipients are none"),
        (ServerLimits(recipients=2), [MAIL, A], A, None, "the second of two"),
        (ServerLimits(recipients=2), [MAIL, A, A], B, RECIPIENTS, "the third; the same one twice is two"),
        (ServerLimits(recipients=2), [MAIL, A, A], MAIL, None, "another transaction"),
        (ServerLimits(recipients=2), [MAIL, A, A, MAIL], B, None, "begins anew"),
        (ServerLimits(recipient_domains=1), [MAIL, A], B, None, "the same domain"),
        (ServerLimits(recipient_domains=1), [MAIL, A], Rcpt.of("c@X.EXAMPLE"), None, "in any case"),
        (ServerLimits(recipient_domains=1), [MAIL, A], Y, DOMAINS, "another one"),
        (ServerLimits(recipient_domains=1), [MAIL, A, MAIL], Y, DOMAINS, "a session, not a transaction"),
        (ServerLimits(recipient_domains=2), [MAIL, A, Y], Z, DOMAINS, "the third of two"),
        (ServerLimits(recipient_domains=1), [MAIL, A], POSTMASTER, None, "he has no domain"),
        (ServerLimits(recipient_domains=1), [MAIL, POSTMASTER], A, None, "nor does he count"),
        (ServerLimits(None, 1, 1), [MAIL, A], Y, DOMAINS, "of two reasons, the one that a new transaction leaves"),
        (ServerLimits(1, 1, 1), [MAIL, A, NOOP], NOOP, None, "nothing else is counted"),
    ],
)
def test_what_there_is_too_much_of(
    limits: ServerLimits, had: list[Command], command: Command, excess: Excess | None, reason: str
) -> None:
    tally = Tally()
    for one in had:
        assert tally.excess(one, limits) is None
        tally.count(one, limits)
    assert tally.excess(command, limits) is excess, reason
    if excess is None:
        tally.spend(command, limits)
    else:
        with pytest.raises(LocalProtocolError, match=f"no more {excess.value}"):
            tally.spend(command, limits)
        assert tally.excess(command, limits) is excess, "and nothing has changed"


def test_a_domain_is_the_same_as_its_a_labels() -> None:
    tally, limits = Tally(), ServerLimits(recipient_domains=1)
    tally.count(Rcpt.of("a@xn--bcher-kva.example"), limits)
    assert tally.excess(Rcpt(ForwardPath(Mailbox("b", "b\xfccher.example"))), limits) is None


def test_a_copy_goes_its_own_way() -> None:
    limits = ServerLimits(1, 1, 1)
    tally = Tally()
    copy = tally.copy()
    for command in (MAIL, A):
        copy.count(command, limits)
    assert copy.excess(MAIL, limits) is copy.copy().excess(MAIL, limits) is TRANSACTIONS
    assert copy.excess(Y, limits) is copy.copy().excess(Y, limits) is DOMAINS
    assert tally.excess(MAIL, limits) is tally.excess(Y, limits) is None


X1, X2, X3 = "1@x.example", "2@x.example", "3@x.example"
Y1, Y2 = "1@y.example", "2@y.example"


@pytest.mark.parametrize(
    ("limits", "had", "addresses", "batches", "left_out", "reason"),
    [
        (ServerLimits(), [], [], (), {}, "nobody"),
        (ServerLimits(), [MAIL], [X1, Y1, X2], ((0, 1, 2),), {}, "no limits, one transaction"),
        (ServerLimits(9, 9, 9), [], [], (), {}, "nobody"),
        (ServerLimits(9, 9, 9), [], [X1, Y1, X2], ((0, 1, 2),), {}, "within limits, too"),
        (ServerLimits(recipients=2), [], [X1, Y1, X2, Y2, X3], ((0, 1), (2, 3), (4,)), {}, "RCPTMAX, in order"),
        (ServerLimits(recipients=2), [MAIL, A, B], [X1, X2], ((0, 1),), {}, "an earlier transaction was full"),
        (ServerLimits(2, 2), [], [X1, X2, X3, Y1, Y2], ((0, 1), (2, 3)), {4: TRANSACTIONS}, "MAILMAX"),
        (ServerLimits(2, 2), [MAIL], [X1, X2, X3], ((0, 1),), {2: TRANSACTIONS}, "of which one is gone"),
        (ServerLimits(1), [MAIL], [X1, X2], (), {0: TRANSACTIONS, 1: TRANSACTIONS}, "or all"),
        (ServerLimits(None, None, 1), [], [X1, Y1, X2], ((0, 2),), {1: DOMAINS}, "RCPTDOMAINMAX: the first stays"),
        (ServerLimits(None, None, 1), [Y], [X1, Y1, X2], ((1,),), {0: DOMAINS, 2: DOMAINS}, "or an earlier one"),
        (ServerLimits(None, 1, 1), [], [X1, Y1, X2], ((0,), (2,)), {1: DOMAINS}, "no transaction for what cannot go"),
        (ServerLimits(1, 1, 1), [], [X1, Y1, X2], ((0,),), {1: DOMAINS, 2: TRANSACTIONS}, "each has its reason"),
        (ServerLimits(1, 1, 2), [], [X1, Y1, "3@z.example"], ((0,),), {1: TRANSACTIONS, 2: TRANSACTIONS}, "not sent"),
    ],
)
def test_who_is_sent_to_together(
    limits: ServerLimits,
    had: list[Command],
    addresses: list[str],
    batches: tuple[tuple[int, ...], ...],
    left_out: dict[int, Excess],
    reason: str,
) -> None:
    tally = Tally()
    for one in had:
        tally.count(one, limits)
    assert plan(addresses, limits, tally) == Plan(batches, left_out), reason
    assert plan(addresses, limits, tally) == Plan(batches, left_out), "planning spends nothing"


def test_what_is_no_address_cannot_be_planned_for() -> None:
    with pytest.raises(LocalProtocolError):
        plan(["no address"], ServerLimits(recipients=1), Tally())
