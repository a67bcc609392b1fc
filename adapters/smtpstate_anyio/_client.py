"""connect and Client: mail out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from email.message import Message
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, TypeVar, final, runtime_checkable

from anyio import (
    CancelScope,
    ResourceGuard,
    connect_tcp,
    current_time,
    fail_after,
    move_on_after,
    to_thread,
)
from anyio.abc import SocketAttribute

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
from smtpstate_anyio._auth import hashing
from smtpstate_anyio._driver import Driver
from smtpstate_anyio._listen import internet_address
from smtpstate_parts.connecting import QUIT_SECONDS, CannotConnect, Destination, failure
from smtpstate_parts.sending import Draft, mechanism_for
from smtpstate_parts.source import BLOCK, BinaryFile

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from ssl import SSLContext

    from anyio.abc import SocketStream

    from smtpstate import ClientEvent, Delivery, Limits
    from smtpstate.delivery import Procedure, Recipient
    from smtpstate.extensions import Envid, Extension, Notify, Parameters, Ret
    from smtpstate.policy import Policy
    from smtpstate.sasl import Credentials

# email.message.EmailMessage is a Message
Source: TypeAlias = bytes | BinaryFile | Iterable[bytes] | AsyncIterable[bytes] | Message

_T = TypeVar("_T")


@asynccontextmanager
async def connect(
    address: str,
    *,
    tls: TlsMode | str = TlsMode.REQUIRED,
    ssl_context: SSLContext | None = None,
    hostname: str | None = None,
    timeout: float | None = 60.0,  # noqa: ASYNC109 - the core keeps it, handshakes and pipelined replies included
    limits: Limits | None = None,
    lmtp: bool = False,
    policy: Policy = MX,
    extensions: tuple[Extension, ...] = (),
) -> AsyncGenerator[Client, None]:
    """A session with the server at HOST:PORT, greeted and in TLS; the port is 25 by default, 465 with implicit TLS.

    `tls` is a TlsMode or its value. With "required" and "implicit" the certificate is verified against `ssl_context`,
    or against the system's authorities. `hostname` is what we say in EHLO. `timeout`, in seconds, bounds everything
    from here to the end; None leaves it to the time that each reply may take. `lmtp` speaks LMTP (RFC 2033), which has
    no port of its own. `policy` says what becomes of replies that break the grammar and are understood. `extensions`
    are those of your own that may be used where the server offers them. Raises
    DeliveryError: CannotConnect, SessionRefused, TlsUnavailable or ConnectionBroken. ValueError for arguments that make
    no sense.
    """
    to = Destination.parse(address, tls)
    started = current_time()
    stream = await _connect_tcp(to, timeout)
    client: Client | None = None
    try:
        connection = to.connection(
            clock=current_time,
            hostname=hostname,
            own_address=internet_address(stream.extra(SocketAttribute.local_address))[0],
            timeout=None if timeout is None else started + timeout - current_time(),
            limits=limits,
            lmtp=lmtp,
            policy=policy,
            extensions=extensions,
        )
        machine = to.machine(connection, ssl_context)
        client = Client(connection, Driver(machine, stream, duplex=True), host=to.name, port=to.port)
        try:
            await client.run(open_session(connection, to.mode))
        except ConnectionBroken as error:
            raise failure(machine, error) from error
        yield client
    finally:
        try:
            if client is not None:
                await client.say_goodbye()
        finally:
            with CancelScope(shield=True):
                await stream.aclose()


@final
class Client:
    """An open session. `connect` makes it, and ends it."""

    def __init__(
        self, connection: ClientConnection, driver: Driver[ClientEvent], *, host: str = "", port: int = 0
    ) -> None:
        self.connection: Final = connection
        self._host: Final = domain_key(host)  # where we connected to
        self._port: Final = port
        self._driver: Final = driver
        self._guard: Final = ResourceGuard("sending with")

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

        Raises AuthUnavailable; AuthenticationFailed, after which the session is as before; ConnectionBroken; and
        LocalProtocolError for a `host` that is not ASCII.
        """
        with self._guard:
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
        not announced; what reading `message` raises goes through.
        """
        with self._guard:
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

    async def run(self, procedure: Procedure[_T], body: AsyncIterator[bytes] | None = None) -> _T:
        """Gives a procedure what it wants. Whatever interrupts it leaves the connection broken."""
        try:
            wanted = next(procedure)
            while True:
                if wanted is Wants.EVENT:
                    wanted = procedure.send(await self._event())
                elif wanted is Wants.CHUNK:
                    wanted = procedure.send(b"" if body is None else await anext(body, b""))
                else:
                    wanted = procedure.send(await hashing(wanted.run))
        except StopIteration as stop:
            result: _T = stop.value
            return result
        except BaseException as error:
            whole = isinstance(error, SMTPStateError) and self.connection.in_sync
            if self.connection.closed is None and not whole:
                self._driver.machine.connection_lost()
            raise
        finally:
            if self.connection.closed is not None:
                with CancelScope(shield=True):
                    with move_on_after(QUIT_SECONDS):
                        await self._driver.move(Flow.NEED_FLUSH)  # TLS has an alert or a farewell to send
                    await self._driver.stream.aclose()

    async def _event(self) -> ClientEvent | Flow:
        """The next event; NEED_COMMAND when everything is written and nothing outstanding."""
        driver, drained = self._driver, False
        while True:
            event = driver.poll()
            if not isinstance(event, Flow) or (event is Flow.NEED_COMMAND and drained):
                return event
            await driver.move(event)
            drained = True

    async def say_goodbye(self) -> None:
        """QUIT, and no more than 2 s for its answer. `connect` does it at the end of its block."""
        with move_on_after(QUIT_SECONDS):
            await self.run(quit_session(self.connection))


async def _connect_tcp(to: Destination, seconds: float | None) -> SocketStream:
    try:
        with fail_after(seconds):
            return await connect_tcp(to.host, to.port)
    except (OSError, UnicodeError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        raise CannotConnect.because(to.address, cause) from cause


async def _slowly(work: Callable[[], None], is_slow: bool) -> None:  # noqa: FBT001
    """Does it in a thread where it would hold up others."""
    if is_slow:
        await to_thread.run_sync(work)
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
            block = await to_thread.run_sync(self._message.read, BLOCK) or None
        if block is None:
            raise StopAsyncIteration
        return block

    async def aclose(self) -> None:
        """A generator that was not read to its end will not be: it may clean up."""
        if isinstance(self._blocks, _Closable):
            with CancelScope(shield=True):
                await self._blocks.aclose()


def _iterator(message: bytes | Iterable[bytes] | AsyncIterable[bytes]) -> Iterator[bytes] | AsyncIterator[bytes]:
    if isinstance(message, bytes):
        return iter((message,))
    return aiter(message) if isinstance(message, AsyncIterable) else iter(message)
