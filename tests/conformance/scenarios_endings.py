"""Scenarios that end before their time: at each phase by a close, by a reset, by a 421, and by each of the clocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from smtpstate import CloseReason, Limits, Timer, Violation
from smtpstate_testing._core_scenarios import CONFIG, CONTENT, DATA, ENVELOPE, HELLO, hello
from smtpstate_testing._scenario import CLIENT, HOSTNAME, Login, Mode, Scenario, Send

GREETED: Final = f"S: 220 {HOSTNAME}\n"
MAIL: Final = "C: MAIL FROM:<me@example.com>\nS: 250 2.1.0\n"
BROKEN: Final = "ConnectionBroken"
RETRY: Final = "you@example.org retry"
UNKNOWN: Final = "you@example.org unknown"
CLEAR: Final[tuple[Mode, ...]] = ("plain", "implicit")
ALL: Final = replace(CONFIG, mechanisms=("PLAIN", "LOGIN"))
LOGIN: Final = "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\n"

# A phase, the dialogue up to there, and in which modes that can be.
SERVER_PHASES: Final[tuple[tuple[str, str, tuple[Mode, ...]], ...]] = (
    ("before-the-greeting", "C* drop", CLEAR),
    ("after-the-greeting", GREETED, CLEAR),
    ("after-the-hello", HELLO, ("plain", "starttls", "implicit")),
    ("in-a-command", f"{HELLO}\nC= NOO\n", ("plain", "starttls", "implicit")),
    ("in-a-login", f"{HELLO}{LOGIN}", ("plain", "starttls", "implicit")),
    ("after-the-sender", f"{HELLO}{MAIL}", ("plain", "starttls", "implicit")),
    ("after-a-recipient", f"{HELLO}{ENVELOPE}", ("plain", "starttls", "implicit")),
    ("before-the-dot", f"{HELLO}{ENVELOPE}{DATA}{CONTENT}", ("plain", "starttls", "implicit")),
    ("in-a-chunk", f"{HELLO}{ENVELOPE}\nC: BDAT 100 LAST\nC: x\n", ("plain", "starttls", "implicit")),
    ("between-chunks", f"{HELLO}{ENVELOPE}\nC: BDAT 3\nC: x\nS: 250\n", ("plain", "starttls", "implicit")),
)

CLIENT_GONE: Final = tuple(
    Scenario(
        name=f"the-client-{how}-{phase}",
        why="nothing of a message that is not whole was accepted, and nothing more is said",
        dialogue=f"{dialogue}\nC* {act}",
        seats=("server",),
        modes=modes,
        config=ALL,
        server_ends=reason,
    )
    for how, act, reason in (("closes", "fin", CloseReason.EOF), ("is-lost", "reset", CloseReason.LOST))
    for phase, dialogue, modes in SERVER_PHASES
)

# The same for a server that goes; and what its client is told.
CLIENT_PHASES: Final = (
    ("before-the-greeting", "", CLEAR, (BROKEN,)),
    ("in-the-greeting", "S= 220-\n", CLEAR, (BROKEN,)),
    ("before-the-answer-to-the-hello", f"{GREETED}\nC: EHLO {CLIENT}\n", CLEAR, (BROKEN,)),
    ("in-a-login", f"{hello('AUTH LOGIN')}\nC: AUTH LOGIN\n", ("plain", "starttls", "implicit"), (BROKEN,)),
    (
        "before-the-answer-to-the-sender",
        f"{HELLO}\nC: MAIL FROM:<me@example.com>\n",
        ("plain", "starttls", "implicit"),
        (RETRY,),
    ),
    (
        "before-the-answer-to-a-recipient",
        f"{HELLO}{MAIL}\nC: RCPT TO:<you@example.org>\n",
        ("plain", "starttls", "implicit"),
        (RETRY,),
    ),
    ("before-the-354", f"{HELLO}{ENVELOPE}\nC: DATA\n", ("plain", "starttls", "implicit"), (RETRY,)),
    (
        "before-the-answer-to-the-dot",
        f"{HELLO}{ENVELOPE}{DATA}{CONTENT}\nC: .\n",
        ("plain", "starttls", "implicit"),
        (UNKNOWN,),
    ),
    (
        "before-the-answer-to-a-chunk",
        f"{hello('CHUNKING')}{ENVELOPE}\nC: BDAT 25 LAST\n{CONTENT}",
        ("plain", "starttls", "implicit"),
        (UNKNOWN,),
    ),
)


def _actions(phase: str) -> tuple[Login | Send, ...]:
    if phase == "in-a-login":
        return (Login("LOGIN"),)
    return (Send(chunked=phase.endswith("chunk")),)


SERVER_GONE: Final = tuple(
    Scenario(
        name=f"the-server-{how}-{phase}",
        why="before the final dot a message may go again; after it nobody knows",
        dialogue=f"{dialogue}\nS* {act}",
        seats=("client",),
        modes=modes,
        actions=_actions(phase),
        told=told,
        client_ends=reason,
    )
    for how, act, reason in (("closes", "fin", CloseReason.EOF), ("is-lost", "reset", CloseReason.LOST))
    for phase, dialogue, modes, told in CLIENT_PHASES
)

SERVER_CLOCKS: Final = (
    Scenario(
        name="time-the-server-waits-for-a-command",
        why="RFC 5321 section 4.5.3.2.7: 421, and the end",
        dialogue=f"{HELLO}\nS: 421 4.4.2",
        seats=("server",),
        server_ends=CloseReason.TIMEOUT,
        server_timer=Timer.COMMAND,
    ),
    Scenario(
        name="time-the-server-waits-for-the-rest-of-a-command",
        why="octets do not begin the time anew",
        dialogue=f"{HELLO}\nC= NOO\nS: 421 4.4.2",
        seats=("server",),
        server_ends=CloseReason.TIMEOUT,
        server_timer=Timer.COMMAND,
    ),
    Scenario(
        name="time-the-server-waits-for-a-body",
        why="what has come of it is dropped",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}{CONTENT}\nS: 421 4.4.2",
        seats=("server",),
        server_ends=CloseReason.TIMEOUT,
        server_timer=Timer.BODY,
    ),
    Scenario(
        name="time-a-session-may-take",
        why="a bound above all the others",
        dialogue=f"{HELLO}\nS: 421 4.4.2",
        seats=("server",),
        config=replace(CONFIG, limits=Limits(session_seconds=100.0)),
        server_ends=CloseReason.TIMEOUT,
        server_timer=Timer.SESSION,
    ),
    Scenario(
        name="time-a-handshake-may-take",
        why="a client that says nothing is cut, and told nothing in clear",
        dialogue=f"{GREETED}\nC: EHLO {CLIENT}\nS: 250\nC: STARTTLS\nS: 220\nS* fin",
        seats=("server",),
        modes=("own",),
        config=replace(CONFIG, starttls=True),
        server_ends=CloseReason.TIMEOUT,
        server_timer=Timer.HANDSHAKE,
    ),
    Scenario(
        name="time-a-handler-may-take-for-a-recipient",
        why="451, and the session goes on: the client is not to blame",
        dialogue=f"{HELLO}{MAIL}\nC: RCPT TO:<you@example.org>\nS: 451 4.3.0\nC: QUIT\nS: 221",
        seats=("server",),
        verdicts={"RCPT you@example.org": "late"},
    ),
    Scenario(
        name="time-a-handler-may-take-for-a-message",
        why="451: nothing says that it was stored, and the client tries again",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}{CONTENT}\nC: .\nS: 451 4.3.0\nC: QUIT\nS: 221",
        seats=("server",),
        verdicts={".": "late"},
    ),
    Scenario(
        name="time-a-handler-may-take-in-a-body",
        why="421: the rest of it can be neither taken nor answered",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}{CONTENT}\nS: 421 4.3.0",
        seats=("server",),
        verdicts={"BODY": "late"},
        server_ends=CloseReason.TIMEOUT,
        server_timer=Timer.HANDLER,
    ),
    Scenario(
        name="time-a-last-reply-may-linger",
        why="a client that never closes does not keep the connection for ever",
        dialogue=f"{HELLO}\nC: QUIT\nS: 221 2.0.0\nC* stay",
        seats=("server",),
    ),
)

CLIENT_CLOCKS: Final = (
    Scenario(
        name="time-the-client-waits-for-a-greeting",
        why="RFC 5321 section 4.5.3.2.1",
        dialogue="S* stay",
        seats=("client",),
        modes=CLEAR,
        told=(BROKEN,),
        client_ends=CloseReason.TIMEOUT,
        client_timer=Timer.GREETING,
    ),
    Scenario(
        name="time-the-client-waits-for-the-rest-of-a-greeting",
        why="octets do not begin the time anew",
        dialogue="S= 220-wait\\r\\n22\nS* stay",
        seats=("client",),
        modes=CLEAR,
        told=(BROKEN,),
        client_ends=CloseReason.TIMEOUT,
        client_timer=Timer.GREETING,
    ),
    Scenario(
        name="time-the-client-waits-for-the-answer-to-a-command",
        why="RFC 5321 sections 4.5.3.2.2 and 4.5.3.2.3",
        dialogue=f"{HELLO}{MAIL}\nC: RCPT TO:<you@example.org>\nS* stay",
        seats=("client",),
        actions=(Send(),),
        told=(RETRY,),
        client_ends=CloseReason.TIMEOUT,
        client_timer=Timer.COMMAND,
    ),
    Scenario(
        name="time-the-client-waits-for-354",
        why="RFC 5321 section 4.5.3.2.4",
        dialogue=f"{HELLO}{ENVELOPE}\nC: DATA\nS* stay",
        seats=("client",),
        actions=(Send(),),
        told=(RETRY,),
        client_ends=CloseReason.TIMEOUT,
        client_timer=Timer.DATA,
    ),
    Scenario(
        name="time-the-client-waits-for-the-answer-to-the-dot",
        why="RFC 5321 section 4.5.3.2.6: long, for what happens then is all the server's",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}{CONTENT}\nC: .\nS* stay",
        seats=("client",),
        actions=(Send(),),
        told=(UNKNOWN,),
        client_ends=CloseReason.TIMEOUT,
        client_timer=Timer.END,
    ),
    Scenario(
        name="time-the-caller-gives-a-session",
        why="a bound of the caller's above all the others",
        dialogue=f"{HELLO}\nC: MAIL FROM:<me@example.com>\nS* stay",
        seats=("client",),
        timeout=5.0,
        actions=(Send(),),
        told=(RETRY,),
        client_ends=CloseReason.TIMEOUT,
        client_timer=Timer.SESSION,
    ),
    Scenario(
        name="time-a-server-may-take-for-a-handshake",
        why="the greeting is not the only thing that may never come",
        dialogue=f"{hello('STARTTLS')}\nC: STARTTLS\nS: 220\nS* drop\nS* stay",
        seats=("client",),
        modes=("own",),
        told=(BROKEN,),
        client_ends=CloseReason.TIMEOUT,
        client_timer=Timer.HANDSHAKE,
    ),
)

FAREWELLS: Final = (
    Scenario(
        name="quit-and-no-answer",
        why="a farewell is a courtesy: nothing that happens then changes what became of a message",
        dialogue=f"{HELLO}\nC: QUIT\nS* fin",
        seats=("client",),
        client_ends=CloseReason.EOF,
    ),
    Scenario(
        name="421-between-two-messages",
        why="a server that goes down says so to a client that asked nothing",
        dialogue=f"{HELLO}\nC: MAIL FROM:<me@example.com>\nS: 421 4.3.2",
        seats=("client",),
        actions=(Send(), Send()),
        told=("you@example.org retry 421",),
        client_ends=CloseReason.GOING_AWAY,
    ),
    Scenario(
        name="a-refusal-in-mid-body",
        why="a reply before the dot means that the server has had enough, and it is no answer to the dot",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}{CONTENT}S: 552 5.3.4 enough\nS* drop",
        seats=("client",),
        actions=(Send((Send().octets, b"more\r\n")),),
        told=("you@example.org refused 552",),
        client_ends=CloseReason.GOING_AWAY,
    ),
    Scenario(
        name="too-many-errors",
        why="it is no mail program, or a broken one: 421, and the end",
        dialogue=f"{HELLO}\nC: FROB\nS: 500\nC: FROB\nS: 421 4.7.0",
        seats=("server",),
        config=replace(CONFIG, limits=Limits(errors=1)),
        refused=(Violation.UNKNOWN_COMMAND,),
        server_ends=CloseReason.VIOLATION,
        server_violation=Violation.TOO_MANY_ERRORS,
    ),
)

ENDINGS: Final = (*CLIENT_GONE, *SERVER_GONE, *SERVER_CLOCKS, *CLIENT_CLOCKS, *FAREWELLS)
