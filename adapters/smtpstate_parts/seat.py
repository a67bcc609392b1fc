"""Seat: a server's side of one connection: what it knows of it, and what it can say."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Final

from smtpstate import Bdat, Connected, ConnectionClosed, Data, Phase
from smtpstate._config import HANDLER_TIMED_OUT, SHUTTING_DOWN
from smtpstate._syntax import LOCAL_ERROR

if TYPE_CHECKING:
    from smtpstate import Ehlo, Flow, Helo, Lhlo, Peer, Reply, ServerConnection, ServerEvent, TlsInfo, Transaction
    from smtpstate._events import Owed
    from smtpstate.extensions import XClient, XForward
    from smtpstate_parts.gate import Ticket
    from smtpstate_parts.listen import BoundListener

logger: Final = logging.getLogger("smtpstate")

# While one of these lasts a message is under way.
_UNDER_WAY: Final = frozenset({Phase.BODY, Phase.CHUNK, Phase.CHUNKED})


class Seat:
    """One connection, however its octets move: an adapter's `Session` adds how its events are waited for."""

    def __init__(self, connection: ServerConnection, listener: BoundListener, ticket: Ticket | None = None) -> None:
        self.id: Final = secrets.token_hex(4)
        self.connection: Final = connection
        self.listener: Final = listener
        self.via: Final = connection.peer  # who connected, whoever XCLIENT says that it speaks for
        self.killed: bool = False  # by a drain whose grace is over
        self._ticket: Final = ticket  # what the server lets it have of what all sessions share

    @property
    def peer(self) -> Peer | None:
        """Who is at the other end, or whom it speaks for; None when it went before anybody could look."""
        return self.connection.peer

    @property
    def tls(self) -> TlsInfo | None:
        """What was agreed on; None in clear text."""
        return self.connection.tls

    @property
    def hello(self) -> Ehlo | Helo | Lhlo | None:
        """What the client said in its hello; None before, and again after STARTTLS."""
        return self.connection.hello

    @property
    def identity(self) -> str | None:
        """Who AUTH, or XCLIENT, said it is; None before."""
        return self.connection.identity

    @property
    def xclient(self) -> XClient | None:
        """All that XCLIENT has said so far; None without any."""
        return self.connection.xclient

    @property
    def forwarded(self) -> XForward | None:
        """What XFORWARD said of the message that is next or under way. For the log: it decides nothing."""
        return self.connection.forwarded

    @property
    def phase(self) -> Phase:
        """Where in the table the session is."""
        return self.connection.phase

    @property
    def transaction(self) -> Transaction | None:
        """MAIL and the accepted recipients so far; None outside of a transaction."""
        return self.connection.transaction

    @property
    def owed(self) -> Owed | None:
        """The event that waits for a verdict."""
        return self.connection.owed

    @property
    def closed(self) -> ConnectionClosed | None:
        """How it ended, once it has."""
        return self.connection.closed

    # Verdicts: see ServerConnection.

    def accept(self, text: str = "") -> bool:
        """Says yes to what is owed. False when the session ended meanwhile. Raises LocalProtocolError."""
        return self.connection.accept(text)

    def reply(self, reply: Reply) -> bool:
        """Answers what is owed with `reply`. False when the session ended meanwhile. Raises LocalProtocolError."""
        return self.connection.reply(reply)

    def challenge(self, data: bytes) -> bool:
        """Goes on with an AUTH exchange. False when the session ended meanwhile. Raises LocalProtocolError."""
        return self.connection.challenge(data)

    def authenticated(self, identity: str) -> bool:
        """Ends an AUTH exchange well. False when the session ended meanwhile. Raises LocalProtocolError."""
        return self.connection.authenticated(identity)

    def refuse(self, reply: Reply) -> bool:
        """Refuses the message, from its DATA to its end. Raises LocalProtocolError."""
        return self.connection.refuse(reply)

    def close(self, reply: Reply = SHUTTING_DOWN) -> None:
        """Says `reply`, a 421 or 521, and ends the session. Raises LocalProtocolError."""
        self.connection.close(reply)

    # For the adapter.

    def admitted(self, event: ServerEvent | Flow) -> bool:
        """Whether the server has room for what comes next; else it has said 421, and that comes first."""
        ticket = self._ticket
        if ticket is None:
            return True
        full = None
        match event:
            case Connected(peer) if peer != self.via:  # XCLIENT has said who it is
                full = ticket.claim(None if peer is None else peer.address)
            case Data() | Bdat():
                full = ticket.begin_body()
            case _ if self.phase not in _UNDER_WAY:
                ticket.end_body()
            case _:
                pass
        if full is None:
            return True
        self.connection.close(full.value)
        return False

    @property
    def idle(self) -> bool:
        """Whether nobody loses anything by 421."""
        connection = self.connection
        return connection.transaction is None and connection.phase < Phase.CLOSING and connection.phase != Phase.BODY

    def conclude(self, failure: Exception | None, *, overdue: bool = False) -> None:
        """The handler is done, or failed, or was `overdue`: says what is still to be said, and to the log."""
        if failure is not None:
            logger.error("session %s: the handler failed", self.id, exc_info=failure)
            if self.owed is not None and not isinstance(self.owed, Connected):
                self.connection.reply(LOCAL_ERROR)
            self.connection.close(HANDLER_TIMED_OUT)
        elif overdue and not self.killed:
            logger.error("session %s: the handler took too long and was cancelled", self.id)
            self.connection.close(HANDLER_TIMED_OUT)
        else:
            self.connection.close()
