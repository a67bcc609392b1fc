"""BDAT: RFC 3030."""

from __future__ import annotations

from typing import Final

from tests.differential.rows import (
    BARE_CR,
    BODY,
    DATA,
    EHLO,
    HANDSHAKE,
    HEADER,
    HELO,
    MAIL,
    MESSAGE,
    MESSAGE_SENT,
    NOOP,
    OPEN,
    RCPT,
    RSET,
    STARTTLS,
    refused,
    session,
)


def _bdat(content: bytes, last: bytes = b" LAST") -> bytes:
    """A chunk with its command."""
    return b"BDAT %d%s\r\n%s" % (len(content), last, content)


_H: Final = HEADER.replace(b"\r\n", b"\n")
_CONTENT: Final = HEADER + b"body\r\n"


CHUNKING: Final = (
    session("BDAT, one chunk", "RFC 3030 section 2", *OPEN, (_bdat(_CONTENT), "2")),
    session(
        "BDAT, two chunks", "section 2: each is answered", *OPEN, (_bdat(HEADER, b""), "2"), (_bdat(b"body\r\n"), "2")
    ),
    session(
        "BDAT, the chunk after its command",
        "section 2: the octets may come later",
        *OPEN,
        (b"BDAT %d LAST\r\n" % len(_CONTENT), ""),
        (_CONTENT, "2"),
    ),
    session(
        "BDAT, a chunk in pieces",
        "where TCP cuts means nothing",
        *OPEN,
        (b"BDAT 8 LA", ""),
        (b"ST\r", ""),
        (b"\nA: b\r", ""),
        (b"\n\r", ""),
        (b"\n", "2"),
    ),
    session(
        "BDAT, an empty last chunk",
        "section 2: the size may be 0",
        *OPEN,
        (_bdat(_CONTENT, b""), "2"),
        (b"BDAT 0 LAST\r\n", "2"),
    ),
    session("BDAT, nothing but an empty last chunk", "section 2: an empty message", *OPEN, (b"BDAT 0 LAST\r\n", "2")),
    session(
        "BDAT, an empty chunk in the middle",
        "section 2: the size may be 0",
        *OPEN,
        (_bdat(HEADER, b""), "2"),
        (b"BDAT 0\r\n", "2", "5"),
        (_bdat(b"body\r\n"), "2", "5"),
        differs="RFC 3030 section 2 lets any chunk be empty; Postfix wants LAST there",
    ),
    session(
        "BDAT in lower case",
        "RFC 5321 section 2.4: no case",
        *OPEN,
        (b"bdat %d last\r\n" % len(_CONTENT) + _CONTENT, "2"),
    ),
    session(
        "BDAT, all pipelined",
        "section 4.2 pipelines it",
        EHLO,
        (MAIL.send + RCPT.send + _bdat(HEADER, b"") + _bdat(b"body\r\n"), "2222"),
    ),
    session(
        "BDAT and the next transaction",
        "section 4.2 pipelines it",
        *OPEN,
        (_bdat(_CONTENT) + MAIL.send + RCPT.send, "222"),
        DATA,
        BODY,
    ),
    session(
        "BDAT and DATA in turn",
        "two transactions",
        EHLO,
        MAIL,
        RCPT,
        (_bdat(_CONTENT), "2"),
        *MESSAGE_SENT,
        MAIL,
        RCPT,
        (_bdat(_CONTENT), "2"),
    ),
    session("BDAT, dots", "section 2: no stuffing, no lone dot", *OPEN, (_bdat(HEADER + b".\r\n..\r\n.x\r\n"), "2")),
    session(
        "BDAT, a dot on either side of a cut",
        "section 2: no stuffing, no lone dot",
        *OPEN,
        (_bdat(HEADER + b"x\r\n.", b""), "2"),
        (_bdat(b"\r\ny\r\n"), "2"),
    ),
    session(
        "BDAT, a newline cut in two",
        "a chunk is no line",
        *OPEN,
        (_bdat(HEADER + b"x\r", b""), "2"),
        (_bdat(b"\ny\r\n"), "2"),
    ),
    session(
        "BDAT, no newline at the end",
        "section 2: octets, not lines",
        *OPEN,
        (_bdat(HEADER + b"x"), "2"),
        differs="RFC 3030 section 2: octets, not lines; Postfix keeps lines",
        kept=(_H + b"x", _H + b"x\n"),
    ),
    session(
        "BDAT, a bare LF", "RFC 5321 section 2.3.8 forbids it to the sender", *OPEN, (_bdat(HEADER + b"x\ny\r\n"), "2")
    ),
    session(
        "BDAT, a bare CR",
        "RFC 5321 section 2.3.8 forbids it to the sender",
        *OPEN,
        (_bdat(HEADER + b"x\ry\r\n"), "2"),
        differs=BARE_CR,
        kept=(_H + b"x\ny\n", _H + b"x\ry\n"),
    ),
    session("BDAT, NUL", "octets", *OPEN, (_bdat(HEADER + b"x\0y\r\n"), "2")),
    session("BDAT, 8 bits", "never stripped", *OPEN, (_bdat(HEADER + b"\xc3\xb6\xff\r\n"), "2")),
    session("BDAT, a long line", "more than a buffer", *OPEN, (_bdat(HEADER + b"x" * 5000 + b"\r\n"), "2")),
    session(
        "BDAT without a size",
        "section 2: it has one, and without it nobody knows where commands go on",
        *OPEN,
        (b"BDAT\r\n", "5 closed"),
    ),
    session("BDAT with letters for a size", "nobody knows where commands go on", *OPEN, (b"BDAT abc\r\n", "5 closed")),
    session(
        "BDAT with a size below nothing", "nobody knows where commands go on", *OPEN, (b"BDAT -1 LAST\r\n", "5 closed")
    ),
    session(
        "BDAT with a huge size", "nobody could send it", *OPEN, (b"BDAT 99999999999999999999999 LAST\r\n", "5 closed")
    ),
    session("BDAT with another word for LAST", "section 2: LAST", *OPEN, (b"BDAT 5 LOST\r\n", "5 closed")),
    session("BDAT with words after LAST", "section 2: nothing follows", *OPEN, (b"BDAT 5 LAST x\r\n", "5 closed")),
    session(
        "BDAT before EHLO",
        "RFC 5321 section 4.1.4; the octets are dropped all the same",
        (_bdat(b"NOOP\r\n"), "5", "5 closed"),
        differs="Postfix closes on what comes too early (smtpd_forbid_unauth_pipelining)",
    ),
    session(
        "BDAT before MAIL", "section 2: the octets are dropped all the same", EHLO, (_bdat(b"NOOP\r\n"), "5"), NOOP
    ),
    session(
        "BDAT before RCPT",
        "section 2: the octets are dropped all the same",
        EHLO,
        MAIL,
        (_bdat(b"NOOP\r\n"), "5"),
        NOOP,
    ),
    session(
        "BDAT after refused recipients only",
        "section 4.2: the octets are dropped all the same",
        EHLO,
        (MAIL.send + b"RCPT TO:<b@elsewhere.example>\r\n" + _bdat(_CONTENT), "255"),
        NOOP,
    ),
    session(
        "BDAT, two chunks without a recipient",
        "section 2: each is refused, each is dropped",
        EHLO,
        MAIL,
        (_bdat(HEADER, b"") + _bdat(b"body\r\n"), "55"),
        NOOP,
    ),
    session(
        "BDAT after HELO",
        "HELO offers nothing",
        HELO,
        MAIL,
        RCPT,
        (_bdat(b""), "5", "2"),
        differs="Postfix takes BDAT after HELO",
    ),
    session("DATA after BDAT", "section 3: they do not mix", *OPEN, (_bdat(HEADER, b""), "2"), refused(DATA)),
    session(
        "MAIL after BDAT",
        "section 2: the transaction is under way",
        *OPEN,
        (_bdat(HEADER, b""), "2"),
        refused(MAIL),
        RSET,
        *MESSAGE_SENT,
    ),
    session(
        "RCPT after BDAT",
        "section 2: the transaction is under way",
        *OPEN,
        (_bdat(HEADER, b""), "2"),
        refused(RCPT),
        RSET,
        *MESSAGE_SENT,
    ),
    session(
        "NOOP between chunks",
        "RFC 5321 section 4.1.1.9: it affects nothing",
        *OPEN,
        (_bdat(HEADER, b""), "2"),
        NOOP,
        (_bdat(b"body\r\n"), "2"),
    ),
    session(
        "RSET between chunks", "section 2: it drops the message", *OPEN, (_bdat(HEADER, b""), "2"), RSET, *MESSAGE_SENT
    ),
    session(
        "EHLO between chunks", "RFC 5321 section 4.1.4: as RSET", *OPEN, (_bdat(HEADER, b""), "2"), EHLO, *MESSAGE_SENT
    ),
    session("QUIT between chunks", "no last chunk, no message", *OPEN, (_bdat(HEADER, b""), "2")),
    session(
        "BDAT after the last chunk",
        "the transaction is over",
        *OPEN,
        (_bdat(_CONTENT), "2"),
        (_bdat(_CONTENT), "5"),
        NOOP,
    ),
    session(
        "BDAT at the limit", "RFC 1870 section 6.4", *OPEN, (_bdat(HEADER + b"x" * (MESSAGE - 1100) + b"\r\n"), "2")
    ),
    session("BDAT over the limit", "RFC 1870 section 6.4: 552", *OPEN, (_bdat(HEADER + b"x" * MESSAGE), "5"), NOOP),
    session(
        "BDAT over the limit in two chunks",
        "RFC 1870 section 6.4: all chunks count",
        *OPEN,
        (_bdat(HEADER + b"x" * (MESSAGE - 2000), b""), "2"),
        (_bdat(b"x" * 4000), "5"),
        NOOP,
    ),
    session(
        "BDAT over the limit, and more",
        "section 2: later chunks are refused, too",
        *OPEN,
        (_bdat(HEADER + b"x" * (MESSAGE + 10), b""), "5"),
        (_bdat(b"x"), "5"),
        NOOP,
    ),
    session(
        "BDAT, cut in a chunk",
        "section 2: no whole chunk, no message",
        *OPEN,
        (b"BDAT 100 LAST\r\n" + HEADER, ""),
        cut=True,
    ),
    session(
        "BDAT, cut between chunks", "section 2: no last chunk, no message", *OPEN, (_bdat(_CONTENT, b""), "2"), cut=True
    ),
    session(
        "BDAT in TLS",
        "as in clear",
        EHLO,
        STARTTLS,
        HANDSHAKE,
        *OPEN,
        (_bdat(HEADER, b""), "2"),
        (_bdat(b"body\r\n"), "2"),
    ),
    session("BDAT, a command as content", "section 2: octets", *OPEN, (_bdat(HEADER + b"QUIT\r\nRSET\r\n"), "2")),
)
