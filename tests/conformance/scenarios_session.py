"""Scenarios of a session around its messages: greetings, hellos, commands in and out of order, RSET, QUIT."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from smtpstate import CloseReason, Expn, Help, Limits, Noop, Rset, Violation, Vrfy
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
from smtpstate_testing._scenario import CLIENT, HOSTNAME, MESSAGE, Ask, Scenario, Send

OUT_OF_SEQUENCE: Final = Violation.OUT_OF_SEQUENCE
LETTER: Final = f"{ENVELOPE}{DATA}{CONTENT}{DOT}"
BROKEN: Final = "ConnectionBroken"

GREETINGS: Final = (
    Scenario(
        name="a-greeting-of-many-lines",
        why="RFC 5321 section 4.2.1: any reply may have more than one line",
        dialogue=f"""
            S: 220-{HOSTNAME}
            S: 220-no spam
            S: 220 ready
            C: EHLO {CLIENT}
            S: 250 {HOSTNAME}
            {QUIT}""",
        seats=("client",),
    ),
    Scenario(
        name="a-greeting-without-text",
        why="some say the code alone, and all that decides is there",
        dialogue=f"S: 220\n{HELLO.partition(HOSTNAME)[2]}{QUIT}",
        seats=("client",),
    ),
    Scenario(
        name="greeted-with-421",
        why="the server is too busy, and ends it",
        dialogue=f"S: 421 {HOSTNAME}",
        modes=("plain", "implicit"),
        verdicts={"CONNECT": f"421 {HOSTNAME} Too busy"},
        server_ends=CloseReason.CLOSED,
        told=("SessionRefused 421",),
        client_ends=CloseReason.GOING_AWAY,
    ),
    Scenario(
        name="greeted-with-521",
        why="RFC 7504: this host takes no mail at all",
        dialogue=f"S: 521 {HOSTNAME}",
        modes=("plain", "implicit"),
        verdicts={"CONNECT": f"521 {HOSTNAME} No mail here"},
        server_ends=CloseReason.CLOSED,
        told=("SessionRefused 521",),
        client_ends=CloseReason.GOING_AWAY,
    ),
    Scenario(
        name="mail-after-a-refused-greeting",
        why="RFC 5321 section 3.1: after 554 all but QUIT is 503",
        dialogue=f"S: 554\nC: EHLO {CLIENT}\nS: 503\nC: MAIL FROM:<me@example.com>\nS: 503\n{QUIT}",
        seats=("server",),
        modes=("plain", "implicit"),
        verdicts={"CONNECT": f"554 {HOSTNAME} Not you"},
        refused=(OUT_OF_SEQUENCE, OUT_OF_SEQUENCE),
    ),
    Scenario(
        name="no-greeting-but-a-web-page",
        why="whoever speaks is no SMTP server",
        dialogue="S: HTTP/1.1 400 Bad Request",
        seats=("client",),
        modes=("plain", "implicit"),
        told=(BROKEN,),
        client_ends=CloseReason.VIOLATION,
        client_violation=Violation.REPLY_SYNTAX,
    ),
)

HELLOS: Final = (
    Scenario(
        name="helo-for-a-server-that-knows-no-other",
        why="RFC 5321 section 3.2: EHLO refused with 5yz is tried again as HELO",
        dialogue=f"""
            S: 220 {HOSTNAME}
            C: EHLO {CLIENT}
            S: 502
            C: HELO {CLIENT}
            S: 250 {HOSTNAME}
            {LETTER}{QUIT}""",
        modes=("plain", "implicit"),
        verdicts={"EHLO": "502 5.5.1 Not implemented"},
        took=(MESSAGE,),
        actions=(Send(),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="a-hello-put-off",
        why="4yz to the hello: not now, and HELO would be no better",
        dialogue=f"S: 220 {HOSTNAME}\nC: EHLO {CLIENT}\nS: 450\n{QUIT}",
        modes=("plain", "implicit"),
        verdicts={"EHLO": "450 4.7.0 Later"},
        told=("SessionRefused 450",),
    ),
    Scenario(
        name="both-hellos-refused",
        why="a server that wants neither wants no mail",
        dialogue=f"S: 220 {HOSTNAME}\nC: EHLO {CLIENT}\nS: 550\nC: HELO {CLIENT}\nS: 550\n{QUIT}",
        modes=("plain", "implicit"),
        verdicts={"EHLO": "550 5.7.1 No", "HELO": "550 5.7.1 No"},
        told=("SessionRefused 550",),
    ),
    Scenario(
        name="a-hello-answered-with-421",
        why="a server may end it at any time",
        dialogue=f"S: 220 {HOSTNAME}\nC: EHLO {CLIENT}\nS: 421",
        modes=("plain", "implicit"),
        verdicts={"EHLO": "421 4.3.2 Going down"},
        server_ends=CloseReason.CLOSED,
        told=("SessionRefused 421",),
        client_ends=CloseReason.GOING_AWAY,
    ),
    Scenario(
        name="a-second-hello-ends-the-transaction",
        why="RFC 5321 section 4.1.4: as if RSET had been said",
        dialogue=f"""
            {HELLO}{ENVELOPE}
            C: EHLO {CLIENT}
            S: 250 {HOSTNAME}
            C: DATA
            S: 503 5.5.1
            {LETTER}{QUIT}""",
        seats=("server",),
        refused=(OUT_OF_SEQUENCE,),
        took=(MESSAGE,),
    ),
    Scenario(
        name="a-hello-by-an-address",
        why="who has no name says an address (RFC 5321 section 4.1.4)",
        dialogue=f"S: 220\nC: EHLO [192.0.2.1]\nS: 250 {HOSTNAME}\n{QUIT}",
        seats=("server",),
    ),
    Scenario(
        name="a-hello-without-a-name",
        why="the argument is not optional",
        dialogue=f"S: 220\nC: EHLO\nS: 501 5.5.4\nC: EHLO {CLIENT}\nS: 250 {HOSTNAME}\n{QUIT}",
        seats=("server",),
        refused=(Violation.ADDRESS,),
    ),
    Scenario(
        name="an-offer-that-nobody-knows",
        why="RFC 5321 section 4.1.1.1: keywords that a client does not know are none of its business",
        dialogue=f"""
            {hello("XUNHEARD-OF 1 2 3", "PIPE-DREAMS")}{LETTER}{QUIT}""",
        seats=("client",),
        actions=(Send(),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="lmtp-in-smtp",
        why="LHLO is for LMTP",
        dialogue=f"S: 220\nC: LHLO {CLIENT}\nS: 500 5.5.1\n{QUIT}",
        seats=("server",),
        refused=(OUT_OF_SEQUENCE,),
    ),
    Scenario(
        name="smtp-in-lmtp",
        why="RFC 2033 section 4.1: EHLO and HELO are 500",
        dialogue=f"""
            S: 220
            C: EHLO {CLIENT}
            S: 500 5.5.1
            C: HELO {CLIENT}
            S: 500 5.5.1
            {QUIT}""",
        seats=("server",),
        modes=("plain", "implicit"),
        config=replace(CONFIG, lmtp=True),
        refused=(OUT_OF_SEQUENCE, OUT_OF_SEQUENCE),
    ),
)

ORDER: Final = (
    Scenario(
        name="what-may-come-at-any-time",
        why="RFC 5321 section 4.1.4: NOOP, HELP, EXPN, VRFY and RSET",
        dialogue=f"""
            {HELLO}
            C: NOOP anybody there
            S: 250 2.0.0
            C: HELP
            S: 214 2.0.0
            C: VRFY bob
            S: 252 2.5.2
            C: EXPN list
            S: 502 5.5.1
            C: RSET
            S: 250 2.0.0
            {QUIT}""",
        actions=(Ask(Noop("anybody there")), Ask(Help("")), Ask(Vrfy("bob")), Ask(Expn("list")), Ask(Rset())),
        told=("250", "214", "252", "502", "250"),
    ),
    Scenario(
        name="what-may-come-before-a-hello",
        why="the same commands need none",
        dialogue=f"""
            S: 220
            C: NOOP
            S: 250 2.0.0
            C: RSET
            S: 250 2.0.0
            C: HELP
            S: 214 2.0.0
            C: VRFY bob
            S: 252 2.5.2
            {QUIT}""",
        seats=("server",),
    ),
    Scenario(
        name="what-may-come-in-a-transaction",
        why="NOOP and VRFY leave it as it is",
        dialogue=f"""
            {HELLO}{ENVELOPE}
            C: NOOP
            S: 250 2.0.0
            C: VRFY bob
            S: 252 2.5.2
            {DATA}{CONTENT}{DOT}{QUIT}""",
        seats=("server",),
        took=(MESSAGE,),
    ),
    Scenario(
        name="vrfy-and-expn-answered",
        why="an application that wants to may say more",
        dialogue=f"""
            {HELLO}
            C: VRFY bob
            S: 250 2.1.5 <bob@example.org>
            C: EXPN list
            S: 550 5.1.1
            {QUIT}""",
        config=replace(CONFIG, asks_vrfy=True, asks_expn=True),
        verdicts={"VRFY": "250 2.1.5 <bob@example.org>", "EXPN": "550 5.1.1 No such list"},
        actions=(Ask(Vrfy("bob")), Ask(Expn("list"))),
        told=("250", "550"),
    ),
    Scenario(
        name="mail-before-a-hello",
        why="503 for whatever belongs to a transaction",
        dialogue=f"""
            S: 220
            C: MAIL FROM:<me@example.com>
            S: 503 5.5.1
            C: RCPT TO:<you@example.org>
            S: 503 5.5.1
            C: DATA
            S: 503 5.5.1
            {QUIT}""",
        seats=("server",),
        refused=(OUT_OF_SEQUENCE,) * 3,
    ),
    Scenario(
        name="no-sender-yet",
        why="RCPT and DATA without MAIL are 503",
        dialogue=f"""
            {HELLO}
            C: RCPT TO:<you@example.org>
            S: 503 5.5.1
            C: DATA
            S: 503 5.5.1
            C: BDAT 0 LAST
            S: 503 5.5.1
            {QUIT}""",
        seats=("server",),
        refused=(OUT_OF_SEQUENCE,) * 3,
    ),
    Scenario(
        name="a-transaction-in-a-transaction",
        why="RFC 5321 section 4.1.4: MAIL must not come twice, and the first one stands",
        dialogue=f"""
            {HELLO}{ENVELOPE}
            C: MAIL FROM:<other@example.com>
            S: 503 5.5.1
            {DATA}{CONTENT}{DOT}{QUIT}""",
        seats=("server",),
        refused=(OUT_OF_SEQUENCE,),
        took=(MESSAGE,),
    ),
    Scenario(
        name="rset-forgets-all",
        why="RFC 5321 section 4.1.1.5: sender, recipients and all",
        dialogue=f"""
            {HELLO}{ENVELOPE}
            C: RSET
            S: 250 2.0.0
            C: DATA
            S: 503 5.5.1
            {LETTER}{QUIT}""",
        seats=("server",),
        refused=(OUT_OF_SEQUENCE,),
        took=(MESSAGE,),
    ),
    Scenario(
        name="commands-in-any-case",
        why="RFC 5321 section 2.4: verbs are in whatever case",
        dialogue=f"""
            S: 220
            C: eHlO {CLIENT}
            S: 250 {HOSTNAME}
            C: mail from:<me@example.com>
            S: 250 2.1.0
            C: rcpt TO:<you@example.org>
            S: 250 2.1.5
            C: data
            S: 354
            {CONTENT}{DOT}
            C: quit
            S: 221 2.0.0""",
        seats=("server",),
        took=(MESSAGE,),
    ),
    Scenario(
        name="commands-that-are-none",
        why="500 for what nobody defined, 502 for what is not here",
        dialogue=f"{HELLO}\nC: FROB\nS: 500 5.5.2\nC: TURN\nS: 502 5.5.1\nC: \nS: 500 5.5.2\n{QUIT}",
        seats=("server",),
        refused=(Violation.UNKNOWN_COMMAND, Violation.NOT_IMPLEMENTED, Violation.UNKNOWN_COMMAND),
    ),
    Scenario(
        name="after-many-errors-each-reply-is-late",
        why="it costs the one who errs time, and the next command is answered all the same",
        dialogue=f"{HELLO}\nC: FROB\nS: 500\nC: FROB\nS: 500\nC: FROB\nS: 500\n{LETTER}{QUIT}",
        seats=("server",),
        config=replace(CONFIG, limits=Limits(soft_errors=1, error_delay_seconds=30.0)),
        refused=(Violation.UNKNOWN_COMMAND,) * 3,
        took=(MESSAGE,),
    ),
)

SESSION: Final = (*GREETINGS, *HELLOS, *ORDER)
