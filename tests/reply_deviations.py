"""A reply, or the lines of an EHLO reply, for every deviation that a client meets: data for tests and documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from smtpstate._events import Violation
from smtpstate._policy import Deviation, Treatment
from smtpstate._replies import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCEPT: Final = Treatment.ACCEPT
FLAG: Final = Treatment.FLAG
REJECT: Final = Treatment.REJECT

LONG: Final = "x" * 509


class ReplyDeviant(NamedTuple):
    """One row: on the wire, what it is, what it departs in, what the profiles do, what it is where it is rejected."""

    wire: bytes
    reply: Reply
    deviation: Deviation
    mx: Treatment
    strict: Treatment
    violation: Violation
    senders: str


class OfferDeviant(NamedTuple):
    """One row: lines of an EHLO reply, what they offer where they are taken and where the deviant one is not."""

    lines: tuple[str, ...]
    taken: Mapping[str, tuple[str, ...]]
    rejected: Mapping[str, tuple[str, ...]]
    deviation: Deviation
    mx: Treatment
    strict: Treatment
    senders: str


# Each answers a command of a session whose server announced ENHANCEDSTATUSCODES.
REPLY_DEVIANTS: Final[tuple[ReplyDeviant, ...]] = (
    ReplyDeviant(
        b"250 2.0.0 fine\n",
        Reply(250, "fine", enhanced="2.0.0"),
        Deviation.BARE_LF,
        FLAG,
        REJECT,
        Violation.REPLY_SYNTAX,
        "servers made of a script, test servers",
    ),
    ReplyDeviant(
        b"354\r\n",
        Reply(354),
        Deviation.BARE_CODE,
        ACCEPT,
        FLAG,
        Violation.REPLY_SYNTAX,
        "small servers, test servers; section 4.2 has clients take it",
    ),
    ReplyDeviant(
        b"571 5.7.1 no\r\n",
        Reply(571, "no", enhanced="5.7.1"),
        Deviation.REPLY_CODE,
        FLAG,
        FLAG,
        Violation.REPLY_SYNTAX,
        "filters, appliances; section 4.2 has clients go by the first digit",
    ),
    ReplyDeviant(
        b"550 5.7.1 " + LONG.encode() + b"\r\n",
        Reply(550, LONG, enhanced="5.7.1"),
        Deviation.LONG_REPLY_LINE,
        FLAG,
        REJECT,
        Violation.REPLY_TOO_LONG,
        "servers that put a whole explanation with its links into one line",
    ),
    ReplyDeviant(
        b"550 5.1.1 unbekannter Empf\xe4nger\r\n",
        Reply(550, "unbekannter Empf\ufffdnger", enhanced="5.1.1"),
        Deviation.EIGHT_BIT_REPLY,
        FLAG,
        REJECT,
        Violation.REPLY_SYNTAX,
        "servers that speak their own language, or name somebody whom they did not encode",
    ),
    ReplyDeviant(
        b"550 5.1.1 no \x1b[2J here\r\n",
        Reply(550, "no \x1b[2J here", enhanced="5.1.1"),
        Deviation.CONTROL_IN_REPLY,
        FLAG,
        REJECT,
        Violation.REPLY_SYNTAX,
        "servers that quote what they were sent, and those that try what a terminal or a log makes of it",
    ),
    ReplyDeviant(
        b"354 2.0.0 go on\r\n",
        Reply(354, "2.0.0 go on"),
        Deviation.ENHANCED_CLASS,
        FLAG,
        REJECT,
        Violation.REPLY_SYNTAX,
        "servers whose list of enhanced codes does not go with that of their replies; it stays in the text",
    ),
    ReplyDeviant(
        b"250 fine\r\n",
        Reply(250, "fine"),
        Deviation.ENHANCED_MISSING,
        ACCEPT,
        REJECT,
        Violation.REPLY_SYNTAX,
        "most servers, somewhere",
    ),
    ReplyDeviant(
        b"250-2.1.0 a\r\n250 2.1.5 b\r\n",
        Reply(250, "a", "2.1.5 b", enhanced="2.1.0"),
        Deviation.ENHANCED_UNEQUAL,
        FLAG,
        REJECT,
        Violation.REPLY_SYNTAX,
        "servers that pass on what several others said",
    ),
)

OFFER_DEVIANTS: Final[tuple[OfferDeviant, ...]] = (
    OfferDeviant(
        ("MY_OWN",),
        {},
        {},
        Deviation.KEYWORD_SYNTAX,
        FLAG,
        REJECT,
        "servers that say something in prose, or name things with an underscore",
    ),
    OfferDeviant(
        ("AUTH=LOGIN",),
        {"AUTH": ("LOGIN",)},
        {},
        Deviation.KEYWORD_EQUALS,
        FLAG,
        REJECT,
        "servers that have mail clients of the last century, most of them beside the other spelling",
    ),
    OfferDeviant(
        ("AUTH  LOGIN",),
        {"AUTH": ("LOGIN",)},
        {},
        Deviation.KEYWORD_SPACE,
        FLAG,
        REJECT,
        "servers whose list has an empty item; one SP at the end, too",
    ),
    OfferDeviant(
        ("AUTH LOGIN", "AUTH PLAIN"),
        {"AUTH": ("LOGIN", "PLAIN")},
        {"AUTH": ("LOGIN",)},
        Deviation.KEYWORD_AGAIN,
        FLAG,
        REJECT,
        "servers behind a proxy that adds its own",
    ),
    OfferDeviant(
        ("SIZE 10M",),
        {"SIZE": ("10M",)},
        {},
        Deviation.SIZE_VALUE,
        FLAG,
        REJECT,
        "servers whose limit somebody wrote so; it is none",
    ),
    OfferDeviant(
        ("AUTH login",),
        {"AUTH": ("login",)},
        {},
        Deviation.LOWER_CASE_MECHANISM,
        FLAG,
        REJECT,
        "servers whose list somebody typed",
    ),
)
