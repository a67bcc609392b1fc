"""What a body may hold, how it ends, and what does not end it."""

from __future__ import annotations

from typing import Final

from tests.differential.rows import (
    BARE_CR,
    BODY,
    DATA,
    EHLO,
    HEADER,
    HELO,
    MAIL,
    OPEN,
    RCPT,
    TO_BODY,
    Session,
    session,
)
from tests.near_terminators import NEAR_TERMINATORS, NearTerminator


def _body(
    name: str, content: bytes, reason: str, *, differs: str = "", kept: tuple[bytes, bytes] | None = None
) -> Session:
    """A message of that content, stuffed already, and its end."""
    return session(name, reason, *TO_BODY, (HEADER + content + b".\r\n", "2"), differs=differs, kept=kept)


# How a header and the rest of a message look once newlines are LF.
_H: Final = HEADER.replace(b"\r\n", b"\n")
_MBOX: Final = b"From a@example.com Thu Jan  1 00:00:00 1970\r\n"
_MBOX_KEPT: Final = (_MBOX + HEADER + b"body\r\n").replace(b"\r\n", b"\n")
_SMUGGLED: Final = b"MAIL FROM:<admin@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n" + HEADER + b"y\r\n"
_KEPT: Final = _SMUGGLED.replace(b"\r\n", b"\n")

_LINES: Final = "Postfix ends lines at LF too, where it takes dots off and drops lone ones; we keep what was sent"

_BODIES: Final = (
    _body("dots in front", b"..\r\n...\r\n..x\r\n.. \r\n", "RFC 5321 section 4.5.2: one goes"),
    _body("dots that nobody stuffed", b".x\r\n. \r\n.\t\r\n", "section 4.5.2: one goes, whatever follows"),
    _body("a dot behind", b"x.\r\n", "section 4.5.2: only in front"),
    _body("a dot in the first line of the body", b"..\r\n", "a line as any other"),
    _body("empty lines", b"\r\n\r\nx\r\n\r\n\r\n", "nothing is trimmed"),
    _body("blanks at the ends of lines", b"x \r\n\t\r\n  \r\n", "nothing is trimmed"),
    _body("no body", b"", "only a header and the empty line"),
    _body("a line of 998", b"x" * 998 + b"\r\n", "RFC 5322 section 2.1.1"),
    _body("a line of 999", b"x" * 999 + b"\r\n", "section 4.5.3.1.6 wants more to be taken where it can be"),
    _body("a line of 2048", b"x" * 2048 + b"\r\n", "as long as a buffer of Postfix"),
    _body("a line of 10000", b"x" * 10_000 + b"\r\n", "as long as the lines of some HTML"),
    _body(
        "a dot after 2048 octets", b"x" * 2048 + b".\r\nx\r\n", "no start of a line, though Postfix's buffer ends here"
    ),
    _body("a dot after 4096 octets", b"x" * 4096 + b".\r\nx\r\n", "no start of a line"),
    _body("a long line that begins with a dot", b"." + b"x" * 5000 + b"\r\n", "section 4.5.2: one goes"),
    _body("8 bits", "Grüße\r\n".encode(), "RFC 6152: never stripped"),
    _body("every octet above 127", bytes(range(128, 256)) + b"\r\n", "RFC 6152: never stripped, though no UTF-8"),
    _body(
        "controls",
        bytes(range(1, 10)) + b"\x0b\x0c" + bytes(range(14, 32)) + b"\x7f\r\n",
        "section 4.5.2 lets them pass",
    ),
    _body("NUL", b"x\0y\r\n", "RFC 5322 section 4 has it as obsolete"),
    _body(
        "a bare CR",
        b"x\ry\r\n",
        "section 2.3.8 forbids it to the sender",
        differs=BARE_CR,
        kept=(_H + b"x\ny\n", _H + b"x\ry\n"),
    ),
    _body("a bare LF", b"x\ny\r\n", "section 2.3.8 forbids it to the sender"),
    _body(
        "CR CR LF",
        b"x\r\r\ny\r\n",
        "a CR too many",
        differs=BARE_CR,
        kept=(_H + b"x\n\ny\n", _H + b"x\r\ny\n"),
    ),
    _body(
        "LF CR",
        b"x\n\ry\r\n",
        "the wrong way round",
        differs=BARE_CR,
        kept=(_H + b"x\n\ny\n", _H + b"x\n\ry\n"),
    ),
    _body(
        "CR before the end",
        b"x\r\r\n",
        "it belongs to the content",
        differs=BARE_CR,
        kept=(_H + b"x\n\n", _H + b"x\r\n"),
    ),
    _body("many lines", b"0123456789\r\n" * 4000, "more than a buffer"),
    session("no newline but the one that ends DATA", "section 4.1.1.4: an empty message", *TO_BODY, (b".\r\n", "2")),
    session(
        "a header and no empty line",
        "RFC 5322 section 2.1: the body may be missing",
        *TO_BODY,
        (b"Subject: s\r\n.\r\n", "2"),
    ),
    session(
        "a body and no header",
        "SMTP does not look",
        *TO_BODY,
        (b"body\r\n.\r\n", "2"),
        differs="Postfix puts an empty line between its header and a body without one",
        kept=(b"body\n", b"\nbody\n"),
    ),
    session("an empty line first", "SMTP does not look", *TO_BODY, (b"\r\nbody\r\n.\r\n", "2")),
    session(
        "a dot at the very start",
        "a line as any other",
        *TO_BODY,
        (b"..\r\n.\r\n", "2"),
        differs="Postfix puts an empty line between its header and a body without one",
        kept=(b".\n", b"\n.\n"),
    ),
    session(
        "an mbox line first",
        "SMTP does not look",
        *TO_BODY,
        (_MBOX + BODY.send, "2"),
        differs="Postfix makes a header of it",
        kept=(_MBOX_KEPT, b"X-Mailbox-Line: " + _MBOX_KEPT),
    ),
    session(
        "LF dot CRLF at the very start",
        "the newline of DATA is CRLF, so the dot comes after an LF",
        *TO_BODY,
        (HEADER + b"\n.\r\n", ""),
        (b"x\r\n.\r\n", "2"),
        differs=_LINES,
        kept=(_H + b"\n.\nx\n", _H + b"\nx\n"),
    ),
    session(
        "a dot and LF at the very start",
        "no end without CRLF",
        *TO_BODY,
        (b".\n", ""),
        (HEADER + b"x\r\n.\r\n", "2"),
        differs=_LINES,
        kept=(b"\n" + _H + b"x\n", _H + b"x\n"),
    ),
    session(
        "DATA that ends in LF, and a dot", "the newline before the dot is LF", *OPEN, (b"DATA\n", "3"), (b".\r\n", "2")
    ),
    session(
        "the end in pieces",
        "where TCP cuts means nothing",
        *TO_BODY,
        (HEADER + b"x\r", ""),
        (b"\n", ""),
        (b".", ""),
        (b"\r", ""),
        (b"\n", "2"),
    ),
    session(
        "a body in pieces",
        "where TCP cuts means nothing",
        *TO_BODY,
        (b"Sub", ""),
        (b"ject: s\r\n", ""),
        (b"\r\n.", ""),
        (b".x\r", ""),
        (b"\n..", ""),
        (b"\r\n.\r\n", "2"),
    ),
    session(
        "a near end in pieces",
        "where TCP cuts means nothing",
        *TO_BODY,
        (HEADER + b"x\r\n.", ""),
        (b"y\r\n", ""),
        (b".\r\n", "2"),
    ),
    session("8 bits after HELO", "never stripped", HELO, MAIL, RCPT, DATA, (HEADER + b"\xe4\r\n.\r\n", "2")),
    session(
        "8 bits that were not announced",
        "never stripped",
        EHLO,
        (b"MAIL FROM:<a@example.com> BODY=7BIT\r\n", "2"),
        RCPT,
        DATA,
        (HEADER + b"\xe4\r\n.\r\n", "2"),
    ),
    session(
        "a smuggled command after LF dot LF",
        "no end, so no second message",
        *TO_BODY,
        (HEADER + b"x\n.\n" + _SMUGGLED + b".\r\n", "2"),
        differs=_LINES,
        kept=(_H + b"x\n.\n" + _KEPT, _H + b"x\n" + _KEPT),
    ),
    session(
        "a smuggled command after LF dot CRLF",
        "no end, so no second message",
        *TO_BODY,
        (HEADER + b"x\n.\r\n" + _SMUGGLED + b".\r\n", "2"),
        differs=_LINES,
        kept=(_H + b"x\n.\n" + _KEPT, _H + b"x\n" + _KEPT),
    ),
    session(
        "a smuggled command after CRLF dot LF",
        "no end, so no second message",
        *TO_BODY,
        (HEADER + b"x\r\n.\n" + _SMUGGLED + b".\r\n", "2"),
        differs=_LINES,
        kept=(_H + b"x\n\n" + _KEPT, _H + b"x\n" + _KEPT),
    ),
    session(
        "a smuggled command after CR dot CR",
        "no end, so no second message",
        *TO_BODY,
        (HEADER + b"x\r.\r" + _SMUGGLED + b".\r\n", "2"),
        differs=BARE_CR,
        kept=(_H + b"x\n.\n" + _KEPT, _H + b"x\r.\r" + _KEPT),
    ),
    session(
        "LF dot CRLF dot CRLF",
        "the first dot is no end, the second",
        *TO_BODY,
        (HEADER + b"x\n.\r\n.\r\n", "2"),
        differs=_LINES,
        kept=(_H + b"x\n.\n", _H + b"x\n"),
    ),
    session("cut in the content", "section 4.1.1.4: no end, so no message", *TO_BODY, (HEADER + b"bo", ""), cut=True),
    session(
        "cut after a line", "section 4.1.1.4: no end, so no message", *TO_BODY, (HEADER + b"body\r\n", ""), cut=True
    ),
    session(
        "cut before the dot's newline",
        "section 4.1.1.4: no end, so no message",
        *TO_BODY,
        (HEADER + b"body\r\n.", ""),
        cut=True,
    ),
    session(
        "cut inside the dot's newline",
        "section 4.1.1.4: no end, so no message",
        *TO_BODY,
        (HEADER + b"body\r\n.\r", ""),
        cut=True,
    ),
    session("cut after 354", "section 4.1.1.4: no end, so no message", *TO_BODY, cut=True),
    session("cut in a transaction", "a transaction without DATA is nothing", *OPEN, cut=True),
    session("cut in a command", "half a command is none", EHLO, MAIL, (b"RCPT TO:<b@exam", ""), cut=True),
    session("cut before LF", "half a command is none", EHLO, (b"NOOP\r", ""), cut=True),
    session("cut at once", "somebody looks whether we listen", (b"", ""), cut=True),
    session("cut after the message", "accepted is accepted", EHLO, MAIL, RCPT, DATA, BODY, cut=True),
)

# What Postfix keeps of near terminators, newlines as LF, where that is not what we keep.
_NEAR: Final = {
    b"\n.\n": b"\n",
    b"\n.\r\n": b"\n",
    b"\r\n.\n": b"\n",
    b"\n.\r": b"\n\r",
    b"\r\n\n.\r\n": b"\n\n",
    b"\r\n.\n\r\n": b"\n\n",
    b"\n\n.\n\n": b"\n\n\n",
    b"\r\0\n.\r\n": b"\r\0\n",
}


def _near(row: NearTerminator) -> Session:
    steps = (*TO_BODY, (HEADER + b"x" + row.near + b"y\r\n.\r\n", "2"))
    name = f"near the end: {row.near!r}"
    ours, content = (octets.replace(b"\r\n", b"\n") for octets in (row.normalized, row.content))
    postfix = _NEAR.get(row.near, content)
    if postfix == ours:
        return session(name, row.reason, *steps)
    kept = _H + b"x" + ours + b"y\n", _H + b"x" + postfix + b"y\n"
    return session(name, row.reason, *steps, differs=_LINES if row.near in _NEAR else BARE_CR, kept=kept)


BODIES: Final = (*_BODIES, *map(_near, NEAR_TERMINATORS))
