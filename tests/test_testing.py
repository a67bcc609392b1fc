"""smtpstate_testing: virtual time, the Pair, and the server for code that sends mail."""

from __future__ import annotations

import smtplib
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio.to_thread
import pytest
import trustme

from smtpstate import (
    Body,
    CloseReason,
    Command,
    ConnectionBroken,
    Ehlo,
    EndOfMessage,
    Limits,
    LocalProtocolError,
    Mail,
    Noop,
    Phase,
    Quit,
    Rcpt,
    Reply,
    ReplyReceived,
    Result,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    Timer,
    TlsMode,
    Violation,
)
from smtpstate._delivery import Envelope, open_session, quit_session, send_message
from smtpstate.policy import EarlyInput, WireRules
from smtpstate_testing import Input, ManualClock, Pair, ReceivedMessage, SmtpServer, replay
from smtpstate_testing.pytest_plugin import smtp_server  # pytest finds it here where the plugin is not installed

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["smtp_server"]

pytest_plugins = ["pytester"]

ENVELOPE = Envelope("me@example.com", ("you@example.org",))
TO_THE_BODY = b"EHLO c\r\nMAIL FROM:<me@example.com>\r\nRCPT TO:<you@example.org>\r\nDATA\r\n"


# The clock.


def test_the_clock_moves_when_told() -> None:
    clock = ManualClock()
    clock.advance(60)
    clock.jump_to(90)
    assert (clock(), clock.now) == (90, 90)


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_the_clock_never_goes_back(seconds: float) -> None:
    clock = ManualClock(100)
    with pytest.raises(ValueError, match="time does not go"):
        clock.advance(seconds)
    with pytest.raises(ValueError, match="time does not go"):
        clock.jump_to(seconds)
    assert clock.now == 100


# Raw: octets by hand.


def test_a_noop_drip_is_cut() -> None:
    pair = Pair()
    pair.drip(b"NOOP\r\n" * 100, seconds_per_octet=60)
    assert (pair.server.closed.reason, pair.clock.now) == (CloseReason.TIMEOUT, 300)  # type: ignore[union-attr]  # as users write it
    assert pair.received == b"220 mx.example.org ESMTP\r\n421 4.4.2 Timeout exceeded\r\n"


def test_a_drip_that_is_fast_enough_is_served() -> None:
    pair = Pair()
    assert pair.drip(b"NOOP\r\n" * 3, seconds_per_octet=49) == b"220 mx.example.org ESMTP\r\n" + b"250 2.0.0 OK\r\n" * 3
    assert pair.clock.now == 18 * 49
    assert pair.server.closed is None


def test_talk_returns_what_the_server_says_now() -> None:
    pair = Pair()
    assert pair.talk() == b"220 mx.example.org ESMTP\r\n"
    assert pair.talk(b"NOOP\r\nFOO\r\n") == b"250 2.0.0 OK\r\n500 5.5.2 Command not recognised\r\n"
    assert pair.talk(b"NO") == b""
    assert pair.talk(b"OP\r\n") == b"250 2.0.0 OK\r\n"


def test_a_raw_peer_closes_when_the_server_does() -> None:
    pair = Pair()
    assert pair.talk(b"QUIT\r\n").endswith(b"221 2.0.0 Bye\r\n")
    assert pair.server.closed is not None
    assert pair.server.closed.reason is CloseReason.QUIT
    assert pair.talk(b"NOOP\r\n") == b""
    assert pair.drip(b"NOOP\r\n", seconds_per_octet=1) == b""
    assert pair.clock.now == 0


def test_hanging_up_comes_after_what_was_sent() -> None:
    pair = Pair()
    pair.talk(TO_THE_BODY + b"hello")
    assert pair.hang_up() == b""
    assert pair.server.closed is not None
    assert pair.server.closed.reason is CloseReason.EOF
    assert Body(b"hello") in pair.server_events


def test_a_deaf_peer_is_told_nothing_until_it_listens() -> None:
    pair = Pair()
    pair.talk()
    pair.deaf = True
    assert pair.deaf
    assert pair.talk(b"NOOP\r\n") == b""
    assert pair.talk(b"NOOP\r\n") == b""
    pair.deaf = False
    assert pair.talk() == b"250 2.0.0 OK\r\n" * 2


def test_a_deaf_peer_is_left_after_the_linger() -> None:
    pair = Pair()
    pair.deaf = True
    pair.talk(b"NOOP\r\n")
    assert pair.jump()
    assert (pair.clock.now, pair.server.closed) == (300, None)
    assert pair.jump()
    assert pair.clock.now == 302
    assert pair.server.closed is not None
    assert pair.server.closed.timer is Timer.COMMAND


@pytest.mark.parametrize(
    ("cut", "pieces"),
    [
        (None, [b"abcdefg"]),
        (3, [b"abc", b"def", b"g"]),
        ((1, 4), [b"a", b"bcde", b"f", b"g"]),
        ((), [b"abcdefg"]),
    ],
)
def test_octets_arrive_as_they_are_cut(cut: int | tuple[int, ...] | None, pieces: list[bytes]) -> None:
    pair = Pair(cut=cut)
    pair.talk(b"abcdefg")
    assert [item.data for item in pair.inputs] == pieces


@pytest.mark.parametrize("cut", [0, -1, (3, 0)])
def test_a_piece_has_at_least_one_octet(cut: int | tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least one octet"):
        Pair(cut=cut)


def test_the_transcript_shows_both_sides_and_no_control_characters() -> None:
    pair = Pair()
    pair.talk(b"HELO c\r\nNO\x1b[2J\0\xff\rS: 250 fine\r\n")
    assert pair.transcript == (
        "S: 220 mx.example.org ESMTP\n"
        "C: HELO c\n"
        "S: 250 mx.example.org\n"
        "C: NO\\x1b[2J\\x00\\xff\\x0dS: 250 fine\n"
        "S: 500 5.5.2 Syntax error\n"
    )


# The handler.


def test_the_handler_gives_the_verdicts() -> None:
    def only_you(server: ServerConnection, event: ServerEvent) -> None:
        match event:
            case Rcpt(recipient) if recipient.address == "you@example.org":
                server.accept()
            case EndOfMessage():
                server.reply(Reply(552, "No room", enhanced="5.2.2"))
            case _:
                pass  # the defaults

    pair = Pair(handler=only_you)
    pair.run(open_session(pair.client, TlsMode.OFF))
    delivery = pair.run(
        send_message(pair.client, Envelope("me@example.com", ("you@example.org", "him@example.org"))), [b"hello"]
    )
    assert [(result.outcome, result.reply) for result in delivery] == [
        (Result.REFUSED, Reply(552, "No room", enhanced="5.2.2")),
        (Result.REFUSED, Reply(550, "Recipient not accepted", enhanced="5.7.1")),
    ]


def test_the_default_handler_leaves_vrfy_and_expn_alone() -> None:
    pair = Pair(
        ServerConfig("mx.example.org", asks_vrfy=True, asks_expn=True, wire=WireRules(early_input=EarlyInput.NOTE))
    )
    said = pair.talk(b"HELO c\r\nVRFY you\r\nEXPN list\r\n")
    assert [line[:3] for line in said.split(b"\r\n")] == [b"220", b"250", b"252", b"502", b""]


def test_what_the_handler_raises_comes_out() -> None:
    def wrong(server: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Noop):
            server.accept()

    pair = Pair(handler=wrong)
    with pytest.raises(LocalProtocolError):
        pair.talk(b"NOOP\r\n")


# As a pair.


def test_a_session_by_hand() -> None:
    pair = Pair()
    pair.drive()
    commands: list[Command] = [
        Ehlo("client.example.com"),
        Mail.of("me@example.com"),
        Rcpt.of("you@example.org"),
        Quit(),
    ]
    for command in commands:
        assert pair.client.send(command)
        pair.drive()
    assert [event for event in pair.server_events if event in commands] == commands
    assert [event.to for event in pair.client_events if isinstance(event, ReplyReceived)][1:] == commands
    assert pair.server.closed == pair.client.closed
    assert pair.server.closed is not None
    assert pair.server.closed.reason is CloseReason.QUIT


def test_a_step_is_one_turn_each_and_says_when_nothing_is_left() -> None:
    pair = Pair(cut=1)
    steps = 0
    while pair.step():
        steps += 1
    assert steps >= len(b"220 mx.example.org ESMTP\r\n")
    assert pair.client_events == [
        event for event in pair.client_events if isinstance(event, ReplyReceived) and event.reply.code == 220
    ]
    assert not pair.step()


@pytest.mark.parametrize("cut", [None, 1, 2, 3, 99, (1, 7, 300)])
@pytest.mark.parametrize(
    ("tls", "mode"), [(None, TlsMode.OFF), ("starttls", TlsMode.REQUIRED), ("implicit", TlsMode.IMPLICIT)]
)
def test_procedures_run_over_any_cut_with_and_without_tls(
    cut: int | tuple[int, ...] | None, tls: str | None, mode: TlsMode
) -> None:
    pair = Pair(cut=cut, tls=tls)  # type: ignore[arg-type]  # the table's strings are the literals
    pair.run(open_session(pair.client, mode))
    delivery = pair.run(send_message(pair.client, ENVELOPE), [b".hello", b"", b"\r\n.\r\n"])
    pair.run(quit_session(pair.client))
    assert delivery.all_accepted
    assert b"".join(event.data for event in pair.server_events if isinstance(event, Body)) == b".hello\r\n.\r\n"
    assert (pair.server.tls is not None) is (tls is not None)
    assert pair.server.closed == pair.client.closed
    assert pair.server.phase is pair.client.phase is Phase.CLOSED


def test_the_greeting_waits_for_whoever_opens_the_session() -> None:
    pair = Pair()
    pair.drive()
    pair.run(open_session(pair.client, TlsMode.OFF))
    pair.client.send(Noop())
    pair.drive()
    assert pair.run(send_message(pair.client, ENVELOPE), [b"hello"]).all_accepted  # the answer to NOOP is not its own


def test_where_both_sides_wait_time_passes() -> None:
    pair = Pair()
    pair.run(open_session(pair.client, TlsMode.OFF))
    pair.deaf = True
    delivery = pair.run(send_message(pair.client, ENVELOPE), [b"hello"])
    assert [result.outcome for result in delivery] == [Result.RETRY]
    assert pair.client.closed is not None
    assert (pair.client.closed.timer, pair.clock.now) == (Timer.COMMAND, 300)


def test_a_wait_without_a_deadline_is_an_error() -> None:
    forever = Limits(greeting_seconds=float("inf"), command_seconds=float("inf"), session_seconds=float("inf"))
    pair = Pair(limits=forever, client_limits=forever)
    pair.deaf = True
    with pytest.raises(RuntimeError, match="nothing will ever happen"):
        pair.run(open_session(pair.client, TlsMode.OFF))
    assert not pair.jump()


def test_a_client_that_gives_up_is_seen_by_the_server() -> None:
    pair = Pair(timeout=10)
    pair.drive()
    assert pair.jump()
    assert (pair.client.broken, pair.clock.now) == (CloseReason.TIMEOUT, 10)
    assert pair.server.closed is not None
    assert pair.server.closed.reason is CloseReason.EOF
    with pytest.raises(ConnectionBroken):
        pair.run(open_session(pair.client, TlsMode.OFF))


def test_a_lost_connection_is_lost_for_both() -> None:
    pair = Pair()
    pair.run(open_session(pair.client, TlsMode.OFF))
    pair.lose()
    assert pair.client.broken is CloseReason.LOST
    assert pair.server.closed is not None
    assert pair.server.closed.reason is CloseReason.LOST


def test_an_attack_may_begin_in_the_middle_of_a_session() -> None:
    pair = Pair()
    pair.run(open_session(pair.client, TlsMode.OFF))
    assert pair.talk(b"RCPT TO:<you@example.org>\r\n") == b"503 5.5.1 Send MAIL first\r\n"


def test_clear_text_after_starttls_is_a_violation() -> None:
    pair = Pair(tls="starttls")
    pair.talk(b"EHLO c\r\n")
    pair.talk(b"STARTTLS\r\nMAIL FROM:<me@example.com>\r\n")
    assert pair.server.closed is not None
    assert pair.server.closed.violation is Violation.EARLY_PLAINTEXT


def test_an_implicit_tls_server_says_nothing_in_clear() -> None:
    pair = Pair(tls="implicit")
    assert not pair.talk(b"EHLO c\r\n").startswith(b"220")
    assert pair.server.closed is not None
    assert pair.server.closed.reason is CloseReason.TLS_FAILED


# Replay.


def test_a_session_replays_to_the_same_octets() -> None:
    pair = Pair(cut=5)
    pair.talk(TO_THE_BODY)
    pair.clock.advance(299)
    pair.drip(b"hello\r\n.\r\n", seconds_per_octet=30)
    pair.jump()
    assert pair.server.closed is not None
    assert replay(pair.inputs) == pair.received
    assert {item.what for item in pair.inputs} == {"data", "timeout", "eof"}


def test_a_lost_session_replays_too() -> None:
    pair = Pair()
    pair.talk(TO_THE_BODY)
    pair.lose()
    assert pair.inputs[-1] == Input(0, "lost")
    assert replay(pair.inputs) == pair.received


# The server for code that sends mail.

MESSAGE = "From: me@example.com\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n\r\n.hello\r\n"


def deliver(server: SmtpServer, sender: str = "me@example.com") -> None:
    with smtplib.SMTP(server.host, server.port, local_hostname="app.example.com") as client:
        client.sendmail(sender, ["you@example.org", "him@example.net"], MESSAGE)
        assert server.inbox  # it is there before the client is told so


def test_the_fixture_listens_and_keeps_what_arrives(smtp_server: SmtpServer) -> None:
    assert smtp_server.host == "127.0.0.1"
    deliver(smtp_server)
    deliver(smtp_server, sender="")
    received, bounce = smtp_server.inbox
    assert received == ReceivedMessage(
        sender="me@example.com",
        recipients=("you@example.org", "him@example.net"),
        data=MESSAGE.encode(),
        hello="app.example.com",
        tls=None,
    )
    assert received.message["Subject"] == "grüße"
    assert received.message.get_content() == ".hello\r\n"
    assert received.message is received.message
    assert bounce.sender == ""


@pytest.mark.anyio
async def test_the_fixture_works_in_async_tests_of_either_kind(smtp_server: SmtpServer) -> None:
    await anyio.to_thread.run_sync(deliver, smtp_server)
    assert [message.hello for message in smtp_server.inbox] == ["app.example.com"]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def _starttls(context: ssl.SSLContext, server: SmtpServer) -> smtplib.SMTP:
    client = smtplib.SMTP(server.host, server.port, local_hostname="app.example.com")
    client.starttls(context=context)
    return client


def _implicit(context: ssl.SSLContext, server: SmtpServer) -> smtplib.SMTP:
    return smtplib.SMTP_SSL(server.host, server.port, local_hostname="app.example.com", context=context)


@pytest.mark.parametrize("connect", [_starttls, _implicit])
def test_the_server_speaks_tls(
    authority: trustme.CA, connect: Callable[[ssl.SSLContext, SmtpServer], smtplib.SMTP]
) -> None:
    server_side, client_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    authority.configure_trust(client_side)
    with SmtpServer(tls=server_side, implicit_tls=connect is _implicit) as server:
        with connect(client_side, server) as client:
            client.sendmail("me@example.com", ["you@example.org"], MESSAGE)
        [message] = server.inbox
        assert message.tls is not None
        assert message.tls.version == "TLSv1.3"


def test_a_server_that_cannot_listen_says_so_to_whoever_started_it() -> None:
    with pytest.raises(OSError, match=r"\S"), SmtpServer(host="203.0.113.1"):
        pass  # TEST-NET-3 is nobody's, RFC 5737


def test_a_client_that_is_left_open_is_no_obstacle() -> None:
    with SmtpServer() as server:
        client = smtplib.SMTP(server.host, server.port, local_hostname="app.example.com")
        client.ehlo()
    assert client.noop()[0] == 421
    client.close()


def test_the_plugin_imports_nothing_until_it_is_asked() -> None:
    script = "import smtpstate_testing.pytest_plugin, sys; print({'anyio', 'ssl', 'trustme'} & set(sys.modules))"
    path = f"import sys; sys.path[:] = {sys.path!r}; "
    done = subprocess.run([sys.executable, "-I", "-c", path + script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_without_anyio_the_fixture_skips_and_says_what_to_install(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        import pytest
        from smtpstate_testing.pytest_plugin import smtp_server

        @pytest.fixture(autouse=True)
        def no_anyio(monkeypatch):
            monkeypatch.setitem(sys.modules, "anyio", None)

        def test_mail(smtp_server):
            raise AssertionError
        """
    )
    result = pytester.runpytest_inprocess("-rs", "-p", "no:cacheprovider")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*the fixture smtp_server needs anyio: pip install 'smtpstate?test?'*"])
