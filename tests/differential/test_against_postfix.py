"""The same sessions with Postfix's smtpd and with ours: replies by their first digit, and what is kept of messages.

Where the two differ, the row says why, and that is what is tested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.differential.addresses import ADDRESSES
from tests.differential.bodies import BODIES
from tests.differential.chunking import CHUNKING
from tests.differential.compare import compare
from tests.differential.forbidden import EARLY, FORBIDDEN
from tests.differential.limits import LIMITS
from tests.differential.order import ORDER
from tests.differential.parameters import PARAMETERS
from tests.differential.pipelining import PIPELINING
from tests.differential.syntax import SYNTAX
from tests.differential.talk import Talker

if TYPE_CHECKING:
    from tests.differential.ours import Ours
    from tests.differential.postfix import Postfix
    from tests.differential.rows import Session

_SESSIONS: Final = (*ORDER, *SYNTAX, *ADDRESSES, *PARAMETERS, *BODIES, *LIMITS, *PIPELINING, *FORBIDDEN, *EARLY)


@pytest.mark.parametrize("session", _SESSIONS, ids=lambda session: session.name)
def test_both_say_and_keep_the_same_or_the_row_says_why(session: Session, our_server: Ours, postfix: Postfix):
    compare(session, our_server, postfix)


@pytest.mark.parametrize("session", CHUNKING, ids=lambda session: session.name)
def test_both_say_and_keep_the_same_with_bdat(session: Session, our_server: Ours, postfix: Postfix):
    assert "CHUNKING" in _offers(our_server.port)
    compare(session, our_server, postfix)


def _offers(port: int) -> str:
    talker = Talker(port)
    try:
        talker.read("2")
        talker.send(b"EHLO client.example.com\r\n")
        talker.read("2")
        return talker.replies[-1]
    finally:
        talker.close()


def test_the_rows_are_what_they_claim():
    """Names are unique; a row says why it differs if and only if it does; and there are as many as there have to be."""
    rows = (*_SESSIONS, *CHUNKING)
    assert len({row.name for row in rows}) == len(rows) >= 150
    for row in rows:
        differs = row.kept is not None or any(step.postfix is not None for step in row.steps)
        assert bool(row.differs) is differs, row.name
