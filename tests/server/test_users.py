"""The users of `serve`: what a passwd-file may hold, how it is refused, and who gets in with it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import anyio
import argon2
import pytest

from smtpstate._keys import MIN_ITERATIONS, ScramKeys, password_work, unknown_keys
from smtpstate_server import _users
from smtpstate_server._exits import Exit, Failure
from smtpstate_server._users import PasswdFile, account_line, kept_secret, read_line, read_users

if TYPE_CHECKING:
    from pathlib import Path

SECRET = b"sixteen octets !"
_WORK = password_work("pencil", b"salt of 16 octet", 5_000)
SCRAM = ScramKeys.derive(_WORK, _WORK.run()).format()
_CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
ARGON = "{ARGON2ID}" + _CHEAP.hash("pencil")
# What `doveadm pw -p pencil` of Dovecot 2.3.19 says.
DOVECOT = [
    "{SCRAM-SHA-256}4096,lar5jKcUmuDYqODCvtthug==,bQ/Pc3WnKAPB7dr1qcT2Q/EFM3OdeDalQCIHrLRlH0M=,"
    "v5/9VyPiVQwPghv55p+vypsQ5Z/QqgIysPTGFDU0i60=",
    "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$wXrb8tyZ/5GXkxxzd97xzA$RBunpWtXyvZO50Gq84hPdGOxCLSlUJI8CiIs/R49KAQ",
]


def users(*lines: str) -> PasswdFile:
    accounts = dict(account for line in lines if (account := read_line(line.encode(), SECRET)) is not None)
    return PasswdFile(accounts, SECRET)


def check(file: PasswdFile, username: str, password: str) -> bool:
    return anyio.run(file.check, username, password)


def keys(file: PasswdFile, username: str) -> ScramKeys | None:
    return anyio.run(file.keys, username)


LINES = [
    pytest.param(f"joe:{SCRAM}", id="SCRAM-SHA-256"),
    pytest.param(f"joe:{ARGON}", id="ARGON2ID"),
    pytest.param("joe:{PLAIN}pencil", id="PLAIN"),
    pytest.param("joe:{plain}pencil", id="a scheme in any case"),
    pytest.param(f"joe:{SCRAM}:1000:1000::/home/joe::quota=1", id="what follows is for Dovecot"),
    pytest.param("joe:{PLAIN}pencil:", id="nothing follows"),
    pytest.param("j\u00ado\u00ade:{PLAIN}pencil", id="a name is prepared as those that come are, RFC 4013"),
]


@pytest.mark.parametrize("line", LINES)
def test_the_password_is_right_or_wrong(line: str) -> None:
    file = users(line)
    assert check(file, "joe", "pencil")
    assert not check(file, "joe", "Pencil")
    assert not check(file, "joe", "")
    assert not check(file, "ann", "pencil")
    assert not check(file, "Joe", "pencil")
    assert not check(file, "joe", "\x00")
    assert anyio.run(file.token, "joe", "pencil") is None
    assert anyio.run(file.certificate, "joe") == "joe"
    assert anyio.run(file.certificate, "ann") is None


@pytest.mark.parametrize("line", ["", "   ", "# joe:{PLAIN}x", "#", "\t"])
def test_what_holds_no_account_is_left_alone(line: str) -> None:
    assert read_line(line.encode(), SECRET) is None


ERRORS = [
    ("joe", "not NAME:{SCHEME}PASSWORD"),
    (":{PLAIN}x", "a name that is empty"),
    ("j\x07oe:{PLAIN}x", "has controls in it"),
    ("x" * 256 + ":{PLAIN}x", "longer than 255 octets"),
    ("joe:pencil", "no {SCHEME} before the password"),
    ("joe:", "no {SCHEME} before the password"),
    ("joe:{PLAIN}", "or nothing after it"),
    ("joe:{PLAIN}:rest", "or nothing after it"),
    ("joe:{PLAIN}\x07", "RFC 4013 prohibits"),
    ("joe:{CRYPT}$6$abc", "the scheme is not one of SCRAM-SHA-256, ARGON2ID, PLAIN"),
    ("joe:{SCRAM-SHA-1}4096,a,b,c", "the scheme is not one of"),
    ("joe:{SCRAM-SHA-256}pencil", "not {SCRAM-SHA-256}ITERATIONS,SALT,STOREDKEY,SERVERKEY"),
    (f"joe:{SCRAM}=", "not {SCRAM-SHA-256}"),
    (f"joe:{SCRAM.replace('5000', '999999')}", "not {SCRAM-SHA-256}"),
    ("joe:{ARGON2ID}pencil", "not {ARGON2ID}$argon2id$..."),
    (f"joe:{ARGON.replace('argon2id', 'argon2i')}", "not {ARGON2ID}$argon2id$..."),
]


@pytest.mark.parametrize(("line", "words"), ERRORS, ids=[line[:40] for line, _ in ERRORS])
def test_a_bad_line_is_one_line_with_its_number_and_without_the_password(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "users"
    path.write_text(f"# ours\nann:{SCRAM}\n{line}\n")
    path.chmod(0o600)
    with pytest.raises(Failure) as failure:
        read_users(path, SECRET)
    assert failure.value.text.startswith(f"{path}, line 3: ")
    assert words in failure.value.text
    assert failure.value.exit_code == Exit.CONFIG
    assert "pencil" not in failure.value.text


def test_octets_that_are_no_text_are_an_error_with_a_line(tmp_path: Path) -> None:
    for octets in (b"\xff:{PLAIN}x", b"joe:{PLAIN}\xff"):
        (tmp_path / "users").write_bytes(octets)
        with pytest.raises(Failure, match="line 1: "):
            read_users(tmp_path / "users", SECRET)


def test_a_name_may_come_once(tmp_path: Path) -> None:
    (tmp_path / "users").write_bytes(b"joe:{PLAIN}a\r\n\r\njo\xc2\xade:{PLAIN}b\r\n")
    with pytest.raises(Failure, match="line 3: a name that another line has"):
        read_users(tmp_path / "users", SECRET)


def test_a_file_that_is_not_there_or_empty_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"cannot read the users .*: No such file") as failure:
        read_users(tmp_path / "users", SECRET)
    assert failure.value.exit_code == Exit.NOINPUT
    (tmp_path / "users").write_text("# nobody yet\n")
    with pytest.raises(Failure, match="holds no user; to make one: smtpstate passwd NAME --users"):
        read_users(tmp_path / "users", SECRET)


def test_a_file_that_others_can_read_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "users"
    path.write_text("joe:{PLAIN}x\n")
    for mode, warnings in ((0o600, 0), (0o640, 1)):
        path.chmod(mode)
        read_users(path, SECRET)
        assert len(caplog.records) == warnings


def test_scram_is_offered_only_if_everybody_can_do_it() -> None:
    assert users(f"a:{SCRAM}", "b:{PLAIN}x").mechanisms == (
        "SCRAM-SHA-256-PLUS",
        "SCRAM-SHA-256",
        "EXTERNAL",
        "PLAIN",
        "LOGIN",
    )
    assert users(f"a:{SCRAM}", f"b:{ARGON}").mechanisms == ("EXTERNAL", "PLAIN", "LOGIN")


def test_the_keys_are_those_of_the_file_and_what_is_made_up_looks_the_same() -> None:
    file = users(f"joe:{SCRAM}")
    known, unknown = keys(file, "joe"), keys(file, "ann")
    assert known == ScramKeys.parse(SCRAM)
    assert unknown == unknown_keys(SECRET, "ann", iterations=5_000)
    assert unknown == keys(users(f"joe:{SCRAM}"), "ann")
    mixed = users(f"joe:{ARGON}")
    assert keys(mixed, "joe") is None
    assert keys(mixed, "ann") == unknown_keys(SECRET, "ann", iterations=MIN_ITERATIONS)
    assert keys(users("joe:{PLAIN}x"), "joe") == keys(users("joe:{PLAIN}x"), "joe"), "at each start"


@pytest.mark.parametrize("line", [f"joe:{SCRAM}", f"joe:{ARGON}"], ids=["SCRAM", "ARGON2ID"])
def test_an_unknown_name_costs_what_a_known_one_does(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spent: list[object] = []
    pbkdf2 = hashlib.pbkdf2_hmac

    def counted(name: str, password: bytes, salt: bytes, iterations: int) -> bytes:
        spent.append(iterations)
        return pbkdf2(name, password, salt, iterations)

    class Hasher:
        def verify(self, text: str, password: str) -> bool:
            spent.append(text)
            return _CHEAP.verify(text, password)

    file = users(line)
    monkeypatch.setattr(hashlib, "pbkdf2_hmac", counted)
    monkeypatch.setattr(_users, "_HASHER", Hasher())
    for name in ("joe", "ann", "bob"):
        check(file, name, "pen")
    assert len(spent) == 3
    assert len(set(spent)) == 1


@pytest.mark.parametrize("text", DOVECOT)
def test_a_hash_from_dovecot_is_understood(text: str) -> None:
    assert check(users(f"joe:{text}"), "joe", "pencil")
    assert not check(users(f"joe:{text}"), "joe", "pen")


@pytest.mark.parametrize("scheme", _users.SCHEMES)
@pytest.mark.parametrize("password", ["pencil", "Grüße, 🔑", " a  b "])
def test_a_line_that_we_make_lets_its_user_in(scheme: str, password: str) -> None:
    line = account_line("joe", password, scheme)
    assert line.startswith(f"joe:{{{scheme}}}")
    file = users(line)
    assert check(file, "joe", password)
    assert not check(file, "joe", password + "x")


@pytest.mark.parametrize(("scheme", "password"), [("PLAIN", "a:b"), ("PLAIN", ""), ("ARGON2ID", "a\x00b")])
def test_a_password_that_could_not_log_in_is_refused(scheme: str, password: str) -> None:
    with pytest.raises(ValueError, match="a password"):
        account_line("joe", password, scheme)


def test_the_secret_is_kept(tmp_path: Path) -> None:
    first = kept_secret(tmp_path / "state")
    assert len(first) == 32
    assert kept_secret(tmp_path / "state") == first
    assert (tmp_path / "state" / "auth-secret").stat().st_mode & 0o777 == 0o600


def test_where_the_secret_cannot_be_kept_there_is_one_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    assert len(kept_secret(tmp_path / "file")) == 32
    assert len(caplog.records) == 1
    (tmp_path / "auth-secret").write_bytes(b"short")
    assert len(kept_secret(tmp_path)) == 32


def test_a_verifier_prints_no_secret() -> None:
    accounts: Any = users(f"a:{ARGON}")._accounts
    assert ARGON not in repr(accounts)
