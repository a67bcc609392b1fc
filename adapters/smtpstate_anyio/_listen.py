"""The sockets that a server listens on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from anyio import create_tcp_listener
from anyio.abc import SocketAttribute, SocketListener

from smtpstate_parts.listen import bound_listener

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anyio.abc import SocketStream
    from anyio.streams.stapled import MultiListener

    from smtpstate_parts.listen import BoundListener, Listener


def internet_address(address: str | tuple[str, int]) -> tuple[str, int]:
    """Host and port of what anyio calls an address; that of IPv6 has more than two items."""
    return (address, 0) if isinstance(address, str) else (address[0], address[1])


@final
@dataclass(frozen=True, slots=True)
class Opened:
    """A bound address and the socket behind it."""

    bound: BoundListener
    socket: SocketListener


async def open_listeners(listen: Iterable[Listener], *, has_tls: bool) -> list[Opened]:
    """Binds them all or none. Raises OSError."""
    opened: list[Opened] = []
    try:
        for listener in listen:
            many: MultiListener[SocketStream]
            many = await create_tcp_listener(local_host=listener.host or None, local_port=listener.port)
            for one in many.listeners:  # a name such as localhost has several addresses
                assert isinstance(one, SocketListener)
                host, port = internet_address(one.extra(SocketAttribute.local_address))
                opened.append(Opened(bound_listener(listener, host, port, has_tls=has_tls), one))
    except BaseException:
        await close_listeners(opened)
        raise
    return opened


async def close_listeners(opened: list[Opened]) -> None:
    for item in opened:
        await item.socket.aclose()
