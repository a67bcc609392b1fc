"""Replies: the value, its bytes, and the reader that builds it from lines (RFC 5321 section 4.2, RFC 2034)."""

from __future__ import annotations

import re
from typing import Final, final

from smtpstate._errors import Fault, GrammarError, LocalProtocolError, SMTPStateError

MAX_REPLY_LINE: Final = 512  # octets, code and CRLF included; RFC 5321 section 4.5.3.1.5

# Reply-code = %x32-35 %x30-35 %x30-39 ; RFC 5321 section 4.2
_SENT_CODES: Final = re.compile(r"[2-5][0-5][0-9]")

# Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF ; RFC 5321 section 4.2
# Deviation: any second digit. Servers send 571 and 471, and the first digit alone decides.
_REPLY_LINE: Final = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)

# status-code = class "." subject "." detail ; RFC 3463 section 2
# class = "2" / "4" / "5", subject = 1*3digit, detail = 1*3digit, both without leading zeros
_ENHANCED: Final = re.compile(r"([245])\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})")

# What must never stand in a reply: C0 but HT, DEL, C1, the line breaks that only Unicode knows, lone surrogates.
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

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
    RFC 5321 section 4.2.
    """

    __match_args__ = ("code", "lines", "enhanced")
    __slots__ = ("_code", "_enhanced", "_lines")

    def __init__(self, code: int, *lines: str, enhanced: EnhancedCode | str | None = None) -> None:
        if isinstance(enhanced, str):
            parsed = EnhancedCode.parse(enhanced)
            if parsed is None:
                raise LocalProtocolError(f"no enhanced status code: {enhanced!r}")
            enhanced = parsed
        self._code = code
        self._lines = lines or ("",)
        self._enhanced = enhanced

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

    `max_lines` and `max_octets` (CRLFs included) bound one reply, and so what is held here.
    """

    __slots__ = ("_code", "_lines", "_max_lines", "_max_octets", "_octets")

    def __init__(self, max_lines: int, max_octets: int) -> None:
        self._max_lines = max_lines
        self._max_octets = max_octets
        self._code = b""
        self._lines: list[str] = []
        self._octets = 0

    def add(self, line: bytes) -> Reply | None:
        """Take one line, without its CRLF: the reply when it was the last one, else None.

        Raises GrammarError with REPLY_TOO_LONG, REPLY_SYNTAX or REPLY_MIXED_CODES, and then starts afresh. Octets that
        are not UTF-8 become U+FFFD. RFC 5321 section 4.2.1.
        """
        self._octets += len(line) + 2
        if len(self._lines) >= self._max_lines or self._octets > self._max_octets:
            self._start_afresh()
            raise GrammarError(Fault.REPLY_TOO_LONG)
        match = _REPLY_LINE.fullmatch(line)
        if match is None:
            self._start_afresh()
            raise GrammarError(Fault.REPLY_SYNTAX)
        code, separator, text = match.groups(b"")
        if self._lines and code != self._code:
            self._start_afresh()
            raise GrammarError(Fault.REPLY_MIXED_CODES)
        self._code = code
        self._lines.append(text.decode("utf-8", "replace"))
        if separator == b"-":
            return None
        # The last line may be the bare code: RFC 5321 section 4.2 has a receiver take it.
        reply = _split(int(code), self._lines)
        self._start_afresh()
        return reply

    def _start_afresh(self) -> None:
        self._code = b""
        self._lines = []
        self._octets = 0


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


def _split(code: int, lines: list[str]) -> Reply:
    """Take the enhanced code off the lines; the first line says whether there is one."""
    found, _, _ = lines[0].partition(" ")
    enhanced = EnhancedCode.parse(found)
    if enhanced is None or enhanced.class_ != code // 100:
        return Reply(code, *lines)
    texts: list[str] = []
    for line in lines:
        head, _, text = line.partition(" ")
        texts.append(text if head == found else line)
    return Reply(code, *texts, enhanced=enhanced)
