"""Patterns: which commands a row of a script is about, by the RFC's names, with wildcards in what is said."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeAlias, final

import smtpstate as core
from smtpstate import Command, CommandRefused, Connected, EndOfMessage

if TYPE_CHECKING:
    from smtpstate.extensions import Parameters

# What a scripted server hears.
Heard: TypeAlias = Connected | Command | EndOfMessage | CommandRefused


@cache
def _compiled(glob: str) -> re.Pattern[str]:
    return re.compile(re.escape(glob).replace(r"\*", ".*").replace(r"\?", "."), re.IGNORECASE | re.DOTALL)


def fits(glob: str, text: str) -> bool:
    """Whether all of `text` is what `glob` says, in any case: "*" is any text, "?" any character."""
    return _compiled(glob).fullmatch(text) is not None


def _spelled(parameters: Parameters) -> str:
    return " ".join(keyword if value is None else f"{keyword}={value}" for keyword, value in parameters)


@final
@dataclass(frozen=True, slots=True)
class Ehlo:
    """EHLO with this domain."""

    domain: str = "*"

    def matches(self, heard: Heard) -> bool:
        return isinstance(heard, core.Ehlo) and fits(self.domain, heard.domain)


@final
@dataclass(frozen=True, slots=True)
class Helo:
    """HELO with this domain."""

    domain: str = "*"

    def matches(self, heard: Heard) -> bool:
        return isinstance(heard, core.Helo) and fits(self.domain, heard.domain)


@final
@dataclass(frozen=True, slots=True)
class Lhlo:
    """LHLO with this domain."""

    domain: str = "*"

    def matches(self, heard: Heard) -> bool:
        return isinstance(heard, core.Lhlo) and fits(self.domain, heard.domain)


@final
@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH with this mechanism."""

    mechanism: str = "*"

    def matches(self, heard: Heard) -> bool:
        return isinstance(heard, core.Auth) and fits(self.mechanism, heard.mechanism)


@final
@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL from this address, "" being the null reverse-path, with these parameters: `*SIZE=*`, say."""

    address: str = "*"
    parameters: str = "*"

    def matches(self, heard: Heard) -> bool:
        return (
            isinstance(heard, core.Mail)
            and fits(self.address, heard.reverse_path.address)
            and fits(self.parameters, _spelled(heard.parameters))
        )


@final
@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT to this address, with these parameters."""

    address: str = "*"
    parameters: str = "*"

    def matches(self, heard: Heard) -> bool:
        return (
            isinstance(heard, core.Rcpt)
            and fits(self.address, heard.recipient.address)
            and fits(self.parameters, _spelled(heard.parameters))
        )


@final
@dataclass(frozen=True, slots=True)
class Vrfy:
    """VRFY with this text."""

    text: str = "*"

    def matches(self, heard: Heard) -> bool:
        return isinstance(heard, core.Vrfy) and fits(self.text, heard.text)


@final
@dataclass(frozen=True, slots=True)
class Expn:
    """EXPN with this text."""

    text: str = "*"

    def matches(self, heard: Heard) -> bool:
        return isinstance(heard, core.Expn) and fits(self.text, heard.text)


@final
@dataclass(frozen=True, slots=True)
class Line:
    """Any line, understood or not: `XFOO *`. Octets beyond ASCII count as those of Latin-1."""

    text: str = "*"

    def matches(self, heard: Heard) -> bool:
        line = line_of(heard)
        return line is not None and fits(self.text, line.decode("latin-1"))


@final
@dataclass(frozen=True, slots=True)
class Only:
    """Every command of these kinds, or this one command."""

    what: type[Heard] | Heard

    def matches(self, heard: Heard) -> bool:
        return isinstance(heard, self.what) if isinstance(self.what, type) else heard == self.what


Worded: TypeAlias = Ehlo | Helo | Lhlo | Auth | Mail | Rcpt | Vrfy | Expn | Line
Pattern: TypeAlias = Worded | Only
# What a row may be about: a pattern, a class that stands for all of its kind, or a command.
About: TypeAlias = "Worded | type[Worded] | type[Heard] | Heard"

_WORDED = (Ehlo, Helo, Lhlo, Auth, Mail, Rcpt, Vrfy, Expn, Line)


def pattern(about: About) -> Pattern:
    """The pattern that is meant."""
    if isinstance(about, _WORDED):
        return about
    if isinstance(about, type) and issubclass(about, _WORDED):
        return about()
    return Only(about)


def line_of(heard: Heard) -> bytes | None:
    """What was said, without its ending; None where it is no command's line, or secret."""
    match heard:
        case CommandRefused(line=line):
            return line
        case Connected() | EndOfMessage() | core.AuthResponse() | core.AuthCancel():
            return None
        case _:
            return heard.raw
