"""Prepared text, SCRAM keys and channel bindings, alone."""

from __future__ import annotations

import datetime
import hashlib
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from smtpstate._errors import LocalProtocolError
from smtpstate._keys import (
    ChannelBinding,
    ScramKeys,
    WorkNeeded,
    channel_bindings,
    decode_base64,
    encode_base64,
    password_work,
    saslprep,
    server_end_point,
    unknown_keys,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

SALT = b"salt of 16 octet"
WORK = password_work("pencil", SALT)
KEYS = ScramKeys.derive(WORK, WORK.run())
SECRET = b"sixteen octets !"

# text, prepared, why
PREPARED = [
    ("I\u00adX", "IX", "RFC 4013 section 3: a soft hyphen is mapped to nothing"),
    ("user", "user", "RFC 4013 section 3: nothing to do"),
    ("USER", "USER", "RFC 4013 section 3: case is kept"),
    ("\u00aa", "a", "RFC 4013 section 3: NFKC"),
    ("\u2168", "IX", "RFC 4013 section 3: NFKC makes two letters of one"),
    ("\u0007", None, "RFC 4013 section 3: a control"),
    ("\u0627\u0031", None, "RFC 4013 section 3: right to left, and does not end so"),
    ("", "", "nothing in, nothing out"),
    ("\u00ad", "", "nothing is left"),
    ("a\u00a0b", "a b", "section 2.1: a space is a space"),
    ("a b", "a b", "a space in ASCII"),
    ("a\u007f", None, "DEL"),
    ("\u00e9\u0085", None, "C.2.2: a control that is not ASCII"),
    ("\u1680", " ", "C.1.2: Ogham space mark"),
    ("\ue000", None, "C.3: private use"),
    ("\ufdd0", None, "C.4: a non-character"),
    ("\ud800", None, "C.5: a surrogate"),
    ("\ufffd", None, "C.6: the replacement character"),
    ("\u2ff0", None, "C.7: ideographic description"),
    ("\u200e", None, "C.8: left-to-right mark"),
    ("\U000e0001", None, "C.9: a language tag"),
    ("\u0627\u0628", "\u0627\u0628", "right to left, all of it"),
    ("\u0627a\u0628", None, "RFC 3454 section 6: a Latin letter in it"),
    ("a\u0628", None, "RFC 3454 section 6: does not start so"),
    ("e\u0301", "\u00e9", "one spelling for both"),
    ("\U0001f600", "\U0001f600", "unassigned in Unicode 3.2, and in people's passwords"),
]


@pytest.mark.parametrize(("text", "prepared", "why"), PREPARED, ids=[why for *_, why in PREPARED])
def test_text_is_prepared(text: str, prepared: str | None, why: str) -> None:
    assert saslprep(text) == prepared


@given(st.text())
def test_what_is_prepared_stays_as_it_is(text: str) -> None:
    prepared = saslprep(text)
    assert prepared is None or saslprep(prepared) in (prepared, None)


# text, decoded, why
BASE64 = [
    (b"", b"", "nothing"),
    (b"YQ==", b"a", "two pads"),
    (b"YWI=", b"ab", "one pad"),
    (b"YQ", None, "no pads"),
    (b"YQ==YQ==", None, "text after padding"),
    (b"Y Q==", None, "a space"),
    (b"YQ==\n", None, "a newline"),
    (b"_-==", None, "another alphabet"),
    (b"\xff", None, "8 bit"),
    ("\u00e9", None, "text that is not ASCII"),
]


@pytest.mark.parametrize(("text", "decoded", "why"), BASE64, ids=[why for *_, why in BASE64])
def test_base64_is_read_to_the_letter(text: bytes | str, decoded: bytes | None, why: str) -> None:
    assert decode_base64(text) == decoded


@given(st.binary())
def test_base64_comes_back(data: bytes) -> None:
    assert decode_base64(encode_base64(data)) == data


def test_the_work_is_pbkdf2() -> None:
    # RFC 6070 section 2, the vector of 4,096 iterations.
    assert WorkNeeded("sha1", b"password", b"salt", 4096).run().hex() == "4b007901b765489abead49d926f721d065a429c1"


def test_keys_are_those_of_rfc_7677() -> None:
    salt = decode_base64(b"W22ZaJ0SNY7soEsUEjb6gQ==")
    assert salt is not None
    work = password_work("pencil", salt)
    keys = ScramKeys.derive(work, work.run())
    assert encode_base64(keys.stored_key) == b"WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
    assert encode_base64(keys.server_key) == b"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="


# password, salt, iterations, hash, why
IMPOSSIBLE = [
    ("", SALT, 4096, "sha256", "no password"),
    ("\u00ad", SALT, 4096, "sha256", "no password once it is prepared"),
    ("a\0b", SALT, 4096, "sha256", "SASLprep refuses it"),
    ("pencil", b"", 4096, "sha256", "no salt"),
    ("pencil", SALT, 4095, "sha256", "one iteration too few"),
    ("pencil", SALT, 600_001, "sha256", "one iteration too many"),
    ("pencil", SALT, 4096, "md5", "another hash"),
]


@pytest.mark.parametrize(
    ("password", "salt", "iterations", "hash_name", "why"), IMPOSSIBLE, ids=[row[-1] for row in IMPOSSIBLE]
)
def test_no_work_comes_of_what_scram_cannot_use(
    password: str, salt: bytes, iterations: int, hash_name: str, why: str
) -> None:
    with pytest.raises(LocalProtocolError):
        password_work(password, salt, iterations, hash_name)


@pytest.mark.parametrize("iterations", [4096, 600_000])
def test_the_bounds_of_the_iterations_are_allowed(iterations: int) -> None:
    assert password_work("pencil", SALT, iterations).iterations == iterations


# hash, iterations, salt, stored, server, why
BROKEN = [
    ("md5", 4096, SALT, bytes(16), bytes(16), "another hash"),
    ("sha256", 4096, b"", bytes(32), bytes(32), "no salt"),
    ("sha256", 4096, SALT, bytes(20), bytes(32), "a stored key of another size"),
    ("sha256", 4096, SALT, bytes(32), bytes(31), "a server key of another size"),
    ("sha1", 4096, SALT, bytes(32), bytes(32), "both of another size"),
    ("sha256", 1000, SALT, bytes(32), bytes(32), "too few iterations"),
    ("sha256", 600_001, SALT, bytes(32), bytes(32), "too many iterations"),
]


@pytest.mark.parametrize(
    ("hash_name", "iterations", "salt", "stored", "server", "why"), BROKEN, ids=[row[-1] for row in BROKEN]
)
def test_keys_that_no_password_leads_to_are_refused(
    hash_name: str, iterations: int, salt: bytes, stored: bytes, server: bytes, why: str
) -> None:
    with pytest.raises(LocalProtocolError):
        ScramKeys(hash_name, iterations, salt, stored, server)


@pytest.mark.parametrize("hash_name", ["sha1", "sha256"])
def test_keys_come_back_from_their_line(hash_name: str) -> None:
    work = password_work("pencil", SALT, hash_name=hash_name)
    keys = ScramKeys.derive(work, work.run())
    assert ScramKeys.parse(keys.format()) == keys


def test_the_line_is_dovecots() -> None:
    assert KEYS.format().startswith("{SCRAM-SHA-256}4096,c2FsdCBvZiAxNiBvY3RldA==,")


# line, why
LINES = [
    ("", "empty"),
    ("{PLAIN}pencil", "another scheme"),
    (KEYS.format() + "=", "bad base64"),
    (KEYS.format().replace("4096", "1024"), "too few iterations"),
    (KEYS.format().replace("4096", "999999"), "too many iterations"),
    (KEYS.format().replace("-256", "-1"), "keys of another size"),
    (KEYS.format() + "\n", "a newline after it"),
    ("{SCRAM-SHA-256}4096,====,YQ==,YQ==", "a salt that is not base64"),
]


@pytest.mark.parametrize(("line", "why"), LINES, ids=[why for _, why in LINES])
def test_a_line_that_is_not_one_is_none(line: str, why: str) -> None:
    assert ScramKeys.parse(line) is None


def test_a_password_is_checked_against_keys() -> None:
    right, wrong = KEYS.work("pencil"), KEYS.work("pen")
    assert right is not None
    assert wrong is not None
    assert KEYS.matches(right.run())
    assert not KEYS.matches(wrong.run())


@pytest.mark.parametrize("password", ["", "a\0b", "\u00ad"])
def test_a_password_that_cannot_be_one_costs_no_work(password: str) -> None:
    assert KEYS.work(password) is None


def test_nobody_has_the_same_salt_each_time_and_no_two_share_one() -> None:
    once = unknown_keys(SECRET, "nobody", iterations=4096)
    assert once == unknown_keys(SECRET, "nobody", iterations=4096)
    assert once.salt != unknown_keys(SECRET, "somebody", iterations=4096).salt
    assert once.salt != unknown_keys(SECRET[::-1], "nobody", iterations=4096).salt
    assert len(once.salt) == 16
    assert unknown_keys(SECRET, "nobody", hash_name="sha1", iterations=4096).hash_name == "sha1"


def test_a_secret_that_can_be_guessed_hides_nobody() -> None:
    with pytest.raises(LocalProtocolError):
        unknown_keys(SECRET[1:], "nobody", iterations=4096)


def test_secrets_do_not_print() -> None:
    shown = repr((KEYS, WORK, ChannelBinding("tls-exporter", b"material")))
    assert "pencil" not in shown
    assert "material" not in shown
    assert repr(KEYS.stored_key) not in shown
    assert repr(KEYS.server_key) not in shown


# Channel bindings.

RSA = rsa.generate_private_key(65537, 2048)
CURVE = ec.generate_private_key(ec.SECP256R1())


def certificate(
    key: CertificateIssuerPrivateKeyTypes, hash_: hashes.HashAlgorithm | None, *, pss: bool = False
) -> bytes:
    """A certificate of that signature, in DER."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mx.example.org")])
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=1,
        not_valid_before=datetime.datetime(2024, 1, 1),
        not_valid_after=datetime.datetime(2034, 1, 1),
    )
    filling = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH) if pss else None
    made = builder.sign(key, hash_, rsa_padding=filling)  # type: ignore[arg-type]  # any hash, as a table has them
    return made.public_bytes(serialization.Encoding.DER)


def swap(der: bytes, old: str, new: str) -> bytes:
    """The certificate with another signature algorithm: those that cryptography will not sign with any more."""
    return der.replace(bytes.fromhex(old), bytes.fromhex(new))


RSA256 = certificate(RSA, hashes.SHA256())
EC256 = certificate(CURVE, hashes.SHA256())
RSA_OID, EC_OID = "06092a864886f70d0101", "06082a8648ce3d04"

# certificate, hash, why
END_POINTS = [
    (RSA256, "sha256", "RSA with SHA-256"),
    (certificate(RSA, hashes.SHA384()), "sha384", "RSA with SHA-384"),
    (certificate(RSA, hashes.SHA512()), "sha512", "RSA with SHA-512"),
    (certificate(RSA, hashes.SHA224()), "sha224", "RSA with SHA-224"),
    (EC256, "sha256", "ECDSA with SHA-256"),
    (certificate(CURVE, hashes.SHA384()), "sha384", "ECDSA with SHA-384"),
    (certificate(CURVE, hashes.SHA512()), "sha512", "ECDSA with SHA-512"),
    (certificate(CURVE, hashes.SHA224()), "sha224", "ECDSA with SHA-224"),
    (swap(RSA256, RSA_OID + "0b", RSA_OID + "05"), "sha256", "RFC 5929 section 4.1: SHA-1 counts as SHA-256"),
    (swap(RSA256, RSA_OID + "0b", RSA_OID + "04"), "sha256", "RFC 5929 section 4.1: MD5 counts as SHA-256"),
    (certificate(ed25519.Ed25519PrivateKey.generate(), None), None, "Ed25519 has no hash to name"),
    (certificate(RSA, hashes.SHA256(), pss=True), None, "RSASSA-PSS names its hash elsewhere"),
    (b"", None, "nothing"),
    (b"0", None, "one octet"),
    (b"\x30\xff", None, "a length that is missing"),
    (b"\x31\x00", None, "not a sequence"),
    (b"\x30\x04\x30\x00\x30\x00", None, "no algorithm in it"),
    (RSA256[:-1], None, "cut short"),
]


@pytest.mark.parametrize(("der", "hash_name", "why"), END_POINTS, ids=[why for *_, why in END_POINTS])
def test_the_end_point_is_hashed_as_its_signature_says(der: bytes, hash_name: str | None, why: str) -> None:
    expected = None if hash_name is None else hashlib.new(hash_name, der).digest()
    assert server_end_point(der) == expected


@given(st.binary())
def test_no_octets_in_place_of_a_certificate_raise(data: bytes) -> None:
    server_end_point(data)
    server_end_point(b"\x30\x84" + data)


# version, names, why
BINDINGS = [
    ("TLSv1.3", ("tls-exporter", "tls-server-end-point"), "tls-unique is not defined there"),
    ("TLSv1.2", ("tls-exporter", "tls-unique", "tls-server-end-point"), "all"),
    ("TLSv1.4", ("tls-exporter", "tls-server-end-point"), "what nobody knows yet is not TLS 1.2"),
]


@pytest.mark.parametrize(("version", "names", "why"), BINDINGS, ids=[why for *_, why in BINDINGS])
def test_a_session_has_the_bindings_of_its_version(version: str, names: tuple[str, ...], why: str) -> None:
    found = channel_bindings(version, certificate=RSA256, unique=b"unique", exporter=b"exporter")
    assert tuple(binding.type for binding in found) == names


def test_a_session_without_anything_has_no_bindings() -> None:
    assert channel_bindings("TLSv1.3") == ()
    assert channel_bindings("TLSv1.2", certificate=b"", unique=b"", exporter=None) == ()
