"""The verbs, apart from the commands that they begin: what the table of states and its neighbours speak of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import final


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
    OWN = 22  # any that an extension of one's own names: an OwnVerb


@final
@dataclass(frozen=True, slots=True)
class OwnVerb:
    """A verb that an extension of your own adds, and where it may come.

    `name` is of four letters or more, in upper case. It comes after EHLO and outside a transaction; with
    `in_transaction` also inside one, before its DATA or BDAT. With `needs_tls` and `needs_auth` it is 530 until the
    session is secure, and authenticated.
    """

    name: str
    in_transaction: bool = False
    needs_tls: bool = False
    needs_auth: bool = False
