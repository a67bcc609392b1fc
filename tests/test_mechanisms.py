"""The mechanisms but SCRAM, both seats, alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpstate._errors import LocalProtocolError
from smtpstate._mechanisms import (
    BearerClient,
    BearerServer,
    CramMd5Client,
    ExternalServer,
    LinesClient,
    LoginServer,
    PlainServer,
)
from smtpstate._sasl import (
    CertificateGiven,
    Challenge,
    ClientMechanism,
    Credentials,
    Done,
    Failure,
    PasswordGiven,
    Respond,
    SaslFault,
    ServerMechanism,
    ServerStep,
    Success,
    TokenGiven,
)
from tests.sasl_dialogue import KEYS, converse

if TYPE_CHECKING:
    from collections.abc import Callable

MALFORMED = Failure(SaslFault.MALFORMED)
REFUSED = Failure(SaslFault.CREDENTIALS)
TOKEN = Credentials("user", token="token")


def plain(password: bytes = b"pencil", authzid: bytes = b"") -> LinesClient:
    return LinesClient("PLAIN", authzid + b"\0user\0" + password)


def login(password: bytes = b"pencil") -> LinesClient:
    return LinesClient("LOGIN", None, b"user", password)


# client, server, why
AGREEING: list[tuple[Callable[[], ClientMechanism], Callable[[], ServerMechanism], str]] = [
    (plain, PlainServer, "PLAIN"),
    (lambda: plain(authzid=b"user"), PlainServer, "PLAIN, for oneself"),
    (login, LoginServer, "LOGIN"),
    (lambda: LinesClient("LOGIN", b"user", b"pencil"), LoginServer, "LOGIN, the name at once"),
    (lambda: LinesClient("EXTERNAL", b""), lambda: ExternalServer(("user", "more")), "EXTERNAL, nobody named"),
    (lambda: LinesClient("EXTERNAL", b"user"), lambda: ExternalServer(("more", "user")), "EXTERNAL, the second"),
    (lambda: BearerClient("XOAUTH2", TOKEN), lambda: BearerServer("XOAUTH2"), "XOAUTH2"),
    (lambda: BearerClient("OAUTHBEARER", TOKEN), lambda: BearerServer("OAUTHBEARER"), "OAUTHBEARER"),
    (
        lambda: BearerClient("OAUTHBEARER", Credentials(token="token"), host="mx.example.org", port=587),
        lambda: BearerServer("OAUTHBEARER"),
        "OAUTHBEARER, and the token says who",
    ),
]


@pytest.mark.parametrize("withheld", [False, True])
@pytest.mark.parametrize(("client", "server", "why"), AGREEING, ids=[why for *_, why in AGREEING])
def test_both_seats_agree(
    client: Callable[[], ClientMechanism], server: Callable[[], ServerMechanism], why: str, withheld: bool
) -> None:
    one, other = client(), server()
    assert one.name == other.name
    assert converse(one, other, withheld=withheld) == (Success("user"), Done())


# client, server, how the client sees it, why
WRONG: list[tuple[ClientMechanism, ServerMechanism, Done | Failure, str]] = [
    (plain(b"pen"), PlainServer(), Done(), "PLAIN"),
    (login(b"pen"), LoginServer(), Done(), "LOGIN"),
    (
        BearerClient("XOAUTH2", Credentials("user", token="stale")),
        BearerServer("XOAUTH2"),
        Failure(SaslFault.UNVERIFIED),
        "XOAUTH2",
    ),
    (
        BearerClient("OAUTHBEARER", Credentials("user", token="stale")),
        BearerServer("OAUTHBEARER"),
        Failure(SaslFault.UNVERIFIED),
        "OAUTHBEARER",
    ),
]


@pytest.mark.parametrize(("client", "server", "end", "why"), WRONG, ids=[row[-1] for row in WRONG])
def test_what_is_not_right_fails(
    client: ClientMechanism, server: ServerMechanism, end: Done | Failure, why: str
) -> None:
    assert converse(client, server) == (REFUSED, end)
    with pytest.raises(LocalProtocolError, match="over"):
        server.step(b"")


# The server's seat.

# message, step, why
PLAIN: list[tuple[bytes, ServerStep, str]] = [
    (b"\0user\0pencil", PasswordGiven("", "user", "pencil"), "RFC 4616 section 4"),
    (b"user\0user\0pencil", PasswordGiven("", "user", "pencil"), "for oneself, spelled out"),
    (b"admin\0user\0pencil", Failure(SaslFault.AUTHZID), "for somebody else"),
    (b"\0user\0p", PasswordGiven("", "user", "p"), "a password of one character"),
    ("\0\u00fc\0p\u00df".encode(), PasswordGiven("", "\u00fc", "p\u00df"), "UTF-8"),
    ("\0us\u00ader\0pen\u00adcil".encode(), PasswordGiven("", "user", "pen\u00adcil"), "only the name is prepared"),
    (b"\0user\0" + b"p" * 255, PasswordGiven("", "user", "p" * 255), "the longest password"),
    (b"\0user\0" + b"p" * 256, MALFORMED, "a password that is too long"),
    (b"\0" + b"u" * 256 + b"\0pencil", MALFORMED, "a name that is too long"),
    (b"u" * 256 + b"\0user\0pencil", MALFORMED, "an authzid that is too long"),
    (b"", MALFORMED, "nothing"),
    (b"user", MALFORMED, "no NUL"),
    (b"user\0pencil", MALFORMED, "one NUL"),
    (b"\0user\0pencil\0", MALFORMED, "three NULs"),
    (b"\0\0pencil", MALFORMED, "no name"),
    (b"\0user\0", MALFORMED, "no password"),
    (b"\0\xff\0pencil", MALFORMED, "a name that is not UTF-8"),
    (b"\0user\0\xff", MALFORMED, "a password that is not UTF-8"),
    (b"\xff\0user\0pencil", MALFORMED, "an authzid that is not UTF-8"),
    (b"\0us\ner\0pencil", MALFORMED, "a name with a newline"),
]


@pytest.mark.parametrize(("message", "step", "why"), PLAIN, ids=[why for *_, why in PLAIN])
def test_plain_has_exactly_two_nuls(message: bytes, step: ServerStep, why: str) -> None:
    assert PlainServer().step(message) == step
    late = PlainServer()
    assert late.step(None) == Challenge(b"")
    assert late.step(message) == step


def test_somebody_else_is_the_applications_decision_where_that_is_allowed() -> None:
    it = PlainServer(allow_authzid=True)
    assert it.step(b"other\0admin\0pencil") == PasswordGiven("other", "admin", "pencil")
    assert it.answer("other") == Success("other")
    assert PlainServer(allow_authzid=True).step(b"user\0user\0x") == PasswordGiven("", "user", "x")


# messages, steps, why
LOGIN: list[tuple[list[bytes | None], list[ServerStep], str]] = [
    (
        [None, b"user", b"pencil"],
        [Challenge(b"Username:"), Challenge(b"Password:"), PasswordGiven("", "user", "pencil")],
        "two prompts",
    ),
    ([b"user", b"pencil"], [Challenge(b"Password:"), PasswordGiven("", "user", "pencil")], "the name at once"),
    ([b"", b"pencil"], [Challenge(b"Password:"), MALFORMED], "no name"),
    ([b"user", b""], [Challenge(b"Password:"), MALFORMED], "no password"),
    ([b"user", b"a\0b"], [Challenge(b"Password:"), MALFORMED], "NUL in the password"),
    ([b"\xff", b"pencil"], [Challenge(b"Password:"), MALFORMED], "a name that is not UTF-8"),
]


@pytest.mark.parametrize(("messages", "steps", "why"), LOGIN, ids=[why for *_, why in LOGIN])
def test_login_asks_for_what_is_missing(messages: list[bytes | None], steps: list[ServerStep], why: str) -> None:
    it = LoginServer()
    assert [it.step(message) for message in messages] == steps


# message, step, why
EXTERNAL: list[tuple[bytes, ServerStep, str]] = [
    (b"", CertificateGiven("user"), "the certificate says it"),
    (b"user", CertificateGiven("user"), "the same, spelled out"),
    (b"alias", CertificateGiven("alias"), "the certificate has two names"),
    (b"admin", Failure(SaslFault.AUTHZID), "somebody else"),
    (b"\xff", MALFORMED, "not UTF-8"),
]


@pytest.mark.parametrize(("message", "step", "why"), EXTERNAL, ids=[why for *_, why in EXTERNAL])
def test_external_takes_whom_the_certificate_names(message: bytes, step: ServerStep, why: str) -> None:
    it = ExternalServer(("user", "alias"))
    assert it.step(None) == Challenge(b"")
    assert it.step(message) == step
    with pytest.raises(LocalProtocolError, match="waits" if isinstance(step, CertificateGiven) else "over"):
        it.step(message)


@pytest.mark.parametrize(
    ("found", "step"), [("joe", Success("joe")), (None, Failure(SaslFault.CREDENTIALS))], ids=["somebody", "nobody"]
)
def test_a_name_in_a_certificate_is_whom_the_application_says(found: str | None, step: ServerStep) -> None:
    it = ExternalServer(("joe@example.org",))
    assert it.step(b"") == CertificateGiven("joe@example.org")
    assert it.answer(found) == step
    with pytest.raises(LocalProtocolError, match="over"):
        it.step(b"")


@pytest.mark.parametrize("identities", [(), ("",), ("user", "")])
def test_external_without_a_name_is_the_callers_mistake(identities: tuple[str, ...]) -> None:
    with pytest.raises(LocalProtocolError):
        ExternalServer(identities)


# mechanism, message, step, why
BEARER: list[tuple[str, bytes, ServerStep, str]] = [
    ("XOAUTH2", b"user=u\x01auth=Bearer t\x01\x01", TokenGiven("u", "t"), "as it should be"),
    ("XOAUTH2", b"user=u\x01auth=bearer  t\x01\x01", TokenGiven("u", "t"), "any case, two spaces"),
    ("XOAUTH2", b"user=\x01auth=Bearer t\x01\x01", MALFORMED, "no name"),
    ("XOAUTH2", b"user=\xff\x01auth=Bearer t\x01\x01", MALFORMED, "a name that is not UTF-8"),
    ("XOAUTH2", b"user=u\x01auth=Bearer \x01\x01", MALFORMED, "no token"),
    ("XOAUTH2", b"user=u\x01auth=Bearer t\x01", MALFORMED, "one ^A too few"),
    ("XOAUTH2", b"user=u\x01auth=Basic t\x01\x01", MALFORMED, "another scheme"),
    ("XOAUTH2", b"user=u\x01auth=Bearer \xff\x01\x01", MALFORMED, "a token that is not ASCII"),
    ("XOAUTH2", b"", MALFORMED, "nothing"),
    ("OAUTHBEARER", b"n,a=u,\x01auth=Bearer t\x01\x01", TokenGiven("u", "t"), "as it should be"),
    ("OAUTHBEARER", b"y,a=u=2Cv,\x01auth=bearer t\x01\x01", TokenGiven("u,v", "t"), "an escape, any case"),
    ("OAUTHBEARER", b"n,,\x01auth=Bearer t\x01\x01", TokenGiven("", "t"), "the token says who"),
    (
        "OAUTHBEARER",
        b"n,a=u,\x01host=h\x01port=1\x01auth=Bearer t\x01x=y\x01\x01",
        TokenGiven("u", "t"),
        "RFC 7628 section 4.1: other pairs",
    ),
    ("OAUTHBEARER", b"p=tls-exporter,,\x01auth=Bearer t\x01\x01", MALFORMED, "there is no -PLUS"),
    ("OAUTHBEARER", b"n,a=,\x01auth=Bearer t\x01\x01", MALFORMED, "an empty name"),
    ("OAUTHBEARER", b"n,a=\xff,\x01auth=Bearer t\x01\x01", MALFORMED, "a name that is not UTF-8"),
    ("OAUTHBEARER", b"n,,\x01auth=Bearer t\x01auth=Bearer s\x01\x01", MALFORMED, "two tokens"),
    ("OAUTHBEARER", b"n,,\x01host=h\x01\x01", MALFORMED, "no token"),
    ("OAUTHBEARER", b"n,,\x01auth=\x01\x01", MALFORMED, "an empty token"),
    ("OAUTHBEARER", b"n,,\x01auth=Bearer t\x01", MALFORMED, "one ^A too few"),
    ("OAUTHBEARER", b"\x01", MALFORMED, "an answer to nothing"),
]


@pytest.mark.parametrize(("name", "message", "step", "why"), BEARER, ids=[f"{row[0]} {row[-1]}" for row in BEARER])
def test_a_token_is_read_as_its_grammar_has_it(name: str, message: bytes, step: ServerStep, why: str) -> None:
    it = BearerServer(name)
    assert it.step(None) == Challenge(b"")
    assert it.step(message) == step


@pytest.mark.parametrize("end", [b"", b"\x01", b"anything", None])
def test_a_bad_token_is_explained_and_then_refused(end: bytes | None) -> None:
    it = BearerServer("OAUTHBEARER", error=b'{"status":"insufficient_scope"}')
    it.step(b"n,,\x01auth=Bearer t\x01\x01")
    assert it.answer(None) == Challenge(b'{"status":"insufficient_scope"}')
    assert it.step(end) == REFUSED


@pytest.mark.parametrize(
    ("it", "messages"),
    [
        (PlainServer(), [b"\0user\0pencil"]),
        (LoginServer(), [b"user", b"pencil"]),
        (BearerServer("XOAUTH2"), [b"user=u\x01auth=Bearer t\x01\x01"]),
        (ExternalServer(("user",)), [b"user"]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_an_answer_out_of_turn_is_the_callers_mistake(it: ServerMechanism, messages: list[bytes]) -> None:
    for message in messages:
        with pytest.raises(LocalProtocolError, match="asked"):
            it.answer("user")
        it.step(message)
    with pytest.raises(LocalProtocolError, match="waits"):
        it.step(b"")
    for wrong in ("", KEYS):
        with pytest.raises(LocalProtocolError, match="identity"):
            it.answer(wrong)
    assert it.answer("user") == Success("user")
    with pytest.raises(LocalProtocolError, match="asked"):
        it.answer("user")


# The client's seat.


def test_a_client_does_not_read_prompts() -> None:
    it = login()
    assert [it.step(prompt) for prompt in (None, b"Kto tam?", b"\xff")] == [
        Respond(None),
        Respond(b"user"),
        Respond(b"pencil"),
    ]
    assert it.concluded() == Done()
    assert it.step(b"And your PIN?") == Failure(SaslFault.UNEXPECTED)


def test_a_success_before_the_password_is_a_failure() -> None:
    it = login()
    it.step(None)
    it.step(b"Username:")
    assert it.concluded() == Failure(SaslFault.UNVERIFIED)


def test_cram_md5_says_what_rfc_2195_says() -> None:
    it = CramMd5Client(Credentials("tim", "tanstaaftanstaaf"))
    assert it.name == "CRAM-MD5"
    assert it.step(None) == Respond(None)
    assert it.concluded() == Failure(SaslFault.UNVERIFIED)
    challenge = b"<1896.697170952@postoffice.reston.mci.net>"
    assert it.step(challenge) == Respond(b"tim b913a602c7eda7a495b4e6e7334d3890")
    assert it.concluded() == Done()
    assert it.step(challenge) == Failure(SaslFault.UNEXPECTED)


# mechanism, user, host, port, opening, why
OPENINGS = [
    ("XOAUTH2", "u", "", 0, b"user=u\x01auth=Bearer token\x01\x01", "XOAUTH2"),
    ("OAUTHBEARER", "u", "", 0, b"n,a=u,\x01auth=Bearer token\x01\x01", "OAUTHBEARER"),
    ("OAUTHBEARER", "", "", 25, b"n,,\x01auth=Bearer token\x01\x01", "nobody named"),
    ("OAUTHBEARER", "u,v", "h", 0, b"n,a=u=2Cv,\x01host=h\x01auth=Bearer token\x01\x01", "a host, an escape"),
    ("OAUTHBEARER", "u", "h", 25, b"n,a=u,\x01host=h\x01port=25\x01auth=Bearer token\x01\x01", "host and port"),
]


@pytest.mark.parametrize(
    ("name", "username", "host", "port", "opening", "why"), OPENINGS, ids=[row[-1] for row in OPENINGS]
)
def test_a_token_is_written_as_its_grammar_has_it(
    name: str, username: str, host: str, port: int, opening: bytes, why: str
) -> None:
    it = BearerClient(name, Credentials(username, token="token"), host=host, port=port)
    assert it.step(None) == Respond(opening)


@pytest.mark.parametrize(("name", "answer"), [("XOAUTH2", b""), ("OAUTHBEARER", b"\x01")])
def test_what_the_server_says_about_a_bad_token_is_kept_and_acknowledged(name: str, answer: bytes) -> None:
    it = BearerClient(name, TOKEN)
    assert it.concluded() == Failure(SaslFault.UNVERIFIED)
    it.step(None)
    assert it.error is None
    assert it.step(b'{"status":"401"}') == Respond(answer)
    assert it.error == b'{"status":"401"}'
    assert it.concluded() == Failure(SaslFault.UNVERIFIED)
    assert it.step(b"") == Failure(SaslFault.UNEXPECTED)


@pytest.mark.parametrize("host", ["mx\u00e9.example", "mx\x01auth=Bearer other"])
def test_a_host_name_is_ascii(host: str) -> None:
    with pytest.raises(LocalProtocolError):
        BearerClient("OAUTHBEARER", TOKEN, host=host)


def test_a_client_without_a_password_or_a_token_sends_none() -> None:
    """`choose()` does not make such a one; it harms nobody."""
    assert BearerClient("XOAUTH2", Credentials("u")).step(None) == Respond(b"user=u\x01auth=Bearer \x01\x01")
    it = CramMd5Client(Credentials("u"))
    it.step(None)
    assert isinstance(it.step(None), Respond)


# Whatever comes.

near = st.sampled_from([b"\0", b"\x01", b"user", b"user=", b"auth=Bearer ", b"n,", b"a=", b",", b"=2C", b"\xff"])
messages = st.lists(near | st.binary(max_size=20), max_size=8).map(b"".join)

SERVERS: list[Callable[[], ServerMechanism]] = [
    PlainServer,
    LoginServer,
    lambda: ExternalServer(("user",)),
    lambda: BearerServer("XOAUTH2"),
    lambda: BearerServer("OAUTHBEARER"),
]
CLIENTS: list[Callable[[], ClientMechanism]] = [
    plain,
    login,
    lambda: BearerClient("OAUTHBEARER", TOKEN),
    lambda: CramMd5Client(Credentials("user", "pencil")),
]


@given(st.sampled_from(SERVERS), st.lists(st.none() | messages, max_size=5), st.sampled_from(["user", None]))
def test_nothing_a_client_sends_can_raise(
    make: Callable[[], ServerMechanism], lines: list[bytes | None], found: str | None
) -> None:
    it = make()
    for line in lines:
        step = it.step(line)
        if isinstance(step, PasswordGiven | TokenGiven):
            assert step.username or it.name == "OAUTHBEARER"
            step = it.answer(found)
        if not isinstance(step, Challenge):
            break


@given(st.sampled_from(CLIENTS), st.lists(messages, max_size=5))
def test_nothing_a_server_sends_can_raise(make: Callable[[], ClientMechanism], lines: list[bytes]) -> None:
    it = make()
    it.step(None)
    for line in lines:
        it.step(line)
    it.concluded()
