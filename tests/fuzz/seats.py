"""What the fuzzing does with octets: it plays each seat against them, and says what has to hold whatever they are.

No octets raise; after `handle_timeout()` the deadline is not past; what is held stays within the limits; a machine
ends, and gives no more events than its input can account for; each reply that leaves our server is one, and each line
that leaves our client is a command of our own server's grammar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final

from smtpstate import (
    Auth,
    AuthResponse,
    Body,
    ClientConnection,
    ClientEvent,
    Command,
    CommandRefused,
    Connected,
    ConnectionClosed,
    EndOfMessage,
    Expn,
    Flow,
    Limits,
    LocalProtocolError,
    NoRecipients,
    Rcpt,
    Reply,
    ReplyReceived,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    Verb,
    Vrfy,
)
from smtpstate._commands import AuthCancel
from smtpstate._config import CARRIED, OFFERS, TRUSTED
from smtpstate._lines import Line, LineEnding
from smtpstate._params import MAIL_PARAMETERS
from smtpstate._proxy import ProxyHeader, ProxyReader, ProxyVersion
from smtpstate._replies import ReplyReader
from smtpstate._syntax import COMMANDS, NOT_IMPLEMENTED, find_verb, parse_command, parse_response
from smtpstate.extensions import BUILT_IN, OwnCommand, tables
from smtpstate.policy import EarlyInput, WireRules
from smtpstate.tls import secure
from smtpstate_testing import ManualClock
from smtpstate_testing._certificates import client_context, server_context
from tests.near_terminators import NEAR_TERMINATORS
from tests.property.model import ITEMS, OWN
from tests.property.snapshots import weight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from smtpstate_testing._link import Machine

Side: TypeAlias = Literal["server", "client"]

CORPUS: Final = Path(__file__).with_name("corpus")
CUTS: Final = (1, 2, 3, 99, None)
ENDS: Final = ("eof", "lost", "timeout")

LIMITS: Final = Limits(
    message=1000,
    unsent=600,
    linger=300,
    command_line=800,
    auth_line=2000,
    reply_line=1000,
    reply=2000,
    reply_lines=30,
    recipients=3,
    commands=200,
    errors=40,
    junk=60,
    auth_failures=20,
)
# Octets that a machine holds at most, besides the piece it has just been given. A line is held as it came, as `raw` and
# parsed; so are those of the hello and of the transaction. The rest is a reply, output, and its own words.
HELD: Final = 3 * (LIMITS.auth_line + (LIMITS.recipients + 2) * LIMITS.command_line) + LIMITS.reply + 4000


def corpus(side: Side) -> list[Path]:
    return sorted((CORPUS / side).iterdir())


@final
@dataclass
class Trial:
    """One input in one seat. `seen` names what came of it."""

    machine: Machine[object]
    clock: ManualClock
    held: Callable[[], int]
    allowed: int
    on_event: Callable[[object], None]
    on_output: Callable[[bytes], None]
    fed: int = 0
    events: int = 0
    seen: set[str] = field(default_factory=set)
    ahead: Callable[[], bytes] = bytes  # what is to be read before anything is drained

    def pull(self) -> Flow | None:
        """All events, and all output; None when it is over."""
        flushes = 0
        while True:
            event = self.machine.next_event()
            if isinstance(event, Flow):
                if piece := self.ahead():
                    self.machine.receive_data(piece)
                    continue
                drained = self.drain()
                flushes = 0 if drained else flushes + 1
                if event is Flow.NEED_FLUSH and flushes < 3:
                    continue
                assert event is not Flow.NEED_FLUSH, "it waits for what has left"
                return event
            self.note(event)
            self.on_event(event)
            if isinstance(event, ConnectionClosed):
                self.drain()
                assert self.machine.deadline is None
                assert self.machine.next_event() == event, "the end stays the end"
                return None

    def drain(self) -> bool:
        drained = False
        while data := self.machine.data_to_send():
            drained = True
            self.on_output(data)
        return drained

    def note(self, event: object) -> None:
        self.events += 1
        assert self.events <= self.allowed, "more events than octets can account for"
        match event:
            case CommandRefused(violation=violation, reply=reply):
                self.seen |= {violation.name, f"{violation.name} {reply.code}"}
            case ConnectionClosed(reason=reason, violation=broken):
                self.seen |= {f"closed {reason.name}", broken.name if broken else f"closed {event.timer}"}
            case ReplyReceived(to=to, reply=reply):
                self.seen.add(f"{type(to).__name__} answered {reply.code // 100}yz")
            case _:
                self.seen.add(type(event).__name__)

    def feed(self, piece: bytes) -> Flow | None:
        self.machine.receive_data(piece)
        flow = self.pull()
        self.fed += 1
        if len(piece) > 50 or self.fed % 50 == 0:  # looking takes longer than an octet does
            assert self.held() <= HELD + 2 * len(piece), "more is held than the limits allow"
        return flow

    def finish(self, end: str) -> None:
        """No more comes, in one way or another: the session ends, and soon."""
        if end == "eof":
            self.machine.receive_eof()
        elif end == "lost":
            self.machine.connection_lost()
        for _ in range(100):  # more than replies can be late
            if self.pull() is None:
                return
            deadline = self.machine.deadline
            if deadline is None:
                return  # a client that waits for nothing: its owner's turn
            self.clock.jump_to(max(deadline, self.clock.now))
            self.machine.handle_timeout()
            deadline = self.machine.deadline
            assert deadline is None or deadline > self.clock.now, "past, and handled"
        raise AssertionError("a session without an end")


def pieces(data: bytes, cut: int | None) -> Iterator[bytes]:
    size = cut or max(1, len(data))
    return (data[start : start + size] for start in range(0, len(data), size))


# The server's seat.

_NOTING: Final = WireRules(early_input=EarlyInput.NOTE)  # or hardly any of a dialogue would get past its hello
_CONFIG: Final = ServerConfig(
    "mx.example.org",
    LIMITS,
    starttls=True,
    offers=OFFERS | CARRIED - {"REQUIRETLS"},
    asks_vrfy=True,
    asks_expn=True,
    mechanisms=("PLAIN", "LOGIN"),
    auth_in_clear=True,
    extensions=(OWN,),
    wire=_NOTING,
)


@final
@dataclass(frozen=True)
class ServerSeat:
    name: str
    config: ServerConfig = _CONFIG
    tls: bool = False
    implicit: bool = False
    proxy: ProxyVersion | None = None
    looks: bool = False  # its driver reads before it drains, where that matters


SERVER_SEATS: Final = (
    ServerSeat("SMTP"),
    ServerSeat("LMTP", replace(_CONFIG, lmtp=True)),
    ServerSeat("trusted peer", replace(_CONFIG, offers=_CONFIG.offers | TRUSTED.keys())),
    ServerSeat("few", replace(_CONFIG, limits=replace(LIMITS, transactions=2, recipient_domains=2))),
    ServerSeat("nothing offered", ServerConfig("mx.example.org", LIMITS, offers=frozenset(), wire=_NOTING)),
    ServerSeat("nothing early", replace(_CONFIG, wire=WireRules())),
    ServerSeat("nothing early, and it looks", replace(_CONFIG, wire=WireRules()), looks=True),
    ServerSeat("submission", replace(_CONFIG, requires_tls=True, requires_auth=True)),
    ServerSeat("STARTTLS", tls=True),
    ServerSeat("implicit TLS", tls=True, implicit=True),
    ServerSeat("PROXY 1", proxy=1),
    ServerSeat("PROXY 2", proxy=2),
)


def _decide(server: ServerConnection, event: ServerEvent) -> None:
    """Says yes to most, no to some, and nothing to a few: what it is depends on the event alone."""
    if server.owed is not event:
        return
    if isinstance(event, Connected):
        server.trusted = True  # with what `offers` has for trusted peers, if anything
    match event:
        case Auth(initial_response=None):
            server.challenge(b"who?")
        case Auth(initial_response=response) | AuthResponse(data=response):
            if response:
                server.authenticated("me")
            else:
                server.reply(Reply(535))
        case Rcpt(recipient=recipient):
            if recipient.address.startswith("no"):
                server.reply(Reply(450))
            elif not recipient.address.startswith("silence"):
                server.accept()
        case Vrfy(text=text) | Expn(text=text) | OwnCommand(argument=text):
            server.reply(Reply(250, text) if len(text) < 400 else Reply(502))
        case _:
            server.accept()


_CODE: Final = re.compile(rb"[2-5][0-5][0-9][ -]")


def check_replies(said: bytes) -> None:
    """RFC 5321 sections 4.2 and 4.5.3.1.5."""
    assert not said or said.endswith(b"\r\n")
    reader = ReplyReader(1000, 65_536)
    whole = True
    for line in said.split(b"\r\n")[:-1]:
        assert len(line) <= 510, line
        assert _CODE.match(line), line
        whole = reader.add(Line(line, LineEnding.CRLF, too_long=False)) is not None
    assert whole, "a reply without its last line"


def play_server(data: bytes, cut: int | None, seat: ServerSeat, end: str = "timeout") -> set[str]:
    """`data` as what a client sends, in pieces; what came of it."""
    clock = ManualClock()
    server = ServerConnection(seat.config, clock=clock, implicit_tls=seat.implicit)
    machine: Machine[ServerEvent] = secure(server, server_context("mx.example.org")) if seat.tls else server
    said = bytearray()

    def on_event(event: object) -> None:
        _decide(server, event)  # type: ignore[arg-type]  # the server's machine gives the server's events

    trial = Trial(machine, clock, lambda: weight(server), 20 + 3 * len(data), on_event, said.extend)
    given = pieces(data, cut)
    if seat.proxy is not None:
        rest = _after_proxy(data, cut, seat.proxy, clock, trial.seen)
        if rest is None:
            return trial.seen
        given = iter(rest)
    if seat.looks:
        trial.ahead = lambda: next(given, b"") if server.reads_first else b""
    flow = trial.pull()
    for piece in given:
        if flow is None:
            break
        flow = trial.feed(piece)
    trial.finish(end)
    assert server.closed is not None
    if not seat.tls:
        check_replies(bytes(said))
    return trial.seen


def _after_proxy(
    data: bytes, cut: int | None, version: ProxyVersion, clock: ManualClock, seen: set[str]
) -> list[bytes] | None:
    """The pieces that are left for the connection; None when there is no header."""
    reader = ProxyReader(version, clock=clock)
    given = pieces(data, cut)
    event = reader.next_event()
    while event is Flow.NEED_DATA:
        piece = next(given, None)
        if piece is None:
            assert reader.deadline is not None
            clock.jump_to(reader.deadline)
            reader.handle_timeout()
        else:
            reader.receive_data(piece)
        assert weight(reader) <= 4096 + 2 * len(piece or b"")
        event = reader.next_event()
        assert reader.deadline is None or reader.deadline > clock.now
    assert reader.data_to_send() == b""
    seen.add(f"PROXY {reader.fault} {type(event).__name__}")
    return [reader.trailing_data, *given] if isinstance(event, ProxyHeader) else None


# The client's seat.


@final
@dataclass(frozen=True)
class ClientSeat:
    name: str
    lmtp: bool = False
    tls: bool = False
    implicit: bool = False
    eager: bool = False  # says all that it may before it reads


CLIENT_SEATS: Final = (
    ClientSeat("SMTP"),
    ClientSeat("eager", eager=True),
    ClientSeat("LMTP", lmtp=True, eager=True),
    ClientSeat("STARTTLS", tls=True),
    ClientSeat("implicit TLS", tls=True, implicit=True),
)

_MESSAGE: Final = (Verb.MAIL, Verb.RCPT, Verb.RCPT)
_SCRIPT: Final = (
    *(Verb.LHLO, Verb.EHLO, Verb.OWN, Verb.XFORWARD, Verb.XCLIENT, Verb.AUTH, Verb.RESPONSE, Verb.RESPONSE),
    *(*_MESSAGE, Verb.DATA, *_MESSAGE, Verb.BDAT, Verb.RSET, Verb.NOOP, Verb.VRFY, Verb.EXPN, Verb.HELP),
    *(Verb.STARTTLS, Verb.EHLO, *_MESSAGE, Verb.DATA, Verb.HELO, *_MESSAGE, Verb.DATA, Verb.RSET, Verb.QUIT),
)
SCRIPTED: Final = frozenset(_SCRIPT)
_REPLY: Final = re.compile(rb"(?:[0-9]{3}-[^\n]*\n)*[^\n]*\n?")


@final
class _Talker:
    """Says the next thing of the script that may be said, and looks at what leaves."""

    def __init__(self, client: ClientConnection, seat: ClientSeat) -> None:
        self.client: Final = client
        self.seat: Final = seat
        self.script: Final = list(_SCRIPT)
        self.content: bool = False  # what leaves next is content
        self.lone_dot: bool = False  # what leaves next begins with a lone dot, that of no recipients
        self.exchange: bool = False  # what leaves next is a response

    def on_event(self, event: object) -> None:
        if isinstance(event, NoRecipients):
            self.lone_dot = True

    def on_output(self, data: bytes) -> None:
        if self.content or self.seat.tls:
            return
        if self.lone_dot:
            assert data.startswith(b".\r\n")
            data, self.lone_dot = data[3:], False
        assert not data or data.endswith(b"\r\n")
        for line in data.split(b"\r\n")[:-1]:
            parsed = parse_response(line) if self.exchange else parse_command(find_verb(line, {"XRUN"}), line)
            assert isinstance(parsed, Command)

    def say(self, trial: Trial) -> bool:
        """Whether there was something to say."""
        client = self.client
        if client.can_send_body:
            self.content = True
            left = client._chunk.left
            assert client.send(Body(b"." * left if left else (b".hello\r\n" * 100)[:99]))
            if not client._chunk.left and client.can_send_body:
                assert client.send(EndOfMessage())
            trial.drain()
            self.content = False
            return True
        while self.script:
            item = ITEMS[self.script.pop(0)][0]
            self.exchange = isinstance(item, AuthResponse | AuthCancel)
            try:
                sent = client.send(item)
            except LocalProtocolError:
                self.exchange = False
                continue
            trial.drain()
            self.exchange = False
            return sent
        return False


def play_client(data: bytes, cut: int | None, seat: ClientSeat, end: str = "timeout") -> set[str]:
    """`data` as what a server sends, a reply at a time, or all at once where it is not cut; what came of it."""
    clock = ManualClock()
    client = ClientConnection(
        "client.example.com",
        clock=clock,
        limits=LIMITS,
        lmtp=seat.lmtp,
        implicit_tls=seat.implicit,
        timeout=3000,
        extensions=(OWN,),
    )
    machine: Machine[ClientEvent] = client
    if seat.tls:
        machine = secure(client, client_context(), server_hostname="mx.example.org")
    talker = _Talker(client, seat)
    trial = Trial(machine, clock, lambda: weight(client), 60 + 3 * len(data), talker.on_event, talker.on_output)
    given = [data] if cut is None else [p for reply in _REPLY.findall(data) for p in pieces(reply, cut)]
    flow = trial.pull()
    while flow is not None and given:
        if flow is Flow.NEED_COMMAND or client.can_send_body or (seat.eager and client.outstanding < 8):
            while talker.say(trial) and seat.eager and not client.can_send_body:
                pass
            flow = trial.pull()
            if client.can_send_body or (flow is Flow.NEED_COMMAND and talker.script):
                continue
        flow = None if flow is None else trial.feed(given.pop(0))
    trial.finish(end)
    client.close()
    trial.finish("eof")
    assert client.closed is not None
    return trial.seen


# Mutations.

TOKENS: Final = (
    *(verb.name.encode() for verb in COMMANDS),
    b"XRUN",
    *(name.encode() for name in sorted(NOT_IMPLEMENTED)),
    *(b" %s=" % name.encode() for table in tables()[:2] for name in sorted({*table, *MAIL_PARAMETERS})),
    *(b"250-%s\r\n" % name.encode() for name in sorted({*OFFERS, *CARRIED, *BUILT_IN, "STARTTLS", "AUTH PLAIN"})),
    *(row.near for row in NEAR_TERMINATORS),
    *(b"\r\n", b"\n", b"\r", b"\0", b"\xff", b"\t", b" ", b"<", b">", b"@", b'"', b"\\", b":", b"=", b"*", b"-", b"."),
    *(b"\r\n.\r\n", b"FROM:<>", b"TO:<you@example.org>", b" LAST", b" 0 LAST", b"9223372036854775807", b"0"),
    *(b"220 ", b"250 ", b"334 ", b"354 ", b"421 ", b"450 ", b"550-", b"999 ", b"250-\r\n", b"2.0.0 ", b"5.7.1 "),
    *(
        b"PROXY TCP4 ",
        b"\r\n\r\n\0\r\nQUIT\n",
        b"\x16\x03\x03",
        b"\x15\x03\x03\0\2\2\x28",
        b"\xef\xbb\xbf",
        b"\xc3\xbc",
    ),
)


def mutate(random: Random, data: bytes, others: list[bytes]) -> bytes:
    """`data` spliced, cut, doubled, flipped, or with something put into it; a few times over."""
    for _ in range(random.randint(0, 6)):
        start = random.randint(0, len(data))
        end = min(len(data), start + random.randint(0, 40))
        match random.randint(0, 6):
            case 0:
                other = random.choice(others)
                data = data[:start] + other[random.randint(0, len(other)) :]
            case 1:
                data = data[:start] + data[end:]
            case 2:
                data = data[:end] + data[start:end] * random.randint(1, 3) + data[end:]
            case 3 if start < len(data):
                flipped = data[start] ^ 1 << random.randint(0, 7)
                data = data[:start] + bytes([flipped]) + data[start + 1 :]
            case 4:
                data = data[:start] + bytes(random.randint(0, 255) for _ in range(random.randint(1, 4))) + data[start:]
            case 5:
                data = data[:start] + random.choice(others) + data[start:]
            case _:
                data = data[:start] + random.choice(TOKENS) + data[start:]
    return data[:20_000]


def play(side: Side, data: bytes, random: Random) -> set[str]:
    """`data` in a seat of that side, cut and ended in a way that `random` decides."""
    cut, end = random.choice((*CUTS, 7, 40)), random.choice(ENDS)
    if side == "server":
        server_seat = random.choice(SERVER_SEATS)
        return {f"{server_seat.name}: {what}" for what in play_server(data, cut, server_seat, end)}
    client_seat = random.choice(CLIENT_SEATS)
    return {f"{client_seat.name}: {what}" for what in play_client(data, cut, client_seat, end)}
