"""The server's seat: what can be said to what is owed, and what a mistake leaves unchanged."""

from __future__ import annotations

from typing import get_args

import pytest

from smtpstate import (
    Auth,
    AuthResponse,
    Connected,
    Data,
    Ehlo,
    EndOfMessage,
    Expn,
    Helo,
    Lhlo,
    LocalProtocolError,
    Mail,
    Noop,
    Phase,
    Rcpt,
    Reply,
    ServerConfig,
    ServerConnection,
    Vrfy,
)
from smtpstate._events import Owed
from smtpstate.extensions import Extension, OwnCommand, OwnVerb
from smtpstate.policy import EarlyInput, WireRules
from tests.helpers import ManualClock, ready

EVERY_CODE = range(200, 600)

STAGES = [
    (Connected, b"", 2, b"220 "),
    (Ehlo, b"EHLO c.example\r\n", 2, b"250-"),
    (Helo, b"HELO c.example\r\n", 2, b"250 "),
    (Mail, b"EHLO c.example\r\nMAIL FROM:<>\r\n", 2, b"250 2.1.0 "),
    (Rcpt, b"EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\n", 2, b"250 2.1.5 "),
    (Data, b"EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n", 3, b"354 "),
    (EndOfMessage, b"EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n.\r\n", 2, b"250 2.0.0 "),
    (Vrfy, b"VRFY x\r\n", 2, b""),
    (Expn, b"EXPN x\r\n", 2, b""),
    (OwnCommand, b"EHLO c.example\r\nETRN x\r\n", 2, b""),
]


def at(kind: type, said: bytes) -> ServerConnection:
    """A connection that owes a verdict for this kind of event."""
    etrn = Extension("ETRN", verb=OwnVerb("ETRN"))
    config = ServerConfig(
        "mx.example.org",
        asks_vrfy=True,
        asks_expn=True,
        extensions=(etrn,),
        wire=WireRules(early_input=EarlyInput.NOTE),
    )
    connection = ServerConnection(config, clock=ManualClock())
    connection.receive_data(said)
    while type(connection.next_event()) is not kind:
        connection.accept()
    connection.data_to_send()
    connection.data_to_send()
    return connection


def test_the_stages_are_all_there_are() -> None:
    """LHLO and AUTH have rules of their own, and tests: test_server_lmtp.py and test_server_auth.py."""
    assert {kind for kind, _, _, _ in STAGES} | {Lhlo, Auth, AuthResponse} == set(get_args(Owed))


def facts(connection: ServerConnection) -> tuple[object, ...]:
    """Whatever a mistake could have changed."""
    return (
        connection.phase,
        connection.owed,
        connection.transaction,
        connection.hello,
        connection.tls,
        connection.closed,
        connection.half_close,
        connection.deadline,
    )


@pytest.mark.parametrize(("kind", "said", "digit", "yes"), STAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_code_of_the_wrong_class_is_refused_and_changes_nothing(
    kind: type, said: bytes, digit: int, yes: bytes
) -> None:
    connection = at(kind, said)
    before = facts(connection)
    legal = {code for code in EVERY_CODE if code // 100 in (digit, 4, 5)}
    for code in {*range(0, 700, 7), 100, 199, 600, -250, 2500, *EVERY_CODE} - legal:
        with pytest.raises(LocalProtocolError, match="cannot answer"):
            connection.reply(Reply(code))
    assert facts(connection) == before
    assert connection.data_to_send() == b""


@pytest.mark.parametrize(("kind", "said", "digit", "yes"), STAGES, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a\r\n250 b", "a second reply"),
        ("a\nb", "half of one"),
        ("\0", "NUL"),
        ("\x1b[31m", "a terminal's escape"),
        ("\x85", "C1"),
        ("\u2028", "a line separator"),
        ("x" * 600, "too long"),
    ],
)
def test_a_text_that_cannot_be_said_is_refused_and_changes_nothing(
    kind: type, said: bytes, digit: int, yes: bytes, text: str, reason: str
) -> None:
    connection = at(kind, said)
    before = facts(connection)
    with pytest.raises(LocalProtocolError):
        connection.accept(text)
    for code in (digit * 100 + 50, 450, 550):
        with pytest.raises(LocalProtocolError):
            connection.reply(Reply(code, text))
    with pytest.raises(LocalProtocolError):
        connection.reply(Reply(550, "x", enhanced="2.0.0"))
    with pytest.raises(LocalProtocolError):
        connection.close(Reply(421, text))
    with pytest.raises(LocalProtocolError):
        connection.close(Reply(550))
    assert facts(connection) == before, reason
    assert connection.data_to_send() == b"", reason
    if yes:
        assert connection.accept()
        assert connection.data_to_send().startswith(yes)


@pytest.mark.parametrize(("kind", "said", "digit", "yes"), STAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_421_or_521_closes_whatever_is_owed(kind: type, said: bytes, digit: int, yes: bytes) -> None:
    plain = kind in (Connected, Ehlo, Helo)
    for code in (421, 521):
        for how in (ServerConnection.reply, ServerConnection.close):
            connection = at(kind, said)
            how(connection, Reply(code, "Bye"))
            assert connection.phase is Phase.CLOSING
            enhanced = b"" if plain else b"%d.0.0 " % (code // 100)
            assert connection.data_to_send() == b"%d %sBye\r\n" % (code, enhanced)
            assert connection.accept() is connection.reply(Reply(250)) is False, "it came too late"


def test_without_an_owed_verdict_there_is_nothing_to_say() -> None:
    seat = ready()
    before = facts(seat.connection)
    for verdict in (seat.connection.accept, lambda: seat.connection.reply(Reply(250))):
        with pytest.raises(LocalProtocolError, match="no verdict is owed in phase READY"):
            verdict()
    assert facts(seat.connection) == before
    seat.connection.receive_data(b"NOOP\r\n")
    assert seat.connection.next_event() == Noop()
    with pytest.raises(LocalProtocolError):
        seat.connection.accept()


def test_a_verdict_is_given_once() -> None:
    connection = at(Mail, b"EHLO c.example\r\nMAIL FROM:<>\r\n")
    assert connection.accept()
    with pytest.raises(LocalProtocolError):
        connection.accept()


@pytest.mark.parametrize(
    ("said", "phase", "reason"),
    [
        (b"EHLO c.example\r\n", Phase.GREETED, "no session yet"),
        (b"EHLO c.example\r\nMAIL FROM:<>\r\n", Phase.READY, "no transaction"),
        (b"EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\n", Phase.MAIL, "no recipient"),
        (b"EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n", Phase.RCPT, "the transaction stands"),
    ],
)
def test_a_no_leaves_the_session_where_it_was(said: bytes, phase: Phase, reason: str) -> None:
    last = said.rstrip(b"\r\n").rpartition(b"\n")[2].split()[0].capitalize().decode()
    connection = at({"Ehlo": Ehlo, "Mail": Mail, "Rcpt": Rcpt, "Data": Data}[last], said)
    assert connection.reply(Reply(450, "Not now", enhanced="4.7.1"))
    assert connection.phase is phase, reason
