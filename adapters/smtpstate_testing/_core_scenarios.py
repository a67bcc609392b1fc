"""The core of the conformance list: what every driver has to get right."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from smtpstate import CloseReason, Limits, ServerConfig, Timer, Violation
from smtpstate_testing._scenario import CLIENT, HOSTNAME, MESSAGE, Login, Scenario, Send

CONFIG: Final = ServerConfig(HOSTNAME)


def hello(*offers: str) -> str:
    """The greeting and EHLO, to which the server offers this."""
    more = "".join(f"S: 250-{offer}\n" for offer in offers)
    return f"S: 220 {HOSTNAME}\nC: EHLO {CLIENT}\nS: 250-{HOSTNAME}\n{more}S: 250 ENHANCEDSTATUSCODES\n"


HELLO: Final = hello()
ENVELOPE: Final = """
    C: MAIL FROM:<me@example.com>
    S: 250 2.1.0
    C: RCPT TO:<you@example.org>
    S: 250 2.1.5
"""
DATA: Final = """
    C: DATA
    S: 354
"""
CONTENT: Final = """
    C: Subject: hello
    C:
    C: hello
"""
DOT: Final = """
    C: .
    S: 250 2.0.0
"""
QUIT: Final = """
    C: QUIT
    S: 221 2.0.0
"""
ACCEPTED: Final = "you@example.org accepted 250"
_LONG: Final = b"x" * 70 + b"\r\n"

CORE: Final[tuple[Scenario, ...]] = (
    Scenario(
        name="nothing-but-a-greeting",
        why="a client that comes and goes is told so, and both sides close",
        dialogue=f"{HELLO}{QUIT}",
    ),
    Scenario(
        name="one-message",
        why="what all the rest is for: a reply to each command, in its turn",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}{CONTENT}{DOT}{QUIT}",
        took=(MESSAGE,),
        actions=(Send(),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="one-message-pipelined",
        why="commands that come together are answered together, and nothing is read before that has left",
        dialogue=f"""{hello("PIPELINING")}
            C: MAIL FROM:<me@example.com>
            C: RCPT TO:<you@example.org>
            C: RCPT TO:<no@example.org>
            C: DATA
            S: 250 2.1.0
            S: 250 2.1.5
            S: 550 5.1.1
            S: 354
            {CONTENT}{DOT}{QUIT}""",
        verdicts={"RCPT no@example.org": "550 5.1.1 Nobody of that name"},
        took=(MESSAGE,),
        actions=(Send(recipients=("you@example.org", "no@example.org")),),
        told=(ACCEPTED, "no@example.org refused 550"),
    ),
    Scenario(
        name="two-messages",
        why="a session goes on after a message",
        dialogue=f"{HELLO}{f'{ENVELOPE}{DATA}{CONTENT}{DOT}' * 2}{QUIT}",
        took=(MESSAGE, MESSAGE),
        actions=(Send(), Send()),
        told=(ACCEPTED, ACCEPTED),
    ),
    Scenario(
        name="a-message-of-200-kilobytes",
        why="it does not fit one read or one write, and both sides have to wait for each other in the middle",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}" + f"C: {'x' * 70}\n" * 2800 + f"{DOT}{QUIT}",
        took=(("me@example.com", ("you@example.org",), _LONG * 2800),),
        actions=(Send((_LONG * 2800,)),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="a-chunked-message",
        why="chunks end by their size, not by a line, so what follows is in the same read",
        dialogue=f"""
            {hello("CHUNKING")}{ENVELOPE}
            C: BDAT 25 LAST
            {CONTENT}
            S: 250 2.0.0
            {QUIT}""",
        took=(MESSAGE,),
        actions=(Send(chunked=True),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="a-login",
        why="an exchange of its own, in which lines are no commands",
        dialogue=f"""
            {hello("AUTH PLAIN")}
            C: AUTH PLAIN AHVzZXIAcGVuY2ls
            S: 235 2.7.0
            {ENVELOPE}{DATA}{CONTENT}{DOT}{QUIT}""",
        config=replace(CONFIG, mechanisms=("PLAIN",)),
        identity="user",
        took=(MESSAGE,),
        actions=(Login("PLAIN"), Send()),
        told=("logged in", ACCEPTED),
    ),
    Scenario(
        name="lmtp-partly-accepted",
        why="more than one reply to one dot, each for another recipient",
        dialogue=f"""
            S: 220 {HOSTNAME}
            C: LHLO {CLIENT}
            S: 250-{HOSTNAME}
            S: 250 ENHANCEDSTATUSCODES
            {ENVELOPE}
            C: RCPT TO:<full@example.org>
            S: 250 2.1.5
            {DATA}{CONTENT}
            C: .
            S: 250 2.0.0
            S: 452 4.2.2
            {QUIT}""",
        config=replace(CONFIG, lmtp=True),
        verdicts={".": ("", "452 4.2.2 The mailbox is full")},
        took=(MESSAGE,),
        actions=(Send(recipients=("you@example.org", "full@example.org")),),
        told=(ACCEPTED, "full@example.org retry 452"),
    ),
    Scenario(
        name="refused-at-the-greeting",
        why="a session that never begins ends well all the same",
        dialogue=f"S: 554 {HOSTNAME}\n{QUIT}",
        modes=("plain", "implicit"),
        verdicts={"CONNECT": f"554 {HOSTNAME} Not you"},
        told=("SessionRefused 554",),
    ),
    Scenario(
        name="a-last-word-in-mid-body",
        why="a 421 that comes while the other side still writes has to reach it, and the connection ends after it",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}{CONTENT}S: 421 4.3.0\nS* drop",
        seats=("client",),
        actions=(Send((Send().octets, b"more\r\n" * 200_000)),),
        told=("you@example.org retry 421",),
        client_ends=CloseReason.GOING_AWAY,
    ),
    Scenario(
        name="a-line-that-never-ends",
        why="too many octets are a violation; the reply that says so is not lost to what still comes",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}C= {'x' * 120_000}\nS: 552 5.3.4",
        seats=("server",),
        config=replace(CONFIG, limits=Limits(message=1000)),
        server_ends=CloseReason.VIOLATION,
        server_violation=Violation.MESSAGE_TOO_LARGE,
    ),
    Scenario(
        name="the-other-side-goes-in-mid-body",
        why="an end of file is no end of message, and nothing of it was accepted",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}{CONTENT}C* fin",
        seats=("server",),
        server_ends=CloseReason.EOF,
    ),
    Scenario(
        name="the-answer-to-the-dot-never-comes",
        why="nobody knows what became of the message, and both sides have to say so",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}{CONTENT}C: .\nS* fin",
        seats=("client",),
        actions=(Send(),),
        told=("you@example.org unknown",),
        client_ends=CloseReason.EOF,
    ),
    Scenario(
        name="a-command-that-never-comes",
        why="the deadline is the machine's: a driver that keeps time by itself, or none, is too late or never here",
        dialogue=f"{HELLO}S: 421 4.4.2",
        seats=("server",),
        config=replace(CONFIG, limits=Limits(command_seconds=0.3)),
        server_ends=CloseReason.TIMEOUT,
        server_timer=Timer.COMMAND,
    ),
    Scenario(
        name="a-reply-that-never-comes",
        why="the same for whoever waits for a reply",
        dialogue=f"{HELLO}C: MAIL FROM:<me@example.com>\nS* stay",
        seats=("client",),
        limits=Limits(command_seconds=0.3),
        actions=(Send(),),
        told=("you@example.org retry",),
        client_ends=CloseReason.TIMEOUT,
        client_timer=Timer.COMMAND,
    ),
)
