"""Batches: one message in several transactions, where a server's LIMITS leave no other way (RFC 9422)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, final

from smtpstate._delivery import check_message, refusals
from smtpstate._envelope import recipients_of
from smtpstate._outcomes import Delivery, RecipientResult, Result
from smtpstate._quota import plan
from smtpstate._replies import Reply
from smtpstate.extensions import server_limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smtpstate._client import ClientConnection
    from smtpstate._delivery import Envelope
    from smtpstate._quota import Excess


@final
class Batches:
    """The envelopes of one message: one for each transaction, and so one at most where the server has no LIMITS.

    Iterate, give each to `send_message`, and its Delivery to `add`. Those who need what the server lacks are refused at
    once: they are in no envelope and take nobody's place. Whoever is left in the end is to be tried again: by another
    session where LIMITS allow no more in this one, and where `once` says that the body cannot be read a second time.
    Raises LocalProtocolError when there is no recipient, or something cannot be spelled.
    """

    def __init__(self, client: ClientConnection, envelope: Envelope, *, once: bool) -> None:
        self._client: Final = client
        self._envelope: Final = envelope
        self._addresses: Final = tuple(one.address for one in recipients_of(envelope.recipients))
        self._limits: Final = server_limits(client.capabilities)
        refused = refusals(client, envelope)
        self._results: Final = {
            index: RecipientResult(self._addresses[index], Result.REFUSED, reply) for index, reply in refused.items()
        }
        rest = [index for index in range(len(self._addresses)) if index not in refused]
        planned = plan([self._addresses[index] for index in rest], self._limits, client.tally)
        batches = [tuple(rest[place] for place in batch) for batch in planned.batches]
        self._batches: Final = batches[:1] if once else batches
        self._left_out: Final = {rest[place]: excess for place, excess in planned.left_out.items()}
        if len(self._batches) > 1:  # a mistake in a later one must not cost the earlier ones
            for batch in self._batches:
                check_message(client, self._part(batch))
        self._done: int = 0

    def __iter__(self) -> Iterator[Envelope]:
        """Ends early when the connection does."""
        for batch in self._batches:
            if self._client.closed is None:
                yield self._part(batch)

    def _part(self, batch: tuple[int, ...]) -> Envelope:
        return replace(self._envelope, recipients=tuple(self._envelope.recipients[index] for index in batch))

    def add(self, delivery: Delivery) -> None:
        """What became of the envelope that was handed out last."""
        self._results.update(zip(self._batches[self._done], delivery, strict=True))
        self._done += 1

    @property
    def delivery(self) -> Delivery:
        """What became of the message, for each recipient in the order given."""
        lost = {index for batch in self._batches[self._done :] for index in batch}
        results: list[RecipientResult] = []
        for index, address in enumerate(self._addresses):
            result = self._results.get(index)
            if result is None:
                reply = self._ending if index in lost else self._refusal(self._left_out.get(index))
                result = RecipientResult(address, Result.RETRY, reply)
            results.append(result)
        return Delivery(tuple(results), self._client.closed)

    @property
    def _ending(self) -> Reply | None:
        return None if self._client.closed is None else self._client.closed.reply

    def _refusal(self, excess: Excess | None) -> Reply:
        """Ours, and in the form of a server's: why nothing was sent for a recipient."""
        what = "the message can be read once only" if excess is None else f"no more {excess.value}"
        return Reply(452, f"Not sent: {what}; LIMITS {' '.join(self._limits.format())}", enhanced="4.5.3")
