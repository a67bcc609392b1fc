"""The client procedures: one message by BDAT (RFC 3030)."""

from dataclasses import replace

import pytest

from smtpstate._delivery import NO_BINARY, Envelope, TlsMode, Wants, check_message, open_session, send_message
from smtpstate._errors import LocalProtocolError
from smtpstate._events import CloseReason, ConnectionClosed, Timer, Violation
from smtpstate._outcomes import Delivery, Result
from smtpstate._replies import Reply
from smtpstate._state import Phase
from tests.scripted_server import CUTS, HELLO, Wire

GREETING = (b"", b"220 mx.example\r\n")
A, B = "a@x.example", "b@x.example"
COMMANDS = [b"MAIL FROM:<me@me.example>\r\n", b"RCPT TO:<a@x.example>\r\n", b"RCPT TO:<b@x.example>\r\n"]
ACCEPTED, RETRY, REFUSED, UNKNOWN = Result.ACCEPTED, Result.RETRY, Result.REFUSED, Result.UNKNOWN
ME_TO_TWO = Envelope("me@me.example", (A, B), chunked=True)
RSET = (b"RSET\r\n", b"250 ok\r\n")


def opened(
    *script: tuple[bytes, bytes],
    offers: tuple[bytes, ...] = (b"PIPELINING", b"CHUNKING"),
    cut: int = 99,
    eof: bool = False,
) -> Wire:
    hello = (HELLO, b"250-mx.example\r\n" + b"".join(b"250-%b\r\n" % word for word in offers) + b"250 HELP\r\n")
    wire = Wire([GREETING, hello, *script], cut=cut, eof=eof)
    wire.run(open_session(wire.client, TlsMode.OFF))
    return wire


def addressed(*replies: bytes) -> tuple[bytes, bytes]:
    return b"".join(COMMANDS), b"".join(reply + b"\r\n" for reply in replies)


BOTH = addressed(b"250 ok", b"250 ok", b"250 ok")
ONE = addressed(b"250 ok", b"250 ok", b"550 no")


def outcomes(delivery: Delivery) -> list[tuple[Result, int | None]]:
    return [(result.outcome, result.reply and result.reply.code) for result in delivery]


BODIES: list[tuple[list[bytes], list[bytes], str]] = [
    ([], [b"BDAT 0 LAST\r\n"], "an empty message"),
    ([b"Hi\r\n"], [b"BDAT 4 LAST\r\nHi\r\n"], "one piece is one chunk, and the last"),
    ([b"Hi\n"], [b"BDAT 4 LAST\r\nHi\r\n"], "newlines become CRLF"),
    ([b"Hi"], [b"BDAT 4 LAST\r\nHi\r\n"], "the last line ends, as it would before a dot"),
    ([b"a\n", b".\n", b"c"], [b"BDAT 3\r\na\r\n", b"BDAT 3\r\n.\r\n", b"BDAT 3 LAST\r\nc\r\n"], "no dot is stuffed"),
    ([b"a\r", b"\n", b"b\n"], [b"BDAT 3\r\na\r\n", b"BDAT 3 LAST\r\nb\r\n"], "a CRLF that is cut is one newline"),
    ([b"a\r", b"\n"], [b"BDAT 3\r\na\r\n", b"BDAT 0 LAST\r\n"], "nothing is left of the last piece"),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(("pieces", "chunks", "reason"), BODIES)
def test_each_piece_is_a_chunk(pieces: list[bytes], chunks: list[bytes], reason: str, pipelining: bool, cut: int):
    group = [BOTH] if pipelining else [(command, b"250 ok\r\n") for command in COMMANDS]
    script = [*group, *((chunk, b"250 2.0.0 taken\r\n") for chunk in chunks)]
    offers = (b"PIPELINING", b"CHUNKING") if pipelining else (b"CHUNKING",)
    wire = opened(*script, offers=offers, cut=cut)
    before = len(wire.groups)
    delivery = wire.run(send_message(wire.client, ME_TO_TWO), *pieces)
    assert outcomes(delivery) == [(ACCEPTED, 250)] * 2, reason
    assert not wire.script
    assert wire.groups[before + (1 if pipelining else 3) :] == chunks, "one write for each"
    assert (wire.client.phase, wire.client.in_sync, delivery.closed) == (Phase.READY, True, None)


@pytest.mark.parametrize(("offers", "chunked"), [((b"HELP",), True), ((b"CHUNKING",), False)])
def test_without_the_offer_or_the_wish_it_is_data(offers: tuple[bytes, ...], chunked: bool):
    script = [(command, b"250 ok\r\n") for command in COMMANDS]
    wire = opened(*script, (b"DATA\r\n", b"354 go\r\n"), (b"Hi\r\n.\r\n", b"250 ok\r\n"), offers=offers)
    delivery = wire.run(send_message(wire.client, Envelope("me@me.example", (A, B), chunked=chunked)), b"Hi\n")
    assert delivery.all_accepted
    assert b"BDAT" not in wire.written


ENDS: list[tuple[list[tuple[bytes, bytes]], list[tuple[Result, int]], str]] = [
    ([ONE, (b"BDAT 0 LAST\r\n", b"250 ok\r\n")], [(ACCEPTED, 250), (REFUSED, 550)], "one of them is refused"),
    ([BOTH, (b"BDAT 0 LAST\r\n", b"554 spam\r\n")], [(REFUSED, 554)] * 2, "the message is refused"),
    ([BOTH, (b"BDAT 0 LAST\r\n", b"451 later\r\n")], [(RETRY, 451)] * 2, "for now"),
    ([addressed(b"550 no", b"503 no", b"503 no")], [(REFUSED, 550)] * 2, "the sender is refused"),
    ([addressed(b"550 no", b"250 ok", b"250 ok")], [(REFUSED, 550)] * 2, "and the recipients are not"),
    ([addressed(b"250 ok", b"550 no", b"450 no"), RSET], [(REFUSED, 550), (RETRY, 450)], "nobody is left"),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("script", "expected", "reason"), ENDS)
def test_each_recipient_has_an_outcome_and_the_session_is_clean(
    script: list[tuple[bytes, bytes]], expected: list[tuple[Result, int]], reason: str, cut: int
):
    wire = opened(*script, cut=cut)
    delivery = wire.run(send_message(wire.client, ME_TO_TWO))
    assert outcomes(delivery) == expected, reason
    assert (wire.client.phase, wire.client.in_sync, wire.script) == (Phase.READY, True, [])


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("reply", "expected"), [(b"552 big\r\n", (REFUSED, 552)), (b"452 full\r\n", (RETRY, 452))])
def test_a_refused_chunk_stops_the_body_and_is_reset(reply: bytes, expected: tuple[Result, int], cut: int):
    wire = opened(ONE, (b"BDAT 1\r\na", reply), RSET, BOTH, (b"BDAT 0 LAST\r\n", b"250 ok\r\n"), cut=cut)
    delivery = wire.run(send_message(wire.client, ME_TO_TWO), b"a", b"b", b"c")
    assert outcomes(delivery) == [expected, (REFUSED, 550)]
    assert wire.client.phase is Phase.READY
    assert wire.run(send_message(wire.client, ME_TO_TWO)).all_accepted, "the next message is not touched"


LOST = [
    ([b"a", b"b"], (b"BDAT 1\r\na", b""), (RETRY, None), CloseReason.EOF, "before the last chunk"),
    ([b"a", b"b"], (b"BDAT 1\r\na", b"421 bye\r\n"), (RETRY, 421), CloseReason.GOING_AWAY, "421 to a chunk"),
    ([b"a", b"b"], (b"BDAT 1\r\na", b"354 go\r\n"), (RETRY, None), CloseReason.VIOLATION, "not an answer"),
    ([b"a\n"], (b"BDAT 3 LAST\r\na\r\n", b""), (UNKNOWN, None), CloseReason.EOF, "after it"),
    ([b"a\n"], (b"BDAT 3 LAST\r\na\r\n", b"250 ok"), (UNKNOWN, None), CloseReason.EOF, "a yes without an end"),
    ([b"a\n"], (b"BDAT 3 LAST\r\na\r\n", b"421 bye\r\n"), (RETRY, 421), CloseReason.GOING_AWAY, "421 is an answer"),
    ([b"a\n"], (b"BDAT 3 LAST\r\na\r\n", b"what\r\n"), (UNKNOWN, None), CloseReason.VIOLATION, "not a reply"),
]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("pieces", "chunk", "expected", "closed", "reason"), LOST)
def test_when_the_connection_breaks_the_last_chunk_decides_what_is_known(
    pieces: list[bytes],
    chunk: tuple[bytes, bytes],
    expected: tuple[Result, int | None],
    closed: CloseReason,
    reason: str,
    cut: int,
):
    wire = opened(ONE, chunk, cut=cut, eof=True)
    delivery = wire.run(send_message(wire.client, ME_TO_TWO), *pieces)
    assert outcomes(delivery) == [expected, (REFUSED, 550)], reason
    assert delivery.closed is not None
    assert delivery.closed.reason is closed


def test_no_answer_to_a_chunk_in_time_means_try_again():
    wire = opened(BOTH, (b"BDAT 1\r\na", b""))
    delivery = wire.run(send_message(wire.client, ME_TO_TWO), b"a", b"b")
    assert outcomes(delivery) == [(RETRY, None)] * 2
    assert delivery.closed == ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.END)


@pytest.mark.parametrize(("first", "chunk"), [(b"", b"more"), (b"", b""), (b"x", b"more"), (b"x", b"")])
def test_a_connection_that_breaks_while_we_fetch_the_body_means_try_again(first: bytes, chunk: bytes):
    wire = opened(BOTH)
    procedure = send_message(wire.client, ME_TO_TWO)
    wire.until_body(procedure)
    if first:
        assert procedure.send(first) is Wants.CHUNK
    wire.client.connection_lost()
    delivery = wire.resume(procedure, chunk)
    assert outcomes(delivery) == [(RETRY, None)] * 2, "the last chunk never left"
    assert delivery.closed == ConnectionClosed(CloseReason.LOST)


def test_a_reply_nobody_asked_for_between_chunks_breaks_the_connection():
    wire = opened(BOTH, (b"BDAT 1\r\na", b"250 ok\r\n250 more\r\n"))
    delivery = wire.run(send_message(wire.client, ME_TO_TWO), b"a", b"b", b"c")
    assert outcomes(delivery) == [(RETRY, None)] * 2
    assert delivery.closed == ConnectionClosed(CloseReason.VIOLATION, Violation.UNSOLICITED_REPLY)


def test_421_between_chunks_is_told():
    wire = opened(BOTH, (b"BDAT 1\r\na", b"250 ok\r\n421 bye\r\n"))
    delivery = wire.run(send_message(wire.client, ME_TO_TWO), b"a", b"b", b"c")
    assert outcomes(delivery) == [(RETRY, 421)] * 2
    assert delivery.closed == ConnectionClosed(CloseReason.GOING_AWAY, reply=Reply(421, "bye"))


BINARY = Envelope("me@me.example", (A, B), binary=True)
BINARY_OFFERS = (b"PIPELINING", b"CHUNKING", b"BINARYMIME")
BINARY_BOTH = (BOTH[0].replace(b"me.example>", b"me.example> BODY=BINARYMIME", 1), BOTH[1])


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("pieces", "chunks", "reason"),
    [
        ([], [b"BDAT 0 LAST\r\n"], "nothing"),
        ([b"a\nb\rc\0"], [b"BDAT 6 LAST\r\na\nb\rc\0"], "no newline is made, no line is ended"),
        ([b"\xff\r", b"\n", b".\n"], [b"BDAT 2\r\n\xff\r", b"BDAT 1\r\n\n", b"BDAT 2 LAST\r\n.\n"], "nor in pieces"),
    ],
)
def test_what_is_binary_is_sent_as_it_is(pieces: list[bytes], chunks: list[bytes], reason: str, cut: int):
    wire = opened(BINARY_BOTH, *((chunk, b"250 ok\r\n") for chunk in chunks), offers=BINARY_OFFERS, cut=cut)
    assert wire.run(send_message(wire.client, BINARY), *pieces).all_accepted, reason
    assert not wire.script


def test_what_is_binary_may_have_headers_in_utf_8():
    asked = BOTH[0].replace(b"me.example>", b"me.example> BODY=BINARYMIME SMTPUTF8", 1)
    script = ((asked, BOTH[1]), (b"BDAT 1 LAST\r\n\0", b"250 ok\r\n"))
    wire = opened(*script, offers=(*BINARY_OFFERS, b"8BITMIME", b"SMTPUTF8"))
    assert wire.run(send_message(wire.client, replace(BINARY, utf8=True)), b"\0").all_accepted
    assert not wire.script


@pytest.mark.parametrize("eight_bit", [False, True])
@pytest.mark.parametrize("offers", [(b"8BITMIME", b"CHUNKING"), (b"8BITMIME", b"BINARYMIME"), (b"HELP",)])
def test_what_is_binary_goes_nowhere_else(offers: tuple[bytes, ...], eight_bit: bool):
    wire = opened(offers=offers)
    written = wire.written
    envelope = Envelope("me@me.example", (A, B), binary=True, eight_bit=eight_bit)
    delivery = wire.run(send_message(wire.client, envelope))
    assert [(result.outcome, result.reply) for result in delivery] == [(REFUSED, NO_BINARY)] * 2
    assert (wire.written, wire.client.in_sync) == (written, True)


def test_a_message_can_be_checked_and_nothing_is_sent():
    wire = opened(offers=(b"8BITMIME",))
    written = wire.written
    check_message(wire.client, ME_TO_TWO)
    check_message(wire.client, BINARY)  # the server lacks something, which is nobody's mistake
    with pytest.raises(LocalProtocolError):
        check_message(wire.client, Envelope("me@me.example", ("nobody",)))
    assert (wire.written, wire.client.in_sync) == (written, True)


def test_data_after_a_refused_chunk_is_for_the_next_transaction():
    """RFC 3030 section 2: the two do not mix, so the client never falls back within one."""
    data = (BOTH[0] + b"DATA\r\n", BOTH[1] + b"354 go\r\n")
    wire = opened(BOTH, (b"BDAT 1\r\na", b"502 no\r\n"), RSET, data, (b"Hi\r\n.\r\n", b"250 ok\r\n"))
    assert outcomes(wire.run(send_message(wire.client, ME_TO_TWO), b"a", b"b")) == [(REFUSED, 502)] * 2
    again = Envelope("me@me.example", (A, B))
    assert wire.run(send_message(wire.client, again), b"Hi\n").all_accepted
    assert not wire.script
