"""Two machines with TLS between them, or one and OpenSSL's bare object; nothing moves but bytes."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from smtpstate import tls
from smtpstate._budget import Limits
from smtpstate._client import ClientConnection
from smtpstate._commands import Command, Data, Ehlo, EndOfMessage, Mail, Quit, Rcpt, StartTls
from smtpstate._config import ServerConfig
from smtpstate._errors import LocalProtocolError
from smtpstate._events import (
    Body,
    ConnectionClosed,
    Flow,
)
from smtpstate._policy import Leftover
from smtpstate._server import ServerConnection
from smtpstate.policy import EarlyInput, WireRules

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "mx.example.org"
CUTS = (1, 3, 99, 1_000_000)
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
TEXT = b"Subject: hello\r\n\r\n..\r\nbody\r\n"

CA = trustme.CA()
CERTIFICATE = CA.issue_cert(HOST, "127.0.0.1")


def server_side(**options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CERTIFICATE.configure_cert(context)
    for name, value in options.items():
        setattr(context, name, value)
    return context


def client_side(**options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    for name, value in options.items():
        setattr(context, name, value)
    return context


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Side:
    """One end: a machine, its connection, and all that has come out."""

    def __init__(self, machine: tls.SecureConnection[Any]) -> None:
        self.machine = machine
        self.events: list[object] = []
        self.flow: Flow | None = None
        self.shut = False

    def react(self, event: object) -> None:
        """What an application does with an event."""

    def prompt(self, flow: Flow) -> bool:
        """Whether there was something to send before waiting."""
        return False

    def pull(self) -> None:
        """Events, until there are none."""
        while True:
            event = self.machine.next_event()
            if isinstance(event, Flow):
                self.flow = event
                if not self.prompt(event):
                    return
            elif event is self.machine.closed:
                if event not in self.events:
                    self.events.append(event)
                self.flow = None
                return
            else:
                self.events.append(event)
                self.react(event)

    def drain(self) -> bytes:
        wire = b""
        while data := self.machine.data_to_send():
            wire += data
        return wire

    def feed(self, data: bytes, cut: int = 1_000_000) -> None:
        for at in range(0, len(data), cut):
            self.machine.receive_data(data[at : at + cut])
            self.pull()

    def flush(self) -> bytes:
        """Pulls and drains as a driver does, until the machine has to read, or is done."""
        wire = b""
        while True:
            self.pull()
            wire += self.drain()
            if self.flow is not Flow.NEED_FLUSH:
                return wire

    @property
    def closed(self) -> ConnectionClosed | None:
        return self.machine.closed


class Server(Side):
    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        *,
        implicit: bool = False,
        limits: Limits | None = None,
        clock: Clock | None = None,
        mechanisms: tuple[str, ...] = (),
        certificate: bytes | None = None,
        leftover: Leftover = Leftover.CLOSE,
        names: tuple[str, ...] | None = None,
    ) -> None:
        config = ServerConfig(
            HOST,
            starttls=not implicit,
            limits=limits or Limits(),
            mechanisms=mechanisms,
            wire=WireRules(early_input=EarlyInput.NOTE),  # dialogues are fed in one piece
            leftover=leftover,
        )
        self.connection = ServerConnection(config, clock=clock or Clock(), implicit_tls=implicit)
        super().__init__(tls.secure(self.connection, context or server_side(), certificate=certificate, names=names))

    def react(self, event: object) -> None:
        if self.connection.owed is not None:
            self.connection.accept()


class Client(Side):
    def __init__(
        self,
        *script: Command | Body | EndOfMessage,
        context: ssl.SSLContext | None = None,
        implicit: bool = False,
        name: str | None = HOST,
        limits: Limits | None = None,
        clock: Clock | None = None,
        leftover: Leftover = Leftover.CLOSE,
        policy: tls.TlsPolicy | None = None,
    ) -> None:
        self.connection = ClientConnection(
            "c.example.com",
            clock=clock or Clock(),
            implicit_tls=implicit,
            limits=limits or Limits(),
            leftover=leftover,
        )
        self.script = list(script)
        super().__init__(tls.secure(self.connection, context or client_side(), server_hostname=name, policy=policy))

    def prompt(self, flow: Flow) -> bool:
        if not self.script or not (flow is Flow.NEED_COMMAND or self.connection.can_send_body):
            return False
        try:
            return self.connection.send(self.script.pop(0))
        except LocalProtocolError:  # something went wrong before, and the rest of the script is pointless
            self.script.clear()
            return False


def run(server: Server, client: Client, cut: int, change: Callable[[bytes], bytes] = bytes) -> None:
    """Moves octets between both until nothing moves; `change` is what happens to those of the client on their way."""
    moved = True
    while moved:
        moved = False
        for side, other in ((server, client), (client, server)):
            side.pull()
            wire = side.drain()
            if wire:
                other.feed(change(wire) if side is client else wire, cut)
            if side.machine.half_close and not side.shut:
                side.shut = moved = True
                other.machine.receive_eof()
            moved = moved or bool(wire) or side.flow is Flow.NEED_FLUSH


def message(*, implicit: bool) -> list[Command | Body | EndOfMessage]:
    start: list[Command | Body | EndOfMessage] = [] if implicit else [Ehlo("c.example.com"), StartTls()]
    envelope: list[Command | Body | EndOfMessage] = [Mail.of("me@example.com"), Rcpt.of("you@example.org"), Data()]
    return [*start, Ehlo("c.example.com"), *envelope, Body(TEXT), EndOfMessage(), Quit()]


class Raw:
    """OpenSSL's own object as the peer: it can do what our machines would not."""

    def __init__(self, context: ssl.SSLContext, name: str | None = None) -> None:
        self.inward, self.outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.inward, self.outward, server_side=name is None, server_hostname=name)

    def hello(self) -> bytes:
        """The first flight of a client."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outward.read()

    def meet(self, side: Side) -> None:
        """Shakes hands with `side`."""
        for _ in range(4):
            with suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
            side.feed(self.outward.read())
            self.inward.write(side.flush())

    def say(self, data: bytes) -> bytes:
        """Records of `data`."""
        self.tls.write(data)
        return self.outward.read()

    def goodbye(self) -> bytes:
        """The record of a close_notify."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.outward.read()

    def hear(self, wire: bytes = b"") -> list[bytes]:
        """What is in the records, b"" for a close_notify."""
        self.inward.write(wire)
        heard: list[bytes] = []
        try:
            while not heard or heard[-1]:
                heard.append(self.tls.read(65536))
        except ssl.SSLZeroReturnError:
            heard.append(b"")
        except ssl.SSLWantReadError:
            pass
        return heard


def met_server(*, limits: Limits | None = None, clock: Clock | None = None, **options: Any) -> tuple[Server, Raw]:
    """A server with implicit TLS that has greeted and heard EHLO, and its peer."""
    server = Server(server_side(**options), implicit=True, limits=limits, clock=clock)
    raw = Raw(client_side(), HOST)
    raw.meet(server)
    server.feed(raw.say(b"EHLO c.example.com\r\n"))
    raw.hear(server.flush())
    return server, raw


def met_client(*script: Command | Body | EndOfMessage, **options: Any) -> tuple[Client, Raw]:
    """A client with implicit TLS that waits for the greeting, and its peer."""
    client = Client(*script, implicit=True)
    client.pull()
    raw = Raw(server_side(**options))
    raw.inward.write(client.drain())
    raw.meet(client)
    return client, raw


def starting_server(**options: Any) -> Server:
    """A server whose 220 to STARTTLS is decided, and has not left."""
    server = Server(**options)
    server.feed(b"EHLO c.example.com\r\n")
    server.drain()
    server.feed(b"STARTTLS\r\n")
    assert server.events[-1] == StartTls()
    return server


def starting_client(**options: Any) -> Client:
    """A client that has sent STARTTLS."""
    client = Client(Ehlo("c.example.com"), StartTls(), Ehlo("c.example.com"), **options)
    client.feed(b"220 mx.example.org\r\n")
    client.drain()
    client.feed(b"250-mx.example.org\r\n250 STARTTLS\r\n")
    assert client.drain() == b"STARTTLS\r\n"
    return client
