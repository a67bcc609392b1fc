"""Forbidden commands: what no mail client ever says, so that whoever says it is another program, made to talk to us.

A browser can be brought to send its requests to a mail server, and a TLS session meant for a web server can be led
there (Topf, HTML Form Protocol Attack, 2001; Brinkmann et al., ALPACA, USENIX Security 2021). The first line that gives
it away is then the last one that is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, TypeAlias, final

from smtpstate._errors import LocalProtocolError

_LOOK: Final = 100  # octets of a word that are looked at; the patterns are the operator's, the words are not

# header-field-name ":" (RFC 5322 section 2.2, RFC 9112 section 5), as the first word of a line.
_HEADER: Final = re.compile(rb"[!-9;-~]+:")
# request-line = method SP request-target SP HTTP-version (RFC 9112 section 3), and the first line of HTTP/2's preface
# (RFC 9113 section 3.4).
_REQUEST: Final = re.compile(rb"[ \t]*([!-~]+)[ \t]+[^ \t]+[ \t]+HTTP/[0-9](?:\.[0-9])?[ \t]*")

# A word, or /pattern/ with flags; "!" before either. Postfix's regexp:{{/pattern/flags text}} is the pattern in it.
_ITEM: Final = re.compile(
    r"""
    [\s,]* (?P<marks> !* )
    (?: (?P<table> (?: regexp | pcre ) : \{ \s* \{ \s* )?
        / (?P<pattern> (?: [^/\\] | \\. )* ) / (?P<flags> [a-z]* )
        (?(table) \s+ [^{}]+ \} \s* \} )
      | (?P<word> [^\s,/!{}:]+ :? )
    )
    (?= [\s,] | \Z )
    """,
    re.VERBOSE,
)
_BETWEEN: Final = " \t\r\n,"

_Rule: TypeAlias = tuple[bool, "bytes | re.Pattern[bytes]"]


@final
@dataclass(frozen=True, slots=True)
class Forbidden:
    """A list of commands that end the session, beside the two rules that always hold: a header and an HTTP request.

    `text` is as in Postfix's smtpd_forbidden_commands: words and /patterns/ with commas or white space between them.
    The first that matches decides; `!` before one excepts, from the two rules as well. A word is compared without case,
    and so is a pattern, unless its flag `i` has it count. Patterns are Python's, search the first 100 octets of a
    line's first word, and can be slow if you write them so. Raises LocalProtocolError for what cannot be read.
    """

    text: str = ""
    _rules: tuple[_Rule, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rules", tuple(_rules(self.text)))

    def forbids(self, line: bytes, *, known: bool = False) -> bool:
        """Whether `line`, which lacks its ending, ends the session.

        `known` says that its first word is a command here. Such a line is none of those listed, but no line of SMTP is
        an HTTP request, whatever its method.
        """
        request = _REQUEST.fullmatch(line) if b"HTTP/" in line else None
        if known and request is None:
            return False
        words = line.split(None, 1)
        if not words:
            return False
        listed = self._lists(words[0])
        if listed is None:
            return request is not None or _HEADER.match(words[0]) is not None
        return listed

    def _lists(self, word: bytes) -> bool | None:
        """Whether the list forbids `word`; None where it says nothing of it."""
        for forbids, rule in self._rules:
            if word.upper() == rule if isinstance(rule, bytes) else rule.search(word, 0, _LOOK):
                return forbids
        return None


def _rules(text: str) -> list[_Rule]:
    rules: list[_Rule] = []
    text, position = text.strip(_BETWEEN), 0
    while position < len(text):
        item = _ITEM.match(text, position)
        if item is None:
            raise LocalProtocolError(f"neither a word nor a /pattern/: {text[position : position + 40].lstrip()!r}")
        rules.append((len(item["marks"]) % 2 == 0, _rule(item)))
        position = item.end()
    return rules


def _rule(item: re.Match[str]) -> bytes | re.Pattern[bytes]:
    said = item[0].lstrip(_BETWEEN)
    try:
        if item["pattern"] is None:
            return item["word"].encode("ascii").upper()
        if item["flags"] not in ("", "i"):
            raise LocalProtocolError(f"the only flag of a pattern is i: {said!r}")
        return re.compile(item["pattern"].encode("ascii"), 0 if item["flags"] else re.IGNORECASE)
    except UnicodeEncodeError:
        raise LocalProtocolError(f"commands are ASCII, and a pattern writes the rest as \\x80: {said!r}") from None
    except (re.error, OverflowError) as error:
        raise LocalProtocolError(f"not a pattern: {said!r}: {error}") from None


# As Postfix has it: what HTTP begins with, and whatever does not begin with a letter, TLS in clear text among it.
FORBIDDEN: Final = Forbidden("CONNECT GET POST /^[^A-Z]/")
