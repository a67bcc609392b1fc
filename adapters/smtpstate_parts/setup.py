"""Setup: what the sessions of one server have in common, and who may begin one."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final, final

from smtpstate import CloseReason, Limits, ServerConfig, ServerConnection
from smtpstate import tls as tls_layer
from smtpstate._config import OFFERS
from smtpstate.policy import MX
from smtpstate.proxy import ProxyHeader, ProxyReader, trusted
from smtpstate_parts.gate import Gate, StressChanged
from smtpstate_parts.seat import logger

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ssl import SSLContext

    from smtpstate import Clock, Peer, ServerEvent, Trace
    from smtpstate.extensions import Extension
    from smtpstate.policy import Policy
    from smtpstate.proxy import ProxyEvent
    from smtpstate_parts.auth import Credentialed
    from smtpstate_parts.gate import Admission, Limit, Notice, Ticket
    from smtpstate_parts.listen import BoundListener, ListenerProxy
    from smtpstate_parts.machine import Machine


@final
class Setup:
    """What `serve` was given. Raises LocalProtocolError for an offer that cannot be made."""

    def __init__(
        self,
        hostname: str,
        *,
        clock: Clock,
        tls: SSLContext | None = None,
        authenticator: Credentialed | None = None,
        limits: Limits | None = None,
        policy: Policy = MX,
        offers: Iterable[str] = (),
        extensions: tuple[Extension, ...] = (),
        gate: Gate | Admission | None = None,
    ) -> None:
        self.clock: Final = clock
        self.tls: Final = tls
        self.limits: Final = limits or Limits()
        self.gate: Final = gate if isinstance(gate, Gate) else Gate(gate)
        self._certificate: Final = None if authenticator is None else authenticator.certificate
        self._config: Final = ServerConfig(
            hostname,
            self.limits,
            offers=OFFERS.union(offers),
            mechanisms=() if authenticator is None else authenticator.mechanisms,
            extensions=extensions,
            policy=policy,
        )
        self._configs: Final[dict[tuple[BoundListener, frozenset[str]], ServerConfig]] = {}

    def config(self, listener: BoundListener, vouched: frozenset[str] = frozenset()) -> ServerConfig:
        """What is said there, to whom may say that much for others; made once for each."""
        config = self._configs.get((listener, vouched))
        if config is None:
            submission = listener.asked.service == "submission"
            config = self._configs[listener, vouched] = replace(
                self._config,
                offers=self._config.offers | vouched,
                starttls=listener.tls == "starttls",
                lmtp=listener.asked.service == "lmtp",
                requires_tls=submission,
                requires_auth=submission,
            )
        return config

    def connection(self, listener: BoundListener, peer: Peer | None, trace: Trace | None) -> ServerConnection:
        """The state machine of a session with `peer`."""
        vouched = listener.asked.vouched(peer)  # nothing behind a proxy, where `peer` is not who connected
        return ServerConnection(
            self.config(listener, vouched),
            clock=self.clock,
            peer=peer,
            implicit_tls=listener.tls == "implicit",
            trusted=bool(vouched),
            trace=trace,
        )

    def machine(
        self, connection: ServerConnection, listener: BoundListener, early: bytes = b""
    ) -> Machine[ServerEvent]:
        """What a driver moves octets for: `connection`, in TLS where there is any. `early` was read already."""
        machine: Machine[ServerEvent] = connection
        if self.tls is not None and listener.tls != "plain":
            machine = tls_layer.secure(connection, self.tls, certificate=self._certificate)
        machine.receive_data(early)
        return machine

    def claim(self, ticket: Ticket, listener: BoundListener, peer: Peer | None) -> Limit | None:
        """Takes of the share of `peer`; what is too many by it, if anything is.

        Whom XCLIENT will name has a share, not the front end that connects for all of them.
        """
        connects_for_others = "XCLIENT" in listener.asked.vouched(peer)
        return None if peer is None or connects_for_others else ticket.claim(peer.address)

    def hears(self, listener: BoundListener, sender: Peer | None) -> bool:
        """Whether somebody for whom there is no room may be told: not one who is cut off without a word in any case."""
        proxy = listener.asked.proxy
        return proxy is None or is_trusted(sender, proxy)

    def refusal(self, listener: BoundListener, full: Limit | None) -> ServerConnection | None:
        """What says 421 in place of a greeting, after which `gate.end_refusal()` is due; None: nothing may be said.

        Nothing at all is said to whom nothing may be said (`full` None), inside TLS, which would need a handshake
        first, and while too many are being told already.
        """
        if full is None or listener.tls == "implicit" or not self.gate.begin_refusal():
            return None
        connection = ServerConnection(self.config(listener), clock=self.clock)
        connection.close(full.value)
        return connection

    def proxy_reader(self, proxy: ListenerProxy) -> ProxyReader:
        """What reads the header that a connection begins with."""
        return ProxyReader(proxy.version, clock=self.clock, seconds=proxy.seconds)


def is_trusted(sender: Peer | None, proxy: ListenerProxy) -> bool:
    """Whether whoever connected may say who the client is."""
    return sender is not None and trusted(sender.address, proxy.trusted)


def may_be_proxy(listener: BoundListener, sender: Peer | None, proxy: ListenerProxy) -> bool:
    """Whether to read a header of `sender`; where not, the log says so."""
    if is_trusted(sender, proxy):
        return True
    logger.info("%s: %s was cut off, for it is no trusted proxy", listener.address, sender)
    return False


def proxy_header(
    listener: BoundListener, sender: Peer | None, reader: ProxyReader, event: ProxyEvent
) -> ProxyHeader | None:
    """The header that was read; None when the connection is to be closed, and the log says why."""
    if isinstance(event, ProxyHeader):
        return event
    # A balancer that only looks whether somebody listens says nothing and goes; many do so every few seconds.
    level = logging.DEBUG if event.reason in (CloseReason.EOF, CloseReason.LOST) else logging.INFO
    why = event.reason.value if reader.fault is None else reader.fault.value
    logger.log(level, "%s: no PROXY header from %s: %s", listener.address, sender, why)
    return None


def log_notice(notice: Notice) -> None:
    """Writes what the gate has to say into the log."""
    quiet = isinstance(notice, StressChanged) and not notice.stress
    logger.log(logging.INFO if quiet else logging.WARNING, "%s", notice)
