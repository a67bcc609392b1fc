"""The server's seat: bare CR and bare LF in commands and messages. RFC 5321 section 2.3.8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from smtpstate import (
    Anomaly,
    Body,
    CloseReason,
    EndOfMessage,
    LocalProtocolError,
    Mail,
    Noop,
    Peer,
    Phase,
    Rcpt,
    Reply,
    ResetCause,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    TransactionReset,
    Violation,
)
from smtpstate.extensions import Extension
from smtpstate.policy import STRICT, BareNewline, Deviation, WireRules
from smtpstate.proxy import parse_networks
from tests.helpers import Seat, codes, in_body, in_transaction, ready
from tests.near_terminators import NEAR_TERMINATORS, NearTerminator

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME: Final = "mx.example.org"
SECOND: Final = b"MAIL FROM:<eve@example.com>\r\nRCPT TO:<you@example.org>\r\nDATA\r\nforged\r\n"
BARE: Final = frozenset({Anomaly.BARE_CR, Anomaly.BARE_LF})


def config(what: BareNewline | None, code: int = 550) -> ServerConfig:
    return ServerConfig(NAME, wire=WireRules(what, bare_newline_code=code))


def bodies(seat: Seat) -> bytes:
    return b"".join(event.data for event in seat.events if isinstance(event, Body))


def at_every_position(wire: bytes) -> Iterator[list[bytes]]:
    """In one piece, in two, wherever they are cut, and octet by octet."""
    for position in range(len(wire)):
        yield [wire[:position], wire[position:]]
    yield [wire[at : at + 1] for at in range(len(wire))]


# No second message.


@pytest.mark.parametrize("what", BareNewline)
@pytest.mark.parametrize("row", NEAR_TERMINATORS, ids=lambda row: row.reason)
def test_nothing_near_the_end_of_a_message_makes_two_of_it(row: NearTerminator, what: BareNewline) -> None:
    wire = b"a" + row.near + SECOND + b".\r\n"
    content = b"a" + (row.normalized if what is BareNewline.NORMALIZE else row.content) + SECOND
    refused = what is BareNewline.REJECT and bool(row.anomalies & BARE)
    for pieces in at_every_position(wire):
        seat = in_body(config(what))
        said = b"".join(map(seat.say, pieces))
        assert codes(said) == [550 if refused else 250], pieces
        assert sum(isinstance(event, Mail) for event in seat.events) == 1
        assert seat.connection.phase is Phase.READY
        ends = [event for event in seat.events if isinstance(event, EndOfMessage)]
        assert len(ends) == (not refused)
        if not refused:
            assert bodies(seat) == content, pieces
            assert (ends[0].size, ends[0].anomalies) == (len(content), row.anomalies)


@pytest.mark.parametrize("what", BareNewline)
@pytest.mark.parametrize("row", NEAR_TERMINATORS, ids=lambda row: row.reason)
def test_in_chunks_nothing_ends_a_message_but_its_size(row: NearTerminator, what: BareNewline) -> None:
    content = b"a" + row.near + SECOND
    refused = what is BareNewline.REJECT and bool(row.anomalies & BARE)
    for cut in range(len(row.near) + 2):
        first, second = content[:cut], content[cut:]
        seat = in_transaction(config(what))
        wire = b"BDAT %d\r\n%bBDAT %d LAST\r\n%b" % (len(first), first, len(second), second)
        assert (250 not in codes(seat.say(wire))[1:]) is refused
        assert sum(isinstance(event, Mail) for event in seat.events) == 1
        seen = bodies(seat)
        if not refused:
            assert seen.replace(b"\r\n", b"\n").replace(b"\r", b"\n") == content.replace(b"\r\n", b"\n").replace(
                b"\r", b"\n"
            )
            assert (seen == content) is (what is not BareNewline.NORMALIZE or not row.anomalies & BARE)


# What is done.


@pytest.mark.parametrize(
    ("what", "answers", "content"),
    [
        (None, [354, 250], b"a\r\n\r\n.\r\n"),
        (BareNewline.NORMALIZE, [354, 250], b"a\r\n\r\n.\r\n"),
        (BareNewline.NOTE, [354, 250], b"a\n\r.\r\n"),
        (BareNewline.REJECT, [354, 550], b""),
    ],
)
def test_a_message_is_taken_as_the_rule_says(what: BareNewline | None, answers: list[int], content: bytes) -> None:
    seat = in_transaction(config(what))
    assert codes(seat.say(b"DATA\r\na\n\r.\r\n.\r\nNOOP\r\n")) == [*answers, 250]
    assert bodies(seat) == content
    if content:
        (end,) = seat.of_type(EndOfMessage)
        assert isinstance(end, EndOfMessage)
        assert (end.anomalies, end.size) == (BARE, len(content))
    else:
        assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.BARE_NEWLINE)]


def test_what_came_before_the_first_bare_newline_was_handed_out_and_nothing_after() -> None:
    seat = in_body(config(BareNewline.REJECT))
    seat.say(b"one\r\n")
    seat.say(b"two\n")
    seat.say(b"three\r\n")
    assert bodies(seat) == b"one\r\n"
    assert codes(seat.say(b".\r\n")) == [550]


@pytest.mark.parametrize("code", [421, 521])
def test_a_code_that_closes_does_so_at_the_end_of_the_message(code: int) -> None:
    seat = in_body(config(BareNewline.REJECT, code))
    assert codes(seat.say(b"a\nb\r\n.\r\nNOOP\r\n")) == [code]
    seat.connection.receive_eof()
    seat.pull()
    assert seat.connection.closed is not None


def test_a_temporary_code_is_no_error_of_the_peer() -> None:
    seat = in_body(config(BareNewline.REJECT, 451))
    assert seat.say(b"a\nb\r\n.\r\n").startswith(b"451 4.5.2 ")


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_where_it_is_refused_one_command_that_ends_with_lf_alone_ends_the_session(ending: bytes) -> None:
    seat = ready(config(BareNewline.REJECT))
    answers = codes(seat.say(b"NOOP" + ending + b"NOOP\r\n"))
    if ending == b"\r\n":
        assert answers == [250, 250]
        return
    assert answers == [550]
    seat.connection.receive_eof()
    seat.pull()
    closed = seat.connection.closed
    assert closed is not None
    assert (closed.reason, closed.violation) == (CloseReason.VIOLATION, Violation.BARE_NEWLINE)


def test_elsewhere_the_policy_for_lines_has_its_say() -> None:
    taken = ready(config(BareNewline.NORMALIZE))
    assert codes(taken.say(b"NOOP\n")) == [250]
    assert [event.deviations for event in taken.events if isinstance(event, Noop)] == [{Deviation.BARE_LF}]
    strict = ready(ServerConfig(NAME, policy=STRICT, wire=WireRules(BareNewline.NOTE)))
    assert codes(strict.say(b"NOOP\nNOOP\r\n")) == [501, 250]


@pytest.mark.parametrize(
    ("requires_auth", "what", "answers"),
    [
        (False, None, [250]),
        (True, None, [550]),
        (True, BareNewline.NORMALIZE, [250]),
    ],
)
def test_who_takes_mail_from_users_only_is_strict_unless_told_otherwise(
    requires_auth: bool, what: BareNewline | None, answers: list[int]
) -> None:
    seat = ready(ServerConfig(NAME, requires_auth=requires_auth, wire=WireRules(what)))
    assert codes(seat.say(b"NOOP\n")) == answers


@pytest.mark.parametrize(("address", "answers"), [("192.0.2.9", [250, 250]), ("198.51.100.9", [550])])
def test_an_exclusion_means_note(address: str, answers: list[int]) -> None:
    rules = WireRules(BareNewline.REJECT, parse_networks(["192.0.2.0/24"]))
    seat = Seat(ServerConfig(NAME, wire=rules), peer=Peer(address))
    assert codes(seat.say(b"EHLO c\nNOOP\n")) == answers


def test_an_exclusion_has_the_same_end_of_a_message_as_all_others() -> None:
    rules = WireRules(BareNewline.REJECT, parse_networks(["192.0.2.0/24"]))
    seat = Seat(ServerConfig(NAME, wire=rules), peer=Peer("192.0.2.9"))
    seat.say(b"EHLO c\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
    for near in (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r\r\n"):
        assert seat.say(b"a" + near) == b""
    assert codes(seat.say(b"\r\n.\r\n")) == [250]


# What it costs.


@pytest.mark.parametrize("what", BareNewline)
def test_a_piece_without_a_bare_newline_comes_out_as_the_same_object(what: BareNewline) -> None:
    seat = in_body(config(what))
    piece = b"a line\r\n" * 1000
    seat.say(piece)
    body = seat.events[-1]
    assert isinstance(body, Body)
    assert body.data is piece


@pytest.mark.parametrize("what", BareNewline)
def test_what_is_held_of_a_message_does_not_grow(what: BareNewline) -> None:
    seat = in_body(config(what))
    for octet in (b"a", b"\r", b"\n", b"\r", b"\r", b".", b"\n", b"\n") * 500:
        seat.say(octet)
        assert len(seat.connection._talk.lines) == 0


# What we write.


def lines_are_clean(octets: bytes) -> bool:
    return octets.endswith(b"\r\n") and not any(end in octets.replace(b"\r\n", b"") for end in (b"\r", b"\n"))


BROKEN: Final = ("a\rb", "a\nb", "a\r\n250 b", "\n", "\r", "a\r")


@pytest.mark.parametrize("text", BROKEN)
def test_no_reply_holds_a_newline_and_a_mistake_changes_nothing(text: str) -> None:
    seat = Seat(handler=lambda connection, event: None)
    seat.connection.receive_data(b"EHLO c\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n")
    for _ in range(3):
        seat.connection.next_event()
    for say in (
        lambda: seat.connection.accept(text),
        lambda: seat.connection.reply(Reply(550, text)),
        lambda: seat.connection.reply(Reply(550, "one", text)),
        lambda: seat.connection.close(Reply(421, text)),
    ):
        seat.drain()
        with pytest.raises(LocalProtocolError):
            say()
        assert seat.drain() == b""
        assert isinstance(seat.connection.owed, Rcpt)


@pytest.mark.parametrize("text", BROKEN)
def test_what_an_upstream_said_is_relayed_in_clean_lines(text: str) -> None:
    def relay(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Rcpt):
            connection.reply(Reply(550, text, f"{text}{text}").relayed())
        elif isinstance(event, Mail):
            connection.accept()

    seat = ready(handler=relay)
    said = seat.say(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n")
    assert codes(said) == [250, 550]
    assert lines_are_clean(said)
    assert said.count(b"\n") == 3, "a line is a line, whatever is in it"


@pytest.mark.parametrize("text", BROKEN)
def test_no_line_of_ehlo_can_be_given_a_newline(text: str) -> None:
    with pytest.raises(LocalProtocolError):
        ServerConfig(text)
    with pytest.raises(LocalProtocolError):
        ServerConfig(NAME, mechanisms=(text,))
    with pytest.raises(LocalProtocolError):
        Extension(text)
    with pytest.raises(LocalProtocolError):
        Extension("X-FOO", announced=(text,))
    with pytest.raises(LocalProtocolError):
        ServerConfig(NAME, offers=frozenset({text}))


def test_all_that_is_said_of_oneself_is_in_clean_lines() -> None:
    own = ServerConfig(NAME, starttls=True, mechanisms=("PLAIN",), extensions=(Extension("X-FOO", announced=("BAR",)),))
    assert lines_are_clean(Seat(own).say(b"EHLO c\r\nHELP\r\nVRFY x\r\nNOPE\r\nQUIT\r\n"))
