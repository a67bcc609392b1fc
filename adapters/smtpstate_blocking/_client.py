"""connect and Client: mail out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar, final

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
from smtpstate_blocking._auth import hashing
from smtpstate_blocking._driver import Driver
from smtpstate_blocking._listen import connect_tcp
from smtpstate_parts.connecting import QUIT_SECONDS, Destination, failure
from smtpstate_parts.sending import Draft, mechanism_for
from smtpstate_parts.source import BLOCK, BinaryFile

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Sequence
    from ssl import SSLContext

    from smtpstate import ClientEvent, Delivery, Limits
    from smtpstate.delivery import Procedure, Recipient
    from smtpstate.extensions import Envid, Extension, Notify, Parameters, Ret
    from smtpstate.policy import Policy
    from smtpstate.sasl import Credentials
    from smtpstate_parts.source import Source

_T = TypeVar("_T")


@contextmanager
def connect(
    address: str,
    *,
    tls: TlsMode | str = TlsMode.REQUIRED,
    ssl_context: SSLContext | None = None,
    hostname: str | None = None,
    timeout: float | None = 60.0,
    limits: Limits | None = None,
    lmtp: bool = False,
    policy: Policy = MX,
    extensions: tuple[Extension, ...] = (),
) -> Generator[Client, None, None]:
    """A session with the server at HOST:PORT, greeted and in TLS; the port is 25 by default, 465 with implicit TLS.

    `tls` is a TlsMode or its value. With "required" and "implicit" the certificate is verified against `ssl_context`,
    or against the system's authorities. `hostname` is what we say in EHLO. `timeout`, in seconds, bounds everything
    from here to the end but the look-up of HOST, which the system ends; None leaves it to the time that each reply may
    take. `lmtp` speaks LMTP (RFC 2033), which has no port of its own. `policy` says what becomes of replies that break
    the grammar and are understood. `extensions` are those of your own that may be used where the server offers them.
    Raises DeliveryError: CannotConnect, SessionRefused, TlsUnavailable or ConnectionBroken. ValueError for arguments
    that make no sense.
    """
    to = Destination.parse(address, tls)
    started = monotonic()
    sock = connect_tcp(to, timeout)
    client: Client | None = None
    try:
        connection = to.connection(
            clock=monotonic,
            hostname=hostname,
            own_address=sock.getsockname()[0],
            timeout=None if timeout is None else started + timeout - monotonic(),
            limits=limits,
            lmtp=lmtp,
            policy=policy,
            extensions=extensions,
        )
        machine = to.machine(connection, ssl_context)
        client = Client(connection, Driver(machine, sock, duplex=True), host=to.name, port=to.port)
        try:
            client.run(open_session(connection, to.mode))
        except ConnectionBroken as error:
            raise failure(machine, error) from error
        yield client
    finally:
        try:
            if client is not None:
                client.say_goodbye()
        finally:
            if client is not None:
                client.hang_up()
            sock.close()


@final
class Client:
    """An open session, for one thread at a time. `connect` makes it, and ends it."""

    def __init__(
        self, connection: ClientConnection, driver: Driver[ClientEvent], *, host: str = "", port: int = 0
    ) -> None:
        self.connection: Final = connection
        self._host: Final = domain_key(host)  # where we connected to
        self._port: Final = port
        self._driver: Final = driver
        self._lock: Final = Lock()

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

    def authenticate(
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
        LocalProtocolError for a `host` that is not ASCII; and RuntimeError while another thread is at it.
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
            self.run(authenticate(self.connection, mechanism))

    def send(
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
        iterator of bytes. `sender` "" is the null reverse-path. `eight_bit` says whether there are octets above 127;
        None finds out, and takes an iterator to have some where the server allows them. Bare CR and LF become CRLF.
        `chunked` sends it by BDAT where the server offers CHUNKING. `binary` sends it as it is, whatever is in it, and
        to nobody where the server does not offer BINARYMIME. `utf8` says whether the headers hold UTF-8, for which the
        server has to offer SMTPUTF8; None finds out, for which the headers of an iterator, 64 KiB at most, are read
        before MAIL, and an EmailMessage gets them only where an address of its has no other spelling. A recipient that
        needs SMTPUTF8 in vain is refused, and the reply says why.

        `notify` says which reports the sender wants of each recipient, `ret` and `envid` what is in them (RFC 3461); a
        server without DSN is not asked, and the message goes to it all the same. `parameters` are more of MAIL's, a
        `Recipient` has its own. Where the server does not know those, the message may still go, or its recipients are
        refused: REQUIRETLS, for one, must not be lost.

        Where the server's LIMITS want it, the message goes out in several transactions; recipients for whom there is
        none, as where `message` can be read only once, are to be tried again. Raises ConnectionBroken when the
        session ended before, LocalProtocolError for an address that cannot be sent, or for an octet above 127 that was
        not announced, and RuntimeError while another thread is at it; what reading `message` raises goes through.
        """
        with self._guard():
            draft = Draft[Iterable[bytes]](
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
            draft.read()
            body = _Body(draft)
            batches = draft.batches(utf8=body.has_utf8_headers() if draft.needs_headers else False)
            for part in batches:
                draft.rewind()
                batches.add(self.run(send_message(self.connection, part), body if draft.once else _Body(draft)))
            return batches.delivery

    def run(self, procedure: Procedure[_T], body: Iterator[bytes] | None = None) -> _T:
        """Gives a procedure what it wants. Whatever interrupts it leaves the connection broken."""
        try:
            wanted = next(procedure)
            while True:
                if wanted is Wants.EVENT:
                    wanted = procedure.send(self._event())
                elif wanted is Wants.CHUNK:
                    wanted = procedure.send(b"" if body is None else next(body, b""))
                else:
                    wanted = procedure.send(hashing(wanted.run))
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
                self.hang_up()

    def _event(self) -> ClientEvent | Flow:
        """The next event; NEED_COMMAND when everything is written and nothing outstanding."""
        driver, drained = self._driver, False
        while True:
            event = driver.poll()
            if not isinstance(event, Flow) or (event is Flow.NEED_COMMAND and drained):
                return event
            driver.move(event)
            drained = True

    def say_goodbye(self) -> None:
        """QUIT, and no more than 2 s for its answer. `connect` does it at the end of its block."""
        self._driver.limit = monotonic() + QUIT_SECONDS
        self.run(quit_session(self.connection))

    def hang_up(self) -> None:
        """Sends what there is to send, a farewell of TLS at most, and closes the socket. More calls do nothing."""
        driver = self._driver
        if driver.sock.fileno() < 0:
            return
        try:
            driver.limit = monotonic() + QUIT_SECONDS
            driver.move(Flow.NEED_FLUSH)
        finally:
            driver.close()

    @contextmanager
    def _guard(self) -> Generator[None, None, None]:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError("another thread is using this client")
        try:
            yield
        finally:
            self._lock.release()


@final
class _Body(Iterator[bytes]):
    """The message as the core takes it. Raises LocalProtocolError for an octet above 127 that was not announced."""

    def __init__(self, draft: Draft[Iterable[bytes]]) -> None:
        octets = draft.octets
        if isinstance(octets, bytes):
            octets = (octets,)
        self._blocks: Final = iter(lambda: octets.read(BLOCK), b"") if isinstance(octets, BinaryFile) else iter(octets)
        self._pieces: Final = draft.pieces()

    def has_utf8_headers(self) -> bool:
        """Reads on to the end of the header section, if it comes soon; what was read comes again."""
        while (answer := self._pieces.scan()) is None:
            try:
                self._pieces.add(next(self._blocks))
            except StopIteration:
                return self._pieces.utf8
        return answer

    def __next__(self) -> bytes:
        while (piece := self._pieces.take()) is None:
            self._pieces.add(next(self._blocks))
        return piece
