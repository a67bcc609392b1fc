"""ClientConnection: verbs of one's own, offered and not; and both seats together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from smtpstate import (
    CloseReason,
    ConnectionClosed,
    Ehlo,
    LocalProtocolError,
    Mail,
    Noop,
    Reply,
    ReplyReceived,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    Violation,
)
from smtpstate.extensions import Extension, OwnCommand, OwnVerb
from smtpstate_testing import Pair, accept_everything

if TYPE_CHECKING:
    from smtpstate_testing._pair import PairTls

ETRN = Extension("ETRN", verb=OwnVerb("ETRN"))
XRUN = Extension("X-RUN", verb=OwnVerb("XRUN", in_transaction=True), tls_only=True)
CONFIG = ServerConfig("mx.example.org", extensions=(ETRN, XRUN))
EHLO = Ehlo("client.example.com")
ASKED = OwnCommand("ETRN", "example.net")


def answer(server: ServerConnection, event: ServerEvent) -> None:
    if isinstance(event, OwnCommand):
        server.reply(Reply(250, event.argument or "nothing"))
    else:
        accept_everything(server, event)


def opened(config: ServerConfig = CONFIG, *extensions: Extension, tls: PairTls | None = None) -> Pair:
    pair = Pair(config, client_extensions=extensions, handler=answer, tls=tls)
    pair.drive()
    assert pair.client.send(EHLO)
    pair.drive()
    return pair


def test_what_one_side_asks_the_other_answers() -> None:
    pair = opened(CONFIG, ETRN)
    assert pair.client.send(ASKED)
    pair.drive()
    assert ASKED in pair.server_events
    assert pair.client_events[-1] == ReplyReceived(ASKED, Reply(250, "example.net", enhanced="2.0.0"))
    assert pair.client.phase is pair.server.phase


def test_nothing_is_pipelined_behind_it() -> None:
    pair = opened(CONFIG, ETRN)
    for item in (ASKED, Mail.of("me@example.com"), Noop()):
        assert pair.client.send(item)
    assert pair.client.data_to_send() == b"ETRN example.net\r\n"
    pair.drive()


@pytest.mark.parametrize(
    ("config", "extensions", "item", "complaint", "reason"),
    [
        (CONFIG, (), ASKED, "^ETRN is out of order: 502", "nobody told the client"),
        (ServerConfig("mx.example.org"), (ETRN,), ASKED, "^ETRN is out of order: 502", "the server does not offer it"),
        (CONFIG, (ETRN, XRUN), OwnCommand("XRUN"), "^XRUN is out of order: 502", "only in TLS"),
        (CONFIG, (ETRN,), OwnCommand("NOOP"), "^NOOP is out of order", "no verb of one's own"),
        (CONFIG, (ETRN,), OwnCommand("ETRN", "a\r\nQUIT"), "cannot be sent", "two commands"),
        (CONFIG, (ETRN,), OwnCommand("ETRN", "x" * 2050), "octets", "too long"),
    ],
)
def test_what_cannot_be_said_changes_nothing(
    config: ServerConfig, extensions: tuple[Extension, ...], item: OwnCommand, complaint: str, reason: str
) -> None:
    pair = opened(config, *extensions)
    with pytest.raises(LocalProtocolError, match=complaint):
        pair.client.send(item)
    assert pair.client.data_to_send() == b""
    assert pair.client.outstanding == 0


def test_it_is_not_known_before_the_hello_is_answered() -> None:
    pair = opened(CONFIG, ETRN)
    assert pair.client.send(EHLO)
    with pytest.raises(LocalProtocolError, match="before the hello is answered, ETRN least of all"):
        pair.client.send(ASKED)


def test_a_transaction_has_room_for_those_that_say_so() -> None:
    pair = opened(CONFIG, ETRN, XRUN, tls="implicit")
    assert pair.client.send(Mail.of("me@example.com"))
    with pytest.raises(LocalProtocolError, match=r"^ETRN is out of order: 503"):
        pair.client.send(ASKED)
    assert pair.client.send(OwnCommand("XRUN"))
    pair.drive()
    assert pair.client_events[-1] == ReplyReceived(OwnCommand("XRUN"), Reply(250, "nothing", enhanced="2.0.0"))
    assert pair.client.phase is pair.server.phase


def test_a_3yz_is_no_answer_to_it() -> None:
    pair = opened(CONFIG, ETRN)
    pair.client.send(ASKED)
    pair.client.data_to_send()
    pair.client.receive_data(b"354 go on\r\n")
    assert pair.client.next_event() == ConnectionClosed(CloseReason.VIOLATION, Violation.UNEXPECTED_REPLY)
