"""The client's seat: where UTF-8 may stand in what it sends."""

from __future__ import annotations

import pytest

from smtpstate._address import ForwardPath, Mailbox, ReversePath
from smtpstate._commands import Command, Expn, Mail, Noop, Rcpt, Rset, Vrfy
from smtpstate._errors import LocalProtocolError
from smtpstate._events import ReplyReceived
from tests.scripted_server import HELLO, Wire

U = Mailbox("\u00e9", "b\u00fccher.example")
ASKS = Mail(ReversePath(U), (("SMTPUTF8", None),))
YOU = Rcpt(ForwardPath(U))
MAIL = ("MAIL FROM:<\u00e9@b\u00fccher.example> SMTPUTF8\r\n".encode(), b"250 ok\r\n")
TO_YOU = ("RCPT TO:<\u00e9@b\u00fccher.example>\r\n".encode(), "250 2.1.5 \u00e9\r\n".encode())
RSET = (b"RSET\r\n", b"250 ok\r\n")
EMPTY = (b"MAIL FROM:<>\r\n", b"250 ok\r\n")


def opened(*script: tuple[bytes, bytes], offers: bytes = b"SMTPUTF8") -> Wire:
    hello = (HELLO, b"250-mx.example\r\n250 " + offers + b"\r\n")
    return Wire([(b"", b"220 mx.example\r\n"), hello, *script]).open()


@pytest.mark.parametrize("at_once", [True, False])
def test_a_transaction_that_asks_holds_utf8_whether_it_waits_or_not(at_once: bool) -> None:
    wire = opened(MAIL, TO_YOU)
    replies = [event.reply.text for event in wire.say(ASKS, YOU, at_once=at_once) if isinstance(event, ReplyReceived)]
    assert replies == ["ok", "\u00e9"]
    assert not wire.script


def test_what_one_transaction_asked_for_is_not_asked_for_by_the_next() -> None:
    wire = opened(MAIL, TO_YOU, RSET, EMPTY)
    wire.say(ASKS, YOU, Rset(), Mail.of(""))
    with pytest.raises(LocalProtocolError):
        wire.client.send(YOU)


def test_a_recipient_may_be_looked_at_before_its_mail_is_sent() -> None:
    client = opened().client
    assert client.check(YOU, utf8=True) == TO_YOU[0]
    with pytest.raises(LocalProtocolError):
        client.check(YOU)


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (Vrfy("\u00e9"), "VRFY \u00e9\r\n"),
        (Vrfy("you", smtputf8=True), "VRFY you SMTPUTF8\r\n"),
        (Expn("\u00e9", smtputf8=True), "EXPN \u00e9 SMTPUTF8\r\n"),
    ],
)
def test_questions_are_asked_where_it_is_offered(command: Command, line: str) -> None:
    assert opened().client.check(command) == line.encode()
    with pytest.raises(LocalProtocolError):
        opened(offers=b"HELP").client.check(command)


@pytest.mark.parametrize("command", [Mail(ReversePath(U)), Noop("\u00e9"), Mail(ReversePath(Mailbox("\ud800", "x")))])
def test_elsewhere_it_is_the_callers_mistake(command: Command) -> None:
    with pytest.raises(LocalProtocolError):
        opened().client.check(command)
    with pytest.raises(LocalProtocolError):
        opened(offers=b"HELP").client.check(ASKS)
