"""The model: a client and a server that do anything they may, over any wire, at any time; and what then has to hold.

A `Model` is a Pair and a `choose` function that makes every decision: Hypothesis, a seeded generator, or a list.
What may be said comes out of the tables: `ITEMS` has examples for each verb, and the client's own session says which
of them are in order.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar, final

from smtpstate import (
    Auth,
    AuthCancel,
    AuthResponse,
    Bdat,
    Body,
    BodyType,
    ClientEvent,
    Command,
    CommandRefused,
    Connected,
    Data,
    Ehlo,
    EndOfMessage,
    Expn,
    Helo,
    Help,
    Lhlo,
    Limits,
    LocalProtocolError,
    Mail,
    Noop,
    Phase,
    Quit,
    Rcpt,
    Reply,
    ReplyReceived,
    Rset,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    StartTls,
    TransactionReset,
    Verb,
    Violation,
    Vrfy,
)
from smtpstate._commands import name_of
from smtpstate._config import TRUSTED
from smtpstate.extensions import (
    Envid,
    Extension,
    Notify,
    OriginalRecipient,
    OwnCommand,
    OwnVerb,
    Ret,
    XClient,
    XForward,
    original_recipient,
    parameters,
    ret,
    server_limits,
)
from smtpstate.policy import STRICT
from smtpstate_testing import Pair
from tests.property.snapshots import attempt, snapshot, weight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from smtpstate_testing._link import Cut, End
    from smtpstate_testing._pair import PairTls

_T = TypeVar("_T")


class Choose(Protocol):
    def __call__(self, options: Sequence[_T], /) -> _T: ...


def from_list(numbers: Sequence[int]) -> Choose:
    """Decides by these numbers, one after the other; then always the first option."""
    given: Iterator[int] = iter(numbers)

    def choose(options: Sequence[_T], /) -> _T:
        return options[next(given, 0) % len(options)]

    return choose


# What a client may say. A verb that is missing here fails test_the_model_knows_every_verb.

ITEMS: Final[dict[Verb, tuple[Command, ...]]] = {
    Verb.EHLO: (Ehlo("client.example.com"), Ehlo("[192.0.2.1]")),
    Verb.HELO: (Helo("client.example.com"),),
    Verb.LHLO: (Lhlo("client.example.com"),),
    Verb.STARTTLS: (StartTls(),),
    Verb.AUTH: (Auth("PLAIN", b"\0me\0secret"), Auth("PLAIN"), Auth("LOGIN", b""), Auth("X-NOBODY")),
    Verb.RESPONSE: (AuthResponse(b"secret"), AuthResponse(b""), AuthCancel(), AuthResponse(b"x" * 500)),
    Verb.MAIL: (
        Mail.of("me@example.com"),
        Mail.of(""),
        Mail.of("me@example.com", size=100, body=BodyType.EIGHTBITMIME),
        Mail.of("me@example.com", size=1_000_000),
        Mail.of("m\u00e9@b\u00fccher.example", parameters=(("SMTPUTF8", None),)),
        Mail.of("", body=BodyType.EIGHTBITMIME, parameters=(("SMTPUTF8", None),)),
        Mail.of("me@example.com", body=BodyType.BINARYMIME),
        Mail.of("m\u00e9@example.com", body=BodyType.BINARYMIME, parameters=(("SMTPUTF8", None),)),
        Mail.of("me@example.com", parameters=parameters(Ret.HDRS, Envid("a+b=c"))),
    ),
    Verb.RCPT: (
        Rcpt.of("you@example.org"),
        Rcpt.of("postmaster"),
        Rcpt.of("him@example.org"),
        Rcpt.of("\u7528\u6237@b\u00fccher.example"),
        Rcpt.of("you@example.net", parameters=parameters(Notify.NEVER, OriginalRecipient("rfc822", "a+b@example.org"))),
    ),
    Verb.DATA: (Data(),),
    Verb.BDAT: (Bdat(7, last=True), Bdat(5), Bdat(0, last=True), Bdat(0), Bdat(390, last=True), Bdat(450), Bdat(700)),
    Verb.RSET: (Rset(),),
    Verb.NOOP: (Noop(), Noop("text")),
    Verb.QUIT: (Quit(),),
    Verb.VRFY: (Vrfy("you"), Vrfy("yo\u00fc", smtputf8=True)),
    Verb.EXPN: (Expn("list"), Expn("l\u00edst")),
    Verb.HELP: (Help(), Help("MAIL")),
    Verb.XCLIENT: (XClient(name="client.example"), XClient(address="192.0.2.7", login="me"), XClient(helo="x" * 250)),
    Verb.XFORWARD: (XForward(name="client.example"), XForward(address="192.0.2.7", port=40_000)),
    Verb.OWN: (OwnCommand("XRUN"), OwnCommand("XRUN", "example.org")),
}
ALL_ITEMS: Final = tuple(item for items in ITEMS.values() for item in items)

# What leads on in the table, the furthest first.
ONWARD: Final = (
    *(Verb.RESPONSE, Verb.DATA, Verb.BDAT, Verb.RCPT, Verb.MAIL, Verb.AUTH, Verb.STARTTLS, Verb.XCLIENT, Verb.XFORWARD),
    *(Verb.OWN, Verb.LHLO, Verb.EHLO),
)

# What the grammar lets through and a line limit does not, what cannot be spelled, and what was never offered.
WRONG: Final[tuple[Command | Body | EndOfMessage, ...]] = (
    *ALL_ITEMS,
    Body(b"hello"),
    EndOfMessage(),
    Ehlo("two\r\nlines"),
    Noop("\0"),
    Noop("x" * 3000),
    OwnCommand("XRUN", " x"),
    OwnCommand("ETRN"),
    Bdat(-1),
    Auth("TWO WORDS"),
    AuthResponse(b"x" * 20_000),
)

PIECES: Final = (
    b"hello\r\n",
    b".",
    b"\r\n.\r\n",
    b"\r",
    b"\n",
    b"..\r\n.",
    b"\0\xff",
    b"x" * 130,
    b"",
)

# Small enough for every limit to be met now and then.
LIMITS: Final = Limits(
    message=400,
    recipients=3,
    unsent=700,
    errors=8,
    junk=20,
    command_line=300,
    linger=100,
    auth_line=600,
    auth_failures=3,
    session_seconds=3000.0,
)
CLIENT_LIMITS: Final = Limits(reply_line=600, reply=3000, reply_lines=30, command_line=300, auth_line=600)
# What either side may hold: a line and the piece after it, a body's piece, output and one group of replies, recipients,
# and the replies to a group of commands on the client's side. The walks hold 1,700 octets at most.
HELD: Final = 3000


class Setting(NamedTuple):
    """What a session is: a server's configuration, and where TLS comes in."""

    name: str
    config: ServerConfig
    tls: PairTls | None = None


OWN: Final = Extension("XRUN", verb=OwnVerb("XRUN", in_transaction=True))
_CONFIG: Final = ServerConfig(
    "mx.example.org", LIMITS, mechanisms=("PLAIN", "LOGIN"), auth_in_clear=True, extensions=(OWN,)
)
_EXTENDED: Final = replace(
    _CONFIG,
    limits=replace(LIMITS, transactions=6, recipient_domains=2),
    offers=_CONFIG.offers | {"SMTPUTF8", "DSN", "LIMITS", "BINARYMIME"},
    asks_vrfy=True,
    asks_expn=True,
)
SETTINGS: Final = (
    Setting("everything", replace(_CONFIG, asks_vrfy=True, asks_expn=True)),
    Setting("trusted", replace(_CONFIG, offers=_CONFIG.offers | TRUSTED.keys())),
    Setting("LMTP", replace(_CONFIG, lmtp=True)),
    Setting("extended", _EXTENDED),
    Setting("extended, LMTP", replace(_EXTENDED, lmtp=True)),
    Setting("extended, STARTTLS", _EXTENDED, "starttls"),
    Setting("no extensions", ServerConfig("mx.example.org", LIMITS, offers=frozenset())),
    Setting("lock-step", replace(_CONFIG, offers=_CONFIG.offers - {"PIPELINING"})),
    Setting("submission", replace(_CONFIG, requires_auth=True)),
    Setting("STARTTLS", replace(_CONFIG, auth_in_clear=False), "starttls"),
    Setting("STARTTLS required", replace(_CONFIG, requires_tls=True, requires_auth=True), "starttls"),
    Setting("implicit TLS, LMTP", replace(_CONFIG, lmtp=True), "implicit"),
)
IN_CLEAR: Final = tuple(setting for setting in SETTINGS if setting.tls is None)


# What a server may answer.


@final
@dataclass(frozen=True)
class Verdict:
    name: str
    give: Callable[[ServerConnection], object]


def _yes(server: ServerConnection) -> None:
    match server.owed:
        case Auth(initial_response=None):
            server.challenge(b"")
        case Auth() | AuthResponse():
            server.authenticated("me")
        case Vrfy() | Expn() | OwnCommand():
            server.reply(Reply(250, "you@example.org"))
        case _:
            server.accept()


def _slow(server: ServerConnection) -> None:
    """The handler's time is up before it says anything; what it says then comes too late, and harms nobody."""
    clock = server._clock
    clock.advance(server.config.limits.handler_seconds)  # type: ignore[attr-defined]  # it is a ManualClock here
    server.handle_timeout()
    assert server.deadline is None or server.deadline > clock()
    assert server.owed is None
    assert server.reply(Reply(250)) is False


LEGAL_CODES: Final = tuple(code for code in range(200, 560) if code // 10 % 10 < 6)
YES: Final = Verdict("yes", _yes)
SILENCE: Final = Verdict("silence", lambda server: None)
SLOW: Final = Verdict("slow", _slow)
REFUSED: Final = Verdict("reply 554", lambda server: server.reply(Reply(554)))
ANSWERS: Final = (
    YES,
    REFUSED,
    SILENCE,
    SLOW,
    Verdict("accept", lambda server: server.accept("in other words")),
    Verdict("refuse", lambda server: server.refuse(Reply(552, "too much"))),
    Verdict("refuse for now", lambda server: server.refuse(Reply(452))),
    Verdict("challenge", lambda server: server.challenge(b"who?")),
    Verdict("a long challenge", lambda server: server.challenge(b"x" * 1000)),
    Verdict("authenticated", lambda server: server.authenticated("me")),
    Verdict("close", lambda server: server.close()),
    Verdict("close for good", lambda server: server.close(Reply(521))),
    Verdict("a reply that is none", lambda server: server.reply(Reply(250, "bell \a"))),
    Verdict("not in ASCII", lambda server: server.reply(Reply(550, "\u00e9"))),
    Verdict("two lines", lambda server: server.reply(Reply(450, "not", "now", enhanced="4.2.0"))),
)
CODES: Final = tuple(
    Verdict(f"reply {code}", lambda server, code=code: server.reply(Reply(code)))  # type: ignore[misc]  # a default
    for code in LEGAL_CODES
)


@final
class Application:
    """Gives verdicts: those planned, one for each event at which it may speak, and then always yes.

    `used` is what it has given: another one with that for a plan does the same.
    """

    def __init__(self, plan: Sequence[Verdict] = ()) -> None:
        self.plan: Final = deque(plan)
        self.used: Final[list[Verdict]] = []

    def __call__(self, server: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Connected):
            server.trusted = True  # with what `offers` has for trusted peers, if anything
        if isinstance(event, Bdat):
            attempt(server, lambda: self._next().give(server))
        while server.owed is event:
            verdict = self._next()
            if verdict is SILENCE:
                break
            if attempt(server, lambda verdict=verdict: verdict.give(server)):  # type: ignore[misc]  # a default
                _yes(server)

    def _next(self) -> Verdict:
        verdict = self.plan.popleft() if self.plan else YES
        self.used.append(verdict)
        return verdict


def as_sent(body: bytes) -> bytes:
    """What has to arrive by DATA: every newline a CRLF, and one at the end."""
    body = re.sub(rb"\r\n|\r|\n", b"\r\n", body)
    return body if not body or body.endswith(b"\r\n") else body + b"\r\n"


BOUNDS: Final = {
    None,
    Violation.MESSAGE_TOO_LARGE,
    Violation.TOO_MANY_AUTH_FAILURES,
    Violation.TOO_MANY_ERRORS,
    Violation.TOO_MUCH_JUNK,
}


@final
class Model:
    """A session of a client and a server. Its methods are what may happen; each checks what has to hold then.

    `checked` counts the properties of architecture section 11 that were asserted, by their numbers; `seen` counts
    phases, commands, verdicts and what else the walk has met.
    """

    def __init__(self, setting: Setting, choose: Choose, cut: Cut = None) -> None:
        self.setting: Final = setting
        self.choose: Choose = choose
        self.application: Final = Application()
        self.checked: Final[Counter[int]] = Counter()
        self.seen: Final[Counter[str]] = Counter()
        self.pair: Final = Pair(
            setting.config,
            client_limits=CLIENT_LIMITS,
            cut=cut,
            tls=setting.tls,
            handler=self._on_server_event,
            client_policy=STRICT,  # our server's replies are beyond reproach
            client_extensions=(OWN,),
        )
        self.client: Final = self.pair.client
        self.server: Final = self.pair.server
        self.ends: Final[tuple[End[ServerEvent] | End[ClientEvent], ...]] = (self.pair._server, self.pair._client)
        self.honest: bool = True  # nobody has put octets on the wire that neither side sent
        self.by_the_book: bool = True  # nothing has happened that a replay would not know of
        self.tallied: bool = True  # what LIMITS counts has been sent only where they were known
        # The client's messages, as the server has to see them.
        self._chunks: Final[deque[tuple[Bdat, bytearray]]] = deque()  # those that the server has not seen yet
        self._chunk: bytearray = bytearray()
        self._data: bytearray = bytearray()
        self._expected: list[tuple[Bdat | None, bytearray]] = []
        self._content: bytearray = bytearray()

    def _see(self, what: Phase | Verb | type) -> None:
        self.seen[what.__name__ if isinstance(what, type) else f"{type(what).__name__}.{what.name}"] += 1

    # Property 1, on the server's side: any body arrives as it was sent.

    def _on_server_event(self, server: ServerConnection, event: ServerEvent) -> None:
        self._see(self.server.phase)
        self._see(type(event))
        if self.honest:
            self._follow(event)
        self.application(server, event)
        self._see(self.server.phase)

    def _follow(self, event: ServerEvent) -> None:
        match event:
            case Bdat():
                chunk = self._chunks.popleft()
                assert chunk[0] == event
                self._expected.append(chunk)
            case CommandRefused(line=line) if line.startswith(b"BDAT"):
                self._chunks.popleft()
            case Data():
                self._expected = [(None, self._data)]
                self._content.clear()
            case Body(data):
                self._content += data
            case EndOfMessage(size=size):
                sent = b"".join(as_sent(bytes(data)) if chunk is None else data for chunk, data in self._expected)
                assert self._content == sent
                assert size == len(sent)
                self._expected.clear()
                self._content.clear()
                self.checked[1] += 1
                self.seen["a body in LMTP" if self.server.config.lmtp else "a body"] += 1
                self.seen["a body inside TLS"] += self.server.tls is not None
                transaction = self.server.transaction
                assert transaction is not None
                self.seen["a body with SMTPUTF8"] += transaction.mail.smtputf8
                self.seen["a body with BINARYMIME"] += transaction.mail.body is BodyType.BINARYMIME
                self.seen["a body with RET"] += ret(transaction.mail) is not None
                self.seen["a body with ORCPT"] += any(map(original_recipient, transaction.recipients))
            case TransactionReset():
                self._expected.clear()
                self._content.clear()
            case _:
                pass

    # What may happen.

    def speak(self) -> None:
        """The client says something that is in order."""
        if self.client.can_send_body:
            self._go_on_with_body()
            return
        verbs = self._in_order(ITEMS)
        if verbs:
            verb = self.choose(verbs)
            # It ends the session, so it should not come as often as the others.
            self._send(self.choose(ITEMS[self.choose(verbs) if verb is Verb.QUIT else verb]))

    def _in_order(self, verbs: Iterable[Verb]) -> list[Verb]:
        return [verb for verb in verbs if self.client._outstanding.assumed.check(verb, name_of(ITEMS[verb][0])) is None]

    def go_on(self) -> None:
        """The client says what leads on in the table, so that walks get somewhere."""
        if self.client.can_send_body:
            self._go_on_with_body()
            return
        verbs = self._in_order(ONWARD)
        if verbs:
            items = ITEMS[self.choose((verbs[0], verbs[0], *verbs[:3]))]
            self._send(self.choose(tuple(filter(self._is_offered, items)) or items))

    def _is_offered(self, item: Command) -> bool:
        try:
            self.client.check(item)
        except LocalProtocolError:
            return False
        return True

    def blurt(self) -> None:
        """The client says anything at all: property 4, a mistake changes nothing."""
        item = self.choose(WRONG)
        if not isinstance(item, Bdat | Data | Body | EndOfMessage) or not self.client.can_send_body:
            self._send(item)

    def _send(self, item: Command | Body | EndOfMessage) -> None:
        if isinstance(item, Mail | Rcpt):
            self.tallied &= "LIMITS" in self.client.capabilities
        if self._is_mistake(lambda: self.client.send(item)):
            return
        if self.client.closed is not None:
            return
        self._see(Body if isinstance(item, Body) else item.verb)
        match item:
            case Bdat():
                self._chunk = bytearray()
                self._chunks.append((item, self._chunk))
                if item.size:
                    self._go_on_with_body()
            case Data():
                self._data = bytearray()
            case _:
                pass

    def _is_mistake(self, act: Callable[[], object]) -> bool:
        mistake = attempt(self.client, act)
        self.checked[4] += mistake
        return mistake

    def _go_on_with_body(self) -> None:
        left = self.client._chunk.left
        if left:
            # What is not binary has no bare newlines, and perhaps a CR that waits for its LF.
            pieces = ((self.choose(PIECES) * 9)[:left] or b".", b"." * left, b"\n" + b"." * (left - 1))
            piece = next(piece for piece in pieces if not self._is_mistake(partial(self.client.send, Body(piece))))
            self._chunk += piece
        elif self.choose((False, True)):
            assert self.client.send(EndOfMessage())
        else:
            piece = self.choose(PIECES)
            assert self.client.send(Body(piece))
            self._data += piece

    def plan(self) -> None:
        """The application will say something else than yes."""
        for _ in range(self.choose((0, 1, 2, 5))):
            self.application.plan.append(YES)
        verdict = self.choose(self.choose((ANSWERS, CODES)))
        self.seen[verdict.name] += 1
        self.application.plan.append(verdict)

    def step(self) -> None:
        """Some pieces get somewhere, others do not yet."""
        for _ in range(self.choose((1, 2, 7))):
            self.pair.step()
        self.check()

    def settle(self) -> None:
        """All that is on its way arrives."""
        self.pair.drive()
        self.check()
        if self.honest:
            self._agree()

    def _agree(self) -> None:
        """Property 1 again: nothing is outstanding, and both phases agree."""
        if self.client.outstanding:
            # All that can be missing is octets of a chunk, which are the client's to send.
            assert self.client._chunk.left
            return
        assert self.client.phase is self.server.phase
        if self.client.phase < Phase.CLOSING:
            assert (self.client.tls is None) is (self.server.tls is None)
            assert self.client._session.has_transaction is self.server._talk.session.has_transaction
        self._agree_on_limits()
        # Neither has caught the other at breaking a rule, but for those that bound what a peer may spend.
        assert self.client.closed is None or self.client.closed.violation is None
        assert self.server.closed is None or self.server.closed.violation in BOUNDS
        self.seen["agreed"] += 1

    def _agree_on_limits(self) -> None:
        """RFC 9422 section 4: whoever counts what was sent never sees more room than whoever counts what was taken."""
        limits = server_limits(self.client.capabilities)
        sent, taken = self.client.tally, self.server._hearing._tally
        for command in ITEMS[Verb.RCPT if self.server._talk.session.has_transaction else Verb.MAIL]:
            spent = sent.excess(command, limits) is not None
            assert spent or not self.tallied or taken.excess(command, limits) is None
            self.seen["LIMITS are spent"] += spent

    def wait(self) -> None:
        """Time passes, and whatever deadline comes meanwhile is kept, as by a driver: who waits has asked for what."""
        self.pair._client.pull(self.pair._server.arrive)
        self.pair._server.pull(self.pair._to_client)
        until = self.pair.clock.now + self.choose((0, 0.5, 2, 59, 59, 119, 119, 181, 299, 301, 4000))
        for end in self.ends:
            self._too_early(end)
        while True:
            deadlines = [end.machine.deadline for end in self.ends]
            earliest = min((deadline for deadline in deadlines if deadline is not None), default=until)
            if earliest >= until:
                break
            self.pair.clock.jump_to(max(earliest, self.pair.clock.now))
            for end in self.ends:
                end.expire()
                self._lies_ahead(end)
            self.pair.drive()
            self.check()
        self.pair.clock.jump_to(until)
        for end in self.ends:
            end.expire()
            self._lies_ahead(end)
        self.settle()

    def _too_early(self, end: End[ServerEvent] | End[ClientEvent]) -> None:
        deadline = end.machine.deadline
        if deadline is None or deadline > self.pair.clock.now:
            before = snapshot(end.machine)
            end.machine.handle_timeout()
            assert snapshot(end.machine) == before

    def _lies_ahead(self, end: End[ServerEvent] | End[ClientEvent]) -> None:
        """Property 3: after `handle_timeout()` the deadline is never past."""
        deadline = end.machine.deadline
        assert deadline is None or deadline > self.pair.clock.now
        self.checked[3] += 1

    def interrupt(self) -> None:
        """The server's application does something between two events."""
        self.by_the_book = False
        verdict = self.choose((*ANSWERS, *ANSWERS, self.choose(CODES)))
        if verdict is not SLOW and verdict is not YES:
            self.checked[4] += attempt(self.server, lambda: verdict.give(self.server))

    def leave(self) -> None:
        """One side, or the wire, gives up."""
        self.by_the_book = False
        self.choose((self.client.close, self.pair.lose))()
        self.settle()
        assert self.client.phase is Phase.CLOSED

    def noise(self) -> None:
        """Octets come from nowhere: property 2, none of them raises."""
        self.honest = self.by_the_book = False
        data = self.choose(NOISE)
        self.choose(self.ends).arrive(data)
        self.step()

    # What has to hold.

    def check(self) -> None:
        for end in self.ends:
            closed = self.server.closed if end is self.pair._server else self.client.closed
            assert closed is None or end.machine.deadline is None
        self.checked[2] += 1
        # Property 5: what is held stays below what the limits add up to.
        assert weight(self.server) < HELD
        assert weight(self.client) < HELD
        assert len(self.server.recipients) <= LIMITS.recipients
        assert self.server._talk.out.size <= LIMITS.unsent + 2 * 512
        self.checked[5] += 1
        self._see(self.client.phase)
        for event in self.pair.client_events:
            if isinstance(event, ReplyReceived):
                event.reply.relayed().encode(enhanced=True)
        self.pair.client_events.clear()

    def end(self) -> None:
        """Whatever there is to wait for, it does not last: neither side is left open by a silent peer."""
        self.settle()
        for _ in range(4):
            if not self.pair.jump():
                break
            self.check()
        assert self.server.closed is not None
        if self.by_the_book and self.setting.tls is None:
            self.check_replay()

    def check_replay(self) -> None:
        """Property 7: a recorded session replays to the same octets, with the same events and the same trace."""
        again = Application(self.application.used)
        replayed = self.pair.recording.replay(again)
        assert replayed.received == self.pair.received
        assert list(replayed.events) == self.pair.server_events
        assert list(replayed.records) == self.pair.records
        assert again.used == self.application.used
        self.checked[7] += 1


# What may come from nowhere, to either side.
NOISE: Final = (
    b"\r\n",
    b"\0\xff\r\n",
    b"QUIT\r\n",
    b"RSET\r\nMAIL FROM:<>\r\nRCPT TO:<you@example.org>\r\nDATA\r\n",
    b".\r\n",
    b"\r\n.\r\nNOOP\r\n",
    b"BDAT 5 LAST\r\n",
    b"AUTH PLAIN\r\n*\r\n",
    b"250 2.0.0 yes\r\n",
    b"354 go on\r\n",
    b"334 \r\n",
    b"421 later\r\n",
    b"250-one\r\n550 two\r\n",
    b"\x16\x03\x01\x00\x05hello",
    b"x" * 1500,
)

# The acts, with how often each should come.
ACTS: Final[tuple[Callable[[Model], None], ...]] = (
    *[Model.go_on] * 12,
    *[Model.settle] * 8,
    *[Model.speak] * 3,
    Model.plan,
    Model.step,
    Model.blurt,
    Model.wait,
    Model.interrupt,
)
RARE: Final[tuple[Callable[[Model], None], ...]] = (Model.leave, Model.noise)


def walk(model: Model, steps: int, acts: Sequence[Callable[[Model], None]] = ACTS) -> Model:
    """Lets `steps` things happen, and then ends the session."""
    if model.choose((False,) * 9 + (True,)):
        model.application.plan.append(REFUSED)
    model.settle()
    for _ in range(steps):
        model.choose(acts)(model)
    model.end()
    return model
