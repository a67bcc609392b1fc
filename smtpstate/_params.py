"""The parameters of MAIL and RCPT (RFC 5321 section 4.1.2), and xtext (RFC 3461 section 4)."""

import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final, TypeAlias, final

from smtpstate._abnf import PARAMETERS, SIZE_VALUE, XCHAR, XTEXT, with_utf8
from smtpstate._errors import Fault, GrammarError

# In the order sent: keyword in upper case, and the value as sent, None where there was no "=".
Parameters: TypeAlias = tuple[tuple[str, str | None], ...]

_PARAMETERS: Final = (re.compile(PARAMETERS), re.compile(with_utf8(PARAMETERS)))  # indexed by `utf8`
# Not str.split(): there is white space that is not ASCII, and it separates nothing.
_WORD: Final = re.compile(r"[^ \t]+")
_SIZE: Final = re.compile(SIZE_VALUE)
_XTEXT: Final = re.compile(XTEXT)
_HEXCHAR: Final = re.compile(rb"\+(..)")
_NOT_XCHAR: Final = re.compile(rf"(?!{XCHAR}).".encode("ascii"), re.DOTALL)
_COMMAND_LINE: Final = 512  # octets, CRLF included; RFC 5321 section 4.5.3.1.4


@final
@unique
class BodyType(Enum):
    """The values of BODY. RFC 6152 section 3, RFC 3030 section 3; on the wire they have no case."""

    SEVENBIT = "7BIT"
    EIGHTBITMIME = "8BITMIME"
    BINARYMIME = "BINARYMIME"  # by BDAT only


def _never(value: str | None) -> bool:
    return False


@final
@dataclass(frozen=True, slots=True)
class Parameter:
    """What there is to know about a parameter of MAIL or RCPT.

    `keyword` is in upper case. `check` says whether a value is legal; it gets None where there is no "=", and must not
    raise. `increment` is what the parameter adds to the 512 octets of a command line, its SP included. `excludes` are
    the keywords that may not come beside it. `expendable` says of a legal value whether the message may go on without
    it, to a server that does not offer the extension; by default it may not.
    """

    keyword: str
    check: Callable[[str | None], bool]
    increment: int
    excludes: frozenset[str] = frozenset()
    expendable: Callable[[str | None], bool] = _never


# Keyword -> for each extension that defines it, by its EHLO keyword, what it says. Two define BODY.
ParameterTable: TypeAlias = Mapping[str, Mapping[str, Parameter]]


def flag(value: str | None) -> bool:
    """The rule for a parameter without a value."""
    return value is None


def _is_size(value: str | None) -> bool:
    return value is not None and _SIZE.fullmatch(value) is not None


def _is_body(*allowed: BodyType) -> Callable[[str | None], bool]:
    values = frozenset(body.value for body in allowed)
    return lambda value: value is not None and value.upper() in values


# RFC 1870 section 3 says 26. RFC 6152 and RFC 3030 give no number for BODY; these are the longest spellings.
MAIL_PARAMETERS: Final[ParameterTable] = {
    "SIZE": {"SIZE": Parameter("SIZE", _is_size, 26)},
    "BODY": {
        "8BITMIME": Parameter("BODY", _is_body(BodyType.SEVENBIT, BodyType.EIGHTBITMIME), 14),
        "BINARYMIME": Parameter("BODY", _is_body(BodyType.BINARYMIME), 16),
    },
}

RCPT_PARAMETERS: Final[ParameterTable] = {}


def split_parameters(text: str, *, utf8: bool = False) -> Parameters:
    """The parameters in what follows a path; `text` is empty or begins with SP. `utf8` allows RFC 6531's values.

    Raises GrammarError, also when a keyword comes twice: no RFC gives that a meaning, and two readers of one command
    might take a different one of the two. RFC 5321 section 4.1.2.
    """
    if not text:
        return ()
    if _PARAMETERS[utf8].fullmatch(text) is None:
        raise GrammarError(Fault.PARAMETER_SYNTAX)
    found: dict[str, str | None] = {}
    for word in _WORD.findall(text):
        keyword, equals, value = word.partition("=")
        keyword = keyword.upper()
        if keyword in found:
            raise GrammarError(Fault.PARAMETER_SYNTAX)
        found[keyword] = value if equals else None
    return tuple(found.items())


def check_parameters(parameters: Parameters, table: ParameterTable, offered: Container[str]) -> None:
    """Hold `parameters` against `table` and the EHLO keywords `offered` in this session.

    Raises GrammarError: PARAMETER_UNKNOWN for one that is not in the table or whose extension is not offered,
    PARAMETER_VALUE for a value that no extension offered allows, PARAMETER_SYNTAX for two that exclude each other. RFC
    5321 section 4.1.1.11.
    """
    keywords = {keyword for keyword, _ in parameters}
    for keyword, value in parameters:
        rows = [row for extension, row in table.get(keyword, {}).items() if extension in offered]
        if not rows:
            raise GrammarError(Fault.PARAMETER_UNKNOWN)
        if not any(row.check(value) for row in rows):
            raise GrammarError(Fault.PARAMETER_VALUE)
        if any(row.excludes & keywords for row in rows):
            raise GrammarError(Fault.PARAMETER_SYNTAX)


def increment(table: ParameterTable, offered: Container[str]) -> int:
    """The octets that the parameters in `table` add to a command line where `offered` is. RFC 5321 section 4.1.1.11."""
    return sum(
        max((row.increment for extension, row in rows.items() if extension in offered), default=0)
        for rows in table.values()
    )


def command_line(least: int, tables: Iterable[ParameterTable], offered: Container[str]) -> int:
    """The octets that a command line may have: `least`, or what has to be allowed where `offered` is, if that is more.

    Its CRLF is among them. RFC 5321 sections 4.1.1.11 and 4.5.3.1.4.
    """
    return max(least, *(_COMMAND_LINE + increment(table, offered) for table in tables))


def without_expendable(
    parameters: Parameters, table: ParameterTable, offered: Container[str]
) -> tuple[Parameters, str | None]:
    """`parameters` without those that mean nothing where only `offered` is, and that the message may lose.

    Second comes an extension that is not offered and without which the message may not go on; None if there is none.
    Raises GrammarError, whatever is offered: PARAMETER_UNKNOWN for one that is not in the table, and PARAMETER_VALUE.
    """
    kept: list[tuple[str, str | None]] = []
    missing: str | None = None
    for keyword, value in parameters:
        if keyword not in table:
            raise GrammarError(Fault.PARAMETER_UNKNOWN)
        rows = {extension: row for extension, row in table[keyword].items() if row.check(value)}
        if not rows:
            raise GrammarError(Fault.PARAMETER_VALUE)
        if any(extension in offered for extension in rows):
            kept.append((keyword, value))
        elif not all(row.expendable(value) for row in rows.values()):
            missing = missing or next(iter(rows))
    return tuple(kept), missing


def encode_xtext(data: bytes) -> str:
    """`data` as xtext: every octet that is not an xchar becomes "+" and two hexadecimal digits. RFC 3461 section 4."""
    return _NOT_XCHAR.sub(lambda match: b"+%02X" % match[0][0], data).decode("ascii")


def decode_xtext(text: str) -> bytes:
    """The octets that `text` stands for; any may come out. Raises GrammarError PARAMETER_VALUE. RFC 3461 section 4."""
    if _XTEXT.fullmatch(text) is None:
        raise GrammarError(Fault.PARAMETER_VALUE)
    return _HEXCHAR.sub(lambda match: bytes((int(match[1], 16),)), text.encode("ascii"))
