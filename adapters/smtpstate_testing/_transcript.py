"""Transcripts: a dialogue as text.

    C: EHLO client.example.com      a line that the client sends; CRLF follows it
    S: 250-mx.example.org           a line that the server sends
    S: ...                          any lines; "..." inside a line is any text
    C: half a li\\                   a backslash at its end: no CRLF follows
    C: \\xff\\x0a\\                    octets that are no printable ASCII; a backslash is \\\\
    T: 300                          so many seconds pass
    C closes                        the client sends no more
    S closes                        the server does not either

Empty lines mean nothing, nor do those that begin with "#".
"""

from __future__ import annotations

import re
from textwrap import dedent
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from smtpstate_testing._link import Input

_LINE: Final = re.compile(r"([CST]): ?(.*)|([CS]) closes")
_ESCAPED: Final = re.compile(r"\\(?:x([0-9a-f]{2})|(\\))")
_SPECIAL: Final = re.compile(rb"[^ -\[\]-~]")
ANY: Final = "..."


@final
class Line(NamedTuple):
    """A line of a transcript. `side` is "C", "S", or "T" for time; `text` is as it is written there.

    With `closes` it says that this side sends no more.
    """

    side: str
    text: str
    closes: bool = False

    def __str__(self) -> str:
        return f"{self.side} closes" if self.closes else f"{self.side}: {self.text}".rstrip(" ")

    @property
    def octets(self) -> bytes:
        """What goes over the wire. Raises ValueError for a backslash that means nothing."""
        text, end = self.text, b"\r\n"
        if (len(text) - len(text.rstrip("\\"))) % 2:
            text, end = text[:-1], b""
        octets, at = b"", 0
        for found in _ESCAPED.finditer(text):
            octets += _verbatim(text[at : found.start()]) + (bytes([int(found[1], 16)]) if found[1] else b"\\")
            at = found.end()
        return octets + _verbatim(text[at:]) + end

    def fits(self, other: Line) -> bool:
        """Whether `other` is what this one says."""
        if self.side != other.side or self.closes is not other.closes:
            return False
        return re.fullmatch(".*".join(map(re.escape, self.text.split(ANY))), other.text) is not None


def _verbatim(text: str) -> bytes:
    if "\\" in text:
        raise ValueError(f"a backslash that means nothing: {text!r}")
    return text.encode("utf-8")


def _escape(found: re.Match[bytes]) -> bytes:
    return b"\\\\" if found[0] == b"\\" else b"\\x%02x" % ord(found[0])


def _written(octets: bytes) -> str:
    text = _SPECIAL.sub(_escape, octets).decode("ascii")
    return f"{text[:-1]}\\x20" if text.endswith(" ") else text


def _normal(text: str) -> str:
    """The same with what `_written` would have escaped."""
    text = "".join(one if one.isascii() else "".join(f"\\x{octet:02x}" for octet in one.encode()) for one in text)
    return f"{text[:-1]}\\x20" if text.endswith(" ") else text


def lines_of(side: str, octets: bytes) -> list[Line]:
    """The octets that one side says, as lines."""
    *whole, rest = (_written(line) for line in octets.split(b"\r\n"))
    return [Line(side, text) for text in (*whole, *((rest + "\\",) if rest else ()))]


def parse_transcript(text: str) -> list[Line]:
    """The lines of a transcript. Raises ValueError, naming the line, for what is none."""
    lines: list[Line] = []
    for number, row in enumerate(dedent(text).splitlines(), 1):
        if not row.strip() or row.startswith("#"):
            continue
        found = _LINE.fullmatch(row)
        if found is None:
            raise ValueError(f'line {number} begins with neither "C: ", "S: " nor "T: ": {row!r}')
        line = Line(found[3], "", closes=True) if found[3] else Line(found[1], _normal(found[2]))
        if line.side == "T":
            float(line.text)
        elif not line.closes and ANY not in line.text:
            line.octets  # noqa: B018  # it raises for a backslash that means nothing
        lines.append(line)
    return lines


# Writing one down.

Piece: TypeAlias = "tuple[float, str, bytes | None]"  # when, who, and what; None for the end


def pieces(inputs: Sequence[Input], said: Iterable[tuple[int, bytes | None]]) -> list[Piece]:
    """Both sides in order: a server's `inputs`, and what it `said`, after how many of them, None being its end.

    That is the last: whether the client closes as well changes nothing any more.
    """
    found: list[Piece] = []
    done, time = 0, 0.0
    for count, octets in (*said, (len(inputs), b"")):
        for item in inputs[done:count]:
            time = item.at
            if item.what == "data":
                found.append((time, "C", item.data))
            elif item.what != "timeout":
                found.append((time, "C", None))
        done = max(done, count)
        found.append((time, "S", octets))
        if octets is None:
            break
    return [piece for piece in found if piece[2] != b""]


def write(pieces: Iterable[Piece]) -> str:
    """The transcript of what was said when."""
    lines: list[Line] = []
    pending: tuple[str, bytes] = ("", b"")
    now = 0.0

    def flush() -> None:
        nonlocal pending
        lines.extend(lines_of(*pending))
        pending = ("", b"")

    for at, side, octets in pieces:
        if at > now or octets is None or pending[0] != side:
            flush()
        if at > now:
            lines.append(Line("T", f"{at - now:.9g}"))
            now = at
        if octets is None:
            lines.append(Line(side, "", closes=True))
        else:
            pending = (side, pending[1] + octets)
    flush()
    return "".join(f"{line}\n" for line in lines)
