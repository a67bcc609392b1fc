"""Script: a server written as a table. What no row is about it answers as a server would that takes everything."""

from __future__ import annotations

from collections import Counter
from random import Random
from threading import Lock
from typing import TYPE_CHECKING, Final, final

from smtpstate import (
    Auth,
    AuthCancel,
    AuthResponse,
    CommandRefused,
    Connected,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Lhlo,
    Mail,
    Quit,
    Rcpt,
    Reply,
    StartTls,
    Vrfy,
)
from smtpstate_testing._rows import Row, StalledHandshake, Step, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smtpstate_testing._patterns import Heard

_OFFERS: Final = ("PIPELINING", "8BITMIME", "SIZE 10485760", "ENHANCEDSTATUSCODES")


@final
class Script:
    """A table of rows, made with `on`, `after`, `slow`, `garbage` and `stall_handshake`; and what the server is called.

    `offers` are the lines of its answer to EHLO, AUTH among them if you like; STARTTLS comes by itself where there is a
    certificate. With `lmtp` it answers the end of a message once for each recipient. A script that is played twice
    with the same input does the same twice: `seed` is where garbage comes from.
    """

    def __init__(
        self,
        *rows: Row | StalledHandshake,
        hostname: str = "mx.example.org",
        offers: tuple[str, ...] = _OFFERS,
        lmtp: bool = False,
        seed: int = 0,
    ) -> None:
        self.rows, self.stalls_handshake = rows_of(rows)
        self.hostname: Final = hostname
        self.offers: Final = offers
        self.lmtp: Final = lmtp
        self.seed: Final = seed

    def encode(self, reply: Reply, heard: Heard | None) -> bytes:
        """The octets of `reply`, whatever its code; with an enhanced code where one is due (RFC 2034 section 4)."""
        coded = "ENHANCEDSTATUSCODES" in self.offers and not isinstance(heard, Connected | Ehlo | Helo | Lhlo)
        prefix = f"{reply.enhanced} " if reply.enhanced is not None else ""
        if coded and not prefix and reply.code // 100 in (2, 4, 5):
            prefix = f"{reply.code // 100}.0.0 "
        *before, last = reply.lines
        lines = [f"{reply.code}-{prefix}{line}" for line in before] + [f"{reply.code} {prefix}{last}"]
        return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "surrogateescape")

    def usual(self, heard: Heard, *, tls: bool) -> Reply:
        """What it says where no row says otherwise; `tls` is whether it can and may begin TLS."""
        match heard:
            case Connected():
                return Reply(220, f"{self.hostname} {'LMTP' if self.lmtp else 'ESMTP'}")
            case Ehlo() | Lhlo():
                return Reply(250, self.hostname, *self.offers, *(("STARTTLS",) if tls else ()))
            case Helo():
                return Reply(250, self.hostname)
            case StartTls():
                return Reply(220, "Go ahead") if tls else Reply(502, "TLS is not available", enhanced="5.5.1")
            case Auth(initial_response=None):
                return Reply(334, "")
            case Auth(mechanism="LOGIN"):
                return Reply(334, "UGFzc3dvcmQ6")
            case Auth() | AuthResponse():
                return Reply(235, "Authenticated", enhanced="2.7.0")
            case AuthCancel():
                return Reply(501, "Cancelled", enhanced="5.7.0")
            case Mail():
                return Reply(250, "Sender accepted", enhanced="2.1.0")
            case Rcpt():
                return Reply(250, "Recipient accepted", enhanced="2.1.5")
            case Data():
                return Reply(354, "Go on")
            case Help():
                return Reply(214, "No help", enhanced="2.0.0")
            case Vrfy():
                return Reply(252, "Send some mail", enhanced="2.1.5")
            case Expn():
                return Reply(502, "No lists", enhanced="5.5.1")
            case Quit():
                return Reply(221, "Bye", enhanced="2.0.0")
            case CommandRefused(reply=reply):
                return reply
            case _:
                return Reply(250, "OK", enhanced="2.0.0")


@final
class Course:
    """How often each row has come, over all connections that share it, and the randomness that they share."""

    def __init__(self, script: Script) -> None:
        self.script: Final = script
        self.random: Final = Random(script.seed)
        self._times: Final[Counter[int]] = Counter()
        self._lock: Final = Lock()

    def answer(self, heard: Heard) -> Step:
        """What the first `on` row that fits says now."""
        for index, row in enumerate(self.script.rows):
            if row.answers and row.about.matches(heard):
                return self._next(index, row)
        return Step()

    def afterwards(self, heard: Heard) -> Iterator[Step]:
        """What the `after` rows say now that come right after the reply."""
        for index, row in enumerate(self.script.rows):
            if not row.answers and row.octets is None and row.about.matches(heard):
                yield self._next(index, row)

    def thresholds(self, heard: Heard) -> list[tuple[int, int]]:
        """Where in a body an `after` row comes: octets, and which row it is, the least first."""
        rows = enumerate(self.script.rows)
        return sorted((row.octets, index) for index, row in rows if row.octets is not None and row.about.matches(heard))

    def at(self, index: int) -> Step:
        """What the row with this index says now."""
        return self._next(index, self.script.rows[index])

    def _next(self, index: int, row: Row) -> Step:
        with self._lock:
            before = self._times[index]
            self._times[index] += 1
        return row.step(before)
