"""connect and Client: mail out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from email.message import Message
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, TypeVar, final, runtime_checkable

from smtpstate import (
    Capabilities,
    ClientConnection,
    ConnectionBroken,
    ConnectionClosed,
    Flow,
    SMTPStateError,
    TlsInfo,
    TlsMode,
)
from smtpstate.delivery import Wants, authenticate, open_session, quit_session, send_message
from smtpstate.extensions import domain_key
from smtpstate.policy import MX
from smtpstate_asyncio._auth import hashing
from smtpstate_asyncio._driver import Driver
from smtpstate_asyncio._listen import internet_address
from smtpstate_parts.connecting import QUIT_SECONDS, CannotConnect, Destination, failure
from smtpstate_parts.sending import Draft, mechanism_for
from smtpstate_parts.source import BLOCK, BinaryFile

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterator, Sequence
    from ssl import SSLContext

    from smtpstate import ClientEvent, Delivery, Limits
    from smtpstate.delivery import Procedure, Recipient
    from smtpstate.extensions import Envid, Extension, Notify, Parameters, Ret
    from smtpstate.policy import Policy
    from smtpstate.sasl import Credentials
    from smtpstate.tls import TlsPolicy
    from smtpstate_parts.machine import Machine

# email.message.EmailMessage is a Message
Source: TypeAlias = bytes | BinaryFile | Iterable[bytes] | AsyncIterable[bytes] | Message

_T = TypeVar("_T")


@asynccontextmanager
async def connect(
    address: str,
    *,
    tls: TlsMode | str = TlsMode.REQUIRED,
    ssl_context: SSLContext | None = None,
    tls_policy: TlsPolicy | None = None,
    hostname: str | None = None,
    timeout: float | None = 60.0,  # noqa: ASYNC109 - the core keeps it, handshakes and pipelined replies included
    limits: Limits | None = None,
    lmtp: bool = False,
    policy: Policy = MX,
    extensions: tuple[Extension, ...] = (),
) -> AsyncGenerator[Client, None]:
    """A session with the server at HOST:PORT, greeted and in TLS; the port is 25 by default, 465 with implicit TLS.

    `tls` is a TlsMode or its value. With "required" and "implicit" the certificate is verified against `ssl_context`,
    or against the system's authorities. `tls_policy` is what the destination demands (DANE, MTA-STS): one that is
    enforced needs "required" or "implicit", decides what is verified where `ssl_context` does not, and is met before
    anything is said inside TLS. `hostname` is what we say in EHLO. `timeout`, in seconds, bounds everything
    from here to the end; None leaves it to the time that each reply may take. `lmtp` speaks LMTP (RFC 2033), which has
    no port of its own. `policy` says what becomes of replies that break the grammar and are understood. `extensions`
    are those of your own that may be used where the server offers them. Raises
    DeliveryError: CannotConnect, SessionRefused, TlsUnavailable or ConnectionBroken. ValueError for arguments that make
    no sense.
    """
    protocol = smtp_client_protocol(
        address,
        tls=tls,
        ssl_context=ssl_context,
        tls_policy=tls_policy,
        hostname=hostname,
        timeout=timeout,
        limits=limits,
        lmtp=lmtp,
        policy=policy,
        extensions=extensions,
    )
    await _connect_tcp(protocol, timeout)
    client = protocol.client
    try:
        yield await protocol.open()
    except asyncio.CancelledError:
        client.abandon()  # whoever cancels does not want to wait for a farewell
        raise
    finally:
        await client.close()


def smtp_client_protocol(
    address: str,
    *,
    tls: TlsMode | str = TlsMode.REQUIRED,
    ssl_context: SSLContext | None = None,
    tls_policy: TlsPolicy | None = None,
    hostname: str | None = None,
    timeout: float | None = 60.0,
    limits: Limits | None = None,
    lmtp: bool = False,
    policy: Policy = MX,
    extensions: tuple[Extension, ...] = (),
) -> ClientProtocol:
    """What `loop.create_connection` takes, in a lambda, for one session with the server that HOST:PORT names.

    When it is connected, `await protocol.open()` gives the `Client`; `await client.close()` ends it. `address` is what
    the certificate is checked against, wherever the connection goes. `timeout` begins now. Do not give
    `create_connection` an `ssl` of its own. Everything else is as in `connect`. Needs a running event loop. Raises
    ValueError for arguments that make no sense, TlsUnavailable for a host that is none of `tls_policy`'s.
    """
    return ClientProtocol(
        Destination.parse(address, tls, tls_policy),
        ssl_context,
        hostname=hostname,
        timeout=timeout,
        limits=limits,
        lmtp=lmtp,
        policy=policy,
        extensions=extensions,
    )


@final
class ClientProtocol(asyncio.Protocol):
    """The protocol of one connection, until it is made. `smtp_client_protocol` makes one."""

    def __init__(
        self,
        to: Destination,
        context: SSLContext | None,
        *,
        hostname: str | None,
        timeout: float | None,
        limits: Limits | None,
        lmtp: bool,
        policy: Policy,
        extensions: tuple[Extension, ...],
    ) -> None:
        self._loop: Final = asyncio.get_running_loop()
        self.to: Final = to
        self._context: Final = context
        self._hostname: Final = hostname
        self._ends: Final = None if timeout is None else self._loop.time() + timeout
        self._limits: Final = limits
        self._lmtp: Final = lmtp
        self._policy: Final = policy
        self._extensions: Final = extensions
        self._client: Client | Exception | None = None

    @property
    def client(self) -> Client:
        """The session, whether it is open or not. Raises RuntimeError before there is a connection; LocalProtocolError
        and ValueError for arguments of which no session can be made."""
        if self._client is None:
            raise RuntimeError("there is no connection yet")
        if isinstance(self._client, Exception):
            raise self._client
        return self._client

    async def open(self) -> Client:
        """Greeting, EHLO and TLS. Raises as `connect` does, CannotConnect excepted."""
        client = self.client
        try:
            await client.run(open_session(client.connection, self.to.mode))
        except ConnectionBroken as error:
            raise failure(client.machine, error) from error
        return client

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a stream has no other
        own = internet_address(transport, "sockname")
        try:
            client = self._client = self._begin("127.0.0.1" if own is None else own[0])
        except Exception as error:  # nobody would hear of it here
            self._client = error
            transport.abort()
        else:
            transport.set_protocol(client.driver)
            client.driver.connection_made(transport)

    def _begin(self, own_address: str) -> Client:
        to = self.to
        connection = to.connection(
            clock=self._loop.time,
            hostname=self._hostname,
            own_address=own_address,
            timeout=None if self._ends is None else self._ends - self._loop.time(),
            limits=self._limits,
            lmtp=self._lmtp,
            policy=self._policy,
            extensions=self._extensions,
        )
        return Client(connection, to.machine(connection, self._context), host=to.name, port=to.port)


@final
class Client:
    """An open session. `connect` makes it, and ends it."""

    def __init__(
        self, connection: ClientConnection, machine: Machine[ClientEvent], *, host: str = "", port: int = 0
    ) -> None:
        self.connection: Final = connection
        self.machine: Final = machine
        self.driver: Final = Driver(machine, self, duplex=True)
        self._host: Final = domain_key(host)  # where we connected to
        self._port: Final = port
        self._loop: Final = asyncio.get_running_loop()
        self._at_it: bool = False
        self._waiter: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self._lost: Final[asyncio.Future[None]] = self._loop.create_future()

    @property
    def capabilities(self) -> Capabilities:
        """What the server offers now."""
        return self.connection.capabilities

    @property
    def tls(self) -> TlsInfo | None:
        """What was agreed on; None in clear text."""
        return self.connection.tls

    @property
    def closed(self) -> ConnectionClosed | None:
        """How the session ended, once it has."""
        return self.connection.closed

    async def authenticate(
        self,
        credentials: Credentials,
        *,
        among: Collection[str] | None = None,
        channel_binding: bool = False,
        in_clear: bool = False,
        host: str | None = None,
        port: int | None = None,
    ) -> None:
        """AUTH, with the strongest mechanism that the server offers; of those in `among`, if given.

        Outside TLS nothing is shown that a listener could use, unless `in_clear`. With `channel_binding`, SCRAM proves
        to both sides that nobody sits between their TLS sessions: by its -PLUS where the server offers that, and else
        by saying that it could, which a server whose offer was tampered with refuses. Under TLS 1.3 the server must
        know tls-server-end-point, the one binding that Python's ssl has there; not each that offers -PLUS does.
        OAUTHBEARER says for which `host` and `port` the token is meant: by default those that were given to `connect`
        (RFC 7628 section 3.1).

        Raises AuthUnavailable; AuthenticationFailed, after which the session is as before; ConnectionBroken;
        LocalProtocolError for a `host` that is not ASCII; and RuntimeError while another task is at it.
        """
        with self._guard():
            mechanism = mechanism_for(
                self.connection,
                credentials,
                among=among,
                channel_binding=channel_binding,
                in_clear=in_clear,
                host=self._host if host is None else host,
                port=self._port if port is None else port,
            )
            await self.run(authenticate(self.connection, mechanism))

    async def send(
        self,
        message: Source,
        *,
        sender: str,
        recipients: str | Recipient | Sequence[str | Recipient],
        eight_bit: bool | None = None,
        chunked: bool = False,
        utf8: bool | None = None,
        notify: Notify | None = None,
        ret: Ret | None = None,
        envid: Envid | None = None,
        parameters: Parameters = (),
        binary: bool = False,
    ) -> Delivery:
        """Sends one message, and says what became of it for each recipient.

        `message` is bytes, a binary file (read twice where it can be, to count and scan it), an EmailMessage, or an
        iterator of bytes, async or not. `sender` "" is the null reverse-path. `eight_bit` says whether there are octets
        above 127; None finds out, and takes an iterator to have some where the server allows them. Bare CR and LF
        become CRLF. `chunked` sends it by BDAT where the server offers CHUNKING. `binary` sends it as it is, whatever
        is in it, and to nobody where the server does not offer BINARYMIME. `utf8` says whether the headers hold UTF-8,
        for which the server has to offer SMTPUTF8; None finds out, for which the headers of an iterator, 64 KiB at
        most, are read before MAIL, and an EmailMessage gets them only where an address of its has no other spelling. A
        recipient that needs SMTPUTF8 in vain is refused, and the reply says why.

        `notify` says which reports the sender wants of each recipient, `ret` and `envid` what is in them (RFC 3461); a
        server without DSN is not asked, and the message goes to it all the same. `parameters` are more of MAIL's, a
        `Recipient` has its own. Where the server does not know those, the message may still go, or its recipients are
        refused: REQUIRETLS, for one, must not be lost.

        Where the server's LIMITS want it, the message goes out in several transactions; recipients for whom there is
        none, as where `message` can be read only once, are to be tried again. Raises ConnectionBroken when the
        session ended before, LocalProtocolError for an address that cannot be sent, or for an octet above 127 that was
        not announced, RuntimeError while another task is at it; what reading `message` raises goes through.
        """
        with self._guard():
            draft = Draft[Iterable[bytes] | AsyncIterable[bytes]](
                self.connection,
                message,
                sender=sender,
                recipients=recipients,
                eight_bit=eight_bit,
                chunked=chunked,
                utf8=utf8,
                notify=notify,
                ret=ret,
                envid=envid,
                parameters=parameters,
                binary=binary,
            )
            await _slowly(draft.read, draft.is_slow)
            async with aclosing(_Body(draft)) as body:
                headers = await body.has_utf8_headers() if draft.needs_headers else False
                batches = draft.batches(utf8=headers)
                for part in batches:
                    await _slowly(draft.rewind, draft.is_slow)
                    octets = body if draft.once else _Body(draft)
                    batches.add(await self.run(send_message(self.connection, part), octets))
                return batches.delivery

    async def close(self) -> None:
        """QUIT, no more than 2 s for its answer, and the end of the connection. `connect` does it after its block."""
        try:
            if not self._at_it:
                with suppress(TimeoutError):
                    async with asyncio.timeout(QUIT_SECONDS):
                        await self.run(quit_session(self.connection))
        finally:
            self.driver.close()
            await asyncio.shield(self._lost)

    def abandon(self) -> None:
        """Ends the connection at once, without a word."""
        self.driver.abort()

    # What it is made of.

    async def run(self, procedure: Procedure[_T], body: AsyncIterator[bytes] | None = None) -> _T:
        """Gives a procedure what it wants. Whatever interrupts it leaves the connection broken."""
        try:
            wanted = next(procedure)
            while True:
                if wanted is Wants.EVENT:
                    wanted = procedure.send(await self._event())
                elif wanted is Wants.CHUNK:
                    await asyncio.sleep(0)  # others have their turn, and the server's word that it has enough is read
                    wanted = procedure.send(b"" if body is None else await anext(body, b""))
                else:
                    wanted = procedure.send(await hashing(wanted.run))
        except StopIteration as stop:
            result: _T = stop.value
            return result
        except BaseException as error:
            whole = isinstance(error, SMTPStateError) and self.connection.in_sync
            if self.connection.closed is None and not whole:
                self.machine.connection_lost()
            raise
        finally:
            if self.connection.closed is not None:
                await self._hang_up()

    async def _event(self) -> ClientEvent | Flow:
        """The next event; NEED_COMMAND when everything is written and nothing outstanding."""
        driver, drained = self.driver, False
        while True:
            if self._failure is not None:
                raise self._failure
            event = driver.poll()
            if not isinstance(event, Flow) or (event is Flow.NEED_COMMAND and drained):
                return event
            if not driver.move(event):
                await self._woken()
            drained = not driver.full

    async def _woken(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
            self.driver.rest()

    async def _hang_up(self) -> None:
        """TLS has an alert or a farewell to send; then the connection is closed."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(QUIT_SECONDS):
                    while not self.driver.move(Flow.NEED_FLUSH):
                        await self._woken()
        finally:
            self.driver.close()

    @contextmanager
    def _guard(self) -> Generator[None, None, None]:
        if self._at_it:
            raise RuntimeError("another task is sending with this client")
        self._at_it = True
        try:
            yield
        finally:
            self._at_it = False

    # What its driver says.

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def overdue(self) -> None:
        """What the caller takes its time for is the caller's."""

    def failed(self, error: Exception) -> None:
        self._failure = error
        self.driver.abort()
        self.wake()

    def gone(self) -> None:
        if not self._lost.done():
            self._lost.set_result(None)


async def _connect_tcp(protocol: ClientProtocol, seconds: float | None) -> None:
    to = protocol.to
    try:
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().create_connection(lambda: protocol, to.host, to.port)
    except (OSError, UnicodeError) as error:
        raise CannotConnect.because(to.address, error) from error


async def _slowly(work: Callable[[], None], is_slow: bool) -> None:  # noqa: FBT001
    """Does it in a thread where it would hold up others."""
    if is_slow:
        await asyncio.to_thread(work)
    else:
        work()


@runtime_checkable
class _Closable(Protocol):
    """An asynchronous generator, or what can be closed like one."""

    async def aclose(self) -> object: ...


@final
class _Body(AsyncIterator[bytes]):
    """The message as the core takes it. Raises LocalProtocolError for an octet above 127 that was not announced."""

    def __init__(self, draft: Draft[Iterable[bytes] | AsyncIterable[bytes]]) -> None:
        self._message: Final = draft.octets
        self._blocks: Final = None if isinstance(draft.octets, BinaryFile) else _iterator(draft.octets)
        self._pieces: Final = draft.pieces()

    async def has_utf8_headers(self) -> bool:
        """Reads on to the end of the header section, if it comes soon; what was read comes again."""
        while (answer := self._pieces.scan()) is None:
            try:
                self._pieces.add(await self._block())
            except StopAsyncIteration:
                return self._pieces.utf8
        return answer

    async def __anext__(self) -> bytes:
        while (piece := self._pieces.take()) is None:
            self._pieces.add(await self._block())
        return piece

    async def _block(self) -> object:
        if isinstance(self._blocks, AsyncIterator):
            return await anext(self._blocks)
        if self._blocks is not None:
            block: object = next(self._blocks, None)
        else:
            assert isinstance(self._message, BinaryFile)
            block = await asyncio.to_thread(self._message.read, BLOCK) or None
        if block is None:
            raise StopAsyncIteration
        return block

    async def aclose(self) -> None:
        """A generator that was not read to its end will not be: it may clean up."""
        if isinstance(self._blocks, _Closable):
            await self._blocks.aclose()


def _iterator(message: bytes | Iterable[bytes] | AsyncIterable[bytes]) -> Iterator[bytes] | AsyncIterator[bytes]:
    if isinstance(message, bytes):
        return iter((message,))
    return aiter(message) if isinstance(message, AsyncIterable) else iter(message)
