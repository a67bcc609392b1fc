"""Mailboxes and paths: RFC 5321 sections 4.1.2 and 4.1.3, parsed and spelt; with `utf8`, RFC 6531 section 3.3.

Sizes, in octets. Section 4.5.3.1 gives the least that must be accepted; what lies beyond is refused with
GrammarError, so that nothing downstream meets a name of any length.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final, final

from smtpstate._abnf import ADDRESS_LITERAL, DOT_STRING, FORWARD_PATH, HELLO_DOMAIN, MAILBOX, REVERSE_PATH, with_utf8
from smtpstate._errors import Fault, GrammarError, LocalProtocolError

# Section 4.5.3.1.1 asks for 64, and real mail needs more: VERP, SRS and BATV put a second address or a signature into
# the local part, and the mail systems that send these do not count. Unquoted, so a quoted pair counts once.
MAX_LOCAL_PART: Final = 256
MAX_DOMAIN: Final = 255  # section 4.5.3.1.2; as UTF-8 and as A-labels; of a literal too, brackets included
MAX_LABEL: Final = 63  # RFC 1035 section 2.3.4, as an A-label

# Each pair is indexed by `utf8`.
_REVERSE_PATHS: Final = (re.compile(REVERSE_PATH), re.compile(with_utf8(REVERSE_PATH)))
_FORWARD_PATHS: Final = (re.compile(FORWARD_PATH), re.compile(with_utf8(FORWARD_PATH)))
_MAILBOXES: Final = (re.compile(MAILBOX), re.compile(with_utf8(MAILBOX)))
_DOT_STRING: Final = re.compile(with_utf8(DOT_STRING))
_HELLO_ARGUMENT: Final = re.compile(rf"{HELLO_DOMAIN}|{ADDRESS_LITERAL}")
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)
_TO_BE_QUOTED: Final = re.compile(r'(["\\])')


# RFC 5892: a label has letters and digits of any script and the marks that go with them, in the form in which
# normalisation leaves them (sections 2.1 and 2.2), but for these exceptions (section 2.6).
_LABEL_CATEGORIES: Final = frozenset({"Ll", "Lo", "Lm", "Mn", "Mc", "Nd"})
_LABEL_TOO: Final = frozenset("\u06fd\u06fe\u0f0b\u3007abcdefghijklmnopqrstuvwxyz0123456789-")
_LABEL_NEVER: Final = frozenset("\u0640\u07fa\u302e\u302f\u3031\u3032\u3033\u3034\u3035\u303b")


def _a_label(label: str) -> str:
    """The A-label for `label`, in lower case. Raises GrammarError ADDRESS when there is none.

    IDNA 2008 (RFC 5891 section 4), capitals made small first since domains have no case. Python's "idna" codec is IDNA
    2003, which sends a sharp s to another domain. Of the rules that look at neighbours, those of RFC 5892 appendix A
    are left out by refusing the joiners and the five punctuation marks that they are about, and those for digits and
    for right-to-left labels (RFC 5893) by not asking.
    """
    text = label.lower()
    if label.isascii():
        return text
    if (
        len(text) > MAX_LABEL
        or not unicodedata.is_normalized("NFKC", label)
        or not unicodedata.is_normalized("NFKC", text)
        or not all(map(_may_stand_in_label, text))
        or unicodedata.category(text[0]).startswith("M")  # RFC 5891 section 4.2.3.2
        or text[2:4] == "--"  # section 4.2.3.1
    ):
        raise GrammarError(Fault.ADDRESS)
    coded = "xn--" + text.encode("punycode").decode("ascii")
    if len(coded) > MAX_LABEL:
        raise GrammarError(Fault.ADDRESS)
    return coded


def _may_stand_in_label(character: str) -> bool:
    if character in _LABEL_TOO:
        return True
    return (
        not character.isascii()
        and character not in _LABEL_NEVER
        and unicodedata.category(character) in _LABEL_CATEGORIES
    )


def _a_labels(domain: str) -> str:
    """`domain` as A-labels in lower case. Raises GrammarError ADDRESS when one of its labels has none."""
    return ".".join(map(_a_label, domain.split(".")))


def domain_key(domain: str) -> str:
    """What two spellings of one domain have in common: lower-case A-labels. Never raises.

    A domain that cannot be turned into A-labels is only lower-cased.
    """
    if domain.isascii():
        return domain.lower()
    try:
        return _a_labels(domain)
    except GrammarError:
        return domain.lower()


@final
@dataclass(frozen=True, slots=True, eq=False)
class Mailbox:
    """A local part and a domain. RFC 5321 section 4.1.2.

    `local_part` is without its quoting, 0 to 256 octets. `domain` is as written, 1 to 255 octets, an address literal
    with its brackets; it is "" for <Postmaster> alone (section 4.1.1.3). Local parts are equal when they are the same
    text (section 2.4: only the host that owns one may know better), domains when they are the same A-labels in any
    case. The constructor checks nothing; a command that cannot be spelt is refused when it is encoded.
    """

    local_part: str
    domain: str

    @staticmethod
    def parse(text: str, *, utf8: bool = False) -> Mailbox:
        """The mailbox that `text` spells, without angle brackets; `utf8` allows RFC 6531's. Raises GrammarError."""
        match = _MAILBOXES[utf8].fullmatch(text)
        if match is None:
            raise GrammarError(Fault.ADDRESS)
        return _mailbox(match[1], match[2], match[3])

    def _key(self) -> tuple[str, str]:
        if not self.domain:
            return self.local_part.lower(), ""  # <Postmaster> has no case
        return self.local_part, domain_key(self.domain)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Mailbox) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __str__(self) -> str:
        """The RFC 5321 spelling: quoted only where it has to be, and with no more quoted pairs than needed.

        Section 4.1.2: spellings of a local part that differ in quoting alone mean the same mailbox, and the simplest
        should be used.
        """
        if not self.domain:
            return self.local_part
        if _DOT_STRING.fullmatch(self.local_part):
            return f"{self.local_part}@{self.domain}"
        quoted = _TO_BE_QUOTED.sub(r"\\\1", self.local_part)
        return f'"{quoted}"@{self.domain}'


@final
@dataclass(frozen=True, slots=True)
class ReversePath:
    """Where reports about a message go; None is the null path <>. RFC 5321 sections 4.1.1.2 and 4.5.5."""

    mailbox: Mailbox | None

    @staticmethod
    def parse(text: str, *, utf8: bool = False) -> ReversePath:
        """The path that `text`, angle brackets included, spells; `utf8` allows RFC 6531's. Raises GrammarError."""
        path, rest = parse_reverse_path(text, utf8=utf8)
        if rest:
            raise GrammarError(Fault.ADDRESS)
        return path

    @property
    def is_null(self) -> bool:
        """Whether nobody is to get a report. RFC 5321 section 4.5.5."""
        return self.mailbox is None

    @property
    def address(self) -> str:
        """The spelling without angle brackets; "" for the null path."""
        return "" if self.mailbox is None else str(self.mailbox)

    def __str__(self) -> str:
        return self.address


@final
@dataclass(frozen=True, slots=True)
class ForwardPath:
    """Whom a message is for. RFC 5321 section 4.1.1.3."""

    mailbox: Mailbox

    @staticmethod
    def parse(text: str, *, utf8: bool = False) -> ForwardPath:
        """The path that `text`, angle brackets included, spells; `utf8` allows RFC 6531's. Raises GrammarError."""
        path, rest = parse_forward_path(text, utf8=utf8)
        if rest:
            raise GrammarError(Fault.ADDRESS)
        return path

    @property
    def is_postmaster(self) -> bool:
        """Whether this is <Postmaster> without a domain. RFC 5321 section 4.1.1.3."""
        return not self.mailbox.domain and self.mailbox.local_part.lower() == "postmaster"

    def within(self, domain: str) -> bool:
        """Whether the mailbox is in `domain`; its subdomains are not.

        <Postmaster> is within every domain: RFC 5321 section 4.5.1 wants it accepted wherever mail is.
        """
        return self.is_postmaster or domain_key(self.mailbox.domain) == domain_key(domain)

    @property
    def address(self) -> str:
        """The spelling without angle brackets."""
        return str(self.mailbox)

    def __str__(self) -> str:
        return self.address


def parse_reverse_path(text: str, *, utf8: bool = False) -> tuple[ReversePath, str]:
    """The path that `text` begins with, and what follows it. A source route is dropped. Raises GrammarError.

    RFC 5321 section 4.1.1.2; appendix C on source routes. With `utf8` the grammar is RFC 6531's; `text` has been
    decoded strictly by then.
    """
    match = _REVERSE_PATHS[utf8].match(text)
    if match is None:
        raise GrammarError(Fault.ADDRESS)
    rest = text[match.end() :]
    dot_string, quoted, domain = match.groups()
    if domain is None:
        return ReversePath(None), rest
    return ReversePath(_mailbox(dot_string, quoted, domain)), rest


def parse_forward_path(text: str, *, utf8: bool = False) -> tuple[ForwardPath, str]:
    """The path that `text` begins with, and what follows it. A source route is dropped. Raises GrammarError.

    RFC 5321 section 4.1.1.3; appendix C on source routes. With `utf8` as in `parse_reverse_path`.
    """
    match = _FORWARD_PATHS[utf8].match(text)
    if match is None:
        raise GrammarError(Fault.ADDRESS)
    rest = text[match.end() :]
    dot_string, quoted, domain, postmaster = match.groups()
    if domain is None:
        return ForwardPath(Mailbox(postmaster, "")), rest
    return ForwardPath(_mailbox(dot_string, quoted, domain)), rest


def parse_domain_or_literal(text: str) -> str:
    """The argument of EHLO or HELO, as it was written. Raises GrammarError. RFC 5321 section 4.1.1.1.

    Underscores are let through here and nowhere else: see HELLO_DOMAIN.
    """
    if len(text) > MAX_DOMAIN or _HELLO_ARGUMENT.fullmatch(text) is None:
        raise GrammarError(Fault.ADDRESS)
    return text


def _mailbox(dot_string: str | None, quoted: str | None, domain: str) -> Mailbox:
    """What the groups of MAILBOX say. Raises GrammarError when a part is too long."""
    if dot_string is not None:
        local_part = dot_string
    else:
        assert quoted is not None
        local_part = _QUOTED_PAIR.sub(r"\1", quoted) if "\\" in quoted else quoted
    if _octets(local_part) > MAX_LOCAL_PART or _octets(domain) > MAX_DOMAIN:
        raise GrammarError(Fault.ADDRESS)
    if not domain.isascii() and len(_a_labels(domain)) > MAX_DOMAIN:
        raise GrammarError(Fault.ADDRESS)
    return Mailbox(local_part, domain)


def _octets(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def needs_smtputf8(mailbox: Mailbox) -> bool:
    """Whether no server without SMTPUTF8 can be given `mailbox`: its local part is not ASCII.

    A domain never needs it, since it has A-labels. RFC 6531 section 3.1.
    """
    return not mailbox.local_part.isascii()


def ascii_form(mailbox: Mailbox) -> Mailbox:
    """`mailbox` with its domain as A-labels; an ASCII domain stays as it is written. RFC 6531 section 3.2.

    Raises LocalProtocolError when the domain has no A-labels.
    """
    if mailbox.domain.isascii():
        return mailbox
    try:
        return Mailbox(mailbox.local_part, _a_labels(mailbox.domain))
    except GrammarError:
        raise LocalProtocolError(f"not a domain: {mailbox.domain!r}") from None
