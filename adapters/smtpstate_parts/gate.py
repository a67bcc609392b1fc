"""Gate: who may come in, how many bodies may be under way, and when there is stress. No I/O, no clock, no logger.

A refusal costs no queue and no wait: the connection is told 421 instead of being greeted, a body instead of its 354.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final, TypeAlias, final

from smtpstate import Reply
from smtpstate.proxy import parse_networks, trusted

if TYPE_CHECKING:
    from collections.abc import Callable

    from smtpstate.proxy import Network

# What speaks from our own host may be a tunnel or a proxy that speaks for the whole world, and is no stranger.
LOOPBACK: Final = parse_networks(["127.0.0.0/8", "::1/128"])


@final
@unique
class Limit(Enum):
    """What there can be too many of, and what whoever is one too many hears."""

    CONNECTIONS = Reply(421, "Too many connections, try again later", enhanced="4.3.2")
    SOURCE = Reply(421, "Too many connections from your network, try again later", enhanced="4.7.0")
    BODIES = Reply(421, "Too many messages at once, try again later", enhanced="4.3.2")


@final
@dataclass(frozen=True, slots=True)
class Admission:
    """How many may come in at once. None: any number. Raises ValueError for what makes no sense.

    Connections count from their first octet, a PROXY header included, to their end. A source is a network of
    `ipv4_prefix` or `ipv6_prefix` bits; the networks in `exempt` are none, nor is whoever has no address. Under stress
    `per_source` shrinks to an equal share of `connections`. `stress` says that there always is stress, or never.
    """

    connections: int = 1000  # Postfix: default_process_limit, 100: a process costs more than a task
    per_source: int | None = 50  # Postfix: smtpd_client_connection_count_limit
    ipv4_prefix: int = 32  # Postfix: smtpd_client_ipv4_prefix_length
    ipv6_prefix: int = 64  # what one customer has (RFC 6177); Postfix: smtpd_client_ipv6_prefix_length, 84
    exempt: tuple[Network, ...] = LOOPBACK  # Postfix: smtpd_client_event_limit_exceptions, $mynetworks
    bodies: int | None = None  # from DATA, or the first BDAT, to the answer
    refusals: int = 100  # connections that are being told 421 at once; beyond, they are closed without a word
    stress: bool | None = None  # None: on at 90 % of `connections` or `bodies`, off at 70 %

    def __post_init__(self) -> None:
        for name in ("connections", "per_source", "bodies"):
            value: int | None = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is at least 1, not {value}")
        for name, most in (("ipv4_prefix", 32), ("ipv6_prefix", 128)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is 0 to {most}, not {getattr(self, name)}")
        if self.refusals < 0:
            raise ValueError(f"refusals is at least 0, not {self.refusals}")


@final
@dataclass(frozen=True, slots=True)
class Gauge:
    """A limit (None: there is none), how many there are, the most that there ever were, and how many were refused."""

    limit: int | None
    current: int
    peak: int
    refused: int

    def __str__(self) -> str:
        limit = "" if self.limit is None else f" limit={self.limit}"
        return f"current={self.current} peak={self.peak}{limit} refused={self.refused}"


@final
@dataclass(frozen=True, slots=True)
class Gauges:
    """All of a gate's at one moment. `per_source` is about the source that has most; `total` were let in ever."""

    connections: Gauge
    per_source: Gauge
    bodies: Gauge
    refusals: Gauge  # `refused` were closed without a word
    sources: int
    total: int
    stress: bool

    def __str__(self) -> str:
        named = {
            "connections": self.connections,
            "per_source": self.per_source,
            "bodies": self.bodies,
            "refusals": self.refusals,
        }
        return "; ".join((f"sessions={self.total}", *(f"{name} {gauge}" for name, gauge in named.items())))


@final
@dataclass(frozen=True, slots=True)
class StressChanged:
    """There is stress now, or there is none any more; and how many connections of how many, and messages, there are."""

    stress: bool
    connections: int
    limit: int
    bodies: int

    def __str__(self) -> str:
        figures = f"{self.connections} of {self.limit} connections, {self.bodies} messages under way"
        return f"stress begins: {figures}" if self.stress else f"stress ends: {figures}"


@final
@dataclass(frozen=True, slots=True)
class Refused:
    """Somebody was refused. Told for the first of a row, the tenth, the hundredth and so on; `row` counts them.

    A row ends once three in ten are free again.
    """

    limit: Limit
    source: str | None
    allowed: int
    row: int

    def __str__(self) -> str:
        what = {
            Limit.CONNECTIONS: "connections",
            Limit.SOURCE: f"connections from {self.source}",
            Limit.BODIES: "messages at once",
        }
        return f"too many {what[self.limit]}: the limit is {self.allowed}, {self.row} refused since it was reached"


Notice: TypeAlias = StressChanged | Refused


@final
class _Meter:
    """Counts up to a limit."""

    __slots__ = ("current", "limit", "peak", "refused", "row")

    def __init__(self, limit: int | None) -> None:
        self.limit: Final = limit
        self.current: int = 0
        self.peak: int = 0
        self.refused: int = 0
        self.row: int = 0

    @property
    def full(self) -> bool:
        return self.limit is not None and self.current >= self.limit

    @property
    def is_high(self) -> bool:
        """At 90 % or more."""
        return self.limit is not None and 10 * self.current >= 9 * self.limit

    @property
    def is_low(self) -> bool:
        """At 70 % or less."""
        return self.limit is None or 10 * self.current <= 7 * self.limit

    def add(self) -> None:
        self.current += 1
        self.peak = max(self.peak, self.current)

    def take(self) -> None:
        self.current -= 1
        if self.is_low:
            self.row = 0

    def refuse(self) -> bool:
        """One was refused. True when somebody should hear of it."""
        self.refused += 1
        self.row += 1
        return set(str(self.row)[1:]) <= {"0"} and str(self.row)[0] == "1"

    def read(self) -> Gauge:
        return Gauge(self.limit, self.current, self.peak, self.refused)


_Source: TypeAlias = tuple[int, int] | str  # version and network, or what is no IP address


@final
class Gate:
    """Counts what one server has under way. `snapshot()` tells, and `watch()` tells of changes."""

    def __init__(self, admission: Admission | None = None) -> None:
        self.admission: Final = admission or Admission()
        self.stress: bool = self.admission.stress or False
        self._connections: Final = _Meter(self.admission.connections)
        self._bodies: Final = _Meter(self.admission.bodies)
        self._refusals: Final = _Meter(self.admission.refusals)
        self._shares: Final = _Meter(self.admission.per_source)  # of all sources; its `current` is not used
        self._sources: Final[dict[_Source, _Meter]] = {}
        self._total: int = 0
        self._watchers: Final[list[Callable[[Notice], None]]] = []

    def watch(self, watcher: Callable[[Notice], None]) -> None:
        """Calls `watcher` for every `Notice`, at once; it may not raise."""
        self._watchers.append(watcher)

    def unwatch(self, watcher: Callable[[Notice], None]) -> None:
        self._watchers.remove(watcher)

    def snapshot(self) -> Gauges:
        """All figures now."""
        most = max((source.current for source in self._sources.values()), default=0)
        shares = Gauge(self._shares.limit, most, self._shares.peak, self._shares.refused)
        read = self._connections.read(), shares, self._bodies.read(), self._refusals.read()
        return Gauges(*read, len(self._sources), self._total, self.stress)

    def enter(self) -> Ticket | None:
        """A connection was accepted: its ticket, which has to `leave()`; None when there is no room."""
        if self._connections.full:
            self._refuse(self._connections, Limit.CONNECTIONS, None)
            return None
        self._connections.add()
        self._total += 1
        self._look()
        return Ticket(self)

    def begin_refusal(self) -> bool:
        """Somebody is about to be told 421, and `end_refusal()` has to follow; False when too many are already."""
        if self._refusals.full:
            self._refusals.refused += 1
            return False
        self._refusals.add()
        return True

    def end_refusal(self) -> None:
        self._refusals.take()

    # For tickets.

    def leave(self, source: _Source | None) -> None:
        """A connection is gone."""
        self.give_up(source)
        self._connections.take()
        self._look()

    def source(self, address: str | None) -> _Source | None:
        """Whose share a client at `address` counts to; None when to nobody's."""
        admission = self.admission
        if address is None or trusted(address, admission.exempt):
            return None
        try:
            parsed = ip_address(address)
        except ValueError:
            return address
        if isinstance(parsed, IPv6Address):
            parsed = parsed.ipv4_mapped or parsed
        prefix = admission.ipv4_prefix if parsed.version == 4 else admission.ipv6_prefix
        return parsed.version, int(parsed) >> (parsed.max_prefixlen - prefix)

    def claim(self, source: _Source | None, address: str | None) -> bool:
        """One more for `source`, if its share allows; under stress that is no more than all would get."""
        if source is None:
            return True
        meter = self._sources.get(source) or _Meter(self.admission.per_source)
        share = self.admission.per_source
        if share is not None and self.stress:
            others = len(self._sources.keys() - {source})
            share = min(share, self.admission.connections // (others + 1))  # each has one, so this is 1 at least
        if share is not None and meter.current >= share:
            self._shares.refused += 1
            self._refuse(meter, Limit.SOURCE, address, share)
            return False
        meter.add()
        self._sources[source] = meter
        self._shares.peak = max(self._shares.peak, meter.current)
        return True

    def give_up(self, source: _Source | None) -> None:
        """One less for `source`."""
        if source is not None:
            meter = self._sources[source]
            meter.take()
            if not meter.current:
                del self._sources[source]

    def begin_body(self) -> bool:
        if self._bodies.full:
            self._refuse(self._bodies, Limit.BODIES, None)
            return False
        self._bodies.add()
        self._look()
        return True

    def end_body(self) -> None:
        self._bodies.take()
        self._look()

    def _refuse(self, meter: _Meter, limit: Limit, source: str | None, allowed: int | None = None) -> None:
        if meter.refuse():
            self._tell(Refused(limit, source, allowed or meter.limit or 0, meter.row))

    def _look(self) -> None:
        """Stress is on at 90 % of either limit and off at 70 % of both; in between it stays what it was."""
        meters = (self._connections, self._bodies)
        if self.admission.stress is not None:
            return
        stress = any(one.is_high for one in meters) or (self.stress and not all(one.is_low for one in meters))
        if stress is not self.stress:
            self.stress = stress
            limit = self.admission.connections
            self._tell(StressChanged(stress, self._connections.current, limit, self._bodies.current))

    def _tell(self, notice: Notice) -> None:
        for watcher in self._watchers:
            watcher(notice)


@final
class Ticket:
    """What one connection has of what there is. Whatever happens, `leave()` gives all of it back."""

    __slots__ = ("_gate", "_has_body", "_left", "_source")

    def __init__(self, gate: Gate) -> None:
        self._gate: Final = gate
        self._source: _Source | None = None
        self._has_body: bool = False
        self._left: bool = False

    def claim(self, address: str | None) -> Limit | None:
        """The client is at `address`, whatever it was before. What is too many by it, if anything is."""
        source = self._gate.source(address)
        if self._left or source == self._source:
            return None
        self._gate.give_up(self._source)
        self._source = None
        if not self._gate.claim(source, address):
            return Limit.SOURCE
        self._source = source
        return None

    def begin_body(self) -> Limit | None:
        """A message begins, or goes on. What is too many by it, if anything is."""
        if self._left or self._has_body:
            return None
        self._has_body = self._gate.begin_body()
        return None if self._has_body else Limit.BODIES

    def end_body(self) -> None:
        """No message is under way."""
        if self._has_body:
            self._has_body = False
            self._gate.end_body()

    def leave(self) -> None:
        """The connection is gone. More calls do nothing."""
        if not self._left:
            self._left = True
            self.end_body()
            self._gate.leave(self._source)
            self._source = None
