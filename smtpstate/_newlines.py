"""Newlines: CRLF is the only one (RFC 5321 section 2.3.8); what is done about a CR or an LF that stands alone."""

from __future__ import annotations

from enum import Enum, unique
from typing import Final, final


@final
@unique
class BareNewline(Enum):
    """What a server does about a bare CR or a bare LF. RFC 5321 section 2.3.8.

    In no case does anything but CRLF.CRLF end a message, and in each `EndOfMessage.anomalies` tells what was there.
    """

    REJECT = "a command that ends with LF alone ends the session; a message with a bare CR or LF is refused at its end"
    NORMALIZE = "such a command is taken; in a message each bare CR and each bare LF becomes CRLF"
    NOTE = "such a command is taken, and a message stays as it is"


@final
@unique
class Anomaly(Enum):
    """What content should not hold; RFC 5321 sections 2.3.8 and 4.1.1.4, RFC 5322 section 4.1 for NUL."""

    BARE_CR = "bare CR"
    BARE_LF = "bare LF"
    NUL = "NUL"


_BARE: Final = frozenset({Anomaly.BARE_CR, Anomaly.BARE_LF})
_NOTHING: Final[frozenset[Anomaly]] = frozenset()


@final
class Newlines:
    """Reads content, however it is cut: notes what it should not hold, and with `normalize` makes its newlines CRLF.

    `found` is what was noted so far; a CR that came last is not bare until the octet after it is known, or `finish()`
    says that there is none. A CRLF that was made is never cut: a CR at the end of a piece comes out as CRLF at once,
    and an LF that follows is then swallowed.
    """

    __slots__ = ("_after_cr", "_normalize", "found")

    def __init__(self, *, normalize: bool) -> None:
        self._normalize: Final = normalize
        self._after_cr: bool = False
        self.found: frozenset[Anomaly] = _NOTHING

    @property
    def bare(self) -> frozenset[Anomaly]:
        """The bare newlines among what was found."""
        return self.found & _BARE

    def copy(self) -> Newlines:
        """Another one that has read the same."""
        other = Newlines(normalize=self._normalize)
        other._after_cr, other.found = self._after_cr, self.found
        return other

    def read(self, content: bytes) -> bytes:
        """The next piece, as it is to be handed on; the same object when there was nothing to change."""
        if not content:
            return content
        completes = self._after_cr and content.startswith(b"\n")
        pairs = content.count(b"\r\n")
        returns = content.count(b"\r") - pairs
        feeds = content.count(b"\n") - pairs
        ends_in_cr = content.endswith(b"\r")
        if returns > ends_in_cr or (self._after_cr and not completes):
            self.found |= {Anomaly.BARE_CR}
        if feeds > completes:
            self.found |= {Anomaly.BARE_LF}
        if b"\0" in content:
            self.found |= {Anomaly.NUL}
        self._after_cr = ends_in_cr
        if not self._normalize or not (returns or feeds):
            return content
        if completes:
            content = content[1:]
        return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")

    def finish(self) -> None:
        """Nothing follows."""
        if self._after_cr:
            self.found |= {Anomaly.BARE_CR}
            self._after_cr = False
