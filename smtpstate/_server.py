"""ServerConnection: the seat that greets, answers and takes mail in.

Four kinds of methods. *Inputs* (`receive_data`, `receive_eof`, `connection_lost`, `handle_timeout`) say what
happened outside. `next_event` says what it means, one thing at a time. *Verdicts* (`accept`, `reply`, `refuse`,
`close`) answer the event that was pulled last. `data_to_send` has the octets for the peer. Call them in that order,
and wait no longer than `deadline`.
"""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from dataclasses import replace
from typing import Final, final

from smtpstate._admission import admit, announced, is_auth, masked
from smtpstate._budget import Budgets, Clock
from smtpstate._closing import Closing
from smtpstate._commands import (
    AUTH_CANCELLED,
    AUTHENTICATED,
    CHUNK_TAKEN,
    COMMANDS,
    LOCAL_ERROR,
    VERDICTS,
    Auth,
    AuthCancel,
    AuthResponse,
    Bdat,
    Command,
    Data,
    Ehlo,
    EndOfMessage,
    Expn,
    Helo,
    Lhlo,
    Mail,
    Rcpt,
    StartTls,
    Verb,
    Vrfy,
    fault_reply,
    parse_response,
)
from smtpstate._config import (
    AUTH_LINE_TOO_LONG,
    EARLY_PLAINTEXT,
    HANDLER_TIMED_OUT,
    LINE_TOO_LONG,
    MESSAGE_TOO_LARGE,
    SHUTTING_DOWN,
    TIMED_OUT,
    TOO_MANY_AUTH_FAILURES,
    TOO_MANY_ERRORS,
    TOO_MANY_RECIPIENTS,
    TOO_MUCH_JUNK,
    ServerConfig,
    Transaction,
)
from smtpstate._errors import GrammarError, LocalProtocolError
from smtpstate._events import (
    FAULT_VIOLATIONS,
    Body,
    CloseReason,
    CommandRefused,
    Connected,
    ConnectionClosed,
    Flow,
    Owed,
    Peer,
    ResetCause,
    ServerEvent,
    Timer,
    TlsInfo,
    Trace,
    TraceLine,
    TransactionReset,
    Violation,
)
from smtpstate._intake import Intake
from smtpstate._lines import LineReader
from smtpstate._output import Output
from smtpstate._replies import Reply
from smtpstate._state import CLOSING_CODES, HELLOS, Outcome, Phase

# While one of these lasts a message can still be refused as a whole.
_READING: Final = frozenset({Phase.BODY, Phase.CHUNK, Phase.CHUNKED})

# The outcomes that a verdict may have.
_PLAIN: Final = frozenset({Outcome.OK, Outcome.FAIL, Outcome.CLOSE})
_POSSIBLE: Final[dict[Verb, frozenset[Outcome]]] = {
    Verb.DATA: frozenset({Outcome.MORE, Outcome.FAIL, Outcome.CLOSE}),
    Verb.AUTH: frozenset(Outcome),
    Verb.RESPONSE: frozenset(Outcome),
}


@final
class ServerConnection:
    """The server's seat of one SMTP connection. It does no I/O and never raises for what a peer sends."""

    def __init__(
        self,
        config: ServerConfig,
        *,
        clock: Clock,
        peer: Peer | None = None,
        implicit_tls: bool = False,
        trace: Trace | None = None,
    ) -> None:
        self.config: Final = config
        self.peer: Final = peer
        self.tls: TlsInfo | None = None
        self.transaction: Transaction | None = None
        self.owed: Owed | None = None
        self.hello: Ehlo | Helo | Lhlo | None = None
        self.identity: str | None = None
        self._clock: Final = clock
        self._trace: Final = trace
        self._limits: Final = config.limits
        self._session: Final = config.session()
        self._lines: Final = LineReader()
        self._out: Final = Output()
        self._budgets: Final = Budgets(config.limits)
        self._closing: Final = Closing(config.limits, self._budgets)
        self._events: Final[deque[ServerEvent]] = deque()
        self._intake: Intake = Intake(0)
        self._handshake: bool = implicit_tls
        self._overdue: bool = False
        self._errors: int = 0
        self._junk: int = 0
        self._failures: int = 0
        self._due: int = 1  # verdicts for the end of a message: LMTP has one for each recipient
        self._taken: bool = False  # one of them was a yes
        self._refused: CommandRefused | None = None  # a BDAT whose octets are still coming
        self._budgets.expect(Timer.HANDSHAKE if implicit_tls else Timer.COMMAND)

    # What it knows.

    @property
    def phase(self) -> Phase:
        return self._session.phase

    @property
    def recipients(self) -> tuple[Rcpt, ...]:
        """Those accepted in the open transaction, in order."""
        return () if self.transaction is None else self.transaction.recipients

    @property
    def closed(self) -> ConnectionClosed | None:
        """How it ended, once it has."""
        return self._closing.closed

    @property
    def half_close(self) -> bool:
        """Whether all is said: once `data_to_send()` is drained, shut down our side of the transport."""
        return self._closing.half_close

    @property
    def deadline(self) -> float | None:
        """When to call `handle_timeout()`, on the clock that was given; None: never."""
        return self._budgets.deadline

    # Inputs.

    def receive_data(self, data: bytes) -> None:
        """Octets from the peer, in order; b"" does nothing."""
        if not data or self._closing.closed is not None:
            return
        now = self._clock()
        self._cut_off(now)
        if self._closing.ending is not None:
            self._closing.drop(len(data))
        elif self._shakes_hands:
            self._violate(Violation.EARLY_PLAINTEXT, EARLY_PLAINTEXT)
        else:
            self._budgets.received(len(data), now)
            self._lines.receive_data(data)

    def receive_eof(self) -> None:
        """The peer will send no more. What it sent before is still answered."""
        self._closing.eof = True

    def connection_lost(self) -> None:
        """The transport is gone: nothing can be sent or received any more."""
        if self._closing.closed is None:
            self._end(self._closing.ending or ConnectionClosed(CloseReason.LOST))

    def handle_timeout(self) -> None:
        """The deadline has passed. Early or spurious calls do nothing. Then drain `data_to_send()`."""
        self._cut_off(self._clock())

    def tls_established(self, info: TlsInfo) -> None:
        """The handshake is done; for those who bring their own TLS. Raises LocalProtocolError if none was due."""
        self._need_handshake()
        self._handshake = False
        self._session.advance(Verb.TLS, Outcome.OK)
        self.tls, self.hello, self.identity = info, None, None
        self._budgets.expect(Timer.COMMAND)

    def tls_failed(self) -> None:
        """The handshake failed: nothing but closing is left (RFC 3207 section 4.1)."""
        self._need_handshake()
        self._session.advance(Verb.TLS, Outcome.FAIL)
        self._wind_up(ConnectionClosed(CloseReason.TLS_FAILED))

    @property
    def _shakes_hands(self) -> bool:
        """Whether a TLS handshake is due or under way: nothing may be said or read in clear."""
        return self._handshake or self._session.phase is Phase.TLS

    def _need_handshake(self) -> None:
        if not self._shakes_hands:
            raise LocalProtocolError(f"no TLS handshake is due in phase {self._session.phase.name}")

    # Events.

    def next_event(self) -> ServerEvent | Flow:
        """The next event, or what to do until there is one. A verdict still owed is given its default first."""
        if self.owed is not None:
            self._settle_all(self.owed, VERDICTS[self.owed.verb].silence)
        self._overdue = False
        while True:
            if self._events:
                return self._hand_out(self._events.popleft())
            if self._closing.closed is not None:
                self._budgets.stop()
                return self._closing.closed
            flow = self._step()
            if flow is not None:
                self._budgets.charge_peer(flow, self._clock)
                return flow

    def _hand_out(self, event: ServerEvent) -> ServerEvent:
        self._budgets.charge_handler(self._clock())
        match event:
            case Connected() | Ehlo() | Helo() | Lhlo() | Auth() | AuthResponse():
                self.owed = event
            case Mail() | Rcpt() | Data() | Vrfy() | Expn():
                if self.config.asks(event.verb):
                    self.owed = event
            case EndOfMessage():
                self.owed = event
                self._due = len(self.recipients) if self.config.lmtp else 1
            case _:
                pass
        return event

    def data_to_send(self) -> bytes:
        """Octets for the peer, b"" when there are none. Asking again says that the last piece has left."""
        return self._out.take()

    # Verdicts.

    def accept(self, text: str = "") -> bool:
        """Says yes to what is owed, in the words of the table or in `text`. Then drain `data_to_send()`.

        False, and nothing done, when the session ended while the verdict was owed. Raises LocalProtocolError when
        nothing is owed, when what is owed has no plain yes (VRFY, EXPN, AUTH), or when `text` cannot stand in a reply.
        At the end of a message in LMTP it answers all recipients that are left.
        """
        owed = self._need_verdict()
        if owed is None:
            return False
        if isinstance(owed, Vrfy | Expn | Auth | AuthResponse):
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
        match self.owed:
            case Data():
                return self.reply(reply)
            case EndOfMessage() as owed:
                self._settle_all(owed, reply)
                return True
            case None if self._session.phase in _READING:
                self._encode(Verb.END, reply)
                self._doom(reply, ResetCause.REFUSED)
                return True
            case None if self._overdue or self._is_over:
                return False
            case _:
                raise LocalProtocolError(f"no message to refuse in phase {self._session.phase.name}")

    def close(self, reply: Reply = SHUTTING_DOWN) -> None:
        """Says `reply`, a 421 or 521, and closes; answers an owed verdict with it. Then drain `data_to_send()`."""
        if reply.code not in CLOSING_CODES:
            raise LocalProtocolError(f"only 421 and 521 close a session, not {reply.code}")
        octets = self._encode(self._answering, reply)
        if not self._is_over:
            if not self._shakes_hands:
                self._put(octets)
            self._wind_up(ConnectionClosed(CloseReason.CLOSED))

    # One step of the machine: events are queued, or a Flow says what is missing.

    def _step(self) -> Flow | None:
        if self._closing.ending is not None:
            flow = self._closing.step(self._out.size)
            if flow is None:
                self._end(self._closing.ending)
            return flow
        if self._out.size > self._limits.unsent:
            return Flow.NEED_FLUSH
        if self._shakes_hands:
            return self._need(Flow.NEED_TLS)
        match self._session.phase:
            case Phase.CONNECT:
                self._events.append(Connected(self.peer))
                return None
            case Phase.BODY | Phase.CHUNK:
                return self._read_body()
            case Phase.AUTH:
                return self._read_response()
            case _:
                return self._drop_chunk(self._refused) if self._refused is not None else self._read_command()

    def _need(self, flow: Flow) -> Flow | None:
        if not self._closing.eof:
            return flow
        self._wind_up(ConnectionClosed(CloseReason.EOF))
        return None

    def _read_command(self) -> Flow | None:
        line = self._lines.next_line(self._limits.auth_line if self._session.offers_auth else self._limits.command_line)
        if line is None:
            return self._need(Flow.NEED_DATA)
        self._budgets.expect(Timer.COMMAND)
        if self._trace is not None:
            self._trace(TraceLine("C", masked(line.data)))
        too_long = line.too_long or (len(line.data) + 2 > self._limits.command_line and not is_auth(line.data))
        if too_long:
            self._turn_down(CommandRefused(b"", Violation.LINE_TOO_LONG, LINE_TOO_LONG))
            return None
        admitted = admit(line.data, self._session, self.config.offers, self.config.mechanisms)
        match admitted:
            case CommandRefused(violation=Violation.CHUNK_SIZE):
                self._violate(Violation.CHUNK_SIZE, admitted.reply)
            case CommandRefused() if (size := announced(admitted)) is not None:
                self._intake = Intake(self._limits.message, chunked=True)
                self._intake.begin_chunk(Bdat(size))
                self._refused = admitted
                self._budgets.expect(Timer.BODY)
            case CommandRefused():
                self._turn_down(admitted)
            case _:
                self._take(admitted)
        return None

    def _drop_chunk(self, refused: CommandRefused) -> Flow | None:
        """The octets of a refused BDAT come all the same, and are no commands (RFC 3030 section 2)."""
        if not self._intake.ended:
            if not len(self._lines):
                return self._need(Flow.NEED_DATA)
            self._intake.read(self._lines)
            return None
        self._refused = None
        self._budgets.expect(Timer.COMMAND)
        self._session.advance(Verb.BDAT, Outcome.FAIL)
        self._turn_down(refused)
        if self._session.phase is Phase.DEAD:
            self._drop_transaction(ResetCause.REFUSED)
        return None

    def _read_response(self) -> Flow | None:
        """A line of an AUTH exchange; all of it is one request, with one deadline."""
        line = self._lines.next_line(self._limits.auth_line)
        if line is None:
            return self._need(Flow.NEED_DATA)
        if self._trace is not None:
            self._trace(TraceLine("C", b"***"))
        if line.too_long:
            self._end_exchange(CommandRefused(b"", Violation.LINE_TOO_LONG, AUTH_LINE_TOO_LONG))
            return None
        try:
            response = parse_response(line.data)
        except GrammarError as error:
            refused = CommandRefused(b"***", FAULT_VIOLATIONS[error.fault], fault_reply(Verb.AUTH, error.fault))
            self._end_exchange(refused)
            return None
        self._events.append(response)
        if isinstance(response, AuthCancel):
            self._answer(Verb.RESPONSE, AUTH_CANCELLED)
        return None

    def _end_exchange(self, refused: CommandRefused) -> None:
        self._session.advance(Verb.RESPONSE, Outcome.FAIL)
        self._budgets.expect(Timer.COMMAND)
        self._turn_down(refused)

    def _take(self, command: Command) -> None:
        row = COMMANDS[command.verb]
        self._junk += row.junk
        match command:
            case _ if self._junk > self._limits.junk:
                self._violate(Violation.TOO_MUCH_JUNK, TOO_MUCH_JUNK)
            case Mail() if (command.size or 0) > self._limits.message:
                self._turn_down(CommandRefused(command.raw, Violation.SIZE_TOO_LARGE, MESSAGE_TOO_LARGE))
            case Bdat():
                self._begin_chunk(command)
            case Rcpt() if self.transaction is not None and self.transaction.is_full(self._limits.recipients):
                refused = CommandRefused(command.raw, Violation.TOO_MANY_RECIPIENTS, TOO_MANY_RECIPIENTS)
                self._turn_down(refused, error=False)
            case StartTls() if len(self._lines):
                self._violate(Violation.EARLY_PLAINTEXT, EARLY_PLAINTEXT)
            case _:
                self._events.append(command)
                if not self.config.asks(command.verb):
                    self._answer(command.verb, row.silence or row.success)

    def _begin_chunk(self, chunk: Bdat) -> None:
        if self._session.phase is not Phase.CHUNKED:
            self._intake = Intake(self._limits.message, chunked=True)
        self._intake.begin_chunk(chunk)
        self._session.advance(Verb.BDAT, Outcome.MORE)
        self._budgets.expect(Timer.BODY)
        self._events.append(chunk)
        if self._intake.too_large:
            self._doom(MESSAGE_TOO_LARGE, ResetCause.TOO_LARGE)

    def _end_body(self) -> None:
        """The body or chunk was read, and all of it was handed out before: refusals came in time."""
        intake = self._intake
        if self._trace is not None:
            self._trace(TraceLine("C", b"(%d octets)%s" % (intake.size, b" ." if intake.last else b"")))
        self._budgets.expect(Timer.COMMAND)
        if not intake.last:
            self._answer(Verb.CHUNK, intake.refusal or CHUNK_TAKEN)
        elif intake.refusal is None:
            self._events.append(intake.end)
        else:
            for _ in range(self._due - 1):  # LMTP: one for each recipient
                self._say(intake.refusal)
            self._answer(Verb.END, intake.refusal)

    def _read_body(self) -> Flow | None:
        intake = self._intake
        if intake.ended:
            self._end_body()
            return None
        if not len(self._lines):
            return self._need(Flow.NEED_DATA)
        content = intake.read(self._lines)
        if intake.too_large:
            self._doom(MESSAGE_TOO_LARGE, ResetCause.TOO_LARGE)
        if intake.hopeless:
            self._violate(Violation.MESSAGE_TOO_LARGE, MESSAGE_TOO_LARGE)
        elif content and intake.refusal is None:
            self._events.append(Body(content))
        return None

    def _doom(self, reply: Reply, cause: ResetCause) -> None:
        """The message under way will be answered with `reply`, whatever is still to come of it."""
        if self._intake.refusal is None:
            self._intake.refusal = reply
            self._due = len(self.recipients) if self.config.lmtp else 1
            self._drop_transaction(cause)

    # Replies.

    def _need_verdict(self) -> Owed | None:
        """What is owed; None when the session ended, or a budget was spent, while it was."""
        if self.owed is None and not self._overdue and not self._is_over:
            raise LocalProtocolError(f"no verdict is owed in phase {self._session.phase.name}")
        return self.owed

    def _settle(self, owed: Owed, reply: Reply) -> None:
        """Answers what is owed, or raises LocalProtocolError and leaves everything as it was."""
        outcome = Outcome.of(reply.code) if 200 <= reply.code <= 599 else None
        if outcome is None or outcome not in _POSSIBLE.get(owed.verb, _PLAIN):
            raise LocalProtocolError(f"{reply.code} cannot answer {owed.verb.name}")
        if isinstance(owed, EndOfMessage) and self._due > 1 and outcome is not Outcome.CLOSE:
            self._put(self._encode(owed.verb, reply))
            self._due -= 1
            self._taken |= outcome is Outcome.OK
            return
        self._answer(owed.verb, reply)
        self.owed = None
        if outcome is Outcome.OK or self._taken:
            self._record(owed)
        elif isinstance(owed, EndOfMessage):
            self._drop_transaction(ResetCause.REFUSED)
        elif isinstance(owed, Auth | AuthResponse) and outcome is Outcome.FAIL:
            self._count_failure()

    def _settle_all(self, owed: Owed, reply: Reply) -> None:
        """`_settle`, for every recipient that is left where LMTP owes each a verdict."""
        self._settle(owed, reply)
        while self.owed is not None:
            self._settle(owed, reply)

    def _count_failure(self) -> None:
        self._failures += 1
        if self._failures >= self._limits.auth_failures:
            self._violate(Violation.TOO_MANY_AUTH_FAILURES, TOO_MANY_AUTH_FAILURES)

    def _record(self, owed: Owed) -> None:
        """A yes was said: what it changes beside the phase."""
        match owed:
            case Ehlo() | Helo() | Lhlo():
                self.hello = owed
                self._drop_transaction(ResetCause.HELLO)
            case Mail():
                self.transaction = Transaction(owed)
            case Rcpt():
                assert self.transaction is not None  # the table takes RCPT inside a transaction only
                self.transaction = replace(self.transaction, recipients=(*self.transaction.recipients, owed))
            case EndOfMessage():
                self.transaction = None
                self._junk, self._taken = 0, False
            case _:
                pass

    def _answer(self, verb: Verb, reply: Reply) -> None:
        """Queues a reply and moves the session to where it leads."""
        self._put(self._encode(verb, reply))
        outcome = Outcome.of(reply.code)
        self._session.advance(verb, outcome)
        if verb in HELLOS and verb is not Verb.HELO and outcome is Outcome.OK:
            secure = self._session.secure
            self._session.announce(
                tls=self.config.offers_tls(secure=secure),
                auth=self.config.offers_auth(secure=secure),
                chunking="CHUNKING" in self.config.offers,
            )
        elif verb is Verb.RSET:
            self._drop_transaction(ResetCause.RSET)
        elif verb is Verb.DATA and outcome is Outcome.MORE:
            self._intake = Intake(self._limits.message)
            self._budgets.expect(Timer.BODY)
        elif verb is Verb.RESPONSE and outcome is not Outcome.MORE:
            self._budgets.expect(Timer.COMMAND)
        elif verb is Verb.STARTTLS:
            self._budgets.expect(Timer.HANDSHAKE)
        if self._session.phase is Phase.CLOSING:
            self._wind_up(ConnectionClosed(CloseReason.QUIT if verb is Verb.QUIT else CloseReason.CLOSED))

    @property
    def _answering(self) -> Verb:
        """What a reply that comes of itself answers: the greeting and a hello have rules for theirs."""
        if self._session.phase is Phase.CONNECT:
            return Verb.CONNECT
        return Verb.NOOP if self.owed is None else self.owed.verb

    def _say(self, reply: Reply) -> None:
        """Queues a reply that moves nothing; in clear, and so never where a handshake is due."""
        if not self._shakes_hands:
            self._put(self._encode(self._answering, reply))

    def _encode(self, verb: Verb, reply: Reply) -> bytes:
        return self.config.encode(verb, reply, secure=self._session.secure)

    def _put(self, octets: bytes) -> None:
        self._out.put(octets)
        if self._trace is not None:
            self._trace(TraceLine("S", octets))

    # Trouble.

    def _turn_down(self, refused: CommandRefused, *, error: bool = True) -> None:
        """Answers a line that breaks a rule; too many of them end the session."""
        self._errors += error
        if self._errors > self._limits.errors:
            self._violate(Violation.TOO_MANY_ERRORS, TOO_MANY_ERRORS)
            return
        self._say(refused.reply)
        self._events.append(refused)

    def _violate(self, violation: Violation, reply: Reply) -> None:
        """Ends the session for cause."""
        self._say(reply)
        self._wind_up(ConnectionClosed(CloseReason.VIOLATION, violation))

    def _drop_transaction(self, cause: ResetCause) -> None:
        if self.transaction is not None:
            self.transaction = None
            self._events.append(TransactionReset(cause))

    def _cut_off(self, now: float) -> None:
        """If a budget is spent, says what is right to say."""
        timer = self._budgets.expired(now)
        if timer is None:
            return
        if timer is Timer.HANDLER:
            self._cut_handler()
        elif self._closing.ending is not None:
            self._end(self._closing.ending)
        else:
            self._say(TIMED_OUT)
            self._wind_up(ConnectionClosed(CloseReason.TIMEOUT, timer=timer))

    def _cut_handler(self) -> None:
        """Our own side took too long: 451, or 421 where the session cannot go on in step."""
        self._budgets.release_handler()
        if self.owed is not None and not isinstance(self.owed, Connected):
            self._overdue = True
            self._settle_all(self.owed, LOCAL_ERROR)
        elif not self._is_over:
            self._say(HANDLER_TIMED_OUT)
            self._wind_up(ConnectionClosed(CloseReason.TIMEOUT, timer=Timer.HANDLER))

    # The end.

    @property
    def _is_over(self) -> bool:
        """Whether the last reply was said, or none can be said any more."""
        return self._session.phase >= Phase.CLOSING

    def _wind_up(self, ending: ConnectionClosed) -> None:
        """Nothing but closing is left."""
        self._handshake = False
        self._session.advance(Verb.CONNECT, Outcome.CLOSE)
        self._forget()
        self._closing.begin(ending)

    def _end(self, closed: ConnectionClosed) -> None:
        """It is over: nothing more leaves."""
        self._out.clear()
        self._session.close()
        self._forget()
        self._closing.finish(closed)

    def _forget(self) -> None:
        self.owed = None
        self._lines.clear()
        self._drop_transaction(ResetCause.CLOSED)
