"""Long lines, large messages, many recipients, errors and junk."""

from __future__ import annotations

from typing import Final

from tests.differential.rows import (
    BODY,
    DATA,
    EHLO,
    ERRORS,
    HEADER,
    JUNK,
    MAIL,
    MESSAGE,
    MESSAGE_SENT,
    NOOP,
    OPEN,
    RCPT,
    RECIPIENTS,
    RSET,
    TO_BODY,
    Step,
    session,
)


def _noop(octets: int) -> bytes:
    """A NOOP line of so many octets, CRLF among them."""
    return b"NOOP " + b"x" * (octets - 7) + b"\r\n"


def _content(octets: int) -> bytes:
    lines, rest = divmod(octets - len(HEADER), 64)
    return HEADER + (b"x" * 62 + b"\r\n") * (lines - 1) + b"y" * (62 + rest) + b"\r\n"


_MANY: Final = tuple((b"RCPT TO:<b%d@example.org>\r\n" % number, "2") for number in range(RECIPIENTS))

_ERRORS_OVER: Final = "Postfix says 421 right after the last error, we say it in reply to one error more"

LIMITS: Final = (
    session("a command of 512", "RFC 5321 section 4.5.3.1.4", EHLO, (_noop(512), "2")),
    session("a command of 1024", "section 4.5.3.1.4: extensions make them longer", EHLO, (_noop(1024), "2")),
    session("a command of 2048", "the longest that we take", EHLO, (_noop(2048), "2")),
    session(
        "a command of 2049",
        "one octet more",
        EHLO,
        (_noop(2049), "5", "2"),
        differs="Postfix 3.7 cuts a long command and runs what is left; RFC 5321 section 4.5.3.1.10 has 500",
    ),
    session(
        "a command of 2050",
        "two octets more",
        EHLO,
        (_noop(2050), "5", "2"),
        NOOP,
        differs="Postfix 3.7 cuts a long command and runs what is left; RFC 5321 section 4.5.3.1.10 has 500",
    ),
    session(
        "a command of 4000",
        "dropped, and the session goes on",
        EHLO,
        (_noop(4000), "5", "2"),
        NOOP,
        differs="Postfix 3.7 cuts a long command and runs what is left; RFC 5321 section 4.5.3.1.10 has 500",
    ),
    session(
        "a command of 4000 in a transaction",
        "it affects nothing",
        *OPEN,
        (_noop(4000), "5", "2"),
        DATA,
        BODY,
        differs="Postfix 3.7 cuts a long command and runs what is left; RFC 5321 section 4.5.3.1.10 has 500",
    ),
    session(
        "a path of 256",
        "section 4.5.3.1.3",
        EHLO,
        (b"MAIL FROM:<" + b"x" * 64 + b"@" + (b"y" * 62 + b".") * 3 + b"z>\r\n", "2"),
    ),
    session("a message near the limit", "RFC 1870 section 6.4", *TO_BODY, (_content(MESSAGE - 1000) + b".\r\n", "2")),
    session(
        "a message at the limit",
        "RFC 1870 section 6.4",
        *TO_BODY,
        (_content(MESSAGE) + b".\r\n", "2", "5"),
        differs="Postfix counts its own header and the envelope",
    ),
    session(
        "a message over the limit",
        "RFC 1870 section 6.4: 552 at its end",
        *TO_BODY,
        (_content(MESSAGE + 1) + b".\r\n", "5"),
        NOOP,
    ),
    session(
        "a message well over the limit",
        "it is dropped to its end, and the session goes on",
        *TO_BODY,
        (_content(MESSAGE * 5 // 4) + b".\r\n", "5"),
        *MESSAGE_SENT,
    ),
    session(
        "a message far over the limit",
        "it is dropped to its end, and the session goes on",
        *TO_BODY,
        (_content(MESSAGE * 4) + b".\r\n", "5 closed", "5"),
        differs="we hang up at one and a half times the limit; Postfix reads on",
    ),
    session(
        "dots do not count",
        "RFC 1870 section 5: without the stuffing",
        *TO_BODY,
        (HEADER + b"..\r\n" * (MESSAGE // 3 - 500) + b".\r\n", "2"),
    ),
    session(
        "more than was announced",
        "RFC 1870 section 6.3: an estimate",
        EHLO,
        (b"MAIL FROM:<a@example.com> SIZE=1\r\n", "2"),
        RCPT,
        DATA,
        BODY,
    ),
    session(
        "less than was announced",
        "RFC 1870 section 6.3: an estimate",
        EHLO,
        (b"MAIL FROM:<a@example.com> SIZE=1000\r\n", "2"),
        RCPT,
        DATA,
        BODY,
    ),
    session("as many recipients as there may be", "section 4.5.3.1.8", EHLO, MAIL, *_MANY, DATA, BODY),
    session(
        "one recipient too many",
        "section 4.5.3.1.10: 452, and the rest stands",
        EHLO,
        MAIL,
        *_MANY,
        RCPT._replace(ours="4"),
        DATA,
        BODY,
    ),
    session(
        "recipients are counted anew",
        "section 4.1.1.5: RSET drops them",
        EHLO,
        MAIL,
        *_MANY,
        RSET,
        MAIL,
        *_MANY,
        DATA,
        BODY,
    ),
    session(
        "refused recipients do not count",
        "only those that were accepted",
        EHLO,
        MAIL,
        *[(b"RCPT TO:<b@elsewhere.example>\r\n", "5")] * 12,
        RCPT,
        DATA,
        BODY,
    ),
    session("errors below the limit", "the session goes on", EHLO, *[(b"FOO\r\n", "5")] * (ERRORS - 1), NOOP),
    session(
        "errors at the limit",
        "421 right after the last",
        EHLO,
        *[(b"FOO\r\n", "5")] * (ERRORS - 1),
        (b"FOO\r\n", "5", "54 closed"),
        (b"FOO\r\n", "4 closed"),
        differs=_ERRORS_OVER,
    ),
    session(
        "errors at once",
        "421 right after the last that counts",
        EHLO,
        (b"FOO\r\n" * (ERRORS + 5), "5" * ERRORS + "4 closed"),
    ),
    session(
        "errors of every kind",
        "each counts",
        EHLO,
        *[(b"DATA\r\n", "5"), (b"MAIL FROM:<\r\n", "5"), (b"\r\n", "5"), (b"EHLO\r\n", "5")] * 4,
        *[(b"RCPT TO:<b@example.org>\r\n", "5")] * 3,
        (b"FOO\r\n", "5", "54 closed"),
        (b"FOO\r\n", "4 closed"),
        differs=_ERRORS_OVER,
    ),
    session(
        "refused recipients are errors",
        "a dictionary attack",
        EHLO,
        MAIL,
        *[(b"RCPT TO:<b@elsewhere.example>\r\n", "5")] * (ERRORS - 1),
        (b"RCPT TO:<b@elsewhere.example>\r\n", "5", "54 closed"),
        (b"RCPT TO:<b@elsewhere.example>\r\n", "54 closed"),
        differs=_ERRORS_OVER,
    ),
    session(
        "a message forgives errors",
        "the count begins anew",
        EHLO,
        *[(b"FOO\r\n", "5")] * (ERRORS - 1),
        *MESSAGE_SENT,
        *[(b"FOO\r\n", "5")] * 2,
    ),
    session(
        "long lines are errors",
        "each counts",
        EHLO,
        *[(_noop(3000), "5", "2")] * ERRORS,
        (_noop(3000), "4 closed", "2"),
        differs="Postfix 3.7 cuts a long command and runs what is left; RFC 5321 section 4.5.3.1.10 has 500",
    ),
    session("junk below the limit", "the session goes on", EHLO, *[NOOP] * (JUNK - 1), *MESSAGE_SENT),
    session(
        "a message forgives junk", "the count begins anew", EHLO, *[NOOP] * (JUNK - 1), *MESSAGE_SENT, *[NOOP] * JUNK
    ),
    session(
        "junk over the limit",
        "what is over the limit counts as errors",
        EHLO,
        *[NOOP] * (JUNK + 2),
    ),
    session(
        "junk of every kind",
        "each counts",
        EHLO,
        *[RSET, Step(b"VRFY b\r\n", "2"), EHLO] * 6,
        *[(b"NOOP\r\n", "2")] * 2,
    ),
)
