"""What LIMITS counts (RFC 9422): how much of it a session has had, on either side of the wire."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, final

from smtpstate._address import domain_key
from smtpstate._carried import ServerLimits
from smtpstate._commands import Mail, Rcpt
from smtpstate._errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smtpstate._commands import Command

_NO_LIMITS: Final = ServerLimits()
_MAIL: Final = Mail.of("")


class Excess(Enum):
    """What there would be too much of."""

    TRANSACTIONS = "transactions in a session"  # MAILMAX
    RECIPIENTS = "recipients in a transaction"  # RCPTMAX
    DOMAINS = "domains of recipients in a session"  # RCPTDOMAINMAX


@final
class Tally:
    """Counts MAIL and RCPT. A session lasts as long as its connection: neither another hello nor TLS starts it anew.

    Who sends counts what it sends, since the other side may count what it refused, too; who receives counts what it
    accepted, and so never takes less than it announced. RFC 9422 section 4.
    """

    __slots__ = ("_domains", "_recipients", "_transactions")

    def __init__(self) -> None:
        self._transactions: int = 0
        self._recipients: int = 0
        self._domains: set[str] = set()

    def copy(self) -> Tally:
        """The same, to go its own way."""
        other = Tally()
        other._transactions, other._recipients = self._transactions, self._recipients
        other._domains = set(self._domains)
        return other

    def excess(self, command: Command, limits: ServerLimits) -> Excess | None:
        """What `command` would be too much of; None when it is within `limits`."""
        match command:
            case Mail() if limits.transactions is not None and self._transactions >= limits.transactions:
                return Excess.TRANSACTIONS
            case Rcpt() if self._is_one_domain_more(command, limits):
                return Excess.DOMAINS
            case Rcpt() if limits.recipients is not None and self._recipients >= limits.recipients:
                return Excess.RECIPIENTS
            case _:
                return None

    def count(self, command: Command, limits: ServerLimits) -> None:
        """Takes note of `command`; of domains only where they are limited, since they need space."""
        match command:
            case Mail():
                self._transactions += 1
                self._recipients = 0
            case Rcpt():
                self._recipients += 1
                if limits.recipient_domains is not None and (domain := _domain(command)):
                    self._domains.add(domain)
            case _:
                pass

    def spend(self, command: Command, limits: ServerLimits) -> None:
        """`count`, for who sends it. Raises LocalProtocolError where `excess` finds some."""
        excess = self.excess(command, limits)
        if excess is not None:
            raise LocalProtocolError(f"the server takes no more {excess.value}: LIMITS {' '.join(limits.format())}")
        self.count(command, limits)

    def _is_one_domain_more(self, rcpt: Rcpt, limits: ServerLimits) -> bool:
        if limits.recipient_domains is None or len(self._domains) < limits.recipient_domains:
            return False
        domain = _domain(rcpt)
        return bool(domain) and domain not in self._domains


def _domain(rcpt: Rcpt) -> str:
    """What domains are compared by; "" for <Postmaster>, which has none and has to be taken anywhere."""
    return domain_key(rcpt.recipient.mailbox.domain)


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """Who is sent to together: each of `batches` is a transaction, and `left_out` are those for whom there is none.

    Both name recipients by their place in the list that was planned for.
    """

    batches: tuple[tuple[int, ...], ...]
    left_out: dict[int, Excess]


def plan(addresses: Sequence[str], limits: ServerLimits, tally: Tally) -> Plan:
    """How to send to `addresses` within `limits`, after what `tally` has counted; in their order, as few as it takes.

    Raises LocalProtocolError for an address that cannot be one; without limits it looks at none.
    """
    if limits == _NO_LIMITS:
        return Plan((tuple(range(len(addresses))),) if addresses else (), {})
    tally = tally.copy()
    batches: list[list[int]] = []
    left_out: dict[int, Excess] = {}
    for index, address in enumerate(addresses):
        rcpt = Rcpt.of(address)
        excess = tally.excess(rcpt, limits)
        if excess is not Excess.DOMAINS and (not batches or excess is Excess.RECIPIENTS):
            excess = tally.excess(_MAIL, limits)
            if excess is None:
                tally.count(_MAIL, limits)
                batches.append([])
        if excess is None:
            tally.count(rcpt, limits)
            batches[-1].append(index)
        else:
            left_out[index] = excess
    return Plan(tuple(map(tuple, batches)), left_out)
