"""Scripted servers: what each row does to a client, in memory and over a socket, and that it does the same twice."""

from __future__ import annotations

import smtplib
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from smtpstate import (
    Auth,
    AuthResponse,
    Bdat,
    Body,
    CloseReason,
    Command,
    ConnectionBroken,
    Ehlo,
    Limits,
    LocalProtocolError,
    Noop,
    Reply,
    ReplyReceived,
    Result,
    StartTls,
    Timer,
    TlsMode,
    Violation,
)
from smtpstate import Data as DataCommand
from smtpstate import Mail as MailCommand
from smtpstate import Rcpt as RcptCommand
from smtpstate.delivery import Envelope, open_session, quit_session, send_message
from smtpstate_testing import _certificates as certificates
from smtpstate_testing.script import (
    Connected,
    Course,
    Data,
    EndOfMessage,
    Line,
    Mail,
    Rcpt,
    Row,
    Script,
    ScriptedPair,
    ScriptServer,
    after,
    garbage,
    on,
    slow,
    stall_handshake,
)

if TYPE_CHECKING:
    from smtpstate_testing._patterns import About
    from smtpstate_testing._rows import StalledHandshake, Step

ENVELOPE = Envelope("me@example.com", ("bob@example.org", "eve@example.org"))
OPENING: tuple[Command, ...] = (Ehlo("c"), MailCommand.of("me@example.com"), RcptCommand.of("bob@example.org"))


def opened(*rows: Row | StalledHandshake, **options: object) -> ScriptedPair:
    pair = ScriptedPair(Script(*rows), **options)  # type: ignore[arg-type]  # options of the pair
    pair.run(open_session(pair.client, TlsMode.OFF))
    return pair


def codes(pair: ScriptedPair) -> list[int]:
    return [event.reply.code for event in pair.client_events if isinstance(event, ReplyReceived)]


def said(*rows: Row, items: tuple[Command, ...] = OPENING, **options: object) -> list[int]:
    """The codes that answer these commands, each sent when nothing is outstanding."""
    pair = ScriptedPair(Script(*rows, **options))  # type: ignore[arg-type]  # options of the script
    pair.drive()
    with suppress(LocalProtocolError):  # what was refused cannot be built on
        for item in items:
            pair.client.send(item)
            pair.drive()
    return codes(pair)


# What it does by itself.


@pytest.mark.parametrize("cut", [None, 1, 3, (7, 1)])
@pytest.mark.parametrize(
    ("tls", "mode"), [(None, TlsMode.OFF), ("starttls", TlsMode.REQUIRED), ("implicit", TlsMode.IMPLICIT)]
)
def test_without_rows_it_takes_everything(cut: int | tuple[int, ...] | None, tls: str | None, mode: TlsMode) -> None:
    pair = ScriptedPair(Script(), cut=cut, tls=tls)  # type: ignore[arg-type]  # the table's strings are the literals
    pair.run(open_session(pair.client, mode))
    assert pair.run(send_message(pair.client, ENVELOPE), [b".dots\r\n", b"..\r\n.\r\nend"]).all_accepted
    assert pair.run(send_message(pair.client, ENVELOPE), []).all_accepted
    pair.run(quit_session(pair.client))
    first, second = pair.inbox
    assert (first.sender, first.recipients) == ("me@example.com", ("bob@example.org", "eve@example.org"))
    assert first.data == b".dots\r\n..\r\n.\r\nend\r\n"
    assert first.hello == "client.example.com"
    assert (first.tls is not None) is (tls is not None)
    assert second.data == b""
    assert second.transcript.endswith("C: .\nS: 250 2.0.0 OK\n")
    assert pair.client.closed is not None
    assert pair.client.closed.reason is CloseReason.QUIT


def test_lmtp_has_an_answer_for_each_recipient() -> None:
    pair = ScriptedPair(Script(lmtp=True))
    pair.run(open_session(pair.client, TlsMode.OFF))
    assert pair.run(send_message(pair.client, ENVELOPE), [b"x"]).all_accepted
    assert pair.transcript.count("S: 250 2.0.0 OK\n") == 2


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ((Auth("PLAIN", b"\0me\0x"),), [235]),
        ((Auth("PLAIN"), AuthResponse(b"\0me\0x")), [334, 235]),
        ((Auth("LOGIN"), AuthResponse(b"me"), AuthResponse(b"x")), [334, 334, 235]),
        ((Auth("LOGIN", b"me"), AuthResponse(b"x")), [334, 235]),
    ],
)
def test_anybody_may_log_in(commands: tuple[Command, ...], expected: list[int]) -> None:
    assert said(items=(Ehlo("c"), *commands), offers=("AUTH PLAIN LOGIN",)) == [220, 250, *expected]


def test_a_password_is_in_no_transcript() -> None:
    pair = ScriptedPair(Script(offers=("AUTH LOGIN",)))
    pair.drive()
    for item in (Ehlo("c"), Auth("LOGIN"), AuthResponse(b"me"), AuthResponse(b"secret")):
        pair.client.send(item)
        pair.drive()
    assert "C: ***\n" in pair.transcript
    assert "c2VjcmV0" not in pair.transcript


def test_chunks_are_taken() -> None:
    pair = ScriptedPair(Script(offers=("CHUNKING", "PIPELINING")))
    pair.drive()
    for item in OPENING:
        pair.client.send(item)
        pair.drive()
    for chunk, octets in ((Bdat(5), b"a\r\n.\r"), (Bdat(2, last=True), b"\nb")):
        pair.client.send(chunk)
        pair.client.send(Body(octets))
    pair.drive()
    assert [message.data for message in pair.inbox] == [b"a\r\n.\r\nb"]


# What rows say.


def test_the_first_time_and_the_second() -> None:
    row = on(Rcpt("bob@*")).reply(451).then(250)
    assert said(row, items=(*OPENING, OPENING[-1], OPENING[-1])) == [220, 250, 250, 451, 250, 250]


def test_greylisting_remembers_over_connections() -> None:
    course = Course(Script(on(Rcpt("bob@*")).reply(451, "come back").then(250)))
    outcomes = []
    for _ in range(2):
        pair = ScriptedPair(course)
        pair.run(open_session(pair.client, TlsMode.OFF))
        outcomes.append([result.outcome for result in pair.run(send_message(pair.client, ENVELOPE), [b"x"])])
    assert outcomes == [[Result.RETRY, Result.ACCEPTED], [Result.ACCEPTED, Result.ACCEPTED]]


ROWS: list[tuple[Row, list[int], str]] = [
    (on(Rcpt("BOB@EXAMPLE.ORG")).reply(550), [250, 250, 550], "in any case"),
    (on(Rcpt("?ob@*.org")).reply(550), [250, 250, 550], "wildcards"),
    (on(Rcpt("eve@*")).reply(550), [250, 250, 250], "somebody else"),
    (on(Rcpt).reply(550), [250, 250, 550], "all of a kind"),
    (on(RcptCommand).reply(550), [250, 250, 550], "the core's own class"),
    (on(OPENING[2]).reply(550), [250, 250, 550], "one command"),
    (on(Line("RCPT *bob*")).reply(550), [250, 250, 550], "a line as it is"),
    (on(Mail("me@*", parameters="*SIZE=*")).reply(552), [250, 250, 250], "parameters that are not there"),
    (on(Mail("*", parameters="")).reply(552), [250, 552], "no parameters"),
    (on(Ehlo).reply(502), [502], "a hello"),
    (on(Rcpt).reply(451).times(2).then().reply(250), [250, 250, 451], "so many times"),
    (on(Rcpt).then(550), [250, 250, 250], "first as usual"),
    (on(Rcpt).reply(Reply(550, "no", "really", enhanced="5.1.1")), [250, 250, 550], "a whole reply"),
    (on(Rcpt).say(b"250-2.1.5 yes\r\n250 2.1.5 and yes\r\n"), [250, 250, 250], "octets"),
    (on(Rcpt).reply(999), [250, 250], "what is no code"),
]


@pytest.mark.parametrize(("row", "expected", "reason"), ROWS, ids=[reason for _, _, reason in ROWS])
def test_a_row_answers(row: Row, expected: list[int], reason: str) -> None:
    assert said(row)[1:][: len(expected) + 1] == expected


def test_of_two_rows_that_fit_the_first_answers() -> None:
    assert said(on(Rcpt("bob@*")).reply(450), on(Rcpt).reply(550))[-1] == 450


@pytest.mark.parametrize("about", [StartTls, Noop])
def test_what_it_would_have_done_it_does_not(about: About) -> None:
    items = (Ehlo("c"), Noop(), StartTls(), *OPENING[1:])
    pair = ScriptedPair(Script(on(about).reply(454)), tls="starttls")
    pair.drive()
    for item in items[: 2 if about is Noop else 5]:
        if item != Noop() or about is Noop:
            pair.client.send(item)
            pair.drive()
    assert codes(pair)[2] == 454
    assert pair.client.closed is None
    assert pair.client.tls is None


def test_a_code_that_closes_does() -> None:
    pair = ScriptedPair(Script(on(Rcpt).reply(421, "not now")))
    pair.run(open_session(pair.client, TlsMode.OFF))
    delivery = pair.run(send_message(pair.client, ENVELOPE), [b"x"])
    assert [result.outcome for result in delivery] == [Result.RETRY, Result.RETRY]
    assert pair.client.broken is CloseReason.GOING_AWAY


def test_a_line_that_is_no_command_has_an_answer() -> None:
    script = Script(on(Line("XFOO *")).reply(250, "bar"))
    with ScriptServer(script) as server, smtplib.SMTP(server.host, server.port) as client:
        assert client.docmd("XFOO", "1") == (250, b"2.0.0 bar")
        assert client.docmd("XBAR", "1")[0] == 500
        assert client.docmd("", "")[0] == 500


# What else they do.


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (on(Data).drop(), CloseReason.EOF),
        (after(Data).drop(), CloseReason.EOF),
        (after(Data, octets=5).drop(), CloseReason.EOF),
        (on(EndOfMessage).drop(), CloseReason.EOF),
        (on(Data).reset(), CloseReason.LOST),
        (after(Data, octets=1).reset(), CloseReason.LOST),
        (on(Data).stall(), CloseReason.TIMEOUT),
        (on(Data).silence(), CloseReason.TIMEOUT),
        (on(Data).garbage(), CloseReason.VIOLATION),
        (on(Data).say(b"\r\n"), CloseReason.VIOLATION),
        (after(Data).say(b"250 2.0.0 I have it already\r\n"), CloseReason.VIOLATION),
        (on(EndOfMessage).stall(), CloseReason.TIMEOUT),
    ],
    ids=str,
)
def test_a_server_that_fails(row: Row, reason: CloseReason) -> None:
    pair = opened(row)
    delivery = pair.run(send_message(pair.client, ENVELOPE), [b"twelve octets"])
    assert pair.client.broken is reason
    lost_at_the_end = row.about == on(EndOfMessage).about
    assert {result.outcome for result in delivery} == {Result.UNKNOWN if lost_at_the_end else Result.RETRY}
    assert pair.inbox == []


def test_a_reply_and_then_the_end() -> None:
    pair = opened(on(Rcpt("eve@*")).reply(250).drop())
    pair.run(send_message(pair.client, ENVELOPE), [b"x"])
    assert "S: 250 2.0.0 \n" in pair.transcript
    assert pair.client.broken is CloseReason.EOF


def test_a_delay_is_kept_and_no_more() -> None:
    pair = opened(on(Mail).delay(250), after(Rcpt("bob@*")).delay(100))
    assert pair.run(send_message(pair.client, ENVELOPE), [b"x"]).all_accepted
    assert pair.clock.now == 350


def test_a_delay_can_be_too_long() -> None:
    pair = opened(on(Mail).delay(301))
    pair.run(send_message(pair.client, ENVELOPE), [b"x"])
    assert pair.client.broken is CloseReason.TIMEOUT
    assert pair.clock.now == 300


def test_a_slow_server_says_an_octet_at_a_time() -> None:
    pair = opened(slow(octets_per_second=10))
    pair.run(quit_session(pair.client))
    assert pair.client.closed is not None
    assert pair.client.closed.reason is CloseReason.QUIT
    # The greeting's first octet leaves at once.
    assert pair.clock.now == pytest.approx((len(pair.received) - 1) / 10)


def test_a_server_that_is_too_slow_is_left() -> None:
    pair = ScriptedPair(Script(slow(octets_per_second=0.01)))
    pair.drive()
    while pair.jump():
        pass
    assert pair.client.closed is not None
    assert (pair.client.closed.reason, pair.client.closed.timer) == (CloseReason.TIMEOUT, Timer.GREETING)


def test_garbage_is_the_same_for_the_same_seed() -> None:
    first, second, other = (ScriptedPair(Script(garbage(200), seed=seed)) for seed in (1, 1, 2))
    for pair in (first, second, other):
        pair.drive()
    assert first.received == second.received != other.received
    assert len(first.received) == 200


@pytest.mark.parametrize(("tls", "mode"), [("starttls", TlsMode.REQUIRED), ("implicit", TlsMode.IMPLICIT)])
def test_a_handshake_that_stalls_is_left(tls: str, mode: TlsMode) -> None:
    pair = ScriptedPair(Script(stall_handshake()), tls=tls, client_limits=Limits(handshake_seconds=7))  # type: ignore[arg-type]
    with pytest.raises(ConnectionBroken):
        pair.run(open_session(pair.client, mode))
    assert pair.clock.now == 7
    assert pair.client.closed is not None
    assert pair.client.closed.timer is Timer.HANDSHAKE


def test_octets_in_clear_before_the_handshake_are_noticed() -> None:
    pair = ScriptedPair(Script(on(StartTls).say(b"220 go\r\n250 injected\r\n")), tls="starttls")
    with pytest.raises(ConnectionBroken):
        pair.run(open_session(pair.client, TlsMode.REQUIRED))
    assert pair.client.closed is not None
    assert pair.client.closed.violation is Violation.EARLY_PLAINTEXT


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: on(Data).slow(0),
        lambda: on(Data).times(0),
        lambda: after(Data).reply(250),
        lambda: after(Data).silence(),
        lambda: after(Data).then(250),
    ],
)
def test_a_row_that_makes_no_sense_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        wrong()  # type: ignore[operator]


# On a port.


def test_the_same_table_serves_a_socket() -> None:
    script = Script(on(Rcpt("bob@*")).reply(451, "later").then(250))
    with ScriptServer(script) as server, smtplib.SMTP(server.host, server.port) as client:
        refused = client.sendmail("me@example.com", ["bob@example.org", "eve@example.org"], "Subject: x\r\n\r\n")
        assert refused == {"bob@example.org": (451, b"4.0.0 later")}
        assert client.sendmail("me@example.com", ["bob@example.org"], "Subject: x\r\n\r\n") == {}
    assert [message.recipients for message in server.inbox] == [("eve@example.org",), ("bob@example.org",)]
    assert server.inbox[0].message["Subject"] == "x"
    assert "S: 451 4.0.0 later\n" in server.inbox[0].transcript
    assert "C: QUIT\n" in server.transcripts[0]


@pytest.mark.parametrize("implicit", [False, True])
def test_the_same_table_serves_tls(implicit: bool) -> None:
    context = certificates.server_context("127.0.0.1")
    with ScriptServer(Script(), tls=context, implicit_tls=implicit) as server:
        client: smtplib.SMTP
        if implicit:
            client = smtplib.SMTP_SSL(server.host, server.port, context=certificates.client_context())
        else:
            client = smtplib.SMTP(server.host, server.port)
            client.starttls(context=certificates.client_context())
        with client:
            client.sendmail("me@example.com", ["bob@example.org"], "Subject: x\r\n\r\n")
    assert server.inbox[0].tls is not None


@pytest.mark.parametrize("row", [on(Data).drop(), on(Data).reset(), after(Data, octets=3).drop()], ids=str)
def test_a_socket_is_closed_when_the_table_says_so(row: Row) -> None:
    with ScriptServer(Script(row)) as server:
        client = smtplib.SMTP(server.host, server.port, timeout=30)
        with pytest.raises((smtplib.SMTPServerDisconnected, OSError)):
            client.sendmail("me@example.com", ["bob@example.org"], "Subject: x\r\n\r\n" + "x" * 100_000)
        client.close()
    assert server.inbox == []


@pytest.mark.parametrize("row", [on(Connected).stall(), stall_handshake(), on(Connected).delay(3600)], ids=str)
def test_whatever_is_open_ends_with_the_server(row: Row | StalledHandshake) -> None:
    context = certificates.server_context("127.0.0.1")
    with ScriptServer(Script(row), tls=context, implicit_tls=not isinstance(row, Row)) as server:
        peer = socket.create_connection((server.host, server.port))
        peer.sendall(b"\x16\x03\x01")
        idle = socket.create_connection((server.host, server.port))
    with peer, idle:
        pass


def test_a_slow_socket_is_slow() -> None:
    script = Script(slow(octets_per_second=5000))
    with ScriptServer(script) as server, smtplib.SMTP(server.host, server.port, timeout=30) as client:
        client.sendmail("me@example.com", ["bob@example.org"], "Subject: x\r\n\r\n")
    assert len(server.inbox) == 1


def test_what_goes_wrong_in_a_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(course: Course, heard: object) -> Step:
        raise ZeroDivisionError

    monkeypatch.setattr(Course, "answer", answer)
    server = ScriptServer(Script())
    server.__enter__()
    with socket.create_connection((server.host, server.port)) as peer:
        assert peer.recv(1) == b""
    with pytest.raises(ZeroDivisionError):
        server.__exit__(None, None, None)


assert DataCommand is Data
