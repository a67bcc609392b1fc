"""Pair: a server and a client joined in memory, under a clock that moves when told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final

from smtpstate import (
    Body,
    ClientConnection,
    ClientEvent,
    Data,
    EndOfMessage,
    Limits,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    TransactionReset,
)
from smtpstate.policy import MX
from smtpstate.trace import TraceVerdict
from smtpstate_testing._clock import ManualClock
from smtpstate_testing._conversation import rendered
from smtpstate_testing._inbox import ReceivedMessage
from smtpstate_testing._joint import Joint
from smtpstate_testing._recording import DEFAULT, PEER, Handler, Recording, accept_everything

if TYPE_CHECKING:
    from smtpstate.extensions import Extension
    from smtpstate.policy import Policy
    from smtpstate.trace import TraceRecord
    from smtpstate_testing._link import Cut, Machine

PairTls: TypeAlias = Literal["starttls", "implicit"]


@final
class Pair(Joint):
    """A `ServerConnection` and a `ClientConnection`, and the wire between them. No socket, no thread, no sleep.

    What the server accepted is in `inbox`. `config` and `limits` are the server's; without a `config`, a client that
    does not wait for replies is let go on (`EarlyInput.NOTE`). `handler` sees the server's events and gives its
    verdicts, and what it raises comes out here. `cut` says how what one side writes is cut into what the other reads:
    into pieces of that many octets, or of those sizes in turn; None leaves it whole. With `tls` both sides use real
    TLS, with certificates that trustme makes ("starttls" offers it, "implicit" begins with it). `timeout` bounds the
    client's session. A `trusted` client may say XCLIENT and XFORWARD, if `config` offers them. `client_policy` is about
    the server's replies.

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
        config = config or DEFAULT
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
            trace=lambda record: self.records.append(record),
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
            trace=lambda record: self.client_records.append(record),
        )
        self._trusted: Final = trusted
        self.inbox: Final[list[ReceivedMessage]] = []
        self._handler: Final = handler
        self._body: Final = bytearray()
        self.records: Final[list[TraceRecord]] = []  # the server's trace
        self.client_records: Final[list[TraceRecord]] = []  # the client's
        server_machine: Machine[ServerEvent] = self.server
        client_machine: Machine[ClientEvent] = client
        if tls is not None:
            from smtpstate.tls import secure
            from smtpstate_testing._certificates import client_context, server_context

            server_machine = secure(self.server, server_context(config.hostname))
            client_machine = secure(client, client_context(), server_hostname=config.hostname)
        super().__init__(clock, client, client_machine, server_machine, self._on_event, cut)

    @property
    def recording(self) -> Recording:
        """What reached the server from outside so far, with all that it takes to let it happen again.

        Nothing is left out of it, passwords neither. With TLS it does not happen again: keys are new each time.
        """
        return Recording(self.inputs, self.server.config, self._trusted)

    # What was said.

    @property
    def transcript(self) -> str:
        """The conversation, one "C: " or "S: " before each line; in clear text, whatever the wire carried."""
        return rendered(self.records)

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
        server, transaction, said = self.server, self.server.transaction, len(self.records)
        self._handler(server, event)
        verdicts = [record for record in self.records[said:] if isinstance(record, TraceVerdict)]
        taken = any(verdict.reply.code // 100 == 2 for verdict in verdicts)
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
