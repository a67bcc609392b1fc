"""The trace: its records, when the phase is told, and how all of it reads."""

from __future__ import annotations

import pytest

from smtpstate._address import ReversePath
from smtpstate._commands import Auth, AuthCancel, AuthResponse, Bdat, Command, Mail, Noop, Verb
from smtpstate._events import Timer, TraceLine, Violation
from smtpstate._replies import Reply
from smtpstate._state import Phase, Session
from smtpstate._trace import Teller, TraceBudget, TracePhase, TraceRecord, TraceVerdict, render


def test_the_phase_is_told_before_whatever_comes_after_it() -> None:
    records: list[TraceRecord] = []
    session = Session(Phase.READY)
    teller = Teller(session, records.append)
    teller.phase()
    teller.line("C", b"MAIL FROM:<>")
    session.phase = Phase.MAIL
    teller.line("S", b"250 OK\r\n")
    teller.phase()
    teller.verdict(Verb.MAIL, Reply(250), silent=True)
    session.phase = Phase.CLOSED
    teller.budget(Timer.COMMAND)
    teller.phase()
    assert records == [
        TraceLine("C", b"MAIL FROM:<>"),
        TracePhase(Phase.MAIL),
        TraceLine("S", b"250 OK\r\n"),
        TraceVerdict(Verb.MAIL, Reply(250), silent=True),
        TracePhase(Phase.CLOSED),
        TraceBudget(Timer.COMMAND),
    ]


@pytest.mark.parametrize(
    ("command", "octets", "lines"),
    [
        (Mail(ReversePath(None)), b"MAIL FROM:<>\r\n", [b"MAIL FROM:<>"]),
        (Auth("PLAIN", b"\0me\0secret"), b"AUTH PLAIN AG1lAHNlY3JldA==\r\n", [b"AUTH PLAIN ***"]),
        (Auth("PLAIN", b""), b"AUTH PLAIN =\r\n", [b"AUTH PLAIN ***"]),
        (Auth("LOGIN"), b"AUTH LOGIN\r\n", [b"AUTH LOGIN"]),
        (AuthResponse(b"secret"), b"c2VjcmV0\r\n", [b"***"]),
        (AuthCancel(), b"*\r\n", [b"***"]),
        (Bdat(7), b"BDAT 7\r\n", [b"BDAT 7", b"(7 octets)"]),
        (Bdat(0, last=True), b"BDAT 0 LAST\r\n", [b"BDAT 0 LAST", b"(0 octets) ."]),
    ],
)
def test_a_command_is_told_without_its_secret(command: Command, octets: bytes, lines: list[bytes]) -> None:
    records: list[TraceRecord] = []
    Teller(Session(), records.append).command(command, octets)
    assert records == [TraceLine("C", line) for line in lines]


def test_where_nobody_follows_nothing_is_told() -> None:
    session = Session()
    teller = Teller(session, None)
    teller.command(Noop(), b"NOOP\r\n")
    teller.line("S", b"250 OK\r\n")
    teller.verdict(Verb.MAIL, Reply(250))
    teller.budget(Violation.TOO_MANY_ERRORS)
    session.phase = Phase.READY
    teller.phase()


def test_it_reads_as_text() -> None:
    records: list[TraceRecord] = [
        TraceLine("S", b"250-mx.example.org\r\n250 SIZE\r\n"),
        TraceLine("C", b"\x1b[2J\0\xff\rS: 250 fine"),
        TracePhase(Phase.RCPT),
        TraceVerdict(Verb.RCPT, Reply(550, "n\u00f3", "\x1b", enhanced="5.1.1")),
        TraceVerdict(Verb.END, Reply(451), silent=True),
        TraceBudget(Timer.BODY),
        TraceBudget(Violation.TOO_MANY_ERRORS),
    ]
    assert render(records) == (
        "S: 250-mx.example.org\n"
        "S: 250 SIZE\n"
        "C: \\x1b[2J\\x00\\xff\\x0dS: 250 fine\n"
        "-- phase RCPT\n"
        "-- RCPT is answered 550 5.1.1 n\\xc3\\xb3 ?\n"
        "-- END is answered 451, by nobody\n"
        "-- time is up: BODY\n"
        "-- too much: TOO_MANY_ERRORS\n"
    )
    assert render([]) == ""
