"""The parameters of MAIL and RCPT (RFC 5321 section 4.1.2), and xtext (RFC 3461 section 4)."""

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final, TypeAlias, final

from smtpstate._abnf import PARAMETERS, SIZE_VALUE, XCHAR, XTEXT
from smtpstate._errors import Fault, GrammarError

# In the order sent: keyword in upper case, and the value as sent, None where there was no "=".
Parameters: TypeAlias = tuple[tuple[str, str | None], ...]

_PARAMETERS: Final = re.compile(PARAMETERS)
_SIZE: Final = re.compile(SIZE_VALUE)
_XTEXT: Final = re.compile(XTEXT)
_HEXCHAR: Final = re.compile(rb"\+(..)")
_NOT_XCHAR: Final = re.compile(rf"(?!{XCHAR}).".encode("ascii"), re.DOTALL)


@final
@unique
class BodyType(Enum):
    """The values of BODY. RFC 6152 section 3; on the wire they have no case."""

    SEVENBIT = "7BIT"
    EIGHTBITMIME = "8BITMIME"


@final
@dataclass(frozen=True, slots=True)
class ParameterRow:
    """What there is to know about a parameter.

    `extension` is the EHLO keyword that has to be offered. `check` says whether a value is legal; it gets None where
    there is no "=". `increment` is what the parameter adds to the 512 octets of a command line, its SP included.
    """

    keyword: str
    extension: str
    check: Callable[[str | None], bool]
    increment: int


_BODIES: Final = frozenset(body.value for body in BodyType)


def _is_size(value: str | None) -> bool:
    return value is not None and _SIZE.fullmatch(value) is not None


def _is_body(value: str | None) -> bool:
    return value is not None and value.upper() in _BODIES


# RFC 1870 section 3 says 26. RFC 6152 gives no number for BODY; 14 is its longest spelling, " BODY=8BITMIME".
MAIL_PARAMETERS: Final[Mapping[str, ParameterRow]] = {
    row.keyword: row
    for row in (
        ParameterRow("SIZE", "SIZE", _is_size, 26),
        ParameterRow("BODY", "8BITMIME", _is_body, 14),
    )
}

RCPT_PARAMETERS: Final[Mapping[str, ParameterRow]] = {}


def split_parameters(text: str) -> Parameters:
    """The parameters in what follows a path; `text` is empty or begins with SP.

    Raises GrammarError, also when a keyword comes twice: no RFC gives that a meaning, and two readers of one command
    might take a different one of the two. RFC 5321 section 4.1.2.
    """
    if not text:
        return ()
    if _PARAMETERS.fullmatch(text) is None:
        raise GrammarError(Fault.PARAMETER_SYNTAX)
    found: dict[str, str | None] = {}
    # Only SP and HT can be white space in text that has matched.
    for word in text.split():
        keyword, equals, value = word.partition("=")
        keyword = keyword.upper()
        if keyword in found:
            raise GrammarError(Fault.PARAMETER_SYNTAX)
        found[keyword] = value if equals else None
    return tuple(found.items())


def check_parameters(parameters: Parameters, table: Mapping[str, ParameterRow], offered: Container[str]) -> None:
    """Hold `parameters` against `table` and the EHLO keywords `offered` in this session.

    Raises GrammarError: PARAMETER_UNKNOWN for one that is not in the table or whose extension is not offered,
    PARAMETER_VALUE for a value that its extension does not allow. RFC 5321 section 4.1.1.11.
    """
    for keyword, value in parameters:
        row = table.get(keyword)
        if row is None or row.extension not in offered:
            raise GrammarError(Fault.PARAMETER_UNKNOWN)
        if not row.check(value):
            raise GrammarError(Fault.PARAMETER_VALUE)


def encode_xtext(data: bytes) -> str:
    """`data` as xtext: every octet that is not an xchar becomes "+" and two hexadecimal digits. RFC 3461 section 4."""
    return _NOT_XCHAR.sub(lambda match: b"+%02X" % match[0][0], data).decode("ascii")


def decode_xtext(text: str) -> bytes:
    """The octets that `text` stands for; any may come out. Raises GrammarError PARAMETER_VALUE. RFC 3461 section 4."""
    if _XTEXT.fullmatch(text) is None:
        raise GrammarError(Fault.PARAMETER_VALUE)
    return _HEXCHAR.sub(lambda match: bytes((int(match[1], 16),)), text.encode("ascii"))
