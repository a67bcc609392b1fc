"""Running a transcript: as a test of a server, or of a client."""

from __future__ import annotations

from difflib import unified_diff
from typing import TYPE_CHECKING, TypeAlias

from smtpstate_testing._pair import Pair
from smtpstate_testing._prompter import PromptedPair
from smtpstate_testing._recording import accept_everything
from smtpstate_testing._script import Course, Script
from smtpstate_testing._scripted_pair import ScriptedPair
from smtpstate_testing._transcript import ANY, Line, lines_of, parse_transcript

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from smtpstate import Limits, ServerConfig
    from smtpstate_testing._link import Cut
    from smtpstate_testing._recording import Handler

Served: TypeAlias = "Pair | ScriptedPair"


def run_transcript(
    text: str,
    *,
    server: ServerConfig | Script | Course | None = None,
    client: Callable[[PromptedPair], object] | None = None,
    handler: Handler = accept_everything,
    limits: Limits | None = None,
    cut: Cut = None,
) -> str:
    """Runs a dialogue in memory, and returns it as it went. AssertionError, with a diff, when that is not the same.

    As a test of a server the lines of the client are sent; those that stand together are sent together. `server` is
    ours by its configuration, whose verdicts `handler` gives, or a script. With `client` it is a test of that: the
    lines of the server are said, and `client` is called with a pair, whose `client` and `run()` it uses.
    """
    expected = parse_transcript(text)
    if client is None:
        happened = _converse(
            expected,
            ScriptedPair(server, cut=cut)
            if isinstance(server, Script | Course)
            else Pair(server, limits=limits, handler=handler, cut=cut),
        )
        _compare(expected, happened)
        return "".join(f"{line}\n" for line in happened)
    pair = PromptedPair(expected, cut=cut)
    try:
        client(pair)
    except Exception as error:  # what the dialogue lacks says more than what came of it
        pair.drive()
        _compare(expected, pair.happened, error)
        raise
    pair.drive()
    _compare(expected, pair.happened)
    return "".join(f"{line}\n" for line in pair.happened)


def _converse(expected: Sequence[Line], wire: Served) -> list[Line]:
    """Says what the client says there; what happens then."""
    happened: list[Line] = []
    pending: list[Line] = []

    def note(said: bytes) -> None:
        happened.extend(lines_of("S", said))
        if wire.shut and (not happened or happened[-1] != Line("S", "", closes=True)):
            happened.append(Line("S", "", closes=True))

    def listen() -> None:
        octets = b"".join(line.octets for line in pending)
        happened.extend(pending)
        pending.clear()
        note(wire.talk(octets))

    for line in expected:
        if line.side == "C" and not line.closes:
            pending.append(line)
            continue
        listen()
        if line.side == "T":
            happened.append(line)
            before = len(wire.received)
            wire.wait(float(line.text))
            note(wire.received[before:])
        elif line.side == "C":
            happened.append(line)
            note(wire.hang_up())
    listen()
    return happened


def _compare(expected: Sequence[Line], happened: Sequence[Line], cause: Exception | None = None) -> None:
    """Raises AssertionError where they differ."""
    wanted = _filled(expected, happened)
    if wanted == list(happened) or (wanted == list(happened[:-1]) and happened[-1].closes):
        return  # that it was closed need not be said
    before, after = [str(line) for line in wanted], [str(line) for line in happened]
    diff = unified_diff(before, after, "expected", "happened", lineterm="")
    raise AssertionError("\n".join(("the dialogue went another way:", *diff))) from cause


def _filled(expected: Sequence[Line], happened: Sequence[Line]) -> list[Line]:
    """What was expected, with what happened in the place of "..."."""
    filled: list[Line] = []
    for index, line in enumerate(expected):
        at = len(filled)
        if line.text == ANY:
            stop = expected[index + 1] if index + 1 < len(expected) else None
            while at < len(happened) and happened[at].side == line.side and not (stop and stop.fits(happened[at])):
                filled.append(happened[at])
                at += 1
        elif at < len(happened) and line.fits(happened[at]):
            filled.append(happened[at])
        else:
            filled.append(line)
    return filled
