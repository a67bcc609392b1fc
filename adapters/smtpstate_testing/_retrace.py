"""Retracing: a session put together again from its trace."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Final

from smtpstate import ServerConfig, ServerConnection, ServerEvent, Timer, Verb
from smtpstate.trace import TraceBudget, TraceLine, TraceVerdict
from smtpstate_testing._pair import Pair
from smtpstate_testing._recording import DEFAULT, Replayed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from smtpstate.trace import TraceRecord

_COUNTED: Final = re.compile(rb"\((\d+) octets\)( \.)?")
_CHUNK: Final = re.compile(rb"BDAT (\d+)(?: LAST)?", re.IGNORECASE)


def retrace(records: Iterable[TraceRecord], config: ServerConfig | None = None) -> Replayed:
    """What becomes of it when all that the trace of a server tells happens to a new one, verdicts and budgets as well.

    It says the same, if lines came when their turn was: a trace has neither times nor contents, so messages are made of
    as many octets, and time passes where a budget was spent. Raises ValueError where something is secret, or a handler
    was too slow: a `Recording` knows these.
    """
    told = list(records)
    for record in told:
        if isinstance(record, TraceLine) and record.side == "C" and record.line.endswith(b"***"):
            raise ValueError(f"what is secret cannot be said again: {record.line!r}")
        if record == TraceBudget(Timer.HANDLER):
            raise ValueError("a trace does not tell how slow a handler was")
    verdicts = deque(record for record in told if isinstance(record, TraceVerdict))

    def handler(server: ServerConnection, event: ServerEvent) -> None:
        while server.owed is event and verdicts:
            verdict = verdicts.popleft()
            if not verdict.silent:
                server.reply(verdict.reply)
                continue
            # The table answers: in LMTP for each recipient that is left.
            while verdict.verb is Verb.END and verdicts and verdicts[0] == verdict:
                verdicts.popleft()
            break

    pair = Pair(config or DEFAULT, handler=handler)
    pair.talk()
    chunk = False
    for record in told:
        match record:
            case TraceLine("C", line):
                while pair.late and pair.jump():  # this line was read later
                    pass
                counted = _COUNTED.fullmatch(line)
                if counted is None:
                    announced = _CHUNK.fullmatch(line)
                    chunk = announced is not None
                    pair.talk(line + b"\r\n" + (b"x" * int(announced[1]) if announced is not None else b""))
                elif not chunk:
                    size = int(counted[1])
                    pair.talk((b"x" * (size - 2) + b"\r\n" if size else b"") + b".\r\n")
            case TraceBudget(Timer()):
                before = len(pair.records)
                while record not in pair.records[before:] and pair.jump():
                    pass
            case _:
                pass
    return Replayed(pair.received, tuple(pair.server_events), tuple(pair.records))
