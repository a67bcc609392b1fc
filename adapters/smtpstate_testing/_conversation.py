"""What was said on a connection, in order, and what came of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from smtpstate import TlsInfo, TraceLine

# Whatever could make a line look like two, or like something else.
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f]")


def printable(data: bytes) -> list[str]:
    """The lines of `data`, with a name for each octet that could deceive a reader."""
    lines = [line.decode("ascii", "backslashreplace") for line in data.split(b"\r\n")]
    return [_UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", line) for line in lines]


def rendered(lines: Iterable[TraceLine]) -> str:
    """A traced conversation as text, one "C: " or "S: " before each line."""
    return "".join(f"{line.side}: {text}\n" for line in lines for text in printable(line.line.removesuffix(b"\r\n")))


@final
class Recorded(NamedTuple):
    """A message as a scripted server took it."""

    sender: str
    recipients: tuple[str, ...]
    data: bytes
    hello: str
    tls: TlsInfo | None


@final
class Conversation:
    """Octets in clear, by who said them. A piece that continues the last one is joined to it."""

    __slots__ = ("turns",)

    def __init__(self) -> None:
        self.turns: Final[list[tuple[str, bytearray]]] = []

    def heard(self, octets: bytes) -> None:
        """What the client said."""
        self._add("C", octets)

    def said(self, octets: bytes) -> None:
        """What the server said."""
        self._add("S", octets)

    def _add(self, side: str, octets: bytes) -> None:
        if not octets:
            return
        if not self.turns or self.turns[-1][0] != side:
            self.turns.append((side, bytearray()))
        self.turns[-1][1].extend(octets)

    def __str__(self) -> str:
        return "".join(
            f"{side}: {line}\n"
            for side, octets in self.turns
            for line in printable(bytes(octets).removesuffix(b"\r\n"))
        )
