"""What `connect` needs beside a socket: where to, who we are, the machine, and why it did not work."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from socket import gaierror, gethostname
from ssl import SSLCertVerificationError
from typing import TYPE_CHECKING, Final, final

from smtpstate import ClientConnection, ConnectionBroken, DeliveryError, TlsMode, TlsUnavailable
from smtpstate import tls as tls_layer
from smtpstate._abnf import DOMAIN
from smtpstate.policy import MX
from smtpstate_parts.listen import split_address

if TYPE_CHECKING:
    from ssl import SSLContext, SSLError

    from smtpstate import ClientEvent, Clock, Limits
    from smtpstate.extensions import Extension
    from smtpstate.policy import Policy
    from smtpstate_parts.machine import Machine

QUIT_SECONDS: Final = 2.0  # a farewell is worth no more
_PORTS: Final = {TlsMode.IMPLICIT: 465}  # RFC 8314 section 3.3; 25 for the others


@final
class CannotConnect(DeliveryError):
    """No TCP connection could be made: an unknown name, nobody listening, or no answer in time."""

    @staticmethod
    def because(address: str, error: OSError | UnicodeError) -> CannotConnect:
        """The one that `error` means: a TimeoutError of ours, or what connecting raised."""
        if isinstance(error, UnicodeError):
            why = "not a host name"
        elif isinstance(error, TimeoutError) and error.errno is None:
            why = "no answer in time"
        elif error.errno is None or isinstance(error, gaierror):
            why = error.strerror or str(error)
        else:
            why = os.strerror(error.errno)  # some have the address in their text, again
        return CannotConnect(f"cannot connect to {address}: {why}")


@final
@dataclass(frozen=True, slots=True)
class Destination:
    """Where `connect` goes, and in which TLS. Raises ValueError for what makes no sense."""

    address: str
    mode: TlsMode
    host: str
    port: int

    @staticmethod
    def parse(address: str, tls: TlsMode | str) -> Destination:
        """HOST:PORT; the port is 25 by default, 465 with implicit TLS."""
        mode = TlsMode(tls)
        return Destination(address, mode, *split_address(address, _PORTS.get(mode, 25)))

    @property
    def name(self) -> str:
        """The host without the zone of an IPv6 address, as a certificate has it."""
        return self.host.partition("%")[0]

    def connection(
        self,
        *,
        clock: Clock,
        hostname: str | None,
        own_address: str,
        timeout: float | None,
        limits: Limits | None = None,
        lmtp: bool = False,
        policy: Policy = MX,
        extensions: tuple[Extension, ...] = (),
    ) -> ClientConnection:
        """The state machine of the session; `timeout`, in seconds, is what is left of it."""
        return ClientConnection(
            hostname or own_name(own_address),
            clock=clock,
            limits=limits,
            implicit_tls=self.mode is TlsMode.IMPLICIT,
            timeout=None if timeout is None else max(0.0, timeout),
            lmtp=lmtp,
            policy=policy,
            extensions=extensions,
        )

    def machine(self, connection: ClientConnection, context: SSLContext | None) -> Machine[ClientEvent]:
        """What a driver moves octets for: `connection`, with TLS around it unless that is off."""
        if self.mode is TlsMode.OFF:
            return connection
        context = context or tls_layer.client_context(verify=self.mode is not TlsMode.OPPORTUNISTIC)
        return tls_layer.secure(connection, context, server_hostname=self.name)


def failure(machine: Machine[ClientEvent], error: ConnectionBroken) -> DeliveryError:
    """What `error` is, where TLS is why the session did not begin."""
    if isinstance(machine, tls_layer.SecureConnection) and machine.failure is not None:
        return TlsUnavailable(f"TLS failed: {_reason(machine.failure)}")
    return error


def _reason(failure: SSLError) -> str:
    if isinstance(failure, SSLCertVerificationError):
        return failure.verify_message
    return failure.reason or str(failure)


def own_name(address: str) -> str:
    """What to say in EHLO: the host's name if it looks like one in the DNS, else our address as a literal.

    RFC 5321 section 4.1.4. No look-up is made.
    """
    name = gethostname()
    if "." in name and re.fullmatch(DOMAIN, name) and not name.endswith((".local", ".localdomain")):
        return name
    address, _, _ = address.partition("%")
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"
