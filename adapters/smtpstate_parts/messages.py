"""What a server for those who only want the messages decides: what a message is, and what is said to it."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar, final

from smtpstate import (
    Body,
    ConnectionClosed,
    Ehlo,
    EndOfMessage,
    ForwardPath,
    Helo,
    Lhlo,
    LocalProtocolError,
    Mail,
    Peer,
    Rcpt,
    Refusal,
    Reply,
    ReversePath,
    SMTPStateError,
    TlsInfo,
    TransactionReset,
)
from smtpstate._syntax import LOCAL_ERROR
from smtpstate_parts.seat import logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from smtpstate import ServerEvent
    from smtpstate.extensions import XForward
    from smtpstate.policy import Deviation
    from smtpstate_parts.seat import Seat

_NOT_HERE: Final = Reply(550, "No mail is taken here for that address", enhanced="5.7.1")


@final
class IncompleteMessage(SMTPStateError):
    """The message ended before its end: the client went away, was too slow, or sent too much. Keep nothing of it."""


class Content:
    """How far the content of a message has come. An adapter's `MessageBody` adds how it is waited for."""

    def __init__(self) -> None:
        self.octets: int = 0
        self.complete: bool = False  # its lone dot was read
        self.broken: bool = False  # it will never be complete
        self._used_up: bool = False
        self._expired: bool = False

    def begin(self) -> None:
        """Somebody wants to iterate. Raises RuntimeError for the second time."""
        if self._used_up:
            raise RuntimeError("the body of a message can be read once")

    def check(self) -> None:
        """Somebody wants the next piece. Raises RuntimeError when there is no more message."""
        if self._expired:
            raise RuntimeError("the body of a message is gone when on_message has returned")

    @property
    def over(self) -> bool:
        """Whether all of it was read. Raises IncompleteMessage when that will never be."""
        if self.broken and not self.complete:
            raise IncompleteMessage("the message ended before its end")
        return self.complete

    def take(self, event: ServerEvent | None) -> bytes | None:
        """The piece of content that `event` is, None when it is another; no event at all is the end of the session."""
        match event:
            case Body(data):
                self.octets += len(data)
                return data
            case EndOfMessage():
                self.complete = True
            case TransactionReset() | ConnectionClosed() | None:
                self.broken = True
            case _:
                pass  # the next chunk, or what may stand between two: NOOP, or a command that was refused
        return None

    def use_up(self) -> None:
        """The iteration came to its end."""
        self._used_up = True

    def expire(self) -> None:
        """Nothing can be read any more."""
        self._expired = True


_Content_co = TypeVar("_Content_co", bound=Content, covariant=True)


@dataclass(frozen=True, slots=True)
class Incoming(Generic[_Content_co]):
    """A message on its way in: an adapter's `Message` says what its body is."""

    id: str
    mail: Mail
    rcpts: tuple[Rcpt, ...]
    body: _Content_co
    peer: Peer | None
    tls: TlsInfo | None
    hello: Ehlo | Helo | Lhlo | None
    identity: str | None = None
    forwarded: XForward | None = None
    refusals: dict[int, Reply] = field(default_factory=dict[int, Reply])

    @property
    def sender(self) -> ReversePath:
        """Where reports go."""
        return self.mail.reverse_path

    @property
    def recipients(self) -> tuple[ForwardPath, ...]:
        """Whom it is for, as often as they were named."""
        return tuple(rcpt.recipient for rcpt in self.rcpts)

    @property
    def size(self) -> int | None:
        """The octets that the client announced, if it did."""
        return self.mail.size

    @property
    def smtputf8(self) -> bool:
        """Addresses and headers may hold UTF-8: it can go only to where SMTPUTF8 is offered (RFC 6531)."""
        return self.mail.smtputf8

    @property
    def deviations(self) -> frozenset[Deviation]:
        """What the policy flagged of its hello, of its MAIL and of its recipients' RCPTs."""
        said = self.mail.deviations.union(*(rcpt.deviations for rcpt in self.rcpts))
        return said if self.hello is None else said | self.hello.deviations

    @property
    def received_with(self) -> str:
        """The WITH of a Received line. RFC 3848 section 2, RFC 6531 section 4.3."""
        if not isinstance(self.hello, Ehlo | Lhlo):
            return "SMTP"
        if isinstance(self.hello, Lhlo):
            name = "UTF8LMTP" if self.smtputf8 else "LMTP"
        else:
            name = "UTF8SMTP" if self.smtputf8 else "ESMTP"
        return name + ("" if self.tls is None else "S") + ("" if self.identity is None else "A")

    def refuse(self, index: int, refusal: Refusal) -> None:
        """Answers the recipient at `index` with `refusal`, whatever the others get. RFC 2033 section 4.2.

        Raises LocalProtocolError outside LMTP, where one reply is for all, and for an index that no recipient has.
        """
        if not isinstance(self.hello, Lhlo) or not 0 <= index < len(self.rcpts):
            raise LocalProtocolError("only LMTP answers each recipient, and only those that were accepted")
        self.refusals[index] = refusal.reply.relayed()


def takes(seat: Seat, recipient: ForwardPath, domains: Iterable[str], *, accept_any: bool) -> bool:
    """Answers RCPT: yes for what is within `domains`, and for all with `accept_any`, unless the listener says other."""
    asked = seat.listener.asked.accept_any
    if (accept_any if asked is None else asked) or any(recipient.within(domain) for domain in domains):
        return seat.accept()
    return seat.reply(_NOT_HERE)


def message_id() -> str:
    """A new one: the microseconds since 1970, and what makes it unique."""
    return f"{time.time_ns() // 1000:x}{secrets.token_hex(4)}"


def verdict(message: Incoming[Content], failure: Exception | None) -> Reply:
    """What is said to a message when on_message returned, or raised `failure`; what nobody expected is in the log."""
    if failure is None:
        return Reply(250, f"Message accepted as {message.id}", enhanced="2.0.0")
    failure = _unwrap(failure)
    if isinstance(failure, Refusal):
        return failure.reply.relayed()
    if not (message.body.broken and isinstance(failure, IncompleteMessage)):
        logger.error("message %s: on_message failed", message.id, exc_info=failure)
    return LOCAL_ERROR


def overdue(seat: Seat, message: Incoming[Content]) -> Reply | None:
    """on_message took too long, and the core has said so: what it said, None when there was nothing to answer."""
    if not seat.killed:
        logger.error("message %s: on_message took too long and was cancelled", message.id)
    return LOCAL_ERROR if message.body.complete else None


def say(seat: Seat, message: Incoming[Content], reply: Reply) -> bool:
    """Gives the verdict; in LMTP one for each recipient, in order."""
    if not isinstance(message.hello, Lhlo):
        return seat.reply(reply)
    said = True
    for index in range(len(message.rcpts)):
        said = said and seat.reply(message.refusals.get(index, reply))
    return said


def _unwrap(error: Exception) -> Exception:
    """What a task group has wrapped, if that is one exception."""
    wrapped: tuple[Exception, ...] = getattr(error, "exceptions", ())  # of an ExceptionGroup
    return _unwrap(wrapped[0]) if len(wrapped) == 1 else error
