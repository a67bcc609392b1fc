"""The server's seat: greeting, verbs, and verdicts."""

from __future__ import annotations

import pytest

from smtpstate import (
    Body,
    CloseReason,
    CommandRefused,
    Connected,
    ConnectionClosed,
    Data,
    Ehlo,
    EndOfMessage,
    Expn,
    Flow,
    Helo,
    Help,
    LocalProtocolError,
    Mail,
    Noop,
    Peer,
    Phase,
    Quit,
    Rcpt,
    Reply,
    ResetCause,
    Rset,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    TraceLine,
    TransactionReset,
    Violation,
    Vrfy,
)
from smtpstate.policy import EarlyInput, WireRules
from tests.helpers import ManualClock, Seat, codes, in_body, in_transaction, ready, silent

EVERY_CODE = range(200, 600)


def test_a_whole_session() -> None:
    seat = Seat(greet=False)
    assert seat.pull() is Flow.NEED_DATA
    assert seat.drain() == b"220 mx.example.org ESMTP\r\n"
    assert seat.say(b"EHLO client.example\r\n") == (
        b"250-mx.example.org\r\n250-8BITMIME\r\n250-CHUNKING\r\n250-ENHANCEDSTATUSCODES\r\n250-PIPELINING\r\n"
        b"250 SIZE 52428800\r\n"
    )
    assert seat.say(b"MAIL FROM:<a@example.com> SIZE=7\r\n") == b"250 2.1.0 Sender accepted\r\n"
    assert seat.say(b"RCPT TO:<b@example.org>\r\n") == b"250 2.1.5 Recipient accepted\r\n"
    assert seat.say(b"DATA\r\n") == b"354 End the message with <CRLF>.<CRLF>\r\n"
    assert seat.say(b"hello\r\n.\r\n") == b"250 2.0.0 Message accepted\r\n"
    assert seat.say(b"QUIT\r\n") == b"221 2.0.0 Bye\r\n"
    assert seat.connection.half_close
    seat.connection.receive_eof()
    seat.pull()
    assert seat.events == [
        Connected(),
        Ehlo("client.example"),
        Mail.of("a@example.com", size=7),
        Rcpt.of("b@example.org"),
        Data(),
        Body(b"hello\r\n"),
        EndOfMessage(),
        Quit(),
        ConnectionClosed(CloseReason.QUIT),
    ]


def test_who_is_there_is_told_with_the_first_event() -> None:
    peer = Peer("192.0.2.1", 4321)
    connection = ServerConnection(ServerConfig("mx.example.org"), clock=ManualClock(), peer=peer)
    assert connection.phase is Phase.CONNECT
    assert connection.next_event() == Connected(peer)
    assert connection.peer is peer


@pytest.mark.parametrize(
    ("said", "answers", "events", "reason"),
    [
        (b"EHLO c.example\r\n", [250], [Ehlo("c.example")], "goes on"),
        (b"HELO c.example\r\n", [250], [Helo("c.example")], "goes on"),
        (b"EHLO c.example\r\nMAIL FROM:<>\r\n", [250, 250], [Ehlo("c.example"), Mail.of("")], "goes on"),
        (
            b"HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n",
            [250, 250, 550, 554],
            [Helo("c.example"), Mail.of(""), Rcpt.of("postmaster"), CommandRefused],
            "nobody is taken in by silence",
        ),
        (b"VRFY x\r\n", [252], [Vrfy("x")], "answered by the core"),
        (b"EXPN x\r\n", [502], [Expn("x")], "answered by the core"),
        (b"NOOP\r\n", [250], [Noop()], "answered by the core"),
        (b"RSET\r\n", [250], [Rset()], "answered by the core"),
        (b"HELP\r\n", [214], [Help()], "answered by the core"),
        (b"QUIT\r\n", [221], [Quit()], "answered by the core"),
        (b"STARTTLS\r\n", [503], [CommandRefused], "not before EHLO"),
    ],
)
def test_what_is_said_when_the_application_says_nothing(
    said: bytes, answers: list[int], events: list[ServerEvent | type], reason: str
) -> None:
    seat = Seat(handler=silent)
    assert codes(seat.say(said)) == answers, reason
    for event, expected in zip(seat.events[1:], events, strict=True):
        assert type(event) is expected if isinstance(expected, type) else event == expected, reason


def test_a_message_that_nobody_took_is_not_ours() -> None:
    def only_envelope(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Rcpt):
            connection.accept()

    seat = in_body(handler=only_envelope)
    assert seat.say(b"x\r\n.\r\n") == b"451 4.3.0 Local error in processing\r\n"
    assert seat.events[-1] == TransactionReset(ResetCause.REFUSED)
    assert seat.connection.phase is Phase.READY


def test_vrfy_and_expn_can_be_asked_of_the_application() -> None:
    seat = Seat(ServerConfig("mx.example.org", asks_vrfy=True, asks_expn=True), handler=silent)
    assert codes(seat.say(b"VRFY a\r\nEXPN b\r\n")) == [252, 502]

    def answer(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Vrfy | Expn):
            with pytest.raises(LocalProtocolError, match="in so many words"):
                connection.accept()
            assert connection.owed is event
            connection.reply(Reply(250, "<b@example.org>", enhanced="2.1.5"))

    seat.handler = answer
    assert seat.say(b"VRFY a\r\nEXPN b\r\n") == b"250 2.1.5 <b@example.org>\r\n" * 2


@pytest.mark.parametrize("code", [550, 554, 450])
def test_a_refused_greeting_leaves_only_quit(code: int) -> None:
    def refuse(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Connected):
            connection.reply(Reply(code, "No", enhanced=f"{code // 100}.7.1"))

    seat = Seat(handler=refuse, greet=False)
    seat.pull()
    assert seat.drain() == b"%d No\r\n" % code, "RFC 2034 section 4: no enhanced code in a greeting"
    assert codes(seat.say(b"EHLO c.example\r\nNOOP\r\nFROB\r\nQUIT\r\n")) == [503, 503, 500, 221]


@pytest.mark.parametrize("code", [421, 521])
def test_a_greeting_that_closes(code: int) -> None:
    def close(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Connected):
            connection.close(Reply(code, "No"))

    seat = Seat(handler=close, greet=False)
    seat.pull()
    assert seat.drain() == b"%d No\r\n" % code
    seat.connection.receive_eof()
    assert seat.pull() == ConnectionClosed(CloseReason.CLOSED)


def test_words_of_our_own_stand_in_every_yes() -> None:
    def accept(connection: ServerConnection, event: ServerEvent) -> None:
        if connection.owed is event:
            connection.accept("as you like")

    seat = Seat(handler=accept, greet=False)
    seat.pull()
    assert seat.drain() == b"220 mx.example.org ESMTP as you like\r\n"
    answers = seat.say(b"EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n") + seat.say(b".\r\n")
    assert [line for line in answers.split(b"\r\n") if b"as you like" in line] == [
        b"250-mx.example.org as you like",
        b"250 2.1.0 as you like",
        b"250 2.1.5 as you like",
        b"354 as you like",
        b"250 2.0.0 as you like",
    ]


def test_the_transaction_is_what_was_accepted() -> None:
    seat = in_transaction()
    transaction = seat.connection.transaction
    assert transaction is not None
    assert transaction.mail == Mail.of("a@example.com")
    assert transaction.recipients == (Rcpt.of("b@example.org"),)
    seat.handler = silent
    assert codes(seat.say(b"RCPT TO:<c@example.org>\r\n")) == [550]
    assert seat.connection.transaction == transaction, "refused ones are not in it"


def test_the_last_hello_is_known() -> None:
    seat = Seat()
    assert seat.connection.hello is None
    seat.say(b"EHLO a.example\r\n")
    assert seat.connection.hello == Ehlo("a.example")
    seat.handler = lambda connection, event: (
        None if connection.owed is None else (connection.reply(Reply(550, "No")), None)[1]
    )
    seat.say(b"HELO b.example\r\n")
    assert seat.connection.hello == Ehlo("a.example"), "a refused one does not count"


@pytest.mark.parametrize(
    ("said", "cause", "reason"),
    [
        (b"RSET\r\n", ResetCause.RSET, "section 4.1.1.5"),
        (b"EHLO c.example\r\n", ResetCause.HELLO, "section 4.1.4"),
        (b"HELO c.example\r\n", ResetCause.HELLO, "section 4.1.4"),
        (b"QUIT\r\n", ResetCause.CLOSED, "section 4.1.1.10: drop what is not finished"),
        (b"DATA\r\nx\r\n.\r\n", ResetCause.REFUSED, "nobody took it"),
    ],
)
def test_a_lost_transaction_is_told_exactly_once(said: bytes, cause: ResetCause, reason: str) -> None:
    seat = in_transaction()
    seat.handler = silent
    seat.say(said)
    assert seat.of_type(TransactionReset) == [TransactionReset(cause)], reason
    assert seat.connection.transaction is None
    seat.say(b"RSET\r\nQUIT\r\n")
    seat.connection.connection_lost()
    seat.pull()
    assert seat.of_type(TransactionReset) == [TransactionReset(cause)], reason


def test_an_accepted_message_loses_nothing() -> None:
    seat = in_transaction()
    seat.say(b"DATA\r\n.\r\nRSET\r\nQUIT\r\n")
    assert seat.of_type(TransactionReset) == []


@pytest.mark.parametrize(
    ("said", "answers", "reason"),
    [
        (b"MAIL FROM:<>\r\n", [503], "no hello yet"),
        (b"EHLO c.example\r\nMAIL FROM:<>\r\nMAIL FROM:<>\r\n", [250, 250, 503], "transactions do not nest"),
        (b"EHLO c.example\r\nRCPT TO:<postmaster>\r\n", [250, 503], "no MAIL"),
        (b"EHLO c.example\r\nDATA\r\n", [250, 503], "no MAIL"),
        (b"EHLO c.example\r\nMAIL FROM:<>\r\nDATA\r\n", [250, 250, 554], "no recipient"),
        (b"EHLO c.example\r\nSTARTTLS\r\n", [250, 502], "not configured"),
        (b"EHLO\r\nHELO \r\n", [501, 501], "no name"),
        (b"HELO c.example\r\nMAIL FROM:<> BODY=7BIT\r\n", [250, 555], "HELO has no extensions"),
        (b"EHLO c.example\r\nMAIL FROM:<> BODY=8BITMIME\r\n", [250, 250], "RFC 6152"),
        (b"EHLO c.example\r\nMAIL FROM:<> BODY=BINARYMIME\r\n", [250, 501], "not without CHUNKING"),
        (b"EHLO c.example\r\nMAIL FROM:<> SMTPUTF8\r\n", [250, 555], "not offered"),
        (b"ETRN x\r\nXCLIENT x\r\nBURL x\r\nTURN\r\n", [502, 502, 502, 502], "known, and not implemented"),
        (b"\r\n", [500], "an empty line"),
    ],
)
def test_errors_of_the_peer_are_answered_and_told(said: bytes, answers: list[int], reason: str) -> None:
    seat = Seat()
    assert codes(seat.say(said)) == answers, reason
    refused = [event for event in seat.events if isinstance(event, CommandRefused)]
    assert [event.reply.code for event in refused] == [code for code in answers if code >= 500], reason
    lines = said.split(b"\r\n")
    assert all(event.line in lines for event in refused)


def test_the_switched_off_is_no_disorder() -> None:
    seat = ready()
    seat.say(b"STARTTLS\r\n")
    refused = seat.events[-1]
    assert isinstance(refused, CommandRefused)
    assert refused.violation is Violation.NOT_IMPLEMENTED


def test_a_group_is_answered_in_one_write() -> None:
    """RFC 2920 section 3.2, by pulling until there is nothing left before anything is sent."""
    seat = ready()
    seat.connection.receive_data(
        b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n"
    )
    assert seat.pull() is Flow.NEED_DATA
    group = seat.connection.data_to_send()
    assert codes(group) == [250, 250, 250, 354]
    assert seat.connection.data_to_send() == b""
    seat.connection.receive_data(b"x\r\n.\r\nRSET\r\nNOOP\r\nQUIT\r\n")
    assert seat.pull() is Flow.NEED_FLUSH
    assert codes(seat.connection.data_to_send()) == [250, 250, 250, 221]


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 99])
def test_a_session_means_the_same_however_it_is_cut(cut: int) -> None:
    wire = b"EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n..a\r\n.b\r\n\r\n.\r\nFROB\r\nQUIT\r\n"
    seat = Seat()
    answers = b"".join(seat.say(wire[start : start + cut]) for start in range(0, len(wire), cut))
    assert codes(answers) == [250, 250, 250, 354, 250, 500, 221]
    bodies = [event.data for event in seat.events if isinstance(event, Body)]
    assert b"".join(bodies) == b".a\r\nb\r\n\r\n"


def test_the_conversation_can_be_followed() -> None:
    seat = in_body()
    seat.say(b"hello\r\n.\r\n" + b"x" * 3000 + b"\r\nQUIT\r\n")
    assert seat.traced == [
        TraceLine("S", b"220 mx.example.org ESMTP\r\n"),
        TraceLine("C", b"EHLO client.example"),
        TraceLine(
            "S",
            b"250-mx.example.org\r\n250-8BITMIME\r\n250-CHUNKING\r\n250-ENHANCEDSTATUSCODES\r\n250-PIPELINING\r\n"
            b"250 SIZE 52428800\r\n",
        ),
        TraceLine("C", b"MAIL FROM:<a@example.com>"),
        TraceLine("S", b"250 2.1.0 Sender accepted\r\n"),
        TraceLine("C", b"RCPT TO:<b@example.org>"),
        TraceLine("S", b"250 2.1.5 Recipient accepted\r\n"),
        TraceLine("C", b"DATA"),
        TraceLine("S", b"354 End the message with <CRLF>.<CRLF>\r\n"),
        TraceLine("C", b"(7 octets) ."),
        TraceLine("S", b"250 2.0.0 Message accepted\r\n"),
        TraceLine("C", b""),
        TraceLine("S", b"500 5.5.2 Line too long\r\n"),
        TraceLine("C", b"QUIT"),
        TraceLine("S", b"221 2.0.0 Bye\r\n"),
    ]


def test_nobody_has_to_follow_it() -> None:
    connection = ServerConnection(
        ServerConfig("mx.example.org", wire=WireRules(early_input=EarlyInput.NOTE)), clock=ManualClock()
    )
    connection.receive_data(b"HELO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n.\r\nQUIT\r\n")
    while not isinstance(event := connection.next_event(), Flow):
        if connection.owed is event:
            connection.accept()
    assert codes(connection.data_to_send()) == [220, 250, 250, 250, 354, 250, 221]
