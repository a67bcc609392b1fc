"""Scenarios of AUTH and STARTTLS: done, cancelled, refused, and gone wrong."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Final

from smtpstate import CloseReason, TlsMode, Violation
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
from smtpstate_testing._scenario import CLIENT, HOSTNAME, MESSAGE, Login, Scenario, Send

LETTER: Final = f"{ENVELOPE}{DATA}{CONTENT}{DOT}"
ALL: Final = replace(CONFIG, mechanisms=("PLAIN", "LOGIN", "SCRAM-SHA-256"))
GREETED: Final = f"S: 220 {HOSTNAME}\nC: EHLO {CLIENT}\nS: 250-{HOSTNAME}\nS: 250 STARTTLS\n"
IN_TLS: Final = f"C: STARTTLS\nS: 220 2.0.0\n* tls\nC: EHLO {CLIENT}\nS: 250 {HOSTNAME}\n"
OFFERING: Final = replace(CONFIG, starttls=True)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# The example of RFC 7677 section 3.
FIRST: Final = b64("n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
_NONCES: Final = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
CHALLENGE: Final = b64(f"{_NONCES},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
PROOF: Final = b64(f"c=biws,{_NONCES},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
SIGNATURE: Final = b64("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")

LOGINS: Final = (
    Scenario(
        name="plain",
        why="RFC 4616: all in the first line",
        dialogue=f"{hello('AUTH PLAIN')}\nC: AUTH PLAIN AHVzZXIAcGVuY2ls\nS: 235 2.7.0\n{QUIT}",
        config=ALL,
        identity="user",
        actions=(Login(),),
        told=("logged in",),
    ),
    Scenario(
        name="plain-asked-for",
        why="RFC 4954 section 4: without an initial response an empty challenge asks for it",
        dialogue=f"{HELLO}\nC: AUTH PLAIN\nS: 334 \nC: AHVzZXIAcGVuY2ls\nS: 235 2.7.0\n{QUIT}",
        seats=("server",),
        config=ALL,
        identity="user",
    ),
    Scenario(
        name="login",
        why="what Microsoft made of it: two questions",
        dialogue=f"""
            {hello("AUTH LOGIN")}
            C: AUTH LOGIN
            S: 334 VXNlcm5hbWU6
            C: dXNlcg==
            S: 334 UGFzc3dvcmQ6
            C: cGVuY2ls
            S: 235 2.7.0
            {QUIT}""",
        config=replace(CONFIG, mechanisms=("LOGIN",)),
        identity="user",
        actions=(Login("LOGIN"),),
        told=("logged in",),
    ),
    Scenario(
        name="scram",
        why="the example of RFC 7677: both sides prove that they know it, and neither says it",
        dialogue=f"""
            {hello("AUTH SCRAM-SHA-256")}
            C: AUTH SCRAM-SHA-256 {FIRST}
            S: 334 {CHALLENGE}
            C: {PROOF}
            S: 334 {SIGNATURE}
            C:
            S: 235 2.7.0
            {QUIT}""",
        config=replace(CONFIG, mechanisms=("SCRAM-SHA-256",)),
        identity="user",
        actions=(Login("SCRAM-SHA-256"),),
        told=("logged in",),
    ),
    Scenario(
        name="scram-from-somebody-else",
        why="a server that does not prove that it knows the keys is not the one: the client cancels",
        dialogue=f"""
            {hello("AUTH SCRAM-SHA-256")}
            C: AUTH SCRAM-SHA-256 {FIRST}
            S: 334 {CHALLENGE}
            C: {PROOF}
            S: 334 {b64("v=" + b64("x" * 32))}
            C: *
            S: 501 5.7.0
            {QUIT}""",
        seats=("client",),
        actions=(Login("SCRAM-SHA-256"),),
        told=("AuthenticationFailed 501",),
    ),
    Scenario(
        name="scram-that-says-yes-too-early",
        why="235 before the proof is no login, and whoever says so is not to be trusted with mail",
        dialogue=f"""
            {hello("AUTH SCRAM-SHA-256")}
            C: AUTH SCRAM-SHA-256 {FIRST}
            S: 235 2.7.0""",
        seats=("client",),
        actions=(Login("SCRAM-SHA-256"), Send()),
        told=("AuthenticationFailed 235",),
        client_ends=CloseReason.CLOSED,
    ),
    Scenario(
        name="the-wrong-password",
        why="535, and the session is as before",
        dialogue=f"""
            {hello("AUTH PLAIN")}
            C: AUTH PLAIN AHVzZXIAd3Jvbmc=
            S: 535 5.7.8
            {LETTER}{QUIT}""",
        config=ALL,
        took=(MESSAGE,),
        actions=(Login(password="wrong"), Send()),
        told=("AuthenticationFailed 535", ACCEPTED),
    ),
    Scenario(
        name="a-login-cancelled",
        why="RFC 4954 section 4: a lone asterisk, which is 501",
        dialogue=f"{HELLO}\nC: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: *\nS: 501 5.7.0\n{LETTER}{QUIT}",
        seats=("server",),
        config=ALL,
        took=(MESSAGE,),
    ),
    Scenario(
        name="a-login-that-is-no-base64",
        why="RFC 4954 section 4: 501, and the exchange is over",
        dialogue=f"{HELLO}\nC: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: user\u00e4\nS: 501 5.5.2\n{QUIT}",
        seats=("server",),
        config=ALL,
        refused=(Violation.BASE64,),
    ),
    Scenario(
        name="a-login-after-a-login",
        why="RFC 4954 section 4: 503",
        dialogue=f"""
            {HELLO}
            C: AUTH PLAIN AHVzZXIAcGVuY2ls
            S: 235 2.7.0
            C: AUTH PLAIN AHVzZXIAcGVuY2ls
            S: 503 5.5.1
            {QUIT}""",
        seats=("server",),
        config=ALL,
        identity="user",
        refused=(Violation.OUT_OF_SEQUENCE,),
    ),
    Scenario(
        name="a-login-in-a-transaction",
        why="RFC 4954 section 4: 503",
        dialogue=f"{HELLO}{ENVELOPE}\nC: AUTH PLAIN AHVzZXIAcGVuY2ls\nS: 503 5.5.1\n{DATA}{CONTENT}{DOT}{QUIT}",
        seats=("server",),
        config=ALL,
        refused=(Violation.OUT_OF_SEQUENCE,),
        took=(MESSAGE,),
    ),
    Scenario(
        name="a-mechanism-that-nobody-offered",
        why="504",
        dialogue=f"{HELLO}\nC: AUTH CRAM-MD5\nS: 504 5.5.4\n{QUIT}",
        seats=("server",),
        config=ALL,
        refused=(Violation.UNKNOWN_MECHANISM,),
    ),
    Scenario(
        name="mail-without-the-login-it-needs",
        why="RFC 4954 section 6: 530",
        dialogue=f"""
            {HELLO}
            C: MAIL FROM:<me@example.com>
            S: 530 5.7.0
            C: AUTH PLAIN AHVzZXIAcGVuY2ls
            S: 235 2.7.0
            {LETTER}{QUIT}""",
        seats=("server",),
        config=replace(ALL, requires_auth=True),
        refused=(Violation.OUT_OF_SEQUENCE,),
        identity="user",
        took=(MESSAGE,),
    ),
    Scenario(
        name="a-login-put-off",
        why="454: the server cannot know now",
        dialogue=f"{hello('AUTH PLAIN')}\nC: AUTH PLAIN AHVzZXIAcGVuY2ls\nS: 454 4.7.0\n{LETTER}{QUIT}",
        seats=("client",),
        actions=(Login(), Send()),
        told=("AuthenticationFailed 454", ACCEPTED),
    ),
)

STARTTLS: Final = (
    Scenario(
        name="starttls-and-then-a-message",
        why="RFC 3207 section 4.2: all begins anew, inside",
        dialogue=f"{GREETED}{IN_TLS}{LETTER}{QUIT}",
        modes=("own",),
        config=OFFERING,
        took=(MESSAGE,),
        actions=(Send(),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="starttls-needs-another-hello",
        why="RFC 3207 section 4.2: the server forgets the first one",
        dialogue=f"{GREETED}\nC: STARTTLS\nS: 220\n* tls\nC: MAIL FROM:<me@example.com>\nS: 503 5.5.1\n{QUIT}",
        seats=("server",),
        modes=("own",),
        config=OFFERING,
        refused=(Violation.OUT_OF_SEQUENCE,),
    ),
    Scenario(
        name="starttls-in-tls",
        why="RFC 3207 section 4.2: not offered any more, and 503",
        dialogue=f"{HELLO}\nC: STARTTLS\nS: 503 5.5.1\n{QUIT}",
        seats=("server",),
        modes=("starttls", "implicit"),
        refused=(Violation.OUT_OF_SEQUENCE,),
    ),
    Scenario(
        name="starttls-in-a-transaction",
        why="what began in clear must not end in TLS",
        dialogue=f"{GREETED}{ENVELOPE}\nC: STARTTLS\nS: 503 5.5.1\n{DATA}{CONTENT}{DOT}{QUIT}",
        seats=("server",),
        modes=("own",),
        config=OFFERING,
        refused=(Violation.OUT_OF_SEQUENCE,),
        took=(MESSAGE,),
    ),
    Scenario(
        name="starttls-that-nobody-offered",
        why="a client that requires TLS says nothing but goodbye",
        dialogue=f"{HELLO}{QUIT}",
        modes=("own",),
        seats=("client",),
        told=("TlsUnavailable",),
    ),
    Scenario(
        name="starttls-refused",
        why="454: the same, for whoever requires it",
        dialogue=f"{GREETED}\nC: STARTTLS\nS: 454 4.7.0\n{QUIT}",
        modes=("own",),
        seats=("client",),
        told=("TlsUnavailable",),
    ),
    Scenario(
        name="starttls-refused-to-an-opportunist",
        why="who would have it but need not goes on in clear text",
        dialogue=f"{GREETED}\nC: STARTTLS\nS: 454 4.7.0\n{LETTER}{QUIT}",
        modes=("own",),
        seats=("client",),
        tls=TlsMode.OPPORTUNISTIC,
        actions=(Send(),),
        told=(ACCEPTED,),
    ),
    Scenario(
        name="a-command-behind-starttls",
        why="RFC 3207 section 4: somebody may have put it there to be taken for one that came in TLS",
        dialogue=f"{GREETED}\nC= STARTTLS\\r\\nNOOP\\r\\n\nS: 554 5.5.0\nS* fin",
        modes=("own",),
        seats=("server",),
        config=OFFERING,
        server_ends=CloseReason.VIOLATION,
        server_violation=Violation.EARLY_PLAINTEXT,
    ),
    Scenario(
        name="a-reply-behind-that-to-starttls",
        why="the same from the other side",
        dialogue=f"{GREETED}\nC: STARTTLS\nS= 220 go\\r\\n250 OK\\r\\n\nC* fin",
        modes=("own",),
        seats=("client",),
        told=("ConnectionBroken",),
        client_ends=CloseReason.VIOLATION,
        client_violation=Violation.EARLY_PLAINTEXT,
    ),
    Scenario(
        name="clear-text-where-a-handshake-is-due",
        why="it is no handshake, so TLS has failed, and nothing is said in clear",
        dialogue=f"{GREETED}\nC: STARTTLS\nS: 220\nC= \\x00\\x00\\x00\\x00\\x00\nC* drop",
        modes=("own",),
        seats=("server",),
        config=OFFERING,
        server_ends=CloseReason.TLS_FAILED,
    ),
    Scenario(
        name="mail-without-the-tls-it-needs",
        why="RFC 3207 section 4: 530 until there is some",
        dialogue=f"{GREETED}\nC: MAIL FROM:<me@example.com>\nS: 530 5.7.0\n{IN_TLS}{LETTER}{QUIT}",
        modes=("own",),
        seats=("server",),
        config=replace(OFFERING, requires_tls=True),
        refused=(Violation.OUT_OF_SEQUENCE,),
        took=(MESSAGE,),
    ),
)

SECURITY: Final = (*LOGINS, *STARTTLS)
