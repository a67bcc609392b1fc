"""Draft: a message that is about to be sent, and what must be known of it before MAIL."""

from __future__ import annotations

import secrets
from email.message import Message
from typing import TYPE_CHECKING, Final, Generic, TypeGuard, TypeVar, final

from smtpstate import ConnectionBroken, DeliveryError, LocalProtocolError
from smtpstate.delivery import Batches, Envelope, recipients_of
from smtpstate.extensions import parameters as as_parameters
from smtpstate.sasl import choose
from smtpstate_parts.source import BinaryFile, Pieces, Scan, flatten, scan_file

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from smtpstate import ClientConnection
    from smtpstate.delivery import Recipient
    from smtpstate.extensions import Envid, Notify, Parameters, Ret
    from smtpstate.sasl import ClientMechanism, Credentials

_Stream = TypeVar("_Stream")


@final
class AuthUnavailable(DeliveryError):
    """The server offers no mechanism that these credentials may be shown by; none of them left."""


@final
class Draft(Generic[_Stream]):
    """One message for one session. `_Stream` is what an adapter takes beside bytes, files and messages.

    First `read()`, then `batches()`; for each of them `rewind()`, and the `octets` from there to their end, by way of
    `pieces()`. `read` and `rewind` take their time where `is_slow` says so. Raises ConnectionBroken.
    """

    def __init__(
        self,
        connection: ClientConnection,
        message: bytes | BinaryFile | Message | _Stream,
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
    ) -> None:
        _check_open(connection)
        self._connection: Final = connection
        self._message: Final = message
        self._sender: Final = sender
        self._recipients: Final = recipients
        self._eight_bit: bool = connection.capabilities.eight_bit_mime if eight_bit is None else eight_bit
        self._asked_eight_bit: Final = eight_bit
        self._chunked: Final = chunked
        self._utf8: bool | None = utf8
        self._notify: Final = notify
        self._parameters: Final = (*as_parameters(ret, envid), *parameters)
        self._binary: Final = binary
        self._size: int | None = None
        self._start: int | None = None
        self.octets: bytes | BinaryFile | _Stream = b"" if isinstance(message, Message) else message
        self.once: bool = True  # it cannot be read twice

    @property
    def is_slow(self) -> bool:
        """Whether something is flattened, or a file read."""
        return isinstance(self._message, Message | BinaryFile)

    def read(self) -> None:
        """Finds out what there is to find out. Raises OSError, TypeError and what a message of the email package does.

        Raises LocalProtocolError when there is no recipient.
        """
        message, binary = self._message, self._binary
        scan = None
        if _is_email(message):
            allowed = self._connection.capabilities.eight_bit_mime
            self.octets = octets = flatten(message, eight_bit=allowed, utf8=self._utf8)
            scan = Scan((octets,), binary=binary)
        elif isinstance(message, bytes):
            scan = Scan((message,), binary=binary)
        elif isinstance(message, BinaryFile) and message.seekable():
            self._start = message.tell()
            scan = scan_file(message, binary=binary)
        if scan is not None:
            self.once = False
            self._size = scan.size
            self._eight_bit = scan.eight_bit if self._asked_eight_bit is None else self._asked_eight_bit
            self._utf8 = scan.utf8 if self._utf8 is None else self._utf8
        if not recipients_of(self._recipients, self._notify):
            raise LocalProtocolError("a message needs a recipient")

    @property
    def needs_headers(self) -> bool:
        """Whether to read on to the end of the header section, for `batches`: see `Pieces.scan`."""
        return self._utf8 is None

    def pieces(self) -> Pieces:
        """What cuts the message."""
        return Pieces(eight_bit=self._eight_bit or self._binary)

    def batches(self, *, utf8: bool) -> Batches:
        """The transactions; `utf8` is what the headers have been found to be. Raises LocalProtocolError."""
        envelope = Envelope(
            self._sender,
            tuple(recipients_of(self._recipients, self._notify)),
            self._size,
            self._eight_bit,
            self._chunked,
            self._parameters,
            utf8 if self._utf8 is None else self._utf8,
            self._binary,
        )
        return Batches(self._connection, envelope, once=self.once)

    def rewind(self) -> None:
        """Back to where the message begins. Raises OSError."""
        if isinstance(self.octets, BinaryFile) and self._start is not None:
            self.octets.seek(self._start)


def mechanism_for(
    connection: ClientConnection,
    credentials: Credentials,
    *,
    among: Collection[str] | None,
    channel_binding: bool,
    in_clear: bool,
    host: str,
    port: int,
) -> ClientMechanism:
    """The strongest mechanism that fits. Raises ConnectionBroken, AuthUnavailable and LocalProtocolError."""
    _check_open(connection)
    offered = connection.capabilities.keywords.get("AUTH", ())
    tls = connection.tls
    mechanism = choose(
        offered,
        credentials,
        nonce=secrets.token_urlsafe(18),
        secure=tls is not None,
        bindings=tls.bindings if channel_binding and tls is not None else (),
        in_clear=in_clear,
        among=among,
        host=host,
        port=port,
    )
    if mechanism is None:
        what = f"it offers {', '.join(offered)}" if offered else "it offers none"
        raise AuthUnavailable(f"no way to authenticate that fits: {what}")
    return mechanism


def _is_email(message: object) -> TypeGuard[Message]:
    return isinstance(message, Message)


def _check_open(connection: ClientConnection) -> None:
    if connection.closed is not None:
        raise ConnectionBroken(connection.closed)
