"""The anyio server behind a load balancer: who the client is, who may say so, and what becomes of the others."""

from __future__ import annotations

import logging
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from anyio import BrokenResourceError, EndOfStream, Event, connect_tcp, current_time, wait_all_tasks_blocked

from smtpstate import Connected, EndOfMessage, Peer, Rcpt
from smtpstate_anyio import Listener, ListenerProxy, Session, serve, serve_messages
from tests.anyio.loopback import Certificates, Inbox, Recorder, Wire, background, wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import SocketStream

    from smtpstate._proxy import ProxyVersion
    from smtpstate_parts.listen import ListenerTls

pytestmark = pytest.mark.anyio

LINE = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 25\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BLOCK = SIGNATURE + b"\x21\x11\0\x0c" + bytes((192, 0, 2, 1, 198, 51, 100, 7)) + b"\xdc\x04\0\x19"
LOCAL = SIGNATURE + b"\x20\0\0\0"
CLIENT = Peer("192.0.2.1", 56324)
HERE = ("127.0.0.0/8",)
PIPELINE = b"EHLO c.example\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"


def behind(
    version: ProxyVersion, tls: ListenerTls = "plain", trusted: tuple[str, ...] = HERE, seconds: float = 20.0
) -> Listener:
    parsed = ListenerProxy.parse(version, trusted)
    return Listener("127.0.0.1", 0, tls, accept_any=True, proxy=ListenerProxy(version, parsed.trusted, seconds))


class Shaking:
    """A TLS client over a stream that has begun already, which can say its first octets together with others."""

    def __init__(self, stream: SocketStream, context: ssl.SSLContext) -> None:
        self.stream = stream
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")

    async def handshake(self, before: bytes = b"", cut: int | None = None) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                data, before = before + self._out.read(), b""
                for position in range(0, len(data), cut or len(data) or 1):
                    await self.stream.send(data[position : position + (cut or len(data))])
                self._in.write(await self.stream.receive())
            else:
                return await self.stream.send(self._out.read())

    async def send(self, data: bytes) -> None:
        self._tls.write(data)
        await self.stream.send(self._out.read())

    async def receive(self) -> bytes:
        while True:
            try:
                return self._tls.read(65_536)
            except ssl.SSLWantReadError:
                self._in.write(await self.stream.receive())


async def deliver(client: Wire, before: bytes = b"") -> None:
    """One message. `before` goes out together with the first commands."""
    await client.stream.send(before + PIPELINE)
    replies = [(await client.reply())[:3] for _ in range(5)]
    assert replies == ["220", "250", "250", "250", "354"]
    assert (await client.ask(b"hello\r\n.")).startswith("250 ")


@pytest.mark.parametrize(("version", "header"), [(1, LINE), (2, BLOCK)])
@pytest.mark.parametrize("cut", [10, None])
async def test_the_client_is_whom_the_header_names(version: ProxyVersion, header: bytes, cut: int | None) -> None:
    inbox, seen = Inbox(), Recorder()
    async with background(serve_messages, inbox, behind(version), observer=seen) as port, wire(port) as client:
        for position in range(0, len(header), cut or len(header)):
            await client.stream.send(header[position : position + (cut or len(header))])
            await wait_all_tasks_blocked()
        await client.open()
        assert (await client.ask(b"MAIL FROM:<a@example.com>")).startswith("250 ")
        assert (await client.ask(b"RCPT TO:<b@example.org>")).startswith("250 ")
        assert (await client.ask(b"DATA")).startswith("354 ")
        assert (await client.ask(b"hello\r\n.")).startswith("250 ")
    assert [message.peer for message in inbox.messages] == [CLIENT]
    assert inbox.bodies == [b"hello\r\n"]
    assert len(seen.opened) == 1


@pytest.mark.parametrize(("version", "header"), [(1, LINE), (2, BLOCK)])
async def test_what_comes_with_the_header_is_read(version: ProxyVersion, header: bytes) -> None:
    inbox = Inbox()
    async with background(serve_messages, inbox, behind(version)) as port, wire(port) as client:
        await deliver(client, header)
    assert [message.peer for message in inbox.messages] == [CLIENT]


@pytest.mark.parametrize(("version", "header"), [(1, b"PROXY UNKNOWN\r\n"), (2, LOCAL)])
async def test_a_header_without_an_address_names_nobody_and_never_the_balancer(
    version: ProxyVersion, header: bytes
) -> None:
    inbox = Inbox()
    async with background(serve_messages, inbox, behind(version)) as port, wire(port) as client:
        await deliver(client, header)
    assert [message.peer for message in inbox.messages] == [None]


@pytest.mark.parametrize(("version", "header"), [(1, LINE), (2, BLOCK)])
@pytest.mark.parametrize("cut", [None, 5])
async def test_implicit_tls_begins_behind_the_header(
    version: ProxyVersion, header: bytes, cut: int | None, certificates: Certificates
) -> None:
    inbox = Inbox()
    serving = background(serve_messages, inbox, behind(version, "implicit"), tls=certificates.server)
    async with serving as port, await connect_tcp("127.0.0.1", port) as stream:
        secure = Shaking(stream, certificates.trusting)
        await secure.handshake(header, cut)
        client = Wire(secure)  # type: ignore[arg-type]  # it has the two methods that are used
        await client.open()
        for line in (b"MAIL FROM:<a@example.com>", b"RCPT TO:<b@example.org>", b"DATA", b"hello\r\n."):
            assert (await client.ask(line))[0] in "23"
    assert [(message.peer, message.tls is not None) for message in inbox.messages] == [(CLIENT, True)]


@pytest.mark.parametrize(("version", "header"), [(1, LINE), (2, BLOCK)])
async def test_starttls_comes_later_as_ever(version: ProxyVersion, header: bytes, certificates: Certificates) -> None:
    inbox = Inbox()
    serving = background(serve_messages, inbox, behind(version, "starttls"), tls=certificates.server)
    async with serving as port, await connect_tcp("127.0.0.1", port) as stream:
        client = Wire(stream)
        await stream.send(header + b"EHLO client.example\r\nSTARTTLS\r\n")
        for code in ("220", "250", "220"):
            assert (await client.reply()).startswith(code)
        secure = Shaking(stream, certificates.trusting)
        await secure.handshake()
        client = Wire(secure)  # type: ignore[arg-type]  # it has the two methods that are used
        for line in (b"EHLO c", b"MAIL FROM:<a@example.com>", b"RCPT TO:<b@example.org>", b"DATA", b"hello\r\n."):
            assert (await client.ask(line))[0] in "23"
    assert [(message.peer, message.tls is not None) for message in inbox.messages] == [(CLIENT, True)]


async def rest(stream: SocketStream) -> bytes:
    """What the server says until it closes, with or without a reset."""
    heard = b""
    try:
        while True:
            heard += await stream.receive()
    except (EndOfStream, BrokenResourceError):
        return heard


@pytest.mark.parametrize("trusted", [(), ("192.0.2.0/24", "::/0")], ids=["nobody is trusted", "others are trusted"])
async def test_who_is_not_trusted_is_cut_off_whatever_is_said(
    trusted: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "smtpstate")
    seen = Recorder()
    serving = background(serve_messages, Inbox(), behind(1, trusted=trusted), observer=seen)
    async with serving as port, await connect_tcp("127.0.0.1", port) as stream:
        assert await rest(stream) == b"", "not even a greeting"
    [record] = caplog.records
    assert "is no trusted proxy" in record.getMessage()
    assert seen.opened == []


WRONG = [
    (1, b"EHLO client.example\r\n", "does not begin like a header", "no header"),
    (1, BLOCK, "does not begin like a header", "the other version"),
    (2, LINE, "does not begin like a header", "the other version"),
    (1, b"PROXY TCP4 192.0.2.1\r\n", "not a line of version 1", "half a header"),
    (2, SIGNATURE + b"\x21\x11\0\0", "too short for its addresses", "no addresses"),
    (2, b"\x16\x03\x01\x02\0", "does not begin like a header", "TLS at once"),
]


@pytest.mark.parametrize(("version", "said", "logged", "reason"), WRONG)
async def test_without_a_valid_header_there_is_no_session(
    version: ProxyVersion, said: bytes, logged: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "smtpstate")
    seen = Recorder()
    serving = background(serve_messages, Inbox(), behind(version), observer=seen)
    async with serving as port, await connect_tcp("127.0.0.1", port) as stream:
        await stream.send(said)
        assert await rest(stream) == b"", reason
    [record] = caplog.records
    assert logged in record.getMessage()
    assert seen.opened == []


@pytest.mark.parametrize("said", [b"", b"PROXY TCP4 192.0.2.1"], ids=["nothing", "half a header"])
async def test_a_header_that_does_not_come_in_time_is_not_waited_for(
    said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "smtpstate")
    started = current_time()
    serving = background(serve_messages, Inbox(), behind(1, seconds=0.2))
    async with serving as port, await connect_tcp("127.0.0.1", port) as stream:
        if said:
            await stream.send(said)
        assert await rest(stream) == b""
    assert 0.2 <= current_time() - started < 5.0
    [record] = caplog.records
    assert "a time budget was spent" in record.getMessage()


async def test_a_balancer_that_only_knocks_makes_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smtpstate")
    async with background(serve_messages, Inbox(), behind(1)) as port:
        for _ in range(3):
            async with await connect_tcp("127.0.0.1", port):
                pass
        async with wire(port) as client:  # and it goes on serving
            await deliver(client, LINE)
    assert caplog.records == []


async def test_without_the_option_a_header_is_an_unknown_command() -> None:
    async with background(serve_messages, Inbox(), Listener("127.0.0.1", 0)) as port, wire(port) as client:
        assert (await client.reply()).startswith("220 ")
        assert (await client.ask(LINE.removesuffix(b"\r\n"))).startswith("500 ")


async def test_the_session_begins_with_the_client_connected() -> None:
    events: list[object] = []
    peers: list[Peer | None] = []

    async def handler(session: Session) -> None:
        peers.append(session.peer)
        async for event in session:
            events.append(event)
            if isinstance(event, Rcpt | EndOfMessage):
                session.accept()

    async with background(serve, handler, behind(2)) as port, wire(port) as client:
        await deliver(client, BLOCK)
    assert events[0] == Connected(CLIENT)
    assert peers == [CLIENT]


async def test_a_drain_does_not_wait_for_headers_and_takes_no_more_of_them() -> None:
    stop, inbox = Event(), Inbox()
    serving = background(serve_messages, inbox, behind(1), stop=stop, grace=15.0)
    async with serving as port, wire(port) as busy, wire(port) as silent, wire(port) as late:
        await busy.stream.send(LINE + PIPELINE)
        for _ in range(5):
            await busy.reply()
        await late.stream.send(LINE[:9])
        await wait_all_tasks_blocked()
        stop.set()
        await wait_all_tasks_blocked()
        await late.stream.send(LINE[9:])
        assert await late.rest() == b""
        assert (await busy.ask(b"hello\r\n.")).startswith("250 ")
        assert (await busy.rest()).startswith(b"421 ")
        assert await silent.rest() == b""
    assert len(inbox.bodies) == 1


def test_a_listener_is_parsed_with_its_proxy() -> None:
    proxy = ListenerProxy.parse(2, ["192.0.2.7", "2001:db8::/32"])
    assert [str(network) for network in proxy.trusted] == ["192.0.2.7/32", "2001:db8::/32"]
    assert Listener.parse("[::1]:25", proxy=proxy) == Listener("::1", 25, proxy=proxy)
    with pytest.raises(ValueError, match="network"):
        ListenerProxy.parse(1, ["proxy.example"])


@asynccontextmanager
async def flooded(port: int, count: int) -> AsyncIterator[None]:
    """Connections that say nothing."""
    streams = [await connect_tcp("127.0.0.1", port) for _ in range(count)]
    yield
    for stream in streams:
        await stream.aclose()


async def test_those_who_say_nothing_keep_nobody_out() -> None:
    inbox = Inbox()
    async with background(serve_messages, inbox, behind(1)) as port, flooded(port, 100), wire(port) as client:
        await deliver(client, LINE)
    assert len(inbox.bodies) == 1
