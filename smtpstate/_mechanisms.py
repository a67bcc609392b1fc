"""The mechanisms but SCRAM, both seats. RFC 4422 says what they have in common."""

from __future__ import annotations

import hmac
import re
from typing import Final, final

from smtpstate._errors import LocalProtocolError
from smtpstate._keys import ScramKeys
from smtpstate._sasl import (
    MAX_NAME,
    SASLNAME,
    Answer,
    CertificateGiven,
    Challenge,
    ClientStep,
    Credentials,
    Done,
    Failure,
    PasswordGiven,
    Respond,
    SaslFault,
    ServerStep,
    Stage,
    Success,
    TokenGiven,
    read_name,
    read_saslname,
    require_turn,
    write_saslname,
)


def _read_answer(stage: Stage, found: Answer) -> str | None:
    """The identity that what was given was answered with; raises LocalProtocolError when nothing was."""
    if stage is not Stage.OWED:
        raise LocalProtocolError("nothing was asked")
    if isinstance(found, ScramKeys) or found == "":
        raise LocalProtocolError("the answer is an identity, or None")
    return found


def _read_password(authzid: str, username: bytes, password: bytes) -> PasswordGiven | Failure:
    name = read_name(username)
    try:
        text = password.decode()
    except UnicodeDecodeError:
        return Failure(SaslFault.MALFORMED)
    if name is None or not 0 < len(password) <= MAX_NAME or "\0" in text:
        return Failure(SaslFault.MALFORMED)
    return PasswordGiven(authzid, name, text)


# The server's seat.


@final
class PlainServer:
    """PLAIN, RFC 4616. With `allow_authzid` a client may ask to act for somebody else; the answer decides."""

    __slots__ = ("_allow_authzid", "_stage", "name")

    def __init__(self, *, allow_authzid: bool = False) -> None:
        self.name: Final = "PLAIN"
        self._allow_authzid: Final = allow_authzid
        self._stage: Stage = Stage.START

    def step(self, data: bytes | None) -> ServerStep:
        """See `ServerMechanism`."""
        require_turn(self._stage)
        if data is None:
            return Challenge(b"")
        step = self._read(data)
        self._stage = Stage.OVER if isinstance(step, Failure) else Stage.OWED
        return step

    # message = [authzid] UTF8NUL authcid UTF8NUL passwd, RFC 4616 section 2
    def _read(self, data: bytes) -> PasswordGiven | Failure:
        parts = data.split(b"\0")
        if len(parts) != 3:
            return Failure(SaslFault.MALFORMED)
        authzid = read_name(parts[0]) if parts[0] else ""
        if authzid is None:
            return Failure(SaslFault.MALFORMED)
        step = _read_password(authzid, parts[1], parts[2])
        if isinstance(step, Failure) or not authzid:
            return step
        if authzid == step.username:
            return PasswordGiven("", step.username, step.password)
        return step if self._allow_authzid else Failure(SaslFault.AUTHZID)

    def answer(self, found: Answer) -> ServerStep:
        """See `ServerMechanism`."""
        identity = _read_answer(self._stage, found)
        self._stage = Stage.OVER
        return Failure(SaslFault.CREDENTIALS) if identity is None else Success(identity)


@final
class LoginServer:
    """LOGIN, which no RFC defines: two prompts, and the name may be the initial response."""

    __slots__ = ("_stage", "_username", "name")

    def __init__(self) -> None:
        self.name: Final = "LOGIN"
        self._username: bytes | None = None
        self._stage: Stage = Stage.START

    def step(self, data: bytes | None) -> ServerStep:
        """See `ServerMechanism`."""
        require_turn(self._stage)
        if data is None:
            return Challenge(b"Username:")
        if self._username is None:
            self._username = data
            return Challenge(b"Password:")
        step = _read_password("", self._username, data)
        self._stage = Stage.OVER if isinstance(step, Failure) else Stage.OWED
        return step

    def answer(self, found: Answer) -> ServerStep:
        """See `ServerMechanism`."""
        identity = _read_answer(self._stage, found)
        self._stage = Stage.OVER
        return Failure(SaslFault.CREDENTIALS) if identity is None else Success(identity)


@final
class ExternalServer:
    """EXTERNAL, RFC 4422 appendix A: TLS has said who the client is.

    `identities` are the names in its verified certificate: the first is meant when the client names none. Raises
    LocalProtocolError when there is none: then EXTERNAL is not to be offered.
    """

    __slots__ = ("_identities", "_stage", "name")

    def __init__(self, identities: tuple[str, ...]) -> None:
        if not all(identities) or not identities:
            raise LocalProtocolError("EXTERNAL without a certificate that names somebody")
        self.name: Final = "EXTERNAL"
        self._identities: Final = identities
        self._stage: Stage = Stage.START

    def step(self, data: bytes | None) -> ServerStep:
        """See `ServerMechanism`."""
        require_turn(self._stage)
        if data is None:
            return Challenge(b"")
        self._stage = Stage.OVER
        name = self._identities[0] if data == b"" else read_name(data)
        if name is None:
            return Failure(SaslFault.MALFORMED)
        if name not in self._identities:
            return Failure(SaslFault.AUTHZID)
        self._stage = Stage.OWED
        return CertificateGiven(name)

    def answer(self, found: Answer) -> ServerStep:
        """See `ServerMechanism`."""
        identity = _read_answer(self._stage, found)
        self._stage = Stage.OVER
        return Failure(SaslFault.CREDENTIALS) if identity is None else Success(identity)


# XOAUTH2 (Google's, Microsoft's): "user=" name ^A "auth=Bearer " token ^A ^A
_XOAUTH2: Final = re.compile(rb"user=([^\x01]+)\x01auth=(?i:bearer) +([!-~]+)\x01\x01")
# client-resp = gs2-header kvsep *kvpair kvsep, RFC 7628 section 3.1; no "p": there is no -PLUS
_OAUTHBEARER: Final = re.compile(rb"[ny],(?:a=(%b))?,\x01((?:[A-Za-z]+=[^\x01]*\x01)*)\x01" % SASLNAME)
_BEARER: Final = re.compile(rb"(?i:bearer) +([!-~]+)")


@final
class BearerServer:
    """XOAUTH2 or OAUTHBEARER (RFC 7628): a token instead of a password.

    `error` is the JSON that a client with a bad token is sent before its 535, RFC 7628 section 3.2.2.
    """

    __slots__ = ("_error", "_stage", "name")

    def __init__(self, name: str, *, error: bytes = b'{"status":"invalid_token","schemes":"bearer"}') -> None:
        self.name: Final = name
        self._error: Final = error
        self._stage: Stage = Stage.START

    def step(self, data: bytes | None) -> ServerStep:
        """See `ServerMechanism`."""
        require_turn(self._stage)
        if self._stage is Stage.ERROR:  # an empty line or ^A is due; whatever it is, it ends here
            self._stage = Stage.OVER
            return Failure(SaslFault.CREDENTIALS)
        if data is None:
            return Challenge(b"")
        step = self._read_xoauth2(data) if self.name == "XOAUTH2" else self._read_oauthbearer(data)
        self._stage = Stage.OVER if step is None else Stage.OWED
        return Failure(SaslFault.MALFORMED) if step is None else step

    @staticmethod
    def _read_xoauth2(data: bytes) -> TokenGiven | None:
        match = _XOAUTH2.fullmatch(data)
        username = None if match is None else read_name(match[1])
        return None if match is None or username is None else TokenGiven(username, match[2].decode())

    @staticmethod
    def _read_oauthbearer(data: bytes) -> TokenGiven | None:
        match = _OAUTHBEARER.fullmatch(data)
        username = None if match is None else read_saslname(match[1])
        if match is None or username is None:
            return None
        pairs = [pair.partition(b"=") for pair in match[2].split(b"\x01")[:-1]]
        values = [value for key, _, value in pairs if key == b"auth"]
        token = _BEARER.fullmatch(values[0]) if len(values) == 1 else None
        return None if token is None else TokenGiven(username, token[1].decode())

    def answer(self, found: Answer) -> ServerStep:
        """See `ServerMechanism`."""
        identity = _read_answer(self._stage, found)
        if identity is None:
            self._stage = Stage.ERROR
            return Challenge(self._error)
        self._stage = Stage.OVER
        return Success(identity)


# The client's seat.


@final
class LinesClient:
    """PLAIN, LOGIN and EXTERNAL: what to say is known beforehand, whatever the server's prompts say.

    `lines` are the responses in order; None first: no initial response. See `choose()`.
    """

    __slots__ = ("_lines", "name")

    def __init__(self, name: str, *lines: bytes | None) -> None:
        self.name: Final = name
        self._lines: Final = list(reversed(lines))

    def step(self, data: bytes | None) -> ClientStep:
        """See `ClientMechanism`."""
        return Respond(self._lines.pop()) if self._lines else Failure(SaslFault.UNEXPECTED)

    def concluded(self) -> Done | Failure:
        """See `ClientMechanism`."""
        return Failure(SaslFault.UNVERIFIED) if self._lines else Done()


@final
class BearerClient:
    """XOAUTH2 or OAUTHBEARER. `error` is what the server said about a token that it did not like: JSON, for a log."""

    __slots__ = ("_opening", "_stage", "error", "name")

    def __init__(self, name: str, credentials: Credentials, *, host: str = "", port: int = 0) -> None:
        self.name: Final = name
        self.error: bytes | None = None
        self._stage: int = 0  # messages sent
        if name == "XOAUTH2":
            start = b"user=" + credentials.username.encode()
        else:
            authzid = b"a=" + write_saslname(credentials.username) if credentials.username else b""
            start = b"n," + authzid + b","
            if not (host.isascii() and (host + "x").isprintable()):
                raise LocalProtocolError("a host name is ASCII; write an internationalized one as A-labels")
            if host:
                start += b"\x01host=" + host.encode() + (b"\x01port=%d" % port if port else b"")
        self._opening: Final = start + b"\x01auth=Bearer " + (credentials.token or "").encode() + b"\x01\x01"

    def step(self, data: bytes | None) -> ClientStep:
        """See `ClientMechanism`."""
        self._stage += 1
        if self._stage == 1:
            return Respond(self._opening)
        if self._stage > 2:
            return Failure(SaslFault.UNEXPECTED)
        # What is not a success is told in a challenge; the server waits for this before its 535. RFC 7628 section 3.2.3
        self.error = data
        return Respond(b"" if self.name == "XOAUTH2" else b"\x01")

    def concluded(self) -> Done | Failure:
        """See `ClientMechanism`."""
        return Done() if self._stage == 1 else Failure(SaslFault.UNVERIFIED)


@final
class CramMd5Client:
    """CRAM-MD5, RFC 2195: no initial response, then the name and a keyed hash of the challenge."""

    __slots__ = ("_credentials", "_turn", "name")

    def __init__(self, credentials: Credentials) -> None:
        self.name: Final = "CRAM-MD5"
        self._credentials: Final = credentials
        self._turn: int = 0

    def step(self, data: bytes | None) -> ClientStep:
        """See `ClientMechanism`."""
        self._turn += 1
        if self._turn == 1:
            return Respond(None)
        if self._turn > 2:
            return Failure(SaslFault.UNEXPECTED)
        password = (self._credentials.password or "").encode()
        digest = hmac.digest(password, data or b"", "md5")
        return Respond(self._credentials.username.encode() + b" " + digest.hex().encode())

    def concluded(self) -> Done | Failure:
        """See `ClientMechanism`."""
        return Done() if self._turn == 2 else Failure(SaslFault.UNVERIFIED)
