"""The sockets that a server listens on."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING, Final

from smtpstate_parts.listen import bound_listener, peer_at

if TYPE_CHECKING:
    from collections.abc import Iterable

    from smtpstate import Peer
    from smtpstate_parts.listen import BoundListener, Listener

BACKLOG: Final = 1024
_NO_SUCH_FAMILY: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


async def open_listeners(listen: Iterable[Listener], *, has_tls: bool) -> list[tuple[BoundListener, socket.socket]]:
    """Binds them all or none. Raises OSError."""
    opened: list[tuple[BoundListener, socket.socket]] = []
    try:
        for listener in listen:
            for one in await _open(listener):
                host, port = one.getsockname()[:2]
                opened.append((bound_listener(listener, host, port, has_tls=has_tls), one))
    except BaseException:
        for _, sock in opened:
            sock.close()
        raise
    return opened


async def _open(listener: Listener) -> list[socket.socket]:
    """A socket for each address: a name such as localhost has several, and every address is one for each family."""
    found = await asyncio.get_running_loop().getaddrinfo(
        listener.host or None, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    opened: list[socket.socket] = []
    refused: OSError | None = None
    for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
        try:
            opened.append(_bind(family, address))
        except OSError as error:
            if listener.host or error.errno not in _NO_SUCH_FAMILY:
                for one in opened:
                    one.close()
                raise
            refused = error
    if not opened and refused is not None:
        raise refused
    return opened


def _bind(family: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.settimeout(0)
    except BaseException:
        sock.close()
        raise
    return sock


def peer_of(transport: asyncio.BaseTransport) -> Peer | None:
    """Who is at the other end; None when it is gone already, or has no address."""
    address = internet_address(transport, "peername")
    return None if address is None else peer_at(*address)


def internet_address(transport: asyncio.BaseTransport, name: str) -> tuple[str, int] | None:
    """Host and port of what a transport calls an address; that of IPv6 has more than two items, others have none."""
    address: tuple[str, int] | str | None = transport.get_extra_info(name)
    return address[:2] if isinstance(address, tuple) else None
