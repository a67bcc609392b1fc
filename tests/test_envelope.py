"""Whom a message goes to, and what of its parameters a server is not told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from smtpstate._capabilities import Capabilities
from smtpstate._commands import Mail, Rcpt
from smtpstate._envelope import Recipient, fitted, lacking, recipients_of, usable
from smtpstate._errors import LocalProtocolError
from smtpstate._events import TlsInfo
from smtpstate.extensions import Extension, Notify, original_recipient, tables

if TYPE_CHECKING:
    from smtpstate._params import Parameters

MAIL, RCPT, _ = tables()
A, B = "a@x.example", "b@x.example"
ONE = Recipient(A, (("NOTIFY", "NEVER"),))


def test_one_recipient_is_a_list_of_one():
    assert recipients_of(A) == recipients_of([A]) == [Recipient(A)]
    assert recipients_of(ONE) == [ONE]
    assert recipients_of([ONE, B]) == [ONE, Recipient(B)]
    assert recipients_of(()) == []


@pytest.mark.parametrize(
    ("recipient", "parameters", "reason"),
    [
        (Recipient(A), (("NOTIFY", "DELAY"), ("ORCPT", f"rfc822;{A}")), "RFC 3461 section 4.2"),
        (Recipient("a+b@x.example"), (("NOTIFY", "DELAY"), ("ORCPT", "rfc822;a+2Bb@x.example")), "in xtext"),
        (Recipient("ü@x.example"), (("NOTIFY", "DELAY"), ("ORCPT", "utf-8;\\x{FC}@x.example")), "RFC 6533 section 3"),
        (Recipient("Postmaster"), (("NOTIFY", "DELAY"), ("ORCPT", "rfc822;Postmaster")), "without a domain"),
        (ONE, (("NOTIFY", "NEVER"), ("ORCPT", f"rfc822;{A}")), "what was said stands"),
        (
            Recipient(A, (("ORCPT", "x;y"),)),
            (("ORCPT", "x;y"), ("NOTIFY", "DELAY")),
            "a relay hands on what it was told (RFC 3461 section 5.2.1)",
        ),
        (Recipient("ü" * 120 + "@x.example"), (("NOTIFY", "DELAY"),), "longer than an ORCPT may be"),
    ],
)
def test_reports_are_asked_for_by_the_name_that_the_sender_knows(
    recipient: Recipient, parameters: Parameters, reason: str
):
    [asked] = recipients_of(recipient, Notify.DELAY)
    assert asked == Recipient(recipient.address, parameters), reason


def test_the_original_recipient_can_be_read_back():
    [asked] = recipients_of("o'neil+x@x.example", Notify.SUCCESS)
    found = original_recipient(Rcpt.of(asked.address, parameters=asked.parameters))
    assert found is not None
    assert found.address == asked.address


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        (TlsInfo("TLSv1.3", "x", verified=True), {"DSN", "REQUIRETLS", "OPEN", "SECRET", "X-NEW"}),
        (TlsInfo("TLSv1.3", "x"), {"DSN", "OPEN", "X-NEW"}),
        (None, {"DSN", "OPEN", "X-NEW"}),
    ],
)
def test_what_is_for_tls_only_counts_where_we_know_who_says_it(tls: TlsInfo | None, expected: set[str]):
    extensions = {"OPEN": Extension("OPEN"), "SECRET": Extension("SECRET", tls_only=True)}
    capabilities = Capabilities(dict.fromkeys(["DSN", "REQUIRETLS", "OPEN", "SECRET", "X-NEW"], ()))
    assert usable(capabilities, extensions, tls) == expected


def test_a_command_goes_with_what_the_server_knows():
    mail = Mail.of("", size=1, parameters=(("RET", "FULL"), ("MT-PRIORITY", "1")))
    assert fitted(mail, MAIL, frozenset({"SIZE", "DSN"})) == (
        Mail.of("", size=1, parameters=(("RET", "FULL"),)),
        None,
    )
    rcpt = Rcpt.of(A, parameters=(("NOTIFY", "NEVER"), ("RRVS", "2024-01-01T12:00:00Z")))
    assert fitted(rcpt, RCPT, frozenset()) == (Rcpt.of(A), lacking("RRVS"))


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (Mail.of("", parameters=(("RET", "HALF"),)), "not a value, though it would be left out"),
        (Mail.of("", parameters=(("NOTIFY", "NEVER"),)), "belongs to RCPT"),
    ],
)
def test_a_mistake_is_the_callers_whatever_is_offered(command: Mail, reason: str):
    for offered in (frozenset[str](), frozenset({"DSN"})):
        with pytest.raises(LocalProtocolError, match="MAIL: a parameter"):
            fitted(command, MAIL, offered)


@pytest.mark.parametrize(("keyword", "code"), [("REQUIRETLS", "5.7.30"), ("DELIVERBY", "5.3.3")])
def test_a_refusal_says_what_is_missing(keyword: str, code: str):
    reply = lacking(keyword)
    assert (reply.code, str(reply.enhanced)) == (554, code)
    assert keyword in reply.text
