"""The client against servers that misbehave, hang or go away, and against callers who do."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import asynccontextmanager
from email.message import EmailMessage
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest

from smtpstate import (
    CloseReason,
    ConnectionBroken,
    LocalProtocolError,
    Refusal,
    Result,
    SessionRefused,
    Timer,
    TlsUnavailable,
)
from smtpstate.extensions import Extension, OwnVerb
from smtpstate.sasl import Credentials
from smtpstate_asyncio import AuthUnavailable, CannotConnect, connect, serving_messages
from tests.anyio.loopback import SECONDS
from tests.asyncio_protocol.around import TO, Kept, nobody_left, server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from smtpstate_asyncio import Message
    from tests.anyio.loopback import Certificates

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
async def nobody_is_left() -> AsyncIterator[None]:
    async with asyncio.timeout(SECONDS), nobody_left():
        yield


class Script:
    """A server that says what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def line(self) -> bytes:
        return (await self.reader.readline()).removesuffix(b"\r\n")

    async def say(self, line: bytes) -> None:
        self.writer.write(line + b"\r\n")
        await self.writer.drain()

    async def greet(self, *offers: bytes) -> None:
        await self.say(b"220 scripted.example ESMTP")
        await self.line()
        await self.say(b"\r\n".join([b"250-scripted.example", *(b"250-" + offer for offer in offers), b"250 HELP"]))

    async def to_body(self) -> None:
        await self.greet()
        for answer in (b"250 sender", b"250 recipient", b"354 go on"):
            await self.line()
            await self.say(answer)


@asynccontextmanager
async def scripted(script: Callable[[Script], Awaitable[None]]) -> AsyncIterator[str]:
    """A server that does what `script` says with each connection, and hangs up when it returns."""
    handling: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handling.add(task)
        try:
            await script(Script(reader, writer))
        except (ConnectionError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        for task in handling:
            task.cancel()
        await asyncio.gather(*handling, return_exceptions=True)
        await asyncio.sleep(0)


def plain(address: str, **options: Any) -> Any:
    return connect(address, tls="off", **options)


# What can be sent.


def an_email() -> EmailMessage:
    email = EmailMessage()
    email["Subject"] = "Grüße"
    email.set_content("x\n")
    return email


async def several() -> AsyncIterator[bytes]:
    for piece in (b"a\r", b"", b"\n.b", b"\r\n"):
        yield piece


def generated() -> Iterator[bytes]:
    yield b"a\r\n"
    yield b".b\r\n"


SOURCES = [
    pytest.param(lambda path: b"a\n.b\n", id="bytes"),
    pytest.param(lambda path: BytesIO(b"a\r\n.b\r\n"), id="a file"),
    pytest.param(lambda path: path.open("rb"), id="a file on disk"),
    pytest.param(lambda path: generated(), id="a generator"),
    pytest.param(lambda path: several(), id="an asynchronous generator"),
]


@pytest.mark.parametrize("source", SOURCES)
async def test_a_message_may_be_many_things(source: Any, tmp_path: Path) -> None:
    (tmp_path / "mail").write_bytes(b"a\n.b\n")
    kept, message = Kept(), source(tmp_path / "mail")
    async with server("serve_messages", kept) as port, plain(f"127.0.0.1:{port}") as client:
        assert (await client.send(message, **TO)).all_accepted
        assert (await client.send(an_email(), **TO)).all_accepted
    assert kept.bodies[0] == b"a\r\n.b\r\n"
    assert b"Subject:" in kept.bodies[1]
    if hasattr(message, "close"):
        message.close()


# No session.


async def test_nobody_there_is_cannot_connect() -> None:
    async with scripted(Script.greet) as address:
        pass
    with pytest.raises(CannotConnect, match="refused"):
        async with plain(address):
            pass
    with pytest.raises(CannotConnect, match="not a host name"):
        async with plain("x" * 64 + ".example:25"):
            pass


async def test_no_answer_in_time_is_a_timeout() -> None:
    async def silent(script: Script) -> None:
        await script.reader.read()

    loop = asyncio.get_running_loop()
    async with scripted(silent) as address:
        started = loop.time()
        with pytest.raises(ConnectionBroken) as caught:
            async with plain(address, timeout=0.2):
                pass
        assert 0.19 <= loop.time() - started < 5.0
    assert caught.value.closed.timer is Timer.SESSION


async def test_a_server_that_will_not_talk_is_a_refusal() -> None:
    async with scripted(lambda script: script.say(b"554 No")) as address:
        with pytest.raises(SessionRefused) as caught:
            async with plain(address):
                pass
    assert caught.value.reply.code == 554


async def test_no_tls_is_no_session(certificates: Certificates) -> None:
    async with scripted(Script.greet) as address:
        with pytest.raises(TlsUnavailable):
            async with connect(address, ssl_context=certificates.trusting):
                pass
    async with server("on_event", Kept(), tls=certificates.server) as port:
        with pytest.raises(TlsUnavailable, match=r"TLS failed: .*certificate"):
            async with connect(f"127.0.0.1:{port}", ssl_context=certificates.suspicious):
                pass


ETRN = Extension("ETRN", verb=OwnVerb("ETRN"))


async def test_arguments_that_make_no_session_are_told_at_once() -> None:
    async with server("on_event", Kept()) as port:
        with pytest.raises(LocalProtocolError, match="there is already"):
            async with plain(f"127.0.0.1:{port}", extensions=(ETRN, ETRN)):
                pass
    with pytest.raises(ValueError, match="nonsense"):
        async with connect("127.0.0.1:25", tls="nonsense"):
            pass


# A session that breaks.


async def test_a_connection_that_ends_in_a_body_is_a_retry_and_after_it_unknown() -> None:
    async def hangs_up(script: Script) -> None:
        await script.to_body()
        if after:
            while await script.line() != b".":
                pass
        else:
            await script.line()

    for after, outcome in ((False, Result.RETRY), (True, Result.UNKNOWN)):
        async with scripted(hangs_up) as address, plain(address) as client:
            [result] = await client.send(b"x\r\n" if after else b"xxxxxxx\r\n" * 10**6, **TO)
            assert result.outcome is outcome
            with pytest.raises(ConnectionBroken):
                await client.send(b"x", **TO)
            with pytest.raises(ConnectionBroken):
                await client.authenticate(Credentials("user", "pencil"))


async def test_a_refusal_in_the_middle_of_a_body_is_heard() -> None:
    """The client writes, and the server has said why it does not read any more."""

    async def refuses(script: Script) -> None:
        await script.to_body()
        await script.line()
        await script.say(b"552 5.3.4 Enough")
        await asyncio.sleep(0.2)

    async with scripted(refuses) as address, plain(address) as client:
        delivery = await client.send(b"x" * 998 + b"\r\n" * 10**6, **TO)
    assert [str(result.reply) for result in delivery] == ["552 5.3.4 Enough"]
    assert delivery.closed is not None


async def test_a_server_that_does_not_read_is_given_up() -> None:
    async def reads_nothing(script: Script) -> None:
        await script.to_body()
        script.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport for reading, too
        await asyncio.Event().wait()

    async with scripted(reads_nothing) as address, plain(address, timeout=1.0) as client:
        delivery = await client.send(b"x" * 20_000_000, **TO)
    assert [result.outcome for result in delivery] == [Result.RETRY]
    assert delivery.closed is not None
    assert delivery.closed.reason is CloseReason.TIMEOUT


async def test_two_sides_that_both_write_do_not_wait_for_each_other() -> None:
    """The server answers while it is given more than it reads: 100 recipients at once, and a long reply to each."""

    async def talks(script: Script) -> None:
        await script.greet(b"PIPELINING")
        answered = b"\r\n".join([b"250-" + b"y" * 500] * 100 + [b"250 yes"])
        while (line := await script.line()) and line != b"QUIT":
            await script.say(answered if line != b"DATA" else b"554 No")

    async with scripted(talks) as address, plain(address) as client:
        delivery = await client.send(
            b"x", sender="me@example.com", recipients=[f"user{number}@example.org" for number in range(100)]
        )
    assert {str(result.reply) for result in delivery} == {"554 No"}


async def test_what_a_server_says_while_nobody_asks_is_heard_with_the_next() -> None:
    async def leaves(script: Script) -> None:
        await script.greet()
        await script.say(b"421 Good night")

    async with scripted(leaves) as address, plain(address) as client:
        await asyncio.sleep(0.05)
        [result] = await client.send(b"x", **TO)
        assert (result.outcome, str(result.reply)) == (Result.RETRY, "421 Good night")
        assert client.closed is not None
        assert client.closed.reason is CloseReason.GOING_AWAY


# Callers.


async def test_a_second_call_at_the_same_time_is_a_mistake() -> None:
    async def slow(message: Message) -> None:
        begun.set()
        await go_on.wait()

    begun, go_on = asyncio.Event(), asyncio.Event()
    serving_it = serving_messages(slow, "127.0.0.1:0", hostname="mx.example.org", accept_any=True)
    async with serving_it as bound, plain(bound[0].address) as client, asyncio.TaskGroup() as group:
        first = group.create_task(client.send(b"x", **TO))
        await begun.wait()
        with pytest.raises(RuntimeError, match="another task"):
            await client.send(b"x", **TO)
        go_on.set()
        assert (await first).all_accepted


@pytest.mark.parametrize("where", ["connecting", "sending", "idle"])
async def test_being_cancelled_leaves_nothing_open(where: str, certificates: Certificates) -> None:
    heard: list[bytes] = []

    async def hangs(script: Script) -> None:
        if where != "connecting":
            await script.greet()
        begun.set()
        heard.append(await script.reader.read())

    async def sends(address: str) -> None:
        async with plain(address, timeout=None) as client:
            clients.append(client)
            await (asyncio.Event().wait() if where == "idle" else client.send(b"x", **TO))

    begun, clients = asyncio.Event(), list[Any]()
    async with scripted(hangs) as address:
        sending = asyncio.create_task(sends(address))
        await begun.wait()
        await asyncio.sleep(0.05)
        started = asyncio.get_running_loop().time()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert asyncio.get_running_loop().time() - started < 1.0, "nobody waited for a farewell"
        for client in clients:
            assert client.closed is not None
            with pytest.raises(ConnectionBroken):
                await client.send(b"x", **TO)
        await asyncio.sleep(0.01)


async def test_a_timeout_of_the_callers_breaks_the_session() -> None:
    async def hangs(message: Message) -> None:
        await asyncio.Event().wait()

    serving_it = serving_messages(hangs, "127.0.0.1:0", hostname="mx.example.org", accept_any=True, grace=0)
    async with serving_it as bound, plain(bound[0].address) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.send(b"x", **TO)
        with pytest.raises(ConnectionBroken):
            await client.send(b"x", **TO)


async def test_what_an_iterator_raises_goes_through_and_it_is_closed() -> None:
    closed: list[bool] = []

    async def fails() -> AsyncIterator[bytes]:
        try:
            yield b"Subject: x\r\n\r\n"
            yield b"x" * 100_000
            raise ZeroDivisionError
        finally:
            closed.append(True)

    async with server("serve_messages", Kept()) as port, plain(f"127.0.0.1:{port}") as client:
        with pytest.raises(ZeroDivisionError):
            await client.send(fails(), **TO)
        with pytest.raises(ConnectionBroken):
            await client.send(b"x", **TO)
    assert closed == [True]


async def test_an_exception_in_the_block_says_goodbye_all_the_same() -> None:
    heard: list[bytes] = []

    async def polite(script: Script) -> None:
        await script.greet()
        heard.append(await script.line())
        await script.say(b"221 Bye")

    async with scripted(polite) as address:
        with pytest.raises(ZeroDivisionError):
            async with plain(address):
                raise ZeroDivisionError
    assert heard == [b"QUIT"]


async def test_a_mistake_leaves_the_session_as_it_was() -> None:
    def refuses(message: Message) -> None:
        raise Refusal(550, "No", enhanced="5.7.1")

    serving_it = serving_messages(refuses, "127.0.0.1:0", hostname="mx.example.org", accept_any=True)
    async with serving_it as bound, plain(bound[0].address) as client:
        with pytest.raises(LocalProtocolError):
            await client.send(b"x", sender="not an address", recipients="you@example.org")
        with pytest.raises(LocalProtocolError, match="recipient"):
            await client.send(b"x", sender="", recipients=[])
        with pytest.raises(AuthUnavailable):
            await client.authenticate(Credentials("user", "pencil"))
        [result] = await client.send(b"x", **TO)
        assert result.outcome is Result.REFUSED
        assert "SIZE" in client.capabilities
        assert client.tls is None


async def test_a_client_that_is_done_is_forgotten() -> None:
    async with server("on_event", Kept()) as port:
        async with plain(f"127.0.0.1:{port}") as client:
            kept = weakref.ref(client)
        del client
        await asyncio.sleep(0)
        gc.collect()
        assert kept() is None
