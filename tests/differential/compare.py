"""One session with both servers, and what has to be the same of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.differential.talk import Played, Stored, play

if TYPE_CHECKING:
    from tests.differential.ours import Ours
    from tests.differential.postfix import Postfix
    from tests.differential.rows import Session


def _expected(session: Session, *, postfix: bool) -> list[str]:
    """What is heard from the greeting to the end, which comes last even where nobody was asked to close."""
    heard = ["2"]
    for step in session.steps:
        heard.append(step.postfix if postfix and step.postfix is not None else step.ours)
        if heard[-1].endswith("closed"):
            return heard
    return [*heard, "closed"]


def _played(server: Ours | Postfix, session: Session, *, postfix: bool) -> tuple[Played, list[Stored]]:
    expected = _expected(session, postfix=postfix)
    played = play(server.port, [(step.send, said) for step, said in zip(session.steps, expected[1:], strict=False)])
    return played, [server.stored(reply) for reply in played.accepted]


def compare(session: Session, our_server: Ours, postfix: Postfix) -> None:
    """Replies by their first digit, and what was kept; the row says where they differ."""
    played, kept = _played(our_server, session, postfix=False)
    assert played.heard == _expected(session, postfix=False)
    played, theirs = _played(postfix, session, postfix=True)
    assert played.heard == _expected(session, postfix=True)
    if session.kept is not None:
        assert ([message.content for message in kept], [message.content for message in theirs]) == (
            [session.kept[0]],
            [session.kept[1]],
        )
        kept, theirs = ([message._replace(content=b"") for message in side] for side in (kept, theirs))
    if len(kept) == len(theirs) or not session.differs:
        assert kept == theirs
