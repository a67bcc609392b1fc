"""The form of a scripted session, and the steps that most of them share."""

from __future__ import annotations

from typing import Final, NamedTuple

DOMAIN: Final = "example.org"  # whom both servers take mail for
MESSAGE: Final = 65_536  # octets of content that both take
RECIPIENTS: Final = 10
ERRORS: Final = 20
JUNK: Final = 20

# Why what is kept of a bare CR differs where newlines are normalized.
BARE_CR: Final = "smtpd lets a bare CR pass, and cleanup makes a space of it; we make it a newline"


class Step(NamedTuple):
    """What the client sends at once, and the first digits of all replies that it waits for before it goes on.

    "closed" after the digits: the server closes. `postfix` is None where Postfix answers as we do. Nothing to send
    and "tls" stand for a handshake.
    """

    send: bytes
    ours: str
    postfix: str | None = None


class Session(NamedTuple):
    """`steps` after the greeting, and why they are here. QUIT follows, unless the session is `cut` or closed.

    `differs` says why the two disagree on purpose: in a reply, in the content that is kept (`kept`: ours, Postfix's;
    newlines as LF), or in a message that only one of them takes.
    """

    name: str
    reason: str
    steps: tuple[Step, ...]
    differs: str
    kept: tuple[bytes, bytes] | None
    cut: bool


def session(
    name: str,
    reason: str,
    *steps: Step | tuple[bytes, str] | tuple[bytes, str, str | None],
    differs: str = "",
    kept: tuple[bytes, bytes] | None = None,
    cut: bool = False,
) -> Session:
    made = tuple(Step(*step) for step in steps)
    closes = made[-1].ours.endswith("closed") and (made[-1].postfix or "closed").endswith("closed")
    return Session(name, reason, made if cut or closes else (*made, QUIT), differs, kept, cut)


def refused(step: Step) -> Step:
    """The same, said where it gets a 5yz."""
    return step._replace(ours="5")


EHLO: Final = Step(b"EHLO client.example.com\r\n", "2")
HELO: Final = Step(b"HELO client.example.com\r\n", "2")
MAIL: Final = Step(b"MAIL FROM:<a@example.com>\r\n", "2")
RCPT: Final = Step(b"RCPT TO:<b@example.org>\r\n", "2")
DATA: Final = Step(b"DATA\r\n", "3")
HEADER: Final = b"Subject: s\r\n\r\n"
BODY: Final = Step(HEADER + b"body\r\n.\r\n", "2")
RSET: Final = Step(b"RSET\r\n", "2")
NOOP: Final = Step(b"NOOP\r\n", "2")
QUIT: Final = Step(b"QUIT\r\n", "2 closed")
STARTTLS: Final = Step(b"STARTTLS\r\n", "2")
HANDSHAKE: Final = Step(b"", "tls")

OPEN: Final = (EHLO, MAIL, RCPT)
TO_BODY: Final = (*OPEN, DATA)
MESSAGE_SENT: Final = (MAIL, RCPT, DATA, BODY)
