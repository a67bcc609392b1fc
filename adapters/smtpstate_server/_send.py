"""`smtpstate send`: one message, and what became of it for each recipient."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from ssl import SSLError
from typing import TYPE_CHECKING, BinaryIO, Final, final

import anyio
import click

from smtpstate import (
    CloseReason,
    ConnectionBroken,
    Delivery,
    DeliveryError,
    LocalProtocolError,
    Mail,
    Rcpt,
    Reply,
    Result,
    SessionRefused,
    TlsMode,
    TlsUnavailable,
    tls,
)
from smtpstate.delivery import AuthenticationFailed
from smtpstate.sasl import Credentials
from smtpstate_anyio import AuthUnavailable, connect
from smtpstate_server._exits import Exit, Failure
from smtpstate_server._log import printable, tell
from smtpstate_server._message_file import message_file

if TYPE_CHECKING:
    from pathlib import Path
    from ssl import SSLContext

    from smtpstate import ConnectionClosed
    from smtpstate.extensions import Envid, Notify, Ret
    from smtpstate_server._endpoint import Endpoint

_LARGE: Final = 1024 * 1024  # octets from which a progress bar is worth its line


@final
@dataclass(frozen=True, slots=True)
class Login:
    """Who to be, and where the password is; `mechanism` None is the best that there is; with `binds`, -PLUS."""

    name: str
    password_file: Path
    mechanism: str | None
    binds: bool

    @property
    def credentials(self) -> Credentials:
        """Raises Failure."""
        try:
            with self.password_file.open("rb") as file:
                password = file.readline().removesuffix(b"\n").removesuffix(b"\r").decode()
            return Credentials(self.name, password)
        except UnicodeDecodeError:
            raise Failure(f"the password in {self.password_file} is not UTF-8", Exit.CONFIG) from None
        except OSError as error:
            why = error.strerror or error
            raise Failure(f"cannot read the password {self.password_file}: {why}", Exit.NOINPUT) from None
        except LocalProtocolError as error:
            raise Failure(f"cannot log in with {self.password_file}: {error}", Exit.USAGE) from None


@final
@dataclass(frozen=True, slots=True)
class Dsn:
    """Which reports to ask for (RFC 3461); None says nothing of it."""

    notify: Notify | None = None
    ret: Ret | None = None
    envid: Envid | None = None


_NO_DSN: Final = "the server does not offer DSN: no reports were asked for"


@final
@dataclass(frozen=True, slots=True)
class SendOptions:
    """What the command line says. `file` None is standard input."""

    server: Endpoint
    sender: str
    recipients: tuple[str, ...]
    tls: TlsMode
    ca: Path | None
    timeout: float | None
    hostname: str | None  # None leaves it to `connect`
    file: Path | None
    login: Login | None
    lmtp: bool
    chunked: bool
    binary: bool
    dsn: Dsn


def send(options: SendOptions) -> Exit:
    """Sends the message and prints a line for each recipient; returns the exit code.

    Raises Failure when nothing was tried: an address that cannot be one, a file that cannot be read.
    """
    sender, recipients = _addresses(options)
    credentials = None if options.login is None else options.login.credentials
    context = _context(options)
    with message_file(options.file) as (file, size):
        bar = _Bar(size) if size > _LARGE and sys.stderr.isatty() else None
        try:
            return anyio.run(_send, options, sender, recipients, context, credentials, _Metered(file, bar))
        finally:
            if bar is not None:
                bar.close()


def _addresses(options: SendOptions) -> tuple[str, tuple[str, ...]]:
    sender = _bare(options.sender)
    recipients = tuple(map(_bare, options.recipients))
    try:
        Mail.of(sender)
        for recipient in recipients:
            Rcpt.of(recipient)
    except LocalProtocolError as error:
        raise Failure(str(error), Exit.USAGE) from None
    return sender, recipients


def _bare(address: str) -> str:
    return address[1:-1] if address.startswith("<") and address.endswith(">") else address


def _context(options: SendOptions) -> SSLContext | None:
    if options.tls is TlsMode.OFF:
        return None
    verify = options.tls is not TlsMode.OPPORTUNISTIC  # RFC 7435: where clear text would do, any TLS is better
    try:
        return tls.client_context(cafile=options.ca, verify=verify)
    except OSError as error:
        unreadable = not isinstance(error, SSLError)
        text = f"cannot use {options.ca} as a certificate to trust: "
        text += error.strerror or str(error) if unreadable else "there is none in it"
        raise Failure(text, Exit.NOINPUT if unreadable else Exit.CONFIG) from None


async def _send(
    options: SendOptions,
    sender: str,
    recipients: tuple[str, ...],
    context: SSLContext | None,
    credentials: Credentials | None,
    file: _Metered,
) -> Exit:
    try:
        async with connect(
            str(options.server),
            tls=options.tls,
            ssl_context=context,
            hostname=options.hostname,
            timeout=options.timeout,
            lmtp=options.lmtp,
        ) as client:
            if credentials is not None and options.login is not None:
                mechanism, binds = options.login.mechanism, options.login.binds
                among = None if mechanism is None else (mechanism,)
                await client.authenticate(credentials, among=among, channel_binding=binds)
            dsn = options.dsn
            if dsn != Dsn() and "DSN" not in client.capabilities:
                sys.stderr.write(f"smtpstate: {_NO_DSN}\n")
            delivery = await client.send(
                file,
                sender=sender,
                recipients=recipients,
                chunked=options.chunked,
                binary=options.binary,
                notify=dsn.notify,
                ret=dsn.ret,
                envid=dsn.envid,
            )
    except LocalProtocolError as error:
        raise Failure(str(error), Exit.USAGE) from None
    except DeliveryError as error:
        return _undelivered(recipients, error)
    except OSError as error:  # what the network does is a DeliveryError or in the delivery
        raise Failure(f"cannot read the message: {error.strerror or error}", Exit.NOINPUT) from None
    return _delivered(delivery)


def _delivered(delivery: Delivery) -> Exit:
    for result in delivery:
        reason = "no reply" if delivery.closed is None else _reason(delivery.closed)
        _report(result.address, result.outcome, result.reply, reason)
    outcomes = {result.outcome for result in delivery}
    if outcomes == {Result.ACCEPTED}:
        return Exit.OK
    if delivery.closed is not None and delivery.closed.reason is CloseReason.VIOLATION:
        return Exit.PROTOCOL
    return Exit.TEMPFAIL if outcomes & {Result.RETRY, Result.UNKNOWN} else Exit.UNAVAILABLE


def _undelivered(recipients: tuple[str, ...], error: DeliveryError) -> Exit:
    """No session, so nothing was sent for anybody; try again later, unless the server said that it is no use."""
    outcome, reply, exit_code = Result.RETRY, None, Exit.TEMPFAIL
    text, hint = str(error), ""
    match error:
        case SessionRefused():
            reply = error.reply
            if reply.code // 100 == 5:
                outcome, exit_code = Result.REFUSED, Exit.UNAVAILABLE
        case TlsUnavailable():
            exit_code = Exit.NOPERM
            if "self-signed" in text:
                hint = " (--ca FILE trusts it)"
        case AuthenticationFailed():
            reply, exit_code = error.reply, Exit.NOPERM
            if reply is not None and reply.code // 100 == 5:
                outcome = Result.REFUSED
            elif error.why is None:
                exit_code = Exit.TEMPFAIL  # 4yz: its password server is away, for instance
        case AuthUnavailable():
            exit_code = Exit.NOPERM
        case ConnectionBroken():
            reply, text = error.closed.reply, _reason(error.closed)
            if error.closed.reason is CloseReason.VIOLATION:
                exit_code = Exit.PROTOCOL
            elif error.closed.reason is CloseReason.TLS_FAILED:
                exit_code = Exit.NOPERM
        case _:
            pass
    for recipient in recipients:
        _report(recipient, outcome, reply, text)
    sys.stderr.write(f"smtpstate: {printable(text)}{hint}\n")
    return exit_code


def _reason(closed: ConnectionClosed) -> str:
    text = closed.reason.value
    if closed.violation is not None:
        text += f" ({closed.violation.name})"
    if closed.timer is not None:
        text += f" ({closed.timer.name})"
    return text


def _report(address: str, outcome: Result, reply: Reply | None, reason: str) -> None:
    """ADDRESS OUTCOME CODE TEXT; "-" stands for a code that never came."""
    said = f"- {reason}" if reply is None else str(reply)
    tell(f"{printable(address)} {outcome.value} {printable(said)}")


@final
class _Bar:
    """A progress bar on stderr."""

    def __init__(self, size: int) -> None:
        self._bar: Final = click.progressbar(length=size, label="sending", file=sys.stderr)

    def advance(self, octets: int) -> None:
        self._bar.update(octets)

    def close(self) -> None:
        self._bar.render_finish()


@final
class _Metered:
    """A file that tells a progress bar how much of it was read; the reading before the first `seek` is only a look."""

    def __init__(self, file: BinaryIO, bar: _Bar | None) -> None:
        self._file: Final = file
        self._bar: Final = bar
        self._looked = False

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        if self._bar is not None and self._looked:
            self._bar.advance(len(data))
        return data

    def seekable(self) -> bool:
        return self._file.seekable()

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, /) -> int:
        self._looked = True
        return self._file.seek(offset)
