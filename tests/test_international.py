"""What SMTPUTF8 is asked for, and what becomes of addresses where it is not."""

from __future__ import annotations

import pytest

from smtpstate._address import ForwardPath, Mailbox, ReversePath
from smtpstate._commands import Mail, Rcpt
from smtpstate._errors import LocalProtocolError
from smtpstate._international import HEADERS_NEED_UTF8, RECIPIENT_NEEDS_UTF8, SENDER_NEEDS_UTF8, spelled
from smtpstate._replies import Reply

ME, YOU, U_DOMAIN, U_LOCAL = "me@x.example", "you@x.example", "you@b\u00fccher.example", "\u00e9@b\u00fccher.example"
A_DOMAIN = "you@xn--bcher-kva.example"

ROWS: list[tuple[str, tuple[str, ...], bool, tuple[str, bool, tuple[str, ...]], str]] = [
    (ME, (YOU,), False, (ME, False, (YOU,)), "nothing needs it"),
    ("", ("Postmaster",), False, ("", False, ("Postmaster",)), "nor do these"),
    (ME, (U_DOMAIN, YOU), False, (ME, False, (A_DOMAIN, YOU)), "a domain does not need it"),
    (U_DOMAIN, (YOU,), False, (A_DOMAIN, False, (YOU,)), "the sender's neither"),
    (ME, (YOU, U_LOCAL), False, (ME, True, (YOU, U_LOCAL)), "a recipient does"),
    (U_LOCAL, (YOU,), False, (U_LOCAL, True, (YOU,)), "the sender does"),
    ("", (YOU,), True, ("", True, (YOU,)), "the headers do"),
    (ME, (U_DOMAIN,), True, (ME, True, (U_DOMAIN,)), "where it is asked for, a domain is as it was written"),
]


@pytest.mark.parametrize(("sender", "recipients", "headers", "expected", "reason"), ROWS)
def test_smtputf8_is_asked_for_only_where_something_needs_it(
    sender: str, recipients: tuple[str, ...], headers: bool, expected: tuple[str, bool, tuple[str, ...]], reason: str
) -> None:
    mail, rcpts = spelled(Mail.of(sender, size=1), [Rcpt.of(to) for to in recipients], headers=headers, offered=True)
    assert all(isinstance(rcpt, Rcpt) for rcpt in rcpts)
    tried = tuple(str(rcpt.recipient) for rcpt in rcpts if isinstance(rcpt, Rcpt))
    assert (str(mail.reverse_path), mail.smtputf8, tried) == expected, reason
    assert mail.size == 1


@pytest.mark.parametrize(
    ("sender", "recipients", "headers", "expected", "reason"),
    [
        (ME, (YOU, U_DOMAIN), False, [YOU, A_DOMAIN], "nothing needs it"),
        (ME, (YOU, U_LOCAL, U_DOMAIN), False, [YOU, RECIPIENT_NEEDS_UTF8, A_DOMAIN], "the others are not touched"),
        (U_LOCAL, (YOU, U_LOCAL), False, [SENDER_NEEDS_UTF8] * 2, "the sender is everybody's"),
        (U_LOCAL, (YOU, U_LOCAL), True, [HEADERS_NEED_UTF8] * 2, "so are the headers"),
    ],
)
def test_where_it_is_not_offered_a_reply_says_what_needs_it(
    sender: str, recipients: tuple[str, ...], headers: bool, expected: list[str | Reply], reason: str
) -> None:
    mail, rcpts = spelled(Mail.of(sender), [Rcpt.of(to) for to in recipients], headers=headers, offered=False)
    assert [rcpt if isinstance(rcpt, Reply) else str(rcpt.recipient) for rcpt in rcpts] == expected, reason
    assert not mail.smtputf8


def test_a_domain_without_a_labels_is_the_callers_mistake() -> None:
    bad = Mailbox("a", "\u00ad.example")
    with pytest.raises(LocalProtocolError):
        spelled(Mail(ReversePath(bad)), [], headers=False, offered=False)
    with pytest.raises(LocalProtocolError):
        spelled(Mail.of(""), [Rcpt(ForwardPath(bad))], headers=False, offered=False)


def test_it_is_asked_for_once() -> None:
    asking = Mail.of("\u00e9@x.example", parameters=(("SMTPUTF8", None),))
    assert spelled(asking, [], headers=True, offered=True) == (asking, [])


@pytest.mark.parametrize("reply", [HEADERS_NEED_UTF8, SENDER_NEEDS_UTF8, RECIPIENT_NEEDS_UTF8])
def test_what_is_said_is_a_reply_that_could_be_sent(reply: Reply) -> None:
    assert reply.encode(enhanced=True).startswith(b"55")
    assert reply.code // 100 == 5
