"""Reception: chunks, those that are wanted and those that are not. RFC 3030 section 2."""

from __future__ import annotations

import pytest

from smtpstate import (
    Anomaly,
    Bdat,
    Body,
    CloseReason,
    CommandRefused,
    ConnectionClosed,
    EndOfMessage,
    Flow,
    Limits,
    LocalProtocolError,
    Phase,
    Reply,
    ResetCause,
    Rset,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    Timer,
    TransactionReset,
    Violation,
)
from smtpstate._config import OFFERS
from smtpstate.policy import BareNewline, WireRules
from tests.helpers import Handler, Seat, accept_all, codes, in_body, in_transaction, ready

CUTS = (1, 2, 3, 99, 100_000)
NO = Reply(550, "No", enhanced="5.7.1")
SMALL = Limits(message=100)
AS_IT_IS = ServerConfig("mx.example.org", wire=WireRules(BareNewline.NOTE))
REJECTS = ServerConfig("mx.example.org", wire=WireRules(BareNewline.REJECT))
ENVELOPE = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n"


def bodies(seat: Seat) -> bytes:
    return b"".join(event.data for event in seat.events if isinstance(event, Body))


def feed(seat: Seat, wire: bytes, cut: int) -> bytes:
    return b"".join(seat.say(wire[start : start + cut]) for start in range(0, len(wire), cut))


def refused(seat: Seat) -> list[Violation]:
    return [event.violation for event in seat.events if isinstance(event, CommandRefused)]


def ending(seat: Seat) -> ConnectionClosed:
    seat.connection.receive_eof()
    closed = seat.pull()
    assert isinstance(closed, ConnectionClosed)
    return closed


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("wire", "answers", "content", "reason"),
    [
        (b"BDAT 3 LAST\r\nabc", [250], b"abc", "one chunk"),
        (b"BDAT 0 LAST\r\n", [250], b"", "an empty message"),
        (b"BDAT 0\r\nBDAT 0 LAST\r\n", [250, 250], b"", "an empty chunk"),
        (b"BDAT 3\r\nabcBDAT 2\r\ndeBDAT 0 LAST\r\n", [250, 250, 250], b"abcde", "an empty last one"),
        (b"BDAT 5\r\n.\r\n.\nBDAT 3 LAST\r\n.\r\n", [250, 250], b".\r\n.\n.\r\n", "dots are content"),
        (b"BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nRSET\r\n", [250, 250], b"QUIT\r\nRSET\r\n", "commands are none here"),
        (b"BDAT 1\r\n\rBDAT 1 LAST\r\n\n", [250, 250], b"\r\n", "cut between CR and LF"),
        (b"BDAT 256 LAST\r\n" + bytes(range(256)), [250], bytes(range(256)), "any octet is content"),
    ],
)
def test_chunks_arrive_as_they_are(wire: bytes, answers: list[int], content: bytes, reason: str, cut: int) -> None:
    seat = in_transaction(AS_IT_IS)
    assert codes(feed(seat, wire + b"NOOP\r\n", cut)) == [*answers, 250], reason
    assert bodies(seat) == content, reason
    (end,) = seat.of_type(EndOfMessage)
    assert isinstance(end, EndOfMessage)
    assert end.size == len(content)
    assert seat.connection.phase is Phase.READY
    assert seat.connection.transaction is None


def test_a_whole_message_in_two_chunks() -> None:
    seat = in_transaction(AS_IT_IS)
    seat.events.clear()
    assert seat.say(b"BDAT 3\r\nabc") == b"250 2.0.0 Chunk taken\r\n"
    phases = [seat.connection.phase]
    assert seat.say(b"BDAT 1 LAST\r\n") == b""
    phases.append(seat.connection.phase)
    assert phases == [Phase.CHUNKED, Phase.CHUNK]
    assert seat.say(b"\n") == b"250 2.0.0 Message accepted\r\n"
    assert seat.events == [Bdat(3), Body(b"abc"), Bdat(1, last=True), Body(b"\n"), EndOfMessage()]
    end = seat.events[-1]
    assert isinstance(end, EndOfMessage)
    assert end.size == 4
    assert end.anomalies == {Anomaly.BARE_LF}


def test_chunks_in_one_go_are_answered_in_one_go() -> None:
    """RFC 2920 section 3.1: BDAT may be grouped."""
    seat = ready()
    assert codes(seat.say(ENVELOPE + b"BDAT 3\r\nabcBDAT 3 LAST\r\ndefQUIT\r\n")) == [250, 250, 250, 250, 221]


def test_a_piece_comes_out_as_the_same_object() -> None:
    seat = in_transaction()
    seat.say(b"BDAT 6000 LAST\r\n")
    piece = b"line\r\n" * 999
    seat.say(piece)
    body = seat.events[-1]
    assert isinstance(body, Body)
    assert body.data is piece


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"BDAT", "no size"),
        (b"BDAT x", "no number"),
        (b"BDAT -1", "a sign"),
        (b"BDAT 1e3", "an exponent"),
        (b"BDAT 5 FIRST", "another word"),
        (b"BDAT 5 \x01", "a control"),
        (b"BDAT 5 \xff", "8-bit"),
        (b"bdat 9223372036854775808 LAST", "2^63"),
        (b"BDAT 18446744073709551621", "2^64 + 5"),
    ],
)
@pytest.mark.parametrize("before", [b"", b"EHLO c.example\r\n", b"EHLO c.example\r\n" + ENVELOPE])
def test_a_size_that_cannot_be_trusted_ends_the_session(line: bytes, reason: str, before: bytes) -> None:
    seat = Seat()
    seat.say(before)
    assert seat.say(line + b"\r\nNOOP\r\nMAIL FROM:<>\r\n") == b"501 5.5.4 Chunk size not understood\r\n", reason
    assert ending(seat) == ConnectionClosed(CloseReason.VIOLATION, Violation.CHUNK_SIZE)


@pytest.mark.parametrize("spaces", [3000, 20_000])
@pytest.mark.parametrize("mechanisms", [(), ("PLAIN",)])
def test_a_bdat_that_is_too_long_to_read_ends_the_session(spaces: int, mechanisms: tuple[str, ...]) -> None:
    seat = in_transaction(ServerConfig("mx.example.org", mechanisms=mechanisms, auth_in_clear=True))
    wire = b"bdat " + b" " * spaces + b"6\r\nNOOP\r\n"
    assert codes(feed(seat, wire, 1000)) == [500]
    assert ending(seat) == ConnectionClosed(CloseReason.VIOLATION, Violation.CHUNK_SIZE)


@pytest.mark.parametrize("size", [2**31, 2**32, 2**63 - 1])
@pytest.mark.parametrize("last", [b"", b" LAST"])
def test_a_huge_chunk_is_refused_when_announced_and_dropped_while_it_comes(size: int, last: bytes) -> None:
    seat = in_transaction(limits=SMALL)
    assert seat.say(b"BDAT %d" % size + last + b"\r\n") == b"", "answered at its end, if there were one"
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.TOO_LARGE)]
    assert seat.say(b"NOOP\r\n" * 25) == b"", "octets, and no commands"
    assert codes(seat.say(b"x")) == [552], "past 1.5 times the limit there is no end to wait for"
    assert bodies(seat) == b""
    assert ending(seat) == ConnectionClosed(CloseReason.VIOLATION, Violation.MESSAGE_TOO_LARGE)


@pytest.mark.parametrize("cut", CUTS)
def test_the_limit_holds_for_all_chunks_together(cut: int) -> None:
    seat = in_transaction(limits=SMALL)
    wire = b"BDAT 60\r\n" + b"x" * 60 + b"BDAT 40\r\n" + b"y" * 40 + b"BDAT 1 LAST\r\nz" + b"NOOP\r\n"
    assert codes(feed(seat, wire, cut)) == [250, 250, 552, 250]
    assert bodies(seat) == b"x" * 60 + b"y" * 40
    assert seat.of_type(EndOfMessage) == []
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.TOO_LARGE)]
    assert codes(seat.say(ENVELOPE + b"BDAT 100 LAST\r\n" + b"x" * 100)) == [250, 250, 250], "and is fresh for the next"


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("phase", ["greeted", "ready", "mail", "not offered", "helo", "dead", "refused session"])
def test_the_octets_of_a_refused_chunk_are_never_run(phase: str, cut: int) -> None:
    inner = b"RCPT TO:<x@example.org>\r\nRSET\r\nQUIT\r\n"
    wire = b"BDAT %d\r\n" % len(inner) + inner
    config = ServerConfig("mx.example.org")
    before, answer = {
        "greeted": (b"", 503),
        "ready": (b"EHLO c.example\r\n", 503),
        "mail": (b"EHLO c.example\r\nMAIL FROM:<>\r\n", 554),
        "not offered": (b"EHLO c.example\r\n" + ENVELOPE, 502),
        "helo": (b"HELO c.example\r\n" + ENVELOPE, 502),
        "dead": (b"EHLO c.example\r\nMAIL FROM:<>\r\nBDAT 0\r\n", 503),
        "refused session": (b"", 503),
    }[phase]
    if phase == "not offered":
        config = ServerConfig("mx.example.org", offers=OFFERS - {"CHUNKING"})
    handler: Handler = accept_all
    if phase == "refused session":

        def handler(connection: ServerConnection, event: ServerEvent) -> None:
            if connection.owed is event:
                connection.reply(Reply(554, "No"))

    seat = Seat(config, handler=handler)
    seat.say(before)
    seat.events.clear()
    assert codes(feed(seat, wire + b"QUIT\r\n", cut)) == [answer, 221]
    (event,) = seat.of_type(CommandRefused)
    assert isinstance(event, CommandRefused)
    assert event.line == wire.partition(b"\r\n")[0]
    assert not seat.of_type(Rset, Body)


def test_a_refused_empty_chunk_is_answered_at_once() -> None:
    seat = ready()
    assert codes(seat.say(b"BDAT 0 LAST\r\n")) == [503]


def test_a_refused_chunk_that_never_ends_ends_the_session() -> None:
    seat = ready(limits=SMALL)
    assert seat.say(b"BDAT %d\r\n" % (2**63 - 1)) == b""
    assert seat.connection.deadline == seat.clock.now + 300, "the budget of a body"
    assert seat.say(b"x" * 150) == b""
    assert codes(seat.say(b"x")) == [552]
    assert ending(seat) == ConnectionClosed(CloseReason.VIOLATION, Violation.MESSAGE_TOO_LARGE)


def test_refused_chunks_are_errors() -> None:
    seat = ready()
    assert codes(seat.say(b"BDAT 1\r\nx" * 30)) == [503] * 20 + [421]


def test_empty_chunks_are_junk() -> None:
    seat = in_transaction(limits=Limits(junk=10, errors=0))
    assert codes(seat.say(b"BDAT 0\r\n" * 9)) == [250] * 9, "the EHLO was one"
    assert codes(seat.say(b"BDAT 1\r\nx")) == [250]
    assert codes(seat.say(b"BDAT 0\r\n")) == [421]


def test_mail_without_a_recipient_is_dead_after_a_chunk() -> None:
    """RFC 3030 section 2: after a refused chunk only RSET, a hello or QUIT leads on."""
    seat = ready()
    seat.say(b"MAIL FROM:<>\r\n")
    answers = seat.say(b"BDAT 2\r\nhiRCPT TO:<a@example.org>\r\nDATA\r\nMAIL FROM:<>\r\nBDAT 1 LAST\r\nx")
    assert codes(answers) == [554, 503, 503, 503, 503]
    assert seat.connection.phase is Phase.DEAD
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.REFUSED)]
    assert codes(seat.say(b"NOOP\r\n")) == [250]
    assert seat.connection.phase is Phase.DEAD


@pytest.mark.parametrize(("line", "cause"), [(b"RSET", ResetCause.RSET), (b"EHLO c.example", ResetCause.HELLO)])
def test_what_drops_chunks(line: bytes, cause: ResetCause) -> None:
    seat = in_transaction()
    assert codes(seat.say(b"BDAT 3\r\nabc" + line + b"\r\n")) == [250, 250]
    assert seat.connection.phase is Phase.READY
    assert seat.of_type(TransactionReset) == [TransactionReset(cause)]
    assert codes(seat.say(ENVELOPE + b"BDAT 2 LAST\r\nhi")) == [250, 250, 250]
    end = seat.events[-1]
    assert isinstance(end, EndOfMessage)
    assert end.size == 2, "nothing of the first one is in it"


@pytest.mark.parametrize("line", [b"MAIL FROM:<>", b"RCPT TO:<c@example.org>", b"DATA", b"AUTH PLAIN", b"STARTTLS"])
def test_between_chunks_only_the_next_one_is_in_order(line: bytes) -> None:
    seat = in_transaction()
    assert codes(seat.say(b"BDAT 3\r\nabc" + line + b"\r\nNOOP\r\nBDAT 3 LAST\r\ndef")) == [250, 503, 250, 250]
    assert bodies(seat) == b"abcdef", "the transaction stands"
    assert len(seat.connection.recipients) == 0


def test_after_the_last_chunk_there_is_no_transaction() -> None:
    seat = in_transaction()
    assert codes(seat.say(b"BDAT 1 LAST\r\nxBDAT 1 LAST\r\ny")) == [250, 503]
    assert seat.connection.phase is Phase.READY


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"BDAT 3 LAST\r\n", "nothing came"),
        (b"BDAT 3 LAST\r\nab", "an octet is missing"),
        (b"BDAT 3\r\nabc", "the last one is missing"),
        (b"BDAT 3\r\nabcBDAT 0 LAST", "its line has no end"),
    ],
)
@pytest.mark.parametrize("lost", [False, True])
def test_chunks_without_an_end_are_no_message(wire: bytes, reason: str, lost: bool) -> None:
    seat = in_transaction()
    seat.say(wire)
    if lost:
        seat.connection.connection_lost()
    else:
        seat.connection.receive_eof()
    assert seat.pull() == ConnectionClosed(CloseReason.LOST if lost else CloseReason.EOF), reason
    assert seat.of_type(EndOfMessage) == [], reason
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.CLOSED)]


def test_a_refused_chunk_without_an_end_is_nothing() -> None:
    seat = ready()
    seat.say(b"BDAT 3\r\nab")
    assert ending(seat) == ConnectionClosed(CloseReason.EOF)
    assert refused(seat) == []


def refusing(kind: type, reply: Reply = NO) -> Handler:
    """Accepts all, and refuses at each event of this kind."""

    def handler(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, kind):
            assert connection.refuse(reply)
        else:
            accept_all(connection, event)

    return handler


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("kind", [Bdat, Body])
def test_a_message_is_refused_inside_a_chunk(kind: type, cut: int) -> None:
    seat = in_transaction(handler=refusing(kind))
    wire = b"BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nRSET\r\nNOOP\r\n"
    assert codes(feed(seat, wire, cut)) == [550, 503, 250, 250], "at its end; what was pipelined after it is drained"
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.REFUSED)]
    assert seat.connection.phase is Phase.READY


def test_a_message_is_refused_in_its_last_chunk() -> None:
    seat = in_transaction(handler=refusing(Body))
    assert seat.say(b"BDAT 3 LAST\r\nabcNOOP\r\n") == b"550 5.7.1 No\r\n250 2.0.0 OK\r\n"
    assert seat.connection.phase is Phase.READY


def test_a_message_is_refused_at_its_end() -> None:
    seat = in_transaction(handler=refusing(EndOfMessage))
    assert codes(seat.say(b"BDAT 3\r\nabcBDAT 3 LAST\r\nabc")) == [250, 550]
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.REFUSED)]


@pytest.mark.parametrize(("last", "phase"), [(b"", Phase.DEAD), (b" LAST", Phase.READY)])
def test_a_message_is_refused_between_chunks(last: bytes, phase: Phase) -> None:
    seat = in_transaction()
    seat.say(b"BDAT 3\r\nabc")
    assert seat.connection.refuse(NO)
    assert seat.drain() == b"", "the 250 was said, so the next chunk gets the answer"
    assert seat.say(b"BDAT 3" + last + b"\r\ndef") == b"550 5.7.1 No\r\n"
    assert bodies(seat) == b"abc"
    assert seat.connection.phase is phase


def test_a_message_refused_between_chunks_can_be_reset() -> None:
    seat = in_transaction()
    seat.say(b"BDAT 3\r\nabc")
    seat.connection.refuse(NO)
    assert codes(seat.say(b"RSET\r\n" + ENVELOPE + b"BDAT 1 LAST\r\nx")) == [250, 250, 250, 250]
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.REFUSED)], "told once"


def test_in_lmtp_a_refusal_is_said_for_each_recipient() -> None:
    """RFC 2033 section 4.2; but a 421 ends all of it."""
    for reply, answers in ((NO, [550, 550]), (Reply(421, "Full", enhanced="4.3.1"), [421])):
        seat = Seat(ServerConfig("mx.example.org", lmtp=True), handler=refusing(Body, reply))
        seat.say(b"LHLO c.example\r\n" + ENVELOPE + b"RCPT TO:<b@example.org>\r\n")
        assert codes(seat.say(b"BDAT 1 LAST\r\nx")) == answers


def test_a_421_in_a_refusal_closes_at_the_end_of_the_chunk() -> None:
    seat = in_transaction(handler=refusing(Body, Reply(421, "Full", enhanced="4.3.1")))
    assert codes(seat.say(b"BDAT 3\r\nabcNOOP\r\n")) == [421]
    assert ending(seat) == ConnectionClosed(CloseReason.CLOSED)


def test_a_dead_transaction_is_none_to_refuse() -> None:
    seat = in_transaction(handler=refusing(Body))
    seat.say(b"BDAT 3\r\nabc")
    with pytest.raises(LocalProtocolError, match="phase DEAD"):
        seat.connection.refuse(NO)


def test_a_chunk_has_the_time_of_a_body() -> None:
    seat = in_transaction()
    start = seat.clock.now
    assert seat.say(b"BDAT 1000000\r\n") == b""
    assert seat.connection.deadline == start + 300
    seat.clock.now += 200
    assert seat.say(b"x" * 50_000) == b""
    assert seat.connection.deadline == start + 400, "50,000 octets earn 100 s"
    assert codes(seat.wait(200)) == [421]
    closed = ending(seat)
    assert (closed.reason, closed.timer) == (CloseReason.TIMEOUT, Timer.BODY)


def test_between_chunks_runs_the_time_of_a_command() -> None:
    seat = in_transaction()
    seat.clock.now += 250
    seat.say(b"BDAT 1\r\nx")
    assert seat.flow is Flow.NEED_DATA
    assert seat.connection.deadline == seat.clock.now + 300
    seat.wait(300)
    assert ending(seat).timer is Timer.COMMAND


def test_the_trace_counts_octets_and_does_not_show_them() -> None:
    seat = in_transaction()
    seat.traced.clear()
    seat.say(b"BDAT 6\r\nsecretBDAT 1 LAST\r\nx")
    assert [line.line for line in seat.traced if line.side == "C"] == [
        b"BDAT 6",
        b"(6 octets)",
        b"BDAT 1 LAST",
        b"(7 octets) .",
    ]
    assert not any(b"secret" in line.line for line in seat.traced)


@pytest.mark.parametrize(("length", "answers"), [(98, [250, 250]), (99, [552, 250]), (149, [552])])
def test_a_message_after_data_is_held_against_the_limit_too(length: int, answers: list[int]) -> None:
    seat = in_body(limits=SMALL)
    assert codes(seat.say(b"x" * length + b"\r\n.\r\nNOOP\r\n")) == answers


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("wire", "answers", "reason"),
    [
        (b"DATA\r\na\nb\r\n.\r\n", [354, 550], "a bare LF"),
        (b"DATA\r\na\rb\r\n.\r\n", [354, 550], "a bare CR"),
        (b"DATA\r\na\r\r\n.\r\n", [354, 550], "CR CR LF"),
        (b"DATA\r\n\0\r\n.\r\n", [354, 250], "NUL is no newline"),
        (b"BDAT 3 LAST\r\na\nb", [550], "in a chunk"),
        (b"BDAT 1\r\naBDAT 2\r\n\nbBDAT 0 LAST\r\n", [250, 550, 503], "in the second chunk, and nothing after it"),
        (b"BDAT 1\r\n\rBDAT 1 LAST\r\n\n", [250, 250], "CRLF across two chunks"),
        (b"BDAT 1\r\n\rBDAT 1 LAST\r\na", [250, 550], "no CRLF across two chunks"),
        (b"BDAT 1 LAST\r\n\r", [550], "a CR that came last"),
        (b"BDAT 1\r\n\rBDAT 0 LAST\r\n", [250, 550], "and one that an empty chunk follows"),
    ],
)
def test_where_no_bare_newline_is_taken_its_message_is_refused_at_its_end(
    wire: bytes, answers: list[int], reason: str, cut: int
) -> None:
    seat = in_transaction(REJECTS)
    said = feed(seat, wire + b"RSET\r\n", cut)
    assert codes(said) == [*answers, 250], reason
    refused = 550 in answers
    assert (b"550 5.5.2 Bare CR or LF received" in said) is refused
    causes = [event.cause for event in seat.events if isinstance(event, TransactionReset)]
    assert causes == ([ResetCause.BARE_NEWLINE] if refused else [])
    assert bool(seat.of_type(EndOfMessage)) is not refused
    assert seat.connection.phase is Phase.READY
