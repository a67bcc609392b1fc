"""Scenarios of extensions: what is offered is used and understood, and what is not offered is not said."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from smtpstate import Limits, ServerConfig, Violation
from smtpstate.delivery import Recipient
from smtpstate.extensions import Envid, Notify, Ret, parameters
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
from smtpstate_testing._scenario import CLIENT, HOSTNAME, MESSAGE, Scenario, Send

ME: Final = "me@example.com"
YOU: Final = "you@example.org"
RCPT: Final = "C: RCPT TO:<you@example.org>\nS: 250 2.1.5\n"
UMLAUT: Final = "Subject: a\r\n\r\n\u00e4\r\n".encode()
UTF8: Final = "Subject: \u00e4\r\n\r\nh\r\n".encode()
DSN: Final = Send(recipients=(Recipient(YOU, parameters(Notify.NEVER)),), parameters=parameters(Ret.HDRS, Envid("x+y")))
LMTP: Final = f"S: 220 {HOSTNAME}\nC: LHLO {CLIENT}\nS: 250-{HOSTNAME}\nS: 250-PIPELINING\nS: 250 ENHANCEDSTATUSCODES\n"


def offering(*keywords: str) -> ServerConfig:
    """The usual server, which offers these besides."""
    return replace(CONFIG, offers=CONFIG.offers.union(keywords))


EXTENSIONS: Final = (
    Scenario(
        name="size-announced",
        why="RFC 1870: the client says how large it will be where that is offered",
        dialogue=f"""
            {hello("SIZE 1000")}
            C: MAIL FROM:<me@example.com> SIZE=25
            S: 250 2.1.0
            {RCPT}{DATA}{CONTENT}{DOT}{QUIT}""",
        config=replace(CONFIG, limits=Limits(message=1000)),
        took=(MESSAGE,),
        actions=(Send(),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="size-beyond-the-limit",
        why="refused before a single octet of it has come",
        dialogue=f"{hello('SIZE 10')}\nC: MAIL FROM:<me@example.com> SIZE=25\nS: 552 5.3.4\n{QUIT}",
        config=replace(CONFIG, limits=Limits(message=10)),
        refused=(Violation.SIZE_TOO_LARGE,),
        actions=(Send(),),
        told=("you@example.org refused 552",),
    ),
    Scenario(
        name="eight-bits",
        why="RFC 6152: announced where there are any",
        dialogue=f"""
            {hello("8BITMIME")}
            C: MAIL FROM:<me@example.com> BODY=8BITMIME
            S: 250 2.1.0
            {RCPT}{DATA}
            C: Subject: a
            C:
            C: \u00e4
            {DOT}{QUIT}""",
        took=((ME, (YOU,), UMLAUT),),
        actions=(Send((UMLAUT,)),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="eight-bits-that-cannot-go",
        why="RFC 6152 section 3: a client must not send them, and nothing leaves",
        dialogue=f"{HELLO}{QUIT}",
        seats=("client",),
        actions=(Send((UMLAUT,)),),
        told=("you@example.org refused 554",),
    ),
    Scenario(
        name="utf8-everywhere",
        why="RFC 6531: in an address and in the headers, where SMTPUTF8 is offered",
        dialogue=f"""
            {hello("8BITMIME", "SMTPUTF8")}
            C: MAIL FROM:<me@example.com> BODY=8BITMIME SMTPUTF8
            S: 250 2.1.0
            C: RCPT TO:<\u00fc@example.org>
            S: 250 2.1.5
            {DATA}
            C: Subject: \u00e4
            C:
            C: h
            {DOT}{QUIT}""",
        config=offering("SMTPUTF8"),
        took=((ME, ("\u00fc@example.org",), UTF8),),
        actions=(Send((UTF8,), ("\u00fc@example.org",), utf8=True),),
        told=("\u00fc@example.org accepted 250",),
    ),
    Scenario(
        name="utf8-that-cannot-go",
        why="RFC 6531 section 3.2: an address that needs it is refused by the client, and the others get the message",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}{CONTENT}{DOT}{QUIT}",
        seats=("client",),
        actions=(Send(recipients=(YOU, "\u00fc@example.org")),),
        told=(ACCEPTED, "\u00fc@example.org refused 553"),
    ),
    Scenario(
        name="utf8-that-nobody-asked-for",
        why="RFC 6531 section 3.5: the transaction did not say SMTPUTF8",
        dialogue=f"""
            {HELLO}
            C: MAIL FROM:<me@example.com>
            S: 250 2.1.0
            C: RCPT TO:<\u00fc@example.org>
            S: 553 5.6.7
            {QUIT}""",
        seats=("server",),
        config=offering("SMTPUTF8"),
        refused=(Violation.NON_ASCII,),
    ),
    Scenario(
        name="chunks",
        why="RFC 3030: each is answered, and all are one message",
        dialogue=f"""
            {hello("CHUNKING")}{ENVELOPE}
            C: BDAT 5
            C: one
            S: 250 2.0.0
            C: BDAT 5
            C: two
            S: 250 2.0.0
            C: BDAT 7 LAST
            C: three
            S: 250 2.0.0
            {QUIT}""",
        took=((ME, (YOU,), b"one\r\ntwo\r\nthree\r\n"),),
        actions=(Send((b"one\r\n", b"two\r\n", b"three\r\n"), chunked=True),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="chunks-with-dots",
        why="RFC 3030 section 2: in a chunk a dot is nothing special",
        dialogue=f"{hello('CHUNKING')}{ENVELOPE}C: BDAT 6 LAST\nC: .\nC: a\nS: 250 2.0.0\n{QUIT}",
        took=((ME, (YOU,), b".\r\na\r\n"),),
        actions=(Send((b".\r\na\r\n",), chunked=True),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="a-last-chunk-of-nothing",
        why="RFC 3030 section 2: BDAT 0 LAST ends it",
        dialogue=f"{HELLO}{ENVELOPE}C: BDAT 5\nC: one\nS: 250 2.0.0\nC: BDAT 0 LAST\nS: 250 2.0.0\n{QUIT}",
        seats=("server",),
        took=((ME, (YOU,), b"one\r\n"),),
    ),
    Scenario(
        name="a-refused-chunk",
        why="RFC 3030 section 2: its octets come all the same and are no commands; the client resets",
        dialogue=f"{hello('CHUNKING')}{ENVELOPE}C: BDAT 6\nC: QUIT\nS: 550 5.7.1\nC: RSET\nS: 250 2.0.0\n{QUIT}",
        verdicts={"BDAT": "refuse 550 5.7.1 No"},
        actions=(Send((b"QUIT\r\n", b"more\r\n"), chunked=True),),
        told=("you@example.org refused 550",),
    ),
    Scenario(
        name="chunks-after-a-refused-one",
        why="503 for each until RSET, and never a message of what is left",
        dialogue=f"""
            {HELLO}{ENVELOPE}
            C: BDAT 5
            C: one
            S: 550 5.7.1
            C: BDAT 5 LAST
            C: two
            S: 503 5.5.1
            C: RSET
            S: 250 2.0.0
            {ENVELOPE}{DATA}{CONTENT}{DOT}{QUIT}""",
        seats=("server",),
        verdicts={"BDAT": ("refuse 550 5.7.1 No",)},
        refused=(Violation.OUT_OF_SEQUENCE,),
        took=(MESSAGE,),
    ),
    Scenario(
        name="data-among-chunks",
        why="RFC 3030 section 3: the two do not mix",
        dialogue=f"{HELLO}{ENVELOPE}C: BDAT 5\nC: one\nS: 250 2.0.0\nC: DATA\nS: 503 5.5.1\n{QUIT}",
        seats=("server",),
        refused=(Violation.OUT_OF_SEQUENCE,),
    ),
    Scenario(
        name="binary",
        why="RFC 3030 section 3: octets as they are, newlines or not, by chunks",
        dialogue=f"""
            {hello("8BITMIME", "BINARYMIME", "CHUNKING")}
            C: MAIL FROM:<me@example.com> BODY=BINARYMIME
            S: 250 2.1.0
            {RCPT}
            C: BDAT 5 LAST
            C= a\\nb\\x00\\r
            S: 250 2.0.0
            {QUIT}""",
        config=offering("BINARYMIME"),
        took=((ME, (YOU,), b"a\nb\0\r"),),
        actions=(Send((b"a\nb\0\r",), binary=True),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="binary-by-data",
        why="RFC 3030 section 3: BINARYMIME goes with BDAT only",
        dialogue=f"""
            {HELLO}
            C: MAIL FROM:<me@example.com> BODY=BINARYMIME
            S: 250 2.1.0
            {RCPT}
            C: DATA
            S: 503 5.5.1
            {QUIT}""",
        seats=("server",),
        config=offering("BINARYMIME"),
        refused=(Violation.OUT_OF_SEQUENCE,),
    ),
    Scenario(
        name="reports-asked-for",
        why="RFC 3461: which, and how, with xtext",
        dialogue=f"""
            {hello("DSN")}
            C: MAIL FROM:<me@example.com> RET=HDRS ENVID=x+2By
            S: 250 2.1.0
            C: RCPT TO:<you@example.org> NOTIFY=NEVER
            S: 250 2.1.5
            {DATA}{CONTENT}{DOT}{QUIT}""",
        config=offering("DSN"),
        took=(MESSAGE,),
        actions=(DSN,),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="reports-that-cannot-be-asked-for",
        why="RFC 3461 section 5.2.2: a server without DSN is not told, and the message goes",
        dialogue=f"{HELLO}{ENVELOPE}{DATA}{CONTENT}{DOT}{QUIT}",
        took=(MESSAGE,),
        actions=(DSN,),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="a-report-of-nothing",
        why="RFC 3461 section 4.1: NEVER goes with nothing else",
        dialogue=f"""
            {HELLO}
            C: MAIL FROM:<me@example.com>
            S: 250 2.1.0
            C: RCPT TO:<you@example.org> NOTIFY=NEVER,DELAY
            S: 501 5.5.4
            {QUIT}""",
        seats=("server",),
        config=offering("DSN"),
        refused=(Violation.PARAMETER_VALUE,),
    ),
    Scenario(
        name="two-messages-pipelined",
        why="RFC 2920: each group is written at once, and answered at once",
        dialogue=f"""
            {hello("PIPELINING")}
            C: MAIL FROM:<me@example.com>
            C: RCPT TO:<you@example.org>
            C: DATA
            S: 250 2.1.0
            S: 250 2.1.5
            S: 354
            {CONTENT}{DOT}
            C: MAIL FROM:<me@example.com>
            C: RCPT TO:<you@example.org>
            C: DATA
            S: 250 2.1.0
            S: 250 2.1.5
            S: 354
            {CONTENT}{DOT}{QUIT}""",
        took=(MESSAGE, MESSAGE),
        actions=(Send(), Send()),
        told=(ACCEPTED, ACCEPTED),
    ),
    Scenario(
        name="the-sender-refused-pipelined",
        why="the rest of the group is refused, too, and none of it counts",
        dialogue=f"""
            {hello("PIPELINING")}
            C: MAIL FROM:<me@example.com>
            C: RCPT TO:<you@example.org>
            C: DATA
            S: 550 5.7.1
            S: 503 5.5.1
            S: 503 5.5.1
            {QUIT}""",
        verdicts={"MAIL": "550 5.7.1 Not from you"},
        refused=(Violation.OUT_OF_SEQUENCE,) * 2,
        actions=(Send(),),
        told=("you@example.org refused 550",),
    ),
    Scenario(
        name="lmtp-all-refused",
        why="RFC 2033 section 4.2: DATA without a recipient is 503",
        dialogue=f"""
            {LMTP}
            C: MAIL FROM:<me@example.com>
            C: RCPT TO:<you@example.org>
            C: DATA
            S: 250 2.1.0
            S: 550 5.1.1
            S: 503 5.5.1
            C: RSET
            S: 250 2.0.0
            {QUIT}""",
        config=replace(CONFIG, lmtp=True),
        verdicts={"RCPT you@example.org": "550 5.1.1 No"},
        refused=(Violation.OUT_OF_SEQUENCE,),
        actions=(Send(),),
        told=("you@example.org refused 550",),
    ),
    Scenario(
        name="lmtp-three-fates",
        why="a reply for each recipient that was accepted, in their order, and none for the one that was not",
        dialogue=f"""
            {LMTP}
            C: MAIL FROM:<me@example.com>
            C: RCPT TO:<a@example.org>
            C: RCPT TO:<no@example.org>
            C: RCPT TO:<b@example.org>
            C: RCPT TO:<c@example.org>
            C: DATA
            S: 250 2.1.0
            S: 250 2.1.5
            S: 550 5.1.1
            S: 250 2.1.5
            S: 250 2.1.5
            S: 354
            {CONTENT}
            C: .
            S: 554 5.6.0
            S: 250 2.0.0
            S: 451 4.3.0
            {QUIT}""",
        config=replace(CONFIG, lmtp=True),
        verdicts={"RCPT no@example.org": "550 5.1.1 No", ".": ("554 5.6.0 No", "", "451 4.3.0 Later")},
        took=((ME, ("b@example.org",), Send().octets),),
        actions=(Send(recipients=("a@example.org", "no@example.org", "b@example.org", "c@example.org")),),
        told=(
            "a@example.org refused 554",
            "no@example.org refused 550",
            "b@example.org accepted 250",
            "c@example.org retry 451",
        ),
    ),
    Scenario(
        name="lmtp-in-chunks",
        why="RFC 2033 section 4.3: as many replies to the last chunk, and one to each before",
        dialogue=f"""
            {LMTP.replace("S: 250 ENH", "S: 250-CHUNKING" + chr(10) + "S: 250 ENH")}
            C: MAIL FROM:<me@example.com>
            C: RCPT TO:<a@example.org>
            C: RCPT TO:<b@example.org>
            S: 250 2.1.0
            S: 250 2.1.5
            S: 250 2.1.5
            C: BDAT 5
            C: one
            S: 250 2.0.0
            C: BDAT 5 LAST
            C: two
            S: 250 2.0.0
            S: 452 4.2.2
            {QUIT}""",
        config=replace(CONFIG, lmtp=True),
        verdicts={".": ("", "452 4.2.2 Full")},
        took=((ME, ("a@example.org",), b"one\r\ntwo\r\n"),),
        actions=(Send((b"one\r\n", b"two\r\n"), ("a@example.org", "b@example.org"), chunked=True),),
        told=("a@example.org accepted 250", "b@example.org retry 452"),
    ),
)
