"""The sockets: those that a server listens on, and the one that a client connects with."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final, final

from smtpstate_parts.connecting import CannotConnect
from smtpstate_parts.listen import bound_listener, peer_at

if TYPE_CHECKING:
    from collections.abc import Iterable

    from smtpstate import Peer
    from smtpstate_parts.connecting import Destination
    from smtpstate_parts.listen import BoundListener, Listener

_BACKLOG: Final = 1024
_NO_SUCH_FAMILY: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


@final
@dataclass(frozen=True, slots=True)
class Opened:
    """A bound address and the socket behind it."""

    bound: BoundListener
    socket: socket.socket


def open_listeners(listen: Iterable[Listener], *, has_tls: bool) -> list[Opened]:
    """Binds them all or none. Raises OSError."""
    opened: list[Opened] = []
    try:
        for listener in listen:
            for one in _open(listener):
                host, port = one.getsockname()[:2]
                opened.append(Opened(bound_listener(listener, host, port, has_tls=has_tls), one))
    except BaseException:
        close_listeners(opened)
        raise
    return opened


def close_listeners(opened: list[Opened]) -> None:
    for item in opened:
        item.socket.close()


def _open(listener: Listener) -> list[socket.socket]:
    """A socket for each address: a name such as localhost has several, and every address is one for each family."""
    found = socket.getaddrinfo(listener.host or None, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
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
        sock.listen(_BACKLOG)
        sock.settimeout(0)
    except BaseException:
        sock.close()
        raise
    return sock


def peer_of(sock: socket.socket) -> Peer | None:
    """Who is at the other end; None when it is gone already."""
    try:
        host, port = sock.getpeername()[:2]
    except OSError:
        return None
    return peer_at(host, port)


def connect_tcp(to: Destination, seconds: float | None) -> socket.socket:
    """A connection to one of the addresses, tried in the order that the system gives them.

    A look-up takes the time that the system gives it; Python has no way to end it. Raises CannotConnect.
    """
    end = None if seconds is None else monotonic() + seconds
    try:
        refused: OSError = TimeoutError()
        for family, _, _, _, address in socket.getaddrinfo(to.host, to.port, type=socket.SOCK_STREAM):
            left = None if end is None else end - monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            try:
                return _connect(family, address, left)
            except OSError as error:
                refused = error
        raise refused
    except (OSError, UnicodeError) as error:
        raise CannotConnect.because(to.address, error) from error


def _connect(family: int, address: tuple[object, ...], seconds: float | None) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(seconds)
        sock.connect(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock
