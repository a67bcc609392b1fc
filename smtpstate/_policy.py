"""Deviations: lines that break the grammar and are understood all the same; and the policy that says what to do then.

Commands have them, replies, and what an EHLO reply offers; BARE_LF and LOWER_CASE_MECHANISM are found on both sides.

The parsers know what they let through and note it here; a line that nobody can read is no deviation but a fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import TYPE_CHECKING, Final, final

from smtpstate._errors import Fault, GrammarError

if TYPE_CHECKING:
    from collections.abc import Mapping


@final
@unique
class Deviation(Enum):
    """Every way in which a line departs from the grammar and is understood, with the section that says so."""

    # People at a keyboard, scripts that end a line with echo, and old appliances. Section 4.1.1 itself has receivers
    # tolerate it.
    TRAILING_SPACE = "RFC 5321 section 4.1.1, white space before the line ending"
    # Scripts that put a line together from parts of which one was empty.
    EXTRA_SPACE = "RFC 5321 section 4.1.1, more than one SP between words"
    # Outlook, scanners and printers, scripts. It is what section 3.3 calls a common source of errors.
    SPACE_AFTER_COLON = "RFC 5321 section 3.3, white space after FROM: or TO:"
    # Scripts on Unix and appliances; and whoever tries to smuggle a message past a relay.
    BARE_LF = "RFC 5321 section 2.3.8, a line that ends with LF alone"
    # Telnet users, shell scripts, embedded devices.
    NO_BRACKETS = "RFC 5321 section 4.1.2, a path without angle brackets"
    # Nobody but a few gateways, and those who look for an open relay. Servers have to take it, and to ignore the route.
    SOURCE_ROUTE = "RFC 5321 appendix C, a source route, which is dropped"
    # VERP, SRS and BATV put a second address or a signature into the local part: mailing lists and forwarders. Section
    # 4.5.3.1 lets clients try.
    LONG_LOCAL_PART = "RFC 5321 section 4.5.3.1.1, a local part of more than 64 octets"
    # Nobody: IPv6 is the only tag that is registered.
    UNKNOWN_LITERAL = "RFC 5321 section 4.1.3, an address literal whose tag nobody registered"
    # Hosts without a name, in mail clients and libraries that fall back from EHLO.
    HELO_LITERAL = "RFC 5321 section 4.1.1.1, an address literal in HELO"
    # Windows and container hosts that are called so.
    HELLO_UNDERSCORE = "RFC 5321 section 2.3.5, an underscore in the name that a host says of itself"
    # Hosts whose name was copied from a zone file or taken from a resolver.
    HELLO_DOT = "RFC 5321 section 2.3.5, a dot behind the name that a host says of itself, which is dropped"
    # Mail clients on IPv6 whose authors put brackets around what the socket told them.
    HELLO_UNTAGGED = "RFC 5321 section 4.1.3, an address literal with an IPv6 address and without IPv6: in a hello"
    # PHP and shell scripts.
    LOWER_CASE_MECHANISM = "RFC 4422 section 3.1, a mechanism that is not in upper case"

    # Of replies.

    # Small servers, and test servers. The same paragraph has clients take it.
    BARE_CODE = "RFC 5321 section 4.2, a code with nothing behind it"
    # 571 and the like: filters and appliances. The same section has clients go by the first digit.
    REPLY_CODE = "RFC 5321 section 4.2, a second digit above 5"
    # Servers that put a whole explanation with its links into one line. A challenge may be long: RFC 4954 section 4.
    LONG_REPLY_LINE = "RFC 5321 section 4.5.3.1.5, a line of more than 512 octets"
    # Servers with messages in their own language, or with a name in them that nobody encoded.
    EIGHT_BIT_REPLY = "RFC 6531 section 3.7.4.2, octets beyond ASCII where SMTPUTF8 was not asked for, or no UTF-8"
    # Servers that quote what they were sent, and those that try what a terminal or a log makes of it.
    CONTROL_IN_REPLY = "RFC 5321 section 4.2, a control character other than HT in the text"
    # Servers with a list of enhanced codes that does not go with their list of replies. It stays in the text.
    ENHANCED_CLASS = "RFC 2034 section 4, an enhanced code that disagrees with the reply's first digit"
    # Most servers forget one somewhere.
    ENHANCED_MISSING = "RFC 2034 section 4, a line without an enhanced code where the server announced them"
    # Servers that pass on what several others said.
    ENHANCED_UNEQUAL = "RFC 2034 section 4, lines of one reply with different enhanced codes"

    # Of the lines of an EHLO reply; a keyword may be in any case (section 4.1.1.1).

    # Servers that say something in prose there, or a keyword with an underscore.
    KEYWORD_SYNTAX = "RFC 5321 section 4.1.1.1, a line that is no keyword with parameters, and offers nothing"
    # Servers that say AUTH=LOGIN for the mail clients of the last century.
    KEYWORD_EQUALS = "RFC 5321 section 4.1.1.1, an equals sign for the space behind a keyword"
    # Servers whose list has an empty item.
    KEYWORD_SPACE = "RFC 5321 section 4.1.1.1, more than one SP between words, or one at the end"
    # Servers behind a proxy that adds its own. Nobody says what it means; the parameters are put together.
    KEYWORD_AGAIN = "RFC 5321 section 4.1.1.1, a keyword that comes again"
    # Servers with a limit that somebody wrote as 10M.
    SIZE_VALUE = "RFC 1870 section 3, a SIZE that is not one number of at most 20 digits"


# What the deviation of a command is where it is rejected, and so what it is answered.
FAULTS: Final[dict[Deviation, Fault]] = {
    Deviation.TRAILING_SPACE: Fault.ARGUMENT,
    Deviation.EXTRA_SPACE: Fault.ARGUMENT,
    Deviation.SPACE_AFTER_COLON: Fault.ARGUMENT,
    Deviation.BARE_LF: Fault.ARGUMENT,
    Deviation.NO_BRACKETS: Fault.ARGUMENT,
    Deviation.SOURCE_ROUTE: Fault.ADDRESS,
    Deviation.LONG_LOCAL_PART: Fault.ADDRESS,
    Deviation.UNKNOWN_LITERAL: Fault.ADDRESS,
    Deviation.HELO_LITERAL: Fault.ADDRESS,
    Deviation.HELLO_UNDERSCORE: Fault.ADDRESS,
    Deviation.HELLO_DOT: Fault.ADDRESS,
    Deviation.HELLO_UNTAGGED: Fault.ADDRESS,
    Deviation.LOWER_CASE_MECHANISM: Fault.ARGUMENT,
}

# And that of a reply, which ends the session.
REPLY_FAULTS: Final[dict[Deviation, Fault]] = {
    Deviation.BARE_LF: Fault.REPLY_SYNTAX,
    Deviation.BARE_CODE: Fault.REPLY_SYNTAX,
    Deviation.REPLY_CODE: Fault.REPLY_SYNTAX,
    Deviation.LONG_REPLY_LINE: Fault.REPLY_TOO_LONG,
    Deviation.EIGHT_BIT_REPLY: Fault.REPLY_SYNTAX,
    Deviation.CONTROL_IN_REPLY: Fault.REPLY_SYNTAX,
    Deviation.ENHANCED_CLASS: Fault.REPLY_SYNTAX,
    Deviation.ENHANCED_MISSING: Fault.REPLY_SYNTAX,
    Deviation.ENHANCED_UNEQUAL: Fault.REPLY_SYNTAX,
}


@final
@unique
class Treatment(Enum):
    """What is done about a deviation."""

    ACCEPT = "the line is taken, and nobody is told"
    FLAG = "the line is taken, and the `deviations` of what it says name it"
    REJECT = "a command is answered 501, a reply ends the session, a line of an EHLO reply offers nothing"


@final
@unique
class EarlyInput(Enum):
    """What is done about octets that a client sent where it had to wait for a reply (RFC 2920 section 3.1)."""

    FORBID = "554 5.5.0, and the session ends"
    NOTE = "they are taken, and `ServerConnection.noted` names what they are"


@final
@dataclass(frozen=True, slots=True)
class Policy:
    """What is done about each deviation: those in neither set are rejected, those in both are flagged."""

    accepts: frozenset[Deviation] = frozenset()
    flags: frozenset[Deviation] = frozenset()

    def treatment(self, deviation: Deviation) -> Treatment:
        """What is done about `deviation`."""
        if deviation in self.flags:
            return Treatment.FLAG
        return Treatment.ACCEPT if deviation in self.accepts else Treatment.REJECT

    def but(self, treatment: Treatment, *deviations: Deviation) -> Policy:
        """The same policy, except that `deviations` get `treatment`."""
        accepts, flags = self.accepts.difference(deviations), self.flags.difference(deviations)
        if treatment is Treatment.FLAG:
            return Policy(accepts, flags.union(deviations))
        return Policy(accepts.union(deviations) if treatment is Treatment.ACCEPT else accepts, flags)


# RFC 5321 to the letter: taken is what it has receivers take, and no more.
STRICT: Final = Policy(
    flags=frozenset({Deviation.TRAILING_SPACE, Deviation.SOURCE_ROUTE, Deviation.BARE_CODE, Deviation.REPLY_CODE})
)

# For those who want the mail to arrive, not to be right. A path without brackets is refused even so: which part of the
# line is the address, two readers of it may see differently.
_UNREMARKABLE: Final = frozenset(
    {Deviation.TRAILING_SPACE, Deviation.LONG_LOCAL_PART, Deviation.BARE_CODE, Deviation.ENHANCED_MISSING}
)
MX: Final = Policy(accepts=_UNREMARKABLE, flags=frozenset(set(Deviation) - _UNREMARKABLE - {Deviation.NO_BRACKETS}))

# Takes everything, and tells.
ALL_FLAGGED: Final = Policy(flags=frozenset(Deviation))

# What a sender may write: no deviation but in names and addresses that it was given. A host is called what it is
# called, one without a name has only its address to say in HELO, too, and an address is for its own host to judge
# (section 2.3.11).
SENDABLE: Final = Policy(
    accepts=frozenset(
        {Deviation.LONG_LOCAL_PART, Deviation.UNKNOWN_LITERAL, Deviation.HELO_LITERAL, Deviation.HELLO_UNDERSCORE}
    )
)

_NO_DEVIATIONS: Final[frozenset[Deviation]] = frozenset()  # one for all, since each command keeps what was noted


@final
class Notes:
    """Where a parser notes the deviations of what it reads: those that are flagged, and the one that was rejected.

    `faults` says what each is where it is rejected.
    """

    __slots__ = ("_faults", "_policy", "flagged", "rejected")

    def __init__(self, policy: Policy = ALL_FLAGGED, faults: Mapping[Deviation, Fault] = FAULTS) -> None:
        self._policy: Final = policy
        self._faults: Final = faults
        self.flagged: frozenset[Deviation] = _NO_DEVIATIONS
        self.rejected: Deviation | None = None

    def add(self, deviation: Deviation) -> None:
        """Note `deviation`. Raises GrammarError where the policy rejects it."""
        treatment = self._policy.treatment(deviation)
        if treatment is Treatment.REJECT:
            self.rejected = deviation
            raise GrammarError(self._faults[deviation], deviation.value)
        if treatment is Treatment.FLAG:
            self.flagged |= {deviation}


@final
@unique
class Leftover(Enum):
    """What becomes of octets that are here with STARTTLS, or with its 220, and so came in clear (RFC 3207 section 4).

    Neither ever takes them for anything. DISCARD drops those that have come when the reply is made or read, and goes on
    to the handshake, as Postfix does. What comes between that and the handshake nobody can tell from TLS: it is handed
    to TLS, and the handshake fails.
    """

    CLOSE = "EARLY_PLAINTEXT: the session ends"
    DISCARD = "they are dropped, and the handshake begins"
