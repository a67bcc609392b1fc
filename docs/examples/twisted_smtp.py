"""Twisted: a server and a client around the core's machines, with STARTTLS by smtpstate.tls and no TLS of Twisted's.

python docs/examples/twisted_smtp.py serve PORT [CERTIFICATE KEY]          take mail to example.org, and print it
python docs/examples/twisted_smtp.py send PORT FROM TO [AUTHORITIES]       send standard input to localhost
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from ssl import SSLContext
from typing import Generic, Protocol, TypeVar, assert_never, runtime_checkable

from twisted.internet import protocol
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConnector, IHalfCloseableProtocol, IPullProducer
from twisted.internet.task import react
from twisted.python.failure import Failure
from zope.interface import implementer

from smtpstate import (
    Auth,
    AuthCancel,
    AuthResponse,
    Bdat,
    Body,
    CapabilitiesChanged,
    ClientConnection,
    ClientEvent,
    Clock,
    CommandRefused,
    Connected,
    ConnectionClosed,
    Data,
    Delivery,
    Ehlo,
    EndOfMessage,
    Expn,
    Flow,
    Helo,
    Help,
    Lhlo,
    Limits,
    Mail,
    Noop,
    NoRecipients,
    Peer,
    Quit,
    Rcpt,
    ReplyReceived,
    Rset,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    StartTls,
    TlsMode,
    Transaction,
    TransactionReset,
    Vrfy,
    tls,
)
from smtpstate.delivery import Envelope, Procedure, Wants, open_session, quit_session, send_message
from smtpstate.extensions import OwnCommand, XClient, XForward

Event = TypeVar("Event")
Event_co = TypeVar("Event_co", covariant=True)
Keep = Callable[[Transaction, bytes], None]


class Machine(Protocol[Event_co]):
    """Either connection, bare or inside `tls.secure`."""

    @property
    def deadline(self) -> float | None: ...
    @property
    def half_close(self) -> bool: ...
    def receive_data(self, data: bytes, /) -> None: ...
    def receive_eof(self) -> None: ...
    def connection_lost(self) -> None: ...
    def handle_timeout(self) -> None: ...
    def next_event(self) -> Event_co | Flow: ...
    def data_to_send(self) -> bytes: ...


@runtime_checkable
class Transport(Protocol):
    """What we need of Twisted's TCP transport."""

    def write(self, data: bytes, /) -> object: ...
    def registerProducer(self, producer: object, streaming: bool) -> object: ...  # noqa: FBT001 - Twisted's
    def unregisterProducer(self) -> object: ...
    def pauseProducing(self) -> object: ...
    def resumeProducing(self) -> object: ...
    def loseWriteConnection(self) -> object: ...
    def loseConnection(self) -> object: ...
    def abortConnection(self) -> object: ...


class Delayed(Protocol):
    def cancel(self) -> object: ...


@runtime_checkable
class Address(Protocol):
    """That of a TCP connection."""

    host: str
    port: int


class Listening(Protocol):
    def getHost(self) -> Address: ...


class Timers(Protocol):
    """What the driver needs of a reactor."""

    def callLater(self, delay: float, callable: Callable[[], None], /) -> Delayed: ...


class Reactor(Timers, Protocol):
    """What the rest needs of it."""

    def listenTCP(self, port: int, factory: object, *, interface: str) -> Listening: ...
    def connectTCP(self, host: str, port: int, factory: object) -> IConnector: ...


@implementer(IHalfCloseableProtocol, IPullProducer)
class Wire(protocol.Protocol, Generic[Event]):
    """The driver: moves octets between a machine and Twisted's transport. It knows neither SMTP nor TLS.

    To the transport it is a pull producer: `resumeProducing` says that all that was written has left. A server does not
    read before that; a client does (`reads_ahead`), so that two sides which both write do not wait for each other.
    """

    reads_ahead = False

    def __init__(self, machine: Machine[Event], reactor: Timers, clock: Clock = time.monotonic) -> None:
        self.machine = machine
        self._reactor = reactor
        self._clock = clock  # the machine's
        self._tcp: Transport | None = None
        self._timer: tuple[float, Delayed] | None = None  # for which deadline
        self._sending = False  # a piece is under way
        self._shut = False  # our side is
        self._eof = False  # their side is
        self._over = False

    def on_event(self, event: Event) -> None:
        """An event, in its turn; verdicts are given here."""

    def on_idle(self) -> None:
        """A client's: everything has left, and nothing is outstanding."""

    # What Twisted calls.

    def connectionMade(self) -> None:
        assert isinstance(self.transport, Transport)
        self._tcp = self.transport
        self._tcp.registerProducer(self, streaming=False)  # calls resumeProducing, now and whenever its buffer is empty

    def resumeProducing(self) -> None:
        self._sending = False
        self.pump()

    def stopProducing(self) -> None:
        """The connection is lost, as connectionLost is going to say."""

    def dataReceived(self, data: bytes) -> None:
        self.machine.receive_data(data)
        self.pump()

    def readConnectionLost(self) -> None:
        self._eof = True
        self.machine.receive_eof()
        self.pump()

    def writeConnectionLost(self) -> None:
        """We have shut down our side ourselves."""

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self.machine.connection_lost()
        self.pump()

    def _expire(self) -> None:
        self._timer = None
        self.machine.handle_timeout()
        if self._sending:  # part of a piece has left, and nothing can follow it
            self.machine.connection_lost()
        self.pump()

    # What it does.

    def pump(self) -> None:
        """Pulls events, and does what a Flow asks for, until there is something to wait for."""
        tcp = self._tcp
        while tcp is not None and not self._over:
            event = self.machine.next_event()
            if isinstance(event, Flow):
                if self._waits(tcp, event):
                    break
                continue
            self._over = isinstance(event, ConnectionClosed)
            self.on_event(event)
            if self._over:
                self._close(tcp)
        self._arm()

    def _waits(self, tcp: Transport, flow: Flow) -> bool:
        if not self._sending and (data := self.machine.data_to_send()):
            self._sending = True
            tcp.write(data)
        reads = flow in (Flow.NEED_DATA, Flow.NEED_COMMAND) and (self.reads_ahead or not self._sending)
        if not self._eof:
            tcp.resumeProducing() if reads else tcp.pauseProducing()
        if self._sending:
            return True
        if self.machine.half_close and not self._shut:
            self._shut = True
            tcp.unregisterProducer()
            tcp.loseWriteConnection()
        if flow is Flow.NEED_COMMAND:
            self.on_idle()
        return flow in (Flow.NEED_DATA, Flow.WAIT)

    def _arm(self) -> None:
        """Calls `_expire` at the machine's deadline, and at no other time."""
        deadline = None if self._over else self.machine.deadline
        if self._timer is not None:
            if self._timer[0] == deadline:
                return
            self._timer[1].cancel()
        self._timer = None
        if deadline is not None:
            self._timer = (deadline, self._reactor.callLater(max(0.0, deadline - self._clock()), self._expire))

    def _close(self, tcp: Transport) -> None:
        if self._sending:  # it would wait for a peer that does not read
            tcp.abortConnection()
            return
        if not self._shut:
            tcp.unregisterProducer()
        tcp.loseConnection()


class ServerWire(Wire[ServerEvent]):
    """Takes mail to example.org."""

    def __init__(
        self,
        connection: ServerConnection,
        machine: Machine[ServerEvent],
        reactor: Timers,
        keep: Keep,
        clock: Clock = time.monotonic,
    ) -> None:
        super().__init__(machine, reactor, clock)
        self.connection = connection
        self._keep = keep
        self._pieces: list[bytes] = []  # no more of them than Limits.message allows

    def on_event(self, event: ServerEvent) -> None:
        connection = self.connection
        match event:
            case Rcpt(recipient):
                if recipient.within("example.org"):
                    connection.accept()  # the others are refused by our silence
            case Body(data):
                self._pieces.append(data)
            case EndOfMessage():
                assert connection.transaction is not None
                self._keep(connection.transaction, b"".join(self._pieces))
                self._pieces.clear()
                connection.accept()
            case TransactionReset():
                self._pieces.clear()
            case Connected() | Ehlo() | Helo() | Mail() | Data():
                pass  # silence lets them go on
            case StartTls() | Bdat() | Rset() | Noop() | Vrfy() | Expn() | Help() | Quit() | CommandRefused():
                pass  # answered already
            case Lhlo() | Auth() | AuthResponse() | AuthCancel() | XClient() | XForward() | OwnCommand():
                pass  # never comes: nothing offers it
            case ConnectionClosed():
                pass  # the driver closes
            case _:
                assert_never(event)


class Server(protocol.ServerFactory):
    """`keep` has to have the message safe when it returns. With `context` STARTTLS is offered."""

    noisy = False

    def __init__(self, reactor: Reactor, keep: Keep, context: SSLContext | None = None) -> None:
        self._reactor = reactor
        self._keep = keep
        self._context = context
        self.config = ServerConfig("mx.example.org", Limits(message=1_000_000), starttls=context is not None)

    def buildProtocol(self, addr: object) -> ServerWire:
        peer = Peer(addr.host, addr.port) if isinstance(addr, Address) else None
        connection = ServerConnection(self.config, clock=time.monotonic, peer=peer)
        machine = connection if self._context is None else tls.secure(connection, self._context)
        return ServerWire(connection, machine, self._reactor, self._keep)


class ClientWire(Wire[ClientEvent]):
    """Gives a procedure of `smtpstate.delivery` what it wants, and its result to `done`."""

    reads_ahead = True

    def __init__(
        self,
        machine: Machine[ClientEvent],
        reactor: Timers,
        procedure: Procedure[Delivery],
        body: Iterator[bytes],
        done: "Deferred[Delivery]",
        clock: Clock = time.monotonic,
    ) -> None:
        super().__init__(machine, reactor, clock)
        self._procedure: Procedure[Delivery] | None = procedure
        self._body = body
        self._done = done

    def connectionMade(self) -> None:
        assert self._procedure is not None
        wanted = next(self._procedure)
        assert wanted is Wants.EVENT  # the greeting
        super().connectionMade()

    def on_event(self, event: ClientEvent) -> None:
        match event:
            case ReplyReceived() | CapabilitiesChanged() | NoRecipients() | ConnectionClosed():
                self._give(event)
            case _:
                assert_never(event)

    def on_idle(self) -> None:
        self._give(Flow.NEED_COMMAND)

    def _give(self, given: ClientEvent | Flow | bytes) -> None:
        if self._procedure is None:
            return
        try:
            while (wanted := self._procedure.send(given)) is not Wants.EVENT:
                # What is no chunk is the hash of a password: deferToThread is for that, where others wait.
                given = next(self._body, b"") if wanted is Wants.CHUNK else wanted.run()
        except StopIteration as stop:
            self._procedure = None
            result: Delivery = stop.value
            self._done.callback(result)
        except Exception:  # nothing of it is for the reactor's log: who waits gets it
            self._procedure = None
            self.machine.connection_lost()
            self._done.errback()


class Sender(protocol.ClientFactory[ClientWire]):
    """Sends one message; `done` fires with what became of it for each recipient, or with why no session came about.

    With `context` the session is in TLS, by STARTTLS, or there is none.
    """

    noisy = False

    def __init__(
        self, reactor: Reactor, host: str, envelope: Envelope, body: Iterable[bytes], context: SSLContext | None = None
    ) -> None:
        self.done: Deferred[Delivery] = Deferred()
        self._reactor = reactor
        self._host = host
        self._envelope = envelope
        self._body = body
        self._context = context

    def buildProtocol(self, addr: object) -> ClientWire:
        connection = ClientConnection("client.example.com", clock=time.monotonic)
        machine: Machine[ClientEvent] = connection
        if self._context is not None:
            machine = tls.secure(connection, self._context, server_hostname=self._host)
        mode = TlsMode.OFF if self._context is None else TlsMode.REQUIRED
        procedure = deliver(connection, mode, self._envelope)
        return ClientWire(machine, self._reactor, procedure, iter(self._body), self.done)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self.done.errback(reason)


def deliver(client: ClientConnection, mode: TlsMode, envelope: Envelope) -> Procedure[Delivery]:
    yield from open_session(client, mode)
    delivery = yield from send_message(client, envelope)
    yield from quit_session(client)
    return delivery


def serve(reactor: Reactor, port: str, *certificate: str) -> "Deferred[None]":
    def keep(transaction: Transaction, content: bytes) -> None:
        recipients = ", ".join(rcpt.recipient.address for rcpt in transaction.recipients)
        print(f"from {transaction.mail.reverse_path.address} to {recipients}: {len(content)} octets", flush=True)

    context = tls.server_context(*certificate) if certificate else None
    listening = reactor.listenTCP(int(port), Server(reactor, keep, context), interface="127.0.0.1")
    print(f"listening on 127.0.0.1:{listening.getHost().port} (plain)", flush=True)
    return Deferred()  # until a signal stops the reactor


async def send(reactor: Reactor, port: str, sender: str, recipient: str, authorities: str = "") -> None:
    content = sys.stdin.buffer.read()
    envelope = Envelope(sender, (recipient,), len(content), not content.isascii())
    context = tls.client_context(cafile=authorities) if authorities else None
    factory = Sender(reactor, "localhost", envelope, [content], context)
    reactor.connectTCP("127.0.0.1", int(port), factory)
    for result in await factory.done:
        print(result.address, result.outcome.value, result.reply)


def main(reactor: Reactor, command: str, *arguments: str) -> "Deferred[None]":
    return serve(reactor, *arguments) if command == "serve" else Deferred.fromCoroutine(send(reactor, *arguments))


if __name__ == "__main__":
    react(main, sys.argv[1:])
