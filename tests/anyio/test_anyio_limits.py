"""Client.send: within the server's LIMITS (RFC 9422), and messages that are BINARYMIME (RFC 3030)."""

from __future__ import annotations

from email.message import EmailMessage
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest

from smtpstate import EndOfMessage, Limits, LocalProtocolError, Rcpt, Reply, Result
from smtpstate_anyio import Listener, Session, connect, serve, serve_messages
from tests.anyio.loopback import Inbox, background, wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

pytestmark = pytest.mark.anyio

FIVE = [f"{name}@example.org" for name in "abcde"]
TO_FIVE: dict[str, Any] = {"sender": "me@example.com", "recipients": FIVE}
CONTENT = b"Subject: x\r\n\r\nhi\r\n"
EVERYTHING = b"Subject: x\r\n\r\n" + bytes(range(256)) + b"\n.\n"


def plain(port: int) -> Any:
    return connect(f"127.0.0.1:{port}", tls="off")


def an_email() -> EmailMessage:
    email = EmailMessage()
    email["Subject"] = "x"
    email.set_content("hi\n")
    return email


def a_file() -> BytesIO:
    file = BytesIO(b"not this" + CONTENT)
    file.seek(len(b"not this"))
    return file


class Pipe(BytesIO):
    def seekable(self) -> bool:
        return False


def generated() -> Iterator[bytes]:
    yield CONTENT


async def several() -> AsyncIterator[bytes]:
    yield CONTENT


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("source", [lambda: CONTENT, a_file, an_email])
async def test_what_can_be_read_again_goes_out_in_parts(source: Callable[[], Any], chunked: bool) -> None:
    inbox = Inbox()
    options: Any = {"accept_any": True, "limits": Limits(recipients=2), "offers": ["LIMITS"]}
    async with background(serve_messages, inbox, **options) as port, plain(port) as client:
        delivery = await client.send(source(), chunked=chunked, **TO_FIVE)
    assert delivery.all_accepted
    assert [result.address for result in delivery] == FIVE
    assert [[str(one) for one in message.recipients] for message in inbox.messages] == [FIVE[:2], FIVE[2:4], FIVE[4:]]
    assert len(set(inbox.bodies)) == 1
    assert inbox.bodies[0].endswith(b"hi\r\n")


@pytest.mark.parametrize("source", [generated, several, lambda: Pipe(CONTENT)])
async def test_for_what_can_be_read_once_the_rest_is_to_be_tried_again(source: Callable[[], Any]) -> None:
    inbox = Inbox()
    options: Any = {"accept_any": True, "limits": Limits(recipients=2), "offers": ["LIMITS"]}
    async with background(serve_messages, inbox, **options) as port, plain(port) as client:
        delivery = await client.send(source(), **TO_FIVE)
        assert delivery.having(Result.ACCEPTED) == tuple(FIVE[:2])
        assert delivery.having(Result.RETRY) == tuple(FIVE[2:])
        assert {str(result.reply) for result in delivery if result.outcome is Result.RETRY} == {
            "452 4.5.3 Not sent: the message can be read once only; LIMITS RCPTMAX=2"
        }
        rest = await client.send(source(), sender="", recipients=FIVE[2:4])
    assert rest.all_accepted
    assert len(inbox.messages) == 2


async def test_a_session_takes_no_more_than_it_says() -> None:
    inbox = Inbox()
    limits = Limits(recipients=2, transactions=2, recipient_domains=1)
    options: Any = {"accept_any": True, "limits": limits, "offers": ["LIMITS"]}
    async with background(serve_messages, inbox, **options) as port:
        async with plain(port) as client:
            delivery = await client.send(CONTENT, sender="", recipients=[*FIVE, "you@example.net"])
            assert delivery.having(Result.RETRY) == (FIVE[4], "you@example.net")
            assert not (await client.send(CONTENT, **TO_FIVE)).having(Result.ACCEPTED)
            assert client.closed is None
        async with plain(port) as client:
            assert (await client.send(CONTENT, sender="", recipients=delivery.having(Result.RETRY)[1:])).all_accepted
    assert len(inbox.messages) == 3


@pytest.mark.parametrize("chunked", [False, True])
async def test_lmtp_goes_out_in_parts_and_each_recipient_has_their_own_answer(chunked: bool) -> None:
    """The fourth is refused at RCPT, and one of each transaction, but the last, at its end."""
    parts: list[list[str]] = []

    async def store(session: Session) -> None:
        async for event in session:
            match event:
                case Rcpt(recipient) if str(recipient) == FIVE[3]:
                    session.reply(Reply(550, "not d"))
                case Rcpt():
                    session.accept()
                case EndOfMessage():
                    transaction = session.transaction
                    assert transaction is not None
                    to = [str(rcpt.recipient) for rcpt in transaction.recipients]
                    parts.append(to)
                    for address in to:
                        full = len(parts) < 3 and address == to[-1]
                        session.reply(Reply(452 if full else 250, f"{address} in part {len(parts)}"))
                case _:
                    pass

    listener = Listener("127.0.0.1", 0, service="lmtp")
    options: Any = {"limits": Limits(recipients=2), "offers": ["LIMITS"]}
    async with (
        background(serve, store, listener, **options) as port,
        connect(f"127.0.0.1:{port}", tls="off", lmtp=True) as client,
    ):
        delivery = await client.send(CONTENT, chunked=chunked, **TO_FIVE)
        assert client.closed is None
    assert parts == [FIVE[:2], FIVE[2:3], FIVE[4:]]
    assert [str(result.reply) for result in delivery] == [
        "250 2.0.0 a@example.org in part 1",
        "452 4.0.0 b@example.org in part 1",
        "452 4.0.0 c@example.org in part 2",
        "550 5.0.0 not d",
        "250 2.0.0 e@example.org in part 3",
    ]
    assert [delivery.having(result) for result in (Result.ACCEPTED, Result.RETRY, Result.REFUSED)] == [
        (FIVE[0], FIVE[4]),
        (FIVE[1], FIVE[2]),
        (FIVE[3],),
    ]


async def test_without_an_announcement_the_server_says_it_itself() -> None:
    inbox = Inbox()
    options: Any = {"accept_any": True, "limits": Limits(recipients=2)}
    async with background(serve_messages, inbox, **options) as port, plain(port) as client:
        delivery = await client.send(CONTENT, **TO_FIVE)
    assert [str(result.reply) for result in delivery][2:] == ["452 4.5.3 Too many recipients"] * 3
    assert delivery.having(Result.RETRY) == tuple(FIVE[2:])


async def test_a_mistake_in_a_later_part_costs_nothing() -> None:
    inbox = Inbox()
    options: Any = {"accept_any": True, "limits": Limits(recipients=2), "offers": ["LIMITS"]}
    async with background(serve_messages, inbox, **options) as port, plain(port) as client:
        with pytest.raises(LocalProtocolError):
            await client.send(CONTENT, sender="", recipients=[*FIVE, "nobody"])
        assert client.closed is None
    assert not inbox.messages


@pytest.mark.parametrize(
    "source", [lambda: EVERYTHING, lambda: BytesIO(EVERYTHING), lambda: Pipe(EVERYTHING), lambda: iter([EVERYTHING])]
)
async def test_what_is_binary_arrives_as_it_is(source: Callable[[], Any]) -> None:
    inbox = Inbox()
    async with background(serve_messages, inbox, accept_any=True, offers=["BINARYMIME"]) as port, plain(port) as client:
        delivery = await client.send(source(), binary=True, **TO_FIVE)
        assert delivery.all_accepted
        assert (await client.send(CONTENT, **TO_FIVE)).all_accepted
    assert inbox.bodies == [EVERYTHING, CONTENT]
    assert inbox.messages[0].size in (len(EVERYTHING), None)


@pytest.mark.parametrize("source", [bytes, BytesIO, Pipe, lambda octets: iter([octets])])
async def test_what_is_binary_may_have_headers_in_utf_8_where_that_is_taken_too(source: Callable[[bytes], Any]) -> None:
    content, inbox = "Subject: \xe9\r\n\r\n\0\n".encode(), Inbox()
    both = ["BINARYMIME", "SMTPUTF8"]
    async with background(serve_messages, inbox, accept_any=True, offers=both) as port, plain(port) as client:
        assert (await client.send(source(content), binary=True, **TO_FIVE)).all_accepted
    async with background(serve_messages, inbox, accept_any=True, offers=both[:1]) as port, plain(port) as client:
        delivery = await client.send(source(content), binary=True, **TO_FIVE)
        assert {str(result.reply)[:9] for result in delivery} == {"550 5.6.9"}
    assert inbox.bodies == [content]


async def test_what_is_binary_goes_to_nobody_who_does_not_take_it() -> None:
    inbox = Inbox()
    async with background(serve_messages, inbox, accept_any=True) as port, plain(port) as client:
        delivery = await client.send(EVERYTHING, binary=True, **TO_FIVE)
        assert [str(result.reply) for result in delivery] == [
            "554 5.6.3 The message is binary and the server does not offer BINARYMIME"
        ] * 5
        assert delivery.having(Result.REFUSED) == tuple(FIVE)
        assert (await client.send(CONTENT, **TO_FIVE)).all_accepted
    assert inbox.bodies == [CONTENT]


async def test_offers_that_would_not_be_kept_are_refused_at_once() -> None:
    with pytest.raises(LocalProtocolError):
        await serve_messages(Inbox(), "127.0.0.1:0", hostname="mx.example.org", offers=["BURL"])


async def test_without_a_wish_nothing_is_offered_beside_the_usual() -> None:
    async with background(serve_messages, Inbox(), accept_any=True) as port, wire(port) as client:
        assert (await client.reply()).startswith("220 ")
        await client.say(b"EHLO client.example")
        lines = [await client.line() for _ in range(6)]
    assert lines[-1].startswith(b"250 "), lines
