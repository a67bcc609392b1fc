"""The vocabulary of SASL, alone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpstate._errors import LocalProtocolError
from smtpstate._sasl import SASLNAME, Stage, certificate_names, read_saslname, require_turn, write_saslname
from smtpstate.sasl import Credentials, Failure, PasswordGiven, Respond, SaslFault, TokenGiven, read_name


@pytest.mark.parametrize("fault", SaslFault)
def test_the_peer_is_told_that_it_failed_and_not_why(fault: SaslFault) -> None:
    expected = "501 5.5.2" if fault is SaslFault.MALFORMED else "535 5.7.8"
    assert str(Failure(fault).reply).startswith(expected)


def test_secrets_do_not_print() -> None:
    shown = repr(
        (
            Credentials("user", "pencil", "pencil"),
            PasswordGiven("", "user", "pencil"),
            TokenGiven("user", "pencil"),
            Respond(b"pencil"),
        )
    )
    assert "user" in shown
    assert "pencil" not in shown


# username, password, token, authzid, why
UNUSABLE = [
    ("a\0b", None, None, "", "NUL in the name: PLAIN's separator"),
    ("a\x01b", None, None, "", "^A in the name: XOAUTH2's separator"),
    ("a\r\nb", None, None, "", "a newline in the name"),
    ("\ud800", None, None, "", "a surrogate in the name"),
    ("u" * 256, None, None, "", "a name that is too long"),
    ("\u00e9" * 128, None, None, "", "a name of 256 octets"),
    ("user", None, None, "a\0b", "NUL in the authzid"),
    ("user", None, None, "u" * 256, "an authzid that is too long"),
    ("user", "", None, "", "an empty password"),
    ("user", "a\0b", None, "", "NUL in the password"),
    ("user", "\udfff", None, "", "a surrogate in the password"),
    ("user", "p" * 8193, None, "", "a password that no line can carry"),
    ("user", None, "", "", "an empty token"),
    ("user", None, "a b", "", "a space in the token"),
    ("user", None, "a\x01auth=Bearer b", "", "a separator in the token"),
    ("user", None, "token\n", "", "a newline after the token"),
]


@pytest.mark.parametrize(
    ("username", "password", "token", "authzid", "why"), UNUSABLE, ids=[row[-1] for row in UNUSABLE]
)
def test_credentials_that_no_mechanism_can_carry_are_refused(
    username: str, password: str | None, token: str | None, authzid: str, why: str
) -> None:
    with pytest.raises(LocalProtocolError):
        Credentials(username, password, token, authzid)


def test_the_longest_credentials_are_allowed() -> None:
    assert Credentials("u" * 255, "p" * 8192, "t" * 9000, "a" * 255, certificate=True).certificate


# octets, name, why
NAMES = [
    (b"user", "user", "as it is"),
    (b"u" * 255, "u" * 255, "the longest"),
    (b"u" * 256, None, "one octet too long"),
    (b"", None, "nothing"),
    ("\u00ad".encode(), None, "nothing is left"),
    (b"\xff", None, "not UTF-8"),
    (b"\xed\xa0\x80", None, "a surrogate"),
    (b"a\0", None, "NUL"),
    (b"a\n", None, "a newline, for somebody's log"),
    ("\u2028".encode(), None, "a line separator"),
    ("u\u0308".encode(), "\u00fc", "one user has one name"),
]


@pytest.mark.parametrize(("octets", "name", "why"), NAMES, ids=[why for *_, why in NAMES])
def test_a_name_is_prepared_or_none(octets: bytes, name: str | None, why: str) -> None:
    assert read_name(octets) == name


def test_no_authzid_is_the_empty_one() -> None:
    assert read_saslname(None) == ""
    assert read_saslname(b"\xff") is None


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=60))
def test_a_saslname_comes_back(name: str) -> None:
    wire = write_saslname(name)
    assert re.fullmatch(SASLNAME, wire)
    assert read_saslname(wire) == name


@given(st.binary())
def test_no_octets_in_place_of_a_name_raise(data: bytes) -> None:
    read_name(data)
    read_saslname(data)


@pytest.mark.parametrize("stage", Stage)
def test_only_the_caller_can_be_out_of_turn(stage: Stage) -> None:
    if stage in (Stage.OWED, Stage.OVER):
        with pytest.raises(LocalProtocolError):
            require_turn(stage)
    else:
        require_turn(stage)


@pytest.mark.parametrize(
    ("alternatives", "subject", "names", "reason"),
    [
        ((("email", "joe@example.org"),), ((("commonName", "x"),),), ("joe@example.org",), "an e-mail address"),
        ((("DNS", "a.org"), ("email", "j@a.org"), ("email", "j@a.org")), None, ("j@a.org", "a.org"), "addresses first"),
        ((("IP Address", "192.0.2.1"),), ((("countryName", "x"),), (("commonName", "joe"),)), ("joe",), "nothing else"),
        (None, ((("commonName", "joe"), ("commonName", "ann")),), ("joe", "ann"), "two in one part"),
        (None, None, (), "nothing at all"),
        ((("email", "j\0@a.org"), ("email", ""), ("email", "x" * 256)), None, (), "no user has such a name"),
        ((("email", "j\u00ad@a.org"),), None, ("j@a.org",), "prepared, RFC 4013"),
    ],
)
def test_a_certificate_names_whom_it_names(
    alternatives: Any, subject: Any, names: tuple[str, ...], reason: str
) -> None:
    assert certificate_names({"subjectAltName": alternatives, "subject": subject}) == names, reason
