"""The verbs, apart from the commands that they begin: what the table of states and its neighbours speak of."""

from __future__ import annotations

from enum import IntEnum


class Verb(IntEnum):
    """The verbs, and three things that are answered although nobody spells them out."""

    CONNECT = 0  # the connection itself; the greeting answers it
    TLS = 1  # the TLS handshake
    END = 2  # the end of a message; the reply after the lone dot answers it
    EHLO = 3
    HELO = 4
    STARTTLS = 5
    MAIL = 6
    RCPT = 7
    DATA = 8
    RSET = 9
    NOOP = 10
    QUIT = 11
    VRFY = 12
    EXPN = 13
    HELP = 14
    LHLO = 15
    AUTH = 16
    RESPONSE = 17  # a line of the exchange that AUTH began
    BDAT = 18
    CHUNK = 19  # the end of a chunk that is not the last
    XCLIENT = 20
    XFORWARD = 21
