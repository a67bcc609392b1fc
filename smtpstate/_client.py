"""ClientConnection: the seat that asks. Replies are bound to what asked for them, or they end the session."""

from __future__ import annotations

from collections import deque
from typing import Final, final

from smtpstate._budget import Clock, Limits, Patience, most_at_once
from smtpstate._capabilities import NO_CAPABILITIES, Capabilities
from smtpstate._chunk import ChunkEncoder
from smtpstate._commands import Bdat, Command, Ehlo, EndOfMessage, Helo, Lhlo, Mail, Rcpt, Verb
from smtpstate._dot import DotEncoder
from smtpstate._errors import LocalProtocolError
from smtpstate._events import (
    Body,
    CapabilitiesChanged,
    ClientEvent,
    CloseReason,
    ConnectionClosed,
    Flow,
    NoRecipients,
    ReplyReceived,
    Timer,
    TlsInfo,
    Violation,
)
from smtpstate._lines import LineReader
from smtpstate._listening import Listening
from smtpstate._output import Output
from smtpstate._outstanding import Outstanding
from smtpstate._policy import MX, Leftover, Policy
from smtpstate._questions import (
    Question,
    advance,
    announce,
    ends_message,
    hoped,
    line_of,
    offered_by,
    possible,
    require_offered,
    require_order,
    time_for,
)
from smtpstate._quota import Tally
from smtpstate._replies import Reply
from smtpstate._state import Outcome, Phase, Session
from smtpstate._trace import Teller, Trace
from smtpstate.extensions import Extension, server_limits, tables

_AS_AGREED: Final = frozenset({CloseReason.QUIT, CloseReason.CLOSED})
_NO_COMMANDS: Final = frozenset({Phase.AUTH, Phase.BODY, Phase.TLS})


@final
class ClientConnection:
    """The client's seat of one SMTP connection. It does no I/O and never raises for what a peer sends.

    Drive it like a `ServerConnection`; instead of verdicts there is `send`. `timeout` bounds the whole session, in
    seconds; None leaves it to the time that each reply may take. `hostname` is what a hello should say. With `lmtp` it
    speaks LMTP: LHLO, and after a message one reply for each accepted recipient (RFC 2033 section 4.2). `policy` says
    what becomes of replies, and of the lines of an EHLO reply, that break the grammar and are understood; `leftover`
    what becomes of octets that come with the 220 to STARTTLS. `trace` is called with each record as it comes: see
    `smtpstate.trace`.
    """

    def __init__(
        self,
        hostname: str,
        *,
        clock: Clock,
        limits: Limits | None = None,
        implicit_tls: bool = False,
        timeout: float | None = None,
        lmtp: bool = False,
        extensions: tuple[Extension, ...] = (),
        policy: Policy = MX,
        leftover: Leftover = Leftover.CLOSE,
        trace: Trace | None = None,
    ) -> None:
        self.hostname: Final = hostname
        self.capabilities: Capabilities = NO_CAPABILITIES
        self.tls: TlsInfo | None = None
        self.half_close: bool = False
        self.tally: Final = Tally()  # what was sent of what LIMITS counts
        self._clock: Final = clock
        self._limits: Final = limits if limits is not None else Limits()
        self.lmtp: Final = lmtp
        self.tables: Final = tables(extensions)
        self._session: Final = Session(lmtp=lmtp)  # moves on replies only
        self._teller: Final = Teller(self._session, trace)
        self._outstanding: Final = Outstanding(self._session)
        self._lines: Final = LineReader()
        self._policy: Final = policy
        self._leftover: Final = leftover
        self._listening: Listening = Listening(self._limits, policy)
        self._out: Final = Output()
        self._most: Final = most_at_once(self._limits)
        self._patience: Final = Patience(self._limits)
        self._events: Final[deque[ClientEvent]] = deque()
        self._early: bool = False  # the reply under way began when nobody had asked for anything
        self._encoder: DotEncoder = DotEncoder()
        self._lone_dot: bool = False
        self._chunk: Final = ChunkEncoder()  # what the last BDAT announced
        self._asked_utf8: bool = False  # whether the last MAIL asked for SMTPUTF8
        self._accepted: int = 0  # recipients of the open transaction
        self._due: int = 0  # replies for the end of a message that are still to come, the first among them
        self._handshake: bool = implicit_tls
        self._eof: bool = False
        self._closed: ConnectionClosed | None = None
        if timeout is not None:
            self._patience.bound(timeout, clock())
        if implicit_tls:
            self._patience.expect(Timer.HANDSHAKE, self._limits.handshake_seconds)
        else:
            self._expect_reply()

    # What it knows.

    @property
    def phase(self) -> Phase:
        """Where in the table the session is."""
        return self._session.phase

    @property
    def closed(self) -> ConnectionClosed | None:
        """How it ended, once it has."""
        return self._closed

    @property
    def broken(self) -> CloseReason | None:
        """Why nothing but `close()` is left; None while the session is whole, or when it ended as agreed."""
        if self._closed is None or self._closed.reason in _AS_AGREED:
            return None
        return self._closed.reason

    @property
    def outstanding(self) -> int:
        """How many replies are still due, those for commands that wait to be written among them."""
        return len(self._outstanding)

    @property
    def in_sync(self) -> bool:
        """Whether the next reply can only answer the next command."""
        if self._closed is not None or self.outstanding or self._chunk.left:
            return False
        return self._session.phase not in _NO_COMMANDS

    @property
    def can_send_body(self) -> bool:
        """Whether a 354 has come and the message has not ended yet, or octets of a chunk are missing."""
        if self._closed is not None:
            return False
        return self._chunk.left > 0 or (self._session.phase is Phase.BODY and not self._outstanding.asked)

    @property
    def deadline(self) -> float | None:
        """When to call `handle_timeout()`, on the clock that was given; None: never."""
        return self._patience.deadline

    @property
    def reads_first(self) -> bool:
        """Whether to feed what has arrived already, without waiting for more, and to pull again, before draining.

        A reply that is here when MAIL leaves in TLS answers whoever had his session renegotiated into ours.
        """
        return bool(self.tls and self._outstanding.unsent and not self._eof and self._outstanding.has_mail)

    # Inputs.

    def receive_data(self, data: bytes) -> None:
        """Octets from the peer, in order; b"" does nothing."""
        if not data or self._closed is not None or self._cut_off():
            return
        if self._session.phase is Phase.TLS or self._handshake:
            self._violate(Violation.EARLY_PLAINTEXT)
        else:
            self._lines.receive_data(data)

    def receive_eof(self) -> None:
        """The peer will send no more; what it sent before still counts."""
        self._eof = True

    def connection_lost(self) -> None:
        """The transport is gone: nothing can be sent or received any more. What came before still counts."""
        self._read_replies()
        self._end(ConnectionClosed(CloseReason.LOST))

    def handle_timeout(self) -> None:
        """The deadline has passed. Early or spurious calls do nothing."""
        self._cut_off()

    def tls_established(self, info: TlsInfo) -> None:
        """The handshake is done; for those who bring their own TLS. Raises LocalProtocolError if none was due."""
        self._need_handshake()
        self._handshake = False
        self.tls = info
        # RFC 3207 section 4.2: what was learnt in clear is gone. The tally stays, or TLS would bring new LIMITS.
        self._listening, self._asked_utf8, self._accepted = Listening(self._limits, self._policy), False, 0
        self._session.advance(Verb.TLS, Outcome.OK)
        self._outstanding.missed()
        if self._session.phase is Phase.CONNECT:
            self._expect_reply()
        else:
            self._take_offers(NO_CAPABILITIES)
            self._patience.expect_nothing()

    def tls_failed(self) -> None:
        """The handshake failed: nothing but closing is left (RFC 3207 section 4.1)."""
        self._need_handshake()
        self._end(ConnectionClosed(CloseReason.TLS_FAILED))

    def _need_handshake(self) -> None:
        if not self._handshake and self._session.phase is not Phase.TLS:
            raise LocalProtocolError(f"no TLS handshake is due in phase {self._session.phase.name}")

    # Asking.

    def send(self, item: Command | Body | EndOfMessage) -> bool:
        """Queues a command, a piece of the body, or its end. Then drain `data_to_send()`.

        Commands are pipelined where the server allows it (RFC 2920) and wait for their turn elsewhere. False, and
        nothing done, when the connection has ended. Raises LocalProtocolError for what is out of order, not offered,
        beyond the server's LIMITS, or cannot be spelled, as a bare CR or LF in a chunk that is not binary; nothing has
        changed then.
        """
        if self._closed is not None:
            return False
        match item:
            case Body():
                self._need_body()
                self._out.put(self._encoded(item.data))
                self._patience.send_body()
            case EndOfMessage():
                self._need_body()
                if self._chunk.left:
                    raise LocalProtocolError("a chunk ends by its size")
                self._out.put(self._encoder.finish())
                self._teller.line("C", b"(%d octets) ." % self._encoder.size)
                self._outstanding.assumed.advance(Verb.END, Outcome.OK)
                self._ask(item)
            case _:
                assumed, may_write = self._outstanding.assumed, self._may_write()
                require_order(item, assumed, self._outstanding.all, self._chunk.left, may_write=may_write)
                octets = self.check(item)
                self.tally.spend(item, server_limits(self.capabilities))  # of which a chunk takes nothing
                if isinstance(item, Bdat):
                    first = assumed.phase is not Phase.CHUNKED
                    self._chunk.begin(item.size, first=first, last=item.last, binary=assumed.binary)
                    if first:
                        self._patience.begin_body()
                if may_write:  # never while others wait: what keeps them keeps this one, too
                    self._write(item, octets)
                else:
                    self._outstanding.queue(item)
                self._outstanding.hope(item)
                if isinstance(item, Mail):
                    self._asked_utf8 = item.smtputf8
        return True

    def close(self) -> None:
        """Ends the connection at once; what is queued is dropped. Saying QUIT first is polite, and yours to do."""
        self._end(ConnectionClosed(CloseReason.CLOSED))

    def _encoded(self, data: bytes) -> bytes:
        return self._chunk.encode(data) if self._chunk.left else self._encoder.encode(data)

    def _need_body(self) -> None:
        if not self.can_send_body:
            raise LocalProtocolError(f"no body can be sent in phase {self._session.phase.name}")

    def check(self, command: Command, *, utf8: bool = False) -> bytes:
        """The line that `send` would write, or would after MAIL with SMTPUTF8. Raises LocalProtocolError as it does."""
        # A hello replaces what an older one offered (RFC 5321 section 4.1.4), so while one is due nothing is certain.
        offered, tables = NO_CAPABILITIES if self._outstanding.hellos else self.capabilities, self.tables[:2]
        require_offered(command, offered, tables)
        return line_of(command, self._limits, offered, tables, asked=utf8 or self._asked_utf8)

    def _may_write(self) -> bool:
        return self._outstanding.may_write(pipelining=self.capabilities.pipelining)

    def _write(self, command: Command, octets: bytes) -> None:
        """Puts a command on its way."""
        self._out.put(octets)
        self._teller.command(command, octets)
        self._ask(command)

    def _ask(self, question: Question) -> None:
        self._outstanding.ask(question)
        # What is on its way out keeps the time that it has.
        if self._outstanding.asked == 1 and not self._patience.sends_body:
            self._expect_reply()

    # Events.

    def next_event(self) -> ClientEvent | Flow:
        """The next event, or what to do until there is one."""
        while True:
            self._teller.phase()
            if self._events:
                self._patience.pause()
                return self._events.popleft()
            if self._closed is not None:
                return self._closed
            flow = self._step()
            if flow is not None:
                self._patience.wait(flow, self._clock)
                return flow

    def data_to_send(self) -> bytes:
        """Octets for the peer, b"" when there are none. Asking again says that the last piece has left."""
        outstanding = self._outstanding
        if outstanding.unsent:
            # Whatever came until now cannot be an answer to what leaves now.
            self._read_replies()
            if outstanding.asked == outstanding.unsent and (self._listening.mid_reply or len(self._lines)):
                self._early = True
                if self.reads_first:  # there is no need to see the rest of it
                    self._violate(Violation.UNSOLICITED_REPLY)
            outstanding.unsent = 0
        left = self._out.in_flight
        octets = self._out.take(self._most)
        if self._patience.sends_body:
            now = self._clock()
            self._patience.sent(left, now)
            if not octets:  # a chunk's reply is due, or the next piece, which is for us to bring
                self._patience.body_has_left(now)
                self._expect_reply()
                self._patience.wait(Flow.NEED_DATA, self._clock)
        return octets

    def _step(self) -> Flow | None:
        if self._handshake or self._session.phase is Phase.TLS:
            return self._need(Flow.NEED_TLS)
        if self._read_line():
            return None
        return self._need(Flow.NEED_DATA if self._outstanding.asked else Flow.NEED_COMMAND)

    def _need(self, flow: Flow) -> Flow | None:
        if not self._eof:
            return flow
        self._end(ConnectionClosed(CloseReason.EOF))
        return None

    # Replies.

    def _read_replies(self) -> None:
        """All that is here; replies are bounded by what was asked, since one more than that ends the session."""
        while self._read_line():
            pass

    def _read_line(self) -> bool:
        """One line of a reply; False when there is no whole one."""
        line = self._lines.next_line(self._limits.reply_line)
        if line is None:
            return False
        heard = self._listening.hear(line, self._outstanding.first, self.capabilities)
        if isinstance(heard, Reply):
            self._bind(heard)
        elif heard is not None:
            self._end(heard)
        return True

    def _bind(self, reply: Reply) -> None:
        """Gives a reply to what asked for it."""
        self._teller.line("S", reply.raw)
        outcome, question = Outcome.of(reply.code), self._outstanding.first
        if question is None or self._early or self._outstanding.asked <= self._outstanding.unsent:
            self._unasked(reply, outcome)
            return
        success = hoped(question)
        if outcome not in possible(question):
            self._violate(Violation.UNEXPECTED_REPLY)
            return
        if self._chunk.left and self._outstanding.asked == 1 and outcome is success:
            self._violate(Violation.UNSOLICITED_REPLY)  # a yes to octets that were not given yet
            return
        self._teller.verdict(question.verb, reply)
        if self._is_one_of_many(question, outcome):
            if not self._patience.sends_body:
                self._expect_reply()
            self._events.append(ReplyReceived(question, reply))
            return
        self._outstanding.answered()
        if not self._patience.sends_body:  # what is on its way out keeps the time that it has
            self._expect_reply()
        had_recipients = self._session.phase is Phase.RCPT
        advance(self._session, question, outcome)
        if self._lone_dot and isinstance(question, EndOfMessage):
            self._lone_dot = False
        elif question.verb is Verb.DATA and outcome is Outcome.MORE and not had_recipients:
            self._send_lone_dot()
        else:
            self._events.append(ReplyReceived(question, reply))
            if outcome is success:
                self._succeeded(question, reply)
        if outcome is Outcome.CLOSE:
            self._end(ConnectionClosed(CloseReason.GOING_AWAY, reply=reply))
        elif outcome is not success or self._session.phase is Phase.BODY:
            self._outstanding.missed()
        self._write_queued()

    def _is_one_of_many(self, question: Question, outcome: Outcome) -> bool:
        """LMTP answers the end of a message once for each accepted recipient: whether more are to come."""
        if not self.lmtp or outcome is Outcome.CLOSE or not ends_message(self._session, question):
            return False
        self._due = (self._due or max(1, self._accepted)) - 1
        return self._due > 0

    def _succeeded(self, question: Question, reply: Reply) -> None:
        match question:
            case Ehlo() | Helo() | Lhlo():
                lines = () if isinstance(question, Helo) else reply.lines[1:]
                secure = self.tls is not None
                self._take_offers(offered_by(lines, self.tables[2], secure=secure, policy=self._policy))
            case Mail():
                self._accepted = 0
            case Rcpt():
                self._accepted += 1
            case _ if question.verb is Verb.DATA:
                self._encoder = DotEncoder()
                self._patience.begin_body()
            case _ if question.verb is Verb.XCLIENT:
                self._take_offers(NO_CAPABILITIES)
            case _ if question.verb is Verb.QUIT:
                self._end(ConnectionClosed(CloseReason.QUIT))
            case _ if question.verb is Verb.STARTTLS and len(self._lines) and self._leftover is Leftover.CLOSE:
                self._violate(Violation.EARLY_PLAINTEXT)
            case _ if question.verb is Verb.STARTTLS:
                self._lines.clear()
                self._patience.expect(Timer.HANDSHAKE, self._limits.handshake_seconds)
            case _:
                pass

    def _take_offers(self, offered: Capabilities) -> None:
        self.capabilities = offered
        for session in (self._session, self._outstanding.assumed):
            announce(session, offered, self.tables[2].values())
        self._events.append(CapabilitiesChanged(offered))

    def _send_lone_dot(self) -> None:
        """RFC 2920 section 3.1: the server said 354 though no recipient stands; an empty message ends it."""
        self._lone_dot = True
        self._out.put(b".\r\n")
        self._teller.line("C", b"(0 octets) .")
        self._ask(EndOfMessage())
        self._events.append(NoRecipients())

    def _unasked(self, reply: Reply, outcome: Outcome) -> None:
        """A reply that nobody asked for: only 421 is one, and a refusal of a message whose dot has not left yet."""
        refused = self._session.phase is Phase.BODY and outcome in (Outcome.FAIL, Outcome.CLOSE)
        if refused:
            self._events.append(ReplyReceived(EndOfMessage(), reply))
        if refused or outcome is Outcome.CLOSE:
            self._end(ConnectionClosed(CloseReason.GOING_AWAY, reply=reply))
        else:
            self._violate(Violation.UNSOLICITED_REPLY)

    def _write_queued(self) -> None:
        while (command := self._outstanding.next_queued(pipelining=self.capabilities.pipelining)) is not None:
            # `send` saw whether it may be sent.
            self._write(command, line_of(command, self._limits, self.capabilities, self.tables[:2], asked=True))

    # Trouble, and time.

    def _violate(self, violation: Violation) -> None:
        self._end(ConnectionClosed(CloseReason.VIOLATION, violation))

    def _end(self, closed: ConnectionClosed) -> None:
        if self._closed is None:
            self._closed = closed
            self.half_close, self._handshake = True, False
            self._session.close()
            self._out.clear()
            self._lines.clear()
            self._outstanding.clear()
            self._patience.stop()
            self._teller.phase()

    def _cut_off(self) -> bool:
        timer = self._patience.expired(self._clock())
        if timer is None:
            return False
        self._teller.budget(timer)
        self._end(ConnectionClosed(CloseReason.TIMEOUT, timer=timer))
        return True

    def _expect_reply(self) -> None:
        """The time that the oldest outstanding reply may take; nothing runs when none is due."""
        question = self._outstanding.first
        if question is not None:
            self._patience.expect(*time_for(question, self._limits))
        else:
            self._patience.expect_nothing()
