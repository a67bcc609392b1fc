"""Commands that do not wait for replies, and STARTTLS."""

from __future__ import annotations

from typing import Final

from tests.differential.rows import (
    BODY,
    DATA,
    EHLO,
    HANDSHAKE,
    HEADER,
    HELO,
    MAIL,
    MESSAGE_SENT,
    NOOP,
    OPEN,
    QUIT,
    RCPT,
    RSET,
    STARTTLS,
    TO_BODY,
    refused,
    session,
)

_MAIL: Final = MAIL.send
_RCPT: Final = RCPT.send
_MESSAGE: Final = HEADER + b"body\r\n.\r\n"

PIPELINING: Final = (
    session("MAIL RCPT DATA", "RFC 2920 section 3.1", EHLO, (_MAIL + _RCPT + b"DATA\r\n", "223"), BODY),
    session(
        "MAIL RCPT RCPT DATA with a refusal",
        "RFC 2920 section 3.1",
        EHLO,
        (_MAIL + b"RCPT TO:<b@elsewhere.example>\r\n" + _RCPT + b"DATA\r\n", "2523"),
        BODY,
    ),
    session(
        "MAIL RCPT DATA, all refused",
        "RFC 2920 section 3.1: DATA is refused, too",
        EHLO,
        (_MAIL + b"RCPT TO:<b@elsewhere.example>\r\nDATA\r\n", "255"),
        NOOP,
    ),
    session(
        "MAIL refused, RCPT DATA",
        "RFC 2920 section 3.1: each gets its reply",
        EHLO,
        (b"MAIL FROM:<a@example.com> FOO\r\n" + _RCPT + b"DATA\r\n", "555"),
        NOOP,
    ),
    session(
        "RSET MAIL RCPT DATA",
        "RFC 2920 section 3.1: RSET may stand anywhere",
        EHLO,
        MAIL,
        (b"RSET\r\n" + _MAIL + _RCPT + b"DATA\r\n", "2223"),
        BODY,
    ),
    session(
        "the body and the next transaction",
        "RFC 2920 section 3.1: the lone dot may be followed",
        EHLO,
        MAIL,
        RCPT,
        DATA,
        (_MESSAGE + _MAIL + _RCPT + b"DATA\r\n", "2223"),
        BODY,
    ),
    session(
        "the body and QUIT",
        "RFC 2920 section 3.1: the lone dot may be followed",
        *TO_BODY,
        (_MESSAGE + b"QUIT\r\n", "22 closed"),
    ),
    session(
        "RSET RSET QUIT", "RFC 2920 section 3.1: QUIT ends a group", EHLO, (b"RSET\r\nRSET\r\nQUIT\r\n", "222 closed")
    ),
    session("something after QUIT", "nobody reads it", EHLO, (b"QUIT\r\nNOOP\r\n", "2 closed")),
    session("an unknown verb and NOOP", "every line gets its reply", EHLO, (b"FOO\r\nNOOP\r\n", "52")),
    session(
        "a group in pieces",
        "where TCP cuts means nothing",
        EHLO,
        (_MAIL[:9], ""),
        (_MAIL[9:] + _RCPT[:4], "2"),
        (_RCPT[4:] + b"DATA\r", "2"),
        (b"\n", "3"),
        BODY,
    ),
    session(
        "two EHLO at once",
        "RFC 2920 section 3.1: EHLO ends a group",
        (EHLO.send * 2, "5 closed"),
    ),
    session(
        "EHLO and MAIL at once",
        "RFC 2920 section 3.1: EHLO ends a group",
        (EHLO.send + _MAIL, "5 closed"),
    ),
    session(
        "NOOP NOOP at once",
        "RFC 2920 section 3.1: NOOP ends a group",
        EHLO,
        (b"NOOP\r\nNOOP\r\n", "5 closed"),
    ),
    session(
        "VRFY VRFY at once",
        "RFC 2920 section 3.1: VRFY ends a group",
        EHLO,
        (b"VRFY b\r\nVRFY c\r\n", "5 closed"),
    ),
    session(
        "DATA and the body at once",
        "RFC 2920 section 3.1: DATA ends a group",
        *OPEN,
        (b"DATA\r\n" + _MESSAGE, "5 closed"),
    ),
    session(
        "a whole session at once",
        "RFC 2920 section 3.1: clients that never wait",
        (EHLO.send + _MAIL + _RCPT + b"DATA\r\n" + _MESSAGE + b"QUIT\r\n", "5 closed"),
    ),
    session(
        "MAIL and RCPT at once after HELO",
        "RFC 2920 section 3.1: not offered to HELO",
        HELO,
        (_MAIL + _RCPT, "5 closed"),
    ),
    session(
        "QUIT and more after HELO",
        "RFC 2920 section 3.1: not offered to HELO",
        HELO,
        (b"QUIT\r\nNOOP\r\n", "2 closed", "5 closed"),
        differs="what stands behind QUIT is never read, so nothing can come of it: we say 221 where Postfix says 554",
    ),
    session(
        "HELP and more at once",
        "HELP is in nobody's list",
        EHLO,
        (b"HELP\r\nRSET\r\n", "5 closed", "52"),
        differs="Postfix 3.7 has no HELP, and waits for nobody behind an unknown verb; ours ends its group",
    ),
    session("STARTTLS and a message", "RFC 3207", EHLO, STARTTLS, HANDSHAKE, EHLO, *MESSAGE_SENT),
    session("STARTTLS forgets EHLO", "RFC 3207 section 4.2", EHLO, STARTTLS, HANDSHAKE, refused(MAIL), EHLO, MAIL),
    session(
        "STARTTLS twice",
        "RFC 3207 section 4.2: not offered in TLS",
        EHLO,
        STARTTLS,
        HANDSHAKE,
        EHLO,
        refused(STARTTLS),
    ),
    session(
        "STARTTLS first",
        "a session begins with EHLO",
        STARTTLS._replace(ours="5", postfix="2"),
        differs="Postfix starts TLS whenever it is asked to",
        cut=True,
    ),
    session(
        "STARTTLS after HELO",
        "HELO offers nothing",
        HELO,
        STARTTLS._replace(ours="5", postfix="2"),
        differs="Postfix starts TLS whenever it is asked to",
        cut=True,
    ),
    session("STARTTLS with an argument", "RFC 3207 section 4: 501", EHLO, (b"STARTTLS now\r\n", "5")),
    session(
        "STARTTLS in a transaction",
        "RFC 3207 section 4.2 would forget it",
        *OPEN,
        STARTTLS._replace(ours="5", postfix="2"),
        differs="Postfix starts TLS whenever it is asked to",
        cut=True,
    ),
    session("STARTTLS after RSET", "a transaction that is gone", *OPEN, RSET, STARTTLS, HANDSHAKE, EHLO, *MESSAGE_SENT),
    session(
        "STARTTLS after a message",
        "a transaction that is over",
        EHLO,
        *MESSAGE_SENT,
        STARTTLS,
        HANDSHAKE,
        EHLO,
        *MESSAGE_SENT,
    ),
    session(
        "STARTTLS and NOOP at once",
        "RFC 3207 section 4: what comes before the handshake is not to be trusted",
        EHLO,
        (b"STARTTLS\r\nNOOP\r\n", "5 closed", "2"),
        differs="Postfix throws away what came with it, and shakes hands; we close",
        cut=True,
    ),
    session(
        "pipelining in TLS", "as in clear", EHLO, STARTTLS, HANDSHAKE, EHLO, (_MAIL + _RCPT + b"DATA\r\n", "223"), BODY
    ),
    session("QUIT in TLS", "as in clear", EHLO, STARTTLS, HANDSHAKE, QUIT),
    session("HELO in TLS", "as in clear", EHLO, STARTTLS, HANDSHAKE, HELO, *MESSAGE_SENT),
)
