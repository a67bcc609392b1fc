"""DANE and MTA-STS: what a destination demands, and whether what a server shows is that."""

from __future__ import annotations

import ssl
from hashlib import sha256, sha512
from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from smtpstate._tlspolicy import Dane, MtaSts, MtaStsMode, Shown, Tlsa, TlsPolicy, public_key_of

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "mx.example.org"
ROOT = trustme.CA()
MIDDLE = ROOT.create_child_ca()
LEAF = MIDDLE.issue_cert(HOST)
OTHER = ROOT.issue_cert(HOST, key_type=trustme.KeyType.RSA)


def der(pem: trustme.Blob) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.bytes().decode())


CHAIN = (der(LEAF.cert_chain_pems[0]), der(MIDDLE.cert_pem), der(ROOT.cert_pem))
CERTIFICATES = (*CHAIN, der(OTHER.cert_chain_pems[0]))


def key(certificate: bytes) -> bytes:
    """What cryptography finds."""
    public = x509.load_der_x509_certificate(certificate).public_key()
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


# The key of a certificate.


@pytest.mark.parametrize("certificate", CERTIFICATES, ids=["EC", "an authority", "the root", "RSA"])
def test_the_key_is_the_one_that_cryptography_finds(certificate: bytes) -> None:
    assert public_key_of(certificate) == key(certificate)


def test_no_part_of_a_certificate_has_a_key() -> None:
    certificate = CHAIN[0]
    assert {public_key_of(certificate[:size]) for size in range(len(certificate))} == {None}
    assert public_key_of(certificate + b"\0") is None


def sequence(*elements: bytes, kind: int = 0x30) -> bytes:
    content = b"".join(elements)
    return bytes([kind, len(content)]) + content


ONE = b"\x02\x01\x01"
KEY = sequence(ONE)
FIELDS = (ONE, KEY, KEY, KEY, KEY)  # serialNumber, signature, issuer, validity, subject
VERSION = sequence(b"\x02\x01\x02", kind=0xA0)

STRUCTURES = [
    pytest.param(sequence(sequence(VERSION, *FIELDS, sequence(b"\4\1k"))), sequence(b"\4\1k"), id="version 3"),
    pytest.param(
        sequence(sequence(*FIELDS, sequence(b"\4\1k"))), sequence(b"\4\1k"), id="version 1, which is not said"
    ),
    pytest.param(sequence(sequence(*FIELDS, sequence(), ONE)), sequence(), id="more after it"),
    pytest.param(sequence(sequence(VERSION, *FIELDS)), None, id="no key"),
    pytest.param(sequence(sequence(*FIELDS)), None, id="no key in version 1"),
    pytest.param(sequence(sequence()), None, id="nothing in it"),
    pytest.param(sequence(), None, id="nothing at all"),
    pytest.param(sequence(sequence(VERSION, *FIELDS, ONE)), None, id="a number for a key"),
    pytest.param(sequence(ONE), None, id="a number for a body"),
    pytest.param(ONE, None, id="a number for a certificate"),
    pytest.param(b"\x30\x03\x30\x05\x02\x01\x01\x00", None, id="more inside than there is outside"),
    pytest.param(b"\x30\x05\x30\x03\x02\x05\x01", None, id="a field that is longer than all"),
    pytest.param(b"\x30\x08\x30\x03\x02\x02\x01" + b"\2\1\1", None, id="a field that is longer than its body"),
    pytest.param(b"\x30\x80\x30\x00\x00\x00", None, id="no length, X.690 section 8.1.3.6"),
    pytest.param(b"\x30\x81\x02\x30\x00", None, id="a length that is longer than it has to be"),
    pytest.param(b"\x30\x82\x00\x81" + bytes(129), None, id="a length with a zero in front"),
    pytest.param(b"\x30\x85\x01\x00\x00\x00\x00", None, id="a length of five octets"),
    pytest.param(b"\x3f\x22\x02\x30\x00", None, id="a type of many octets"),
    pytest.param(b"\x30", None, id="one octet"),
    pytest.param(b"", None, id="no octet"),
]


@pytest.mark.parametrize(("certificate", "found"), STRUCTURES)
def test_what_is_not_der_has_no_key(certificate: bytes, found: bytes | None) -> None:
    assert public_key_of(certificate) == found


@given(st.binary(max_size=80), st.integers(0, len(CHAIN[0])))
def test_nothing_that_is_shown_can_raise(junk: bytes, at: int) -> None:
    spoilt = CHAIN[0][:at] + junk + CHAIN[0][at + len(junk) :]
    public_key_of(junk)
    for selector in (0, 1):
        record = Tlsa(3, selector, 1, sha256(b"").digest())
        assert not record.matches(junk)
        assert not record.matches(spoilt)
        assert Dane([record]).unmet_by(Shown(HOST, spoilt, (spoilt, junk), verified=True))


# TLSA records.


def whole(octets: bytes) -> bytes:
    return octets


MATCHING: list[tuple[int, Callable[[bytes], bytes]]] = [
    (0, whole),
    (1, lambda octets: sha256(octets).digest()),
    (2, lambda octets: sha512(octets).digest()),
]
FORMS = [pytest.param(s, m, of, id=f"{s} {m}") for s in (0, 1) for m, of in MATCHING]


@pytest.mark.parametrize(("selector", "matching", "of"), FORMS)
def test_a_record_is_of_one_certificate(selector: int, matching: int, of: Callable[[bytes], bytes]) -> None:
    record = Tlsa(3, selector, matching, of(key(CHAIN[0]) if selector else CHAIN[0]))
    assert record.usable
    assert [record.matches(one) for one in CERTIFICATES] == [True, False, False, False]
    assert Tlsa.parse(f" 3 {selector}\t{matching} {record.data.hex(' ').upper()}\n") == record


@pytest.mark.parametrize(
    "text", ["", "3 1 1", "3 1 1 abc", "3 1 1 xyz", "3 1 abcd", "-3 1 1 ab", "3 1 1 a b\0", "٣ 1 1 ab", "3 1 1 ab;"]
)
def test_what_is_no_record_raises(text: str) -> None:
    with pytest.raises(ValueError, match=r"TLSA|hexadecimal"):
        Tlsa.parse(text)


DIGEST = sha256(CHAIN[0]).digest()
UNUSABLE = [
    pytest.param(Tlsa(0, 0, 1, DIGEST), id="usage 0, RFC 7672 section 3.1.3"),
    pytest.param(Tlsa(1, 0, 1, DIGEST), id="usage 1"),
    pytest.param(Tlsa(4, 0, 1, DIGEST), id="a usage that nobody defined"),
    pytest.param(Tlsa(3, 2, 1, DIGEST), id="a selector that nobody defined"),
    pytest.param(Tlsa(3, 0, 3, DIGEST), id="a matching type that nobody defined"),
    pytest.param(Tlsa(3, 0, 1, DIGEST[1:]), id="a digest that is too short"),
    pytest.param(Tlsa(3, 0, 2, DIGEST), id="a digest of another kind"),
    pytest.param(Tlsa(3, 0, 0, b""), id="nothing"),
]


@pytest.mark.parametrize("record", UNUSABLE)
def test_what_cannot_be_used_matches_nothing_and_makes_no_policy(record: Tlsa) -> None:
    assert not record.usable
    assert not record.matches(CHAIN[0])
    with pytest.raises(ValueError, match="no TLSA record is usable"):
        Dane([record])
    assert Dane([record, END]).records == (END,), "it does no harm beside others"


def test_no_record_at_all_is_no_policy() -> None:
    with pytest.raises(ValueError, match="no TLSA record is usable"):
        Dane([])


# DANE.

END = Tlsa(3, 1, 1, sha256(key(CHAIN[0])).digest())
END_OTHER = Tlsa(3, 1, 1, sha256(key(CERTIFICATES[3])).digest())
TRUST = Tlsa(2, 1, 1, sha256(key(CHAIN[1])).digest())
TRUST_ROOT = Tlsa(2, 0, 0, CHAIN[2])
TRUST_LEAF = Tlsa(2, 0, 1, sha256(CHAIN[0]).digest())

NOT_VERIFIED = "DANE: the certificate was not verified"
NO_MATCH = "DANE: no TLSA record matches what the server shows"
VERIFIED = Shown(HOST, CHAIN[0], CHAIN, verified=True)
BARE = Shown(HOST, CHAIN[0])
DANE = [
    pytest.param([END], BARE, None, id="an end entity that nobody verified"),
    pytest.param([END], VERIFIED, None, id="an end entity that was verified, too"),
    pytest.param([END], Shown("other.example", CHAIN[0]), None, id="the name of an end entity is nothing"),
    pytest.param([END_OTHER], VERIFIED, NO_MATCH, id="another end entity"),
    pytest.param([END_OTHER, END], BARE, None, id="one record is enough"),
    pytest.param([TRUST], VERIFIED, None, id="an authority in the middle"),
    pytest.param([TRUST_ROOT], VERIFIED, None, id="an authority at the end"),
    pytest.param([TRUST], BARE, NOT_VERIFIED, id="an authority that signed nothing that was verified"),
    pytest.param([TRUST], Shown(HOST, CHAIN[0], (CHAIN[0], CHAIN[2]), verified=True), NO_MATCH, id="another chain"),
    pytest.param([TRUST_LEAF], VERIFIED, NO_MATCH, id="the server's own certificate is no authority"),
    pytest.param([TRUST, END_OTHER], VERIFIED, NO_MATCH, id="of both usages the end entity decides"),
    pytest.param([TRUST, END], BARE, None, id="and needs no verification"),
    pytest.param([END], Shown(HOST, b""), NO_MATCH, id="nothing shown"),
]


@pytest.mark.parametrize(("records", "shown", "unmet"), DANE)
def test_one_record_has_to_match(records: list[Tlsa], shown: Shown, unmet: str | None) -> None:
    policy: TlsPolicy = Dane(records)
    assert policy.enforced
    assert policy.unmet_by_host(shown.hostname) is None
    assert policy.unmet_by(shown) == unmet


@pytest.mark.parametrize(
    ("records", "verifies", "authorities"),
    [
        ([END], False, ()),
        ([TRUST], True, ()),
        ([TRUST, TRUST_ROOT, TRUST_LEAF], True, (CHAIN[2],)),
        ([TRUST_ROOT, END], False, ()),
        ([Tlsa(2, 1, 0, key(CHAIN[2]))], True, ()),
    ],
    ids=["an end entity", "an authority by its digest", "an authority that is there", "both usages", "a key"],
)
def test_a_context_is_told_what_to_verify(records: list[Tlsa], verifies: bool, authorities: tuple[bytes, ...]) -> None:
    policy = Dane(iter(records))
    assert (policy.verifies, policy.authorities) == (verifies, authorities)


# MTA-STS.

HOSTS = ("mx.example.org", "*.backup.example")
NOT_NAMED = "MTA-STS: the policy does not name this host"
UNVERIFIED = "MTA-STS: the certificate was not verified"
ENFORCE, TESTING, NONE = MtaStsMode
STS = [
    (ENFORCE, "mx.example.org", True, None, None),
    ("enforce", "MX.example.ORG.", True, None, None),
    (ENFORCE, "a.backup.example", True, None, None),
    (ENFORCE, "a.b.backup.example", True, NOT_NAMED, NOT_NAMED),
    (ENFORCE, "backup.example", True, NOT_NAMED, NOT_NAMED),
    (ENFORCE, "mx.example.org", False, None, UNVERIFIED),
    (ENFORCE, "evil.example", False, NOT_NAMED, UNVERIFIED),
    (TESTING, "mx.example.org", False, None, None),
    (TESTING, "evil.example", False, NOT_NAMED, NOT_NAMED),
    (NONE, "evil.example", False, None, None),
]


@pytest.mark.parametrize(("mode", "host", "verified", "by_host", "unmet"), STS)
def test_a_host_is_named_and_verified(
    mode: MtaStsMode | str, host: str, verified: bool, by_host: str | None, unmet: str | None
) -> None:
    policy: TlsPolicy = MtaSts(HOSTS, mode)
    assert policy.enforced is policy.verifies is (mode == "enforce")
    assert policy.authorities == ()
    assert policy.unmet_by_host(host) == by_host
    assert policy.unmet_by(Shown(host, CHAIN[0], CHAIN if verified else (), verified=verified)) == unmet


def test_a_policy_that_makes_no_sense_raises() -> None:
    with pytest.raises(ValueError, match="names no host"):
        MtaSts(())
    with pytest.raises(ValueError, match="strict"):
        MtaSts(HOSTS, "strict")
    assert MtaSts((), "none").unmet_by_host(HOST) is None
