"""Replies: the value, its bytes, and the reader that builds it from lines (RFC 5321 section 4.2, RFC 2034)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, final

from smtpstate._errors import Fault, GrammarError, LocalProtocolError, SMTPStateError
from smtpstate._lines import Line, LineEnding
from smtpstate._policy import MX, REPLY_FAULTS, Deviation, Notes, Policy

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_REPLY_LINE: Final = 512  # octets, code and CRLF included; RFC 5321 section 4.5.3.1.5

# Reply-code = %x32-35 %x30-35 %x30-39 ; RFC 5321 section 4.2
_SENT_CODES: Final = re.compile(r"[2-5][0-5][0-9]")

# Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF ; RFC 5321 section 4.2
# Deviations: any second digit (REPLY_CODE), and any octet in the text (CONTROL_IN_REPLY, EIGHT_BIT_REPLY).
_REPLY_LINE: Final = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)

# status-code = class "." subject "." detail ; RFC 3463 section 2
# class = "2" / "4" / "5", subject = 1*3digit, detail = 1*3digit, both without leading zeros
_ENHANCED: Final = re.compile(r"([245])\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})")

# What must never stand in a reply: C0 but HT, DEL, C1, the line breaks that only Unicode knows, lone surrogates.
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# textstring = 1*(%d09 / %d32-126) ; RFC 5321 section 4.2. Octets that it does not have, in lines with their endings.
_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)")

_NONE: Final = frozenset[Deviation]()
_GENERIC_CODES: Final = {2: 250, 3: 354, 4: 451, 5: 554}


@final
class EnhancedCode:
    """An enhanced status code such as 5.7.1.

    `class_` is 2, 4 or 5; `subject` and `detail` are 0 to 999. LocalProtocolError otherwise. RFC 3463 section 2.
    """

    __match_args__ = ("class_", "subject", "detail")
    __slots__ = ("_class", "_detail", "_subject")

    def __init__(self, class_: int, subject: int, detail: int) -> None:
        if class_ not in (2, 4, 5) or not 0 <= subject <= 999 or not 0 <= detail <= 999:
            raise LocalProtocolError(f"no enhanced status code: {class_}.{subject}.{detail}")
        self._class = class_
        self._subject = subject
        self._detail = detail

    @classmethod
    def parse(cls, text: str) -> EnhancedCode | None:
        """Read "5.7.1"; None when that is not what it says. Never raises."""
        match = _ENHANCED.fullmatch(text)
        return None if match is None else cls(int(match[1]), int(match[2]), int(match[3]))

    @property
    def class_(self) -> int:
        """2 success, 4 persistent transient failure, 5 permanent failure."""
        return self._class

    @property
    def subject(self) -> int:
        """What the code is about; RFC 3463 section 3."""
        return self._subject

    @property
    def detail(self) -> int:
        """What happened to it; RFC 3463 section 3."""
        return self._detail

    def __str__(self) -> str:
        return f"{self._class}.{self._subject}.{self._detail}"

    def __repr__(self) -> str:
        return f"EnhancedCode({self._class}, {self._subject}, {self._detail})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EnhancedCode):
            return NotImplemented
        return (self._class, self._subject, self._detail) == (other._class, other._subject, other._detail)

    def __hash__(self) -> int:
        return hash((self._class, self._subject, self._detail))


@final
class Reply:
    """A reply: a code, its lines of text, and perhaps an enhanced status code.

    The text is not checked here, since what a peer sent is a Reply too; `encode()` checks it. A Reply has at least one
    line, perhaps an empty one. `enhanced` may be given as text; LocalProtocolError when that is no enhanced code.
    `raw` is what the receiver saw, line endings included, and `deviations` says how that departs from the grammar, as
    far as the policy flags it; neither takes part in comparisons. RFC 5321 section 4.2.
    """

    __match_args__ = ("code", "lines", "enhanced")
    __slots__ = ("_code", "_deviations", "_enhanced", "_lines", "_raw")

    def __init__(
        self,
        code: int,
        *lines: str,
        enhanced: EnhancedCode | str | None = None,
        raw: bytes = b"",
        deviations: frozenset[Deviation] = _NONE,
    ) -> None:
        if isinstance(enhanced, str):
            parsed = EnhancedCode.parse(enhanced)
            if parsed is None:
                raise LocalProtocolError(f"no enhanced status code: {enhanced!r}")
            enhanced = parsed
        self._code = code
        self._lines = lines or ("",)
        self._enhanced = enhanced
        self._raw = raw
        self._deviations = deviations

    @property
    def code(self) -> int:
        """The three digits."""
        return self._code

    @property
    def lines(self) -> tuple[str, ...]:
        """The text of each line, without code and enhanced code."""
        return self._lines

    @property
    def enhanced(self) -> EnhancedCode | None:
        """The enhanced status code, or None."""
        return self._enhanced

    @property
    def text(self) -> str:
        """All lines, joined with a space."""
        return " ".join(self._lines)

    @property
    def raw(self) -> bytes:
        """The octets that it came in, line endings included; empty where it did not come from a peer."""
        return self._raw

    @property
    def deviations(self) -> frozenset[Deviation]:
        """How those octets depart from the grammar, as far as the policy flags it."""
        return self._deviations

    def __str__(self) -> str:
        # A peer's text may hold escape sequences or line breaks, and this goes to logs and terminals.
        parts = (str(self._code), str(self._enhanced or ""), _FORBIDDEN.sub("?", self.text))
        return " ".join(part for part in parts if part)

    def __repr__(self) -> str:
        arguments = [repr(self._code), *map(repr, self._lines)]
        if self._enhanced is not None:
            arguments.append(f"enhanced={str(self._enhanced)!r}")
        return f"Reply({', '.join(arguments)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Reply):
            return NotImplemented
        return (self._code, self._lines, self._enhanced) == (other._code, other._lines, other._enhanced)

    def __hash__(self) -> int:
        return hash((self._code, self._lines, self._enhanced))

    def encode(self, *, enhanced: bool, utf8: bool = False) -> bytes:
        """The bytes of this reply, each line ended by CRLF.

        With `enhanced`, each line of a 2yz, 4yz or 5yz reply carries the enhanced code, X.0.0 when there is none
        (RFC 2034 section 4). Without `utf8`, characters beyond ASCII become "?" (RFC 6531 section 3.7.4.2). Raises
        LocalProtocolError for a code outside RFC 5321's grammar, an enhanced code of another class, a control
        character, or a line of more than 512 octets.
        """
        code = str(self._code)
        if _SENT_CODES.fullmatch(code) is None:
            raise LocalProtocolError(f"no reply code: {code}")
        if self._enhanced is not None and self._enhanced.class_ != self._code // 100:
            raise LocalProtocolError(f"a {code} reply cannot carry {self._enhanced}")
        prefix = _prefix(self._code, self._enhanced) if enhanced else ""
        last = len(self._lines) - 1
        encoded: list[bytes] = []
        for index, line in enumerate(self._lines):
            if _FORBIDDEN.search(line) is not None:
                raise LocalProtocolError(f"control character in the text of a reply: {line!r}")
            separator = " " if index == last else "-"
            octets = f"{code}{separator}{prefix}{line}\r\n".encode(*_codec(utf8=utf8))
            if len(octets) > MAX_REPLY_LINE:
                raise LocalProtocolError(f"reply line of {len(octets)} octets, at most {MAX_REPLY_LINE} are allowed")
            encoded.append(octets)
        return b"".join(encoded)

    def relayed(self) -> Reply:
        """This reply made fit to be passed on: what comes out can be encoded, whatever an upstream sent.

        Control characters become spaces, lone surrogates "?"; a line is cut to what 512 octets hold even in UTF-8; a
        code outside the grammar becomes the general one of its class (451 when it has none); an enhanced code of
        another class is dropped.
        """
        code = self._code
        if _SENT_CODES.fullmatch(str(code)) is None:
            code = _GENERIC_CODES.get(code // 100, 451)
        enhanced = self._enhanced
        if enhanced is not None and enhanced.class_ != code // 100:
            enhanced = None
        room = MAX_REPLY_LINE - len("250 ") - len(_prefix(code, enhanced)) - len("\r\n")
        return Reply(code, *(_fit(line, room) for line in self._lines), enhanced=enhanced)


@final
class Refusal(SMTPStateError):
    """Raised by a handler to answer with a 4yz or 5yz reply. LocalProtocolError for any other code."""

    def __init__(self, code: int, *lines: str, enhanced: EnhancedCode | str | None = None) -> None:
        if code // 100 not in (4, 5):
            raise LocalProtocolError(f"a refusal is 4yz or 5yz, not {code}")
        super().__init__(code, *lines)
        self.reply: Final = Reply(code, *lines, enhanced=enhanced)

    @classmethod
    def of(cls, reply: Reply) -> Refusal:
        """The refusal that answers with this reply."""
        return cls(reply.code, *reply.lines, enhanced=reply.enhanced)

    def __str__(self) -> str:
        return str(self.reply)


@final
class ReplyReader:
    """Builds replies from lines.

    `max_lines` and `max_octets` (line endings included) bound one reply, and so what is held here. `policy` says what
    becomes of a reply that breaks the grammar and is understood; `rejected` is the deviation that was not taken.
    """

    __slots__ = ("_code", "_lines", "_max_lines", "_max_octets", "_octets", "_policy", "_raw", "rejected")

    def __init__(self, max_lines: int, max_octets: int, policy: Policy = MX) -> None:
        self._max_lines = max_lines
        self._max_octets = max_octets
        self._policy = policy
        self._code = b""
        self._lines: list[str] = []
        self._raw: list[bytes] = []
        self._octets = 0
        self.rejected: Deviation | None = None

    @property
    def midway(self) -> bool:
        """Whether lines of a reply were read and its last is missing."""
        return bool(self._lines)

    def add(self, line: Line, *, utf8: bool = False, coded: bool = False) -> Reply | None:
        """Take one line: the reply when it was the last one, else None.

        With `utf8` the text may be UTF-8, with `coded` each line has to carry the enhanced code: what is said with the
        last line counts. Raises GrammarError with REPLY_TOO_LONG, REPLY_SYNTAX or REPLY_MIXED_CODES, and then starts
        afresh. Octets that are not UTF-8 become U+FFFD. RFC 5321 section 4.2.1.
        """
        octets = line.data + (b"\r\n" if line.ending is LineEnding.CRLF else b"\n")
        self._octets += len(octets)
        if line.too_long or len(self._lines) >= self._max_lines or self._octets > self._max_octets:
            self._start_afresh()
            raise GrammarError(Fault.REPLY_TOO_LONG)
        match = _REPLY_LINE.fullmatch(line.data)
        if match is None:
            self._start_afresh()
            raise GrammarError(Fault.REPLY_SYNTAX)
        code, separator, text = match.groups(b"")
        if self._lines and code != self._code:
            self._start_afresh()
            raise GrammarError(Fault.REPLY_MIXED_CODES)
        self._code = code
        self._lines.append(text.decode("utf-8", "replace"))
        self._raw.append(octets)
        if separator == b"-":
            return None
        lines, rows, raw = self._lines, self._raw, b"".join(self._raw)
        self._start_afresh()
        texts, enhanced = _split(int(code), lines)
        found = _departures(raw, rows, lines, utf8=utf8)
        if not separator:  # with its space it is not bare: that belongs to the text (section 4.2)
            found.append(Deviation.BARE_CODE)
        if coded and (enhanced is None or len(lines) > 1):
            found += _miscoded(int(code), lines)
        flagged = self._judged(found) if found else _NONE
        return Reply(int(code), *texts, enhanced=enhanced, raw=raw, deviations=flagged)

    def _judged(self, found: Sequence[Deviation]) -> frozenset[Deviation]:
        notes = Notes(self._policy, REPLY_FAULTS)
        try:
            for deviation in found:
                notes.add(deviation)
        finally:
            self.rejected = notes.rejected
        return notes.flagged

    def _start_afresh(self) -> None:
        self._code = b""
        self._lines = []
        self._raw = []
        self._octets = 0
        self.rejected = None


def _prefix(code: int, enhanced: EnhancedCode | None) -> str:
    """The enhanced code and its space; nothing on a 3yz reply, which never carries one (RFC 2034 section 4)."""
    if code // 100 == 3:
        return ""
    return f"{enhanced or f'{code // 100}.0.0'} "


def _codec(*, utf8: bool) -> tuple[str, str]:
    return ("utf-8", "strict") if utf8 else ("ascii", "replace")


def _fit(line: str, room: int) -> str:
    # Encoding once settles both: lone surrogates become "?", and a cut is undone back to a whole character.
    octets = line.encode("utf-8", "replace")[:room]
    return _FORBIDDEN.sub(" ", octets.decode("utf-8", "ignore"))


def _split(code: int, lines: list[str]) -> tuple[list[str], EnhancedCode | None]:
    """Take the enhanced code off the lines; the first line says whether there is one."""
    found, _, _ = lines[0].partition(" ")
    enhanced = EnhancedCode.parse(found)
    if enhanced is None or enhanced.class_ != code // 100:
        return lines, None
    texts: list[str] = []
    for line in lines:
        head, _, text = line.partition(" ")
        texts.append(text if head == found else line)
    return texts, enhanced


def _departures(raw: bytes, rows: Sequence[bytes], texts: Sequence[str], *, utf8: bool) -> list[Deviation]:
    """What a reply's octets depart in, from RFC 5321 section 4.2: all of them, by rows with endings, as texts."""
    found: list[Deviation] = []
    if raw.count(b"\r\n") != len(rows):
        found.append(Deviation.BARE_LF)
    if raw[1:2] > b"5":
        found.append(Deviation.REPLY_CODE)
    # A challenge may have 12288 octets: RFC 4954 section 4.
    if len(raw) > MAX_REPLY_LINE and max(map(len, rows)) > MAX_REPLY_LINE and not raw.startswith(b"3"):
        found.append(Deviation.LONG_REPLY_LINE)
    if not raw.isascii() and not (utf8 and _is_utf8(raw)):
        found.append(Deviation.EIGHT_BIT_REPLY)
    if not all(map(str.isprintable, texts)) and _CONTROLS.search(raw) is not None:  # a search takes its time
        found.append(Deviation.CONTROL_IN_REPLY)
    return found


def _miscoded(code: int, texts: Sequence[str]) -> list[Deviation]:
    """What a reply's enhanced codes depart in, from RFC 2034 section 4."""
    codes = [EnhancedCode.parse(text.partition(" ")[0]) for text in texts]
    found: list[Deviation] = []
    if any(enhanced is not None and enhanced.class_ != code // 100 for enhanced in codes):
        found.append(Deviation.ENHANCED_CLASS)
    if None in codes and code // 100 != 3:
        found.append(Deviation.ENHANCED_MISSING)
    if len({enhanced for enhanced in codes if enhanced is not None}) > 1:
        found.append(Deviation.ENHANCED_UNEQUAL)
    return found


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
