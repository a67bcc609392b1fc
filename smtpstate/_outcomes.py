"""What became of a message: an outcome for each recipient, judged by what was answered."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from smtpstate._events import ConnectionClosed
    from smtpstate._replies import Reply


class Result(StrEnum):
    """What became of a recipient."""

    ACCEPTED = "accepted"
    RETRY = "retry"  # 4yz, 552 for one recipient too many, or no connection before the final dot: try again later
    REFUSED = "refused"  # any other 5yz: do not try again
    UNKNOWN = "unknown"  # the connection went after the final dot and before its answer


@final
@dataclass(frozen=True, slots=True)
class RecipientResult:
    """One recipient's outcome and the reply that decided it; None when no reply did."""

    address: str
    outcome: Result
    reply: Reply | None


@final
@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one message, recipient by recipient, in the order given."""

    results: tuple[RecipientResult, ...]
    closed: ConnectionClosed | None = None  # how the connection ended, if it did on the way

    def __iter__(self) -> Iterator[RecipientResult]:
        return iter(self.results)

    @property
    def all_accepted(self) -> bool:
        """Whether every recipient was accepted."""
        return all(result.outcome is Result.ACCEPTED for result in self.results)

    def having(self, outcome: Result) -> tuple[str, ...]:
        """The addresses with this outcome."""
        return tuple(result.address for result in self.results if result.outcome is outcome)


def is_yes(reply: Reply | None) -> bool:
    """Whether it says 2yz."""
    return reply is not None and reply.code // 100 == 2


@final
class Answers:
    """What was answered about one message for these `addresses`."""

    __slots__ = ("_addresses", "finals", "mail", "rcpts", "refused", "verdict")

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses: Final = addresses
        self.refused: dict[int, Reply] = {}  # recipients that nobody is asked about, by their place, and why
        self.mail: Reply | None = None
        self.rcpts: Final[list[Reply]] = []  # in the order of the recipients, those refused by us left out
        self.verdict: Reply | None = None  # what decides for all that were accepted
        self.finals: Final[list[Reply]] = []  # to the end of the message: one, or one for each that was accepted

    @property
    def accepted(self) -> int:
        """How many recipients were accepted."""
        return sum(map(is_yes, self.rcpts))

    def delivery(self, undecided: Result, closed: ConnectionClosed | None, *, each: bool) -> Delivery:
        """A refusal of MAIL or of a recipient stands; the others are decided by the end, or are `undecided`.

        `each` says that the end has one reply for each that was accepted (RFC 2033 section 4.2).
        """
        finals = iter(self.finals)
        rcpts = iter(self.rcpts)
        results: list[RecipientResult] = []
        room = False  # whether a recipient before this one was accepted
        for index, address in enumerate(self._addresses):
            reply = self.refused.get(index, self.mail)
            excess = False
            if index not in self.refused and (reply is None or is_yes(reply)):
                reply = next(rcpts, None)
                excess = room and reply is not None and _is_one_too_many(reply)
                room = room or is_yes(reply)
            if reply is None or is_yes(reply):
                reply = self.verdict or self._final(finals, accepted=reply is not None, each=each)
            if reply is not None:
                results.append(RecipientResult(address, Result.RETRY if excess else _result(reply), reply))
            else:
                told = None if closed is None or undecided is Result.UNKNOWN else closed.reply
                results.append(RecipientResult(address, undecided, told))
        return Delivery(tuple(results), closed)

    def _final(self, finals: Iterator[Reply], *, accepted: bool, each: bool) -> Reply | None:
        """The reply to the end of the message that is this recipient's."""
        if not accepted or not self.finals:
            return None
        return next(finals, None) if each else self.finals[0]


# What an enhanced code says of one recipient too many (RFC 3463 section 3.6), if it says anything.
_TOO_MANY: Final = frozenset({(5, 3), (0, 0)})


def _is_one_too_many(reply: Reply) -> bool:
    """Whether this answer to RCPT, after another was accepted, means that there are too many recipients.

    The code for that is 452, but RFC 821 had 552, which is to be taken as 452 (RFC 5321 section 4.5.3.1.10). Since 552
    is also the code for a mailbox that is full and for a message that is too large, an enhanced code that says so
    counts more.
    """
    enhanced = reply.enhanced
    return reply.code == 552 and (enhanced is None or (enhanced.subject, enhanced.detail) in _TOO_MANY)


def _result(reply: Reply) -> Result:
    return {2: Result.ACCEPTED, 5: Result.REFUSED}.get(reply.code // 100, Result.RETRY)
