"""SCRAM, both seats, alone: the vectors of the RFCs, then every way in which it fails."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpstate._errors import LocalProtocolError
from smtpstate._keys import ChannelBinding, ScramKeys, WorkNeeded, decode_base64, encode_base64, password_work
from smtpstate._sasl import (
    Challenge,
    Credentials,
    Done,
    Failure,
    KeysNeeded,
    Respond,
    SaslFault,
    ServerStep,
    Success,
)
from smtpstate._scram import ScramClient, ScramServer
from tests.sasl_dialogue import BINDING, KEYS, NONCE, SECRET, SERVER_NONCE, Asked, converse, respond

USER = Credentials("user", "pencil")

# RFC 7677 section 3.
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
FINAL = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

# RFC 5802 section 5: client's and server's lines in turn.
SHA1 = (
    b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
    b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
    b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
    b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
)


def vector_keys() -> ScramKeys:
    salt = decode_base64(b"W22ZaJ0SNY7soEsUEjb6gQ==")
    assert salt is not None
    work = password_work("pencil", salt)
    return ScramKeys.derive(work, work.run())


VECTOR_KEYS = vector_keys()


def server(
    *, plus: bool = False, plus_offered: bool = False, allow_authzid: bool = False, nonce: str = SERVER_NONCE
) -> ScramServer:
    return ScramServer(
        nonce=nonce,
        secret=SECRET,
        bindings=(BINDING, ChannelBinding("empty", b"")),
        plus=plus,
        plus_offered=plus_offered,
        allow_authzid=allow_authzid,
    )


def client(*, nonce: str = NONCE, binding: ChannelBinding | None = None, could_bind: bool = False) -> ScramClient:
    return ScramClient(USER, nonce=nonce, binding=binding, could_bind=could_bind)


def asked() -> ScramServer:
    """A server that has sent its first message."""
    it = server()
    assert it.step(FIRST) == KeysNeeded("user", "")
    assert it.answer(VECTOR_KEYS) == Challenge(SERVER_FIRST)
    return it


def proving() -> ScramClient:
    """A client that has sent its proof."""
    it = client()
    assert it.step(None) == Respond(FIRST)
    assert respond(it, SERVER_FIRST) == Respond(FINAL)
    return it


# The vectors.


def test_the_server_says_what_rfc_7677_says() -> None:
    it = asked()
    assert it.step(FINAL) == Challenge(SERVER_FINAL)
    assert it.step(b"") == Success("user")


def test_the_client_says_what_rfc_7677_says() -> None:
    it = proving()
    assert it.step(SERVER_FINAL) == Respond(b"")
    assert it.concluded() == Done()


def test_the_client_says_what_rfc_5802_says() -> None:
    it = ScramClient(USER, nonce="fyko+d2lbbFgONRv9qkxdawL", hash_name="sha1")
    assert it.name == "SCRAM-SHA-1"
    assert it.step(None) == Respond(SHA1[0])
    assert respond(it, SHA1[1]) == Respond(SHA1[2])
    assert it.step(SHA1[3]) == Respond(b"")
    assert it.concluded() == Done()


# Both.


@pytest.mark.parametrize(("plus", "withheld"), list(product([False, True], repeat=2)))
def test_both_seats_agree(plus: bool, withheld: bool) -> None:
    one = client(binding=BINDING if plus else None)
    other = server(plus=plus, plus_offered=plus)
    assert one.name == other.name == ("SCRAM-SHA-256-PLUS" if plus else "SCRAM-SHA-256")
    assert converse(one, other, withheld=withheld) == (Success("user"), Done())


@pytest.mark.parametrize("credentials", [Credentials("user", "pen"), Credentials("nobody", "pencil")], ids=str)
def test_a_wrong_password_and_a_wrong_name_fail_alike(credentials: Credentials) -> None:
    outcome = converse(ScramClient(credentials, nonce=NONCE), server())
    assert outcome == (Failure(SaslFault.CREDENTIALS), Failure(SaslFault.UNVERIFIED))


def test_nobody_gets_a_salt_that_stays_the_same() -> None:
    challenges: list[ServerStep] = []
    for name in (b"nobody", b"nobody", b"noone"):
        it = server()
        it.step(b"n,,n=%b,r=%b" % (name, NONCE.encode()))
        challenges.append(it.answer(None))
    assert challenges[0] == challenges[1] != challenges[2]
    assert isinstance(challenges[0], Challenge)
    assert challenges[0].data.endswith(b"==,i=4096")


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40),
)
def test_any_name_and_password_work_or_cannot_be_used(name: str, password: str) -> None:
    try:
        one = ScramClient(Credentials(name, password), nonce=NONCE)
        work = password_work(password, b"salt")
    except LocalProtocolError:
        return

    def decide(step: Asked) -> ScramKeys:
        assert isinstance(step, KeysNeeded)
        return ScramKeys.derive(work, work.run())

    end, other_end = converse(one, server(), decide)
    assert isinstance(end, Success)
    assert other_end == Done()


def test_one_may_act_for_another_where_that_is_allowed() -> None:
    one = ScramClient(Credentials("admin", "pencil", authzid="o=u,ser"), nonce=NONCE)
    assert converse(one, server(allow_authzid=True)) == (Success("o=u,ser"), Done())


def test_an_application_is_asked_about_both_names() -> None:
    assert server(allow_authzid=True).step(b"n,a=other,n=user,r=x") == KeysNeeded("user", "other")


# The server's seat.

# flag, plus, plus offered, fault, why
FLAGS = [
    (b"n", False, False, None, "a client that cannot bind"),
    (b"n", False, True, None, "a client that cannot bind is welcome where others do"),
    (b"y", False, False, None, "nothing was offered, and the client knows it"),
    (b"y", False, True, SaslFault.DOWNGRADE, "somebody took -PLUS out of the EHLO reply"),
    (b"y", True, True, SaslFault.DOWNGRADE, "-PLUS was asked for, and not known to be offered"),
    (b"n", True, True, SaslFault.BINDING, "-PLUS without a binding"),
    (b"p=tls-exporter", True, True, None, "bound"),
    (b"p=tls-unique", True, True, SaslFault.BINDING, "a binding that we do not have"),
    (b"p=empty", True, True, SaslFault.BINDING, "a binding that binds nothing"),
    (b"p=tls-exporter", False, True, SaslFault.BINDING, "a binding without -PLUS"),
    (b"p=", True, True, SaslFault.MALFORMED, "a binding without a name"),
    (b"x", False, False, SaslFault.MALFORMED, "no such flag"),
]


@pytest.mark.parametrize(("flag", "plus", "offered", "fault", "why"), FLAGS, ids=[row[-1] for row in FLAGS])
def test_the_flag_must_fit_what_was_offered(
    flag: bytes, plus: bool, offered: bool, fault: SaslFault | None, why: str
) -> None:
    step = server(plus=plus, plus_offered=offered).step(flag + b",,n=user,r=abc")
    assert step == (KeysNeeded("user", "") if fault is None else Failure(fault))


# client-first, fault, why
FIRSTS = [
    (b"", SaslFault.MALFORMED, "nothing"),
    (b"n,,n=user", SaslFault.MALFORMED, "no nonce"),
    (b"n,,n=user,r=", SaslFault.MALFORMED, "an empty nonce"),
    (b"n,,n=user,r=a b", SaslFault.MALFORMED, "a nonce with a space"),
    (b"n,,n=,r=abc", SaslFault.MALFORMED, "no name"),
    (b"n,,n=us=er,r=abc", SaslFault.MALFORMED, "an equals sign not spelled =3D"),
    (b"n,,n=us=2Fer,r=abc", SaslFault.MALFORMED, "an escape that is none"),
    (b"n,,m=x,n=user,r=abc", SaslFault.MALFORMED, "a mandatory extension"),
    (b"n,,n=\xff,r=abc", SaslFault.MALFORMED, "a name that is not UTF-8"),
    (b"n,,n=a\x07,r=abc", SaslFault.MALFORMED, "a name with a control"),
    (b"n,,n=" + b"u" * 256 + b",r=abc", SaslFault.MALFORMED, "a name of more than 255 octets"),
    (b"n,a=,n=user,r=abc", SaslFault.MALFORMED, "an empty authzid"),
    (b"n,a=\xff,n=user,r=abc", SaslFault.MALFORMED, "an authzid that is not UTF-8"),
    (b"n,a=admin,n=user,r=abc", SaslFault.AUTHZID, "somebody else, and that is not allowed"),
    (b"n,,n=user,r=abc\n", SaslFault.MALFORMED, "a newline at its end"),
]


@pytest.mark.parametrize(("first", "fault", "why"), FIRSTS, ids=[row[-1] for row in FIRSTS])
def test_a_bad_first_message_ends_it(first: bytes, fault: SaslFault, why: str) -> None:
    it = server()
    assert it.step(first) == Failure(fault)
    with pytest.raises(LocalProtocolError, match="over"):
        it.step(b"")


@pytest.mark.parametrize(
    ("first", "name"),
    [
        (b"n,a=user,n=user,r=abc", "user"),
        (b"n,,n=u=2Cs=3Der,r=abc", "u,s=er"),
        (b"n,,n=u=2cs=3der,r=abc", "u,s=er"),
        (b"n,,n==3D2C,r=abc", "=2C"),
        (b"n,,n=user,r=abc,t=extension,x=y", "user"),
        ("n,,n=us\u00ader,r=abc".encode(), "user"),
    ],
    ids=["authzid is oneself", "escapes", "lower-case escapes", "escape of an escape", "extensions", "prepared"],
)
def test_names_are_read_as_the_grammar_has_them(first: bytes, name: str) -> None:
    assert server().step(first) == KeysNeeded(name, "")


START = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
PROOF = FINAL[FINAL.index(b",p=") :]
# client-final, fault, why
FINALS = [
    (b"", SaslFault.MALFORMED, "nothing"),
    (START, SaslFault.MALFORMED, "no proof"),
    (START + b",p=YQ", SaslFault.MALFORMED, "a proof that is not base64"),
    (START + b",p=YQ==", SaslFault.MALFORMED, "a proof of another size"),
    (START + PROOF + b",x=y", SaslFault.MALFORMED, "something after the proof"),
    (START.replace(b"biws", b"biw") + PROOF, SaslFault.MALFORMED, "a binding that is not base64"),
    (START.replace(b"k0", b"k1") + PROOF, SaslFault.NONCE, "another nonce"),
    (START.replace(b"biws", b"eSws") + PROOF, SaslFault.BINDING, "another flag than at first"),
    (START + b",x=y" + PROOF, SaslFault.CREDENTIALS, "the proof does not cover the extension"),
    (START + b",p=" + encode_base64(bytes(32)), SaslFault.CREDENTIALS, "a wrong proof"),
]


@pytest.mark.parametrize(("final", "fault", "why"), FINALS, ids=[row[-1] for row in FINALS])
def test_a_bad_final_message_ends_it(final: bytes, fault: SaslFault, why: str) -> None:
    it = asked()
    assert it.step(final) == Failure(fault)
    with pytest.raises(LocalProtocolError, match="over"):
        it.step(FINAL)


def test_another_session_s_binding_is_refused() -> None:
    one = client(binding=ChannelBinding("tls-exporter", b"in the middle".ljust(32)))
    assert converse(one, server(plus=True, plus_offered=True))[0] == Failure(SaslFault.BINDING)


def test_the_client_has_nothing_to_add_to_the_signature() -> None:
    it = asked()
    it.step(FINAL)
    assert it.step(b"more") == Failure(SaslFault.MALFORMED)


def test_the_keys_of_nobody_prove_nothing() -> None:
    """Even to somebody who knows them."""
    it = server()
    it.step(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    it.answer(None)
    it._keys, it._first = VECTOR_KEYS, SERVER_FIRST
    assert it.step(FINAL) == Failure(SaslFault.CREDENTIALS)


def test_an_answer_out_of_turn_is_the_callers_mistake() -> None:
    it = server()
    with pytest.raises(LocalProtocolError, match="asked"):
        it.answer(KEYS)
    it.step(FIRST)
    with pytest.raises(LocalProtocolError, match="waits"):
        it.step(FINAL)
    sha1 = password_work("pencil", b"salt", hash_name="sha1")
    for wrong in ("user", ScramKeys.derive(sha1, sha1.run())):
        with pytest.raises(LocalProtocolError, match="SHA-256"):
            it.answer(wrong)
    assert it.answer(VECTOR_KEYS) == Challenge(SERVER_FIRST)  # nothing of that did harm


@pytest.mark.parametrize(
    "nonce", ["", "short", "a" * 15, "a" * 129, "comma,comma,comma,", "a space in the nonce", "é" * 20]
)
def test_a_nonce_is_long_and_printable(nonce: str) -> None:
    with pytest.raises(LocalProtocolError):
        server(nonce=nonce)
    with pytest.raises(LocalProtocolError):
        client(nonce=nonce)


def test_plus_needs_a_binding() -> None:
    with pytest.raises(LocalProtocolError):
        ScramServer(nonce=NONCE, secret=SECRET, plus=True)


def test_the_secret_and_the_iterations_are_checked_at_once() -> None:
    with pytest.raises(LocalProtocolError):
        ScramServer(nonce=NONCE, secret=b"short")
    with pytest.raises(LocalProtocolError):
        ScramServer(nonce=NONCE, secret=SECRET, iterations=1000)


# The client's seat.


@pytest.mark.parametrize(
    ("it", "start"),
    [
        (client(), b"n,,n="),
        (client(could_bind=True), b"y,,n="),
        (client(binding=BINDING), b"p=tls-exporter,,n="),
        (ScramClient(Credentials("a,b=c", "pencil", authzid="d"), nonce=NONCE), b"n,a=d,n=a=2Cb=3Dc,"),
    ],
    ids=["cannot bind", "could bind", "binds", "escapes"],
)
def test_the_client_opens_as_its_header_says(it: ScramClient, start: bytes) -> None:
    step = it.step(b"")
    assert isinstance(step, Respond)
    assert step.data is not None
    assert step.data.startswith(start)


# server-first, fault, why
SERVER_FIRSTS = [
    (b"", SaslFault.MALFORMED, "nothing"),
    (b"e=other-error", SaslFault.REFUSED, "an error at once"),
    (b"m=x," + SERVER_FIRST, SaslFault.MALFORMED, "a mandatory extension"),
    (SERVER_FIRST.replace(b"r=rO", b"r=rX"), SaslFault.NONCE, "not our nonce"),
    (b"r=" + NONCE.encode() + b",s=YQ==,i=4096", SaslFault.NONCE, "our nonce, and nothing of the server's"),
    (SERVER_FIRST.replace(b"gQ==", b"gQ="), SaslFault.MALFORMED, "a salt that is not base64"),
    (SERVER_FIRST.replace(b"W22ZaJ0SNY7soEsUEjb6gQ==", b""), SaslFault.MALFORMED, "no salt"),
    (SERVER_FIRST.replace(b"4096", b"4095"), SaslFault.ITERATIONS, "one iteration too few"),
    (SERVER_FIRST.replace(b"4096", b"600001"), SaslFault.ITERATIONS, "one iteration too many"),
    (SERVER_FIRST.replace(b"4096", b"4294967296"), SaslFault.ITERATIONS, "far too many"),
    (SERVER_FIRST.replace(b"4096", b"0"), SaslFault.MALFORMED, "none"),
    (SERVER_FIRST.replace(b"4096", b"-1"), SaslFault.MALFORMED, "less than none"),
    (SERVER_FIRST.replace(b"4096", b"9" * 5000), SaslFault.MALFORMED, "a number to choke on"),
]


@pytest.mark.parametrize(("first", "fault", "why"), SERVER_FIRSTS, ids=[row[-1] for row in SERVER_FIRSTS])
def test_a_server_that_opens_wrongly_gets_no_proof(first: bytes, fault: SaslFault, why: str) -> None:
    it = client()
    it.step(None)
    assert it.step(first) == Failure(fault)
    assert it.step(SERVER_FIRST) == Failure(SaslFault.UNEXPECTED)
    assert it.concluded() == Failure(SaslFault.UNVERIFIED)


@pytest.mark.parametrize("iterations", [b"4096", b"600000"])
def test_the_bounds_of_the_iterations_are_worked_for(iterations: bytes) -> None:
    it = client()
    it.step(None)
    step = it.step(SERVER_FIRST.replace(b"4096", iterations) + b",x=extension")
    assert isinstance(step, WorkNeeded)
    assert step.iterations == int(iterations)


# server-final, fault, why
SERVER_FINALS = [
    (b"", SaslFault.MALFORMED, "nothing"),
    (b"e=invalid-proof", SaslFault.REFUSED, "an error"),
    (b"v=YQ", SaslFault.MALFORMED, "a signature that is not base64"),
    (b"v=YQ==", SaslFault.SIGNATURE, "a signature of another size"),
    (b"v=" + encode_base64(bytes(32)), SaslFault.SIGNATURE, "a server that does not know the password"),
    (SERVER_FINAL + b"\n", SaslFault.MALFORMED, "a newline at its end"),
]


@pytest.mark.parametrize(("final", "fault", "why"), SERVER_FINALS, ids=[row[-1] for row in SERVER_FINALS])
def test_a_server_that_cannot_sign_is_not_the_server(final: bytes, fault: SaslFault, why: str) -> None:
    it = proving()
    assert it.step(final) == Failure(fault)
    assert it.concluded() == Failure(SaslFault.UNVERIFIED)


def test_a_success_without_the_signature_is_a_failure() -> None:
    it = client()
    assert it.concluded() == Failure(SaslFault.UNVERIFIED)
    assert proving().concluded() == Failure(SaslFault.UNVERIFIED)


def test_the_signature_may_carry_extensions() -> None:
    assert proving().step(SERVER_FINAL + b",x=y") == Respond(b"")


def test_a_challenge_after_the_signature_undoes_it() -> None:
    it = proving()
    it.step(SERVER_FINAL)
    assert it.step(b"") == Failure(SaslFault.UNEXPECTED)
    assert it.concluded() == Failure(SaslFault.UNVERIFIED)


@pytest.mark.parametrize(
    "credentials",
    [Credentials(password="x"), Credentials("user"), Credentials("user", "\u00ad"), Credentials("\u200e", "x")],
    ids=repr,
)
def test_scram_needs_a_name_and_a_password_that_can_be_prepared(credentials: Credentials) -> None:
    with pytest.raises(LocalProtocolError):
        ScramClient(credentials, nonce=NONCE)


# Whatever comes.

near = st.sampled_from([FIRST, SERVER_FIRST, FINAL, SERVER_FINAL, b"", b",", b"=", b"\xff", b"r=", b"i=4096"])
pieces = st.lists(near | st.binary(max_size=20), max_size=4).map(b"".join)


@given(st.lists(st.none() | pieces, max_size=5), st.booleans(), st.booleans())
def test_nothing_a_client_sends_can_raise(lines: list[bytes | None], plus: bool, known: bool) -> None:
    it = server(plus=plus, plus_offered=True)
    for line in lines:
        step = it.step(line)
        if isinstance(step, KeysNeeded):
            step = it.answer(VECTOR_KEYS if known else None)
        if not isinstance(step, Challenge):
            break


@given(st.lists(pieces, max_size=5))
def test_nothing_a_server_sends_can_raise(lines: list[bytes]) -> None:
    it = client()
    it.step(None)
    for line in lines:
        step = it.step(line)
        if isinstance(step, WorkNeeded):
            it.step(bytes(32))
    assert it.concluded() == Failure(SaslFault.UNVERIFIED)
