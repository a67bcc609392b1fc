"""The server's seat: what a peer may send, how much of it, and what it cannot do with it."""

from __future__ import annotations

import tracemalloc

import pytest

from smtpstate import (
    CloseReason,
    CommandRefused,
    ConnectionClosed,
    Flow,
    Limits,
    Mail,
    Noop,
    Phase,
    Rcpt,
    Reply,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    Violation,
)
from smtpstate.extensions import Extension, Parameter
from tests.helpers import Seat, codes, in_transaction, ready


def ended_by(seat: Seat) -> Violation | None:
    seat.connection.receive_eof()
    closed = seat.pull()
    assert isinstance(closed, ConnectionClosed)
    assert closed.reason is CloseReason.VIOLATION
    return closed.violation


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (f"MAIL FROM:<{'l' * 64}@d.example>", "section 4.5.3.1.1: a local part of 64 octets"),
        (f"RCPT TO:<{'l' * 64}@d.example>", "section 4.5.3.1.1"),
        (f"MAIL FROM:<a@{'.'.join(['x' * 63] * 4)[:255]}>", "section 4.5.3.1.2: a domain of 255 octets"),
        (f"RCPT TO:<a@{'.'.join(['x' * 63] * 4)[:255]}>", "section 4.5.3.1.2"),
        (f"EHLO {'.'.join(['x' * 63] * 4)[:255]}", "section 4.5.3.1.2"),
        (f"MAIL FROM:<{'l' * 64}@{('x' * 62 + '.') * 2 + 'y' * 63}>", "section 4.5.3.1.3: a path of 256 octets"),
        (f"RCPT TO:<@{'r' * 60}.example:a@{'x' * 63}.{'y' * 63}.{'z' * 50}>", "section 4.5.3.1.3: a route in it"),
        ("NOOP " + "x" * (512 - 7), "section 4.5.3.1.4: a command line of 512 octets"),
        ("NOOP " + "x" * (2048 - 7), "and of 2048, which is ours"),
        ("MAIL FROM:<> SIZE=00000000000000000001 BODY=8BITMIME", "RFC 1870 section 3: twenty digits"),
        ('MAIL FROM:<"' + "q" * 62 + '"@d.example>', "a quoted local part of 64 octets with its quotes"),
    ],
)
def test_what_every_implementation_has_to_take(said: str, reason: str) -> None:
    seat = in_transaction() if said.startswith("RCPT") else ready()
    assert codes(seat.say(said.encode() + b"\r\n")) == [250], reason


def test_100_recipients_pass_and_the_limit_leaves_them_standing() -> None:
    """Section 4.5.3.1.8 and 4.5.3.1.10."""
    seat = ready(limits=Limits(recipients=100))
    said = b"MAIL FROM:<>\r\n" + b"".join(b"RCPT TO:<r%d@example.org>\r\n" % n for n in range(130))
    answers = seat.say(said)
    assert codes(answers) == [250] * 101 + [452] * 30
    assert answers.endswith(b"452 4.5.3 Too many recipients\r\n")
    refused = [event for event in seat.events if isinstance(event, CommandRefused)]
    assert {event.violation for event in refused} == {Violation.TOO_MANY_RECIPIENTS}
    assert codes(seat.say(b"DATA\r\n.\r\n")) == [354, 250], "30 refusals are no 30 errors"


MESSAGE = b"MAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n.\r\n"


def test_transactions_have_a_limit_that_leaves_the_session_standing() -> None:
    seat = ready(limits=Limits(transactions=2))
    assert codes(seat.say(MESSAGE * 2)) == [250, 250, 354, 250] * 2
    answers = seat.say(b"MAIL FROM:<>\r\nEHLO c.example\r\nMAIL FROM:<>\r\nQUIT\r\n")
    assert codes(answers)[0] == codes(answers)[-2] == 452, "another hello is the same session"
    assert b"452 4.7.0 Too many transactions in one session\r\n221" in answers
    refused = [event.violation for event in seat.events if isinstance(event, CommandRefused)]
    assert refused == [Violation.TOO_MANY_TRANSACTIONS] * 2


def test_who_goes_on_with_mail_is_a_nuisance() -> None:
    seat = ready(limits=Limits(transactions=1, errors=3))
    seat.say(MESSAGE)
    assert codes(seat.say(b"MAIL FROM:<>\r\n" * 4)) == [452, 452, 452, 421]


def test_a_transaction_that_the_application_refused_does_not_count() -> None:
    def refuse(connection: ServerConnection, event: ServerEvent) -> None:
        if connection.owed is event:
            connection.reply(Reply(450, "Later")) if isinstance(event, Mail) else connection.accept()

    seat = ready(limits=Limits(transactions=1), handler=refuse)
    assert codes(seat.say(b"MAIL FROM:<>\r\n" * 3)) == [450] * 3


def test_the_domains_of_recipients_have_a_limit_for_the_session() -> None:
    seat = ready(limits=Limits(recipient_domains=1, errors=0))
    said = (b"a@example.org", b"b@EXAMPLE.ORG", b"c@example.net", b"postmaster")
    answers = seat.say(b"MAIL FROM:<>\r\n" + b"".join(b"RCPT TO:<%b>\r\n" % address for address in said))
    assert codes(answers) == [250, 250, 250, 452, 250], "which is no error of theirs"
    assert b"452 4.5.3 Too many domains in one session\r\n" in answers
    assert codes(seat.say(b"RSET\r\nMAIL FROM:<>\r\nRCPT TO:<c@example.net>\r\n")) == [250, 250, 452]
    refused = [event.violation for event in seat.events if isinstance(event, CommandRefused)]
    assert refused == [Violation.TOO_MANY_DOMAINS] * 2


def test_what_is_announced_is_what_is_enforced() -> None:
    limits = Limits(transactions=1, recipients=2, recipient_domains=1)
    config = ServerConfig("mx.example.org", limits, offers=frozenset({"LIMITS"}))
    seat = Seat(config)
    assert b"LIMITS MAILMAX=1 RCPTMAX=2 RCPTDOMAINMAX=1\r\n" in seat.say(b"EHLO c.example\r\n")
    said = b"MAIL FROM:<>\r\nRCPT TO:<a@x.example>\r\nRCPT TO:<a@y.example>\r\n" + b"RCPT TO:<b@x.example>\r\n" * 2
    assert codes(seat.say(said + b"DATA\r\n.\r\nMAIL FROM:<>\r\n")) == [250, 250, 452, 250, 452, 354, 250, 452]


def test_recipients_that_the_application_refused_do_not_count() -> None:
    def first_refused(connection: ServerConnection, event: ServerEvent) -> None:
        if connection.owed is event and event != Rcpt.of("no@example.org"):
            connection.accept()

    seat = ready(limits=Limits(recipients=1), handler=first_refused)
    said = b"MAIL FROM:<>\r\nRCPT TO:<no@example.org>\r\nRCPT TO:<a@example.org>\r\nRCPT TO:<b@example.org>\r\n"
    assert codes(seat.say(said)) == [250, 550, 250, 452]


@pytest.mark.parametrize(
    ("line", "code", "reason"),
    [
        (b"FROB", 500, "unknown"),
        (b"TURN", 502, "not implemented"),
        (b"DATA", 503, "out of sequence"),
        (b"EHLO", 501, "no argument"),
        (b"x" * 3000, 500, "too long"),
        (b"", 500, "empty"),
    ],
)
def test_too_many_errors_end_the_session(line: bytes, code: int, reason: str) -> None:
    seat = Seat()
    answers = seat.say((line + b"\r\n") * 30)
    assert codes(answers) == [503 if line == b"DATA" else code] * 20 + [421], reason
    assert answers.endswith(b"421 4.7.0 Too many errors\r\n")
    assert len(seat.of_type(CommandRefused)) == 20
    assert ended_by(seat) is Violation.TOO_MANY_ERRORS


@pytest.mark.parametrize(
    "line", [b"NOOP", b"RSET", b"VRFY x", b"EXPN x", b"HELP", b"EHLO c.example", b"HELO c.example"]
)
def test_too_much_junk_ends_the_session(line: bytes) -> None:
    seat = Seat()
    answers = seat.say((line + b"\r\n") * 200)
    assert len(codes(answers)) == 100 + 20 + 1, "those above the limit are errors"
    assert answers.endswith(b"421 4.7.0 Too many commands without a message\r\n")
    assert ended_by(seat) is Violation.TOO_MUCH_JUNK


def test_a_message_makes_up_for_junk() -> None:
    seat = ready(limits=Limits(junk=10))
    for _ in range(20):
        answers = seat.say(b"RSET\r\nNOOP\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n.\r\n")
        assert codes(answers) == [250, 250, 250, 250, 354, 250]


def test_a_message_that_was_refused_does_not() -> None:
    def refuse(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Rcpt):
            connection.accept()

    seat = ready(limits=Limits(junk=10, errors=0), handler=refuse)
    for _ in range(9):
        seat.say(b"RSET\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n.\r\n")
    assert codes(seat.say(b"RSET\r\n")) == [421]


@pytest.mark.parametrize("cut", [1, 7, 4096, 100_000])
def test_a_line_that_is_too_long_is_refused_once_and_none_of_it_is_run(cut: int) -> None:
    seat = Seat()
    wire = b"NOOP " + b"RSET\rQUIT " * 1000 + b"\r\nNOOP\r\n"
    answers = b"".join(seat.say(wire[start : start + cut]) for start in range(0, len(wire), cut))
    assert answers == b"500 5.5.2 Line too long\r\n250 2.0.0 OK\r\n"
    refused, noop = seat.events[-2:]
    assert isinstance(refused, CommandRefused)
    assert (refused.line, refused.violation) == (b"", Violation.LINE_TOO_LONG)
    assert noop == Noop()


def test_an_octet_too_long_is_too_long() -> None:
    seat = Seat(limits=Limits(command_line=600))
    assert codes(seat.say(b"NOOP " + b"x" * 593 + b"\r\n" + b"NOOP " + b"x" * 594 + b"\r\n")) == [250, 500]


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("auth", [False, True])
def test_a_line_may_be_as_long_as_what_is_offered_needs(auth: bool, extra: int) -> None:
    def is_mark(value: str | None) -> bool:
        return value is not None

    extension = Extension("LONG", mail=(Parameter("MARK", is_mark, 12_000),))
    config = ServerConfig(
        "mx.example.org",
        Limits(auth_line=1000, command_line=1000),
        extensions=(extension,),
        mechanisms=("PLAIN",) if auth else (),
        auth_in_clear=True,
    )
    seat = Seat(config=config)
    longest = config.command_line(secure=False)
    assert longest == 512 + 26 + 14 + 12_000 + 500 * auth
    seat.say(b"EHLO client.example\r\n")
    line = b"MAIL FROM:<> MARK="
    line += b"x" * (longest + extra - len(line) - 2) + b"\r\n"
    assert codes(seat.say(line)) == [500 if extra else 250]


def test_a_line_of_64_mib_is_not_held() -> None:
    seat = Seat()
    piece = b"x" * 65_536
    tracemalloc.start()
    try:
        for _ in range(1024):
            assert seat.say(piece) == b""
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 65_536
    assert peak < 1_000_000
    assert codes(seat.say(b"\r\nNOOP\r\n")) == [500, 250]


def test_the_answers_to_100_000_noops_are_not_held() -> None:
    seat = Seat(limits=Limits(junk=1_000_000, commands=1_000_000))
    seat.connection.receive_data(b"NOOP\r\n" * 100_000)
    assert seat.pull() is Flow.NEED_FLUSH
    first = seat.connection.data_to_send()
    assert 65_536 < len(first) <= 65_536 + 512, "the limit, and the reply that went past it"
    events = len(seat.events)
    for _ in range(3):
        assert seat.pull() is Flow.NEED_FLUSH, "taken is not gone"
    assert len(seat.events) == events, "and nothing more was done meanwhile"
    answers = [first]
    while piece := seat.connection.data_to_send() or (
        seat.pull() is Flow.NEED_FLUSH and seat.connection.data_to_send()
    ):
        assert len(piece) <= 65_536 + 512
        answers.append(piece)
    answers.append(seat.drain())
    assert b"".join(answers) == b"250 2.0.0 OK\r\n" * 100_000


def test_by_default_100_000_noops_end_the_session() -> None:
    seat = Seat()
    assert codes(seat.say(b"NOOP\r\n" * 100_000)) == [250] * 120 + [421]


CONTROLS = [bytes([octet]) for octet in (*range(0x09), 0x0B, 0x0C, 0x0D, *range(0x0E, 0x20), *range(0x7F, 0x100))]


@pytest.mark.parametrize("octet", CONTROLS, ids=lambda octet: octet.hex())
def test_no_control_and_no_8_bit_octet_stands_in_a_command(octet: bytes) -> None:
    """Sections 2.4 and 4.1.2; never run, never said back."""
    lines = [
        b"NOOP x" + octet + b"y",
        b"MAIL FROM:<a" + octet + b"@b.example>",
        b"MAIL FROM:<a@b.example>" + octet,
        b"MAIL FROM:<a@b.example> SIZE=1" + octet + b"1",
        b"VRFY " + octet + b"y",
        b"HELO c" + octet + b".example",
    ]
    seat = ready()
    answers = seat.say(b"".join(line + b"\r\n" for line in lines))
    assert codes(answers) == [500] * len(lines), "all of them syntax errors, in order"
    assert seat.connection.phase is Phase.READY
    (answer,) = codes(seat.say(octet + b"NOOP\r\n"))
    assert answer == (500 if octet.isspace() else 221), "what begins so is none of a mail client's"


def test_a_tab_is_white_space_at_the_end_only() -> None:
    seat = Seat()
    assert codes(seat.say(b"NOOP\t\r\nNOOP \t x\t\r\nNOOP\tx\r\n")) == [250, 250, 500]


MARK = b"Zq7Zq7"


@pytest.mark.parametrize("before", [b"", b"EHLO c.example\r\nMAIL FROM:<>\r\n"], ids=["greeted", "in a transaction"])
@pytest.mark.parametrize(
    "line",
    [
        MARK,
        b"NOOP " + MARK,
        b"HELP " + MARK,
        b"VRFY " + MARK,
        b"EXPN " + MARK,
        b"EHLO " + MARK,
        b"HELO " + MARK + b".example",
        b"EHLO " + MARK + b" <script>",
        b"AUTH " + MARK,
        b"BDAT " + MARK,
        b"MAIL FROM:<" + MARK + b"@b.example>",
        b"MAIL FROM:<" + MARK + b"@@>",
        b"RCPT TO:<" + MARK + b"@b.example>",
        b"RCPT TO:<postmaster> " + MARK + b"=" + MARK,
        b"RSET " + MARK,
        b"DATA " + MARK,
        b"QUIT " + MARK,
        b"GET /" + MARK + b" HTTP/1.1",
    ],
)
def test_nothing_of_the_peer_is_said_back(before: bytes, line: bytes) -> None:
    """Reflection is how another protocol's peer is made to say what somebody else wants."""
    seat = Seat()
    answers = seat.say(before + line + b"\r\n")
    assert codes(answers)
    assert MARK not in answers


@pytest.mark.parametrize("cut", [1, 3, 64])
def test_nothing_a_peer_sends_can_raise(cut: int) -> None:
    """Every octet, alone and doubled, in every phase; what comes back is well-formed."""
    noise = bytes(range(256)) * 2 + b"\r\n" + bytes(range(255, -1, -1)) + b"\n\r\n.\r\n"
    for before in (b"", b"EHLO c.example\r\n", b"EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n"):
        seat = Seat()
        seat.say(before)
        answers = b"".join(seat.say(noise[start : start + cut]) for start in range(0, len(noise), cut))
        assert codes(answers)
