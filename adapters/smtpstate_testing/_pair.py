"""Pair: a server and a client joined in memory, under a clock that moves when told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final

from smtpstate import (
    Auth,
    AuthResponse,
    Body,
    ClientConnection,
    ClientEvent,
    Data,
    EndOfMessage,
    Expn,
    Limits,
    Peer,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    TraceLine,
    TransactionReset,
    Vrfy,
)
from smtpstate.extensions import OwnCommand
from smtpstate.policy import MX
from smtpstate_testing._clock import ManualClock
from smtpstate_testing._conversation import rendered
from smtpstate_testing._inbox import ReceivedMessage
from smtpstate_testing._joint import Joint
from smtpstate_testing._link import End, Input

if TYPE_CHECKING:
    from collections.abc import Iterable

    from smtpstate.extensions import Extension
    from smtpstate.policy import Policy
    from smtpstate_testing._link import Cut, Machine

Handler: TypeAlias = Callable[[ServerConnection, ServerEvent], None]
PairTls: TypeAlias = Literal["starttls", "implicit"]

HOSTNAME: Final = "mx.example.org"
PEER: Final = Peer("192.0.2.1", 40_000)


def accept_everything(server: ServerConnection, event: ServerEvent) -> None:
    """A handler that says yes to all mail; nobody is authenticated by it."""
    if server.owed is event and not isinstance(event, Vrfy | Expn | OwnCommand | Auth | AuthResponse):
        server.accept()


@final
class Pair(Joint):
    """A `ServerConnection` and a `ClientConnection`, and the wire between them. No socket, no thread, no sleep.

    What the server accepted is in `inbox`. `config` and `limits` are the server's; `handler` sees its events and gives
    its verdicts, and what it raises comes out here. `cut` says how what one side writes is cut into what the other
    reads: into pieces of that many octets, or of those sizes in turn; None leaves it whole. With `tls` both sides use
    real TLS, with certificates that trustme makes ("starttls" offers it, "implicit" begins with it). `timeout` bounds
    the client's session. A `trusted` client may say XCLIENT and XFORWARD, if `config` offers them. `client_policy` is
    about the server's replies.

    Two ways to use it. As a pair: `client.send(...)` and `drive()`, or `run(procedure)`. Raw: `talk(...)` and
    `drip(...)` send the server whatever octets you like; from then on the client is out of it.
    """

    def __init__(
        self,
        config: ServerConfig | None = None,
        *,
        limits: Limits | None = None,
        client_limits: Limits | None = None,
        client_hostname: str = "client.example.com",
        timeout: float | None = None,
        cut: Cut = None,
        tls: PairTls | None = None,
        trusted: bool = False,
        handler: Handler = accept_everything,
        client_extensions: tuple[Extension, ...] = (),
        client_policy: Policy = MX,
    ) -> None:
        config = config or ServerConfig(HOSTNAME)
        config = replace(
            config, limits=config.limits if limits is None else limits, starttls=config.starttls or tls == "starttls"
        )
        implicit = tls == "implicit"
        clock = ManualClock()
        self.server: Final = ServerConnection(
            config,
            clock=clock,
            peer=PEER,
            implicit_tls=implicit,
            trusted=trusted,
            trace=self._trace,
        )
        client = ClientConnection(
            client_hostname,
            clock=clock,
            limits=client_limits,
            implicit_tls=implicit,
            timeout=timeout,
            lmtp=config.lmtp,
            extensions=client_extensions,
            policy=client_policy,
        )
        self.inbox: Final[list[ReceivedMessage]] = []
        self._handler: Final = handler
        self._body: Final = bytearray()
        self._lines: Final[list[TraceLine]] = []
        server_machine: Machine[ServerEvent] = self.server
        client_machine: Machine[ClientEvent] = client
        if tls is not None:
            from smtpstate.tls import secure
            from smtpstate_testing._certificates import client_context, server_context

            server_machine = secure(self.server, server_context(config.hostname))
            client_machine = secure(client, client_context(), server_hostname=config.hostname)
        super().__init__(clock, client, client_machine, server_machine, self._on_event, cut)

    # What was said.

    @property
    def transcript(self) -> str:
        """The conversation, one "C: " or "S: " before each line; in clear text, whatever the wire carried."""
        return rendered(self._lines)

    def _on_event(self, event: ServerEvent) -> None:
        match event:
            case Body(data):
                self._body.extend(data)
                self._handler(self.server, event)
            case EndOfMessage():
                self._take(event)
            case _:
                if isinstance(event, Data | TransactionReset):
                    self._body.clear()
                self._handler(self.server, event)

    def _take(self, event: EndOfMessage) -> None:
        """Keeps the message, if the handler's verdict, or one of them, is a yes."""
        server, transaction, said = self.server, self.server.transaction, len(self._lines)
        self._handler(server, event)
        taken = any(line.side == "S" and line.line.startswith(b"2") for line in self._lines[said:])
        if taken and transaction is not None:
            self.inbox.append(
                ReceivedMessage(
                    sender=transaction.mail.reverse_path.address,
                    recipients=tuple(rcpt.recipient.address for rcpt in transaction.recipients),
                    data=bytes(self._body),
                    hello=server.hello.domain if server.hello is not None else "",
                    tls=server.tls,
                    transcript=self.transcript,
                )
            )
        self._body.clear()

    def _trace(self, line: TraceLine) -> None:
        self._lines.append(line)


def replay(
    inputs: Iterable[Input],
    config: ServerConfig | None = None,
    *,
    limits: Limits | None = None,
    handler: Handler = accept_everything,
) -> bytes:
    """What a new server says when the same inputs reach it at the same times.

    With the same `config` and `handler` it is what the old one said, if nothing was encrypted and the peer did read.
    """
    config = config or ServerConfig(HOSTNAME)
    clock = ManualClock()
    connection = ServerConnection(
        replace(config, limits=config.limits if limits is None else limits), clock=clock, peer=PEER
    )
    server = End[ServerEvent](connection, clock, None, lambda event: handler(connection, event))
    said = bytearray()
    server.pull(said.extend)
    for item in inputs:
        clock.jump_to(item.at)
        server.apply(item)
        server.pull(said.extend)
    return bytes(said)
