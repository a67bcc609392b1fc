"""Which mechanism a client takes and a server makes."""

from __future__ import annotations

import pytest

from smtpstate._choice import SERVER_MECHANISMS, announced, choose, server_mechanism
from smtpstate._errors import LocalProtocolError
from smtpstate._sasl import Challenge, Credentials, Done, Failure, Respond, SaslFault, Success
from tests.sasl_dialogue import BINDING, NONCE, SECRET, SERVER_NONCE, converse

EVERYTHING = Credentials("user", "pencil", "token", certificate=True)
PASSWORD = Credentials("user", "pencil")
TOKEN = Credentials("user", token="token")
ORDER = [
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
]
ALL = (*ORDER, "NTLM", "GSSAPI", "X")


def name_of(
    offered: tuple[str, ...],
    credentials: Credentials,
    *,
    secure: bool = True,
    in_clear: bool = False,
    bound: bool = False,
    among: tuple[str, ...] | None = None,
) -> str | None:
    bindings = (BINDING,) if bound else ()
    it = choose(offered, credentials, nonce=NONCE, secure=secure, in_clear=in_clear, bindings=bindings, among=among)
    return None if it is None else it.name


@pytest.mark.parametrize("weakest", range(len(ORDER)))
def test_the_strongest_is_taken(weakest: int) -> None:
    assert name_of(tuple(reversed(ORDER[weakest:])), EVERYTHING, bound=True) == ORDER[weakest]


# offered, credentials, secure, in clear, bound, among, name, why
CHOICES: list[tuple[tuple[str, ...], Credentials, bool, bool, bool, tuple[str, ...] | None, str | None, str]] = [
    ((), EVERYTHING, True, False, False, None, None, "nothing offered"),
    (("NTLM", "GSSAPI"), EVERYTHING, True, False, False, None, None, "nothing that we know"),
    (ALL, PASSWORD, True, False, False, None, "SCRAM-SHA-256", "no binding, no -PLUS"),
    (ALL, PASSWORD, False, False, True, None, "SCRAM-SHA-256", "no TLS, no -PLUS"),
    (("plain", "scram-sha-256"), PASSWORD, True, False, False, None, "SCRAM-SHA-256", "lower case"),
    (ALL, TOKEN, True, False, True, None, "OAUTHBEARER", "a token and no password"),
    (("XOAUTH2", "PLAIN"), TOKEN, True, False, False, None, "XOAUTH2", "the older token mechanism"),
    (("PLAIN", "LOGIN"), TOKEN, True, False, False, None, None, "a token is not a password"),
    (("XOAUTH2",), PASSWORD, True, False, False, None, None, "a password is not a token"),
    (("XOAUTH2", "OAUTHBEARER"), Credentials(token="t"), True, False, False, None, "OAUTHBEARER", "a nameless token"),
    (("XOAUTH2", "PLAIN"), Credentials(token="t"), True, False, False, None, None, "XOAUTH2 needs a name"),
    (("EXTERNAL",), PASSWORD, True, False, False, None, None, "no certificate"),
    (("EXTERNAL",), Credentials(certificate=True), True, False, False, None, "EXTERNAL", "a certificate is enough"),
    (("EXTERNAL",), EVERYTHING, False, True, False, None, None, "no certificate was shown without TLS"),
    (("PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"), EVERYTHING, False, False, False, None, None, "secrets in clear"),
    (("PLAIN", "LOGIN"), PASSWORD, False, True, False, None, "PLAIN", "secrets in clear, and told so"),
    (("CRAM-MD5", "PLAIN"), PASSWORD, False, False, False, None, "CRAM-MD5", "shows no secret"),
    (("SCRAM-SHA-1", "PLAIN"), PASSWORD, False, False, False, None, "SCRAM-SHA-1", "shows no secret"),
    (ALL, EVERYTHING, True, False, True, ("login",), "LOGIN", "one that the user names"),
    (("PLAIN",), PASSWORD, True, False, False, ("SCRAM-SHA-256",), None, "the user's is not offered"),
    (("CRAM-MD5", "LOGIN", "PLAIN"), Credentials("a", "p", authzid="b"), True, False, False, None, "PLAIN", "authzid"),
    (("LOGIN",), Credentials("a", "p", authzid="b"), True, False, False, None, None, "no mechanism says the authzid"),
    (("SCRAM-SHA-256", "PLAIN"), Credentials("a", "\u200e"), True, False, False, None, "PLAIN", "no SASLprep"),
]


@pytest.mark.parametrize(
    ("offered", "credentials", "secure", "in_clear", "bound", "among", "name", "why"),
    CHOICES,
    ids=[row[-1] for row in CHOICES],
)
def test_what_fits_is_taken(
    offered: tuple[str, ...],
    credentials: Credentials,
    secure: bool,
    in_clear: bool,
    bound: bool,
    among: tuple[str, ...] | None,
    name: str | None,
    why: str,
) -> None:
    found = name_of(offered, credentials, secure=secure, in_clear=in_clear, bound=bound, among=among)
    assert found == name


# offered, bound, secure, flag, why
FLAGS = [
    (("SCRAM-SHA-256",), False, True, b"n", "we cannot bind"),
    (("SCRAM-SHA-256",), True, True, b"y", "we could, and nobody offered"),
    (("SCRAM-SHA-256",), True, False, b"n", "without TLS there is nothing to bind to"),
    (("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"), False, True, b"n", "it was offered, and we cannot"),
    (("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"), True, True, b"p=tls-exporter", "both can"),
    (("SCRAM-SHA-256", "SCRAM-SHA-512-PLUS"), True, True, b"n", "one was offered that we do not know"),
]


@pytest.mark.parametrize(("offered", "bound", "secure", "flag", "why"), FLAGS, ids=[row[-1] for row in FLAGS])
def test_the_flag_is_honest(offered: tuple[str, ...], bound: bool, secure: bool, flag: bytes, why: str) -> None:
    it = choose(offered, PASSWORD, nonce=NONCE, secure=secure, bindings=(BINDING,) if bound else ())
    assert it is not None
    step = it.step(None)
    assert isinstance(step, Respond)
    assert step.data is not None
    assert step.data.startswith(flag + b",,")


# name, credentials, initial response, why
OPENINGS = [
    ("PLAIN", PASSWORD, b"\0user\0pencil", "PLAIN"),
    ("PLAIN", Credentials("a", "p", authzid="b"), b"b\0a\0p", "PLAIN for somebody else"),
    ("LOGIN", PASSWORD, None, "LOGIN waits"),
    ("EXTERNAL", EVERYTHING, b"", "EXTERNAL"),
    ("EXTERNAL", Credentials(authzid="b", certificate=True), b"b", "EXTERNAL for somebody"),
    ("CRAM-MD5", PASSWORD, None, "CRAM-MD5"),
    ("XOAUTH2", TOKEN, b"user=user\x01auth=Bearer token\x01\x01", "XOAUTH2"),
    ("OAUTHBEARER", TOKEN, b"n,a=user,\x01host=h\x01port=1\x01auth=Bearer token\x01\x01", "OAUTHBEARER"),
]


@pytest.mark.parametrize(("name", "credentials", "opening", "why"), OPENINGS, ids=[row[-1] for row in OPENINGS])
def test_a_mechanism_opens_with(name: str, credentials: Credentials, opening: bytes | None, why: str) -> None:
    it = choose((name,), credentials, nonce=NONCE, secure=True, host="h", port=1)
    assert it is not None
    assert it.name == name
    assert it.step(None) == Respond(opening)


@pytest.mark.parametrize("name", SERVER_MECHANISMS)
def test_what_a_server_makes_and_a_client_chooses_agree(name: str) -> None:
    server = server_mechanism(
        name,
        offered=SERVER_MECHANISMS,
        nonce=SERVER_NONCE,
        secret=SECRET,
        bindings=(BINDING,),
        identities=("user",),
    )
    client = choose(SERVER_MECHANISMS, EVERYTHING, nonce=NONCE, secure=True, bindings=(BINDING,), among=(name,))
    assert client is not None
    assert client.name == server.name == name
    assert converse(client, server) == (Success("user"), Done())


def test_a_server_that_offered_plus_finds_out_that_it_was_hidden() -> None:
    server = server_mechanism(
        "SCRAM-SHA-256", offered=SERVER_MECHANISMS, nonce=SERVER_NONCE, secret=SECRET, bindings=(BINDING,)
    )
    client = choose(("SCRAM-SHA-256",), PASSWORD, nonce=NONCE, secure=True, bindings=(BINDING,))
    assert client is not None
    assert converse(client, server)[0] == Failure(SaslFault.DOWNGRADE)


def test_the_servers_settings_reach_the_mechanism() -> None:
    server = server_mechanism(
        "SCRAM-SHA-256", offered=("SCRAM-SHA-256",), nonce=NONCE, secret=SECRET, iterations=5000, allow_authzid=True
    )
    server.step(b"n,a=b,n=a,r=x")
    step = server.answer(None)
    assert isinstance(step, Challenge)
    assert step.data.endswith(b",i=5000")


@pytest.mark.parametrize("name", ["PLAIN", "NTLM"])
def test_a_server_makes_only_what_it_offered_and_knows(name: str) -> None:
    with pytest.raises(LocalProtocolError):
        server_mechanism(name, offered=("LOGIN", "NTLM"), nonce=NONCE, secret=SECRET)


def test_a_server_announces_what_this_connection_can_do() -> None:
    names = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "EXTERNAL", "PLAIN")
    assert announced(names, bindings=(BINDING,), identities=("user",)) == names
    assert announced(names, bindings=(), identities=()) == ("SCRAM-SHA-256", "PLAIN")
