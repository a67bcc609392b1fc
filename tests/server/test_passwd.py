"""`smtpstate passwd`: the line that it makes, and what it leaves alone."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import anyio
import pytest

from smtpstate_server._exits import Exit
from smtpstate_server._passwd import with_account
from smtpstate_server._users import read_users
from tests.server.running import SECONDS, Home

if TYPE_CHECKING:
    from pathlib import Path

SECRET = b"sixteen octets !"


def lets_in(path: Path, name: str, password: str) -> bool:
    return anyio.run(read_users(path, SECRET).check, name, password)


@pytest.mark.parametrize("scheme", ["SCRAM-SHA-256", "ARGON2ID", "PLAIN"])
@pytest.mark.parametrize("stdin", [b"pencil\n", b"pencil", b"pencil\r\nmore\n"])
def test_it_prints_a_line_that_works(home: Home, scheme: str, stdin: bytes) -> None:
    done = home.run("passwd", "joe", "--scheme", scheme.lower(), stdin=stdin)
    assert (done.returncode, done.stderr) == (Exit.OK, b"")
    assert done.stdout.startswith(f"joe:{{{scheme}}}".encode())
    assert done.stdout.count(b"\n") == 1
    (home.path / "users").write_bytes(done.stdout)
    assert lets_in(home.path / "users", "joe", "pencil")


def test_the_scheme_is_scram_unless_it_is_said(home: Home) -> None:
    assert home.run("passwd", "joe", stdin=b"pencil\n").stdout.startswith(b"joe:{SCRAM-SHA-256}65536,")


def test_it_writes_the_line_and_leaves_the_others(home: Home) -> None:
    path = home.path / "users"
    for name, password in (("joe", b"old"), ("ann", b"other"), ("joe", b"new")):
        done = home.run("passwd", name, "--users", "users", stdin=password)
        assert (done.returncode, done.stdout, done.stderr) == (Exit.OK, b"", b"")
    assert path.stat().st_mode & 0o777 == 0o600
    assert [line.partition(":")[0] for line in path.read_text().splitlines()] == ["joe", "ann"]
    assert lets_in(path, "joe", "new")
    assert not lets_in(path, "joe", "old")
    assert lets_in(path, "ann", "other")
    assert os.listdir(home.path) == ["users"]


def test_a_link_stays_a_link_and_others_lose_their_access(home: Home) -> None:
    real, link = home.path / "real", home.path / "link"
    real.write_bytes(b"ann:{PLAIN}x\n")
    real.chmod(0o644)
    link.symlink_to(real)
    assert home.run("passwd", "joe", "--users", "link", stdin=b"pencil").returncode == Exit.OK
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert real.read_bytes().startswith(b"ann:{PLAIN}x\njoe:{SCRAM-SHA-256}")


FILES = [
    pytest.param(b"", b"joe:new\n", id="an empty file"),
    pytest.param(b"ann:{PLAIN}x", b"ann:{PLAIN}x\njoe:new\n", id="no end of line"),
    pytest.param(b"# joe:x\n\nann:x\n", b"# joe:x\n\nann:x\njoe:new\n", id="comments and empty lines"),
    pytest.param(b"joe:old\nann:x\n", b"joe:new\nann:x\n", id="the place stays"),
    pytest.param(b"joe:old:1:1::/h::\nann:x\n", b"joe:new:1:1::/h::\nann:x\n", id="what is Dovecot's stays"),
    pytest.param(b"joe:old\r\nann:x\r\n", b"joe:new\nann:x\r\n", id="CRLF"),
    pytest.param(b"joey:x\n\xff:x\njoe\n", b"joey:x\n\xff:x\njoe\njoe:new\n", id="names that only look like it"),
]


@pytest.mark.parametrize(("before", "after"), FILES)
def test_one_line_changes(before: bytes, after: bytes) -> None:
    assert with_account(before, b"joe:new") == after


NONSENSE = [
    (["a:b"], b"x\n", "'a:b' cannot be the name of a user"),
    ([""], b"x\n", "cannot be the name of a user"),
    (["#joe"], b"x\n", "cannot be the name of a user"),
    ([" joe"], b"x\n", "cannot be the name of a user"),
    (["x" * 256], b"x\n", "cannot be the name of a user"),
    (["joe"], b"", "a password that is empty"),
    (["joe"], b"\x07\n", "RFC 4013 prohibits"),
    (["joe"], b"\xff\n", "not UTF-8"),
    (["joe"], b"x" * 256 + b"\n", "a password of more than 255 octets"),
    (["joe", "--scheme", "plain"], b"a:b\n", "a colon cannot be kept as PLAIN"),
    (["joe", "--scheme", "md5"], b"x\n", "--scheme"),
    ([], b"x\n", "Missing argument 'NAME'"),
]


@pytest.mark.parametrize(("arguments", "stdin", "words"), NONSENSE)
def test_nonsense_is_one_line(home: Home, arguments: list[str], stdin: bytes, words: str) -> None:
    done = home.run("passwd", *arguments, stdin=stdin)
    assert (done.returncode, done.stdout) == (Exit.USAGE, b"")
    assert done.stderr.count(b"\n") == 1
    assert words in done.stderr.decode()


@pytest.mark.parametrize(
    ("where", "words", "code"),
    [
        (".", "cannot read the users .: Is a directory", Exit.NOINPUT),
        ("nowhere/users", "cannot write the users nowhere/users: No such file", Exit.CANTCREAT),
    ],
)
def test_a_file_that_is_none_is_one_line(home: Home, where: str, words: str, code: Exit) -> None:
    done = home.run("passwd", "joe", "--users", where, stdin=b"x\n")
    assert done.returncode == code
    assert words in done.stderr.decode()


@pytest.mark.parametrize(("second", "asked"), [(b"pencil", 2), (b"pen", 4)], ids=["the same", "another one"])
def test_on_a_terminal_it_asks_twice_and_shows_nothing(home: Home, second: bytes, asked: int) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "smtpstate_server", "passwd", "joe"],
        stdin=follower,
        stdout=subprocess.PIPE,
        stderr=follower,
        cwd=home.path,
        env=home.environment,
        start_new_session=True,  # so that there is no terminal but this one
    )
    os.close(follower)
    alarm = threading.Timer(SECONDS, process.kill)
    alarm.start()
    shown = b""
    try:
        for number in range(asked):
            while shown.count(b": ") - shown.count(b"Error: ") <= number:
                shown += os.read(leader, 1000)
            os.write(leader, (second if number == 1 else b"pencil") + b"\n")
        out, _ = process.communicate(timeout=SECONDS)
    finally:
        alarm.cancel()
        process.kill()
        os.close(leader)
    assert process.returncode == Exit.OK
    assert out.startswith(b"joe:{SCRAM-SHA-256}")
    assert b"pen" not in shown
