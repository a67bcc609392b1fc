"""What was said on a connection, in order, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, final

from smtpstate.trace import TraceLine, render

if TYPE_CHECKING:
    from collections.abc import Iterable

    from smtpstate import TlsInfo
    from smtpstate.trace import TraceRecord


def rendered(records: Iterable[TraceRecord]) -> str:
    """The lines of a traced conversation as text."""
    return render(record for record in records if isinstance(record, TraceLine))


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
        return render(TraceLine(side, bytes(octets)) for side, octets in self.turns)
