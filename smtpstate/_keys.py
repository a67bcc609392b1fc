"""What an account and a TLS session bring to AUTH: prepared text, SCRAM keys, channel bindings."""

from __future__ import annotations

import hashlib
import hmac
import re
import stringprep
from binascii import Error, a2b_base64, b2a_base64
from dataclasses import dataclass, field
from typing import Final, final
from unicodedata import ucd_3_2_0

from smtpstate._errors import LocalProtocolError

MIN_ITERATIONS: Final = 4_096  # of PBKDF2; RFC 5802 section 5.1, RFC 7677 section 4
MAX_ITERATIONS: Final = 600_000  # half a second or so; a server that asks for more wants our processor, not a proof
_MIN_SECRET: Final = 16  # octets
_SALT: Final = 16  # octets, of the salts that we make up

_SCHEMES: Final[dict[str, str]] = {"sha1": "SCRAM-SHA-1", "sha256": "SCRAM-SHA-256"}
_HASHES: Final[dict[str, str]] = {scheme: name for name, scheme in _SCHEMES.items()}

# "{SCRAM-SHA-256}iterations,salt,stored key,server key", the last three in base64: Dovecot's passwd-file.
_KEYS_TEXT: Final = re.compile(
    r"\{(SCRAM-SHA-1|SCRAM-SHA-256)\}([0-9]{4,6}),([A-Za-z0-9+/=]+),([A-Za-z0-9+/=]+),([A-Za-z0-9+/=]+)"
)


def encode_base64(data: bytes) -> bytes:
    """The data in base64, on one line. RFC 4648 section 4."""
    return b2a_base64(data, newline=False)


def decode_base64(data: bytes | str) -> bytes | None:
    """What the base64 says; None when it is not base64 to the letter: alphabet, padding, nothing after it."""
    try:
        return a2b_base64(data, strict_mode=True)
    except (Error, ValueError):  # the latter for text that is not ASCII
        return None


def saslprep(text: str) -> str | None:
    """The text made comparable; None when it holds what it must not. RFC 4013, RFC 3454.

    Code points that Unicode 3.2 did not know are let through unchanged, in stored strings, too, where section 2.5 of
    RFC 4013 would refuse them: people do put emoji into passwords, and the old tables will not change any more.
    """
    if text.isascii():
        return text if text.isprintable() else None
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in text if not stringprep.in_table_b1(char)
    )
    prepared = ucd_3_2_0.normalize("NFKC", mapped)
    if any(_is_prohibited(char) for char in prepared):
        return None
    if any(stringprep.in_table_d1(char) for char in prepared):  # RFC 3454 section 6: right to left, and all of it
        ends = stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1])
        if not ends or any(stringprep.in_table_d2(char) for char in prepared):
            return None
    return prepared


def _is_prohibited(char: str) -> bool:
    """RFC 4013 section 2.3: spaces, controls, private use, non-characters, surrogates, what changes display, tags."""
    return (
        stringprep.in_table_c12(char)
        or stringprep.in_table_c21_c22(char)
        or stringprep.in_table_c3(char)
        or stringprep.in_table_c4(char)
        or stringprep.in_table_c5(char)
        or stringprep.in_table_c6(char)
        or stringprep.in_table_c7(char)
        or stringprep.in_table_c8(char)
        or stringprep.in_table_c9(char)
    )


def _allowed(iterations: int) -> bool:
    return MIN_ITERATIONS <= iterations <= MAX_ITERATIONS


@final
@dataclass(frozen=True, slots=True)
class WorkNeeded:
    """A run of PBKDF2: call `run()` where it may take its time, in a bounded worker. RFC 8018 section 5.2."""

    hash_name: str
    password: bytes = field(repr=False)
    salt: bytes
    iterations: int

    def run(self) -> bytes:
        """The salted password. Blocks for as long as that takes, some 0.1 s for 200,000 iterations."""
        return hashlib.pbkdf2_hmac(self.hash_name, self.password, self.salt, self.iterations)


def password_work(
    password: str, salt: bytes, iterations: int = MIN_ITERATIONS, hash_name: str = "sha256"
) -> WorkNeeded:
    """The work that turns a password into `ScramKeys`. RFC 5802 section 3.

    Raises LocalProtocolError for a password that SASLprep refuses or leaves empty, an empty salt, a hash other than
    "sha1" and "sha256", and iterations outside 4,096 to 600,000.
    """
    prepared = saslprep(password)
    if not prepared:
        raise LocalProtocolError("a password that is empty, or holds what RFC 4013 prohibits")
    if not salt or hash_name not in _SCHEMES or not _allowed(iterations):
        raise LocalProtocolError("no salt, an unknown hash, or iterations outside 4,096 to 600,000")
    return WorkNeeded(hash_name, prepared.encode(), salt, iterations)


@final
@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What a server keeps instead of a password: StoredKey, ServerKey, salt, iteration count. RFC 5802 section 3.

    Raises LocalProtocolError for what no password can have led to, and for iterations outside 4,096 to 600,000.
    """

    hash_name: str
    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        size = hashlib.new(self.hash_name).digest_size if self.hash_name in _SCHEMES else -1
        if not (self.salt and len(self.stored_key) == len(self.server_key) == size and _allowed(self.iterations)):
            raise LocalProtocolError("SCRAM keys of the wrong size, without salt, or for too few or many iterations")

    @classmethod
    def derive(cls, work: WorkNeeded, salted: bytes) -> ScramKeys:
        """The keys of a password; `salted` is what `work.run()` returned."""
        return cls(
            work.hash_name,
            work.iterations,
            work.salt,
            hashlib.new(work.hash_name, client_key(work.hash_name, salted)).digest(),
            server_key(work.hash_name, salted),
        )

    @classmethod
    def parse(cls, text: str) -> ScramKeys | None:
        """Read Dovecot's ``{SCRAM-SHA-256}iterations,salt,stored,server``; None when it is not that. Never raises."""
        match = _KEYS_TEXT.fullmatch(text)
        if match is None:
            return None
        parts = [decode_base64(part) or b"" for part in match.groups()[2:]]
        try:
            return cls(_HASHES[match[1]], int(match[2]), *parts)
        except LocalProtocolError:
            return None

    def format(self) -> str:
        """The line that `parse()` reads. It is a secret nearly as good as the password."""
        parts = (encode_base64(part).decode() for part in (self.salt, self.stored_key, self.server_key))
        return f"{{{_SCHEMES[self.hash_name]}}}{self.iterations},{','.join(parts)}"

    def work(self, password: str) -> WorkNeeded | None:
        """The work that checks a password (of PLAIN, say) against these keys; None: it cannot be the one."""
        prepared = saslprep(password)
        return WorkNeeded(self.hash_name, prepared.encode(), self.salt, self.iterations) if prepared else None

    def matches(self, salted: bytes) -> bool:
        """Whether the work's outcome is the one that these keys were derived from; in constant time."""
        stored = hashlib.new(self.hash_name, client_key(self.hash_name, salted)).digest()
        return hmac.compare_digest(stored, self.stored_key)


def client_key(hash_name: str, salted: bytes) -> bytes:
    """ClientKey, RFC 5802 section 3."""
    return hmac.digest(salted, b"Client Key", hash_name)


def server_key(hash_name: str, salted: bytes) -> bytes:
    """ServerKey, RFC 5802 section 3."""
    return hmac.digest(salted, b"Server Key", hash_name)


def unknown_keys(secret: bytes, username: str, *, hash_name: str = "sha256", iterations: int) -> ScramKeys:
    """Keys for a name that has none: the same at each call, so that asking twice does not tell who exists.

    `iterations`, and a salt of 16 octets, should be what the real accounts have. Raises LocalProtocolError for a secret
    of less than 16 octets, and for iterations that no account may have.
    """
    if len(secret) < _MIN_SECRET:
        raise LocalProtocolError(f"the secret that hides who exists has less than {_MIN_SECRET} octets")
    name = username.encode()
    size = hashlib.new(hash_name).digest_size
    salt, stored, server = (
        hmac.digest(secret, label + b"\0" + name, "sha256") for label in (b"salt", b"stored", b"server")
    )
    return ScramKeys(hash_name, iterations, salt[:_SALT], stored[:size], server[:size])


# Channel bindings.


@final
@dataclass(frozen=True, slots=True)
class ChannelBinding:
    """What ties AUTH to one TLS session: a name from IANA's registry, and octets that both ends know. RFC 5056."""

    type: str
    data: bytes = field(repr=False)


# The OID of a certificate's signatureAlgorithm, in DER, and the hash that RFC 5929 section 4.1 makes of it: MD5 and
# SHA-1 count as SHA-256. Ed25519 has no one hash, and RSASSA-PSS names it in parameters: the caller may know better.
_RSA: Final = bytes.fromhex("2a864886f70d0101")
_ECDSA: Final = bytes.fromhex("2a8648ce3d04")
_SIGNATURE_HASHES: Final[dict[bytes, str]] = {
    _RSA + b"\x04": "sha256",
    _RSA + b"\x05": "sha256",
    _RSA + b"\x0b": "sha256",
    _RSA + b"\x0c": "sha384",
    _RSA + b"\x0d": "sha512",
    _RSA + b"\x0e": "sha224",
    _ECDSA + b"\x01": "sha256",
    _ECDSA + b"\x03\x01": "sha224",
    _ECDSA + b"\x03\x02": "sha256",
    _ECDSA + b"\x03\x03": "sha384",
    _ECDSA + b"\x03\x04": "sha512",
}
_SEQUENCE: Final = 0x30
_OID: Final = 0x06
# The way to that OID: tag, and whether to go on inside the element or after it. RFC 5280 section 4.1.
_SIGNATURE_ALGORITHM: Final = ((_SEQUENCE, True), (_SEQUENCE, False), (_SEQUENCE, True))

# Under TLS 1.3 tls-unique is not defined, and Python's ssl returns something all the same. RFC 8446 appendix C.5.
_UNIQUE_VERSIONS: Final = frozenset({"TLSv1", "TLSv1.1", "TLSv1.2"})


def server_end_point(certificate: bytes) -> bytes | None:
    """The data of tls-server-end-point for the server's certificate (DER); None where we know no hash for it.

    Never raises. RFC 5929 section 4.
    """
    position = 0
    for tag, inside in _SIGNATURE_ALGORITHM:
        element = _element(certificate, position, tag)
        if element is None:
            return None
        position = element[0] if inside else element[1]
    oid = _element(certificate, position, _OID)
    hash_name = None if oid is None else _SIGNATURE_HASHES.get(certificate[oid[0] : oid[1]])
    return None if hash_name is None else hashlib.new(hash_name, certificate).digest()


def _element(data: bytes, position: int, tag: int) -> tuple[int, int] | None:
    """Where the content of the DER element at `position` starts and ends; None when it is another, or cut short."""
    if len(data) < position + 2 or data[position] != tag:
        return None
    start, length = position + 2, data[position + 1]
    if length & 0x80:
        octets = length & 0x7F
        length = int.from_bytes(data[start : start + octets], "big")
        start += octets
    end = start + length
    return None if end > len(data) else (start, end)


def channel_bindings(
    version: str, *, certificate: bytes | None = None, unique: bytes | None = None, exporter: bytes | None = None
) -> tuple[ChannelBinding, ...]:
    """The bindings that a TLS session honestly has, the best first.

    `version` is what ssl calls it ("TLSv1.3"), `certificate` the *server's*, in DER, `unique` what ssl has for
    tls-unique (left out above TLS 1.2), `exporter` 32 octets of EXPORTER-Channel-Binding (RFC 9266 section 2).
    """
    found = [
        ("tls-exporter", exporter),
        ("tls-unique", unique if version in _UNIQUE_VERSIONS else None),
        ("tls-server-end-point", None if certificate is None else server_end_point(certificate)),
    ]
    return tuple(ChannelBinding(type_, data) for type_, data in found if data)
