"""What the properties share: cuts, and events that were cut put together again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from smtpstate import Body, EndOfMessage, Limits, ServerEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

CUTS: Final = (1, 2, 3, 99)
PATIENT: Final = Limits(errors=10_000, junk=10_000)

cuts = st.one_of(st.none(), st.integers(1, 9), st.lists(st.integers(1, 40), min_size=1, max_size=5))


def joined(events: Iterable[ServerEvent]) -> list[ServerEvent]:
    """The events, with each body in one piece."""
    whole: list[ServerEvent] = []
    for event in events:
        if whole and isinstance(event, Body) and isinstance(whole[-1], Body):
            whole[-1] = Body(whole[-1].data + event.data)
        else:
            whole.append(event)
    return whole


def bodies(events: Iterable[ServerEvent]) -> list[bytes]:
    """The content of each message that has ended."""
    found: list[bytes] = []
    content = b""
    for event in events:
        if isinstance(event, Body):
            content += event.data
        elif isinstance(event, EndOfMessage):
            found.append(content)
            content = b""
    return found
