"""Opposite: the other side of a scenario, on a socket and in a thread, with TLS as Python has it."""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import suppress
from functools import cache
from threading import Thread
from typing import TYPE_CHECKING, Final, final

from smtpstate_testing._check_driver import PATIENCE
from smtpstate_testing._counterpart import Counterpart, Mismatch
from smtpstate_testing._dialogue import Act
from smtpstate_testing._scenario import HOSTNAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from smtpstate_testing._dialogue import Side
    from smtpstate_testing._scenario import Mode, Scenario

_RECEIVE: Final = 65_536
_LINGER_NOT: Final = struct.pack("ii", 1, 0)  # to close is to reset


@cache
def plain_context(side: Side) -> ssl.SSLContext:
    """A context as Python makes it, hardened by nobody, whose certificates trustme makes."""
    from smtpstate_testing._certificates import authority  # it needs trustme, which not every test does

    if side == "C":
        context = ssl.create_default_context(cadata=authority().cert_pem.bytes().decode())
    else:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        with authority().issue_cert(HOSTNAME, "127.0.0.1").private_key_and_cert_chain_pem.tempfile() as path:
            context.load_cert_chain(path)
    return context


@final
class Opposite:
    """Plays one side of a scenario on a socket, which `connected` gives, in a thread, and closes it."""

    def __init__(
        self,
        connected: Callable[[], socket.socket],
        scenario: Scenario,
        mode: Mode,
        side: Side,
        patience: float = PATIENCE,
    ) -> None:
        self._connected: Final = connected
        self._counterpart: Final = Counterpart(side, scenario.steps(mode), context=plain_context(side))
        self._patience: Final = patience
        self._thread: Final = Thread(target=self._run, name=f"{scenario.name} ({mode})", daemon=True)
        self._failure: Exception | None = None

    def start(self) -> None:
        """Begins to play."""
        self._thread.start()

    def conclude(self, cause: Exception | None = None) -> None:
        """Waits for the end. Raises Mismatch."""
        self._thread.join(2 * self._patience)
        if self._thread.is_alive():
            raise Mismatch("the connection was left open") from cause
        if self._failure is not None:
            raise self._failure from cause

    def _run(self) -> None:
        try:
            with self._connected() as sock:
                sock.settimeout(self._patience)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each turn costs 40 ms
                self._play(sock)
        except Exception as error:
            self._failure = error

    def _play(self, sock: socket.socket) -> None:
        counterpart, shut = self._counterpart, False
        while True:
            with suppress(ConnectionError):  # reading tells what there is to tell
                while data := counterpart.to_send():
                    sock.sendall(data)
            if counterpart.ends is Act.RESET:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
                return
            if counterpart.ends is Act.FIN and not shut:
                shut = True
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_WR)
            try:
                octets = sock.recv(_RECEIVE)
            except ConnectionResetError:
                octets = b""
            except TimeoutError:
                raise Mismatch(counterpart.explain(f"nothing came for {self._patience} s")) from None
            counterpart.receive(octets)
            if not octets:
                return
