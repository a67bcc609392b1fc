"""TLS as a layer without I/O: `secure()` wraps a connection, and is driven like one. Contexts to give it, too.

STARTTLS (RFC 3207) and implicit TLS (RFC 8314) both happen in here, under the connection's own budgets, so a driver
moves octets and knows nothing of either.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar, final, overload

from smtpstate._clienthello import ClientHello, HelloReader
from smtpstate._clienthello import HelloFault as HelloFault
from smtpstate._contexts import client_context as client_context
from smtpstate._contexts import server_context as server_context
from smtpstate._events import Flow, TlsInfo
from smtpstate._keys import channel_bindings
from smtpstate._server import ServerConnection
from smtpstate._sslobject import identities, sent_name, verified_chain
from smtpstate._state import Phase
from smtpstate._tlspolicy import Dane as Dane
from smtpstate._tlspolicy import MtaSts as MtaSts
from smtpstate._tlspolicy import MtaStsMode as MtaStsMode
from smtpstate._tlspolicy import Shown as Shown
from smtpstate._tlspolicy import Tlsa as Tlsa
from smtpstate._tlspolicy import TlsPolicy as TlsPolicy
from smtpstate._tlspolicy import public_key_of as public_key_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from smtpstate._client import ClientConnection
    from smtpstate._events import ClientEvent, ConnectionClosed, ServerEvent
    from smtpstate._keys import ChannelBinding

_RECORD: Final = 16_384  # octets of plaintext in a record at most; RFC 8446 section 5.1
_BARREN: Final = 65_536  # octets of records in a row that bring no plaintext: key updates, tickets, empty records

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


@final
class HandshakeRefused(ssl.SSLError):
    """We ended a handshake that ssl would have gone on with. `fault` is what was wrong with how a client opened it;
    None where a server did not meet the policy. `reason` says it in words of ours."""

    def __init__(self, why: str, fault: HelloFault | None = None) -> None:
        super().__init__(ssl.SSLErrorNumber.SSL_ERROR_SSL, why)
        self.reason = why
        self.fault: Final = fault


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
    after it, for a log: it may quote the peer's certificate, so it has no place in a reply. `unmet` says what is wrong
    with a server, by a policy that is not enforced.
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
        "_names",
        "_opening",
        "_outgoing",
        "_peer_done",
        "_policy",
        "_stage",
        "_tls",
        "_verifies",
        "connection",
        "failure",
        "unmet",
    )

    def __init__(
        self,
        connection: TlsCapable[_Event_co],
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None,
        certificate: bytes | None = None,
        names: Collection[str] | None = None,
        policy: TlsPolicy | None = None,
    ) -> None:
        self.connection: Final = connection
        self.failure: ssl.SSLError | None = None
        self.unmet: str | None = None
        self._incoming: Final = ssl.MemoryBIO()
        self._outgoing: Final = ssl.MemoryBIO()
        self._tls: Final = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._certificate: Final = certificate  # the server's, if that is us
        self._names: Final = names  # those that a client may ask for
        self._policy: Final = policy  # what the server has to meet
        # A client's certificate carries no name that we could check.
        self._verifies: Final = context.verify_mode is not ssl.CERT_NONE and (server_side or context.check_hostname)
        self._stage: _Stage = _Stage.NEW
        self._held: Final[list[bytes]] = []  # read before the first event was asked for
        self._opening: HelloReader | None = HelloReader() if server_side else None  # until the client has opened
        self._hello = ClientHello()
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
        return self.connection.reads_first and not (self._peer_done or self._eof)

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
            if self._open(data) and self._shake_hands() and self._stage is _Stage.OPEN:
                self._decrypt()
        else:
            self.connection.receive_data(data)

    def _open(self, data: bytes) -> bool:
        """Octets for the handshake; whether ssl may go on with it.

        Of a client it sees none before the hello is there, and nothing is against it.
        """
        opening = self._opening
        if opening is None:
            self._incoming.write(data)
            return True
        opening.receive_data(data)
        verdict = opening.verdict
        if isinstance(verdict, ClientHello):
            fault = verdict.fault(self._names)
            if fault is None:
                self._hello, self._opening = verdict, None
                self._incoming.write(opening.wire)
                return True
            verdict = fault
        if verdict is not None:
            self._outgoing.write(verdict.record)
            self._fail(HandshakeRefused(verdict.text, verdict))
        return False

    def _shake_hands(self) -> bool:
        """Goes on with the handshake; whether it has come to an end."""
        if self._opening is not None:
            return False
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            self._fail(error.with_traceback(None))
            return True
        self.unmet = self._policy_unmet()
        if self.unmet is not None and self._policy is not None and self._policy.enforced:
            with suppress(ssl.SSLError):  # as in _encrypt
                self._tls.unwrap()
            self._fail(HandshakeRefused(self.unmet))
        else:
            self._stage = _Stage.OPEN
            self.connection.tls_established(self._info())
        return True

    def _fail(self, error: ssl.SSLError) -> None:
        """The handshake has failed; an alert that waits still goes out."""
        self.failure = error
        self._stage = _Stage.OVER
        self.connection.tls_failed()

    def _policy_unmet(self) -> str | None:
        """What is wrong with the server, if anybody asks."""
        tls = self._tls
        if self._policy is None:
            return None
        certificate = tls.getpeercert(binary_form=True) or b""
        chain = verified_chain(tls) if self._verifies else ()
        return self._policy.unmet_by(Shown(tls.server_hostname or "", certificate, chain, verified=self._verifies))

    def _info(self) -> TlsInfo:
        tls = self._tls
        cipher = tls.cipher()
        certificate = tls.getpeercert(binary_form=True)
        return TlsInfo(
            version=tls.version() or "",
            cipher=cipher[0] if cipher else "",
            sni=self._hello.name if tls.server_side else sent_name(tls.server_hostname),
            alpn=tls.selected_alpn_protocol(),
            peer_certificate=certificate,
            verified=certificate is not None and self._verifies,
            bindings=self._bindings(certificate),
            identities=identities(tls) if tls.server_side and self._verifies else (),
            offered_alpn=self._hello.offered,
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
    names: Collection[str] | None = None,
    policy: TlsPolicy | None = None,
) -> SecureConnection[ServerEvent]: ...
@overload
def secure(
    connection: ClientConnection,
    context: ssl.SSLContext,
    *,
    server_hostname: str | None = None,
    server_side: bool | None = None,
    certificate: bytes | None = None,
    names: Collection[str] | None = None,
    policy: TlsPolicy | None = None,
) -> SecureConnection[ClientEvent]: ...
@overload
def secure(
    connection: TlsCapable[_Event_co],
    context: ssl.SSLContext,
    *,
    server_hostname: str | None = None,
    server_side: bool | None = None,
    certificate: bytes | None = None,
    names: Collection[str] | None = None,
    policy: TlsPolicy | None = None,
) -> SecureConnection[_Event_co]: ...
def secure(
    connection: TlsCapable[_Event_co],
    context: ssl.SSLContext,
    *,
    server_hostname: str | None = None,
    server_side: bool | None = None,
    certificate: bytes | None = None,
    names: Collection[str] | None = None,
    policy: TlsPolicy | None = None,
) -> SecureConnection[_Event_co]:
    """Wraps `connection` so that its TLS is taken care of: STARTTLS when it is agreed, or from the first octet when
    the connection was made with `implicit_tls`.

    `server_hostname` is a client's: the name to ask for and to check. `server_side` is found by the connection's class
    unless it is given. `certificate` is a server's, in DER: what its context shows to every client, which ssl does not
    tell; with it there is a channel binding, tls-server-end-point, under TLS 1.3 as well. Leave it out for a context
    that has several. `names` is a server's: with it a client has to ask for one of them (RFC 6066 section 3), where "*"
    for a first label is any; without, for any name or none. `policy` is a client's: what the server has to meet, or
    the handshake fails. Raises ValueError or ssl.SSLError when context, seat and name do not go together, among them a
    context that checks a name, or a policy, and no name.
    """
    if server_side is None:
        server_side = isinstance(connection, ServerConnection)
    # ssl refuses these two for sockets only; without one it would check the chain, and no name.
    if server_side and server_hostname is not None:
        raise ValueError("server_hostname is for the client's side")
    if not server_side and context.check_hostname and not server_hostname:
        raise ValueError("this context checks the server's name, so server_hostname is needed")
    if not server_side and policy is not None and not server_hostname:
        raise ValueError("a policy is of a server, so server_hostname is needed")
    if server_side and policy is not None:
        raise ValueError("policy is for the client's side")
    if not server_side and (certificate is not None or names is not None):
        raise ValueError("certificate and names are for the server's side")
    return SecureConnection(
        connection,
        context,
        server_side=server_side,
        server_hostname=server_hostname,
        certificate=certificate,
        names=names,
        policy=policy,
    )
