"""The command line of `smtpstate`: options, and errors in one voice."""

from __future__ import annotations

import re
import socket
import sys
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from smtpstate import Limits, SMTPStateError, TlsMode
from smtpstate.extensions import Envid, Notify, Ret, domain_key
from smtpstate.policy import MX, STRICT
from smtpstate_anyio import Admission, ListenerProxy
from smtpstate_server._endpoint import Endpoint
from smtpstate_server._exits import Exit, Failure
from smtpstate_server._log import tell
from smtpstate_server._passwd import PasswdOptions, passwd
from smtpstate_server._send import Dsn, Login, SendOptions, send
from smtpstate_server._serve import ServeOptions, serve
from smtpstate_server._settings import Settings
from smtpstate_server._users import SCHEMES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Network, IPv6Network

_DEFAULT_LISTEN: Final = Endpoint("127.0.0.1", 2525)
_MIB: Final = 1024 * 1024
_RETURNS: Final = {"full": Ret.FULL, "headers": Ret.HDRS}
_POLICIES: Final = {"mx": MX, "strict": STRICT}

# Domain = sub-domain *("." sub-domain) ; RFC 5321 section 4.1.2
_HOST_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")
_HOST_AND_PORT: Final = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:]+)):([0-9]{1,5})")


def _endpoint(text: str) -> Endpoint:
    """HOST:PORT; an IPv6 address stands in brackets."""
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None or int(match[3]) > 65_535:
        raise click.BadParameter(f"{text!r} is not HOST:PORT")
    return Endpoint(match[1] or match[2], int(match[3]))


def _host(text: str) -> str:
    """A host name, or an IP address, which becomes an address literal (RFC 5321 section 4.1.3)."""
    try:
        address = ip_address(text.removeprefix("[").removesuffix("]").removeprefix("IPv6:"))
    except ValueError:
        name = _a_labels(text)
    else:
        name = f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"
    if name is None:
        raise click.BadParameter(f"{text!r} is not a host name")
    return name


def _network(text: str) -> IPv4Network | IPv6Network:
    """ADDRESS or ADDRESS/BITS."""
    try:
        return ip_network(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _notify(text: str) -> Notify:
    """RFC 3461 section 4.1."""
    try:
        return Notify.parse(text)
    except SMTPStateError:
        raise click.BadParameter(f"{text!r} is neither never nor a list of success, failure and delay") from None


def _envid(text: str) -> Envid:
    """RFC 3461 section 4.4."""
    try:
        return Envid.parse(Envid(text).format())
    except (SMTPStateError, UnicodeError):
        raise click.BadParameter("1 to 100 printable ASCII characters are needed") from None


def _a_labels(name: str) -> str | None:
    name = name.removesuffix(".")
    if not name.isascii():
        name = domain_key(name)
    return name if len(name) <= 255 and _HOST_NAME.fullmatch(name) else None


def _own_name() -> str:
    """What this host calls itself; no look-up, since a resolver that does not answer would keep us from starting."""
    return _a_labels(socket.gethostname()) or "localhost"


def _version() -> str:
    try:
        return version("smtpstate")
    except PackageNotFoundError:  # a checkout that is not installed
        return "(not installed)"


_FILE: Final = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(_version(), prog_name="smtpstate")
def _command() -> None:
    """Receive mail, or send one message, over SMTP or LMTP."""


@_command.command("serve")
@click.option(
    "--listen", multiple=True, type=_endpoint, metavar="HOST:PORT", help="Plain or STARTTLS. [default: 127.0.0.1:2525]"
)
@click.option("--listen-tls", multiple=True, type=_endpoint, metavar="HOST:PORT", help="TLS from the first octet on.")
@click.option(
    "--submission",
    multiple=True,
    type=_endpoint,
    metavar="HOST:PORT",
    help="STARTTLS and AUTH are required there; needs --users.",
)
@click.option("--lmtp", multiple=True, type=_endpoint, metavar="HOST:PORT", help="LMTP, with STARTTLS.")
@click.option("--users", type=_FILE, metavar="FILE", help="Offer AUTH inside TLS; see `smtpstate passwd`.")
@click.option("--hostname", type=_host, metavar="NAME", help="What to call ourselves. [default: this host's name]")
@click.option(
    "--domain",
    "domains",
    multiple=True,
    type=_host,
    metavar="NAME",
    help="Take mail for this domain only; may be repeated.",
)
@click.option("--accept-any", is_flag=True, help="Take mail for anybody, even from other hosts.")
@click.option(
    "--deliver",
    default="maildir:./mail",
    show_default=True,
    metavar="maildir:DIR|discard|MODULE:FUNCTION",
    help="Where mail goes; FUNCTION is a coroutine function that is given each message.",
)
@click.option("--tls-cert", type=_FILE, metavar="FILE", help="PEM. [default: a self-signed certificate, which is kept]")
@click.option("--tls-key", type=_FILE, metavar="FILE", help="PEM, without a passphrase.")
@click.option(
    "--strict-sni", is_flag=True, help="Let in only who asks in its handshake for a name that the certificate has."
)
@click.option("--no-tls", is_flag=True, help="Do not offer STARTTLS.")
@click.option(
    "--client-ca",
    type=_FILE,
    metavar="FILE",
    help="PEM; whom these authorities have given a certificate gets in with it (EXTERNAL), as the user that it names.",
)
@click.option(
    "--channel-binding",
    is_flag=True,
    help="Offer SCRAM-SHA-256-PLUS under TLS 1.3, too, with tls-server-end-point.",
)
@click.option(
    "--proxy",
    type=click.Choice(["v1", "v2"]),
    help="Every connection begins with a PROXY header of this version, which says who the client is.",
)
@click.option(
    "--proxy-from",
    multiple=True,
    type=_network,
    metavar="NETWORK",
    help="Whom to believe that, ADDRESS or ADDRESS/BITS; may be repeated. Everybody else is cut off.",
)
@click.option(
    "--xclient-from",
    multiple=True,
    type=_network,
    metavar="NETWORK",
    help="Who may say by XCLIENT which client it speaks for; may be repeated.",
)
@click.option(
    "--xforward-from",
    multiple=True,
    type=_network,
    metavar="NETWORK",
    help="Who may say by XFORWARD, for the log, where a message comes from; may be repeated.",
)
@click.option(
    "--message-size-limit", type=click.IntRange(min=1), default=50 * _MIB, show_default=True, metavar="OCTETS"
)
@click.option(
    "-o",
    "overrides",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a limit, by Postfix's name where it has one; may be repeated. See --show-limits.",
)
@click.option("--show-limits", is_flag=True, help="Print every limit that -o sets, as it would be, and end.")
@click.option(
    "--policy",
    type=click.Choice(sorted(_POLICIES)),
    default="mx",
    show_default=True,
    help="Take commands as clients send them, or as RFC 5321 has them.",
)
@click.option("--quiet", is_flag=True, help="Do not show the conversation, even on a terminal.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
)
def _serve(
    *,
    listen: tuple[Endpoint, ...],
    listen_tls: tuple[Endpoint, ...],
    submission: tuple[Endpoint, ...],
    lmtp: tuple[Endpoint, ...],
    users: Path | None,
    hostname: str | None,
    domains: tuple[str, ...],
    accept_any: bool,
    deliver: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    strict_sni: bool,
    no_tls: bool,
    client_ca: Path | None,
    channel_binding: bool,
    proxy: str | None,
    proxy_from: tuple[IPv4Network | IPv6Network, ...],
    xclient_from: tuple[IPv4Network | IPv6Network, ...],
    xforward_from: tuple[IPv4Network | IPv6Network, ...],
    message_size_limit: int,
    overrides: tuple[str, ...],
    show_limits: bool,
    policy: str,
    quiet: bool,
    log_level: str,
) -> int:
    """Receive mail. With no option: on 127.0.0.1:2525, with STARTTLS, into the Maildir ./mail. Never relays."""
    try:
        settings = Settings(Limits(message=message_size_limit), Admission()).plus(overrides)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if show_limits:
        tell(settings.table().rstrip("\n"))
        return Exit.OK
    if (tls_cert is None) is not (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    if no_tls and tls_cert is not None:
        raise click.UsageError("--no-tls does not go with --tls-cert")
    if no_tls and strict_sni:
        raise click.UsageError("--no-tls does not go with --strict-sni")
    if no_tls and listen_tls:
        raise click.UsageError("--no-tls does not go with --listen-tls")
    if no_tls and users is not None:
        raise click.UsageError("--no-tls does not go with --users: AUTH is for TLS")
    if client_ca is not None and users is None:
        raise click.UsageError("--client-ca needs --users")
    if channel_binding and users is None:
        raise click.UsageError("--channel-binding needs --users")
    if submission and users is None:
        raise click.UsageError("--submission needs --users")
    if any(endpoint.port == 25 for endpoint in lmtp):
        raise click.UsageError("--lmtp may not use port 25 (RFC 2033 section 5)")
    if accept_any and domains:
        raise click.UsageError("--accept-any does not go with --domain")
    if (proxy is None) is not (not proxy_from):
        raise click.UsageError("--proxy and --proxy-from go together")
    if proxy is not None and (xclient_from or xforward_from):
        raise click.UsageError("--proxy does not go with --xclient-from or --xforward-from")
    return serve(
        ServeOptions(
            listen=listen if listen or listen_tls or submission or lmtp else (_DEFAULT_LISTEN,),
            listen_tls=listen_tls,
            submission=submission,
            lmtp=lmtp,
            users=users,
            hostname=hostname or _own_name(),
            domains=domains,
            accept_any=accept_any,
            deliver=deliver,
            certificate=None if tls_cert is None or tls_key is None else (tls_cert, tls_key),
            client_ca=client_ca,
            channel_binding=channel_binding,
            strict_sni=strict_sni,
            tls=not no_tls,
            proxy=None if proxy is None else ListenerProxy(1 if proxy == "v1" else 2, proxy_from),
            xclient_from=xclient_from,
            xforward_from=xforward_from,
            settings=settings,
            policy=_POLICIES[policy],
            quiet=quiet,
            log_level=log_level,
        )
    )


@_command.command("send")
@click.option("--server", required=True, type=_endpoint, metavar="HOST:PORT", help="Where to.")
@click.option("--from", "sender", required=True, metavar="ADDRESS", help='The sender; "" is the null reverse-path.')
@click.option("--to", "recipients", required=True, multiple=True, metavar="ADDRESS", help="May be repeated.")
@click.option(
    "--tls",
    type=click.Choice([mode.value for mode in TlsMode]),
    default="required",
    show_default=True,
    help="required and implicit verify the certificate.",
)
@click.option("--ca", type=_FILE, metavar="FILE", help="PEM of a certificate to trust as well.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="For the whole attempt. [default: none, each step has its own]",
)
@click.option(
    "--hostname",
    type=_host,
    metavar="NAME",
    help="What to call ourselves. [default: this host's name, or its address where that is no full name]",
)
@click.option("--user", metavar="NAME", help="Authenticate as this user; needs --password-file.")
@click.option("--password-file", type=_FILE, metavar="FILE", help="Its first line is the password.")
@click.option("--auth", metavar="MECHANISM", help="With this and nothing else. [default: the best that is offered]")
@click.option(
    "--channel-binding",
    is_flag=True,
    help="Log in by SCRAM-SHA-256-PLUS where that is offered; --auth with a -PLUS implies it.",
)
@click.option("--lmtp", is_flag=True, help="Speak LMTP.")
@click.option("--bdat", is_flag=True, help="Send the message by BDAT where the server takes that.")
@click.option("--binary", is_flag=True, help="Send it by BDAT, and as it is; refused where BINARYMIME is not offered.")
@click.option("--dsn", type=_notify, metavar="WHEN", help="Ask for reports: success,failure,delay, or never.")
@click.option("--dsn-return", type=click.Choice(list(_RETURNS)), help="What of the message a report should have.")
@click.option("--dsn-id", type=_envid, metavar="ID", help="What reports should call the message.")
@click.argument("file", default="-", metavar="[FILE|-]")
def _send(
    *,
    server: Endpoint,
    sender: str,
    recipients: tuple[str, ...],
    tls: str,
    ca: Path | None,
    timeout: float | None,
    hostname: str | None,
    user: str | None,
    password_file: Path | None,
    auth: str | None,
    channel_binding: bool,
    lmtp: bool,
    bdat: bool,
    binary: bool,
    dsn: Notify | None,
    dsn_return: str | None,
    dsn_id: Envid | None,
    file: str,
) -> int:
    """Send one message, from FILE or standard input, and say for each recipient what became of it.

    \b
    Exit codes: 0 all accepted, 75 something is to be tried again or unknown, 69 something was refused,
    76 the server broke the protocol, 77 no TLS where TLS is required or no AUTH, 66 the message cannot be read,
    64 usage.
    """
    if (user is None) is not (password_file is None):
        raise click.UsageError("--user and --password-file go together")
    if auth is not None and user is None:
        raise click.UsageError("--auth needs --user")
    if channel_binding and user is None:
        raise click.UsageError("--channel-binding needs --user")
    login = None
    if user is not None and password_file is not None:
        binds = channel_binding or (auth is not None and auth.upper().endswith("-PLUS"))
        login = Login(user, password_file, auth, binds)
    return send(
        SendOptions(
            server=server,
            sender=sender,
            recipients=recipients,
            tls=TlsMode(tls),
            ca=ca,
            timeout=timeout,
            hostname=hostname,
            file=None if file == "-" else Path(file),
            login=login,
            lmtp=lmtp,
            chunked=bdat,
            binary=binary,
            dsn=Dsn(dsn, None if dsn_return is None else _RETURNS[dsn_return], dsn_id),
        )
    )


@_command.command("passwd")
@click.argument("name")
@click.option(
    "--scheme",
    type=click.Choice(SCHEMES, case_sensitive=False),
    default=SCHEMES[0],
    show_default=True,
    help="PLAIN is for tests.",
)
@click.option("--users", type=_FILE, metavar="FILE", help="Write it there. [default: print the line]")
def _passwd(*, name: str, scheme: str, users: Path | None) -> int:
    """Make a line of the file for `smtpstate serve --users`: asks for the password, or reads it from standard input."""
    return passwd(PasswdOptions(name, scheme, users))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, `sys.argv` by default; returns the exit code. Errors are one line on stderr."""
    try:
        result: object = _command.main(arguments, prog_name="smtpstate", standalone_mode=False)
    except Failure as failure:
        return _say(failure.text, failure.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(f"{error.format_message()}\n")
        return Exit.USAGE
    except click.ClickException as error:
        return _say(error.format_message(), Exit.USAGE)
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted", Exit.INTERRUPTED)
    return result if isinstance(result, int) else Exit.OK


def _say(text: str, exit_code: Exit) -> Exit:
    sys.stderr.write(f"smtpstate: {' '.join(text.split())}\n")
    return exit_code
