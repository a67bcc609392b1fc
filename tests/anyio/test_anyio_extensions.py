"""Extensions on anyio: what a message says of the parameters that it came with, and extensions of one's own."""

from __future__ import annotations

from typing import Any

import pytest

from smtpstate import LocalProtocolError, Rcpt, Reply, Result
from smtpstate._envelope import Recipient
from smtpstate.delivery import ask
from smtpstate.extensions import (
    Envid,
    Extension,
    Notify,
    OriginalRecipient,
    OwnCommand,
    OwnVerb,
    Parameter,
    Ret,
    envid,
    flag,
    notify,
    original_recipient,
    parameters,
    ret,
)
from smtpstate_anyio import Session, connect, serve, serve_messages
from tests.anyio.loopback import Inbox, background, wire

pytestmark = pytest.mark.anyio

ETRN = Extension("ETRN", verb=OwnVerb("ETRN"))
CONPERM = Extension("CONPERM", ("YES",), mail=(Parameter("CONPERM", flag, 8),), rcpt=(Parameter("CONNEG", flag, 7),))
ASKED = OwnCommand("ETRN", "example.net")


def plain(port: int, **options: Any) -> Any:
    return connect(f"127.0.0.1:{port}", tls="off", **options)


async def test_a_message_has_what_was_asked_of_it() -> None:
    inbox = Inbox()
    orcpt = OriginalRecipient("rfc822", "first@example.net")
    to = [
        Recipient("nobody@example.com", parameters(Notify.NEVER)),
        Recipient("b@example.org", parameters(Notify.SUCCESS | Notify.DELAY, orcpt)),
        Recipient("c@example.org"),
    ]
    options: Any = {"domains": ["example.org"], "offers": ["DSN"]}
    async with background(serve_messages, inbox, **options) as port, plain(port) as client:
        delivery = await client.send(b"x", sender="a@example.com", recipients=to, ret=Ret.HDRS, envid=Envid("a b"))
    assert [result.outcome for result in delivery] == [Result.REFUSED, Result.ACCEPTED, Result.ACCEPTED]
    [message] = inbox.messages
    assert (ret(message.mail), envid(message.mail)) == (Ret.HDRS, Envid("a b"))
    assert [rcpt.recipient for rcpt in message.rcpts] == list(message.recipients)
    assert [path.address for path in message.recipients] == ["b@example.org", "c@example.org"]
    assert [notify(rcpt) for rcpt in message.rcpts] == [Notify.SUCCESS | Notify.DELAY, None]
    assert original_recipient(message.rcpts[0]) == orcpt
    assert (message.sender, message.size) == (message.mail.reverse_path, message.mail.size)


async def test_parameters_of_ones_own_reach_the_message() -> None:
    inbox = Inbox()
    options: Any = {"accept_any": True, "extensions": (CONPERM,)}
    async with (
        background(serve_messages, inbox, **options) as port,
        plain(port, extensions=(CONPERM,)) as client,
    ):
        assert client.capabilities.keywords["CONPERM"] == ("YES",)
        await client.send(
            b"x",
            sender="a@example.com",
            recipients=Recipient("b@example.org", (("CONNEG", None),)),
            parameters=(("CONPERM", None),),
        )
    [message] = inbox.messages
    assert ("CONPERM", None) in message.mail.parameters
    assert [rcpt.parameters for rcpt in message.rcpts] == [(("CONNEG", None),)]


async def test_a_verb_of_ones_own_is_asked_and_answered() -> None:
    async def handler(session: Session) -> None:
        async for event in session:
            match event:
                case OwnCommand("ETRN", node):
                    session.reply(Reply(250, f"Queuing for node {node} started"))
                case Rcpt():
                    session.accept()
                case _:
                    pass

    async with (
        background(serve, handler, extensions=(ETRN,)) as port,
        plain(port, extensions=(ETRN,)) as client,
    ):
        reply = await client.run(ask(client.connection, ASKED))
        assert str(reply) == "250 2.0.0 Queuing for node example.net started"
        with pytest.raises(LocalProtocolError, match="502"):
            await client.run(ask(client.connection, OwnCommand("ATRN")))
        assert client.connection.in_sync, "a mistake costs nothing"


async def test_a_verb_that_nobody_answers_is_no_yes() -> None:
    options: Any = {"accept_any": True, "extensions": (ETRN,)}
    async with background(serve_messages, Inbox(), **options) as port, wire(port) as client:
        await client.open()
        assert (await client.ask(b"ETRN example.net")).startswith("451 4.3.0 ")
        assert (await client.ask(b"ATRN")).startswith("502 5.5.1 ")


async def test_without_the_extension_nothing_is_different() -> None:
    async with background(serve_messages, Inbox(), accept_any=True) as port, plain(port, extensions=(ETRN,)) as client:
        assert "ETRN" not in client.capabilities
        with pytest.raises(LocalProtocolError):
            await client.run(ask(client.connection, ASKED))


async def test_an_extension_that_there_is_already_is_refused_at_once() -> None:
    with pytest.raises(LocalProtocolError, match="there is already"):
        await serve_messages(Inbox(), "127.0.0.1:0", hostname="mx.example.org", extensions=(Extension("SIZE"),))
    async with background(serve_messages, Inbox()) as port:
        with pytest.raises(LocalProtocolError, match="there is already"):
            async with plain(port, extensions=(ETRN, ETRN)):
                pass
