"""Which SASL mechanism: what a client takes from the server's list, and how a server gets what the client asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from smtpstate._errors import LocalProtocolError
from smtpstate._keys import MIN_ITERATIONS, saslprep
from smtpstate._mechanisms import (
    BearerClient,
    BearerServer,
    CramMd5Client,
    ExternalServer,
    LinesClient,
    LoginServer,
    PlainServer,
)
from smtpstate._scram import ScramClient, ScramServer

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from smtpstate._keys import ChannelBinding
    from smtpstate._sasl import ClientMechanism, Credentials, ServerMechanism

PLUS: Final = "-PLUS"

# The strongest first.
_ORDER: Final = (
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1",
    "OAUTHBEARER",
    "XOAUTH2",
    "EXTERNAL",
    "CRAM-MD5",
    "PLAIN",
    "LOGIN",
)
_HASHES: Final[dict[str, str]] = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}
# They show the server, or whoever plays it, the secret itself.
_PLAINTEXT: Final = frozenset({"OAUTHBEARER", "XOAUTH2", "PLAIN", "LOGIN"})


def _fits(name: str, credentials: Credentials) -> bool:
    """Whether these credentials are what the mechanism shows."""
    if name == "EXTERNAL":
        return credentials.certificate
    if not credentials.username:
        return name == "OAUTHBEARER" and credentials.token is not None
    if name in ("OAUTHBEARER", "XOAUTH2"):
        return credentials.token is not None
    if credentials.password is None:
        return False
    if credentials.authzid and name in ("CRAM-MD5", "LOGIN"):  # they cannot say it, and would be somebody else
        return False
    prepared = saslprep(credentials.username) and saslprep(credentials.password)
    return bool(prepared) if name.startswith("SCRAM-") else True


def choose(
    offered: Collection[str],
    credentials: Credentials,
    *,
    nonce: str,
    secure: bool,
    bindings: Sequence[ChannelBinding] = (),
    in_clear: bool = False,
    among: Collection[str] | None = None,
    host: str = "",
    port: int = 0,
) -> ClientMechanism | None:
    """The strongest mechanism that the server offers, the credentials allow, and (if given) `among` names; or None.

    `nonce` is 16 printable characters or more, fresh and random: `secrets.token_urlsafe(18)`. With `bindings`, the one
    to use first, a -PLUS is taken where there is one. Without TLS (`secure`) nothing is chosen that shows the secret,
    unless `in_clear`. `host` and `port`, where we connected to, go into OAUTHBEARER. Raises LocalProtocolError for a
    nonce that SCRAM cannot use, and a host name that is not ASCII.
    """
    names = {name.upper() for name in offered}
    permitted = names if among is None else names & {name.upper() for name in among}
    binding = bindings[0] if bindings and secure else None
    plus = any(name.endswith(PLUS) for name in names)
    for name in _ORDER:
        if name not in permitted or not _fits(name, credentials):
            continue
        if (name.endswith(PLUS) and binding is None) or (name == "EXTERNAL" and not secure):
            continue
        if name in _PLAINTEXT and not (secure or in_clear):
            continue
        hash_name = _HASHES.get(name.removesuffix(PLUS))
        if hash_name is not None:
            return ScramClient(
                credentials,
                nonce=nonce,
                hash_name=hash_name,
                binding=binding if name.endswith(PLUS) else None,
                could_bind=binding is not None and not plus,
            )
        return _client(name, credentials, host, port)
    return None


def _client(name: str, credentials: Credentials, host: str, port: int) -> ClientMechanism:
    username, password = credentials.username.encode(), (credentials.password or "").encode()
    match name:
        case "OAUTHBEARER" | "XOAUTH2":
            return BearerClient(name, credentials, host=host, port=port)
        case "EXTERNAL":
            return LinesClient(name, credentials.authzid.encode())
        case "CRAM-MD5":
            return CramMd5Client(credentials)
        case "PLAIN":
            return LinesClient(name, b"\0".join((credentials.authzid.encode(), username, password)))
        case _:  # LOGIN; the name waits for its prompt: not every server takes it as the initial response
            return LinesClient(name, None, username, password)


SERVER_MECHANISMS: Final = (
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-256",
    "OAUTHBEARER",
    "XOAUTH2",
    "EXTERNAL",
    "PLAIN",
    "LOGIN",
)


def announced(
    mechanisms: Sequence[str], *, bindings: Sequence[ChannelBinding], identities: Sequence[str]
) -> tuple[str, ...]:
    """Those of a server's mechanisms that this connection can do: -PLUS needs a binding, EXTERNAL a certificate."""
    return tuple(
        name
        for name in mechanisms
        if not (name.endswith(PLUS) and not bindings) and not (name == "EXTERNAL" and not identities)
    )


def server_mechanism(
    name: str,
    *,
    offered: Collection[str],
    nonce: str,
    secret: bytes,
    bindings: Sequence[ChannelBinding] = (),
    identities: Sequence[str] = (),
    allow_authzid: bool = False,
    iterations: int = MIN_ITERATIONS,
) -> ServerMechanism:
    """The server's seat of the mechanism that AUTH named.

    `offered` is what the EHLO reply announced, see `announced()`; `nonce` as for `choose()`; `secret` is 16 octets or
    more that outlive the process, and `iterations` what most accounts have: both go into the keys of nobody.
    `identities` are whom the client's verified certificate names. With `allow_authzid` the application is asked about
    clients that want to act for somebody else. Raises LocalProtocolError for a name that was not offered or that we
    do not know, and for a nonce or a secret that is too short.
    """
    if name not in offered:
        raise LocalProtocolError(f"{name} was not offered")
    match name:
        case "PLAIN":
            return PlainServer(allow_authzid=allow_authzid)
        case "LOGIN":
            return LoginServer()
        case "XOAUTH2" | "OAUTHBEARER":
            return BearerServer(name)
        case "EXTERNAL":
            return ExternalServer(tuple(identities))
        case "SCRAM-SHA-256" | "SCRAM-SHA-256-PLUS":
            return ScramServer(
                nonce=nonce,
                secret=secret,
                bindings=bindings,
                plus=name.endswith(PLUS),
                plus_offered=any(other.endswith(PLUS) for other in offered),
                allow_authzid=allow_authzid,
                iterations=iterations,
            )
        case _:
            raise LocalProtocolError(f"{name} is not a mechanism of this server")
