"""SASL: what a mechanism says and asks. RFC 4422. The mechanisms follow it.

A mechanism does not know SMTP: it takes and gives octets without base64. The server's is driven so:

    step = mechanism.step(auth.initial_response)          # then once for each AuthResponse
    Challenge      -> send it, wait for the response      # 334
    PasswordGiven  -> step = mechanism.answer(identity)   # or answer(None): wrong
    TokenGiven     -> the same
    CertificateGiven -> the same
    KeysNeeded     -> step = mechanism.answer(keys)       # or answer(None): nobody of that name
    Success        -> authenticated(step.identity)        # 235
    Failure        -> reply(step.reply)                   # 535, or 501

and the client's:

    step = mechanism.step(None)                           # Respond: the initial response; None is none
    step = mechanism.step(challenge)                      # for each 334
    WorkNeeded     -> step = mechanism.step(work.run())
    Failure        -> cancel
    mechanism.concluded()                                 # at the 2yz: Done, or a Failure: hang up
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, final

from smtpstate._errors import LocalProtocolError
from smtpstate._keys import ScramKeys, WorkNeeded, saslprep
from smtpstate._replies import Reply

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_NAME: Final = 255  # octets of a name or a password that a server takes; RFC 4616 section 2 wants no less
_PASSWORD: Final = 8_192  # octets that a client sends: in base64 it still fits into RFC 4954's 12,288
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_TOKEN: Final = re.compile(r"[!-~]+")  # wider than b64token, RFC 6750 section 2.1

_MALFORMED_REPLY: Final = Reply(501, "Malformed authentication response", enhanced="5.5.2")  # RFC 4954 section 4
_REFUSED_REPLY: Final = Reply(535, "Authentication failed", enhanced="5.7.8")  # RFC 4954 section 6


@final
class SaslFault(Enum):
    """Why an exchange failed. The wire never says it: to the peer all but MALFORMED are the same 535."""

    MALFORMED = "the response does not match the mechanism's grammar"  # RFC 4954 section 4: 501
    CREDENTIALS = "the password, the key or the token is not right, or nobody has that name"
    AUTHZID = "may not act for somebody else"  # RFC 4422 section 3.4.1
    BINDING = "the channel binding is not that of this TLS session"  # RFC 5802 section 6
    DOWNGRADE = "the peer believes that no -PLUS was offered, and it was"  # RFC 5802 section 6
    NONCE = "the nonce is not the one of this exchange"  # RFC 5802 section 5.1
    ITERATIONS = "an iteration count outside 4,096 to 600,000"  # RFC 5802 section 5.1, RFC 7677 section 4
    SIGNATURE = "the server does not know the password either"  # RFC 5802 section 3
    UNVERIFIED = "a success before all was said"  # RFC 5802 section 3: the server's signature is not optional
    REFUSED = "the server says no inside the mechanism"  # RFC 5802 section 7 server-error, RFC 7628 section 3.2.2
    UNEXPECTED = "a challenge after all was said"


# What a step can be.


@final
@dataclass(frozen=True, slots=True)
class Challenge:
    """Server: send this, and step with the response."""

    data: bytes


@final
@dataclass(frozen=True, slots=True)
class PasswordGiven:
    """Server: is that the password? Then `answer(identity)`, else `answer(None)`.

    `username` and `authzid` are prepared (RFC 4013), so hold no control; the password is as it came. `authzid` is
    "" unless the client may name one: then it wants to act for somebody else, and the answer weighs that, too.
    """

    authzid: str
    username: str
    password: str = field(repr=False)


@final
@dataclass(frozen=True, slots=True)
class KeysNeeded:
    """Server: `answer()` with the keys of this user; None when there is no such user. Names as in `PasswordGiven`."""

    username: str
    authzid: str


@final
@dataclass(frozen=True, slots=True)
class TokenGiven:
    """Server: is this bearer token good? Then `answer(identity)`, else `answer(None)`.

    `username` may be "" with OAUTHBEARER: the token says whose it is. The token must be the named user's.
    """

    username: str
    token: str = field(repr=False)


@final
@dataclass(frozen=True, slots=True)
class CertificateGiven:
    """Server: whom does this name mean, which a verified certificate holds? `answer(identity)`, or `answer(None)`."""

    name: str


@final
@dataclass(frozen=True, slots=True)
class Success:
    """Server: it is over; `identity` is who the client is from now on."""

    identity: str


@final
@dataclass(frozen=True, slots=True)
class Respond:
    """Client: send this. None comes first and only there: this mechanism has no initial response."""

    data: bytes | None = field(repr=False)


@final
@dataclass(frozen=True, slots=True)
class Done:
    """Client: authenticated, and the server has proved what the mechanism lets it prove."""


@final
@dataclass(frozen=True, slots=True)
class Failure:
    """Either seat: it is over, without success. A client cancels a dialogue that goes on, and hangs up after a 235."""

    why: SaslFault

    @property
    def reply(self) -> Reply:
        """What a server answers: 501 to what cannot be read, 535 to all else. RFC 4954 sections 4 and 6."""
        return _MALFORMED_REPLY if self.why is SaslFault.MALFORMED else _REFUSED_REPLY


ServerStep: TypeAlias = Challenge | PasswordGiven | KeysNeeded | TokenGiven | CertificateGiven | Success | Failure
ClientStep: TypeAlias = Respond | WorkNeeded | Failure
Answer: TypeAlias = str | ScramKeys | None


class ServerMechanism(Protocol):
    """One exchange, the server's seat. No octets raise; a call out of turn raises LocalProtocolError."""

    @property
    def name(self) -> str:
        """As in the EHLO reply."""
        ...

    def step(self, data: bytes | None) -> ServerStep:
        """Take the initial response (None: the client sent none; b"": it sent "="), later each response."""
        ...

    def answer(self, found: Answer) -> ServerStep:
        """Answer the step that asked: an identity, keys, or None for no."""
        ...


class ClientMechanism(Protocol):
    """One exchange, the client's seat. Nothing that a server says raises."""

    @property
    def name(self) -> str:
        """As in the EHLO reply."""
        ...

    def step(self, data: bytes | None) -> ClientStep:
        """First call: what to open with, whatever `data`. Then each challenge, or what the work came to."""
        ...

    def concluded(self) -> Done | Failure:
        """The server said 2yz: may it?"""
        ...


@final
@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client has to show; never printed.

    `certificate`: TLS showed the server one of ours, so EXTERNAL can be tried. Raises LocalProtocolError for names over
    255 octets, a password that is empty or over 8,192 octets, controls in any of them, a token that is not printable
    ASCII.
    """

    username: str = ""
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    authzid: str = ""
    certificate: bool = False

    def __post_init__(self) -> None:
        for name in (self.username, self.authzid):
            if _UNSAFE.search(name) or len(name.encode()) > MAX_NAME:
                raise LocalProtocolError("a user name with controls in it, or of more than 255 octets")
        if self.password is not None and (
            _UNSAFE.search(self.password) or not 0 < len(self.password.encode()) <= _PASSWORD
        ):
            raise LocalProtocolError("a password that is empty, has controls in it, or is longer than 8,192 octets")
        if self.token is not None and _TOKEN.fullmatch(self.token) is None:
            raise LocalProtocolError("a token with anything but printable ASCII in it")


# What the mechanisms share.


def read_name(data: bytes) -> str | None:
    """A user name, prepared so that one user has one name under all mechanisms; None when it cannot be one."""
    if len(data) > MAX_NAME:
        return None
    try:
        return saslprep(data.decode()) or None
    except UnicodeDecodeError:
        return None


# What ssl makes of a certificate: tuples of tuples of a kind and a name.
_Names: TypeAlias = "str | tuple[_Names, ...] | None"


def certificate_names(certificate: Mapping[str, _Names]) -> tuple[str, ...]:
    """Whom a client's certificate, as ssl's `getpeercert()` shows it, names; prepared like any user name.

    E-mail addresses come first, then host names; the common name of the subject counts where there is neither, as RFC
    6125 section 6.4.4 has it for servers.
    """
    alternatives = [*_pairs(certificate.get("subjectAltName"))]
    names = [name for wanted in ("email", "DNS") for kind, name in alternatives if kind == wanted]
    names = names or [name for kind, name in _pairs(certificate.get("subject")) if kind == "commonName"]
    prepared = [read_name(name.encode()) for name in names]
    return tuple(dict.fromkeys(name for name in prepared if name is not None))


def _pairs(found: _Names) -> Iterator[tuple[str, str]]:
    match found:
        case (str(kind), str(name)):
            yield kind, name
        case tuple():
            for part in found:
                yield from _pairs(part)
        case _:
            pass


# saslname = 1*(value-safe-char / "=2C" / "=3D"), RFC 5801 section 4
SASLNAME: Final = rb"(?:[^\0,=]|=2[Cc]|=3[Dd])+"


def read_saslname(data: bytes | None) -> str | None:
    """The name that a saslname spells; "" where there is none, None when it cannot be one."""
    if data is None:
        return ""
    return read_name(re.sub(rb"=2[Cc]", b",", data).replace(b"=3D", b"=").replace(b"=3d", b"="))


def write_saslname(name: str) -> bytes:
    """The name as a saslname. RFC 5801 section 4."""
    return name.encode().replace(b"=", b"=3D").replace(b",", b"=2C")


@final
class Stage(Enum):
    """Whose turn it is in a server's exchange."""

    START = "nothing came yet"
    ASKED = "a challenge is out"
    OWED = "the caller owes an answer"
    PROVED = "the proof was right, and the client is shown ours"  # RFC 5802 section 5
    ERROR = "the client is told why, and will answer before it hears 535"  # RFC 7628 section 3.2.3
    OVER = "it is over"


def require_turn(stage: Stage) -> None:
    """Raises LocalProtocolError when the peer's octets are not what comes next."""
    if stage is Stage.OWED:
        raise LocalProtocolError("the mechanism waits for an answer()")
    if stage is Stage.OVER:
        raise LocalProtocolError("the exchange is over")
