"""serve_messages: a message in chunks is one message, and LMTP answers each recipient."""

from __future__ import annotations

import pytest

from smtpstate import LocalProtocolError, Refusal, Result
from smtpstate_anyio import Listener, Message, connect, serve_messages
from tests.anyio.loopback import Inbox, background, wire

pytestmark = pytest.mark.anyio

TAKES = {"domains": ["example.org"]}
LMTP = Listener("127.0.0.1", 0, service="lmtp")


@pytest.mark.parametrize(
    ("between", "replies", "reason"),
    [
        ([], [], "the octets of all chunks together"),
        ([b"NOOP"], ["250 2.0.0 OK"], "what brings nothing may stand between two chunks"),
        ([b"DATA"], ["503 5.5.1 Bad sequence of commands"], "nor does what is refused there end the message"),
    ],
)
async def test_chunks_are_one_message(between: list[bytes], replies: list[str], reason: str) -> None:
    inbox = Inbox()
    async with background(serve_messages, inbox, **TAKES) as port, wire(port) as client:
        await client.open()
        await client.ask(b"MAIL FROM:<a@example.com>")
        await client.ask(b"RCPT TO:<b@example.org>")
        assert await client.ask(b"BDAT 12\r\nSubject: x") == "250 2.0.0 Chunk taken"
        assert [await client.ask(line) for line in between] == replies, reason
        assert (await client.ask(b"BDAT 4 LAST\r\nhi")).startswith("250 2.0.0 Message accepted as ")
    assert inbox.bodies == [b"Subject: x\r\nhi\r\n"]


async def test_reset_between_chunks_leaves_nothing() -> None:
    inbox = Inbox()
    async with background(serve_messages, inbox, **TAKES) as port, wire(port) as client:
        await client.open()
        await client.ask(b"MAIL FROM:<a@example.com>")
        await client.ask(b"RCPT TO:<b@example.org>")
        await client.ask(b"BDAT 2\r\n")
        assert await client.ask(b"RSET") == "250 2.0.0 Reset"
    assert inbox.messages == []


@pytest.mark.parametrize("chunked", [False, True])
async def test_lmtp_answers_each_recipient_in_order(chunked: bool) -> None:
    async def on_message(message: Message) -> None:
        async for _ in message.body:
            pass
        assert message.received_with == "LMTP"
        message.refuse(1, Refusal(552, "quota", enhanced="5.2.2"))
        with pytest.raises(LocalProtocolError):
            message.refuse(3, Refusal(552, "nobody"))

    async with (
        background(serve_messages, on_message, LMTP, **TAKES) as port,
        connect(f"127.0.0.1:{port}", tls="off", lmtp=True) as client,
    ):
        delivery = await client.send(
            b"x\r\n", sender="", recipients=["a@example.org", "b@example.org", "a@example.org"], chunked=chunked
        )
    assert [result.outcome for result in delivery] == [Result.ACCEPTED, Result.REFUSED, Result.ACCEPTED]


async def test_only_lmtp_answers_each_recipient() -> None:
    async def on_message(message: Message) -> None:
        message.refuse(0, Refusal(552, "quota"))

    async with background(serve_messages, on_message, **TAKES) as port, connect(f"127.0.0.1:{port}", tls="off") as out:
        delivery = await out.send(b"x\r\n", sender="", recipients="a@example.org", chunked=True)
    assert [result.outcome for result in delivery] == [Result.RETRY]
