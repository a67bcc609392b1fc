"""The client procedures: LMTP, where each accepted recipient has its own end (RFC 2033)."""

import pytest

from smtpstate._delivery import ConnectionBroken, Envelope, SessionRefused, TlsMode, open_session, send_message
from smtpstate._events import CloseReason, ConnectionClosed, Timer
from smtpstate._outcomes import Delivery, Result
from smtpstate._replies import Reply
from smtpstate._state import Phase
from tests.scripted_server import CUTS, LMTP_HELLO, Wire

GREETING = (b"", b"220 mx.example LMTP\r\n")
OFFERS = (LMTP_HELLO, b"250-mx.example\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
A, B, C = "a@x.example", "b@x.example", "c@x.example"
ACCEPTED, RETRY, REFUSED, UNKNOWN = Result.ACCEPTED, Result.RETRY, Result.REFUSED, Result.UNKNOWN


def opened(*script: tuple[bytes, bytes], cut: int = 99, eof: bool = False) -> Wire:
    wire = Wire([GREETING, OFFERS, *script], cut=cut, eof=eof, lmtp=True)
    wire.run(open_session(wire.client, TlsMode.OFF))
    return wire


def script(
    chunked: bool, recipients: tuple[str, ...], rcpts: list[bytes], finals: list[bytes]
) -> list[tuple[bytes, bytes]]:
    """A message with one line in it, and what is said to it; a final that is more than a code stands as it is."""
    commands = b"MAIL FROM:<me@me.example>\r\n" + b"".join(f"RCPT TO:<{name}>\r\n".encode() for name in recipients)
    replies = b"250 ok\r\n" + b"".join(b"%b r\r\n" % code for code in rcpts)
    said = b"".join(b"%b f\r\n" % final if final.isdigit() else final for final in finals)
    if chunked:
        return [(commands, replies), (b"BDAT 4 LAST\r\nHi\r\n", said)]
    return [(commands + b"DATA\r\n", replies + b"354 go\r\n"), (b"Hi\r\n.\r\n", said)]


def outcomes(delivery: Delivery) -> list[tuple[Result, int | None]]:
    return [(result.outcome, result.reply and result.reply.code) for result in delivery]


SETTLED: list[tuple[tuple[str, ...], list[bytes], list[bytes], list[tuple[Result, int | None]], str]] = [
    ((A,), [b"250"], [b"250"], [(ACCEPTED, 250)], "one recipient, one reply"),
    ((A, B), [b"250", b"250"], [b"250", b"250"], [(ACCEPTED, 250)] * 2, "all is well"),
    ((A, B), [b"250", b"250"], [b"250", b"550"], [(ACCEPTED, 250), (REFUSED, 550)], "the second is not delivered"),
    ((A, B), [b"250", b"250"], [b"452", b"250"], [(RETRY, 452), (ACCEPTED, 250)], "the first has to wait"),
    ((A, B), [b"550", b"250"], [b"250"], [(REFUSED, 550), (ACCEPTED, 250)], "one that was refused has no reply here"),
    ((A, B), [b"250", b"450"], [b"554"], [(REFUSED, 554), (RETRY, 450)], "nor has one that has to wait"),
    ((A, A), [b"250", b"250"], [b"250", b"452"], [(ACCEPTED, 250), (RETRY, 452)], "one named twice has two"),
    (
        (A, B, C),
        [b"250", b"550", b"250"],
        [b"452", b"250"],
        [(RETRY, 452), (REFUSED, 550), (ACCEPTED, 250)],
        "the order is that of those that were accepted",
    ),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize(("recipients", "rcpts", "finals", "expected", "reason"), SETTLED)
def test_each_recipient_has_its_own_reply(
    recipients: tuple[str, ...],
    rcpts: list[bytes],
    finals: list[bytes],
    expected: list[tuple[Result, int | None]],
    reason: str,
    chunked: bool,
    cut: int,
):
    wire = opened(*script(chunked, recipients, rcpts, finals), *script(chunked, (C,), [b"250"], [b"250"]), cut=cut)
    delivery = wire.run(send_message(wire.client, Envelope("me@me.example", recipients, chunked=chunked)), b"Hi\n")
    assert outcomes(delivery) == expected, reason
    assert [result.address for result in delivery] == list(recipients)
    assert (wire.client.phase, wire.client.in_sync, delivery.closed) == (Phase.READY, True, None)
    again = wire.run(send_message(wire.client, Envelope("me@me.example", (C,), chunked=chunked)), b"Hi\n")
    assert again.all_accepted, "the next message has its own count"
    assert not wire.script


BROKEN: list[tuple[list[bytes], list[tuple[Result, int | None]], CloseReason, str]] = [
    ([], [(UNKNOWN, None)] * 3, CloseReason.EOF, "before any"),
    ([b"250"], [(ACCEPTED, 250), (UNKNOWN, None), (UNKNOWN, None)], CloseReason.EOF, "after the first"),
    ([b"550", b"250"], [(REFUSED, 550), (ACCEPTED, 250), (UNKNOWN, None)], CloseReason.EOF, "after the second"),
    (
        [b"250", b"550 n"],
        [(ACCEPTED, 250), (UNKNOWN, None), (UNKNOWN, None)],
        CloseReason.EOF,
        "half a no is none",
    ),
    ([b"250", b"421"], [(ACCEPTED, 250), (RETRY, 421), (UNKNOWN, None)], CloseReason.GOING_AWAY, "421 is an answer"),
    ([b"421"], [(RETRY, 421), (UNKNOWN, None), (UNKNOWN, None)], CloseReason.GOING_AWAY, "421 to the first"),
    ([b"250", b"354"], [(ACCEPTED, 250), (UNKNOWN, None), (UNKNOWN, None)], CloseReason.VIOLATION, "not an answer"),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize(("finals", "expected", "closed", "reason"), BROKEN)
def test_those_that_were_answered_keep_their_answers_and_the_rest_is_unknown(
    finals: list[bytes],
    expected: list[tuple[Result, int | None]],
    closed: CloseReason,
    reason: str,
    chunked: bool,
    cut: int,
):
    wire = opened(*script(chunked, (A, B, C), [b"250"] * 3, finals), cut=cut, eof=True)
    delivery = wire.run(send_message(wire.client, Envelope("me@me.example", (A, B, C), chunked=chunked)), b"Hi\n")
    assert outcomes(delivery) == expected, reason
    assert delivery.closed is not None
    assert delivery.closed.reason is closed


@pytest.mark.parametrize("chunked", [True, False])
def test_a_reply_that_does_not_come_in_time_is_unknown(chunked: bool):
    wire = opened(*script(chunked, (A, B), [b"250"] * 2, [b"250"]))
    delivery = wire.run(send_message(wire.client, Envelope("me@me.example", (A, B), chunked=chunked)), b"Hi\n")
    assert outcomes(delivery) == [(ACCEPTED, 250), (UNKNOWN, None)]
    assert delivery.closed == ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.END)


def test_a_refused_chunk_is_answered_once_for_all():
    commands = script(True, (A, B), [b"250"] * 2, [])[0]
    wire = opened(commands, (b"BDAT 1\r\na", b"552 big\r\n"), (b"RSET\r\n", b"250 ok\r\n"))
    delivery = wire.run(send_message(wire.client, Envelope("me@me.example", (A, B), chunked=True)), b"a", b"b")
    assert outcomes(delivery) == [(REFUSED, 552)] * 2
    assert wire.client.phase is Phase.READY


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"552 big\r\n", [(REFUSED, 552)] * 2),
        (b"452 full\r\n", [(RETRY, 452)] * 2),
        (b"421 bye\r\n", [(RETRY, 421), (UNKNOWN, None)]),
    ],
)
def test_a_refusal_that_came_before_the_dot_left_is_everybodys(reply: bytes, expected: list[tuple[Result, int | None]]):
    wire = opened(script(False, (A, B), [b"250"] * 2, [])[0])
    procedure = send_message(wire.client, Envelope("me@me.example", (A, B)))
    wire.until_body(procedure)
    wire.client.receive_data(reply)
    delivery = wire.resume(procedure, b"")
    assert outcomes(delivery) == expected
    assert not wire.written.endswith(b".\r\n")


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("reply", [b"500 what\r\n", b"502 no\r\n", b"550 no\r\n", b"450 later\r\n", b"421 bye\r\n"])
@pytest.mark.parametrize("tls", [TlsMode.OFF, TlsMode.REQUIRED])
def test_there_is_no_hello_but_lhlo(reply: bytes, cut: int, tls: TlsMode):
    wire = Wire([GREETING, (LMTP_HELLO, reply)], cut=cut, lmtp=True)
    with pytest.raises(SessionRefused) as caught:
        wire.run(open_session(wire.client, tls))
    assert caught.value.reply.code == int(reply[:3])
    assert wire.written == LMTP_HELLO


def test_starttls_is_followed_by_another_lhlo():
    offer = (LMTP_HELLO, b"250-mx.example\r\n250 STARTTLS\r\n")
    wire = Wire([GREETING, offer, (b"STARTTLS\r\n", b"220 go\r\n"), OFFERS], lmtp=True)
    wire.run(open_session(wire.client, TlsMode.REQUIRED))
    assert wire.client.tls is not None
    assert wire.client.capabilities.chunking


def test_a_connection_that_breaks_in_the_hello_says_how():
    wire = Wire([GREETING, (LMTP_HELLO, b"250-mx\r\n")], eof=True, lmtp=True)
    with pytest.raises(ConnectionBroken, match="closed its side"):
        wire.run(open_session(wire.client, TlsMode.OFF))
    assert wire.client.closed == ConnectionClosed(CloseReason.EOF)


def test_the_reply_of_one_is_not_the_reply_of_another():
    wire = opened(*script(False, (A, B), [b"250"] * 2, [b"250-a\r\n250 a\r\n", b"550 b\r\n"]))
    delivery = wire.run(send_message(wire.client, Envelope("me@me.example", (A, B))), b"Hi\n")
    assert [result.reply for result in delivery] == [Reply(250, "a", "a"), Reply(550, "b")]
