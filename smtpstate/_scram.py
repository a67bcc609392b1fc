"""SCRAM, both seats: RFC 5802, RFC 7677, with and without channel binding.

The server's signature travels in a 334; the client answers that with an empty line, and then comes the 235. RFC 4954
section 4 knows no data in a 235.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from enum import IntEnum
from typing import TYPE_CHECKING, Final, final

from smtpstate._errors import LocalProtocolError
from smtpstate._keys import (
    MAX_ITERATIONS,
    MIN_ITERATIONS,
    ChannelBinding,
    ScramKeys,
    WorkNeeded,
    client_key,
    decode_base64,
    encode_base64,
    saslprep,
    server_key,
    unknown_keys,
)
from smtpstate._sasl import (
    SASLNAME,
    Answer,
    Challenge,
    ClientStep,
    Credentials,
    Done,
    Failure,
    KeysNeeded,
    Respond,
    SaslFault,
    ServerStep,
    Stage,
    Success,
    read_saslname,
    require_turn,
    write_saslname,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHA256: Final = "sha256"

# printable = %x21-2B / %x2D-7E, RFC 5802 section 7; ours are long enough never to repeat
_NONCE: Final = re.compile(r"[!-+\--~]{16,128}")
_EXTENSIONS: Final = rb"(?:,[A-Za-z]=[^\0,]+)*"  # understood by nobody, and optional: section 5.1
# client-first-message = gs2-header [reserved-mext ","] username "," nonce ["," extensions]; an "m=" must be refused
_CLIENT_FIRST: Final = re.compile(
    rb"(?P<gs2>(?:n|(?P<y>y)|p=(?P<type>[A-Za-z0-9.-]+)),(?:a=(?P<authzid>%b))?,)"
    rb"(?P<bare>n=(?P<name>%b),r=(?P<nonce>[!-+\--~]+)%b)" % (SASLNAME, SASLNAME, _EXTENSIONS)
)
# server-first-message = [reserved-mext ","] nonce "," salt "," iteration-count ["," extensions]
_SERVER_FIRST: Final = re.compile(
    rb"r=(?P<nonce>[!-+\--~]+),s=(?P<salt>[A-Za-z0-9+/]+=*),i=(?P<i>[1-9][0-9]{0,9})%b" % _EXTENSIONS
)
# client-final-message = channel-binding "," nonce ["," extensions] "," proof
_CLIENT_FINAL: Final = re.compile(
    rb"(?P<start>c=(?P<binding>[A-Za-z0-9+/]+=*),r=(?P<nonce>[!-+\--~]+)%b),p=(?P<proof>[A-Za-z0-9+/]+=*)" % _EXTENSIONS
)
# server-final-message = (server-error / verifier) ["," extensions]
_SERVER_FINAL: Final = re.compile(rb"v=(?P<signature>[A-Za-z0-9+/]+=*)%b" % _EXTENSIONS)


def _require_nonce(nonce: str) -> bytes:
    if _NONCE.fullmatch(nonce) is None:
        raise LocalProtocolError("a nonce is 16 to 128 printable ASCII characters, no comma")
    return nonce.encode()


def _xor(one: bytes, other: bytes) -> bytes:
    """Both have the size of one hash."""
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


@final
class ScramServer:
    """SCRAM-SHA-256, or with `plus` SCRAM-SHA-256-PLUS; see `server_mechanism()`.

    Raises LocalProtocolError for a nonce or a secret that is too short, and for `plus` without a binding.
    """

    __slots__ = (
        "_allow_authzid",
        "_authzid",
        "_bare",
        "_binding",
        "_bindings",
        "_first",
        "_iterations",
        "_keys",
        "_known",
        "_nonce",
        "_plus_offered",
        "_secret",
        "_stage",
        "_username",
        "name",
    )

    def __init__(
        self,
        *,
        nonce: str,
        secret: bytes,
        bindings: Sequence[ChannelBinding] = (),
        plus: bool = False,
        plus_offered: bool = False,
        allow_authzid: bool = False,
        iterations: int = MIN_ITERATIONS,
    ) -> None:
        if plus and not bindings:
            raise LocalProtocolError("SCRAM-SHA-256-PLUS without a channel binding")
        self.name: Final = "SCRAM-SHA-256-PLUS" if plus else "SCRAM-SHA-256"
        self._bindings: Final = {binding.type: binding.data for binding in bindings} if plus else {}
        self._plus_offered: Final = plus_offered
        self._allow_authzid: Final = allow_authzid
        self._secret: Final = secret
        self._iterations: Final = iterations
        self._keys: ScramKeys = unknown_keys(secret, "", iterations=iterations)  # checks the secret at once
        self._known: bool = False
        self._nonce: bytes = _require_nonce(nonce)
        self._stage: Stage = Stage.START
        self._bare: bytes = b""
        self._binding: bytes = b""
        self._first: bytes = b""
        self._username: str = ""
        self._authzid: str = ""

    def step(self, data: bytes | None) -> ServerStep:
        """See `ServerMechanism`."""
        require_turn(self._stage)
        if data is None:
            return Challenge(b"")
        if self._stage is Stage.START:
            step = self._client_first(data)
        elif self._stage is Stage.ASKED:
            step = self._client_final(data)
        else:  # the signature is out, and the client has nothing left to say
            self._stage = Stage.OVER
            return Failure(SaslFault.MALFORMED) if data else Success(self._authzid or self._username)
        if isinstance(step, Failure):
            self._stage = Stage.OVER
        return step

    def _client_first(self, data: bytes) -> ServerStep:
        match = _CLIENT_FIRST.fullmatch(data)
        username = None if match is None else read_saslname(match["name"])
        authzid = None if match is None else read_saslname(match["authzid"])
        if match is None or username is None or authzid is None:
            return Failure(SaslFault.MALFORMED)
        if match["y"] and self._plus_offered:
            return Failure(SaslFault.DOWNGRADE)
        bound = self._bindings.get(match["type"].decode()) if match["type"] else b""
        if bound is None or (self._bindings and not bound):
            return Failure(SaslFault.BINDING)
        if authzid == username:
            authzid = ""
        if authzid and not self._allow_authzid:
            return Failure(SaslFault.AUTHZID)
        self._username, self._authzid = username, authzid
        self._binding = match["gs2"] + bound
        self._bare = match["bare"]
        self._nonce = match["nonce"] + self._nonce
        self._stage = Stage.OWED
        return KeysNeeded(username, authzid)

    def answer(self, found: Answer) -> ServerStep:
        """See `ServerMechanism`. None leads to a dialogue like any other, which then fails."""
        if self._stage is not Stage.OWED:
            raise LocalProtocolError("nothing was asked")
        if isinstance(found, str) or (found is not None and found.hash_name != _SHA256):
            raise LocalProtocolError("the answer is keys for SHA-256, or None")
        self._known = found is not None
        self._keys = found or unknown_keys(self._secret, self._username, iterations=self._iterations)
        salt = encode_base64(self._keys.salt)
        self._first = b"r=%b,s=%b,i=%d" % (self._nonce, salt, self._keys.iterations)
        self._stage = Stage.ASKED
        return Challenge(self._first)

    def _client_final(self, data: bytes) -> ServerStep:
        match = _CLIENT_FINAL.fullmatch(data)
        binding = None if match is None else decode_base64(match["binding"])
        proof = None if match is None else decode_base64(match["proof"])
        if match is None or binding is None or proof is None or len(proof) != len(self._keys.stored_key):
            return Failure(SaslFault.MALFORMED)
        if not hmac.compare_digest(match["nonce"], self._nonce):
            return Failure(SaslFault.NONCE)
        if not hmac.compare_digest(binding, self._binding):
            return Failure(SaslFault.BINDING)
        said = b",".join((self._bare, self._first, match["start"]))
        key = _xor(proof, hmac.digest(self._keys.stored_key, said, _SHA256))
        right = hmac.compare_digest(hashlib.sha256(key).digest(), self._keys.stored_key)
        if not (right and self._known):
            return Failure(SaslFault.CREDENTIALS)
        self._stage = Stage.PROVED
        return Challenge(b"v=" + encode_base64(hmac.digest(self._keys.server_key, said, _SHA256)))


@final
class _Turn(IntEnum):
    """What a client waits for."""

    START = 0
    SERVER_FIRST = 1
    WORK = 2
    SERVER_FINAL = 3
    SUCCESS = 4
    OVER = 5


@final
class ScramClient:
    """SCRAM-SHA-256 or SCRAM-SHA-1; -PLUS with a `binding`; see `choose()`.

    `could_bind` says that there is a binding but the server offered no -PLUS: it will refuse us if it did, and somebody
    took that out of its EHLO reply (RFC 5802 section 6). Raises LocalProtocolError for a nonce that is too short, and
    for a name or password that SASLprep refuses or leaves empty.
    """

    __slots__ = (
        "_bare",
        "_final",
        "_gs2",
        "_hash",
        "_input",
        "_nonce",
        "_password",
        "_said",
        "_signature",
        "_turn",
        "name",
    )

    def __init__(
        self,
        credentials: Credentials,
        *,
        nonce: str,
        hash_name: str = _SHA256,
        binding: ChannelBinding | None = None,
        could_bind: bool = False,
    ) -> None:
        username = saslprep(credentials.username)
        password = saslprep(credentials.password or "")
        if not username or not password:
            raise LocalProtocolError("a name or password that is empty, or holds what RFC 4013 prohibits")
        scheme = "SCRAM-SHA-256" if hash_name == _SHA256 else "SCRAM-SHA-1"
        self.name: Final = scheme if binding is None else scheme + "-PLUS"
        self._hash: Final = hash_name
        self._password: Final = password.encode()
        unbound = b"y" if could_bind else b"n"
        flag = unbound if binding is None else b"p=" + binding.type.encode()
        authzid = b"a=" + write_saslname(credentials.authzid) if credentials.authzid else b""
        self._gs2: Final = flag + b"," + authzid + b","
        self._input: Final = self._gs2 + (b"" if binding is None else binding.data)
        self._nonce: Final = _require_nonce(nonce)
        self._bare: Final = b"n=" + write_saslname(username) + b",r=" + self._nonce
        self._said: bytes = b""  # AuthMessage, RFC 5802 section 3
        self._final: bytes = b""
        self._signature: bytes = b""
        self._turn: _Turn = _Turn.START

    def step(self, data: bytes | None) -> ClientStep:
        """See `ClientMechanism`."""
        turn = self._turn
        self._turn = _Turn.OVER  # unless what came is right
        if turn is _Turn.START:
            self._turn = _Turn.SERVER_FIRST
            return Respond(self._gs2 + self._bare)
        if turn is _Turn.SERVER_FIRST:
            return self._server_first(data or b"")
        if turn is _Turn.WORK:
            return self._prove(data or b"")
        if turn is _Turn.SERVER_FINAL:
            return self._server_final(data or b"")
        return Failure(SaslFault.UNEXPECTED)

    def _server_first(self, data: bytes) -> ClientStep:
        match = _SERVER_FIRST.fullmatch(data)
        salt = None if match is None else decode_base64(match["salt"])
        if match is None or salt is None:
            return Failure(SaslFault.REFUSED if data.startswith(b"e=") else SaslFault.MALFORMED)
        if not match["nonce"].startswith(self._nonce) or match["nonce"] == self._nonce:
            return Failure(SaslFault.NONCE)
        iterations = int(match["i"])
        if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
            return Failure(SaslFault.ITERATIONS)
        self._final = b"c=%b,r=%b" % (encode_base64(self._input), match["nonce"])
        self._said = b",".join((self._bare, data, self._final))
        self._turn = _Turn.WORK
        return WorkNeeded(self._hash, self._password, salt, iterations)

    def _prove(self, salted: bytes) -> ClientStep:
        key = client_key(self._hash, salted)
        stored = hashlib.new(self._hash, key).digest()
        proof = _xor(key, hmac.digest(stored, self._said, self._hash))
        self._signature = hmac.digest(server_key(self._hash, salted), self._said, self._hash)
        self._turn = _Turn.SERVER_FINAL
        return Respond(self._final + b",p=" + encode_base64(proof))

    def _server_final(self, data: bytes) -> ClientStep:
        match = _SERVER_FINAL.fullmatch(data)
        signature = None if match is None else decode_base64(match["signature"])
        if signature is None:
            return Failure(SaslFault.REFUSED if data.startswith(b"e=") else SaslFault.MALFORMED)
        if not hmac.compare_digest(signature, self._signature):
            return Failure(SaslFault.SIGNATURE)
        self._turn = _Turn.SUCCESS
        return Respond(b"")

    def concluded(self) -> Done | Failure:
        """See `ClientMechanism`. Without the server's signature its 2yz is worth nothing."""
        return Done() if self._turn is _Turn.SUCCESS else Failure(SaslFault.UNVERIFIED)
