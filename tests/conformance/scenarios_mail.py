"""Scenarios of transactions: envelopes, refusals at each point, bodies, and their dots."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from smtpstate import CloseReason, Limits, Violation
from smtpstate_testing._core_scenarios import (
    ACCEPTED,
    CONFIG,
    CONTENT,
    DATA,
    DOT,
    ENVELOPE,
    HELLO,
    QUIT,
    hello,
)
from smtpstate_testing._scenario import MESSAGE, Scenario, Send

LETTER: Final = f"{ENVELOPE}{DATA}{CONTENT}{DOT}"
MAIL: Final = "C: MAIL FROM:<me@example.com>\nS: 250 2.1.0\n"
RCPT: Final = "C: RCPT TO:<you@example.org>\n"
NOBODY: Final = {"RCPT you@example.org": "550 5.1.1 Nobody of that name"}
ME: Final = "me@example.com"
YOU: Final = "you@example.org"


def of(body: bytes) -> tuple[str, tuple[str, ...], bytes]:
    """The usual message, with another body."""
    return (ME, (YOU,), body)


ENVELOPES: Final = (
    Scenario(
        name="from-nobody",
        why="the null reverse-path, as of reports (RFC 5321 section 4.5.5)",
        dialogue=f"{HELLO}\nC: MAIL FROM:<>\nS: 250 2.1.0\n{RCPT}S: 250 2.1.5\n{DATA}{CONTENT}{DOT}{QUIT}",
        took=(("", (YOU,), Send().octets),),
        actions=(Send(sender=""),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="to-the-postmaster",
        why="RFC 5321 section 4.1.1.3: without a domain, in any case",
        dialogue=f"{HELLO}{MAIL}\nC: RCPT TO:<Postmaster>\nS: 250 2.1.5\n{DATA}{CONTENT}{DOT}{QUIT}",
        seats=("server",),
        took=((ME, ("Postmaster",), Send().octets),),
    ),
    Scenario(
        name="a-quoted-local-part",
        why="octets that no atom may hold, between quotes",
        dialogue=f'{HELLO}{MAIL}\nC: RCPT TO:<"a b"@example.org>\nS: 250 2.1.5\n{DATA}{CONTENT}{DOT}{QUIT}',
        took=((ME, ('"a b"@example.org',), Send().octets),),
        actions=(Send(recipients=('"a b"@example.org',)),),
        told=('"a b"@example.org accepted 250',),
    ),
    Scenario(
        name="a-source-route",
        why="RFC 5321 appendix C: read over, and ignored",
        dialogue=f"{HELLO}{MAIL}C: RCPT TO:<@relay.example:you@example.org>\nS: 250\n{DATA}{CONTENT}{DOT}{QUIT}",
        seats=("server",),
        took=(MESSAGE,),
    ),
    Scenario(
        name="three-recipients",
        why="one message for all of them",
        dialogue=f"""
            {HELLO}{MAIL}
            C: RCPT TO:<a@example.org>
            S: 250 2.1.5
            C: RCPT TO:<b@example.org>
            S: 250 2.1.5
            C: RCPT TO:<c@example.org>
            S: 250 2.1.5
            {DATA}{CONTENT}{DOT}{QUIT}""",
        took=((ME, ("a@example.org", "b@example.org", "c@example.org"), Send().octets),),
        actions=(Send(recipients=("a@example.org", "b@example.org", "c@example.org")),),
        told=("a@example.org accepted 250", "b@example.org accepted 250", "c@example.org accepted 250"),
    ),
    Scenario(
        name="some-recipients-refused",
        why="the refusal of one does not touch the others, for ever or for now",
        dialogue=f"""
            {HELLO}{MAIL}
            C: RCPT TO:<no@example.org>
            S: 550 5.1.1
            {RCPT}S: 250 2.1.5
            C: RCPT TO:<later@example.org>
            S: 450 4.2.1
            {DATA}{CONTENT}{DOT}{QUIT}""",
        verdicts={"RCPT no@example.org": "550 5.1.1 No", "RCPT later@example.org": "450 4.2.1 Later"},
        took=(MESSAGE,),
        actions=(Send(recipients=("no@example.org", YOU, "later@example.org")),),
        told=("no@example.org refused 550", ACCEPTED, "later@example.org retry 450"),
    ),
    Scenario(
        name="too-many-recipients",
        why="RFC 5321 section 4.5.3.1.10: 452, and those before stand",
        dialogue=f"""
            {HELLO}{MAIL}{RCPT}S: 250 2.1.5
            C: RCPT TO:<more@example.org>
            S: 452 4.5.3
            {DATA}{CONTENT}{DOT}{QUIT}""",
        config=replace(CONFIG, limits=Limits(recipients=1)),
        refused=(Violation.TOO_MANY_RECIPIENTS,),
        took=(MESSAGE,),
        actions=(Send(recipients=(YOU, "more@example.org")),),
        told=(ACCEPTED, "more@example.org retry 452"),
    ),
    Scenario(
        name="an-address-that-is-none",
        why="the next one may be better",
        dialogue=f"""
            {HELLO}{MAIL}
            C: RCPT TO:<a..b@example.org>
            S: 501 5.1.3
            {RCPT}S: 250 2.1.5
            {DATA}{CONTENT}{DOT}{QUIT}""",
        seats=("server",),
        refused=(Violation.ADDRESS,),
        took=(MESSAGE,),
    ),
    Scenario(
        name="a-parameter-that-nobody-offered",
        why="RFC 5321 section 4.1.1.11: 555",
        dialogue=f"{HELLO}\nC: MAIL FROM:<me@example.com> FROB=1\nS: 555 5.5.4\n{LETTER}{QUIT}",
        seats=("server",),
        refused=(Violation.PARAMETER_UNKNOWN,),
        took=(MESSAGE,),
    ),
)

REFUSALS: Final = (
    Scenario(
        name="the-sender-refused",
        why="for all recipients, and the session goes on",
        dialogue=f"{HELLO}\nC: MAIL FROM:<spam@example.com>\nS: 550 5.7.1\n{LETTER}{QUIT}",
        verdicts={"MAIL": ("550 5.7.1 Not from you",)},
        took=(MESSAGE,),
        actions=(Send(sender="spam@example.com"), Send()),
        told=("you@example.org refused 550", ACCEPTED),
    ),
    Scenario(
        name="the-sender-put-off",
        why="the same for now",
        dialogue=f"{HELLO}\nC: MAIL FROM:<me@example.com>\nS: 451 4.3.0\n{QUIT}",
        verdicts={"MAIL": "451 4.3.0 Later"},
        actions=(Send(),),
        told=("you@example.org retry 451",),
    ),
    Scenario(
        name="421-for-the-sender",
        why="the server ends it there",
        dialogue=f"{HELLO}\nC: MAIL FROM:<me@example.com>\nS: 421 4.3.2",
        verdicts={"MAIL": "421 4.3.2 Going down"},
        server_ends=CloseReason.CLOSED,
        actions=(Send(),),
        told=("you@example.org retry 421",),
        client_ends=CloseReason.GOING_AWAY,
    ),
    Scenario(
        name="521-for-a-recipient",
        why="RFC 7504: it takes no mail, and ends it",
        dialogue=f"{HELLO}{MAIL}{RCPT}S: 521 5.3.2",
        verdicts={"RCPT you@example.org": "521 5.3.2 No mail here"},
        server_ends=CloseReason.CLOSED,
        actions=(Send(),),
        told=("you@example.org refused 521",),
        client_ends=CloseReason.GOING_AWAY,
    ),
    Scenario(
        name="no-valid-recipient",
        why="in lock-step a client knows better than to say DATA",
        dialogue=f"{HELLO}{MAIL}{RCPT}S: 550 5.1.1\nC: RSET\nS: 250 2.0.0\n{QUIT}",
        verdicts=NOBODY,
        actions=(Send(),),
        told=("you@example.org refused 550",),
    ),
    Scenario(
        name="no-valid-recipient-pipelined",
        why="RFC 2920 section 3.1: DATA has left, and is 554",
        dialogue=f"""
            {hello("PIPELINING")}
            C: MAIL FROM:<me@example.com>
            {RCPT}
            C: DATA
            S: 250 2.1.0
            S: 550 5.1.1
            S: 554 5.5.1
            C: RSET
            S: 250 2.0.0
            {QUIT}""",
        verdicts=NOBODY,
        refused=(Violation.OUT_OF_SEQUENCE,),
        actions=(Send(),),
        told=("you@example.org refused 550",),
    ),
    Scenario(
        name="354-for-nobody",
        why="RFC 2920 section 3.1: some say so all the same, and get a lone dot, whose reply counts for nothing",
        dialogue=f"""
            {hello("PIPELINING")}
            C: MAIL FROM:<me@example.com>
            {RCPT}
            C: DATA
            S: 250 2.1.0
            S: 550 5.1.1
            S: 354 go ahead
            C: .
            S: 250 2.0.0
            {QUIT}""",
        seats=("client",),
        actions=(Send(),),
        told=("you@example.org refused 550",),
    ),
    Scenario(
        name="data-refused",
        why="5yz in place of 354: nothing is sent, and the transaction is dropped",
        dialogue=f"{HELLO}{ENVELOPE}\nC: DATA\nS: 554 5.7.1\nC: RSET\nS: 250 2.0.0\n{QUIT}",
        verdicts={"DATA": "554 5.7.1 No"},
        actions=(Send(),),
        told=("you@example.org refused 554",),
    ),
    Scenario(
        name="data-put-off",
        why="4yz in place of 354",
        dialogue=f"{HELLO}{ENVELOPE}\nC: DATA\nS: 451 4.3.0\nC: RSET\nS: 250 2.0.0\n{QUIT}",
        verdicts={"DATA": "451 4.3.0 Later"},
        actions=(Send(),),
        told=("you@example.org retry 451",),
    ),
    Scenario(
        name="421-for-data",
        why="the server ends it there",
        dialogue=f"{HELLO}{ENVELOPE}\nC: DATA\nS: 421 4.3.2",
        verdicts={"DATA": "421 4.3.2 Going down"},
        server_ends=CloseReason.CLOSED,
        actions=(Send(),),
        told=("you@example.org retry 421",),
        client_ends=CloseReason.GOING_AWAY,
    ),
    Scenario(
        name="the-message-refused",
        why="for ever: the client must not try again",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}{CONTENT}\nC: .\nS: 554 5.6.0\n{LETTER}{QUIT}",
        verdicts={".": ("554 5.6.0 Not this",)},
        took=(MESSAGE,),
        actions=(Send(), Send()),
        told=("you@example.org refused 554", ACCEPTED),
    ),
    Scenario(
        name="the-message-put-off",
        why="for now: the client keeps it",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}{CONTENT}\nC: .\nS: 451 4.3.0\n{QUIT}",
        verdicts={".": "451 4.3.0 Later"},
        actions=(Send(),),
        told=("you@example.org retry 451",),
    ),
    Scenario(
        name="421-for-the-message",
        why="an answer to the dot, and the end",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}{CONTENT}\nC: .\nS: 421 4.3.2",
        verdicts={".": "421 4.3.2 Going down"},
        server_ends=CloseReason.CLOSED,
        actions=(Send(),),
        told=("you@example.org retry 421",),
        client_ends=CloseReason.GOING_AWAY,
    ),
    Scenario(
        name="a-reply-without-an-enhanced-code",
        why="RFC 2034 section 3: a client lives with it, and goes by the first digit",
        dialogue=f"{HELLO}{MAIL}{RCPT}S: 559 what a number\nC: RSET\nS: 250\n{QUIT}",
        seats=("client",),
        actions=(Send(),),
        told=("you@example.org refused 559",),
    ),
)

BODIES: Final = (
    Scenario(
        name="an-empty-message",
        why="RFC 5321 section 4.1.1.4: the lone dot right after DATA",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}{DOT}{QUIT}",
        took=(of(b""),),
        actions=(Send(()),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="an-empty-line",
        why="one line of nothing is not no line",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}C:\n{DOT}{QUIT}",
        took=(of(b"\r\n"),),
        actions=(Send((b"\r\n",)),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="dots-at-the-start-of-lines",
        why="RFC 5321 section 4.5.2: one more for each, taken off again",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}C: ..\nC: ..a\nC: ....\nC: a.\nC: ..\n{DOT}{QUIT}",
        took=(of(b".\r\n.a\r\n...\r\na.\r\n.\r\n"),),
        actions=(Send((b".\r\n.a\r\n...\r\na.\r\n.\r\n",)),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="a-dot-that-was-not-doubled",
        why="RFC 5321 section 4.5.2: it is deleted, and the rest of the line is content",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}C: .a\nC: b\n{DOT}{QUIT}",
        seats=("server",),
        took=(of(b"a\r\nb\r\n"),),
    ),
    Scenario(
        name="pieces-cut-at-the-dots",
        why="where a piece ends is nobody's business",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}C: a\nC: ..\nC: ..b\n{DOT}{QUIT}",
        took=(of(b"a\r\n.\r\n.b\r\n"),),
        actions=(Send((b"a\r", b"\n", b".", b"\r\n", b".", b"b\r\n")),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="no-newline-at-the-end",
        why="a last line that has none gets one, for the dot needs a line of its own",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}C: a\nC: b\n{DOT}{QUIT}",
        took=(of(b"a\r\nb\r\n"),),
        actions=(Send((b"a\r\nb",)),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="bare-newlines-in-a-file",
        why="what a client is given by LF leaves by CRLF, and no lone dot among it ends the message",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}C: a\nC: ..\nC: b\n{DOT}{QUIT}",
        took=(of(b"a\r\n.\r\nb\r\n"),),
        actions=(Send((b"a\n.\nb\n",)),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="a-smuggled-end",
        why="only CRLF.CRLF ends a message: what stands between bare newlines is content",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}C= a\\n.\\nMAIL FROM:<x@example.com>\\r\\n\n{DOT}{QUIT}",
        seats=("server",),
        took=(of(b"a\r\n.\r\nMAIL FROM:<x@example.com>\r\n"),),
    ),
    Scenario(
        name="a-very-long-line",
        why="longer than the grammar allows, and as long as somebody's HTML",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}C: {'x' * 100_000}\n{DOT}{QUIT}",
        took=(of(b"x" * 100_000 + b"\r\n"),),
        actions=(Send((b"x" * 100_000 + b"\r\n",)),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="commands-in-a-body",
        why="they are content",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}C: QUIT\nC: RSET\n{DOT}{QUIT}",
        took=(of(b"QUIT\r\nRSET\r\n"),),
        actions=(Send((b"QUIT\r\nRSET\r\n",)),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="too-large-and-not-announced",
        why="RFC 1870 section 6.3: 552 at its end, and the session goes on",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}C: {'x' * 30}\nC: .\nS: 552 5.3.4\n{ENVELOPE}{DATA}C: x\n{DOT}{QUIT}",
        config=replace(CONFIG, limits=Limits(message=25)),
        took=(of(b"x\r\n"),),
        seats=("server",),
    ),
    Scenario(
        name="a-second-command-behind-the-dot",
        why="RFC 2920: the dot ends its group, and QUIT may be there already",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}{CONTENT}\nC: .\nC: RSET\nS: 250 2.0.0\nS: 250 2.0.0\n{QUIT}",
        seats=("server",),
        took=(MESSAGE,),
    ),
)

MAILS: Final = (*ENVELOPES, *REFUSALS, *BODIES)
