"""The conversation: where it stands, what is said in it, and how it ends. The server's seat listens and decides."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, final

from smtpstate._budget import Budgets
from smtpstate._closing import Closing
from smtpstate._commands import Mail, Verb
from smtpstate._config import TOO_MANY_ERRORS, ServerConfig, Transaction
from smtpstate._events import (
    CloseReason,
    CommandRefused,
    ConnectionClosed,
    Flow,
    Owed,
    ResetCause,
    ServerEvent,
    Timer,
    Trace,
    TraceLine,
    TransactionReset,
    Violation,
)
from smtpstate._lines import LineReader
from smtpstate._output import Output
from smtpstate._state import HELLOS, Outcome, Phase

if TYPE_CHECKING:
    from smtpstate._replies import Reply


@final
class Conversation:
    """One conversation of a server: every reply goes through here, and moves the session to where it leads.

    `owed` is what waits for a verdict; `partly_taken` says that a message was taken for a recipient, while others are
    still owed theirs (LMTP). `handshake` says that implicit TLS is due.
    """

    def __init__(self, config: ServerConfig, trace: Trace | None, *, handshake: bool) -> None:
        self.config: Final = config
        self.session: Final = config.session()
        self.lines: Final = LineReader()
        self.out: Final = Output()
        self.budgets: Final = Budgets(config.limits)
        self.closing: Final = Closing(config.limits, self.budgets)
        self.events: Final[deque[ServerEvent]] = deque()
        self.owed: Owed | None = None
        self.transaction: Transaction | None = None
        self.partly_taken: bool = False
        self.handshake: bool = handshake
        self._trace: Final = trace
        self._errors: int = 0
        self.budgets.expect(Timer.HANDSHAKE if handshake else Timer.COMMAND)

    @property
    def shakes_hands(self) -> bool:
        """Whether a TLS handshake is due or under way: nothing may be said or read in clear."""
        return self.handshake or self.session.phase is Phase.TLS

    @property
    def is_over(self) -> bool:
        """Whether the last reply was said, or none can be said any more."""
        return self.session.phase >= Phase.CLOSING

    @property
    def recipients_due(self) -> int:
        """How many verdicts the end of the message is owed: LMTP has one for each recipient (RFC 2033 section 4.2)."""
        return len(self.transaction.recipients) if self.config.lmtp and self.transaction is not None else 1

    # What is said.

    def heard(self, line: bytes) -> None:
        """For the trace: what the peer said, without what is secret."""
        if self._trace is not None:
            self._trace(TraceLine("C", line))

    def encode(self, verb: Verb, reply: Reply) -> bytes:
        """The octets that answer `verb`. Raises LocalProtocolError for a reply that cannot be sent."""
        return self.config.encode(verb, reply, secure=self.session.secure)

    def encode_here(self, reply: Reply) -> bytes:
        """The octets of a reply that comes of itself: the greeting and a hello have rules for theirs."""
        if self.session.phase is Phase.CONNECT:
            return self.encode(Verb.CONNECT, reply)
        return self.encode(Verb.NOOP if self.owed is None else self.owed.verb, reply)

    def put(self, octets: bytes) -> None:
        """Queues octets."""
        self.out.put(octets)
        if self._trace is not None:
            self._trace(TraceLine("S", octets))

    def say(self, reply: Reply) -> None:
        """Queues a reply that moves nothing; in clear, and so never where a handshake is due."""
        if not self.shakes_hands:
            self.put(self.encode_here(reply))

    def answer(self, verb: Verb, reply: Reply) -> None:
        """Queues the reply to `verb` and moves the session to where it leads."""
        self.put(self.encode(verb, reply))
        outcome = Outcome.of(reply.code)
        self.session.advance(verb, outcome, binary=isinstance(self.owed, Mail) and self.owed.binary)
        if verb in HELLOS and verb is not Verb.HELO and outcome is Outcome.OK:
            secure = self.session.secure
            self.session.announce(
                tls=self.config.offers_tls(secure=secure),
                auth=self.config.offers_auth(secure=secure),
                chunking="CHUNKING" in self.config.offers,
            )
        elif verb is Verb.RSET:
            self.drop_transaction(ResetCause.RSET)
        elif verb is Verb.RESPONSE and outcome is not Outcome.MORE:
            self.budgets.expect(Timer.COMMAND)
        elif verb is Verb.STARTTLS:
            self.budgets.expect(Timer.HANDSHAKE)
        if self.session.phase is Phase.CLOSING:
            self.wind_up(ConnectionClosed(CloseReason.QUIT if verb is Verb.QUIT else CloseReason.CLOSED))

    # What is missing.

    def need(self, flow: Flow) -> Flow | None:
        """`flow`, or the end of the session where the peer sends no more."""
        if not self.closing.eof:
            return flow
        self.wind_up(ConnectionClosed(CloseReason.EOF))
        return None

    # Trouble.

    def turn_down(self, refused: CommandRefused, *, error: bool = True) -> None:
        """Answers a line that breaks a rule; too many of them end the session."""
        self._errors += error
        if self._errors > self.config.limits.errors:
            self.violate(Violation.TOO_MANY_ERRORS, TOO_MANY_ERRORS)
            return
        self.say(refused.reply)
        self.events.append(refused)

    def violate(self, violation: Violation, reply: Reply) -> None:
        """Ends the session for cause."""
        self.say(reply)
        self.wind_up(ConnectionClosed(CloseReason.VIOLATION, violation))

    def drop_transaction(self, cause: ResetCause) -> None:
        """The open transaction, if there is one, is gone; with an event, unless a recipient has the message."""
        if self.transaction is not None:
            self.transaction = None
            if not self.partly_taken:
                self.events.append(TransactionReset(cause))

    # The end.

    def wind_up(self, ending: ConnectionClosed) -> None:
        """Nothing but closing is left."""
        self.handshake = False
        self.session.advance(Verb.CONNECT, Outcome.CLOSE)
        self._forget()
        self.closing.begin(ending)

    def end(self, closed: ConnectionClosed) -> None:
        """It is over: nothing more leaves."""
        self.out.clear()
        self.session.close()
        self._forget()
        self.closing.finish(closed)

    def _forget(self) -> None:
        self.owed = None
        self.lines.clear()
        self.drop_transaction(ResetCause.CLOSED)
