"""Octets from a corpus, as they are and mutated, through both seats; what has to hold is in `tests.fuzz.seats`.

The corpus has a file for each thing that somebody might say, by a name that tells it: `server/` has what a client
sends, `client/` what a server does. `python tests/fuzz/fuzz.py` looks for more, and leaves there what broke something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpstate import Command, ServerEvent, Violation
from tests.fuzz.seats import (
    CLIENT_SEATS,
    CUTS,
    ENDS,
    SCRIPTED,
    SERVER_SEATS,
    Side,
    corpus,
    mutate,
    play,
    play_client,
    play_server,
)
from tests.property.model import ITEMS

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

FILES: Final[dict[Side, list[Path]]] = {"server": corpus("server"), "client": corpus("client")}
ROWS: Final = [(side, path) for side, paths in FILES.items() for path in paths]
SEEN: Final[dict[Path, set[str]]] = {}


def through_both_seats(side: Side, path: Path) -> set[str]:
    """What came of it in its own seat. In the other one it is noise, and one of them is enough."""
    if path not in SEEN:
        data = path.read_bytes()
        seen: set[str] = set()
        for number, cut in enumerate(CUTS):
            end = ENDS[number % len(ENDS)]
            for server_seat in SERVER_SEATS if side == "server" else SERVER_SEATS[:1]:
                seen |= play_server(data, cut, server_seat, end)
            for client_seat in CLIENT_SEATS if side == "client" else CLIENT_SEATS[:1]:
                seen |= play_client(data, cut, client_seat, end)
        SEEN[path] = seen
    return SEEN[path]


@pytest.mark.parametrize(("side", "path"), ROWS, ids=lambda part: part if isinstance(part, str) else part.name)
def test_the_corpus_harms_nobody(side: Side, path: Path) -> None:
    assert through_both_seats(side, path)


def test_the_corpus_has_everything_in_it() -> None:
    """Every command, every event, every answer to every command, and every way to cheat."""
    seen: set[str] = set()
    for side, path in ROWS:
        seen |= through_both_seats(side, path)
    assert set(ITEMS) == SCRIPTED
    assert {kind.__name__ for kind in get_args(Command)} - seen == set()
    assert {kind.__name__ for kind in get_args(ServerEvent)} - {"CommandRefused", "ConnectionClosed"} - seen == set()
    assert {violation.name for violation in Violation} - seen == set()
    questions = {kind.__name__ for kind in get_args(Command)} - {"AuthCancel"}  # the client is no quitter here
    assert {name for name in questions if not any(what.startswith(f"{name} answered") for what in seen)} == set()


@settings(max_examples=400, deadline=None)
@given(side=st.sampled_from(sorted(FILES)), number=st.integers(0, 1000), random=st.randoms(use_true_random=False))
def test_what_the_corpus_mutates_into_harms_nobody(side: Side, number: int, random: Random) -> None:
    others = [path.read_bytes() for path in FILES[side]]
    play(side, mutate(random, others[number % len(others)], others), random)
