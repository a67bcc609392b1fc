"""ScriptServer: a script on a port, for any client."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, final

from smtpstate_testing._actor import Actor
from smtpstate_testing._inbox import ReceivedMessage
from smtpstate_testing._script import Course, Script
from smtpstate_testing._sockets import ThreadedListener, drive, reset

if TYPE_CHECKING:
    import socket
    import threading
    from ssl import SSLContext
    from types import TracebackType

    from smtpstate import ServerEvent
    from smtpstate_testing._link import Machine


@final
class ScriptServer:
    """A script on a free port of `host`, which listens while it is entered as a context, in threads of its own.

    With `tls`, a server's SSLContext, it offers STARTTLS, or begins with TLS if `implicit_tls`. `inbox` has what was
    accepted, `transcripts` what was said on each connection, the first one first. Time is real here.
    """

    def __init__(
        self,
        script: Script,
        *,
        host: str = "127.0.0.1",
        tls: SSLContext | None = None,
        implicit_tls: bool = False,
    ) -> None:
        self.host: Final = host
        self.port: int = 0
        self.inbox: Final[list[ReceivedMessage]] = []
        self._actors: Final[list[Actor]] = []
        self._course: Final = Course(script)
        self._tls: Final = tls
        self._implicit_tls: Final = implicit_tls
        self._listener: ThreadedListener | None = None

    @property
    def transcripts(self) -> list[str]:
        """What was said on each connection, in the order in which they came."""
        return [str(actor.recorded) for actor in self._actors]

    def __enter__(self) -> ScriptServer:
        self._listener = ThreadedListener(self.host, self._serve)
        self.port = self._listener.port
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._listener is not None:
            self._listener.close()

    def _serve(self, sock: socket.socket, stop: threading.Event) -> None:
        actor = Actor(self._course, time.monotonic, offers_tls=self._tls is not None, implicit_tls=self._implicit_tls)
        actor.on_message = lambda message: self.inbox.append(ReceivedMessage(*message, transcript=str(actor.recorded)))
        self._actors.append(actor)
        machine: Machine[ServerEvent] = actor
        if self._tls is not None:
            from smtpstate.tls import secure

            machine = secure(actor, self._tls, server_side=True)
        drive(sock, machine, lambda event: None, stop)
        if actor.resets:
            reset(sock)
