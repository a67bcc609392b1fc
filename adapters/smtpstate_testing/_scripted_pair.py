"""ScriptedPair: a client and a script that serves it, joined in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from smtpstate import ClientConnection, ClientEvent, Limits, ServerEvent
from smtpstate.policy import MX
from smtpstate_testing._actor import Actor
from smtpstate_testing._clock import ManualClock
from smtpstate_testing._inbox import ReceivedMessage
from smtpstate_testing._joint import Joint
from smtpstate_testing._script import Course, Script

if TYPE_CHECKING:
    from smtpstate.extensions import Extension
    from smtpstate.policy import Policy
    from smtpstate_testing._link import Cut, Machine
    from smtpstate_testing._pair import PairTls


@final
class ScriptedPair(Joint):
    """A `ClientConnection` and a `Script`, and the wire between them. No socket, no thread, no sleep.

    `client.send(...)` and `drive()`, or `run(procedure)`, as with a Pair, which says what the other arguments mean.
    What was accepted is in `inbox`. A `Course` is what several connections to one server share: "the first time" is
    then the first over all of them.
    """

    def __init__(
        self,
        script: Script | Course,
        *,
        tls: PairTls | None = None,
        cut: Cut = None,
        client_hostname: str = "client.example.com",
        client_limits: Limits | None = None,
        client_extensions: tuple[Extension, ...] = (),
        client_policy: Policy = MX,
        timeout: float | None = None,
    ) -> None:
        clock = ManualClock()
        self.course: Final = script if isinstance(script, Course) else Course(script)
        implicit = tls == "implicit"
        client = ClientConnection(
            client_hostname,
            clock=clock,
            limits=client_limits,
            implicit_tls=implicit,
            timeout=timeout,
            lmtp=self.course.script.lmtp,
            extensions=client_extensions,
            policy=client_policy,
        )
        self.inbox: Final[list[ReceivedMessage]] = []
        self._actor: Final = Actor(self.course, clock, offers_tls=tls is not None, implicit_tls=implicit)
        self._actor.on_message = lambda message: self.inbox.append(
            ReceivedMessage(*message, transcript=self.transcript)
        )
        server_machine: Machine[ServerEvent] = self._actor
        client_machine: Machine[ClientEvent] = client
        if tls is not None:
            from smtpstate.tls import secure
            from smtpstate_testing._certificates import client_context, server_context

            hostname = self.course.script.hostname
            server_machine = secure(self._actor, server_context(hostname), server_side=True)
            client_machine = secure(client, client_context(), server_hostname=hostname)
        super().__init__(clock, client, client_machine, server_machine, lambda event: None, cut)

    @property
    def transcript(self) -> str:
        """The conversation, one "C: " or "S: " before each line; in clear text, whatever the wire carried."""
        return str(self._actor.recorded)

    def _server_left(self) -> None:
        if self._actor.resets:
            self._client.lose()
        else:
            super()._server_left()
