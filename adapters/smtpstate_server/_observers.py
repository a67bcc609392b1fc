"""What the server says while it runs: a log line for each message and each session, and perhaps the conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TextIO, final
from weakref import WeakKeyDictionary

from smtpstate import CloseReason, TraceLine
from smtpstate.extensions import XForwardSource
from smtpstate.tls import HandshakeRefused
from smtpstate_anyio import Observer
from smtpstate_server._console import Conversation
from smtpstate_server._log import logger, printable

if TYPE_CHECKING:
    from collections.abc import Collection
    from enum import Enum
    from ssl import SSLError

    from smtpstate import ConnectionClosed, Reply, TlsInfo
    from smtpstate.extensions import XForward
    from smtpstate.trace import TraceRecord
    from smtpstate_anyio import Message, Session


class Loggers(Observer):
    """Logs one line for each message and one for each session's end."""

    def __init__(self) -> None:
        self._messages: Final[WeakKeyDictionary[Session, int]] = WeakKeyDictionary()

    def message_done(self, session: Session, message: Message, reply: Reply | None, octets: int) -> None:
        if reply is not None and reply.code // 100 == 2:
            self._messages[session] = self._messages.get(session, 0) + 1
        logger.info(
            "message id=%s session=%s%s%s from=<%s> to=%s size=%d%s%s tls=%s result=%s",
            message.id,
            session.id,
            "" if message.identity is None else f" user={printable(message.identity)}",
            _origin(message.forwarded),
            printable(message.sender.address),
            ",".join(f"<{printable(recipient.address)}>" for recipient in message.recipients),
            octets,
            _named("deviations", message.deviations),
            _named("anomalies", message.body.anomalies),
            _tls(message.tls),
            "incomplete" if reply is None else f'"{printable(str(reply))}"',
        )

    def session_closed(self, session: Session, closed: ConnectionClosed) -> None:
        result = [closed.reason.name]
        if closed.violation is not None:
            result.append(closed.violation.name)
        if closed.timer is not None:
            result.append(closed.timer.name)
        if closed.reason is CloseReason.TLS_FAILED:
            result.append(_why(session.tls_failure))
        noted = sorted(one.name for one in session.connection.noted)
        logger.info(
            "session id=%s peer=%s%s listener=%s messages=%d tls=%s%s result=%s",
            session.id,
            session.peer,
            "" if session.xclient is None else f" via={session.via}",
            session.listener.address,
            self._messages.get(session, 0),
            _tls(session.tls),
            f" noted={','.join(noted)}" if noted else "",
            "/".join(result),
        )


@final
class Showing(Loggers):
    """Shows the conversation as well."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream: Final = stream
        self._conversations: Final[WeakKeyDictionary[Session, Conversation]] = WeakKeyDictionary()

    def session_opened(self, session: Session) -> None:
        self._conversations[session] = Conversation(self._stream, session.id)

    def trace(self, session: Session, record: TraceRecord) -> None:
        conversation = self._conversations.get(session)
        if conversation is not None and isinstance(record, TraceLine):
            conversation.show(record, session.phase, session.tls)


def _named(what: str, found: Collection[Enum]) -> str:
    return f" {what}={','.join(sorted(one.name for one in found))}" if found else ""


def _origin(forwarded: XForward | None) -> str:
    """Where a relay has a message from, if it said so: a name, an address, or both; LOCAL is its own host."""
    if forwarded is None:
        return ""
    known = "/".join(one for one in (forwarded.name, forwarded.address) if isinstance(one, str))
    if not known and forwarded.source is XForwardSource.LOCAL:
        known = "LOCAL"
    return f" origin={(known or '?')!a}"  # a name may hold anything, " result=" as well


def _why(failure: SSLError | None) -> str:
    """Ours by its name, OpenSSL's by its own."""
    if isinstance(failure, HandshakeRefused) and failure.fault is not None:
        return failure.fault.name
    return "UNKNOWN" if failure is None else printable(failure.reason or "UNKNOWN")


def _tls(tls: TlsInfo | None) -> str:
    return "no" if tls is None else f"{printable(tls.version)}/{printable(tls.cipher)}"
