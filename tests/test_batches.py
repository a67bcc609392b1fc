"""Batches: one message in as many transactions as LIMITS want (RFC 9422)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from smtpstate._batches import Batches
from smtpstate._delivery import NO_BINARY, Envelope, TlsMode, open_session, send_message
from smtpstate._envelope import Recipient, lacking
from smtpstate._errors import LocalProtocolError
from smtpstate._events import CloseReason
from smtpstate._international import HEADERS_NEED_UTF8, RECIPIENT_NEEDS_UTF8, SENDER_NEEDS_UTF8
from smtpstate._outcomes import Delivery, Result
from tests.scripted_server import HELLO, LMTP_HELLO, Wire

if TYPE_CHECKING:
    from smtpstate._params import Parameters
    from smtpstate._replies import Reply

A, B, C, Y = "a@x.example", "b@x.example", "c@x.example", "y@y.example"
ACCEPTED, RETRY, REFUSED = Result.ACCEPTED, Result.RETRY, Result.REFUSED
YES = b"250 ok"


def opened(
    limits: bytes,
    *script: tuple[bytes, bytes],
    eof: bool = False,
    offers: tuple[bytes, ...] = (),
    lmtp: bool = False,
) -> Wire:
    keywords = b"".join(b"250-%b\r\n" % keyword for keyword in (b"PIPELINING", *offers))
    hello = (LMTP_HELLO if lmtp else HELLO, b"250-mx.example\r\n" + keywords + b"250 " + (limits or b"HELP") + b"\r\n")
    wire = Wire([(b"", b"220 mx.example\r\n"), hello, *script], eof=eof, lmtp=lmtp)
    wire.run(open_session(wire.client, TlsMode.OFF))
    return wire


def group(*recipients: str, replies: tuple[bytes, ...] = ()) -> tuple[bytes, bytes]:
    rcpts = b"".join(b"RCPT TO:<%b>\r\n" % recipient.encode() for recipient in recipients)
    said = replies or (YES,) * (1 + len(recipients)) + (b"354 go",)
    return b"MAIL FROM:<me@me.example>\r\n" + rcpts + b"DATA\r\n", b"".join(reply + b"\r\n" for reply in said)


DOT = (b"Hi\r\n.\r\n", b"250 ok\r\n")


def send(wire: Wire, *recipients: str | Recipient, once: bool = False) -> Delivery:
    batches = Batches(wire.client, Envelope("me@me.example", recipients), once=once)
    for envelope in batches:
        batches.add(wire.run(send_message(wire.client, envelope), b"Hi\n"))
    return batches.delivery


def outcomes(delivery: Delivery) -> list[tuple[str, Result, str]]:
    return [(each.address, each.outcome, str(each.reply)) for each in delivery]


def yes(*addresses: str) -> list[tuple[str, Result, str]]:
    return [(address, ACCEPTED, "250 ok") for address in addresses]


def left(address: str, why: str) -> tuple[str, Result, str]:
    return address, RETRY, f"452 4.5.3 Not sent: {why}"


NO_DOMAINS = "no more domains of recipients in a session; LIMITS RCPTDOMAINMAX=1"
NO_TRANSACTIONS = "no more transactions in a session; LIMITS MAILMAX=1 RCPTMAX=2"
ONCE = "the message can be read once only; LIMITS RCPTMAX=2"


@pytest.mark.parametrize(
    ("limits", "once", "recipients", "groups", "expected", "reason"),
    [
        (b"", False, (A, B, C), [(A, B, C)], yes(A, B, C), "no LIMITS: one transaction"),
        (b"", True, (A, B, C), [(A, B, C)], yes(A, B, C), "in which it is read once"),
        (b"LIMITS RCPTMAX=3", True, (A, B, C), [(A, B, C)], yes(A, B, C), "within them, too"),
        (b"LIMITS RCPTMAX=2", False, (A, B, C), [(A, B), (C,)], yes(A, B, C), "beyond them it is two"),
        (b"LIMITS RCPTMAX=2", True, (A, B, C), [(A, B)], [*yes(A, B), left(C, ONCE)], "where it can be read twice"),
        (b"LIMITS RCPTDOMAINMAX=1", False, (A, Y, B), [(A, B)], [*yes(A), left(Y, NO_DOMAINS), *yes(B)], "domains"),
        (b"LIMITS RCPTMAX=2 MAILMAX=1", False, (A, B, C), [(A, B)], [*yes(A, B), left(C, NO_TRANSACTIONS)], "sessions"),
    ],
)
def test_a_message_goes_out_within_the_limits(
    limits: bytes,
    once: bool,
    recipients: tuple[str, ...],
    groups: list[tuple[str, ...]],
    expected: list[tuple[str, Result, str]],
    reason: str,
) -> None:
    wire = opened(limits, *(step for each in groups for step in (group(*each), DOT)))
    delivery = send(wire, *recipients, once=once)
    assert outcomes(delivery) == expected, reason
    assert (wire.script, delivery.closed, wire.client.in_sync) == ([], None, True)


def test_what_was_sent_before_counts() -> None:
    wire = opened(b"LIMITS MAILMAX=1", group(A), DOT)
    assert send(wire, A).all_accepted
    written = wire.written
    assert outcomes(send(wire, B, C)) == [
        left(address, "no more transactions in a session; LIMITS MAILMAX=1") for address in (B, C)
    ]
    assert wire.written == written


def test_each_transaction_has_its_own_outcome() -> None:
    no = group(A, B, replies=(YES, b"550 no", b"452 full", b"554 nobody"))
    wire = opened(b"LIMITS RCPTMAX=2", no, (b"RSET\r\n", b"250 ok\r\n"), group(C), DOT)
    assert outcomes(send(wire, A, B, C)) == [(A, REFUSED, "550 no"), (B, RETRY, "452 full"), *yes(C)]


@pytest.mark.parametrize(("reply", "told"), [(b"421 bye\r\n", "421 bye"), (b"", "None")])
def test_when_the_session_ends_the_rest_is_to_be_tried_again(reply: bytes, told: str) -> None:
    wire = opened(b"LIMITS RCPTMAX=1", group(A), DOT, (group(B)[0], reply), eof=True)
    delivery = send(wire, A, B, C)
    assert outcomes(delivery) == [*yes(A), (B, RETRY, told), (C, RETRY, told)]
    assert delivery.closed is not None
    assert delivery.closed.reason is (CloseReason.GOING_AWAY if reply else CloseReason.EOF)


@pytest.mark.parametrize("limits", [b"", b"LIMITS RCPTMAX=2"])
@pytest.mark.parametrize("recipients", [(), (A, B, "c")])
def test_a_mistake_sends_nothing(recipients: tuple[str, ...], limits: bytes) -> None:
    wire = opened(limits)
    written = wire.written
    with pytest.raises(LocalProtocolError):
        send(wire, *recipients)
    wire.client.data_to_send()
    assert wire.written == written


def test_in_lmtp_each_recipient_of_each_transaction_has_an_answer_of_its_own() -> None:
    """RFC 2033 section 4.2: the replies to one end are for those that were accepted in its own transaction."""
    wire = opened(
        b"LIMITS RCPTMAX=2",
        group(A, B),
        (b"Hi\r\n.\r\n", b"250 a\r\n452 b is full\r\n"),
        group(C, Y, replies=(YES, b"550 not c", YES, b"354 go")),
        (b"Hi\r\n.\r\n", b"250 y\r\n"),
        group(A, A),
        (b"Hi\r\n.\r\n", b"550 once\r\n250 twice\r\n"),
        lmtp=True,
    )
    assert outcomes(send(wire, A, B, C, Y, A, A)) == [
        (A, ACCEPTED, "250 a"),
        (B, RETRY, "452 b is full"),
        (C, REFUSED, "550 not c"),
        (Y, ACCEPTED, "250 y"),
        (A, REFUSED, "550 once"),
        (A, ACCEPTED, "250 twice"),
    ]
    assert (wire.script, wire.client.in_sync) == ([], True)


def test_in_lmtp_a_session_that_ends_between_two_answers_leaves_one_unknown_and_the_next_batch_to_be_tried() -> None:
    group_of_two = group(A, B), (b"Hi\r\n.\r\n", b"250 a\r\n")
    wire = opened(b"LIMITS RCPTMAX=2", *group_of_two, eof=True, lmtp=True)
    assert outcomes(send(wire, A, B, C)) == [
        (A, ACCEPTED, "250 a"),
        (B, Result.UNKNOWN, "None"),
        (C, RETRY, "None"),
    ]


def test_one_transaction_alone_does_not_pass_the_limits() -> None:
    wire = opened(b"LIMITS RCPTMAX=2")
    written = wire.written
    with pytest.raises(LocalProtocolError, match="LIMITS"):
        wire.run(send_message(wire.client, Envelope("me@me.example", (A, B, C))))
    assert (wire.written, wire.client.in_sync) == (written, True)


def test_recipients_keep_their_parameters_and_parts_all_that_the_envelope_says() -> None:
    wire = opened(b"LIMITS RCPTMAX=1", offers=(b"8BITMIME", b"SMTPUTF8"))
    to = (Recipient(A, (("NOTIFY", "NEVER"),)), B)
    whole = Envelope("me@me.example", to, 3, chunked=True, parameters=(("RET", "HDRS"),), utf8=True)
    assert [part.recipients for part in Batches(wire.client, whole, once=False)] == [to[:1], to[1:]]
    assert {replace(part, recipients=to) for part in Batches(wire.client, whole, once=False)} == {whole}


@pytest.mark.parametrize("parameters", [(("X-NONE", None),), (("NOTIFY", "sometimes"),)])
def test_a_mistake_in_a_later_part_costs_nothing(parameters: Parameters) -> None:
    wire = opened(b"LIMITS RCPTMAX=1")
    written = wire.written
    with pytest.raises(LocalProtocolError, match="RCPT"):
        Batches(wire.client, Envelope("me@me.example", (A, Recipient(B, parameters))), once=False)
    assert (wire.written, wire.client.in_sync) == (written, True)


@pytest.mark.parametrize(
    ("envelope", "refusal"),
    [
        (Envelope("me@me.example", (A, B), binary=True), NO_BINARY),
        (Envelope("me@me.example", (A, B), parameters=(("REQUIRETLS", None),)), lacking("REQUIRETLS")),
        (Envelope("me@me.example", (A, B), utf8=True), HEADERS_NEED_UTF8),
        (Envelope("m\u00e9@me.example", (A, B)), SENDER_NEEDS_UTF8),
    ],
)
@pytest.mark.parametrize("limits", [b"", b"LIMITS RCPTMAX=1", b"LIMITS MAILMAX=1"])
def test_what_the_server_lacks_is_no_mistake(envelope: Envelope, refusal: Reply, limits: bytes) -> None:
    wire = opened(limits)
    written = wire.written
    batches = Batches(wire.client, envelope, once=False)
    assert not list(batches)
    assert outcomes(batches.delivery) == [(address, REFUSED, str(refusal)) for address in (A, B)]
    wire.client.data_to_send()
    assert (wire.written, wire.client.in_sync) == (written, True)


U = "\u00e9@x.example"
RRVS = Recipient(Y, (("RRVS", "2024-01-01T12:00:00Z"),))


@pytest.mark.parametrize(
    ("limits", "once", "recipients", "groups", "reason"),
    [
        (b"LIMITS RCPTMAX=2 MAILMAX=1", False, (U, A, RRVS, B), [(A, B)], "no place in a transaction"),
        (b"LIMITS RCPTMAX=2", True, (RRVS, A, U, B), [(A, B)], "nor in the only one"),
        (b"LIMITS RCPTDOMAINMAX=1", False, (RRVS, A, U, B), [(A, B)], "no domain of the session's"),
        (b"LIMITS RCPTMAX=2", False, (U, U, A, B, RRVS, C), [(A, B), (C,)], "no transaction"),
        (b"", False, (A, U, B, RRVS), [(A, B)], "and as ever where there are no limits"),
    ],
)
def test_who_cannot_be_sent_to_takes_nobodys_place(
    limits: bytes,
    once: bool,
    recipients: tuple[str | Recipient, ...],
    groups: list[tuple[str, ...]],
    reason: str,
) -> None:
    refused = {U: (U, REFUSED, str(RECIPIENT_NEEDS_UTF8)), RRVS: (Y, REFUSED, str(lacking("RRVS")))}
    wire = opened(limits, *(step for each in groups for step in (group(*each), DOT)))
    delivery = send(wire, *recipients, once=once)
    assert outcomes(delivery) == [refused.get(one) or yes(str(one))[0] for one in recipients], reason
    assert (wire.script, wire.client.in_sync) == ([], True)
