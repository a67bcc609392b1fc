"""Bare newlines: Postfix's smtpd in each mode of smtpd_forbid_bare_newline, and ours told the same.

Where newlines are normalized, which is what both do without being told, `bodies.py` has many rows more.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from smtpstate_anyio import Admission
from smtpstate_server._settings import Settings
from tests.differential import ours
from tests.differential.compare import compare
from tests.differential.conftest import OUR_LIMITS, SETTINGS, running_postfix
from tests.differential.rows import BODY, DATA, DOMAIN, EHLO, HEADER, MAIL, OPEN, RCPT, TO_BODY, Session, session

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.differential.ours import Ours
    from tests.differential.postfix import Postfix
    from tests.peers.serving import Certificates

_H: Final = HEADER.replace(b"\r\n", b"\n")
_DROPS: Final = "Postfix ends lines at LF too, where it takes dots off and drops lone ones; we keep what was sent"
_CR: Final = "Postfix looks at LF alone; to us a bare CR is no better, since others end lines there"
_LONG: Final = (
    "Postfix drops a line that is too long before it looks at its end; to us it is a bare newline all the same"
)
_ENDS: Final = "Postfix ends a message at any pair of newlines there; nothing makes us do that"
_LAST: Final = "Postfix ends the last line itself, whatever is missing; to us a CR without LF is a bare CR"


def _bdat(content: bytes, last: bytes = b" LAST") -> bytes:
    return b"BDAT %d%s\r\n%s" % (len(content), last, content)


class Mode(NamedTuple):
    """What both are told, and what is said to them then; `postfix` is what it is told instead."""

    name: str
    settings: dict[str, str]
    sessions: tuple[Session, ...]
    postfix: dict[str, str] | None = None


# What nobody minds, in any mode.
_CLEAN: Final = (
    session("nothing is wrong", "RFC 5321 section 2.3.8: CRLF", EHLO, MAIL, RCPT, DATA, BODY),
    session("CRLF across two chunks", "it is one", *OPEN, (_bdat(HEADER + b"x\r", b""), "2"), (_bdat(b"\ny\r\n"), "2")),
    session("a CR inside a command", "500: it is no white space", EHLO, (b"NO\rOP\r\n", "5")),
    session("CR CR LF behind a command", "one CR belongs to the newline", EHLO, (b"RSETX\r\r\n", "5")),
)

_TAKEN: Final = (
    session("LF behind a command", "taken", EHLO, (b"NOOP\n", "2")),
    session("LF behind every command", "taken", (b"EHLO c.example.com\n", "2"), (b"RSET\nNOOP\n", "22")),
    session("LF behind DATA", "taken", *OPEN, (b"DATA\n", "3"), (HEADER + b"x\r\n.\r\n", "2")),
    session("LF behind BDAT", "taken", *OPEN, (b"BDAT 14 LAST\n" + HEADER, "2")),
    session("LF in a message", "taken", *TO_BODY, (HEADER + b"x\ny\r\n.\r\n", "2")),
    session("LF in a chunk", "taken", *OPEN, (_bdat(HEADER + b"x\ny\r\n"), "2")),
)

_NOTE: Final = (
    session("CR in a message", "as it was sent", *TO_BODY, (HEADER + b"x\ry\r\n.\r\n", "2")),
    session("CR CR LF in a message", "as it was sent", *TO_BODY, (HEADER + b"x\r\r\ny\r\n.\r\n", "2")),
    session("CR in a chunk", "as it was sent", *OPEN, (_bdat(HEADER + b"x\ry\r\n"), "2")),
    session(
        "LF dot CRLF",
        "no end",
        *TO_BODY,
        (HEADER + b"x\n.\r\ny\r\n.\r\n", "2"),
        differs=_DROPS,
        kept=(_H + b"x\n.\ny\n", _H + b"x\ny\n"),
    ),
)

_REJECT: Final = (
    session("LF behind a command", "said, and the end of the session", EHLO, (b"NOOP\nNOOP\r\n", "5 closed")),
    session("LF behind EHLO", "said, and the end of the session", (b"EHLO c.example.com\n", "5 closed")),
    session("LF behind an unknown command", "whatever it says", EHLO, (b"FOO\n", "5 closed")),
    session("LF behind DATA", "no body follows", *OPEN, (b"DATA\n", "5 closed")),
    session("LF behind BDAT", "no chunk follows", *OPEN, (b"BDAT 14 LAST\n" + HEADER, "5 closed")),
    session("LF behind a long line", "it ends there", EHLO, (b"x" * 3000 + b"\n", "5 closed", "5"), differs=_LONG),
    session("LF in a message", "refused, and the session goes on", *TO_BODY, (HEADER + b"x\ny\r\n.\r\n", "5")),
    session("after a message with LF", "another may follow", *TO_BODY, (b"x\n\r\n.\r\n", "5"), MAIL, RCPT, DATA, BODY),
    session("LF dot CRLF", "no end", *TO_BODY, (HEADER + b"x\n.\r\n", ""), (b"y\r\n.\r\n", "5")),
    session("CRLF dot LF", "no end", *TO_BODY, (HEADER + b"x\r\n.\n", ""), (b"y\r\n.\r\n", "5")),
    session("LF in a chunk", "refused", *OPEN, (_bdat(HEADER + b"x\ny\r\n"), "5")),
    session(
        "LF in the first of two chunks",
        "refused, and so is what follows",
        *OPEN,
        (_bdat(HEADER + b"x\ny\r\n", b""), "5"),
        (_bdat(b"z\r\n"), "5"),
    ),
    session(
        "LF in the second of two chunks", "refused there", *OPEN, (_bdat(HEADER, b""), "2"), (_bdat(b"y\nz\r\n"), "5")
    ),
    session("CR in a message", "it is no newline", *TO_BODY, (HEADER + b"x\ry\r\n.\r\n", "5", "2"), differs=_CR),
    session("CR CR LF in a message", "one too many", *TO_BODY, (HEADER + b"x\r\r\n.\r\n", "5", "2"), differs=_CR),
    session("CR in a chunk", "it is no newline", *OPEN, (_bdat(HEADER + b"x\ry\r\n"), "5", "2"), differs=_CR),
    session("CR at the end of the last chunk", "it is bare", *OPEN, (_bdat(HEADER + b"x\r"), "5", "2"), differs=_LAST),
)

_REJECT_521: Final = (
    session("LF behind a command", "said, and the end of the session", EHLO, (b"NOOP\nNOOP\r\n", "5 closed")),
    session("LF in a message", "refused, and the end", *TO_BODY, (HEADER + b"x\ny\r\n.\r\nNOOP\r\n", "5 closed")),
    session("LF in a chunk", "refused, and the end", *OPEN, (_bdat(HEADER + b"x\ny\r\n") + b"NOOP\r\n", "5 closed")),
)

# Postfix's no, which is what it does for those that are excluded: ours is a note.
_NO: Final = (
    session(
        "LF dot LF",
        "one message, or one and rubbish",
        *TO_BODY,
        (HEADER + b"x\n.\ny\r\n.\r\n", "2", "252 closed"),
        differs=_ENDS,
        kept=(_H + b"x\n.\ny\n", _H + b"x\n"),
    ),
    session(
        "LF dot CRLF",
        "one message, or one and rubbish",
        *TO_BODY,
        (HEADER + b"x\n.\r\ny\r\n.\r\n", "2", "252 closed"),
        differs=_ENDS,
        kept=(_H + b"x\n.\ny\n", _H + b"x\n"),
    ),
    session(
        "CRLF dot LF",
        "one message, or one and rubbish",
        *TO_BODY,
        (HEADER + b"x\r\n.\ny\r\n.\r\n", "2", "252 closed"),
        differs=_ENDS,
        kept=(_H + b"x\n\ny\n", _H + b"x\n"),
    ),
    session(
        "CRLF dot CR CR LF",
        "one message, or one and rubbish",
        *TO_BODY,
        (HEADER + b"x\r\n.\r\r\ny\r\n.\r\n", "2", "252 closed"),
        differs=_ENDS,
        kept=(_H + b"x\n\r\ny\n", _H + b"x\n"),
    ),
    session(
        "CR CR LF in a message",
        "as it was sent, or without any CR",
        *TO_BODY,
        (HEADER + b"x\r\r\ny\r\n.\r\n", "2"),
        differs="Postfix takes all CRs before an LF for one there; we keep what was sent",
        kept=(_H + b"x\r\ny\n", _H + b"x\ny\n"),
    ),
    session("CR in a message", "as it was sent", *TO_BODY, (HEADER + b"x\ry\r\n.\r\n", "2")),
)

_NAME: Final = "smtpd_forbid_bare_newline"
_HERE: Final = "127.0.0.0/8"

MODES: Final = (
    Mode("normalize", {_NAME: "normalize"}, (*_CLEAN, *_TAKEN)),
    Mode("yes", {_NAME: "yes"}, _TAKEN),
    # Postfix has note from 3.9 on. It takes what normalize takes, and stores lines with its own newlines either way.
    Mode("note", {_NAME: "note"}, (*_CLEAN, *_TAKEN, *_NOTE), {_NAME: "normalize"}),
    Mode("reject", {_NAME: "reject"}, (*_CLEAN, *_REJECT)),
    Mode("reject 521", {_NAME: "reject", f"{_NAME}_reject_code": "521"}, _REJECT_521),
    Mode("no", {_NAME: "no"}, (*_TAKEN, *_NO)),
    Mode("excluded", {_NAME: "reject", f"{_NAME}_exclusions": _HERE}, (*_TAKEN, *_NO)),
)


class Pair(NamedTuple):
    our_server: Ours
    postfix: Postfix


@pytest.fixture(scope="module")
def told_alike(request: pytest.FixtureRequest, certificates: Certificates) -> Generator[Pair, None, None]:
    """Both, told the same in the same words."""
    mode: Mode = request.param
    texts = [f"{name}={value}" for name, value in mode.settings.items()]
    wire = Settings(OUR_LIMITS, Admission()).plus(texts).wire
    with ExitStack() as stack:
        our_server = stack.enter_context(ours.running(DOMAIN, certificates.server, OUR_LIMITS, wire))
        postfix = stack.enter_context(running_postfix(certificates, {**SETTINGS, **(mode.postfix or mode.settings)}))
        yield Pair(our_server, postfix)


@pytest.mark.parametrize(
    ("told_alike", "row"),
    [pytest.param(mode, row, id=f"{mode.name}: {row.name}") for mode in MODES for row in mode.sessions],
    indirect=["told_alike"],
)
def test_both_say_and_keep_the_same_in_each_mode_or_the_row_says_why(told_alike: Pair, row: Session):
    compare(row, *told_alike)


def test_the_rows_of_a_mode_are_what_they_claim():
    for mode in MODES:
        assert len({row.name for row in mode.sessions}) == len(mode.sessions)
        for row in mode.sessions:
            differs = row.kept is not None or any(step.postfix is not None for step in row.steps)
            assert bool(row.differs) is differs, (mode.name, row.name)
