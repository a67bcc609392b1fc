"""Users at work: `serve --users` with its listeners, and `send --user` against it."""

from __future__ import annotations

import re
import smtplib
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from smtpstate_server._exits import Exit
from tests.server.running import SECONDS, Home, Scripted, Serve, Served

if TYPE_CHECKING:
    from pathlib import Path

FROM = ("--from", "me@example.org")
TO = ("--to", "you@example.com")
MESSAGE = b"Subject: hello\r\n\r\nhello\r\n.dot\r\n"
LISTEN = ("--listen", "127.0.0.1:0", "--submission", "127.0.0.1:0", "--lmtp", "127.0.0.1:0")


@pytest.fixture
def users(home: Home) -> Path:
    done = home.run("passwd", "joe", "--users", "users", stdin=b"pencil\n")
    assert done.returncode == Exit.OK
    (home.path / "right").write_bytes(b"pencil\n")
    (home.path / "wrong").write_bytes(b"pen\n")
    return home.path / "users"


def send(home: Home, port: int, *arguments: str) -> tuple[int, str, str]:
    trust = ("--ca", str(home.certificate)) if "--tls" not in arguments else ()
    done = home.run("send", "--server", f"localhost:{port}", *FROM, *TO, *trust, *arguments, stdin=MESSAGE)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def login(password: str = "right", *arguments: str) -> tuple[str, ...]:
    return ("--user", "joe", "--password-file", password, *arguments)


@pytest.mark.usefixtures("users")
def test_every_listener_takes_mail_as_it_should(serve: Serve, home: Home) -> None:
    served = serve(*LISTEN, "--users", "users", "--hostname", "mx.example.com")
    plain, submission, lmtp = served.listening
    assert send(home, plain)[0] == Exit.OK
    assert send(home, plain, *login())[0] == Exit.OK
    assert send(home, submission, *login())[0] == Exit.OK
    assert send(home, lmtp, "--lmtp", "--bdat")[0] == Exit.OK
    assert served.stop() == 0
    stored = home.stored()
    assert all(octets.endswith(b"\r\n" + MESSAGE) for octets in stored)
    used = sorted(octets.partition(b" with ")[2].partition(b" ")[0] for octets in stored)
    assert used == [b"ESMTPS", b"ESMTPSA", b"ESMTPSA", b"LMTPS"]
    assert sum(" user=joe " in line for line in served.log if " message id=" in line) == 2


@pytest.mark.usefixtures("users")
def test_mechanisms_are_offered_inside_tls_on_every_listener(serve: Serve, home: Home) -> None:
    served = serve(*LISTEN[:4], "--listen-tls", "127.0.0.1:0", "--users", "users")
    context = ssl.create_default_context(cafile=str(home.certificate))
    ports = dict(zip(("plain", "TLS", "submission"), served.listening, strict=True))
    with smtplib.SMTP_SSL("localhost", ports["TLS"], timeout=SECONDS, context=context) as client:
        client.ehlo()
        assert client.esmtp_features["auth"].split() == ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
        assert client.login("joe", "pencil")[0] == 235
    for name in ("plain", "submission"):
        with smtplib.SMTP("localhost", ports[name], timeout=SECONDS) as client:
            client.ehlo()
            assert not client.has_extn("auth")
            client.starttls(context=context)
            client.ehlo()
            assert client.has_extn("auth")


@pytest.mark.usefixtures("users")
def test_a_login_is_bound_to_the_session_where_both_want_that(serve: Serve, home: Home) -> None:
    used: list[str] = []
    for bound in ((), ("--channel-binding",)):
        served = serve("--submission", "127.0.0.1:0", "--users", "users", *bound)
        for arguments in ((), ("--channel-binding",)):
            assert send(home, served.port, *login("right", *arguments))[0] == Exit.OK
        code = Exit.OK if bound else Exit.NOPERM
        assert send(home, served.port, *login("right", "--auth", "scram-sha-256-plus"))[0] == code
        assert served.stop() == 0
        used += [line.partition(": AUTH ")[2].partition(",")[0] for line in served.log if ": AUTH " in line]
    plain, plus = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"
    assert used == [plain, plain, plain, plus, plus]


@pytest.mark.usefixtures("users")
def test_a_certificate_of_the_authority_logs_its_user_in(serve: Serve, home: Home) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(home.path / "ca.pem")
    served = serve("--submission", "127.0.0.1:0", "--users", "users", "--client-ca", "ca.pem")
    for name, code in (("joe", 235), ("ann", 535)):
        context = ssl.create_default_context(cafile=str(home.certificate))
        authority.issue_cert("192.0.2.1", common_name=name).configure_cert(context)
        with smtplib.SMTP("localhost", served.port, timeout=SECONDS) as client:
            client.starttls(context=context)
            client.ehlo()
            assert "EXTERNAL" in client.esmtp_features["auth"].split()
            assert client.docmd("AUTH", "EXTERNAL =")[0] == code
    with smtplib.SMTP("localhost", served.port, timeout=SECONDS) as client:
        client.starttls(context=ssl.create_default_context(cafile=str(home.certificate)))
        client.ehlo()
        assert "EXTERNAL" not in client.esmtp_features["auth"].split()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("serve", "--client-ca", "x"), Exit.USAGE, "--client-ca needs --users"),
        (("serve", "--channel-binding"), Exit.USAGE, "--channel-binding needs --users"),
        (("serve", "--users", "users", "--client-ca", "none"), Exit.CONFIG, "cannot use none to verify clients"),
        (("serve", "--users", "users", "--client-ca", "right"), Exit.CONFIG, "cannot use right to verify clients"),
        (
            ("send", "--server", "localhost:1", *FROM, *TO, "--channel-binding"),
            Exit.USAGE,
            "--channel-binding needs --user",
        ),
    ],
)
@pytest.mark.usefixtures("users")
def test_what_a_binding_or_a_certificate_needs(home: Home, arguments: tuple[str, ...], code: Exit, words: str) -> None:
    done = home.run(*arguments)
    assert (done.returncode, done.stdout) == (code, b"")
    assert words in done.stderr.decode()


@pytest.mark.parametrize("mechanism", ["PLAIN", "login", "SCRAM-SHA-256"])
@pytest.mark.usefixtures("users")
def test_send_logs_in_by_the_mechanism_it_is_told(serve: Serve, home: Home, mechanism: str) -> None:
    served = serve("--submission", "127.0.0.1:0", "--users", "users")
    assert send(home, served.port, *login("right", "--auth", mechanism))[0] == Exit.OK
    assert served.stop() == 0
    assert any(f"AUTH {mechanism.upper()}, user='joe'" in line for line in served.log)


@pytest.mark.usefixtures("users")
def test_send_says_why_it_was_not_let_in(serve: Serve, home: Home) -> None:
    served = serve("--submission", "127.0.0.1:0", "--users", "users")
    code, out, err = send(home, served.port, *login("wrong"))
    assert (code, out) == (Exit.NOPERM, "you@example.com refused 535 5.7.8 Authentication failed\n")
    assert err == "smtpstate: authentication failed: 535 5.7.8 Authentication failed\n"
    code, out, err = send(home, served.port, *login("right", "--auth", "CRAM-MD5"))
    assert code == Exit.NOPERM
    assert out.startswith("you@example.com retry - no way to authenticate that fits: it offers SCRAM-SHA-256, PLAIN")
    assert err.count("\n") == 1
    code, out, err = send(home, served.port)
    assert (code, out[:45]) == (Exit.UNAVAILABLE, "you@example.com refused 530 5.7.0 Authenticat")
    assert home.stored() == []
    assert served.stop() == 0
    assert any("AUTH SCRAM-SHA-256 failed, user='joe' peer=127.0.0.1:" in line for line in served.log)
    # Neither password, whatever stands around it; "popen" is in the path of a test that runs beside others.
    assert not any(re.search(r"(?<!po)pen", line) for line in served.log)


SCRIPTS = [
    (["250-there", "250 AUTH PLAIN"], [], Exit.NOPERM, "PLAIN would show the password to whoever listens"),
    (["250 there"], [], Exit.NOPERM, "no AUTH"),
    (["250-there", "250 AUTH SCRAM-SHA-256", "454 4.7.0 later"], [b"AUTH"], Exit.TEMPFAIL, "users cannot be asked"),
    (["250-there", "250 AUTH SCRAM-SHA-256", "235 2.7.0 ok"], [b"AUTH"], Exit.NOPERM, "it did not prove anything"),
]


@pytest.mark.parametrize(("script", "heard", "code", "reason"), SCRIPTS)
@pytest.mark.usefixtures("users")
def test_nothing_is_sent_where_nobody_is_logged_in(
    scripted: Scripted, home: Home, script: list[str], heard: list[bytes], code: Exit, reason: str
) -> None:
    server = scripted(["220 there", *script, "221 bye"])
    done = send(home, server.port, *login(), "--tls", "off")
    assert done[0] == code, (reason, done)
    said = [line.split()[0] for line in server.heard if line.strip()]
    assert [verb for verb in said if verb not in (b"EHLO", b"QUIT")] == heard, reason
    assert done[1].startswith("you@example.com retry "), reason
    assert done[2].count("\n") == 1, reason


@pytest.mark.parametrize(
    ("octets", "words", "code"),
    [
        (None, "cannot read the password secret: No such file", Exit.NOINPUT),
        (b"\xff\n", "the password in secret is not UTF-8", Exit.CONFIG),
        (b"\n", "cannot log in with secret: a password that is empty", Exit.USAGE),
    ],
)
def test_a_password_file_that_is_no_use_is_one_line(home: Home, octets: bytes | None, words: str, code: Exit) -> None:
    if octets is not None:
        (home.path / "secret").write_bytes(octets)
    done = send(home, 1, *login("secret"), "--tls", "off")
    assert (done[0], done[1]) == (code, "")
    assert done[2].startswith(f"smtpstate: {words}")
    assert done[2].count("\n") == 1


@pytest.mark.usefixtures("users")
def test_argon2_takes_scram_away_and_works(serve: Serve, home: Home) -> None:
    assert home.run("passwd", "ann", "--scheme", "ARGON2ID", "--users", "users", stdin=b"pencil").returncode == 0
    served: Served = serve("--submission", "127.0.0.1:0", "--users", "users")
    for name in ("joe", "ann"):
        assert send(home, served.port, "--user", name, "--password-file", "right")[0] == Exit.OK
    assert send(home, served.port, *login("right", "--auth", "SCRAM-SHA-256"))[0] == Exit.NOPERM
    assert served.stop() == 0


@pytest.mark.usefixtures("users")
def test_a_user_is_relayed_nowhere(serve: Serve, home: Home) -> None:
    served = serve("--submission", "127.0.0.1:0", "--users", "users", "--domain", "example.org")
    code, out, _ = send(home, served.port, *login())
    assert (code, out[:26]) == (Exit.UNAVAILABLE, "you@example.com refused 55")
    assert served.stop() == 0
