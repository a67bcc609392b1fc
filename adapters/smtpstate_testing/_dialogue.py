"""Dialogues: what both sides of a session say, as text."""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, NamedTuple, TypeAlias, final

Side: TypeAlias = Literal["C", "S"]


class Act(Enum):
    """What a line of a dialogue does."""

    SAY = "octets"
    FIN = "fin"  # the side closes what it writes to
    RESET = "reset"  # the connection breaks
    STAY = "stay"  # the side does not close, whatever happens: how the dialogue ends
    DROP = "drop"  # from here on the side ignores what it hears
    TLS = "tls"  # a handshake


@final
class Step(NamedTuple):
    """One thing that one side does."""

    side: Side
    act: Act
    octets: bytes = b""

    def __str__(self) -> str:
        if self.act is not Act.SAY:
            return f"{self.side}* {self.act.value}"
        lines = self.octets.decode("latin-1").splitlines() or [""]
        return "\n".join(f"{self.side}: {line}" for line in lines)


TLS: Final = Step("C", Act.TLS)


def read_dialogue(text: str) -> tuple[Step, ...]:
    """The steps of a dialogue; lines of it are indented as you like.

    "C: EHLO me" and "S: 250 OK" are lines, in UTF-8, which end by CRLF. "C= ab\\x00" are octets as they are, with
    Python's escapes; an empty "S=" is any reply. "C* fin" closes the side's half of the connection, "C* reset" breaks
    it, and with "C* stay" as the last line it is left open. After "S* drop" the server ignores whatever else is said to
    it. "* tls" is a handshake. The lines of one reply are one step. Raises ValueError.
    """
    steps: list[Step] = []
    for line in text.splitlines():
        what, _, rest = line.strip().partition(" ")
        match what:
            case "":
                continue
            case "C:" | "S:":
                octets = f"{rest}\r\n".encode()
                last = steps[-1] if steps else None
                if what == "S:" and last and last.side == "S" and _goes_on(last.octets):
                    steps[-1] = Step("S", Act.SAY, last.octets + octets)
                else:
                    steps.append(Step("C" if what == "C:" else "S", Act.SAY, octets))
            case "C=" | "S=":
                octets = rest.encode("ascii").decode("unicode_escape").encode("latin-1")
                steps.append(Step("C" if what == "C=" else "S", Act.SAY, octets))
            case "C*" | "S*":
                steps.append(Step("C" if what == "C*" else "S", Act(rest)))
            case "*" if rest == "tls":
                steps.append(TLS)
            case _:
                raise ValueError(f"not a line of a dialogue: {line!r}")
    return tuple(steps)


def _goes_on(reply: bytes) -> bool:
    """Whether another line of this reply follows."""
    lines = reply.splitlines()
    return bool(lines) and lines[-1][3:4] == b"-"
