"""`smtpstate serve`: listens, takes mail in, says what happens, and drains when told to stop."""

from __future__ import annotations

import signal
import socket
import sys
from dataclasses import dataclass
from functools import partial
from shlex import quote
from typing import TYPE_CHECKING, Final, final

import anyio

from smtpstate import tls
from smtpstate_anyio import Authenticator, Gate, Listener, ListenerService, ListenerTls, serve_messages
from smtpstate_server._certificate import KeyPair, checked_pair, own_certificate, state_directory
from smtpstate_server._deliver import delivery
from smtpstate_server._descriptors import make_room
from smtpstate_server._exits import Exit, Failure
from smtpstate_server._log import logger, set_up, tell
from smtpstate_server._observers import Loggers, Showing
from smtpstate_server._users import PasswdFile, kept_secret, read_users

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from ssl import SSLContext

    from smtpstate.policy import Policy
    from smtpstate.proxy import Network
    from smtpstate_anyio import ListenerProxy
    from smtpstate_server._deliver import OnMessage
    from smtpstate_server._endpoint import Endpoint
    from smtpstate_server._settings import Settings

_GRACE: Final = 20.0  # seconds for messages under way when told to stop; service managers lose patience at 30 and more

# A Maildir holds any octets; but not BINARYMIME: who reads one expects lines.
_OFFERS: Final = ("SMTPUTF8", "LIMITS")


@final
@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What the command line says."""

    listen: tuple[Endpoint, ...]
    listen_tls: tuple[Endpoint, ...]
    submission: tuple[Endpoint, ...]
    lmtp: tuple[Endpoint, ...]
    users: Path | None
    hostname: str
    domains: tuple[str, ...]
    accept_any: bool
    deliver: str
    certificate: tuple[Path, Path] | None
    client_ca: Path | None
    channel_binding: bool
    tls: bool
    proxy: ListenerProxy | None
    xclient_from: tuple[Network, ...]
    xforward_from: tuple[Network, ...]
    settings: Settings
    policy: Policy
    quiet: bool
    log_level: str

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return (*self.listen, *self.listen_tls, *self.submission, *self.lmtp)


def serve(options: ServeOptions) -> int:
    """Serves until SIGTERM or SIGINT; 0 then. Raises Failure when it cannot start."""
    set_up(options.log_level)
    if not options.domains and not options.accept_any:
        if options.proxy is not None or options.xclient_from:  # what is loopback to us may be the whole world to it
            text = "other hosts can reach a proxy: say --domain NAME for whom to take mail, or --accept-any"
            raise Failure(text, Exit.USAGE)
        for endpoint in options.endpoints:
            _need_loopback(endpoint)
    users = _users(options)
    pair = _key_pair(options)
    context = None if pair is None else _context(pair, options.client_ca)
    authenticator = None
    if users is not None:
        shown = pair.shown if pair is not None and options.channel_binding else None
        authenticator = Authenticator(users, secret=users.secret, certificate=shown)
    on_message = delivery(options.deliver, options.hostname)
    make_room(options.settings.admission)
    failure = anyio.run(_serve, options, pair, context, authenticator, on_message)
    if failure is not None:
        raise failure
    return Exit.OK


def _need_loopback(endpoint: Endpoint) -> None:
    try:
        loopback = endpoint.is_loopback
    except (OSError, UnicodeError) as error:
        raise _cannot_listen((endpoint,), error) from None
    if not loopback:
        text = f"other hosts can reach {endpoint}: say --domain NAME for whom to take mail, or --accept-any"
        raise Failure(text, Exit.USAGE)


def _key_pair(options: ServeOptions) -> KeyPair | None:
    if not options.tls:
        return None
    if options.certificate is None:
        return own_certificate(state_directory(), options.hostname)
    return checked_pair(*options.certificate)


def _context(pair: KeyPair, client_ca: Path | None) -> SSLContext:
    what = f"{pair.certificate} and {pair.key}"
    try:
        context = tls.server_context(str(pair.certificate), str(pair.key))
        if client_ca is not None:
            what = f"{client_ca} to verify clients"
            context = tls.server_context(str(pair.certificate), str(pair.key), client_cafile=str(client_ca))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise Failure(f"cannot use {what}: {error}", Exit.CONFIG) from None
    return context


def _users(options: ServeOptions) -> PasswdFile | None:
    return None if options.users is None else read_users(options.users, kept_secret(state_directory()))


def _listeners(options: ServeOptions) -> list[Listener]:
    # What cannot be reached from outside may take mail for anybody, unless the user has said for whom.
    accept_any = options.accept_any or not options.domains
    opens: ListenerTls = "starttls" if options.tls else "plain"
    rows: list[tuple[tuple[Endpoint, ...], ListenerTls, ListenerService]] = [
        (options.listen, opens, "smtp"),
        (options.listen_tls, "implicit", "smtp"),
        (options.submission, opens, "submission"),
        (options.lmtp, opens, "lmtp"),
    ]
    return [
        Listener(
            to.host,
            to.port,
            begins,
            accept_any,
            options.proxy,
            service,
            xclient_from=options.xclient_from,
            xforward_from=options.xforward_from,
        )
        for endpoints, begins, service in rows
        for to in endpoints
    ]


async def _serve(
    options: ServeOptions,
    pair: KeyPair | None,
    context: SSLContext | None,
    authenticator: Authenticator | None,
    on_message: OnMessage,
) -> Failure | None:
    stop, gate = anyio.Event(), Gate(options.settings.admission)
    shows = sys.stderr.isatty() and not options.quiet
    server = partial(
        serve_messages,
        on_message,
        *_listeners(options),
        hostname=options.hostname,
        domains=options.domains,
        tls=context,
        users=authenticator,
        limits=options.settings.limits,
        policy=options.policy,
        wire=options.settings.wire,
        observer=Showing(sys.stderr) if shows else Loggers(),
        offers=_OFFERS,
        gate=gate,
        stop=stop,
        grace=_GRACE,
    )
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as watching:
            watching.start_soon(_watch, signals, stop)
            async with anyio.create_task_group() as serving:
                try:
                    bound = await serving.start(server)
                except (OSError, UnicodeError) as error:
                    watching.cancel_scope.cancel()
                    return _cannot_listen(options.endpoints, error)
                if pair is not None:  # said once all is well, so that whatever goes wrong before is one line
                    _say_where(pair, is_own=options.certificate is None)
                for listener in bound:
                    tell(f"listening on {listener}")  # what whoever started us waits for
            watching.cancel_scope.cancel()
    logger.info("limits: %s", gate.snapshot())
    logger.info("stopped")
    return None


def _say_where(pair: KeyPair, *, is_own: bool) -> None:
    if is_own:
        where = quote(str(pair.certificate))
        logger.info("the certificate is self-signed; to verify it: smtpstate send --ca %s", where)
    else:
        logger.info("the certificate is %s", pair.certificate)


async def _watch(signals: AsyncIterator[signal.Signals], stop: anyio.Event) -> None:
    """The first signal starts the drain. More of them change nothing: some send one to us and one to our group."""
    async for number in signals:
        if not stop.is_set():
            logger.info("%s: no new sessions; %g s at most for messages under way", number.name, _GRACE)
            stop.set()


def _cannot_listen(endpoints: tuple[Endpoint, ...], error: OSError | UnicodeError) -> Failure:
    culprits = [str(endpoint) for endpoint in endpoints if not _can_bind(endpoint)]
    where = ", ".join(culprits or map(str, endpoints))
    why = "not a host name" if isinstance(error, UnicodeError) else error.strerror or str(error)
    return Failure(f"cannot listen on {where}: {why}", Exit.OSERR)


def _can_bind(endpoint: Endpoint) -> bool:
    """Whether this is not the address to blame; asked only when one of them is."""
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            endpoint.host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, protocol) as probe:
                if sys.platform != "win32":
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except (OSError, UnicodeError):
        return False
    return True
