"""Everything that looks like the end of a message and is none: data for tests and for the documentation.

Each `near` stands in the middle of content, after an octet that is not CR and before one that is not LF or a dot. It
must not end the message; `content` is what it is once the dots in front of lines are off, and `normalized` what it is
once each bare CR and LF is a CRLF besides.
"""

import re
from typing import Final, NamedTuple

from smtpstate._newlines import Anomaly

CR: Final = Anomaly.BARE_CR
LF: Final = Anomaly.BARE_LF
NUL: Final = Anomaly.NUL


class NearTerminator(NamedTuple):
    """One row: on the wire, what comes out, what is noted, and why it is here."""

    near: bytes
    content: bytes
    anomalies: frozenset[Anomaly]
    reason: str

    @property
    def normalized(self) -> bytes:
        """The same with clean newlines; a dot that then stands alone on its line is content all the same."""
        return re.sub(rb"\r\n|\r|\n", b"\r\n", self.content)


def _row(near: bytes, content: bytes, reason: str, *anomalies: Anomaly) -> NearTerminator:
    return NearTerminator(near, content, frozenset(anomalies), reason)


NEAR_TERMINATORS: Final[tuple[NearTerminator, ...]] = (
    # One of the two newlines is short of an octet, or both are.
    _row(b"\n.\n", b"\n.\n", "LF for both newlines, as a Unix file has them", LF),
    _row(b"\n.\r\n", b"\n.\r\n", "LF before the dot", LF),
    _row(b"\r\n.\n", b"\r\n\n", "LF after the dot, which stood at the start of a line and goes", LF),
    _row(b"\r.\r", b"\r.\r", "CR for both newlines", CR),
    _row(b"\r.\r\n", b"\r.\r\n", "CR before the dot", CR),
    _row(b"\r\n.\r", b"\r\n\r", "CR after the dot, which stood at the start of a line and goes", CR),
    _row(b"\r.\n", b"\r.\n", "CR before, LF after", CR, LF),
    _row(b"\n.\r", b"\n.\r", "LF before, CR after", CR, LF),
    _row(b".\r\n", b".\r\n", "no newline before the dot: the end of a sentence"),
    _row(b"\r\n.", b"\r\n", "no newline after the dot: a line that a sender did not stuff"),
    # An octet too many.
    _row(b"\r\n.\r\r\n", b"\r\n\r\r\n", "CR CR LF after the dot", CR),
    _row(b"\r\n\r.\r\n", b"\r\n\r.\r\n", "a CR between the newline and the dot", CR),
    _row(b"\r\n\n.\r\n", b"\r\n\n.\r\n", "an LF between the newline and the dot", LF),
    _row(b"\r\n.\n\r\n", b"\r\n\n\r\n", "an LF between the dot and the newline", LF),
    _row(b"\r\r.\r\r", b"\r\r.\r\r", "two CR on each side", CR),
    _row(b"\n\n.\n\n", b"\n\n.\n\n", "two LF on each side", LF),
    _row(b"\n\r.\n\r", b"\n\r.\n\r", "the newline the wrong way round, on each side", CR, LF),
    _row(b"\n\r.\r\n", b"\n\r.\r\n", "the newline the wrong way round before the dot", CR, LF),
    _row(b"\r\n.\r.\r\n", b"\r\n\r.\r\n", "CR and a second dot before the newline", CR),
    # Another octet beside the dot.
    _row(b"\r\n..\r\n", b"\r\n.\r\n", "a stuffed dot: a line that holds one dot"),
    _row(b"\r\n...\r\n", b"\r\n..\r\n", "a stuffed dot: a line that holds two"),
    _row(b"\r\n..", b"\r\n.", "a stuffed dot at the start of a longer line"),
    _row(b"\r\n. \r\n", b"\r\n \r\n", "a space after the dot"),
    _row(b"\r\n .\r\n", b"\r\n .\r\n", "a space before the dot"),
    _row(b"\r\n.\t\r\n", b"\r\n\t\r\n", "a tab after the dot"),
    _row(b"\r\n\t.\r\n", b"\r\n\t.\r\n", "a tab before the dot"),
    _row(b"\r\n.\x1a\r\n", b"\r\n\x1a\r\n", "the end-of-file mark of DOS after the dot"),
    # NUL, which C programs stop at or skip.
    _row(b"\r\n.\0\r\n", b"\r\n\0\r\n", "NUL after the dot", NUL),
    _row(b"\r\n\0.\r\n", b"\r\n\0.\r\n", "NUL before the dot", NUL),
    _row(b"\r\0\n.\r\n", b"\r\0\n.\r\n", "NUL inside the first newline", CR, LF, NUL),
    _row(b"\r\n.\r\0\n", b"\r\n\r\0\n", "NUL inside the second newline", CR, LF, NUL),
    # What something other than SMTP takes for a newline or for a dot.
    _row(b"\x0b.\x0b", b"\x0b.\x0b", "vertical tabs, where str.splitlines() splits"),
    _row(b"\x0c.\x0c", b"\x0c.\x0c", "form feeds, where str.splitlines() splits"),
    _row(b"\x1e.\x1e", b"\x1e.\x1e", "record separators, where str.splitlines() splits"),
    _row(b"\x85.\x85", b"\x85.\x85", "NEL in ISO 8859-1"),
    _row(b"\xc2\x85.\xc2\x85", b"\xc2\x85.\xc2\x85", "NEL in UTF-8"),
    _row(b"\xe2\x80\xa8.\xe2\x80\xa8", b"\xe2\x80\xa8.\xe2\x80\xa8", "LINE SEPARATOR in UTF-8"),
    _row(b"\r\n\xef\xbc\x8e\r\n", b"\r\n\xef\xbc\x8e\r\n", "FULLWIDTH FULL STOP in UTF-8"),
    _row(b"\r\n\xae\r\n", b"\r\n\xae\r\n", "a dot with the eighth bit set"),
    _row(b"\x8d\x8a.\x8d\x8a", b"\x8d\x8a.\x8d\x8a", "newlines with the eighth bit set"),
    _row(b"\\r\\n.\\r\\n", b"\\r\\n.\\r\\n", "the escapes, spelled out"),
    _row(b"=0D=0A.=0D=0A", b"=0D=0A.=0D=0A", "newlines in quoted-printable"),
    _row(b"\r\n=2E\r\n", b"\r\n=2E\r\n", "a dot in quoted-printable"),
)
