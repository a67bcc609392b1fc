"""`smtpstate send` as a process: against `serve`, and against servers that misbehave."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from smtpstate_server._exits import Exit
from tests.server.running import SECONDS, Home, Scripted, Serve

if TYPE_CHECKING:
    from collections.abc import Sequence


FROM = ("--from", "me@example.org")
TO = ("--to", "you@example.com")
MESSAGE = b"Subject: hello\r\n\r\nhello\r\n.dot\r\n"


def to(port: int, *arguments: str, host: str = "localhost") -> tuple[str, ...]:
    return "send", "--server", f"{host}:{port}", *FROM, *arguments


@pytest.mark.parametrize(
    ("tls", "protocol"),
    [("required", b"ESMTPS"), ("opportunistic", b"ESMTPS"), ("off", b"ESMTP"), ("implicit", b"ESMTPS")],
)
def test_it_delivers_in_every_mode(serve: Serve, home: Home, tls: str, protocol: bytes) -> None:
    served = serve("--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0")
    port = served.ports["TLS" if tls == "implicit" else "STARTTLS"]
    arguments = to(port, *TO, "--tls", tls, "--ca", str(home.certificate), "--hostname", "client.example.org")
    done = home.run(*arguments, stdin=MESSAGE)
    assert done.returncode == Exit.OK, done.stderr
    assert done.stdout.startswith(b"you@example.com accepted 250 2.0.0 ")
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""
    [stored] = home.stored()
    assert b"from client.example.org ([127.0.0.1])\r\n" in stored
    assert b" with %s id " % protocol in stored
    assert stored.endswith(b"\r\n" + MESSAGE)


@pytest.mark.parametrize(
    ("content", "stored"),
    [
        (b"a\nb\rc\r\nd", b"a\r\nb\r\nc\r\nd\r\n"),
        (b".\n..\n", b".\r\n..\r\n"),
        (b"\xff\xfe\x00\r\n", b"\xff\xfe\x00\r\n"),
        (b"", b""),
    ],
    ids=["bare CR and LF", "dots", "8-bit and NUL", "nothing"],
)
def test_line_ends_become_crlf_and_nothing_else_changes(
    serve: Serve, home: Home, content: bytes, stored: bytes
) -> None:
    served = serve("--no-tls")
    (home.path / "mail.eml").write_bytes(content)
    done = home.run(*to(served.port, *TO, "--tls", "off", "mail.eml"))
    assert done.returncode == Exit.OK, done.stderr
    assert home.stored()[0].rpartition(b"\r\n\t")[2].partition(b"\r\n")[2] == stored


def test_a_file_on_standard_input_will_do(serve: Serve, home: Home) -> None:
    served = serve("--no-tls")
    (home.path / "mail.eml").write_bytes(MESSAGE)
    command = [sys.executable, "-m", "smtpstate_server", *to(served.port, *TO, "--tls", "off", "-")]
    with (home.path / "mail.eml").open("rb") as file:
        done = subprocess.run(
            command, stdin=file, capture_output=True, timeout=SECONDS, cwd=home.path, env=home.environment, check=False
        )
    assert done.returncode == Exit.OK, done.stderr
    assert home.stored()[0].endswith(b"\r\n" + MESSAGE)


def test_each_recipient_has_its_own_line_and_refused_is_69(serve: Serve, home: Home) -> None:
    served = serve("--no-tls", "--domain", "example.com")
    done = home.run(*to(served.port, *TO, "--to", "<x@elsewhere.example>", "--tls", "off"), stdin=MESSAGE)
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("you@example.com accepted 250 2.0.0 ")
    assert lines[1].startswith("x@elsewhere.example refused 550 5.7.1 ")
    assert done.returncode == Exit.UNAVAILABLE
    assert len(home.stored()) == 1


def test_the_null_sender_is_nobody(serve: Serve, home: Home) -> None:
    served = serve("--no-tls")
    for sender in ("", "<>"):
        arguments = ("send", "--server", f"127.0.0.1:{served.port}", "--from", sender, *TO, "--tls", "off")
        assert home.run(*arguments, stdin=MESSAGE).returncode == Exit.OK
    assert all(stored.startswith(b"Return-Path: <>\r\n") for stored in home.stored())


def test_a_storage_problem_is_to_be_tried_again(serve: Serve, home: Home) -> None:
    served = serve("--no-tls")
    (home.path / "mail" / "tmp").rmdir()
    done = home.run(*to(served.port, *TO, "--tls", "off"), stdin=MESSAGE)
    assert done.stdout.startswith(b"you@example.com retry 451 4.3.0 ")
    assert done.returncode == Exit.TEMPFAIL


@pytest.mark.parametrize(
    ("server", "arguments", "words"),
    [
        (["--no-tls"], ["--tls", "required"], b"TLS is required, and the server does not offer STARTTLS"),
        (["--no-tls"], [], b"TLS is required"),
        ([], [], b"TLS failed: self-signed certificate"),  # nobody vouches for the certificate
        ([], ["--tls", "implicit"], b""),
    ],
)
def test_no_tls_where_tls_is_required_is_77(
    serve: Serve, home: Home, server: list[str], arguments: list[str], words: bytes
) -> None:
    served = serve(*server)
    done = home.run(*to(served.port, *TO, *arguments), stdin=MESSAGE)
    assert done.stdout.startswith(b"you@example.com retry - ")
    assert words in done.stdout
    assert done.stderr.count(b"\n") == 1
    assert done.returncode == Exit.NOPERM
    assert home.stored() == []


def test_a_certificate_for_another_name_is_77(serve: Serve, home: Home) -> None:
    served = serve("--listen", "127.0.0.2:0")  # which the certificate does not have
    done = home.run(*to(served.port, *TO, "--ca", str(home.certificate), host="127.0.0.2"), stdin=MESSAGE)
    assert done.returncode == Exit.NOPERM
    assert home.stored() == []


def test_opportunistic_takes_any_certificate_and_none(serve: Serve, home: Home) -> None:
    for arguments in ([], ["--no-tls"]):
        served = serve(*arguments)
        assert home.run(*to(served.port, *TO, "--tls", "opportunistic"), stdin=MESSAGE).returncode == Exit.OK
    assert [b" with ESMTPS id " in stored for stored in home.stored()].count(True) == 1


HELLO = ["220 there", "250-there", "250 8BITMIME"]
SCRIPTS: list[tuple[str, Sequence[str], str, Exit]] = [
    ("refused at once", ["554 no"], "refused 554 no", Exit.UNAVAILABLE),
    ("busy at once", ["421 later"], "retry 421 later", Exit.TEMPFAIL),
    ("no hello", ["220 there", "421 4.3.2 later"], "retry 421 4.3.2 later", Exit.TEMPFAIL),
    ("sender refused", [*HELLO, "550 5.7.1 not you", "221 bye"], "refused 550 5.7.1 not you", Exit.UNAVAILABLE),
    ("greylisted", [*HELLO, "250 ok", "450 4.7.1 later", "250 ok", "221 bye"], "retry 450 4.7.1 later", Exit.TEMPFAIL),
    ("no protocol", ["HTTP/1.1 400 Bad Request"], "retry - ", Exit.PROTOCOL),
    ("no reply to a command", [*HELLO, "gibberish"], "retry - ", Exit.PROTOCOL),
    ("a different code in one reply", ["220 there", "250-there", "220 there"], "retry - ", Exit.PROTOCOL),
    ("gone before the body", [*HELLO, "250 ok", "250 ok"], "retry - ", Exit.TEMPFAIL),
    ("gone after the dot", [*HELLO, "250 ok", "250 ok", "354 go", "..."], "unknown - ", Exit.TEMPFAIL),
    ("garbage after the dot", [*HELLO, "250 ok", "250 ok", "354 go", "...", "what?"], "unknown - ", Exit.PROTOCOL),
    (
        "refused after the dot",
        [*HELLO, "250 ok", "250 ok", "354 go", "...", "554 5.6.0 no"],
        "refused 554",
        Exit.UNAVAILABLE,
    ),
    ("an escape sequence", ["554 \x1b[2Jno"], "refused 554 ?[2Jno", Exit.UNAVAILABLE),
]


@pytest.mark.parametrize(("name", "script", "line", "code"), SCRIPTS, ids=[row[0] for row in SCRIPTS])
def test_what_the_server_does_decides_the_exit_code(
    scripted: Scripted, home: Home, name: str, script: Sequence[str], line: str, code: Exit
) -> None:
    done = home.run(*to(scripted(script).port, *TO, "--tls", "off", host="127.0.0.1"), stdin=MESSAGE)
    assert done.stdout.decode().startswith(f"you@example.com {line}"), (name, done)
    assert done.stdout.count(b"\n") == 1
    assert b"Traceback" not in done.stderr
    assert done.returncode == code


REPORTS = ("--dsn", "success,DELAY", "--dsn-return", "headers", "--dsn-id", "a+b")


def test_reports_are_asked_for(scripted: Scripted, home: Home) -> None:
    server = scripted(["220 there", "250-there", "250 DSN", "250 ok", "250 ok", "354 go", "...", "250 ok", "221 bye"])
    done = home.run(*to(server.port, *TO, "--tls", "off", *REPORTS, host="127.0.0.1"), stdin=MESSAGE)
    assert server.heard[1:3] == [
        b"MAIL FROM:<me@example.org> RET=HDRS ENVID=a+2Bb\r\n",
        b"RCPT TO:<you@example.com> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;you@example.com\r\n",
    ]
    assert (done.returncode, done.stderr) == (Exit.OK, b"")


@pytest.mark.parametrize(
    "arguments", [REPORTS, ("--dsn", "never"), ("--dsn-return", "full"), ("--dsn-id", "1")], ids=" ".join
)
def test_a_server_that_knows_no_reports_gets_the_message_all_the_same(
    serve: Serve, home: Home, arguments: Sequence[str]
) -> None:
    served = serve("--no-tls")  # it delivers and never relays, so it has nothing to report
    done = home.run(*to(served.port, *TO, "--tls", "off", *arguments), stdin=MESSAGE)
    assert done.stderr == b"smtpstate: the server does not offer DSN: no reports were asked for\n"
    assert done.returncode == Exit.OK
    assert len(home.stored()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dsn", "sometimes"], b"'sometimes' is neither never nor a list of success, failure and delay"),
        (["--dsn", "never,delay"], b"neither never nor a list"),
        (["--dsn", "delay,delay"], b"neither never nor a list"),
        (["--dsn-return", "half"], b"'half' is not one of 'full', 'headers'"),
        (["--dsn-id", ""], b"1 to 100 printable ASCII characters are needed"),
        (["--dsn-id", "x" * 101], b"1 to 100 printable ASCII characters are needed"),
        (["--dsn-id", "ü"], b"1 to 100 printable ASCII characters are needed"),
    ],
)
def test_reports_that_nobody_could_ask_for_are_usage(home: Home, arguments: list[str], words: bytes) -> None:
    done = home.run(*to(1, *TO, *arguments), stdin=MESSAGE)
    assert (done.returncode, done.stdout) == (Exit.USAGE, b"")
    assert words in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_binary_goes_where_it_is_taken_and_nowhere_else(scripted: Scripted, home: Home) -> None:
    offers = ["220 there", "250-there", "250-CHUNKING", "250 BINARYMIME"]
    server = scripted([*offers, "250 ok", "250 ok", "250 ok", "221 bye"])
    arguments = (*TO, "--binary", "--tls", "off")
    done = home.run(*to(server.port, *arguments, host="127.0.0.1"), stdin=b"a\n")
    assert (done.stdout, done.returncode) == (b"you@example.com accepted 250 ok\n", Exit.OK)
    assert server.heard[1:4:2] == [b"MAIL FROM:<me@example.org> BODY=BINARYMIME\r\n", b"BDAT 2 LAST\r\n"]
    server = scripted([*HELLO, "221 bye"])
    done = home.run(*to(server.port, *arguments, host="127.0.0.1"), stdin=b"a\n")
    assert done.stdout.startswith(b"you@example.com refused 554 5.6.3 ")
    assert done.returncode == Exit.UNAVAILABLE


def test_refused_and_to_be_tried_again_is_to_be_tried_again(scripted: Scripted, home: Home) -> None:
    server = scripted([*HELLO, "250 ok", "550 no", "450 later", "250 ok", "221 bye"])
    done = home.run(*to(server.port, *TO, "--to", "me@example.com", "--tls", "off", host="127.0.0.1"), stdin=MESSAGE)
    assert done.stdout == b"you@example.com refused 550 no\nme@example.com retry 450 later\n"
    assert done.returncode == Exit.TEMPFAIL


@pytest.mark.parametrize(
    ("script", "heard", "reason"),
    [
        (["250-there", "250 STARTTLS", "454 4.7.0 not now"], [b"EHLO", b"STARTTLS"], "STARTTLS is refused"),
        (["250 there"], [b"EHLO"], "STARTTLS is not offered"),
        (["502 what"], [b"EHLO"], "EHLO is refused: HELO could bring no TLS"),
    ],
)
def test_nothing_but_ehlo_and_starttls_and_a_farewell_goes_out_in_clear(
    scripted: Scripted, home: Home, script: list[str], heard: list[bytes], reason: str
) -> None:
    server = scripted(["220 there", *script, "221 bye"])
    done = home.run(*to(server.port, *TO, host="127.0.0.1"), stdin=MESSAGE)
    assert done.returncode == Exit.NOPERM, reason
    assert [line.split()[0] for line in server.heard if line] == [*heard, b"QUIT"], reason


def test_a_host_without_a_full_name_says_its_address(scripted: Scripted, home: Home) -> None:
    server = scripted([*HELLO, "250 ok", "250 ok", "354 go", "...", "250 ok", "221 bye"])
    done = home.run(*to(server.port, *TO, "--tls", "off", host="127.0.0.1"), stdin=MESSAGE)
    assert done.returncode == Exit.OK
    name = server.heard[0].split()[1].decode()
    assert name == "[127.0.0.1]" or "." in socket.gethostname(), "RFC 5321 section 4.1.4"


def test_the_timeout_bounds_the_whole_attempt(scripted: Scripted, home: Home) -> None:
    server = scripted(None)
    done = home.run(*to(server.port, *TO, "--timeout", "0.2", host="127.0.0.1"), stdin=MESSAGE)
    assert done.stdout.startswith(b"you@example.com retry - ")
    assert done.returncode == Exit.TEMPFAIL


def test_the_exit_code_stands_although_nobody_reads_the_lines(scripted: Scripted, home: Home) -> None:
    server = scripted([*HELLO, "250 ok", "250 ok", "250 ok", "354 go", "...", "250 ok", "221 bye"])
    reader, writer = os.pipe()
    os.close(reader)
    arguments = to(server.port, *TO, "--to", "me@example.com", "--tls", "off", host="127.0.0.1")
    done = home.run(*arguments, stdin=MESSAGE, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (Exit.OK, b""), "else somebody sends it again"


@pytest.mark.parametrize("server", ["127.0.0.1:1", "nowhere.invalid:25"])
def test_nobody_there_is_to_be_tried_again(home: Home, server: str) -> None:
    done = home.run("send", "--server", server, *FROM, *TO, stdin=MESSAGE)
    assert done.stdout.startswith(b"you@example.com retry - cannot connect to ")
    assert done.stderr.startswith(b"smtpstate: cannot connect to ")
    assert done.stderr.count(b"\n") == 1
    assert done.returncode == Exit.TEMPFAIL


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["missing.eml"], b"cannot read missing.eml: No such file or directory", Exit.NOINPUT),
        (["."], b"cannot read .: Is a directory", Exit.NOINPUT),
        (["--ca", "missing.pem"], b"cannot use missing.pem as a certificate to trust: No such file", Exit.NOINPUT),
        (["--ca", "empty"], b"cannot use empty as a certificate to trust: there is none in it", Exit.CONFIG),
    ],
)
def test_a_file_that_is_of_no_use_is_one_line(home: Home, arguments: list[str], words: bytes, code: Exit) -> None:
    (home.path / "empty").write_bytes(b"")
    done = home.run(*to(1, *TO, *arguments))
    assert (done.returncode, done.stdout) == (code, b"")
    assert done.stderr.startswith(b"smtpstate: " + words)
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(("octets", "shown"), [(2_000_000, True), (1000, False)])
def test_a_terminal_shows_how_far_a_large_message_is(serve: Serve, home: Home, octets: int, shown: bool) -> None:
    served = serve("--no-tls")
    (home.path / "mail.eml").write_bytes(b"x" * 78 + b"\r\n" * (octets // 2 - 39))
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "smtpstate_server", *to(served.port, *TO, "--tls", "off", "mail.eml")]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=follower,
        timeout=SECONDS,
        cwd=home.path,
        env=home.environment,
        check=False,
    )
    os.set_blocking(leader, False)
    try:
        text = os.read(leader, 65_536).decode()
    except BlockingIOError:
        text = ""
    os.close(follower)
    os.close(leader)
    assert done.returncode == Exit.OK
    assert ("100%" in text) is shown
    assert len(home.stored()[0]) > octets
