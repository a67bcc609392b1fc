"""The parameters of MAIL and RCPT in a message's envelope: sent, left out, or a reason not to send."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from smtpstate._delivery import NO_BINARY, Envelope, TlsMode, open_session, refusals, send_message
from smtpstate._envelope import Recipient, lacking
from smtpstate._errors import LocalProtocolError
from smtpstate._events import TlsInfo
from smtpstate._international import RECIPIENT_NEEDS_UTF8
from smtpstate._outcomes import Delivery, Result
from smtpstate.extensions import DateTime as Time
from smtpstate.extensions import (
    DeliverBy,
    Envid,
    HoldFor,
    Notify,
    OriginalRecipient,
    Priority,
    Ret,
    Rrvs,
    parameters,
)
from tests.scripted_server import HELLO, Wire

if TYPE_CHECKING:
    from smtpstate._params import Parameters

GREETING = (b"", b"220 mx.example\r\n")
A, B, C = "a@x.example", "b@x.example", "c@x.example"
ME = "me@me.example"
OK = b"250 ok\r\n"
BODY = [(b"DATA\r\n", b"354 go\r\n"), (b".\r\n", b"250 2.0.0 taken\r\n")]
SINCE = Rrvs(Time.parse("2024-01-01T12:00:00Z"))
DSN = parameters(Ret.HDRS, Envid("a+b"))
ASKS = Recipient(A, parameters(Notify.SUCCESS | Notify.DELAY, OriginalRecipient("rfc822", A)))


TLS = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", verified=True)


def opened(*script: tuple[bytes, bytes], offers: bytes, tls: TlsInfo | None = None) -> Wire:
    hello = (HELLO, b"250-mx.example\r\n250-" + offers.replace(b"|", b"\r\n250-") + b"\r\n250 HELP\r\n")
    wire = Wire([GREETING, hello, *script])
    wire.client.tls = tls  # as if it had been agreed on before the greeting
    wire.run(open_session(wire.client, TlsMode.OFF))
    return wire


def outcomes(delivery: Delivery) -> list[tuple[str, Result, int | None]]:
    return [(result.address, result.outcome, result.reply and result.reply.code) for result in delivery]


@pytest.mark.parametrize(
    ("offers", "mail", "rcpt", "reason"),
    [
        (
            b"DSN|SIZE",
            b" SIZE=7 RET=HDRS ENVID=a+2Bb",
            b" NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@x.example",
            "RFC 3461 section 4",
        ),
        (b"SIZE", b" SIZE=7", b"", "RFC 3461 section 5.2.2: not to a server that does not know it"),
    ],
)
def test_reports_are_asked_for_where_they_are_offered(offers: bytes, mail: bytes, rcpt: bytes, reason: str):
    wire = opened(
        (b"MAIL FROM:<me@me.example>" + mail + b"\r\n", OK),
        (b"RCPT TO:<a@x.example>" + rcpt + b"\r\n", OK),
        (b"RCPT TO:<b@x.example>\r\n", OK),
        *BODY,
        offers=offers,
    )
    envelope = Envelope(ME, (ASKS, B), size=7, parameters=DSN)
    assert outcomes(wire.run(send_message(wire.client, envelope))) == [
        (A, Result.ACCEPTED, 250),
        (B, Result.ACCEPTED, 250),
    ], reason
    assert not wire.script


@pytest.mark.parametrize(
    ("given", "offers", "tls", "missing", "reason"),
    [
        ((("REQUIRETLS", None),), b"DSN", TLS, "REQUIRETLS", "RFC 8689 section 4.2.1"),
        ((("REQUIRETLS", None),), b"REQUIRETLS", None, "REQUIRETLS", "offered in clear, which is nothing worth"),
        ((("REQUIRETLS", None),), b"REQUIRETLS", replace(TLS, verified=False), "REQUIRETLS", "offered by anybody"),
        (parameters(DeliverBy(60, returns=True)), b"DSN", None, "DELIVERBY", "it would not come back"),
        (parameters(HoldFor(60)), b"DSN", None, "FUTURERELEASE", "it would come at once"),
    ],
)
def test_what_must_not_be_lost_keeps_the_message_here(
    given: Parameters, offers: bytes, tls: TlsInfo | None, missing: str, reason: str
):
    wire = opened(offers=offers, tls=tls)
    written = wire.written
    delivery = wire.run(send_message(wire.client, Envelope(ME, (A, ASKS), parameters=(*DSN, *given))))
    assert [(result.outcome, result.reply) for result in delivery] == [(Result.REFUSED, lacking(missing))] * 2, reason
    assert (wire.written, wire.client.in_sync) == (written, True)


def test_what_must_not_be_lost_goes_out_where_it_is_offered():
    wire = opened((b"MAIL FROM:<me@me.example> REQUIRETLS\r\n", b"550 5.7.1 no\r\n"), offers=b"REQUIRETLS", tls=TLS)
    delivery = wire.run(send_message(wire.client, Envelope(ME, (A,), parameters=(("REQUIRETLS", None),))))
    assert outcomes(delivery) == [(A, Result.REFUSED, 550)]


def test_what_may_be_lost_is_left_out():
    wire = opened((b"MAIL FROM:<me@me.example>\r\n", OK), (b"RCPT TO:<a@x.example>\r\n", OK), *BODY, offers=b"X")
    envelope = Envelope(ME, (A,), parameters=parameters(Priority(3), DeliverBy(60)))
    assert wire.run(send_message(wire.client, envelope)).all_accepted


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(
    ("replies", "expected", "reason"),
    [
        ((b"250 ok", b"250 ok"), [250, 554, 250], "the others have their own"),
        ((b"550 no", b"250 ok"), [550, 554, 250], "replies fall to those who were asked about"),
        ((b"250 ok", b"450 no"), [250, 554, 450], "likewise"),
    ],
)
def test_one_recipients_parameter_is_nothing_to_the_others(
    replies: tuple[bytes, bytes], expected: list[int], reason: str, pipelining: bool
):
    lines = [b"MAIL FROM:<me@me.example>\r\n", b"RCPT TO:<a@x.example>\r\n", b"RCPT TO:<c@x.example>\r\n", b"DATA\r\n"]
    said = [OK, *(reply + b"\r\n" for reply in replies), b"354 go\r\n"]
    script = [(b"".join(lines), b"".join(said))] if pipelining else list(zip(lines, said, strict=True))
    wire = opened(*script, (b".\r\n", OK), offers=b"PIPELINING" if pipelining else b"X")
    delivery = wire.run(send_message(wire.client, Envelope(ME, (A, Recipient(B, parameters(SINCE)), C))))
    assert [code for _, _, code in outcomes(delivery)] == expected, reason
    assert [result.address for result in delivery] == [A, B, C]
    assert not wire.script


def test_a_refusal_of_mail_does_not_cover_what_we_refused():
    wire = opened((b"MAIL FROM:<me@me.example>\r\n", b"450 later\r\n"), offers=b"X")
    delivery = wire.run(send_message(wire.client, Envelope(ME, (A, Recipient(B, parameters(SINCE))))))
    assert outcomes(delivery) == [(A, Result.RETRY, 450), (B, Result.REFUSED, 554)]


@pytest.mark.parametrize("offers", [b"DSN|SIZE", b"X"])
@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (Envelope(ME, (A,), parameters=(("RET", "HALF"),)), "no such value"),
        (Envelope(ME, (A,), parameters=(("X-NEW", None),)), "nobody knows it"),
        (Envelope(ME, (A, Recipient(B, (("NOTIFY", "NEVER,DELAY"),)))), "RFC 3461 section 4.1"),
        (Envelope(ME, (A, Recipient("b"))), "no domain"),
        (Envelope(ME, (A,), parameters=parameters(Envid("a\r\nRSET"))), "no printable text"),
    ],
)
def test_a_mistake_sends_nothing_whatever_is_offered(envelope: Envelope, reason: str, offers: bytes):
    wire = opened(offers=offers)
    written = wire.written
    with pytest.raises(LocalProtocolError):
        wire.run(send_message(wire.client, envelope))
    assert (wire.written, wire.client.in_sync) == (written, True), reason


def test_who_cannot_be_sent_to_is_known_before_anything_is_sent():
    wire = opened(offers=b"LIMITS RCPTMAX=1")
    written = wire.written
    to = ("\u00e9@x.example", A, Recipient(B, parameters(SINCE)), C)
    assert refusals(wire.client, Envelope(ME, to)) == {0: RECIPIENT_NEEDS_UTF8, 2: lacking("RRVS")}
    assert refusals(wire.client, Envelope(ME, to, binary=True)) == dict.fromkeys(range(4), NO_BINARY)
    for mistake in ((), ("b",), (*to, "c")):
        with pytest.raises(LocalProtocolError):
            refusals(wire.client, Envelope(ME, mistake))
    wire.client.data_to_send()
    assert (wire.written, wire.client.in_sync) == (written, True)


def test_size_comes_once():
    wire = opened(offers=b"SIZE")
    with pytest.raises(LocalProtocolError):
        wire.run(send_message(wire.client, Envelope(ME, (A,), size=1, parameters=(("SIZE", "2"),))))
