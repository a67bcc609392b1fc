"""The anyio server and peers that speak for others: who may, and who is there then."""

from __future__ import annotations

import pytest

from smtpstate import Connected, Peer, Rcpt
from smtpstate.extensions import XForward
from smtpstate_anyio import Listener, ListenerProxy, Session, serve, serve_messages
from tests.anyio.loopback import Inbox, Wire, background, wire

pytestmark = pytest.mark.anyio

HERE, ELSEWHERE = ("127.0.0.0/8", "::1"), ("192.0.2.0/24",)
NAMED = b"XCLIENT ADDR=192.0.2.9 PORT=9 LOGIN=joe"


def listener(xclient: tuple[str, ...] = (), xforward: tuple[str, ...] = ()) -> Listener:
    return Listener.parse("127.0.0.1:0", "plain", accept_any=True, xclient_from=xclient, xforward_from=xforward)


async def deliver(client: Wire) -> None:
    for line in (b"EHLO c.example", b"MAIL FROM:<a@example.com>", b"RCPT TO:<b@example.org>", b"DATA", b"hello\r\n."):
        assert (await client.ask(line))[0] in "23"


@pytest.mark.parametrize(
    ("xclient", "xforward", "answers", "reason"),
    [
        ((), (), ["502", "502"], "nobody is trusted"),
        (ELSEWHERE, ELSEWHERE, ["502", "502"], "others are"),
        (HERE, (), ["502", "220"], "with XCLIENT"),
        ((), HERE, ["250", "502"], "with XFORWARD"),
        (HERE, HERE, ["250", "220"], "with both"),
    ],
)
async def test_who_may_say_what(
    xclient: tuple[str, ...], xforward: tuple[str, ...], answers: list[str], reason: str
) -> None:
    inbox = Inbox()
    serving = background(serve_messages, inbox, listener(xclient, xforward))
    async with serving as port, wire(port) as client:
        await client.open()
        assert [(await client.ask(line))[:3] for line in (b"XFORWARD HELO=a", NAMED)] == answers, reason
        await deliver(client)
    [message] = inbox.messages
    if answers[1] == "220":
        assert (message.peer, message.identity, message.received_with) == (Peer("192.0.2.9", 9), "joe", "ESMTPA")
    else:
        assert message.peer is not None
        assert (message.peer.address, message.identity) == ("127.0.0.1", None)


async def test_a_message_has_what_was_forwarded_of_it_and_the_next_one_has_not() -> None:
    inbox = Inbox()
    async with background(serve_messages, inbox, listener(xforward=HERE)) as port, wire(port) as client:
        await client.open()
        assert (await client.ask(b"XFORWARD NAME=a.example ADDR=192.0.2.9 SOURCE=REMOTE")).startswith("250 ")
        for line in (b"MAIL FROM:<a@example.com>", b"RCPT TO:<b@example.org>", b"DATA", b"hello\r\n."):
            assert (await client.ask(line))[0] in "23"
        await deliver(client)
    first, second = inbox.messages
    assert first.forwarded == XForward.parse(" NAME=a.example ADDR=192.0.2.9 SOURCE=REMOTE")
    assert first.peer is not None
    assert first.peer.address == "127.0.0.1", "it decides nothing"
    assert second.forwarded is None


async def test_a_session_knows_both_peers_and_says_once_more_that_somebody_is_there() -> None:
    seen: list[tuple[Peer | None, Peer | None]] = []

    async def handler(session: Session) -> None:
        async for event in session:
            match event:
                case Connected(peer):
                    seen.append((peer, session.via))
                case Rcpt():
                    session.accept()
                case _:
                    pass

    async with background(serve, handler, listener(xclient=HERE)) as port, wire(port) as client:
        await client.open()
        assert (await client.ask(NAMED)).startswith("220 ")
        await client.say(b"QUIT")
        await client.rest()
    (first, via), (second, still) = seen
    assert first == via == still
    assert second == Peer("192.0.2.9", 9)


async def test_whom_a_proxy_header_names_has_no_say() -> None:
    """Its networks are those of whoever connects; with both options nobody could tell whom they mean."""
    both = Listener("127.0.0.1", 0, proxy=ListenerProxy.parse(1, HERE), xclient_from=listener(HERE).xclient_from)
    with pytest.raises(ValueError, match="behind a proxy nobody can be trusted with XCLIENT"):
        await serve_messages(Inbox(), both, hostname="mx.example.org")


def test_nobody_can_vouch_who_went_before_we_looked() -> None:
    assert listener(HERE, HERE).vouched(None) == set()
    assert listener(HERE, HERE).vouched(Peer("127.0.0.1")) == {"XCLIENT", "XFORWARD"}
