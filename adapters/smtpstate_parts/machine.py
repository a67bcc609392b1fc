"""Machine: what a driver is written against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from smtpstate.tls import SecureConnection

if TYPE_CHECKING:
    from ssl import SSLError

    from smtpstate import ConnectionClosed, Flow

_Event_co = TypeVar("_Event_co", covariant=True)


class Machine(Protocol[_Event_co]):
    """What a driver is written against: either connection, bare or inside `smtpstate.tls.secure`."""

    @property
    def deadline(self) -> float | None: ...
    @property
    def half_close(self) -> bool: ...
    @property
    def reads_first(self) -> bool: ...
    @property
    def closed(self) -> ConnectionClosed | None: ...
    def receive_data(self, data: bytes, /) -> None: ...
    def receive_eof(self) -> None: ...
    def connection_lost(self) -> None: ...
    def handle_timeout(self) -> None: ...
    def next_event(self) -> _Event_co | Flow: ...
    def data_to_send(self) -> bytes: ...


def tls_failure(machine: Machine[object]) -> SSLError | None:
    """What ended the handshake, or the session after it, as far as that was TLS."""
    return machine.failure if isinstance(machine, SecureConnection) else None
