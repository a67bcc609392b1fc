"""The command line by itself: what it takes, and how it says no."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from smtpstate import TlsMode
from smtpstate.policy import MX, STRICT
from smtpstate_server import _cli
from smtpstate_server._endpoint import Endpoint
from smtpstate_server._exits import Exit
from tests.server.running import ROOT, SECONDS, Home

if TYPE_CHECKING:
    from collections.abc import Callable

    from smtpstate_server._passwd import PasswdOptions
    from smtpstate_server._send import SendOptions
    from smtpstate_server._serve import ServeOptions


T = TypeVar("T")


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    """The one line on stderr."""
    assert done.stdout == b""
    text = done.stderr.decode()
    assert text.count("\n") == 1, text
    assert text.startswith("smtpstate: "), text
    return text.removeprefix("smtpstate: ").rstrip("\n")


def takes(taken: list[T]) -> Callable[[T], int]:
    """Stands for a command that succeeds, and remembers what it was given."""

    def take(options: T) -> int:
        taken.append(options)
        return 0

    return take


def test_exit_codes_are_those_of_the_system() -> None:
    for name in ("OK", "USAGE", "NOINPUT", "UNAVAILABLE", "OSERR", "CANTCREAT", "TEMPFAIL", "PROTOCOL"):
        assert Exit[name] == getattr(os, f"EX_{name}", Exit[name])


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.path[:0] = sys.argv[1:]; from smtpstate_server.__main__ import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(ROOT), str(ROOT / "adapters")],
        capture_output=True,
        timeout=SECONDS,
        cwd=tmp_path,
        check=False,
    )
    assert said(done) == "this needs the server extra: pip install 'smtpstate[server]'"
    assert done.returncode == Exit.UNAVAILABLE


def test_serve_needs_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[ServeOptions] = []
    monkeypatch.setattr(_cli, "serve", takes(taken))
    assert _cli.run(["serve"]) == 0
    [options] = taken
    assert options.listen == (Endpoint("127.0.0.1", 2525),)
    assert options.listen_tls == ()
    assert options.domains == ()
    assert options.tls
    assert options.certificate is None
    assert options.deliver == "maildir:./mail"
    assert options.settings.limits.message == 50 * 1024 * 1024
    assert not options.quiet
    assert options.policy is MX
    assert not options.accept_any
    assert options.hostname


def test_serve_takes_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[ServeOptions] = []
    monkeypatch.setattr(_cli, "serve", takes(taken))
    arguments = (
        "serve --listen [::1]:25 --listen localhost:587 --listen-tls 192.0.2.1:465 --hostname MX.example.org "
        "--domain example.org --domain b\u00fccher.example --deliver app:store --tls-cert c --tls-key k "
        "--message-size-limit 1000 --policy strict --quiet --log-level DEBUG"
    )
    assert _cli.run(arguments.split()) == 0
    [options] = taken
    assert options.listen == (Endpoint("::1", 25), Endpoint("localhost", 587))
    assert options.listen_tls == (Endpoint("192.0.2.1", 465),)
    assert (options.hostname, options.domains) == ("MX.example.org", ("example.org", "xn--bcher-kva.example"))
    assert options.certificate == (Path("c"), Path("k"))
    assert (options.deliver, options.settings.limits.message) == ("app:store", 1000)
    assert options.policy is STRICT
    assert (options.quiet, options.log_level) == (True, "debug")


def test_a_tls_listener_alone_stays_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[ServeOptions] = []
    monkeypatch.setattr(_cli, "serve", takes(taken))
    _cli.run(["serve", "--listen-tls", "127.0.0.1:465"])
    assert taken[0].listen == ()


def test_serve_takes_users_and_where_they_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[ServeOptions] = []
    monkeypatch.setattr(_cli, "serve", takes(taken))
    assert (
        _cli.run(
            ["serve", "--submission", "[::1]:587", "--lmtp", "127.0.0.1:24", "--lmtp", "127.0.0.1:0", "--users", "u"]
        )
        == 0
    )
    [options] = taken
    assert (options.listen, options.listen_tls) == ((), ())
    assert options.submission == (Endpoint("::1", 587),)
    assert options.lmtp == (Endpoint("127.0.0.1", 24), Endpoint("127.0.0.1", 0))
    assert options.users == Path("u")


def test_send_takes_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[SendOptions] = []
    monkeypatch.setattr(_cli, "send", takes(taken))
    start = "send --server mx.example.org:587 --from a@b.example --to c@d.example"
    assert _cli.run(f"{start} --user joe --password-file p --auth plain --lmtp --bdat --binary".split()) == 0
    assert _cli.run(start.split()) == 0
    [options, bare] = taken
    assert options.login is not None
    assert (options.login.name, options.login.password_file, options.login.mechanism) == ("joe", Path("p"), "plain")
    assert (options.lmtp, options.chunked, options.binary) == (True, True, True)
    assert (bare.login, bare.lmtp, bare.chunked, bare.binary) == (None, False, False, False)


def test_passwd_has_a_scheme_that_is_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[PasswdOptions] = []
    monkeypatch.setattr(_cli, "passwd", takes(taken))
    assert _cli.run(["passwd", "joe"]) == 0
    assert _cli.run(["passwd", "joe", "--scheme", "argon2id", "--users", "u"]) == 0
    assert [(options.scheme, options.users) for options in taken] == [("SCRAM-SHA-256", None), ("ARGON2ID", Path("u"))]


def test_send_has_defaults_that_are_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[SendOptions] = []
    monkeypatch.setattr(_cli, "send", takes(taken))
    assert (
        _cli.run(
            [
                "send",
                "--server",
                "mx.example.org:25",
                "--from",
                "a@b.example",
                "--to",
                "c@d.example",
                "--to",
                "e@f.example",
            ]
        )
        == 0
    )
    [options] = taken
    assert options.tls is TlsMode.REQUIRED
    assert options.recipients == ("c@d.example", "e@f.example")
    assert (options.ca, options.timeout, options.file) == (None, None, None)


USAGE = [
    ("serve --frobnicate", "No such option"),
    ("serve extra", "unexpected extra argument"),
    ("frobnicate", "No such command"),
    ("serve --listen 2525", "'2525' is not HOST:PORT"),
    ("serve --listen ::1:25", "'::1:25' is not HOST:PORT"),
    ("serve --listen 127.0.0.1:65536", "is not HOST:PORT"),
    ("serve --listen 127.0.0.1:-1", "is not HOST:PORT"),
    ("serve --listen-tls :25", "is not HOST:PORT"),
    ("serve --hostname a_b", "'a_b' is not a host name"),
    ("serve --hostname -a.example", "is not a host name"),
    ("serve --domain a..b", "is not a host name"),
    ("serve --message-size-limit 0", "--message-size-limit"),
    ("serve --message-size-limit many", "--message-size-limit"),
    ("serve --policy lax", "--policy"),
    ("serve --log-level loud", "--log-level"),
    ("serve --tls-cert c", "--tls-cert and --tls-key go together"),
    ("serve --tls-key k", "--tls-cert and --tls-key go together"),
    ("serve --no-tls --tls-cert c --tls-key k", "--no-tls does not go with --tls-cert"),
    ("serve --no-tls --listen-tls 127.0.0.1:0", "--no-tls does not go with --listen-tls"),
    ("serve --no-tls --strict-sni", "--no-tls does not go with --strict-sni"),
    ("serve --no-tls --users u", "--no-tls does not go with --users: AUTH is for TLS"),
    ("serve --submission 127.0.0.1:0", "--submission needs --users"),
    ("serve --submission 587 --users u", "'587' is not HOST:PORT"),
    ("serve --lmtp 127.0.0.1:25", "--lmtp may not use port 25 (RFC 2033 section 5)"),
    ("serve --lmtp 0.0.0.0:0", "other hosts can reach 0.0.0.0:0: say --domain NAME"),
    ("serve --submission 0.0.0.0:0 --users u", "other hosts can reach 0.0.0.0:0"),
    ("send --server [::1]:1 --from a@b.example --to c@d.example --user x", "--user and --password-file go together"),
    ("send --server [::1]:1 --from a@b.example --to c@d.example --auth PLAIN", "--auth needs --user"),
    ("passwd", "Missing argument 'NAME'"),
    ("passwd joe --scheme crypt", "--scheme"),
    ("serve --accept-any --domain example.org", "--accept-any does not go with --domain"),
    ("serve --listen 0.0.0.0:0", "other hosts can reach 0.0.0.0:0: say --domain NAME"),
    ("serve --listen [::]:0", "other hosts can reach [::]:0"),
    ("serve --listen 127.0.0.1:0 --listen-tls 192.0.2.1:0", "other hosts can reach 192.0.2.1:0"),
    ("serve --no-tls --deliver pigeon", "--deliver takes maildir:DIR, discard or MODULE:FUNCTION, not 'pigeon'"),
    ("serve --no-tls --deliver maildir:", "names no directory"),
    ("serve --no-tls --deliver :x", "--deliver takes"),
    ("send --from a@b.example --to c@d.example", "Missing option '--server'"),
    ("send --server 127.0.0.1:1 --to c@d.example", "Missing option '--from'"),
    ("send --server 127.0.0.1:1 --from a@b.example", "Missing option '--to'"),
    ("send --server 127.0.0.1:1 --from a@b.example --to nobody", "not a mailbox: 'nobody'"),
    ("send --server 127.0.0.1:1 --from a@b@c --to c@d.example", "not a mailbox: 'a@b@c'"),
    ("send --server 127.0.0.1:1 --from a@b.example --to c@d.example --tls maybe", "--tls"),
    ("send --server 127.0.0.1:1 --from a@b.example --to c@d.example --timeout 0", "--timeout"),
]


@pytest.mark.parametrize(("arguments", "words"), USAGE, ids=[arguments for arguments, _ in USAGE])
def test_nonsense_is_answered_in_one_line(arguments: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _cli.run(arguments.split()) == Exit.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    text = captured.err.splitlines(keepends=True)[-1]
    assert text.startswith("smtpstate: ")
    assert words in text


def test_without_arguments_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert _cli.run([]) == Exit.USAGE
    assert "serve" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["serve", "-h"], ["send", "--help"], ["passwd", "-h"], ["--version"]]
)
def test_help_is_no_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert _cli.run(arguments) == Exit.OK
    assert capsys.readouterr().out


def test_an_unknown_option_is_one_line(home: Home) -> None:
    done = home.run("serve", "--frobnicate")
    assert "--frobnicate" in said(done)
    assert done.returncode == Exit.USAGE


def test_a_busy_port_is_one_line(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        where = f"127.0.0.1:{busy.getsockname()[1]}"
        done = home.run("serve", "--listen", "127.0.0.1:0", "--listen", where)
    assert said(done) == f"cannot listen on {where}: Address already in use"
    assert done.returncode == Exit.OSERR


@pytest.mark.parametrize("name", ["nowhere.invalid", "x" * 64 + ".invalid"])
@pytest.mark.parametrize("rule", [[], ["--domain", "example.org"]])
def test_an_address_that_means_nothing_is_one_line(home: Home, name: str, rule: list[str]) -> None:
    done = home.run("serve", "--listen", f"{name}:0", *rule)
    assert said(done).startswith(f"cannot listen on {name}:0: ")
    assert done.returncode == Exit.OSERR


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        ("--tls-cert c.pem --tls-key k.pem", "cannot read the certificate c.pem: No such file", Exit.NOINPUT),
        ("--users nobody", "cannot read the users nobody: No such file", Exit.NOINPUT),
        ("--users file", "file holds no user; to make one: smtpstate passwd NAME --users file", Exit.CONFIG),
        ("--users bad", "bad, line 1: no {SCHEME} before the password", Exit.CONFIG),
        ("--deliver maildir:file/mail", "cannot write to the Maildir ", Exit.CANTCREAT),
        ("--deliver maildir:/proc/mail", "cannot write to the Maildir /proc/mail: ", Exit.CANTCREAT),
        ("--deliver nothing:store", "cannot import nothing: ModuleNotFoundError", Exit.CONFIG),
        ("--deliver broken:store", "cannot import broken: ZeroDivisionError", Exit.CONFIG),
        ("--deliver invalid:store", "cannot import invalid: SyntaxError", Exit.CONFIG),
        ("--deliver good:missing", "good has no missing", Exit.CONFIG),
        ("--deliver good:plain", "good:plain is not a coroutine function", Exit.CONFIG),
        ("--deliver good:number", "good:number is not a coroutine function", Exit.CONFIG),
    ],
)
def test_what_cannot_work_is_one_line(home: Home, arguments: str, words: str, code: Exit) -> None:
    (home.path / "file").write_bytes(b"")
    (home.path / "file").chmod(0o600)
    (home.path / "bad").write_bytes(b"joe:secret\n")
    (home.path / "bad").chmod(0o600)
    (home.path / "broken.py").write_text("1 / 0\n")
    (home.path / "invalid.py").write_text("def\n")
    (home.path / "good.py").write_text("number = 1\ndef plain(message): pass\n")
    done = home.run("serve", "--listen", "127.0.0.1:0", *arguments.split())
    assert words in said(done)
    assert done.returncode == code
