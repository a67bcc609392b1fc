"""What a server offers: EHLO keywords to Capabilities and back (RFC 5321 section 4.1.1.1)."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, final

from smtpstate._errors import LocalProtocolError
from smtpstate._policy import MX, Deviation, Policy, Treatment

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

# ehlo-line = ehlo-keyword *( SP ehlo-param ) ; RFC 5321 section 4.1.1.1
# ehlo-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
# ehlo-param = 1*(%d33-126)
# Deviations: "=" may stand for the first space (KEYWORD_EQUALS), and more than one space between words or one at the
# end is passed over (KEYWORD_SPACE).
_KEYWORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_PARAM: Final = re.compile(r"[!-~]+")
_LINE: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:([ =])([ -~]*))?")

# size-value = 1*20DIGIT ; RFC 1870 section 3
_SIZE: Final = re.compile(r"[0-9]{1,20}")


@final
class Capabilities:
    """The keywords of one EHLO reply, each with its parameters.

    Keywords compare in any case and are kept in upper case, in their order; parameters are kept as written. Raises
    LocalProtocolError for one that is outside RFC 5321's grammar. `deviations` take no part in comparisons.
    """

    __slots__ = ("_deviations", "_keywords")

    def __init__(
        self, keywords: Mapping[str, Iterable[str]], *, deviations: frozenset[Deviation] = frozenset()
    ) -> None:
        gathered: dict[str, tuple[str, ...]] = {}
        for keyword, given in keywords.items():
            params = tuple(given)
            if _KEYWORD.fullmatch(keyword) is None or not all(map(_PARAM.fullmatch, params)):
                raise LocalProtocolError(f"no EHLO keyword: {keyword!r} {params!r}")
            name = keyword.upper()
            if name in gathered:
                raise LocalProtocolError(f"EHLO keyword given twice: {name}")
            gathered[name] = params
        self._keywords: Mapping[str, tuple[str, ...]] = MappingProxyType(gathered)
        self._deviations = deviations

    @classmethod
    def parse(cls, lines: Iterable[str], policy: Policy = MX) -> Capabilities:
        """Read the lines of an EHLO reply after its first. Never raises: a line that makes no sense is ignored.

        So is a line with a deviation that `policy` rejects. A keyword that comes again adds the parameters that it did
        not have yet.
        """
        gathered: dict[str, dict[str, None]] = {}
        noted: set[Deviation] = set()
        for line in lines:
            match = _LINE.fullmatch(line)
            treated = {deviation: policy.treatment(deviation) for deviation in _departures(match, gathered)}
            noted.update(deviation for deviation, treatment in treated.items() if treatment is not Treatment.ACCEPT)
            if match is not None and Treatment.REJECT not in treated.values():
                params = gathered.setdefault(match[1].upper(), {})
                params.update(dict.fromkeys((match[3] or "").split()))
        return cls(gathered, deviations=frozenset(noted))

    def format(self) -> tuple[str, ...]:
        """The lines of an EHLO reply after its first."""
        return tuple(" ".join((keyword, *params)) for keyword, params in self._keywords.items())

    @property
    def keywords(self) -> Mapping[str, tuple[str, ...]]:
        """Keyword in upper case -> parameters as written. Read-only."""
        return self._keywords

    @property
    def deviations(self) -> frozenset[Deviation]:
        """How the lines depart from the grammar, where the policy flags that, or ignored the line for it."""
        return self._deviations

    @property
    def size(self) -> int | None:
        """The largest message taken, in octets; None when no limit is said (SIZE 0 says none). RFC 1870 section 4."""
        value = next(iter(self._keywords.get("SIZE", ())), "")
        return int(value) or None if _SIZE.fullmatch(value) is not None else None

    @property
    def pipelining(self) -> bool:
        """PIPELINING, RFC 2920."""
        return "PIPELINING" in self._keywords

    @property
    def eight_bit_mime(self) -> bool:
        """8BITMIME, RFC 6152."""
        return "8BITMIME" in self._keywords

    @property
    def starttls(self) -> bool:
        """STARTTLS, RFC 3207."""
        return "STARTTLS" in self._keywords

    @property
    def enhanced_status_codes(self) -> bool:
        """ENHANCEDSTATUSCODES, RFC 2034."""
        return "ENHANCEDSTATUSCODES" in self._keywords

    @property
    def chunking(self) -> bool:
        """CHUNKING, RFC 3030."""
        return "CHUNKING" in self._keywords

    @property
    def binary_mime(self) -> bool:
        """BINARYMIME, which is nothing without CHUNKING. RFC 3030 section 3."""
        return "BINARYMIME" in self._keywords and self.chunking

    @property
    def smtputf8(self) -> bool:
        """SMTPUTF8, RFC 6531."""
        return "SMTPUTF8" in self._keywords

    def __contains__(self, keyword: object) -> bool:
        return isinstance(keyword, str) and keyword.upper() in self._keywords

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Capabilities):
            return NotImplemented
        return self._keywords == other._keywords

    def __hash__(self) -> int:
        return hash(frozenset(self._keywords.items()))

    def __repr__(self) -> str:
        return f"Capabilities({dict(self._keywords)!r})"


NO_CAPABILITIES: Final = Capabilities({})


def _departures(match: re.Match[str] | None, before: Collection[str]) -> Iterator[Deviation]:
    """What a line departs in, from RFC 5321 section 4.1.1.1 and from what its keyword says of its parameters."""
    if match is None:
        yield Deviation.KEYWORD_SYNTAX
        return
    name, separator, text = match[1].upper(), match[2], match[3] or ""
    params = text.split()
    if separator == "=":
        yield Deviation.KEYWORD_EQUALS
    if " ".join(params) != text or (separator == " " and not params):
        yield Deviation.KEYWORD_SPACE
    if name in before:
        yield Deviation.KEYWORD_AGAIN
    if name == "SIZE" and params and (len(params) > 1 or _SIZE.fullmatch(params[0]) is None):
        yield Deviation.SIZE_VALUE
    if name == "AUTH" and text != text.upper():
        yield Deviation.LOWER_CASE_MECHANISM
