"""ClientConnection: speaking for somebody else, by XCLIENT and XFORWARD; and both seats together."""

from dataclasses import replace

import pytest

from smtpstate import (
    CapabilitiesChanged,
    CloseReason,
    Command,
    Connected,
    Ehlo,
    LocalProtocolError,
    Mail,
    Noop,
    Peer,
    Phase,
    Rcpt,
    Reply,
    ReplyReceived,
    Rset,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    StartTls,
    Vrfy,
)
from smtpstate._capabilities import NO_CAPABILITIES
from smtpstate._config import OFFERS
from smtpstate.extensions import XClient, XForward, XForwardSource
from smtpstate_testing import Pair, accept_everything
from smtpstate_testing._pair import PairTls
from tests.scripted_server import CUTS, HELLO, Wire, codes

GREETING = (b"", b"220 mx.example\r\n")
OFFER = (HELLO, b"250-mx.example\r\n250-PIPELINING\r\n250-XCLIENT NAME ADDR LOGIN\r\n250 XFORWARD NAME\r\n")
NAMED = XClient(name="a.example", address="192.0.2.9")
LINE = b"XCLIENT NAME=a.example ADDR=192.0.2.9\r\n"
ME = Mail.of("me@me.example")


@pytest.mark.parametrize("cut", CUTS)
def test_after_xclient_nothing_is_offered_until_a_hello(cut: int):
    wire = Wire([GREETING, OFFER, (LINE, b"220 mx.example\r\n"), (HELLO, b"250 mx.example\r\n")], cut=cut).open()
    client = wire.client
    greeted = Reply(220, "mx.example")
    assert wire.say(NAMED) == [ReplyReceived(NAMED, greeted), CapabilitiesChanged(NO_CAPABILITIES)]
    assert (client.phase, client.capabilities) == (Phase.GREETED, NO_CAPABILITIES)
    for item, words in ((ME, "Send EHLO first"), (NAMED, "Not available"), (XForward(name="a"), "Send EHLO first")):
        with pytest.raises(LocalProtocolError, match=words):
            client.send(item)
    assert codes(wire.say(Ehlo("me.example"))) == [("EHLO", 250)]
    with pytest.raises(LocalProtocolError, match="Not available"):
        client.send(NAMED)


def test_a_refused_xclient_changes_nothing():
    wire = Wire([GREETING, OFFER, (LINE, b"550 5.7.0 no\r\n"), (b"NOOP\r\n", b"250 ok\r\n")]).open()
    assert codes(wire.say(NAMED)) == [("XCLIENT", 550)]
    assert wire.client.phase is Phase.READY
    assert wire.client.capabilities.pipelining
    assert codes(wire.say(Noop())) == [("NOOP", 250)]


def test_a_greeting_that_is_none_ends_the_session():
    wire = Wire([GREETING, OFFER, (LINE, b"521 no\r\n")]).open()
    wire.say(NAMED)
    assert wire.client.broken is CloseReason.GOING_AWAY


def test_what_follows_waits_for_the_greeting():
    wire = Wire([GREETING, OFFER, (LINE, b"220 mx.example\r\n"), (HELLO, b"250 mx.example\r\n")]).open()
    client = wire.client
    client.send(NAMED)
    client.send(Ehlo("me.example"))
    assert client.data_to_send() == LINE
    with pytest.raises(LocalProtocolError, match="not known before the hello is answered, XFORWARD least of all"):
        client.send(XForward(name="a"))


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (XClient(helo="a"), "not offered: HELO"),
        (XForward(address="192.0.2.1"), "not offered: ADDR"),
        (XClient(), "cannot be sent"),
        (XClient(name="a b"), "cannot be sent"),
        (XClient(name=".".join(["x" * 60] * 4), login="+" * 200), "512 is the limit"),
    ],
)
def test_what_cannot_be_said_changes_nothing(item: XClient | XForward, words: str):
    wire = Wire([GREETING, OFFER]).open()
    with pytest.raises(LocalProtocolError, match=words):
        wire.client.send(item)
    assert (wire.client.outstanding, wire.client.data_to_send()) == (0, b"")


def test_nothing_is_sent_to_whom_does_not_offer_it():
    wire = Wire([GREETING, (HELLO, b"250 mx.example\r\n")]).open()
    for item in (NAMED, XForward(name="a")):
        with pytest.raises(LocalProtocolError, match="Not available"):
            wire.client.send(item)


# Both seats.

CONFIG = ServerConfig("mx.example.org", offers=OFFERS | {"XCLIENT", "XFORWARD"})
EHLO = Ehlo("client.example.com")


def talked(*items: Command, cut: int = 99, tls: PairTls | None = None) -> Pair:
    """A trusted client that has said these and heard the answers."""
    pair = Pair(CONFIG, trusted=True, cut=cut, tls=tls)
    pair.drive()
    for item in items:
        assert pair.client.send(item)
        pair.drive()
        assert pair.client.phase is pair.server.phase
    return pair


@pytest.mark.parametrize("cut", CUTS)
def test_who_one_side_says_is_there_the_other_hears(cut: int):
    client = XClient("a.example", "b.example", 9, "ESMTP", "h\u00fc", "joe", "2001:db8::1", 25, "192.0.2.1")
    pair = talked(EHLO, XClient(port=1), EHLO, client, EHLO, ME, cut=cut)
    assert (pair.server.xclient, pair.server.identity) == (client, "joe")
    assert pair.server.peer == Peer("192.0.2.1", 9)
    assert [event for event in pair.server_events if isinstance(event, XClient)] == [XClient(port=1), client]
    assert "XCLIENT" not in pair.client.capabilities


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_tls_stays(tls: PairTls):
    begin = [EHLO, StartTls(), EHLO] if tls == "starttls" else [EHLO]
    pair = talked(*begin, NAMED, EHLO, ME, tls=tls)
    assert pair.server.tls is not None
    assert "STARTTLS" not in pair.client.capabilities


def test_what_one_side_forwards_the_other_hears():
    forward = XForward("a b", "192.0.2.9", 9, "ESMTP", "x", "4F1", XForwardSource.REMOTE)
    pair = talked(EHLO, XForward(name="gone"), Rset(), forward, ME, Rcpt.of("you@example.org"))
    assert pair.server.forwarded == forward
    pair = talked(EHLO, forward, XForward(helo="y"))
    assert pair.server.forwarded == replace(forward, helo="y")


@pytest.mark.parametrize("code", [220, 421, 521, 450, 550, 554])
def test_both_know_where_they_are_when_the_new_client_was_judged(code: int):
    def judge(server: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Connected) and server.xclient is not None:
            server.reply(Reply(code, "so"))
        else:
            accept_everything(server, event)

    pair = Pair(CONFIG, trusted=True, handler=judge)
    for item in (EHLO, NAMED):
        pair.drive()
        pair.client.send(item)
    pair.drive()
    assert pair.client.phase is pair.server.phase is (Phase.GREETED if code == 220 else Phase.CLOSED)
    assert pair.client.broken is (None if code == 220 else CloseReason.GOING_AWAY)


def test_what_was_offered_may_be_gone_when_xclient_is_answered():
    """So nothing that needs an offer waits behind it: it would have to be said to somebody who does not know it."""
    wire = Wire(
        [GREETING, (HELLO, OFFER[1].replace(b"250-PIPELINING", b"250-SMTPUTF8")), (LINE, b"220 mx.example\r\n")]
    )
    wire.open()
    wire.client.send(NAMED)
    for late in (Vrfy("\xe9"), Vrfy("x", smtputf8=True), XForward(name="x")):
        with pytest.raises(LocalProtocolError):
            wire.client.send(late)
