"""The conversation: where it stands, what is said in it, and how it ends. The server's seat listens and decides."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, final

from smtpstate._budget import Budgets
from smtpstate._choice import announced
from smtpstate._closing import Closing
from smtpstate._commands import Expn, Mail, Vrfy
from smtpstate._conduct import Conduct
from smtpstate._config import EARLY_INPUT, ENDINGS, ServerConfig, Transaction
from smtpstate._early import SyncPoint
from smtpstate._events import (
    CloseReason,
    CommandRefused,
    ConnectionClosed,
    Flow,
    Owed,
    Peer,
    ResetCause,
    ServerEvent,
    Timer,
    TransactionReset,
    Violation,
)
from smtpstate._evidence import HIDDEN, PEEK, evidence
from smtpstate._lines import LineReader
from smtpstate._output import Output
from smtpstate._policy import EarlyInput
from smtpstate._replies import Reply
from smtpstate._state import HELLOS, Outcome, Phase
from smtpstate._trace import Teller
from smtpstate._verbs import Verb
from smtpstate._xclient import XClient

if TYPE_CHECKING:
    from smtpstate._budget import Limits
    from smtpstate._events import TlsInfo
    from smtpstate._newlines import BareNewline
    from smtpstate._trace import Trace
    from smtpstate._xclient import XForward


def _as_an_end(reply: Reply) -> Reply:
    """`reply`, a 4yz or 5yz, as the 421 or 521 that ends the session.

    It refuses whom an XCLIENT has named, where any other code would read as a refusal of the command, after which all
    is as before: only these two tell the other side that nothing is.
    """
    return Reply(421 if reply.code // 100 == 4 else 521, *reply.lines, enhanced=reply.enhanced)


@final
class Conversation:
    """One conversation of a server: every reply goes through here, and moves the session to where it leads.

    `owed` is what waits for a verdict; `partly_taken` says that a message was taken for a recipient, while others are
    still owed theirs (LMTP). `utf8` says that the last transaction asked for SMTPUTF8. `handshake` says that implicit
    TLS is due, `tls_available` that STARTTLS is not turned away. `mechanisms` are those that AUTH offers now. `trusted`
    says that the peer may speak for others; `xclient` is for whom it does, and `forwarded` what it said of the next
    message, or of the one under way. `sync` is where the peer has to wait, and `noted` how it did not, where that ends
    nothing.
    """

    def __init__(
        self,
        config: ServerConfig,
        trace: Trace | None,
        *,
        handshake: bool,
        peer: Peer | None = None,
        trusted: bool = False,
    ) -> None:
        self.config: Final = config
        self.session: Final = config.session()
        self.lines: Final = LineReader()
        self.out: Final = Output()
        self.budgets: Final = Budgets(config.limits)
        self.conduct: Final = Conduct(config.limits)
        self.closing: Final = Closing(self.budgets)
        self.sync: Final = SyncPoint()
        self.noted: frozenset[Violation] = frozenset()
        self.events: Final[deque[ServerEvent]] = deque()
        self.owed: Owed | None = None
        self.transaction: Transaction | None = None
        self.partly_taken: bool = False
        self.utf8: bool = False
        self.handshake: bool = handshake
        self.tls_available: bool = True
        self.trusted: bool = trusted
        self.xclient: XClient | None = None
        self.forwarded: XForward | None = None
        self._connected: Final = peer
        self.mechanisms: tuple[str, ...] = config.mechanisms_in(None)
        self._tls: TlsInfo | None = None
        self.teller: Final = Teller(self.session, trace)
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

    @property
    def _takes_utf8(self) -> bool:
        """Whether the peer said that it understands UTF-8 in a reply: RFC 6531 section 3.7.4.2."""
        match self.owed:
            case Vrfy() | Expn() | Mail() as owed:
                return owed.smtputf8
            case _:
                return self.utf8 and Phase.MAIL <= self.session.phase < Phase.CLOSING

    @property
    def peer(self) -> Peer | None:
        """Who is there: whom XCLIENT has named, or else who connected."""
        named, connected = self.xclient, self._connected
        if named is None:
            return connected
        port = named.port if isinstance(named.port, int) else 0
        if isinstance(named.address, str):
            return Peer(named.address, port)
        if named.address is not None or connected is None:
            return None
        return connected if named.port is None else Peer(connected.address, port)

    @property
    def bare_newline(self) -> BareNewline:
        """What is done about bare newlines of who is there now."""
        return self.config.wire.newlines_of(self.peer, users_only=self.config.requires_auth)

    def speak_for(self, client: XClient) -> None:
        """The peer speaks for `client`, who is greeted next. Its address takes the trust away: what follows is theirs.

        A front end may hand on what its own client sends from here on, so nothing that this may be, STARTTLS neither,
        brings the trust or the old address back.
        """
        self.xclient = client.over(self.xclient)
        self.trusted = self.trusted and client.address is None
        self.forwarded = None
        self.mechanisms = self._mechanisms_in(self._tls)
        self.session.advance(Verb.XCLIENT, Outcome.OK)
        self.session.authenticated = isinstance(client.login, str)
        self.events.append(client)

    # What is said.

    def heard(self, line: bytes) -> None:
        """For the trace: what the peer said, without what is secret."""
        self.teller.line("C", line)

    def encode(self, verb: Verb, reply: Reply) -> bytes:
        """The octets that answer `verb`. Raises LocalProtocolError for a reply that cannot be sent."""
        return self.config.encode(
            verb,
            reply,
            secure=self.session.secure,
            mechanisms=self.mechanisms,
            trusted=self.trusted,
            utf8=self._takes_utf8,
        )

    def encode_here(self, reply: Reply) -> bytes:
        """The octets of a reply that comes of itself: the greeting and a hello have rules for theirs."""
        if self.session.phase is Phase.CONNECT:
            return self.encode(Verb.CONNECT, reply)
        return self.encode(Verb.NOOP if self.owed is None else self.owed.verb, reply)

    def put(self, octets: bytes, *, late: bool | None = None) -> None:
        """Queues the octets of a reply; they are late after too many errors, if anything follows them."""
        if (self.conduct.makes_late if late is None else late) and not self.is_over:
            self.out.hold()
        self.out.put(octets)
        self.sync.answered()
        self.teller.line("S", octets)

    def say(self, reply: Reply, *, late: bool | None = None) -> None:
        """Queues a reply that moves nothing; in clear, and so never where a handshake is due."""
        if not self.shakes_hands:
            self.put(self.encode_here(reply), late=late)

    def answer(self, verb: Verb, reply: Reply) -> None:
        """Queues the reply to `verb` and moves the session to where it leads."""
        if verb is Verb.CONNECT and self.xclient is not None and Outcome.of(reply.code) is Outcome.FAIL:
            reply = _as_an_end(reply)
        outcome = Outcome.of(reply.code)
        # Behind a 220 that is late the handshake of a peer that does not wait would overtake it.
        begins_tls = verb is Verb.STARTTLS and outcome is Outcome.OK
        self.put(self.encode(verb, reply), late=False if begins_tls else None)
        self.session.advance(verb, outcome, binary=isinstance(self.owed, Mail) and self.owed.binary)
        if verb is Verb.CONNECT and outcome is Outcome.OK:
            self.session.announce(xclient=self._offers("XCLIENT"))
        elif verb in HELLOS and verb is not Verb.HELO and outcome is Outcome.OK:
            secure = self.session.secure
            self.session.announce(
                tls=self.config.offers_tls(secure=secure),
                auth=bool(self.mechanisms),
                chunking="CHUNKING" in self.config.offers,
                xclient=self._offers("XCLIENT"),
                xforward=self._offers("XFORWARD"),
                own=self.config.own_verbs(secure=secure),
            )
        elif verb is Verb.RSET:
            self.drop_transaction(ResetCause.RSET)
        elif verb is Verb.RESPONSE and outcome is not Outcome.MORE:
            self.budgets.expect(Timer.COMMAND)
        elif self.session.phase is Phase.TLS:
            self.budgets.expect(Timer.HANDSHAKE)
        if self.session.phase is Phase.CLOSING:
            self.wind_up(ConnectionClosed(CloseReason.QUIT if verb is Verb.QUIT else CloseReason.CLOSED))

    def _offers(self, keyword: str) -> bool:
        """Whether the peer is offered what is for those that are trusted."""
        return self.trusted and keyword in self.config.offers

    def _mechanisms_in(self, tls: TlsInfo | None) -> tuple[str, ...]:
        """Those that AUTH offers. Whom an XCLIENT names shares neither certificate nor TLS session with the speaker."""
        mechanisms = self.config.mechanisms_in(tls)
        return mechanisms if self.xclient is None else announced(mechanisms, bindings=(), identities=())

    def secured(self, tls: TlsInfo) -> None:
        """The handshake is done: a hello is due, and may announce more.

        What was said in clear is forgotten (RFC 3207 section 4.2). What was counted is not, or TLS would buy another
        five guesses; nor is the address that an XCLIENT has named, which took the trust away.
        """
        self.handshake, self.forwarded, self.utf8, self.noted = False, None, False, frozenset()
        if self.xclient is not None:
            self.xclient = XClient(address=self.xclient.address, port=self.xclient.port)
        self._tls = tls
        self.mechanisms = self._mechanisms_in(tls)
        self.session.advance(Verb.TLS, Outcome.OK)
        self.budgets.expect(Timer.COMMAND)

    # Time.

    def switch(self, limits: Limits, now: float) -> None:
        """From `now` on these limits hold, of those that nobody was told of."""
        self.conduct.limits = limits
        self.budgets.switch(limits, now)

    def end_delay(self) -> None:
        """What was late has waited long enough."""
        self.budgets.end_delay()
        self.out.release()

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
        late = self.conduct.makes_late  # for those before this one
        if error and self.ends_for(self.conduct.error()):
            return
        self.say(refused.reply, late=late)
        self.events.append(refused)

    def blame(self, refusal: Reply) -> None:
        """`refusal` was said: a 5yz is an error of the peer, while a 4yz says that something is wrong here."""
        if refusal.code // 100 == 5:
            self.ends_for(self.conduct.error())

    def ends_for(self, violation: Violation | None) -> bool:
        """Ends the session for what there was too much of; whether there was."""
        if violation is None:
            return False
        self.teller.budget(violation)
        self.violate(violation, ENDINGS[violation])
        return True

    def violate(self, violation: Violation, reply: Reply, evidence: bytes = b"") -> None:
        """Ends the session for cause; `evidence` is what may be shown of it."""
        self.say(reply)
        self.wind_up(ConnectionClosed(CloseReason.VIOLATION, violation, evidence=evidence))

    # Octets that come too soon.

    def take(self) -> bytes:
        """Octets for the peer."""
        octets = self.out.take()
        if octets and not self.out.holds:
            self.sync.left()
        return octets

    @property
    def reads_first(self) -> bool:
        """Whether what has arrived matters before what is queued leaves."""
        return self.sync.reads_first and not (self.is_over or self.shakes_hands or self.closing.eof or self.out.holds)

    def pause(self, due: Violation, *, secret: bool = False) -> bool:
        """The peer has to wait for the next reply, and whatever it sends before that is `due`; whether it has ended."""
        self.sync.reach(due, secret=secret)
        return bool(len(self.lines)) and self.came_early()

    def came_early(self) -> bool:
        """Octets came while the peer had to wait, if it did; whether that ends the session."""
        due = self.sync.due
        if due is None:
            return False
        self.sync.fed()
        if self.config.wire.early_input is EarlyInput.NOTE:
            self.noted |= {due}
            return False
        shown = HIDDEN if self.sync.secret else evidence(self.lines.peek(PEEK))
        if due is Violation.EARLY_TALK:  # in place of a greeting that nobody has seen yet
            self.out.clear()
            self.put(self.encode(Verb.CONNECT, EARLY_INPUT))
            self.wind_up(ConnectionClosed(CloseReason.VIOLATION, due, evidence=shown))
        else:
            self.violate(due, EARLY_INPUT, shown)
        return True

    def drop_transaction(self, cause: ResetCause) -> None:
        """The open transaction, if there is one, is gone; with an event, unless a recipient has the message."""
        self.forwarded = None
        if self.transaction is not None:
            self.transaction = None
            if not self.partly_taken:
                self.events.append(TransactionReset(cause))

    # The end.

    def wind_up(self, ending: ConnectionClosed) -> None:
        """Nothing but closing is left."""
        self.handshake = False
        self.session.advance(Verb.CONNECT, Outcome.CLOSE)
        self.out.release()
        self._forget()
        self.closing.begin(ending)

    def end(self, closed: ConnectionClosed) -> None:
        """It is over: nothing more leaves."""
        self.out.clear()
        self.session.close()
        self._forget()
        self.closing.finish(closed)
        self.teller.phase()

    def _forget(self) -> None:
        self.owed = None
        self.lines.clear()
        self.drop_transaction(ResetCause.CLOSED)
