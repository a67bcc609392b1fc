"""Bare newlines on anyio: what `wire=` says is done, and what a handler is told of them."""

from __future__ import annotations

import pytest

from smtpstate import Anomaly
from smtpstate.policy import BareNewline, WireRules
from smtpstate.proxy import parse_networks
from smtpstate_anyio import serve_messages
from tests.anyio.loopback import Inbox, background, wire

pytestmark = pytest.mark.anyio

HERE = parse_networks(["127.0.0.0/8"])
BOTH = {Anomaly.BARE_CR, Anomaly.BARE_LF}


@pytest.mark.parametrize(
    ("rules", "content", "reason"),
    [
        (None, b"a\r\nb\r\nc\r\n", "normalized without a word"),
        (WireRules(BareNewline.NOTE), b"a\nb\rc\r\n", "as it was sent"),
        (WireRules(BareNewline.REJECT, HERE), b"a\nb\rc\r\n", "excluded"),
    ],
)
async def test_a_message_with_bare_newlines_arrives(rules: WireRules | None, content: bytes, reason: str) -> None:
    inbox = Inbox()
    async with background(serve_messages, inbox, accept_any=True, wire=rules) as port, wire(port) as client:
        await client.open()
        for line in (b"MAIL FROM:<a@example.com>", b"RCPT TO:<b@example.org>", b"DATA"):
            await client.ask(line)
        assert (await client.ask(b"a\nb\rc\r\n.")).startswith("250 "), reason
    assert inbox.bodies == [content]
    assert inbox.messages[0].body.anomalies == BOTH


async def test_where_they_are_refused_nothing_arrives_and_the_next_message_does() -> None:
    inbox = Inbox()
    rules = WireRules(BareNewline.REJECT, bare_newline_code=554)
    async with background(serve_messages, inbox, accept_any=True, wire=rules) as port, wire(port) as client:
        await client.open()
        for content, answer in ((b"a\nb\r\n.", "554 5.5.2 "), (b"a\r\nb\r\n.", "250 2.0.0 ")):
            for line in (b"MAIL FROM:<a@example.com>", b"RCPT TO:<b@example.org>", b"DATA"):
                await client.ask(line)
            assert (await client.ask(content)).startswith(answer)
    assert inbox.bodies == [b"a\r\nb\r\n"]
    assert inbox.messages[0].body.anomalies == set()
