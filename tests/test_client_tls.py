"""ClientConnection: STARTTLS and implicit TLS, as those see it who bring their own TLS."""

import pytest

from smtpstate._capabilities import NO_CAPABILITIES
from smtpstate._client import ClientConnection
from smtpstate._commands import Ehlo, Mail, Noop, Quit, Rset, StartTls
from smtpstate._errors import LocalProtocolError
from smtpstate._events import (
    CapabilitiesChanged,
    CloseReason,
    Connected,
    ConnectionClosed,
    Flow,
    ReplyReceived,
    Violation,
)
from smtpstate._policy import Leftover
from smtpstate._replies import Reply
from smtpstate._state import Phase
from tests.scripted_server import CUTS, HELLO, TLS, ManualClock, Wire, codes

GREETING = (b"", b"220 mx.example\r\n")
OFFERS = (HELLO, b"250-mx.example\r\n250-STARTTLS\r\n250 SIZE\r\n")
STARTTLS = b"STARTTLS\r\n"
EARLY = ConnectionClosed(CloseReason.VIOLATION, Violation.EARLY_PLAINTEXT)


@pytest.mark.parametrize("cut", CUTS)
def test_after_starttls_everything_learnt_in_clear_is_forgotten(cut: int):
    wire = Wire([GREETING, OFFERS, (STARTTLS, b"220 go\r\n"), (HELLO, b"250 mx.example\r\n")], cut=cut).open()
    assert wire.client.capabilities.starttls
    assert wire.say(StartTls()) == [
        ReplyReceived(StartTls(), Reply(220, "go")),
        CapabilitiesChanged(NO_CAPABILITIES),
    ]
    client = wire.client
    assert (client.tls, client.phase, client.capabilities) == (TLS, Phase.GREETED, NO_CAPABILITIES)
    with pytest.raises(LocalProtocolError, match="Send EHLO first"):
        client.send(Mail.of("me@me.example"))
    assert codes(wire.say(Ehlo("me.example"))) == [("EHLO", 250)]
    with pytest.raises(LocalProtocolError, match="TLS is active"):
        client.send(StartTls())


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("injected", "reason"),
    [
        (b"250-mx.example\r\n250 SIZE\r\n", "a reply for the next EHLO"),
        (b"2", "an octet is enough"),
        (b"\r\n", "an empty line"),
        (b"\x16\x03\x03", "TLS that comes before our ClientHello"),
        (b"421 bye\r\n", "whoever says so"),
    ],
)
def test_octets_behind_the_220_end_the_session(injected: bytes, reason: str, cut: int):
    wire = Wire([GREETING, OFFERS]).open()
    client = wire.client
    client.send(StartTls())
    assert client.data_to_send() == STARTTLS
    octets = b"220 go\r\n" + injected
    for start in range(0, len(octets), cut):
        client.receive_data(octets[start : start + cut])
    assert client.next_event() == ReplyReceived(StartTls(), Reply(220, "go"))
    assert client.next_event() == EARLY, reason
    with pytest.raises(LocalProtocolError):
        client.tls_established(TLS)
    assert client.tls is None


def test_plaintext_during_the_handshake_ends_the_session():
    wire = Wire([GREETING, OFFERS]).open()
    client = wire.client
    client.send(StartTls())
    client.data_to_send()
    client.receive_data(b"220 go\r\n")
    client.next_event()
    assert client.next_event() is Flow.NEED_TLS
    client.receive_data(b"2")
    assert client.next_event() == EARLY


def test_plaintext_before_an_implicit_handshake_ends_the_session():
    client = ClientConnection("me.example", clock=ManualClock(), implicit_tls=True)
    client.receive_data(b"220 mx\r\n")
    assert client.next_event() == EARLY


@pytest.mark.parametrize("code", [454, 501, 502, 554])
def test_a_refused_starttls_leaves_the_session_as_it_was(code: int):
    wire = Wire([GREETING, OFFERS, (STARTTLS, b"%d no\r\n" % code)]).open()
    assert codes(wire.say(StartTls())) == [("STARTTLS", code)]
    assert wire.client.phase is Phase.READY
    assert wire.client.capabilities.starttls


def test_while_a_handshake_is_due_nothing_can_be_said():
    wire = Wire([GREETING, OFFERS]).open()
    client = wire.client
    client.send(StartTls())
    with pytest.raises(LocalProtocolError, match="out of order"):
        client.send(Noop())  # it would be read by whoever sits in between
    client.data_to_send()
    client.receive_data(b"220 go\r\n")
    client.next_event()
    assert client.phase is Phase.TLS
    assert not client.in_sync
    for command in (Noop(), Quit(), Ehlo("me.example")):
        with pytest.raises(LocalProtocolError, match="out of order"):
            client.send(command)


@pytest.mark.parametrize("implicit", [True, False])
def test_a_handshake_that_fails_ends_the_session(implicit: bool):
    if implicit:
        client = ClientConnection("me.example", clock=ManualClock(), implicit_tls=True)
    else:
        client = Wire([GREETING, OFFERS]).open().client
        client.send(StartTls())
        client.data_to_send()
        client.receive_data(b"220 go\r\n")
        client.next_event()
    assert client.next_event() is Flow.NEED_TLS
    client.tls_failed()
    assert client.next_event() == ConnectionClosed(CloseReason.TLS_FAILED)
    assert client.broken is CloseReason.TLS_FAILED


@pytest.mark.parametrize("implicit", [True, False])
def test_eof_during_the_handshake_ends_the_session(implicit: bool):
    if implicit:
        client = ClientConnection("me.example", clock=ManualClock(), implicit_tls=True)
    else:
        client = Wire([GREETING, OFFERS]).open().client
        client.send(StartTls())
        client.data_to_send()
        client.receive_data(b"220 go\r\n")
        client.next_event()
    client.receive_eof()
    assert client.next_event() == ConnectionClosed(CloseReason.EOF)


@pytest.mark.parametrize("cut", CUTS)
def test_implicit_tls_comes_before_the_greeting(cut: int):
    wire = Wire([GREETING, (HELLO, b"250-mx.example\r\n250 STARTTLS\r\n")], cut=cut, implicit_tls=True)
    assert wire.events() == [ReplyReceived(Connected(), Reply(220, "mx.example"))]
    assert (wire.client.tls, wire.in_clear) == (TLS, [])
    wire.say(Ehlo("me.example"))
    with pytest.raises(LocalProtocolError, match="TLS is active"):
        wire.client.send(StartTls())  # RFC 3207 section 4.2, whatever the server offers


def test_no_handshake_without_a_need():
    client = Wire([GREETING, OFFERS]).open().client
    for call in (lambda: client.tls_established(TLS), client.tls_failed):
        with pytest.raises(LocalProtocolError, match="no TLS handshake is due"):
            call()
    assert client.phase is Phase.READY


def test_octets_behind_the_220_can_be_dropped():
    """Leftover.DISCARD: they answer nothing, and the handshake begins."""
    script = [GREETING, OFFERS, (STARTTLS, b"220 go\r\n250-mx\r\n250 AUTH PLAIN\r\n25"), (HELLO, b"250 mx.example\r\n")]
    wire = Wire(script, leftover=Leftover.DISCARD).open()
    assert codes(wire.say(StartTls())) == [("STARTTLS", 220)]
    assert (wire.client.tls, wire.client.capabilities) == (TLS, NO_CAPABILITIES)
    assert codes(wire.say(Ehlo("me.example"))) == [("EHLO", 250)]
    assert wire.client.capabilities == NO_CAPABILITIES


# A reply that is here before MAIL leaves in TLS: CVE-2009-3555.

IN_TLS = (HELLO, b"250-mx.example\r\n250 PIPELINING\r\n")
ME = Mail.of("me@me.example")
UNSOLICITED = ConnectionClosed(CloseReason.VIOLATION, Violation.UNSOLICITED_REPLY)


def in_tls(*, starttls: bool) -> ClientConnection:
    if starttls:
        wire = Wire([GREETING, OFFERS, (STARTTLS, b"220 go\r\n"), IN_TLS]).open()
        wire.say(StartTls(), Ehlo("me.example"))
    else:
        wire = Wire([GREETING, IN_TLS], implicit_tls=True).open()
    return wire.client


@pytest.mark.parametrize("starttls", [True, False])
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("early", "reason"),
    [
        (b"250 2.1.0 OK\r\n", "the answer to the attacker's MAIL, which would be taken for that to ours"),
        (b"250-mx.example\r\n250 PIPELINING\r\n", "to his EHLO"),
        (b"550 no\r\n", "a refusal"),
        (b"250-mx.example\r\n", "a line of two"),
        (b"2", "an octet is enough: the rest is on its way"),
        (b"\r\n", "an empty line"),
    ],
)
def test_input_that_is_here_when_mail_is_about_to_leave_in_tls_ends_the_session(
    early: bytes, reason: str, cut: int, starttls: bool
):
    client = in_tls(starttls=starttls)
    assert not client.reads_first
    client.send(ME)
    assert client.reads_first, "a driver looks what is there before MAIL leaves"
    for start in range(0, len(early), cut):
        client.receive_data(early[start : start + cut])
    assert client.data_to_send() == b"", reason
    closed = client.next_event()
    assert closed in (UNSOLICITED, ConnectionClosed(CloseReason.VIOLATION, Violation.REPLY_SYNTAX))
    assert client.broken is CloseReason.VIOLATION
    assert not client.reads_first


def test_a_421_before_mail_is_what_it_says():
    client = in_tls(starttls=True)
    client.send(ME)
    client.receive_data(b"421 bye\r\n")
    assert client.data_to_send() == b""
    assert client.next_event() == ConnectionClosed(CloseReason.GOING_AWAY, reply=Reply(421, "bye"))


def test_before_mail_only_what_answers_something_may_be_here():
    """RSET is still unanswered when MAIL joins it: that reply is its own, and one more is nobody's."""
    for replies, leaves in ((b"250 reset\r\n", True), (b"25", True), (b"250 reset\r\n250 OK\r\n", False)):
        client = in_tls(starttls=True)
        client.send(Rset())
        client.data_to_send()
        client.send(ME)
        client.receive_data(replies)
        assert client.reads_first
        assert (client.data_to_send() == b"MAIL FROM:<me@me.example>\r\n") is leaves
        assert not client.reads_first, "once it has left its own reply may come"
        assert (client.closed is None) is leaves


def test_a_driver_reads_first_only_before_mail_and_in_tls():
    in_clear = Wire([GREETING, OFFERS]).open().client
    in_clear.send(ME)
    assert not in_clear.reads_first, "in clear anybody can say anything at any time"
    client = in_tls(starttls=True)
    client.send(Noop())
    assert not client.reads_first
    client.data_to_send()
    client.receive_data(b"250 OK\r\n")
    client.next_event()
    client.send(ME)
    client.receive_eof()
    assert not client.reads_first, "there is nothing to read any more"
