"""ServerConnection: the seat that greets, answers and takes mail in.

Four kinds of methods. *Inputs* (`receive_data`, `receive_eof`, `connection_lost`, `handle_timeout`) say what
happened outside. `next_event` says what it means, one thing at a time. *Verdicts* (`accept`, `reply`, `refuse`,
`close`) answer the event that was pulled last. `data_to_send` has the octets for the peer. Call them in that order,
and wait no longer than `deadline`.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Final, final

from smtpstate._commands import (
    Auth,
    AuthResponse,
    Data,
    Ehlo,
    EndOfMessage,
    Expn,
    Helo,
    Lhlo,
    Mail,
    OwnCommand,
    Rcpt,
    Verb,
    Vrfy,
    XClient,
    XForward,
)
from smtpstate._config import EARLY_PLAINTEXT, HANDLER_TIMED_OUT, SHUTTING_DOWN, TIMED_OUT, ServerConfig, Transaction
from smtpstate._conversation import Conversation
from smtpstate._errors import LocalProtocolError
from smtpstate._events import (
    CloseReason,
    Connected,
    ConnectionClosed,
    Flow,
    Owed,
    Peer,
    ResetCause,
    ServerEvent,
    Timer,
    TlsInfo,
    Violation,
)
from smtpstate._hearing import Hearing
from smtpstate._questions import possible
from smtpstate._reception import Reception
from smtpstate._replies import Reply
from smtpstate._state import CLOSING_CODES, Outcome, Phase
from smtpstate._syntax import AUTHENTICATED, LOCAL_ERROR, VERDICTS

if TYPE_CHECKING:
    from smtpstate._budget import Clock
    from smtpstate._trace import Trace

# While one of these lasts a message can still be refused as a whole.
_READING: Final = frozenset({Phase.BODY, Phase.CHUNK, Phase.CHUNKED})

# The outcomes that say yes.
_YES: Final = frozenset({Outcome.OK, Outcome.MORE})


@final
class ServerConnection:
    """The server's seat of one SMTP connection. It does no I/O and never raises for what a peer sends.

    A peer that is `trusted` may say for whom it speaks, by the XCLIENT and XFORWARD that `config` offers. `trace` is
    called with each record as it comes: see `smtpstate.trace`.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        clock: Clock,
        peer: Peer | None = None,
        implicit_tls: bool = False,
        trusted: bool = False,
        trace: Trace | None = None,
    ) -> None:
        self.config: Final = config
        self.tls: TlsInfo | None = None
        self.hello: Ehlo | Helo | Lhlo | None = None
        self.identity: str | None = None
        self._clock: Final = clock
        self._limits: Final = config.limits
        self._talk: Final = Conversation(config, trace, handshake=implicit_tls, peer=peer, trusted=trusted)
        self._reception: Final = Reception(self._talk)
        self._hearing: Final = Hearing(self._talk, self._reception)
        self._stress: bool = False
        self._overdue: bool = False  # the handler's time was up, and its verdict comes too late
        self._due: int = 1  # verdicts that the end of a message is still owed

    # What it knows.

    @property
    def phase(self) -> Phase:
        """Where in the table the session is."""
        return self._talk.session.phase

    @property
    def peer(self) -> Peer | None:
        """Who is at the other end: who connected, or whom XCLIENT has named."""
        return self._talk.peer

    @property
    def stress(self) -> bool:
        """Whether there is too much to do: what a peer may spend is then what `Limits.under_stress()` says.

        Set it at any time, and then look at `deadline` again: budgets that are open have shrunk.
        """
        return self._stress

    @stress.setter
    def stress(self, stress: bool) -> None:
        if stress is not self._stress:
            self._stress = stress
            self._talk.switch(self._limits.under_stress() if stress else self._limits, self._clock())

    @property
    def trusted(self) -> bool:
        """Whether XCLIENT and XFORWARD are offered, if they are at all; no more after an XCLIENT with an address.

        Set it while `Connected` is owed, and no later than a hello, to trust the address that was named as well.
        """
        return self._talk.trusted

    @trusted.setter
    def trusted(self, trusted: bool) -> None:
        self._talk.trusted = trusted

    @property
    def tls_available(self) -> bool:
        """Whether STARTTLS begins a handshake; if not it is answered 454 (RFC 3207 section 4). Set it at any time."""
        return self._talk.tls_available

    @tls_available.setter
    def tls_available(self, available: bool) -> None:
        self._talk.tls_available = available

    @property
    def xclient(self) -> XClient | None:
        """All that XCLIENT has said so far, of one command or more; None without any."""
        return self._talk.xclient

    @property
    def forwarded(self) -> XForward | None:
        """What XFORWARD has said of the next message or of the open transaction. For the log: it decides nothing."""
        return self._talk.forwarded

    @property
    def owed(self) -> Owed | None:
        """The event that waits for a verdict."""
        return self._talk.owed

    @property
    def transaction(self) -> Transaction | None:
        """The open transaction."""
        return self._talk.transaction

    @property
    def recipients(self) -> tuple[Rcpt, ...]:
        """Those accepted in the open transaction, in order."""
        return () if self._talk.transaction is None else self._talk.transaction.recipients

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What AUTH offers to this client now."""
        return self._talk.mechanisms

    @property
    def closed(self) -> ConnectionClosed | None:
        """How it ended, once it has."""
        return self._talk.closing.closed

    @property
    def half_close(self) -> bool:
        """Whether all is said: once `data_to_send()` is drained, shut down our side of the transport."""
        return self._talk.closing.half_close

    @property
    def noted(self) -> frozenset[Violation]:
        """What the client sent before it might, where `EarlyInput.NOTE` lets it go on."""
        return self._talk.noted

    @property
    def reads_first(self) -> bool:
        """Whether to feed what has arrived already before draining, without waiting for it; then pull again."""
        return self._talk.reads_first

    @property
    def deadline(self) -> float | None:
        """When to call `handle_timeout()`, on the clock that was given; None: never."""
        return self._talk.budgets.deadline

    # Inputs.

    def receive_data(self, data: bytes) -> None:
        """Octets from the peer, in order; b"" does nothing."""
        if not data or self._talk.closing.closed is not None:
            return
        now = self._clock()
        self._cut_off(now)
        if self._talk.closing.ending is not None:
            self._talk.closing.drop(len(data))
        elif self._talk.shakes_hands:
            self._talk.violate(Violation.EARLY_PLAINTEXT, EARLY_PLAINTEXT)
        else:
            self._talk.budgets.received(len(data), now)
            self._talk.lines.receive_data(data)
            self._talk.came_early()

    def receive_eof(self) -> None:
        """The peer will send no more. What it sent before is still answered."""
        self._talk.closing.eof = True

    def connection_lost(self) -> None:
        """The transport is gone: nothing can be sent or received any more."""
        if self._talk.closing.closed is None:
            self._talk.end(self._talk.closing.ending or ConnectionClosed(CloseReason.LOST))

    def handle_timeout(self) -> None:
        """The deadline has passed. Early or spurious calls do nothing. Then drain `data_to_send()`."""
        self._cut_off(self._clock())

    def tls_established(self, info: TlsInfo) -> None:
        """The handshake is done; for those who bring their own TLS. Raises LocalProtocolError if none was due."""
        self._need_handshake()
        self._talk.secured(info)
        self.tls, self.hello, self.identity = info, None, None

    def tls_failed(self) -> None:
        """The handshake failed: nothing but closing is left (RFC 3207 section 4.1)."""
        self._need_handshake()
        self._talk.session.advance(Verb.TLS, Outcome.FAIL)
        self._talk.wind_up(ConnectionClosed(CloseReason.TLS_FAILED))

    def _need_handshake(self) -> None:
        if not self._talk.shakes_hands:
            raise LocalProtocolError(f"no TLS handshake is due in phase {self._talk.session.phase.name}")

    # Events.

    def next_event(self) -> ServerEvent | Flow:
        """The next event, or what to do until there is one. A verdict still owed is given its default first."""
        if self._talk.owed is not None:
            self._settle_all(self._talk.owed, VERDICTS[self._talk.owed.verb].silence, silent=True)
        self._overdue = False
        while True:
            self._talk.teller.phase()
            if self._talk.events:
                return self._hand_out(self._talk.events.popleft())
            if self._talk.closing.closed is not None:
                self._talk.budgets.stop()
                return self._talk.closing.closed
            flow = self._step()
            if flow is Flow.WAIT:
                self._talk.budgets.charge_nobody(self._clock)
                return flow
            if flow is not None:
                self._talk.budgets.charge_peer(flow, self._clock)
                return flow

    def _hand_out(self, event: ServerEvent) -> ServerEvent:
        self._talk.budgets.charge_handler(self._clock())
        match event:
            case Connected() | Ehlo() | Helo() | Lhlo() | Auth() | AuthResponse():
                self._talk.owed = event
            case Mail() | Rcpt() | Data() | Vrfy() | Expn() | OwnCommand():
                if self.config.asks(event.verb):
                    self._talk.owed = event
            case XClient(login=login):
                self.hello, self.identity = None, login if isinstance(login, str) else None
            case XForward():
                self._talk.forwarded = event.over(self._talk.forwarded)
            case EndOfMessage():
                self._talk.owed = event
                self._due = self._talk.recipients_due
            case _:
                pass
        return event

    def data_to_send(self) -> bytes:
        """Octets for the peer, b"" when there are none. Asking again says that the last piece has left."""
        return self._talk.take()

    # Verdicts.

    def accept(self, text: str = "") -> bool:
        """Says yes to what is owed, in the words of the table or in `text`. Then drain `data_to_send()`.

        False, and nothing done, when the session ended while the verdict was owed. Raises LocalProtocolError when
        nothing is owed, when what is owed has no plain yes (VRFY, EXPN, AUTH, a verb of your own), or when `text`
        cannot stand in a reply.
        At the end of a message in LMTP it answers all recipients that are left.
        """
        owed = self._need_verdict()
        if owed is None:
            return False
        if isinstance(owed, Vrfy | Expn | OwnCommand | Auth | AuthResponse):
            raise LocalProtocolError(f"{owed.verb.name} needs a reply in so many words")
        success = VERDICTS[owed.verb].success
        lines = (text,) if text else success.lines
        self._settle_all(owed, Reply(success.code, *lines, enhanced=success.enhanced))
        return True

    def reply(self, reply: Reply) -> bool:
        """Answers what is owed with `reply`. Then drain `data_to_send()`. Returns and raises as `accept` does;
        a code that this command cannot be answered with raises, too. At the end of a message in LMTP it answers the
        next recipient, in the order of their RCPTs (RFC 2033 section 4.2)."""
        owed = self._need_verdict()
        if owed is None:
            return False
        if isinstance(owed, Auth | AuthResponse) and reply.code // 100 not in (4, 5):
            raise LocalProtocolError(f"{reply.code} is for authenticated() and challenge() to say")
        self._settle(owed, reply)
        return True

    def challenge(self, data: bytes) -> bool:
        """Goes on with an AUTH exchange: 334. Then drain `data_to_send()`. Returns as `accept` does.

        Raises LocalProtocolError when no AUTH or answer to a challenge is owed, or `data` is too long for a reply.
        """
        return self._answer_auth(Reply(334, b64encode(data).decode("ascii")))

    def authenticated(self, identity: str) -> bool:
        """Ends an AUTH exchange well: 235, and `identity` is who it is. Then drain `data_to_send()`.

        Returns and raises as `challenge` does.
        """
        if not self._answer_auth(AUTHENTICATED):
            return False
        self.identity = identity
        return True

    def _answer_auth(self, reply: Reply) -> bool:
        owed = self._need_verdict()
        if owed is None:
            return False
        if not isinstance(owed, Auth | AuthResponse):
            raise LocalProtocolError(f"no AUTH is owed a verdict, {owed.verb.name} is")
        self._settle(owed, reply)
        return True

    def refuse(self, reply: Reply) -> bool:
        """Refuses the message, from its DATA or first BDAT to its end. Then drain `data_to_send()`.

        Inside the body the rest is counted and dropped, and `reply` goes out at its end (RFC 5321 section 4.2.5).
        Raises LocalProtocolError for anything but a 4yz or 5yz, or when no message is under way.
        """
        if reply.code // 100 not in (4, 5):
            raise LocalProtocolError(f"a refusal is 4yz or 5yz, not {reply.code}")
        match self._talk.owed:
            case Data():
                return self.reply(reply)
            case EndOfMessage() as owed:
                self._settle_all(owed, reply)
                return True
            case None if self._talk.session.phase in _READING:
                self._talk.encode(Verb.END, reply)
                self._reception.doom(reply, ResetCause.REFUSED)
                return True
            case None if self._overdue or self._talk.is_over:
                return False
            case _:
                raise LocalProtocolError(f"no message to refuse in phase {self._talk.session.phase.name}")

    def close(self, reply: Reply = SHUTTING_DOWN) -> None:
        """Says `reply`, a 421 or 521, and closes; answers an owed verdict with it. Then drain `data_to_send()`."""
        if reply.code not in CLOSING_CODES:
            raise LocalProtocolError(f"only 421 and 521 close a session, not {reply.code}")
        octets = self._talk.encode_here(reply)
        if not self._talk.is_over:
            if not self._talk.shakes_hands:
                self._talk.put(octets)
            self._talk.wind_up(ConnectionClosed(CloseReason.CLOSED))

    # One step of the machine: events are queued, or a Flow says what is missing.

    def _step(self) -> Flow | None:
        talk = self._talk
        if talk.closing.ending is not None:
            flow = talk.closing.step(talk.out.size)
            if flow is None:
                talk.end(talk.closing.ending)
            return flow
        if talk.out.holds:  # a peer that does not read what was said before pays for that itself
            return Flow.WAIT if talk.out.has_left else Flow.NEED_FLUSH
        if talk.out.size > self._limits.unsent:
            return Flow.NEED_FLUSH
        if talk.shakes_hands:
            return talk.need(Flow.NEED_TLS)
        match talk.session.phase:
            case Phase.CONNECT:
                talk.events.append(Connected(talk.peer))
                return None
            case Phase.BODY | Phase.CHUNK:
                return self._reception.read()
            case Phase.AUTH:
                return self._hearing.read_response()
            case _:
                return self._reception.drop() if self._reception.drops else self._hearing.read_command()

    # Replies.

    def _need_verdict(self) -> Owed | None:
        """What is owed; None when the session ended, or a budget was spent, while it was."""
        if self._talk.owed is None and not self._overdue and not self._talk.is_over:
            raise LocalProtocolError(f"no verdict is owed in phase {self._talk.session.phase.name}")
        return self._talk.owed

    def _settle(self, owed: Owed, reply: Reply, *, silent: bool = False) -> None:
        """Answers what is owed, or raises LocalProtocolError and leaves everything as it was."""
        outcome = Outcome.of(reply.code) if 200 <= reply.code <= 599 else None
        if outcome is None or outcome not in possible(owed):
            raise LocalProtocolError(f"{reply.code} cannot answer {owed.verb.name}")
        if isinstance(owed, EndOfMessage) and self._due > 1 and outcome is not Outcome.CLOSE:
            self._talk.put(self._talk.encode(owed.verb, reply))
            self._due -= 1
            self._talk.partly_taken |= outcome is Outcome.OK
            self._talk.teller.verdict(owed.verb, reply, silent=silent)
            return
        self._talk.answer(owed.verb, reply)
        self._talk.teller.verdict(owed.verb, reply, silent=silent)
        self._talk.owed = None
        if outcome in _YES or self._talk.partly_taken:
            self._record(owed)
        elif outcome is Outcome.FAIL:
            self._refused(owed, reply)

    def _refused(self, owed: Owed, reply: Reply) -> None:
        """A no was said."""
        if isinstance(owed, EndOfMessage):
            self._talk.drop_transaction(ResetCause.REFUSED)
        if not isinstance(owed, Auth | AuthResponse):
            self._talk.blame(reply)
        elif reply.code // 100 == 5:
            self._talk.ends_for(self._talk.conduct.failure())

    def _settle_all(self, owed: Owed, reply: Reply, *, silent: bool = False) -> None:
        """`_settle`, for every recipient that is left where LMTP owes each a verdict."""
        self._settle(owed, reply, silent=silent)
        while self._talk.owed is not None:
            self._settle(owed, reply, silent=silent)

    def _record(self, owed: Owed) -> None:
        """A yes was said: what it changes beside the phase."""
        match owed:
            case Ehlo() | Helo() | Lhlo():
                self.hello = owed
                self._talk.drop_transaction(ResetCause.HELLO)
            case Mail():
                self._talk.transaction = Transaction(owed)
                self._talk.utf8 = owed.smtputf8
                self._hearing.count(owed)
            case Rcpt():
                assert self._talk.transaction is not None  # the table takes RCPT inside a transaction only
                self._talk.transaction = self._talk.transaction.plus(owed)
                self._hearing.count(owed)
            case Data():
                self._reception.begin()
            case EndOfMessage():
                self._talk.transaction = self._talk.forwarded = None
                self._talk.partly_taken = False
                self._talk.conduct.message()
            case _:
                pass

    # Trouble.

    def _cut_off(self, now: float) -> None:
        """If a budget is spent, says what is right to say."""
        timer = self._talk.budgets.expired(now)
        if timer is None:
            return
        if timer is Timer.DELAY:
            self._talk.end_delay()
            return
        self._talk.teller.budget(timer)
        if timer is Timer.HANDLER:
            self._cut_handler()
        elif self._talk.closing.ending is not None:
            self._talk.end(self._talk.closing.ending)
        else:
            self._talk.say(TIMED_OUT)
            self._talk.wind_up(ConnectionClosed(CloseReason.TIMEOUT, timer=timer))

    def _cut_handler(self) -> None:
        """Our own side took too long: 451, or 421 where the session cannot go on in step."""
        self._talk.budgets.release_handler()
        if self._talk.owed is not None and not isinstance(self._talk.owed, Connected):
            self._overdue = True
            self._settle_all(self._talk.owed, LOCAL_ERROR, silent=True)
        elif not self._talk.is_over:
            self._talk.say(HANDLER_TIMED_OUT)
            self._talk.wind_up(ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.HANDLER))
