"""One scripted session over a socket, and what came back."""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.peers.programs import SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

# How either server says that a message is its own now.
_ACCEPTED: Final = re.compile(r"(?:queued|accepted) as ")


class Stored(NamedTuple):
    """A message that was accepted: local parts without quoting, newlines as LF, no trace headers."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes


class Talker:
    """A client that says what it is told to, and reads whole replies."""

    def __init__(self, port: int) -> None:
        self.replies: list[str] = []
        self.over = ""  # or "closed", or "silent", which no server ought to be
        self._buffer = b""
        self._socket = socket.create_connection(("127.0.0.1", port), SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        with suppress(ConnectionResetError, BrokenPipeError, ssl.SSLError):  # what was said before is still read
            self._socket.sendall(data)

    def start_tls(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._socket = context.wrap_socket(self._socket)

    def read(self, expected: str) -> str:
        """The first digits of as many replies as are expected, fewer where the server closes or says nothing."""
        digits = expected.partition(" ")[0]
        count = 0 if digits == "closed" else len(digits)
        if expected.endswith("closed"):
            count += 1  # one more than there should be
        found = ""
        while len(found) < count and (reply := self._reply()) is not None:
            self.replies.append(reply)
            found += reply[:1]
        return f"{found} {self.over}".strip()

    def rest(self) -> str:
        """Says that nothing more will come, and reads to the end."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        found = ""
        while (reply := self._reply()) is not None:
            self.replies.append(reply)
            found += reply[:1]
        return f"{found} {self.over}".strip()

    def _reply(self) -> str | None:
        lines: list[str] = []
        while (line := self._line()) is not None:
            lines.append(line)
            if line[3:4] != "-":
                return "\n".join(lines)
        return None

    def _line(self) -> str | None:
        while b"\n" not in self._buffer:
            try:
                data = self._socket.recv(65_536)
            except TimeoutError:
                self.over = "silent"
                return None
            except (ConnectionResetError, ssl.SSLError):
                data = b""
            if not data:
                self.over = "closed"
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r").decode("latin-1")


class Played(NamedTuple):
    """What was heard at each step, the greeting first; and the replies that took a message."""

    heard: list[str]
    accepted: list[str]


def play(port: int, steps: Sequence[tuple[bytes, str]]) -> Played:
    """Sends each step and waits for as many replies as it expects; then says nothing, and reads what is left."""
    talker = Talker(port)
    try:
        heard = [talker.read("2")]
        for send, expected in steps:
            if talker.over:
                break
            if expected == "tls":
                talker.start_tls()
                heard.append("tls")
                continue
            if send:
                talker.send(send)
            heard.append(talker.read(expected))
        if not talker.over:
            heard.append(talker.rest())
        return Played(heard, [reply for reply in talker.replies if _ACCEPTED.search(reply)])
    finally:
        talker.close()
