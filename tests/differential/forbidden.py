"""What no mail client says, and what comes before a reply that a mail client waits for."""

from __future__ import annotations

from typing import Final

from tests.differential.rows import (
    BODY,
    DATA,
    EHLO,
    HEADER,
    HELO,
    MAIL,
    NOOP,
    OPEN,
    RCPT,
    TO_BODY,
    Session,
    session,
)

_REST: Final = b"Host: example.org\r\nCookie: a=b\r\n\r\nMAIL FROM:<a@example.com>\r\n"
_FIRST: Final = "we know any request of HTTP by its first line; Postfix answers that, and closes at the first header"
_KNOWN: Final = "to us no line of SMTP is a request of HTTP, whatever its verb; Postfix forbids no verb that it knows"
_STEPS: Final = "RFC 4954 section 4 has a client wait at each step of AUTH; Postfix does not mind"


def _cut(what: str, line: bytes, reason: str) -> Session:
    return session(f"forbidden: {what}", reason, (line + b"\r\n", "2 closed"))


FORBIDDEN: Final = (
    *(
        session(
            f"forbidden: {method}",
            "smtpd_forbidden_commands",
            (method.encode() + b" / HTTP/1.1\r\n" + _REST, "2 closed"),
        )
        for method in ("GET", "POST", "CONNECT")
    ),
    *(
        session(
            f"forbidden: {method}",
            "RFC 9110 section 9: methods may have any name",
            (method.encode() + b" / HTTP/1.1\r\n" + _REST, "2 closed", "52 closed"),
            differs=_FIRST,
        )
        for method in ("HEAD", "PUT", "OPTIONS", "DELETE", "PATCH", "TRACE", "PROPFIND")
    ),
    session(
        "forbidden: the preface of HTTP/2",
        "RFC 9113 section 3.4",
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "2 closed", "5555"),
        differs=_FIRST,
    ),
    session(
        "forbidden: VRFY as a method",
        "ALPACA: a page may choose it",
        EHLO,
        (b"VRFY / HTTP/1.1\r\n" + _REST, "2 closed", "5 closed"),
        differs=_KNOWN,
    ),
    session(
        "forbidden: RSET as a method",
        "ALPACA: a page may choose it",
        EHLO,
        (b"RSET / HTTP/1.1\r\n" + _REST, "2 closed", "52 closed"),
        differs=_KNOWN,
    ),
    _cut("get", b"get /", "words are compared without case"),
    _cut("Get alone", b"Get", "the first word decides"),
    _cut("white space, GET", b" \tGET /", "white space in front is no part of it"),
    _cut("Host:", b"Host: x", "a header"),
    _cut("Subject:x", b"Subject:x", "a header"),
    _cut("X-Foo:", b"X-Foo:", "a header"),
    _cut("From:", b"From: <a@example.com>", "a header"),
    _cut("DATA:", b"DATA: x", "a header, whatever its name"),
    _cut("TLS in clear text", b"\x16\x03\x01\x02\x00\x01", "no letter comes first"),
    _cut("a digit", b"250 OK", "no letter comes first"),
    _cut("a dot", b".", "no letter comes first"),
    _cut("a star", b"*", "no letter comes first"),
    _cut("JSON", b"{}", "no letter comes first"),
    _cut("XML", b"<?xml?>", "no letter comes first"),
    _cut("8 bits", b"\xc3\xb6", "no letter comes first"),
    session("not forbidden: GETS", "a whole word", (b"GETS /\r\n", "5"), NOOP),
    session("not forbidden: Subject : x", "the first word has no colon", (b"Subject : x\r\n", "5"), NOOP),
    session("not forbidden: an empty line", "nothing is no word", (b"\r\n", "5"), NOOP),
    session("not forbidden: FOO", "unknown, and no more", (b"FOO /\r\n", "5"), NOOP),
    session("forbidden after EHLO", "at any time", EHLO, (b"GET /\r\n", "2 closed")),
    session("forbidden in a transaction", "at any time", *OPEN, (b"GET /\r\n", "2 closed")),
    session(
        "forbidden after DATA was refused", "at any time", EHLO, (b"DATA\r\n", "5"), (b"Subject: x\r\n", "2 closed")
    ),
    session("forbidden after a message", "at any time", *TO_BODY, BODY, (b"GET /\r\n", "2 closed")),
    session(
        "GET in a message", "there it is content", *TO_BODY, (HEADER + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n.\r\n", "2")
    ),
)

EARLY: Final = (
    session("early: HELO and MAIL", "RFC 2920 section 3.1", (HELO.send + MAIL.send, "5 closed")),
    session("early: half a command", "any octet counts", (EHLO.send + b"M", "5 closed")),
    session("early: NOOP in a group", "RFC 2920 section 3.1", EHLO, (MAIL.send + NOOP.send + RCPT.send, "25 closed")),
    session("early: DATA out of order", "whatever its answer", EHLO, (DATA.send + b"RSET\r\n", "5 closed")),
    session("early: EHLO without a name", "whatever its answer", (b"EHLO\r\nRSET\r\n", "5 closed")),
    session("early: RSET and EHLO", "nothing is offered yet", (b"RSET\r\n" + EHLO.send, "5 closed")),
    session("early: MAIL before EHLO", "nothing is offered yet", (MAIL.send + RCPT.send, "5 closed")),
    session("early: a body after HELO", "DATA ends its group", HELO, MAIL, RCPT, (DATA.send + BODY.send, "5 closed")),
    session(
        "not early: after the body, HELO",
        "the lone dot may be followed",
        HELO,
        MAIL,
        RCPT,
        DATA,
        (BODY.send + MAIL.send, "22"),
    ),
    session(
        "early: a group after EHLO and HELO",
        "HELO is offered nothing",
        EHLO,
        HELO,
        (MAIL.send + RCPT.send, "5 closed", "22"),
        differs="to Postfix a session stays ESMTP after HELO; we go by what the last hello was offered",
    ),
    session(
        "early: EXPN and RSET",
        "RFC 2920 section 3.1",
        EHLO,
        (b"EXPN x\r\nRSET\r\n", "5 closed", "52"),
        differs="Postfix has no EXPN, and waits for nobody behind an unknown verb",
    ),
    session(
        "early: AUTH and RSET",
        "RFC 4954 section 4",
        EHLO,
        (b"AUTH PLAIN\r\nRSET\r\n", "5 closed", "52"),
        differs=_STEPS,
    ),
)
