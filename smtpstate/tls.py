"""TLS as a layer without I/O: `secure()` wraps a connection, and is driven like one. Contexts to give it, too.

STARTTLS (RFC 3207) and implicit TLS (RFC 8314) both happen in here, under the connection's own budgets, so a driver
moves octets and knows nothing of either.
"""

from __future__ import annotations

import re
import ssl
from contextlib import suppress
from enum import IntEnum
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar, final, overload

from smtpstate._events import Flow, TlsInfo
from smtpstate._keys import channel_bindings
from smtpstate._sasl import certificate_names
from smtpstate._server import ServerConnection
from smtpstate._state import Phase

if TYPE_CHECKING:
    from pathlib import Path

    from smtpstate._client import ClientConnection
    from smtpstate._events import ClientEvent, ConnectionClosed, ServerEvent
    from smtpstate._keys import ChannelBinding

_RECORD: Final = 16_384  # octets of plaintext in a record at most; RFC 8446 section 5.1
_HELLO: Final = 16_384  # octets kept of what a client opens with, to find the name it asks for
_BARREN: Final = 65_536  # octets of records in a row that bring no plaintext: key updates, tickets, empty records
_HOST: Final = re.compile(rb"[0-9A-Za-z._-]{1,255}")  # OpenSSL takes any octets but NUL for a server name

_Event_co = TypeVar("_Event_co", covariant=True)


class TlsCapable(Protocol[_Event_co]):
    """What `secure()` can wrap: a machine that says when a handshake is due, and is told how it went."""

    @property
    def phase(self) -> Phase: ...
    @property
    def closed(self) -> ConnectionClosed | None: ...
    @property
    def deadline(self) -> float | None: ...
    @property
    def half_close(self) -> bool: ...
    @property
    def reads_first(self) -> bool: ...
    def receive_data(self, data: bytes, /) -> None: ...
    def receive_eof(self) -> None: ...
    def connection_lost(self) -> None: ...
    def handle_timeout(self) -> None: ...
    def tls_established(self, info: TlsInfo, /) -> None: ...
    def tls_failed(self) -> None: ...
    def next_event(self) -> _Event_co | Flow: ...
    def data_to_send(self) -> bytes: ...


class _Stage(IntEnum):
    """What the octets on the wire are."""

    NEW = 0  # not asked for an event yet: whether TLS comes first is not known
    CLEAR = 1
    HANDSHAKE = 2
    OPEN = 3  # records, in both directions
    OVER = 4  # nothing that matters: the handshake failed or was cut short, or a record was not what it should be


@final
class SecureConnection(Generic[_Event_co]):
    """A connection inside TLS, made by `secure()`; drive it instead of the connection.

    Verdicts and commands still go to `connection`. `failure` is the error that ended the handshake, or the session
    after it, for a log: it may quote the peer's certificate, so it has no place in a reply.
    """

    __slots__ = (
        "_barren",
        "_certificate",
        "_drained",
        "_eof",
        "_flushing",
        "_goodbye",
        "_held",
        "_hello",
        "_incoming",
        "_outgoing",
        "_peer_done",
        "_stage",
        "_tls",
        "_verifies",
        "connection",
        "failure",
    )

    def __init__(
        self,
        connection: TlsCapable[_Event_co],
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None,
        certificate: bytes | None = None,
    ) -> None:
        self.connection: Final = connection
        self.failure: ssl.SSLError | None = None
        self._incoming: Final = ssl.MemoryBIO()
        self._outgoing: Final = ssl.MemoryBIO()
        self._tls: Final = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._certificate: Final = certificate  # the server's, if that is us
        # A client's certificate carries no name that we could check.
        self._verifies: Final = context.verify_mode is not ssl.CERT_NONE and (server_side or context.check_hostname)
        self._stage: _Stage = _Stage.NEW
        self._held: Final[list[bytes]] = []  # read before the first event was asked for
        self._hello: Final = bytearray()  # the server's: how the client opened
        self._barren: int = 0
        self._goodbye: bool = False  # our close_notify is written
        self._peer_done: bool = False  # the peer's close_notify was read
        self._eof: bool = False  # no more will come, and the connection has not been told
        self._flushing: bool = False  # all that came was answered, and the answers are on their way ...
        self._drained: bool = False  # ... or have left

    # What it knows.

    @property
    def closed(self) -> ConnectionClosed | None:
        """How it ended, once it has."""
        return self.connection.closed

    @property
    def deadline(self) -> float | None:
        """When to call `handle_timeout()`, on the connection's clock; None: never. The handshake's budget, too."""
        return self.connection.deadline

    @property
    def reads_first(self) -> bool:
        """Whether to feed what has arrived already before draining, without waiting for it; then pull again."""
        return self.connection.reads_first and not self._peer_done

    @property
    def half_close(self) -> bool:
        """Whether to shut down our side of the transport, once all is drained; never before our close_notify."""
        return self.connection.half_close and (self._goodbye or self._stage is not _Stage.OPEN)

    # Inputs.

    def receive_data(self, data: bytes) -> None:
        """Octets from the wire, in order; b"" does nothing. Then drain `data_to_send()`."""
        if not data:
            return
        if self._stage is _Stage.NEW:
            self._held.append(data)
        else:
            self._receive(data)

    def receive_eof(self) -> None:
        """The peer's transport will bring no more.

        Without a close_notify before it anybody may have cut the connection (RFC 8446 section 6.1): what came before is
        still answered, then the connection is told that it was lost.
        """
        if self._look() is _Stage.OPEN:
            self._eof = True
        else:
            self.connection.receive_eof()

    def connection_lost(self) -> None:
        """The transport is gone: nothing can be sent or received any more."""
        self._stage = _Stage.OVER
        self._outgoing.read()
        self.connection.connection_lost()

    def handle_timeout(self) -> None:
        """The deadline has passed. Early or spurious calls do nothing. Then drain `data_to_send()`."""
        self.connection.handle_timeout()

    # Events.

    def next_event(self) -> _Event_co | Flow:
        """The connection's next event, or what to do until there is one; never NEED_TLS."""
        while True:
            event = self.connection.next_event()
            if self._stage is _Stage.NEW:
                self._stage = _Stage.HANDSHAKE if event is Flow.NEED_TLS else _Stage.CLEAR
                if self._held:
                    self._receive(b"".join(self._held))
                    self._held.clear()
                    if isinstance(event, Flow):
                        continue
            if not isinstance(event, Flow):
                self._flushing = False
                return event
            if event is Flow.NEED_TLS:
                self._look()
                if not self._shake_hands():
                    return Flow.NEED_DATA
            elif not self._eof or event in (Flow.NEED_FLUSH, Flow.WAIT):
                return event
            elif not self._end_input():
                return Flow.NEED_FLUSH

    def data_to_send(self) -> bytes:
        """Octets for the wire, b"" when there are none. Asking again says that the last piece has left."""
        # All that we hand out is made of one piece of the connection's, so asking it again says the same of that.
        data = self.connection.data_to_send()
        if self._look() is _Stage.OPEN:
            if not self._goodbye:
                self._encrypt(data)
            data = self._outgoing.read()
        elif not data:
            data = self._outgoing.read()  # after the 220 that a handshake answers
        self._drained = not data
        return data

    # From clear text to records.

    def _look(self) -> _Stage:
        """The stage, after a look at what the connection has decided meanwhile."""
        phase = self.connection.phase
        if self._stage is _Stage.CLEAR and phase is Phase.TLS:
            self._stage = _Stage.HANDSHAKE
        elif self._stage is _Stage.HANDSHAKE and phase >= Phase.CLOSING:
            self._stage = _Stage.OVER
        return self._stage

    def _receive(self, data: bytes) -> None:
        stage = self._look()
        if stage is _Stage.HANDSHAKE:
            self.connection.handle_timeout()  # no octet stretches a budget that is spent
            stage = self._look()
        if stage is _Stage.OPEN:
            if not self._peer_done:
                self._barren += len(data)
                self._incoming.write(data)
                self._decrypt()
        elif stage is _Stage.HANDSHAKE:
            self._hello.extend(data[: _HELLO - len(self._hello)])
            self._incoming.write(data)
            if self._shake_hands() and self._stage is _Stage.OPEN:
                self._decrypt()
        else:
            self.connection.receive_data(data)

    def _shake_hands(self) -> bool:
        """Goes on with the handshake; whether it has come to an end."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            self.failure = error.with_traceback(None)
            self._stage = _Stage.OVER
            self.connection.tls_failed()
        else:
            self._stage = _Stage.OPEN
            self.connection.tls_established(self._info())
        self._hello.clear()
        return True

    def _info(self) -> TlsInfo:
        tls = self._tls
        cipher = tls.cipher()
        certificate = tls.getpeercert(binary_form=True)
        return TlsInfo(
            version=tls.version() or "",
            cipher=cipher[0] if cipher else "",
            sni=_server_name(self._hello) if tls.server_side else _sent_name(tls.server_hostname),
            alpn=tls.selected_alpn_protocol(),
            peer_certificate=certificate,
            verified=certificate is not None and self._verifies,
            bindings=self._bindings(certificate),
            identities=_identities(tls) if tls.server_side and self._verifies else (),
        )

    def _bindings(self, peer_certificate: bytes | None) -> tuple[ChannelBinding, ...]:
        """What ties AUTH to this session: as much as Python's ssl knows, which has no exporter."""
        tls = self._tls
        # Whoever has a session with both sides can give them the same tls-unique by resuming both, unless the extended
        # master secret is in use, of which ssl says nothing: RFC 7627 section 1.
        unique = None if tls.session_reused else tls.get_channel_binding("tls-unique")
        certificate = self._certificate if tls.server_side else peer_certificate
        return channel_bindings(tls.version() or "", certificate=certificate, unique=unique)

    # Records.

    def _decrypt(self) -> None:
        try:
            while data := self._tls.read(_RECORD):
                self._barren = 0
                self.connection.receive_data(data)
        except ssl.SSLWantReadError:
            if self._barren > _BARREN:
                self._break_off()
            return
        except ssl.SSLZeroReturnError:
            pass  # what b"" becomes when our close_notify was first
        except ssl.SSLError as error:
            self.failure = error.with_traceback(None)
            self._break_off()
            return
        # close_notify: the peer's side ends here, and what follows is not looked at (RFC 8446 section 6.1).
        self._peer_done = self._eof = True

    def _break_off(self) -> None:
        """Ends the session; an alert that waits may still go out."""
        self._stage = _Stage.OVER
        self.connection.connection_lost()

    def _encrypt(self, data: bytes) -> None:
        """Makes records of `data`; of no data our close_notify, if that was the last."""
        rest = memoryview(data)
        while rest:  # write() may take a part
            rest = rest[self._tls.write(rest) :]
        if not data and (self.connection.half_close or (self._flushing and self._peer_done)):
            self._goodbye = True
            with suppress(ssl.SSLError):  # it wants to read the peer's, which may never come, and we are done
                self._tls.unwrap()

    def _end_input(self) -> bool:
        """Tells the connection that no more will come, once its last answers have left; whether they have.

        It closes when it hears that, and there would be no time left to write close_notify in.
        """
        if not self._flushing:
            self._flushing, self._drained = True, False
        if not self._drained:
            return False
        self._eof = False
        if self._peer_done or self.connection.half_close:
            self.connection.receive_eof()
        else:
            self._break_off()
        return True


@overload
def secure(
    connection: ServerConnection,
    context: ssl.SSLContext,
    *,
    server_hostname: str | None = None,
    server_side: bool | None = None,
    certificate: bytes | None = None,
) -> SecureConnection[ServerEvent]: ...
@overload
def secure(
    connection: ClientConnection,
    context: ssl.SSLContext,
    *,
    server_hostname: str | None = None,
    server_side: bool | None = None,
    certificate: bytes | None = None,
) -> SecureConnection[ClientEvent]: ...
@overload
def secure(
    connection: TlsCapable[_Event_co],
    context: ssl.SSLContext,
    *,
    server_hostname: str | None = None,
    server_side: bool | None = None,
    certificate: bytes | None = None,
) -> SecureConnection[_Event_co]: ...
def secure(
    connection: TlsCapable[_Event_co],
    context: ssl.SSLContext,
    *,
    server_hostname: str | None = None,
    server_side: bool | None = None,
    certificate: bytes | None = None,
) -> SecureConnection[_Event_co]:
    """Wraps `connection` so that its TLS is taken care of: STARTTLS when it is agreed, or from the first octet when
    the connection was made with `implicit_tls`.

    `server_hostname` is a client's: the name to ask for and to check. `server_side` is found by the connection's class
    unless it is given. `certificate` is a server's, in DER: what its context shows to every client, which ssl does not
    tell; with it there is a channel binding, tls-server-end-point, under TLS 1.3 as well. Leave it out for a context
    that has several. Raises ValueError or ssl.SSLError when context, seat and name do not go together, among
    them a context that checks a name, and no name.
    """
    if server_side is None:
        server_side = isinstance(connection, ServerConnection)
    # ssl refuses these two for sockets only; without one it would check the chain, and no name.
    if server_side and server_hostname is not None:
        raise ValueError("server_hostname is for the client's side")
    if not server_side and context.check_hostname and not server_hostname:
        raise ValueError("this context checks the server's name, so server_hostname is needed")
    if not server_side and certificate is not None:
        raise ValueError("certificate is for the server's side")
    return SecureConnection(
        connection, context, server_side=server_side, server_hostname=server_hostname, certificate=certificate
    )


def server_context(
    certfile: str | Path,
    keyfile: str | Path,
    password: str | None = None,
    *,
    client_cafile: str | Path | None = None,
) -> ssl.SSLContext:
    """A server's context: TLS 1.2 and up (RFC 8996), no renegotiation, no compression (RFC 9325 section 3).

    All files are PEM; `certfile` holds the chain, our own certificate first. With `client_cafile` a client may show a
    certificate that one of these authorities has made, for EXTERNAL; a bad one fails the handshake. Raises OSError for
    a file that cannot be read, and ssl.SSLError, one of its kind, for what is no certificate or key, a key that belongs
    to another certificate, and an encrypted key without its `password`. Never asks for it on a terminal.
    """
    context = _hardened(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.load_cert_chain(certfile, keyfile, password if password is not None else "")
    if client_cafile is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(client_cafile)
    return context


def client_context(*, cafile: str | Path | None = None, verify: bool = True) -> ssl.SSLContext:
    """A client's context: TLS 1.2 and up, no renegotiation, no compression, the server's chain and name checked.

    `cafile` is PEM, and adds to the authorities that the system trusts. Without `verify` anybody may be the server,
    and only passive listeners are kept out. Raises OSError for a file that cannot be read, and ssl.SSLError, one of its
    kind, for what is no certificate.
    """
    context = _hardened(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    if verify:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cafile is not None:
        context.load_verify_locations(cafile)
    return context


def _hardened(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


def _identities(tls: ssl.SSLObject) -> tuple[str, ...]:
    """The names in a client's verified certificate."""
    try:
        return certificate_names(tls.getpeercert() or {})
    except ValueError:  # a name that is not UTF-8
        return ()


def _sent_name(server_hostname: str | None) -> str | None:
    """The name that a client asks for: none where it only has an address (RFC 6066 section 3)."""
    if server_hostname is None:
        return None
    try:
        ip_address(server_hostname)
    except ValueError:
        return server_hostname
    return None


def _server_name(wire: bytes | bytearray) -> str | None:
    """The name that a client asks for in its ClientHello, with which `wire` begins (RFC 8446 section 4.1.2).

    Only for octets that OpenSSL made a handshake of, so their structure is sound. None when no name is there, when it
    is not made of letters, digits and the like, and when the ClientHello is longer than `wire`.
    """
    hello = bytearray()
    at = 0
    while at < len(wire):  # a record: one octet of type, two of version, two of length
        size = int.from_bytes(wire[at + 3 : at + 5])
        hello += wire[at + 5 : at + 5 + size]
        at += 5 + size
    end = 4 + int.from_bytes(hello[1:4])
    if len(hello) < end:
        return None
    at = 4 + 2 + 32  # past the type and length, the version and the random
    for width in (1, 2, 1):  # session id, cipher suites, compression methods
        at += width + int.from_bytes(hello[at : at + width])
    at += 2  # the length of all extensions
    while at < end:
        kind = int.from_bytes(hello[at : at + 2])
        if kind == 0:  # server_name, RFC 6066 section 3: lengths of extension and list, host_name(0), its own length
            size = int.from_bytes(hello[at + 7 : at + 9])
            name = bytes(hello[at + 9 : at + 9 + size])
            return name.decode("ascii") if _HOST.fullmatch(name) else None
        at += 4 + int.from_bytes(hello[at + 2 : at + 4])
    return None
