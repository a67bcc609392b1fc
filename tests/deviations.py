"""A line for every deviation: data for tests and for the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from smtpstate._address import ForwardPath, Mailbox, ReversePath
from smtpstate._commands import Auth, Data, Ehlo, Helo, Mail, Rcpt
from smtpstate._policy import Deviation, Treatment

if TYPE_CHECKING:
    from smtpstate._commands import Command

ACCEPT: Final = Treatment.ACCEPT
FLAG: Final = Treatment.FLAG
REJECT: Final = Treatment.REJECT

A: Final = Mailbox("a", "b.example")
LONG: Final = "x" * 65


class Deviant(NamedTuple):
    """One row: on the wire, what it is, what it departs in, what the profiles do, the code where it is rejected."""

    wire: bytes
    command: Command
    deviation: Deviation
    mx: Treatment
    strict: Treatment
    enhanced: str
    senders: str


DEVIANTS: Final[tuple[Deviant, ...]] = (
    Deviant(
        b"DATA \r\n",
        Data(),
        Deviation.TRAILING_SPACE,
        ACCEPT,
        FLAG,
        "5.5.4",
        "people at a keyboard, scripts, old appliances; section 4.1.1 has receivers tolerate it",
    ),
    Deviant(
        b"MAIL  FROM:<a@b.example>\r\n",
        Mail(ReversePath(A)),
        Deviation.EXTRA_SPACE,
        FLAG,
        REJECT,
        "5.5.4",
        "scripts that put a line together from parts of which one was empty",
    ),
    Deviant(
        b"MAIL FROM: <a@b.example>\r\n",
        Mail(ReversePath(A)),
        Deviation.SPACE_AFTER_COLON,
        FLAG,
        REJECT,
        "5.5.4",
        "Outlook, scanners, printers, scripts",
    ),
    Deviant(
        b"DATA\n",
        Data(),
        Deviation.BARE_LF,
        FLAG,
        REJECT,
        "5.5.4",
        "scripts on Unix, appliances, and those who try to smuggle a message",
    ),
    Deviant(
        b"RCPT TO:a@b.example\r\n",
        Rcpt(ForwardPath(A)),
        Deviation.NO_BRACKETS,
        REJECT,
        REJECT,
        "5.5.4",
        "people at a keyboard, scripts, devices",
    ),
    Deviant(
        b"MAIL FROM:<@r.example,@s.example:a@b.example>\r\n",
        Mail(ReversePath(A)),
        Deviation.SOURCE_ROUTE,
        FLAG,
        FLAG,
        "5.1.7",
        "a few gateways, and those who look for an open relay; servers have to take it",
    ),
    Deviant(
        b"RCPT TO:<" + LONG.encode() + b"@b.example>\r\n",
        Rcpt(ForwardPath(Mailbox(LONG, "b.example"))),
        Deviation.LONG_LOCAL_PART,
        ACCEPT,
        REJECT,
        "5.1.3",
        "mailing lists and forwarders: VERP, SRS, BATV; section 4.5.3.1 lets them try",
    ),
    Deviant(
        b"MAIL FROM:<a@[x-tag:content]>\r\n",
        Mail(ReversePath(Mailbox("a", "[x-tag:content]"))),
        Deviation.UNKNOWN_LITERAL,
        FLAG,
        REJECT,
        "5.1.7",
        "nobody: IPv6 is the only tag there is",
    ),
    Deviant(
        b"HELO [192.0.2.1]\r\n",
        Helo("[192.0.2.1]"),
        Deviation.HELO_LITERAL,
        FLAG,
        REJECT,
        "5.5.4",
        "hosts without a name whose EHLO was refused",
    ),
    Deviant(
        b"EHLO my_host\r\n",
        Ehlo("my_host"),
        Deviation.HELLO_UNDERSCORE,
        FLAG,
        REJECT,
        "5.5.4",
        "Windows and container hosts that are called so",
    ),
    Deviant(
        b"EHLO b.example.\r\n",
        Ehlo("b.example"),
        Deviation.HELLO_DOT,
        FLAG,
        REJECT,
        "5.5.4",
        "hosts whose name came from a zone file or a resolver",
    ),
    Deviant(
        b"EHLO [2001:db8::1]\r\n",
        Ehlo("[2001:db8::1]"),
        Deviation.HELLO_UNTAGGED,
        FLAG,
        REJECT,
        "5.5.4",
        "mail clients on IPv6 that put brackets around what the socket told them",
    ),
    Deviant(
        b"AUTH plain\r\n",
        Auth("PLAIN"),
        Deviation.LOWER_CASE_MECHANISM,
        FLAG,
        REJECT,
        "5.5.4",
        "PHP and shell scripts",
    ),
)
