"""Scripted clients: the same table against our server in memory, against a script, and against a port."""

from __future__ import annotations

import pytest

from smtpstate import (
    Body,
    CloseReason,
    ConnectionClosed,
    Data,
    Ehlo,
    EndOfMessage,
    Limits,
    Mail,
    Quit,
    Rcpt,
    Reply,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    Timer,
    Violation,
)
from smtpstate.policy import Forbidden, WireRules
from smtpstate_testing import SmtpServer
from smtpstate_testing import _certificates as certificates
from smtpstate_testing.script import ClientScript, Connected, Script, ScriptServer, on
from smtpstate_testing.script import Rcpt as RcptPattern

TO_THE_BODY = (
    ClientScript()
    .expect(220)
    .say(Ehlo("client.example.com"))
    .expect("250-mx.example.org*")
    .say(Mail.of("me@example.com"))
    .say(Rcpt.of("you@example.org"))
    .say(Data())
    .expect(250)
    .expect("25? *")
    .expect(354)
)
WHOLE = TO_THE_BODY.say(b"Subject: x\r\n\r\n..\r\n.\r\n").expect("2*").say("QUIT").expect(221).expect_close()


@pytest.mark.parametrize("cut", [None, 1, 5])
def test_a_message_is_sent_by_hand(cut: int | None) -> None:
    played = WHOLE.play(cut=cut)
    assert [event for event in played.events if isinstance(event, Body | EndOfMessage)][-1] == EndOfMessage()
    assert played.replies[-1] == "221 2.0.0 Bye"
    assert played.seconds == 0
    assert played.events[-1] == ConnectionClosed(CloseReason.QUIT)
    assert "C: DATA\nS: 250 2.1.0 Sender accepted\n" in played.transcript


def test_it_talks_to_a_script_as_well() -> None:
    assert WHOLE.play(Script()).replies[0] == "220 mx.example.org ESMTP"
    with pytest.raises(AssertionError, match=r"'25\? \*' was expected, and this came:\n450 4\.0\.0"):
        WHOLE.play(Script(on(RcptPattern("you@*")).reply(450)))


def test_it_talks_to_a_port_as_well() -> None:
    with SmtpServer() as server:
        played = WHOLE.connect(server.host, server.port)
    assert server.inbox[0].data == b"Subject: x\r\n\r\n.\r\n"
    assert "S: 221 " in played.transcript


def test_what_is_expected_fails_with_all_that_was_said() -> None:
    with pytest.raises(AssertionError) as failed:
        ClientScript().expect(220).say("NOOP").expect(550).play()
    assert str(failed.value) == (
        "a reply that is 550 was expected, and this came:\n250 2.0.0 OK\nwhat was said:\n"
        "S: 220 mx.example.org ESMTP\nC: NOOP\nS: 250 2.0.0 OK\n"
    )


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (ClientScript().expect(220).say("QUIT").expect(221).expect(250), "the connection ended"),
        (ClientScript().expect_close(), "where the end was expected:\n220"),
        (ClientScript().expect(220).say("QUIT").expect_close(), "where the end was expected:\n221"),
        (ClientScript().start_tls(), "nothing will ever come|handshake failed"),
    ],
)
def test_what_does_not_come_is_missed(script: ClientScript, reason: str) -> None:
    with pytest.raises(AssertionError, match=reason):
        script.play(limits=Limits(command_seconds=5))


def test_silence_of_a_script_is_missed() -> None:
    with pytest.raises(AssertionError, match="nothing will ever come"):
        ClientScript().expect(220).play(Script(on(Connected).silence()))


def test_silence_on_a_port_is_missed() -> None:
    script = Script(on(Connected).stall())
    with ScriptServer(script) as server, pytest.raises(AssertionError, match=r"did not come in 0\.05 seconds"):
        ClientScript().expect(220).connect(server.host, server.port, timeout=0.05)


# How it misbehaves.


def test_a_slow_client_is_cut() -> None:
    slow = TO_THE_BODY.slow(octets_per_second=0.1).say(b"x" * 1000).expect("421 *").expect_close()
    played = slow.play()
    closed = played.events[-1]
    assert isinstance(closed, ConnectionClosed)
    assert (closed.reason, closed.timer) == (CloseReason.TIMEOUT, Timer.BODY)


def test_a_pause_is_kept() -> None:
    assert ClientScript().expect(220).wait(100).say("NOOP").expect(250).play().seconds == 100
    assert ClientScript().expect(220).wait(1000).expect("421 *").play().seconds == 1000


def test_a_slow_client_waits_until_all_has_left() -> None:
    script = ClientScript().expect(220).slow(1).say("NOOP").wait(10).expect(250)
    assert script.play().seconds == pytest.approx(len("NOOP\r\n") - 1 + 10)


def test_garbage_is_refused_and_the_same_each_time() -> None:
    def garbage(seed: int) -> ClientScript:
        return ClientScript(seed=seed).expect(220).garbage(300).say(b"\r\n").say("QUIT")

    assert garbage(7) == garbage(7)
    assert garbage(7) != garbage(8)
    refused = garbage(7).expect("221 2.7.0 *").expect_close()
    played = refused.play()
    assert played.transcript == refused.play().transcript
    assert played.events[-1] == ConnectionClosed(CloseReason.VIOLATION, Violation.FORBIDDEN_COMMAND)
    lenient = ServerConfig("mx.example.org", wire=WireRules(forbidden=Forbidden()))
    assert "500 5.5.2 " in garbage(7).expect(500).play(lenient).transcript


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (TO_THE_BODY.say(b"half a mess").drop(), CloseReason.EOF),
        (TO_THE_BODY.say(b"half a mess").reset(), CloseReason.LOST),
        (TO_THE_BODY, CloseReason.EOF),
        (TO_THE_BODY.slow(1).say(b"half").drop(), CloseReason.EOF),
    ],
)
def test_a_client_that_leaves(script: ClientScript, reason: CloseReason) -> None:
    closed = script.play().events[-1]
    assert isinstance(closed, ConnectionClosed)
    assert closed.reason is reason


def test_a_client_that_leaves_a_port() -> None:
    with SmtpServer() as server:
        for script in (TO_THE_BODY.say(b"half").drop(), TO_THE_BODY.say(b"half").reset()):
            script.connect(server.host, server.port)
    assert server.inbox == []


def test_plaintext_behind_starttls_is_noticed() -> None:
    script = ClientScript().expect(220).say("EHLO c").expect(250).say(b"STARTTLS\r\nRSET\r\n").expect("554 *")
    closed = script.play(tls="starttls").events[-1]
    assert isinstance(closed, ConnectionClosed)
    assert closed.violation is Violation.EARLY_PLAINTEXT


# In TLS.

SECURED = ClientScript().expect(220).say("EHLO c").expect(250).say("STARTTLS").expect(220).start_tls()


@pytest.mark.parametrize("server", [None, Script()])
def test_it_starts_tls(server: Script | None) -> None:
    played = SECURED.say("EHLO c").expect(250).say(Quit()).expect(221).play(server, tls="starttls")
    assert "STARTTLS" not in played.replies[3]
    implicit = ClientScript().start_tls().expect(220).say(Quit()).expect(221)
    assert implicit.play(server, tls="implicit").replies[-1].startswith("221 ")


def test_it_starts_tls_on_a_port() -> None:
    with ScriptServer(Script(), tls=certificates.server_context("127.0.0.1")) as server:
        script = SECURED.say("EHLO c").expect(250).say("QUIT").expect(221).expect_close()
        script.connect(server.host, server.port, tls=certificates.client_context())


# What else a test may choose.


def test_the_handler_gives_the_verdicts() -> None:
    def nobody(server: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Rcpt):
            server.reply(Reply(550, "Nobody", enhanced="5.1.1"))

    script = ClientScript().expect(220).say("EHLO c").expect(250).say("MAIL FROM:<>").expect(250)
    script.say(Rcpt.of("you@example.org")).expect("550 5.1.1 Nobody").play(handler=nobody)


def test_a_rate_is_more_than_nothing() -> None:
    with pytest.raises(ValueError, match="no rate"):
        ClientScript().slow(0)
