"""Scenarios: a dialogue, what each side is made of, and what has to come of it."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias, TypeVar, final

from smtpstate import (
    Auth,
    AuthResponse,
    Bdat,
    Body,
    CloseReason,
    Command,
    CommandRefused,
    Connected,
    Data,
    DeliveryError,
    Ehlo,
    EndOfMessage,
    Expn,
    Helo,
    Lhlo,
    Limits,
    Mail,
    Rcpt,
    Reply,
    ServerConfig,
    SessionRefused,
    Timer,
    TlsMode,
    TransactionReset,
    Violation,
    Vrfy,
)
from smtpstate.delivery import (
    AuthenticationFailed,
    Envelope,
    Wants,
    ask,
    authenticate,
    open_session,
    quit_session,
    send_message,
)
from smtpstate.sasl import (
    Challenge,
    Credentials,
    Failure,
    KeysNeeded,
    PasswordGiven,
    ScramKeys,
    Success,
    choose,
    password_work,
    server_mechanism,
)
from smtpstate_testing._dialogue import TLS, Act, Step, read_dialogue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from smtpstate import ClientConnection, ConnectionClosed, Delivery, ServerConnection, ServerEvent
    from smtpstate._events import Owed
    from smtpstate.delivery import Procedure, Recipient
    from smtpstate.extensions import Parameters
    from smtpstate.sasl import ServerMechanism

_T = TypeVar("_T")

Mode: TypeAlias = Literal["plain", "starttls", "implicit", "own"]
SeatName: TypeAlias = Literal["server", "client"]

HOSTNAME: Final = "mx.example.org"
CLIENT: Final = "client.example.com"
TLS_MODES: Final[Mapping[Mode, TlsMode]] = {
    "plain": TlsMode.OFF,
    "starttls": TlsMode.REQUIRED,
    "implicit": TlsMode.IMPLICIT,
}
# Those of the example in RFC 7677 section 3.
USER: Final = "user"
PASSWORD: Final = "pencil"
CLIENT_NONCE: Final = "rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE: Final = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
_SALT: Final = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
_SECRET: Final = b"the same octets in every session"


@final
@dataclass(frozen=True)
class Send:
    """One message, as `send_message` takes it. `body` is cut as it is here; `eight_bit` and `size` are found out."""

    body: tuple[bytes, ...] = (b"Subject: hello\r\n\r\nhello\r\n",)
    recipients: tuple[str | Recipient, ...] = ("you@example.org",)
    sender: str = "me@example.com"
    chunked: bool = False
    utf8: bool = False
    binary: bool = False
    parameters: Parameters = ()

    @property
    def octets(self) -> bytes:
        return b"".join(self.body)

    def envelope(self) -> Envelope:
        return Envelope(
            self.sender,
            self.recipients,
            len(self.octets),
            not self.octets.isascii(),
            self.chunked,
            self.parameters,
            self.utf8,
            self.binary,
        )


@final
@dataclass(frozen=True)
class Login:
    """AUTH with this mechanism."""

    mechanism: str = "PLAIN"
    password: str = PASSWORD

    @property
    def credentials(self) -> Credentials:
        return Credentials(USER, password=self.password)


@final
@dataclass(frozen=True)
class Ask:
    """One command, in lock-step."""

    command: Command


Action: TypeAlias = Send | Login | Ask
# What came of a message at a server: from whom, to whom, and its octets.
Took: TypeAlias = tuple[str, tuple[str, ...], bytes]
MESSAGE: Final[Took] = ("me@example.com", ("you@example.org",), Send().octets)


@final
@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A dialogue, and what has to come of it in each seat.

    `dialogue` is as `read_dialogue` takes it, and begins with the greeting; each mode puts its handshake where it
    belongs, but "own", for which the dialogue has its own. `seats` are those that can be under test: where one side
    breaks the rules, only the other can.

    Of a server: `config` (STARTTLS is added as the mode needs it), `verdicts`, and what has to come of it: `took`, what
    it `refused` by itself (None: whatever), `identity`, and how the connection ends. `verdicts` has what is said to
    "CONNECT", "EHLO", "HELO", "LHLO", "MAIL", "DATA", "BDAT", "VRFY", "EXPN", ".", or "RCPT ADDRESS", and yes is said
    to everything else; a tuple is said one by one. "refuse 550 ..." refuses a message early, and "late", which "BODY"
    may be, too, lets the time of the handler pass.

    Of a client: `actions`, after which it says goodbye; `limits`, `timeout`; and what has to come of it: `told`, a line
    for each recipient ("you@example.org accepted 250"), for each login, and each reply to an `Ask`; if the session ends
    by an exception its name is the last.
    """

    name: str
    why: str
    dialogue: str
    seats: tuple[SeatName, ...] = ("server", "client")
    modes: tuple[Mode, ...] = ("plain", "starttls", "implicit")
    # The server.
    config: ServerConfig = field(default_factory=lambda: ServerConfig(HOSTNAME))
    verdicts: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict[str, str | tuple[str, ...]])
    took: tuple[Took, ...] = ()
    refused: tuple[Violation, ...] | None = ()
    identity: str | None = None
    server_ends: CloseReason = CloseReason.QUIT
    server_violation: Violation | None = None
    server_timer: Timer | None = None
    # The client.
    actions: tuple[Action, ...] = ()
    limits: Limits | None = None
    timeout: float | None = None
    tls: TlsMode | None = None  # what "own" wants
    told: tuple[str, ...] = ()
    client_ends: CloseReason = CloseReason.QUIT
    client_violation: Violation | None = None
    client_timer: Timer | None = None

    def __str__(self) -> str:
        return self.name

    def steps(self, mode: Mode) -> tuple[Step, ...]:
        """The whole dialogue, with the handshake that `mode` wants."""
        steps = read_dialogue(self.dialogue)
        if mode == "implicit":
            return (TLS, *steps)
        if mode != "starttls":
            return steps
        hello = "LHLO" if self.config.lmtp else "EHLO"
        prologue = f"""
            C: {hello} {CLIENT}
            S: 250-{self.config.hostname}
            S: 250 STARTTLS
            C: STARTTLS
            S: 220 2.0.0
            * tls
        """
        assert steps[0].side == "S", "a dialogue begins with the greeting"
        return (steps[0], *read_dialogue(prologue), *steps[1:])

    def server_config(self, mode: Mode) -> ServerConfig:
        """`config`, with STARTTLS where the mode needs it, and AUTH in clear where there is no TLS."""
        return replace(
            self.config,
            starttls=self.config.starttls or mode == "starttls",
            auth_in_clear=bool(self.config.mechanisms) and mode in ("plain", "own"),
        )

    def tls_mode(self, mode: Mode) -> TlsMode:
        """What a client asks for."""
        return TLS_MODES.get(mode, self.tls or TlsMode.REQUIRED)

    @property
    def resets(self) -> bool:
        """Whether the connection breaks on the way."""
        return any(step.act is Act.RESET for step in read_dialogue(self.dialogue))


class Verdicts(Protocol):
    """What gives verdicts: a `ServerConnection`, or the session of an adapter."""

    @property
    def owed(self) -> Owed | None: ...
    def accept(self, text: str = "") -> bool: ...
    def reply(self, reply: Reply) -> bool: ...
    def refuse(self, reply: Reply) -> bool: ...


@final
class Host:
    """The application behind a server: says what the scenario says, and keeps what it took."""

    def __init__(self, scenario: Scenario, *, late: Callable[[], None] | None = None) -> None:
        self.scenario: Final = scenario
        self.took: Final[list[Took]] = []
        self.refused: Final[list[Violation]] = []
        self.identity: str | None = None
        self._late: Final = late
        self._said: Final[dict[str, int]] = {}
        self._sender: str = ""
        self._recipients: list[str] = []
        self._body: bytearray = bytearray()
        self._mechanism: ServerMechanism | None = None

    def on_event(self, seat: Verdicts, event: ServerEvent) -> None:
        """Gives the verdict that is owed, but for AUTH."""
        match event:
            case Connected():
                self._say(seat, "CONNECT")
            case Ehlo() | Helo() | Lhlo():
                self._say(seat, event.verb.name)
            case Mail(sender):
                self._sender, self._recipients, self._body = str(sender), [], bytearray()
                self._say(seat, "MAIL")
            case Rcpt(recipient):
                if self._say(seat, f"RCPT {recipient}"):
                    self._recipients.append(str(recipient))
            case Data():
                self._say(seat, "DATA")
            case Bdat():
                self._say(seat, "BDAT")
            case CommandRefused(violation=violation):
                self.refused.append(violation)
            case Body(data):
                self._body += data
                if "BODY" in self.scenario.verdicts:
                    self._say(seat, "BODY")
            case EndOfMessage():
                self._end(seat)
            case TransactionReset():
                self._recipients = []
            case Vrfy() | Expn() if seat.owed is event:
                self._say(seat, event.verb.name)
            case _:
                pass

    def _end(self, seat: Verdicts) -> None:
        """One verdict, or in LMTP one for each recipient."""
        recipients = tuple(self._recipients)
        accepted = [to for to in recipients if self._say(seat, ".")] if self.scenario.config.lmtp else recipients
        if not self.scenario.config.lmtp and not self._say(seat, "."):
            accepted = []
        if accepted:
            self.took.append((self._sender, tuple(accepted), bytes(self._body)))

    def _say(self, seat: Verdicts, what: str) -> bool:
        """Whether yes was said."""
        verdict = self.scenario.verdicts.get(what, "")
        if isinstance(verdict, tuple):
            count = self._said.get(what, 0)
            self._said[what] = count + 1
            verdict = verdict[count] if count < len(verdict) else ""
        if verdict == "late":
            assert self._late is not None, "only where time can be made to pass"
            self._late()
            return False
        if verdict.startswith("refuse "):
            seat.refuse(_reply(verdict.removeprefix("refuse ")))
            return False
        if verdict:
            seat.reply(_reply(verdict))
            return verdict.startswith("2")
        if what == "BDAT":
            return True  # nothing is owed
        if what == "." and self.scenario.config.lmtp:
            seat.reply(Reply(250, "Message accepted", enhanced="2.0.0"))
        else:
            seat.accept()
        return True

    def log_in(self, connection: ServerConnection, event: ServerEvent) -> None:
        """Answers AUTH for one user, `USER` with `PASSWORD`; the nonces are always the same."""
        if isinstance(event, Auth):
            self._mechanism = server_mechanism(
                event.mechanism, offered=connection.mechanisms, nonce=SERVER_NONCE, secret=_SECRET
            )
            step = self._mechanism.step(event.initial_response)
        elif isinstance(event, AuthResponse) and self._mechanism is not None:
            step = self._mechanism.step(event.data)
        else:
            return
        while isinstance(step, PasswordGiven | KeysNeeded):
            step = self._mechanism.answer(_known(step))
        if isinstance(step, Challenge):
            connection.challenge(step.data)
        elif isinstance(step, Success):
            connection.authenticated(step.identity)
            self.identity = step.identity
        elif isinstance(step, Failure):
            connection.reply(step.reply)


def _known(asked: PasswordGiven | KeysNeeded) -> str | ScramKeys | None:
    if asked.username != USER:
        return None
    if isinstance(asked, KeysNeeded):
        work = password_work(PASSWORD, _SALT)
        return ScramKeys.derive(work, work.run())
    return USER if asked.password == PASSWORD else None


def _reply(text: str) -> Reply:
    """ "550 5.1.1 Nobody of that name", or without an enhanced code, as a Reply."""
    code, _, rest = text.partition(" ")
    first, _, words = rest.partition(" ")
    if first[:1].isdigit():
        return Reply(int(code), words, enhanced=first)
    return Reply(int(code), rest)


# The client.


def summary(delivery: Delivery) -> list[str]:
    """A line for each recipient."""
    return [
        f"{one.address} {one.outcome.value}" + ("" if one.reply is None else f" {one.reply.code}")
        for one in delivery.results
    ]


def name_of(error: DeliveryError) -> str:
    """What an exception is told as."""
    if isinstance(error, SessionRefused):
        return f"SessionRefused {error.reply.code}"
    if isinstance(error, AuthenticationFailed) and error.reply is not None:
        return f"AuthenticationFailed {error.reply.code}"
    return type(error).__name__


def whole_session(client: ClientConnection, scenario: Scenario, mode: Mode) -> Procedure[list[str]]:
    """All that a client does in a scenario; what it was told. It wants events, and nothing else."""
    told: list[str] = []
    try:
        yield from open_session(client, scenario.tls_mode(mode))
        for action in scenario.actions:
            yield from _act(client, action, told)
            if client.closed is not None:
                break
    except DeliveryError as error:
        told.append(name_of(error))
    if client.closed is None:
        yield from quit_session(client)
    return told


def _act(client: ClientConnection, action: Action, told: list[str]) -> Procedure[None]:
    match action:
        case Send():
            told += summary((yield from _fed(send_message(client, action.envelope()), action.body)))
        case Login():
            secure = client.tls is not None
            mechanism = choose(
                (action.mechanism,), action.credentials, nonce=CLIENT_NONCE, secure=secure, in_clear=True
            )
            assert mechanism is not None
            try:
                yield from _fed(authenticate(client, mechanism), ())
            except AuthenticationFailed as error:
                told.append(name_of(error))
            else:
                told.append("logged in")
        case Ask(command):
            reply = yield from ask(client, command)
            told.append(str(reply.code))


def _fed(procedure: Procedure[_T], body: tuple[bytes, ...]) -> Procedure[_T]:
    """`procedure`, with everything but events given to it on the way."""
    chunks = iter(body)
    try:
        wanted = next(procedure)
        while True:
            match wanted:
                case Wants.EVENT:
                    given = yield wanted
                case Wants.CHUNK:
                    given = next(chunks, b"")
                case work:
                    given = work.run()
            wanted = procedure.send(given)
    except StopIteration as stop:
        result: _T = stop.value
        return result
    finally:
        procedure.close()


def check_server(scenario: Scenario, host: Host, closed: ConnectionClosed | None) -> None:
    """Raises AssertionError unless a server took what it had to take, and ended as it had to."""
    assert tuple(host.took) == scenario.took, f"took {host.took}, not {scenario.took}"
    assert scenario.refused in (None, tuple(host.refused)), f"refused {host.refused}, not {scenario.refused}"
    assert host.identity == scenario.identity, f"{host.identity!r} logged in, not {scenario.identity!r}"
    assert closed is not None, "the connection is still open"
    due = (scenario.server_ends, scenario.server_violation, scenario.server_timer)
    assert (closed.reason, closed.violation, closed.timer) == due, f"it ended as {closed}, not as {due}"


def check_client(scenario: Scenario, told: list[str], closed: ConnectionClosed | None) -> None:
    """Raises AssertionError unless a client was told what it had to be told, and ended as it had to."""
    assert tuple(told) == scenario.told, f"told {told}, not {list(scenario.told)}"
    assert closed is not None, "the connection is still open"
    due = (scenario.client_ends, scenario.client_violation, scenario.client_timer)
    assert (closed.reason, closed.violation, closed.timer) == due, f"it ended as {closed}, not as {due}"
