"""Where a server listens: what the caller asks for, and what the system gave."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final

from smtpstate import Peer
from smtpstate.proxy import MAX_SECONDS, parse_networks, trusted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from smtpstate.proxy import Network, ProxyVersion

ListenerTls: TypeAlias = Literal["starttls", "implicit", "plain"]
ListenerService: TypeAlias = Literal["smtp", "submission", "lmtp"]

_NAMES: dict[ListenerTls, str] = {"starttls": "STARTTLS", "implicit": "TLS", "plain": "plain"}


def split_address(address: str, default_port: int | None = None) -> tuple[str, int]:
    """HOST:PORT, or [IPV6]:PORT, as its two parts. Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if default_port is not None and (not colon or port.endswith("]") or (":" in host and not host.startswith("["))):
        host, port = address, str(default_port)  # no port at all: a name, or an IPv6 address with or without brackets
    elif ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"an IPv6 address needs brackets: {address!r}")
    if not (port.isascii() and port.isdecimal() and int(port) <= 65_535):
        raise ValueError(f"not HOST:PORT: {address!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


@final
@dataclass(frozen=True, slots=True)
class ListenerProxy:
    """Connections come through a load balancer, and each begins with a PROXY header of this version, before any TLS.

    Those that come from outside the networks in `trusted`, and those without a valid header within `seconds`, are
    closed without a word. With no network at all, nobody is trusted.
    """

    version: ProxyVersion
    trusted: tuple[Network, ...]
    seconds: float = MAX_SECONDS

    @staticmethod
    def parse(version: ProxyVersion, trusted: Iterable[str]) -> ListenerProxy:
        """`trusted` holds an ADDRESS or ADDRESS/BITS each. Raises ValueError."""
        return ListenerProxy(version, parse_networks(trusted))


@final
@dataclass(frozen=True, slots=True)
class Listener:
    """An address to listen on. An empty `host` means every address; `port` 0 lets the system choose.

    `tls` is how TLS begins there; None means STARTTLS when the server has a TLS context, plain otherwise.
    `accept_any` replaces the argument of `serve_messages` for what arrives here. With `proxy`, the peer of a session is
    the client that the PROXY header names, or nobody where it names none; without, such a header is no command.
    `service` "submission" takes mail from users only, inside TLS (RFC 6409 section 4.3); "lmtp" speaks LMTP, on any
    port but 25 (RFC 2033 section 5).
    Whoever connects from the networks in `xclient_from` may say by XCLIENT for whom it speaks, until it has said an
    address; from those in `xforward_from`, by XFORWARD, where a message comes from. With `proxy` nobody may: whom a
    header names has not connected to us.
    """

    host: str
    port: int
    tls: ListenerTls | None = None
    accept_any: bool | None = None
    proxy: ListenerProxy | None = None
    service: ListenerService = "smtp"
    xclient_from: tuple[Network, ...] = ()
    xforward_from: tuple[Network, ...] = ()

    @staticmethod
    def parse(
        address: str,
        tls: ListenerTls | None = None,
        *,
        accept_any: bool | None = None,
        proxy: ListenerProxy | None = None,
        service: ListenerService = "smtp",
        xclient_from: Iterable[str] = (),
        xforward_from: Iterable[str] = (),
    ) -> Listener:
        """HOST:PORT, [IPV6]:PORT or :PORT; networks are an ADDRESS or ADDRESS/BITS each. Raises ValueError."""
        host, port = split_address(address)
        networks = parse_networks(xclient_from), parse_networks(xforward_from)
        return Listener(host, port, tls, accept_any, proxy, service, *networks)

    def vouched(self, sender: Peer | None) -> frozenset[str]:
        """Which of XCLIENT and XFORWARD whoever connected from `sender` may say."""
        if sender is None:
            return frozenset()
        lists = {"XCLIENT": self.xclient_from, "XFORWARD": self.xforward_from}
        return frozenset(keyword for keyword, networks in lists.items() if trusted(sender.address, networks))


@final
@dataclass(frozen=True, slots=True)
class BoundListener:
    """An address that the server listens on, with its real port; `asked` is what asked for it."""

    host: str
    port: int
    tls: ListenerTls
    asked: Listener

    @property
    def address(self) -> str:
        """HOST:PORT; an IPv6 address stands in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.address} ({_NAMES[self.tls]})"


# Out of descriptors or memory: accepting again at once would only burn the processor.
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
EXHAUSTED_SECONDS: Final = 0.2

_MAPPED: Final = "::ffff:"  # how an IPv4 peer looks on a socket that takes both families


def asked_listeners(listen: Iterable[str | Listener], *, has_tls: bool, has_users: bool) -> list[Listener]:
    """What is asked for, if there can be such a server. Raises ValueError."""
    asked = [Listener.parse(item) if isinstance(item, str) else item for item in listen]
    if not has_users and any(listener.service == "submission" for listener in asked):
        raise ValueError("a submission listener needs users")
    if not asked:
        raise ValueError("nowhere to listen")
    if not has_tls and any(listener.tls in ("starttls", "implicit") for listener in asked):
        raise ValueError("a listener with TLS needs a TLS context")
    for listener in asked:
        if listener.service == "submission" and not (has_tls and listener.tls != "plain"):
            raise ValueError("a submission listener needs TLS")
        if listener.service == "lmtp" and listener.port == 25:
            raise ValueError("LMTP may not use port 25 (RFC 2033 section 5)")
        if listener.proxy is not None and (listener.xclient_from or listener.xforward_from):
            raise ValueError("behind a proxy nobody can be trusted with XCLIENT or XFORWARD")
    return asked


def bound_listener(asked: Listener, host: str, port: int, *, has_tls: bool) -> BoundListener:
    """`asked`, now that the system has bound it."""
    return BoundListener(host, port, asked.tls or ("starttls" if has_tls else "plain"), asked)


def peer_at(host: str, port: int) -> Peer:
    """Who is at the other end, as the system spells it."""
    return Peer(host.removeprefix(_MAPPED) if "." in host else host, port)
