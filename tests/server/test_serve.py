"""`smtpstate serve` as a process, and smtplib as its client."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import smtplib
import socket
import ssl
import threading
import time
from email import message_from_bytes
from typing import TYPE_CHECKING

import pytest

from tests.server.running import SECONDS, Home, Serve, Served

if TYPE_CHECKING:
    from collections.abc import Callable


CONTENT = b"Subject: hello\r\n\r\nhello\r\n..two dots\r\n.\x1a\r\n\x00\xff\xfe 8-bit\r\n.. \r\nend\r\n"
TRACE = re.compile(
    rb"Return-Path: <me@example\.org>\r\n"
    rb"Delivered-To: you@example\.com\r\n"
    rb"Received: from client\.example\.org \(\[127\.0\.0\.1\]\)\r\n"
    rb"\tby mx\.example\.com with (E?SMTPS?) id (\S+)\r\n"
    rb"\tfor <you@example\.com>(?:\r\n\ttls (TLS_\w+) \(TLSv1\.3\))?;\r\n"
    rb"\t\w{3}, \d\d? \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}\r\n"
)


def trusting(home: Home) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(home.certificate))


def connected(served: Served, mode: str) -> smtplib.SMTP:
    name = "client.example.org"
    if mode == "TLS":
        context = trusting(served.home)
        return smtplib.SMTP_SSL("localhost", served.ports["TLS"], name, timeout=SECONDS, context=context)
    client = smtplib.SMTP("127.0.0.1", served.ports["plain" if "plain" in served.ports else "STARTTLS"], name, SECONDS)
    if mode == "STARTTLS":
        client._host = "localhost"  # type: ignore[attr-defined]  # smtplib checks the name that it connected to
        client.starttls(context=trusting(served.home))
    return client


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(SECONDS)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def data(client: smtplib.SMTP, content: bytes) -> tuple[int, bytes]:
    """DATA as it is, with dots stuffed and nothing else touched; smtplib would mend line ends."""
    assert client.docmd("DATA")[0] == 354
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    client.send((b"." + stuffed if stuffed.startswith(b".") else stuffed) + b".\r\n")
    return client.getreply()


def deliver(client: smtplib.SMTP, content: bytes = CONTENT, *recipients: str) -> tuple[int, bytes]:
    client.ehlo_or_helo_if_needed()
    assert client.mail("me@example.org")[0] == 250
    for recipient in recipients or ("you@example.com",):
        assert client.rcpt(recipient)[0] == 250
    return data(client, content)


@pytest.mark.parametrize(
    ("mode", "arguments", "keyword"),
    [
        ("plain", ["--no-tls"], b"ESMTP"),
        ("plain in spite of STARTTLS", [], b"ESMTP"),
        ("STARTTLS", [], b"ESMTPS"),
        ("TLS", ["--listen-tls", "127.0.0.1:0"], b"ESMTPS"),
    ],
)
def test_what_is_stored_is_what_was_sent(
    serve: Serve, home: Home, mode: str, arguments: list[str], keyword: bytes
) -> None:
    served = serve("--hostname", "mx.example.com", *arguments)
    with connected(served, mode) as client:
        code, text = deliver(client)
    assert code == 250, text
    [stored] = home.stored()
    match = TRACE.match(stored)
    assert match is not None, stored
    assert stored[match.end() :] == CONTENT
    assert match[1] == keyword
    assert match[2] in text
    assert (match[3] is not None) is (keyword == b"ESMTPS")
    assert served.stop() == 0


def test_all_three_kinds_of_listener_are_said_on_stdout(serve: Serve) -> None:
    served = serve("--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0")
    assert served.ports.keys() == {"STARTTLS", "TLS"}
    assert all(served.ports.values())


def test_a_hello_of_old_is_recorded_as_such(serve: Serve, home: Home) -> None:
    served = serve("--no-tls", "--hostname", "mx.example.com")
    with connected(served, "plain") as client:
        client.helo()
        assert deliver(client)[0] == 250
    assert b" with SMTP id " in home.stored()[0]


def test_each_recipient_has_a_line_and_a_second_message_is_a_second_file(serve: Serve, home: Home) -> None:
    served = serve("--no-tls")
    with connected(served, "plain") as client:
        assert deliver(client, b"a\r\n", "a@example.com", '"b c"@example.com', "Postmaster")[0] == 250
        assert deliver(client, b"")[0] == 250
    first, second = sorted(home.stored(), key=len, reverse=True)
    assert message_from_bytes(first).get_all("Delivered-To") == ["a@example.com", '"b c"@example.com', "Postmaster"]
    assert second.endswith(b"\r\n")
    assert b"for <you@example.com>" in second


def test_it_says_how_many_recipients_it_takes_and_wants_lines(serve: Serve) -> None:
    with connected(serve("--no-tls"), "plain") as client:
        client.ehlo()
        assert client.esmtp_features["limits"] == "RCPTMAX=1000"
        assert client.has_extn("chunking")
        assert not client.has_extn("binarymime")


def test_the_certificate_is_kept_and_said(serve: Serve, home: Home) -> None:
    first = serve()
    assert first.stop() == 0
    octets = home.certificate.read_bytes()
    assert any(f"--ca {home.certificate}" in line for line in first.log)
    assert home.certificate.with_name("key.pem").stat().st_mode & 0o777 == 0o600
    second = serve()
    assert second.stop() == 0
    assert home.certificate.read_bytes() == octets


def test_without_tls_none_is_offered_and_no_certificate_made(serve: Serve, home: Home) -> None:
    served = serve("--no-tls")
    assert served.ports.keys() == {"plain"}
    with connected(served, "plain") as client:
        client.ehlo()
        assert not client.has_extn("starttls")
    assert not list(home.path.rglob("*.pem"))


def test_a_message_and_a_session_are_a_line_of_log_each(serve: Serve) -> None:
    served = serve()
    with connected(served, "STARTTLS") as client:
        deliver(client, CONTENT, "a@example.com", "b@example.com")
    assert served.stop() == 0
    [message] = [line for line in served.log if " message " in line]
    [session] = [line for line in served.log if " session " in line]
    size = len(CONTENT)
    assert "from=<me@example.org> to=<a@example.com>,<b@example.com>" in message
    assert f" size={size} anomalies=NUL tls=TLSv1.3/" in message
    assert ' result="250 2.0.0 ' in message
    assert " messages=1 tls=TLSv1.3/" in session
    assert session.endswith(" result=QUIT\n")


@pytest.mark.parametrize(
    ("policy", "code", "logged"), [("mx", 250, " deviations=SPACE_AFTER_COLON "), ("strict", 501, "")]
)
def test_the_policy_takes_or_refuses_what_breaks_the_grammar(serve: Serve, policy: str, code: int, logged: str) -> None:
    served = serve("--no-tls", "--policy", policy)
    with connected(served, "plain") as client:
        client.ehlo()
        assert client.docmd("MAIL FROM: <me@example.org>")[0] == code
        if code == 250:
            client.rcpt("you@example.com")
            data(client, CONTENT)
    assert served.stop() == 0
    messages = [line for line in served.log if " message " in line]
    assert len(messages) == (code == 250)
    assert all(logged in line for line in messages)


@pytest.mark.parametrize(
    ("setting", "code", "logged", "stored"),
    [
        ("auto", 250, " anomalies=BARE_CR,BARE_LF tls=no ", b"one\r\ntwo\r\nthree\r\n"),
        ("no", 250, " anomalies=BARE_CR,BARE_LF tls=no ", b"one\ntwo\rthree\r\n"),
        ("reject", 550, " result=incomplete", None),
    ],
)
def test_a_bare_newline_is_what_the_option_makes_of_it(
    serve: Serve, home: Home, setting: str, code: int, logged: str, stored: bytes | None
) -> None:
    served = serve("--no-tls", "-o", f"smtpd_forbid_bare_newline={setting}")
    with connected(served, "plain") as client:
        client.ehlo()
        client.mail("me@example.org")
        client.rcpt("you@example.com")
        client.docmd("DATA")
        client.send(b"Subject: s\r\n\r\none\ntwo\rthree\r\n.\r\n")
        assert client.getreply()[0] == code
    assert served.stop() == 0
    [line] = [line for line in served.log if " message " in line]
    assert logged in line
    assert [message.endswith(stored or b"") for message in home.stored()] == ([] if stored is None else [True])


def test_a_message_that_is_cut_leaves_nothing_but_its_line_of_log(serve: Serve, home: Home) -> None:
    served = serve("--no-tls")
    client = connected(served, "plain")
    client.ehlo()
    client.mail("me@example.org")
    client.rcpt("you@example.com")
    client.docmd("DATA")
    client.send(b"x" * 300_000)
    client.close()
    with connected(served, "plain") as client:
        client.noop()
    assert served.stop() == 0
    assert home.stored() == []
    assert os.listdir(home.path / "mail" / "tmp") == []
    assert any(" message " in line and "result=incomplete" in line for line in served.log)


def test_a_server_that_is_killed_leaves_no_half_message_where_others_look(serve: Serve, home: Home) -> None:
    served = serve("--no-tls")
    client = connected(served, "plain")
    client.ehlo()
    client.mail("me@example.org")
    client.rcpt("you@example.com")
    client.docmd("DATA")
    client.send(b"x" * 1_000_000)
    assert served.stop(signal.SIGKILL) == -signal.SIGKILL
    client.close()
    assert home.stored() == []


@pytest.mark.parametrize("missing", ["mail", "mail/tmp", "mail/new"])
def test_a_maildir_that_goes_away_is_a_451_and_no_message_is_lost_or_doubled(
    serve: Serve, home: Home, missing: str
) -> None:
    served = serve("--no-tls")
    away = home.path / "away"
    with connected(served, "plain") as client:
        shutil.move(home.path / missing, away)
        assert deliver(client)[0] == 451
        shutil.move(away, home.path / missing)
        assert home.stored() == []
        assert deliver(client)[0] == 250
    assert len(home.stored()) == 1


def test_a_message_beyond_the_limit_is_refused_and_not_stored(serve: Serve, home: Home) -> None:
    served = serve("--no-tls", "--message-size-limit", "1000")
    with connected(served, "plain") as client:
        client.ehlo()
        assert client.esmtp_features["size"] == "1000"
        assert client.mail("me@example.org", ["SIZE=1001"])[0] == 552
        assert deliver(client, b"x" * 1200 + b"\r\n")[0] == 552
        assert deliver(client, b"x" * 900 + b"\r\n")[0] == 250
    assert len(home.stored()) == 1


@pytest.mark.parametrize(
    ("arguments", "recipient", "reply"),
    [
        (["--listen", "127.0.0.1:0"], "anybody@anywhere.example", b"2.1.5"),
        (["--listen", "0.0.0.0:0", "--domain", "example.org"], "you@EXAMPLE.org", b"2.1.5"),
        (["--listen", "0.0.0.0:0", "--domain", "example.org"], "postmaster", b"2.1.5"),
        (["--listen", "0.0.0.0:0", "--domain", "example.org"], "you@example.com", b"5.7.1"),
        (["--listen", "0.0.0.0:0", "--domain", "example.org"], "you@sub.example.org", b"5.7.1"),
        (["--listen", "0.0.0.0:0", "--domain", "example.org"], "you%example.com@example.net", b"5.7.1"),
        (["--listen", "127.0.0.1:0", "--domain", "example.org"], "you@example.com", b"5.7.1"),
        (["--listen", "0.0.0.0:0", "--accept-any"], "anybody@anywhere.example", b"2.1.5"),
    ],
)
def test_whose_mail_is_taken(serve: Serve, arguments: list[str], recipient: str, reply: bytes) -> None:
    served = serve("--no-tls", *arguments)
    with connected(served, "plain") as client:
        client.ehlo()
        client.mail("me@example.org")
        code, text = client.rcpt(recipient)
    assert (code, text[:5]) == (250 if reply.startswith(b"2") else 550, reply)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_says_421_to_idle_sessions_and_ends_with_0(serve: Serve, number: signal.Signals) -> None:
    served = serve("--no-tls")
    client = connected(served, "plain")
    client.ehlo()
    served.process.send_signal(number)
    assert client.getreply()[0] == 421
    client.close()
    assert served.end() == 0


def test_a_message_under_way_is_finished_before_the_end(serve: Serve, home: Home) -> None:
    served = serve("--no-tls")
    client = connected(served, "plain")
    client.ehlo()
    client.mail("me@example.org")
    client.rcpt("you@example.com")
    client.docmd("DATA")
    client.send(b"half\r\n")
    served.process.send_signal(signal.SIGTERM)
    served.process.send_signal(signal.SIGTERM)  # some send it twice
    end = time.monotonic() + SECONDS
    while listens(served.port):
        assert time.monotonic() < end
    client.send(b"whole\r\n.\r\n")
    assert client.getreply()[0] == 250
    client.close()
    assert served.end() == 0
    assert home.stored()[0].endswith(b"\r\nhalf\r\nwhole\r\n")


def test_discard_takes_all_and_keeps_nothing(serve: Serve, home: Home) -> None:
    served = serve("--no-tls", "--deliver", "discard")
    with connected(served, "plain") as client:
        assert deliver(client)[0] == 250
    assert os.listdir(home.path) == []


APP = """
from smtpstate import Refusal

class Mail:
    async def store(self, message):
        data = b"".join([piece async for piece in message.body])
        if b"refuse" in data:
            raise Refusal(554, "No", enhanced="5.7.0")
        if b"crash" in data:
            raise ZeroDivisionError
        open(message.recipients[0].mailbox.local_part, "wb").write(data)

mail = Mail()
"""


def test_a_function_of_your_own_takes_each_message(serve: Serve, home: Home) -> None:
    (home.path / "app.py").write_text(APP)
    served = serve("--no-tls", "--deliver", "app:mail.store")
    with connected(served, "plain") as client:
        assert deliver(client)[0] == 250
        assert deliver(client, b"refuse\r\n") == (554, b"5.7.0 No")
        assert deliver(client, b"crash\r\n")[0] == 451
        assert deliver(client)[0] == 250  # it goes on
    assert (home.path / "you").read_bytes() == CONTENT
    assert served.stop() == 0
    assert sum(line.startswith("ZeroDivisionError") for line in served.log) == 1
    assert sum(" message " in line for line in served.log) == 4 + 1  # and the failure has a record of its own


def test_many_clients_at_once_lose_nothing(serve: Serve, home: Home) -> None:
    served = serve("--no-tls")

    def send(number: int) -> None:
        with connected(served, "plain") as client:
            for n in range(5):
                assert deliver(client, b"%d.%d\r\n" % (number, n))[0] == 250

    threads = [threading.Thread(target=send, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    bodies = {stored.rpartition(b"\r\n\t")[2].partition(b"\r\n")[2] for stored in home.stored()}
    assert bodies == {b"%d.%d\r\n" % (number, n) for number in range(10) for n in range(5)}


def terminal(serve: Serve, *arguments: str) -> tuple[Served, Callable[[], str]]:
    """`serve` with a terminal for its stderr, and what that shows once it has ended."""
    leader, follower = pty.openpty()
    served = serve(*arguments, stderr=follower)
    os.close(follower)

    def shown() -> str:
        octets = b""
        try:
            while piece := os.read(leader, 65_536):
                octets += piece
        except OSError:  # how Linux says that nobody has the other end any more
            pass
        os.close(leader)
        return octets.decode().replace("\r\n", "\n")

    return served, shown


def test_a_terminal_shows_the_conversation_and_no_secret(serve: Serve) -> None:
    served, shown = terminal(serve)
    with connected(served, "STARTTLS") as client:
        client.ehlo()
        client.docmd("AUTH", "PLAIN c2VjcmV0")
        client.docmd("YWxzb3NlY3JldA==")
        client.docmd("NOOP", "\x1b[2J")
        deliver(client)
    assert served.stop() == 0
    text = shown()
    for line in (
        r"\w+  CONNECT clear +S: 220 ",
        r"\w+  READY   clear +C: STARTTLS",
        r"\w+  READY   TLSv1\.3 C: (?i:mail from):<me@example\.org>",
        r"\w+  READY   TLSv1\.3 C: AUTH PLAIN \*{8}",
        r"\w+  READY   TLSv1\.3 C: \*{8}",
        r"\w+  READY   TLSv1\.3 C: NOOP \?\[2J",
        rf"\w+  BODY    TLSv1\.3 C: \({len(CONTENT)} octets\) \.",
        r"\w+  BODY    TLSv1\.3 S: 250 2\.0\.0 ",
    ):
        assert re.search(f"^{line}", text, re.MULTILINE), (line, text)
    assert "c2VjcmV0" not in text
    assert "YWxzb3NlY3JldA" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize("arguments", [["--quiet"], ["--quiet", "--log-level", "error"]])
def test_a_quiet_terminal_shows_the_log_at_most(serve: Serve, arguments: list[str]) -> None:
    served, shown = terminal(serve, "--no-tls", *arguments)
    with connected(served, "plain") as client:
        deliver(client)
    assert served.stop() == 0
    text = shown()
    assert "C: " not in text
    assert (" message " in text) is (len(arguments) == 1)


def test_without_a_terminal_there_is_no_conversation(serve: Serve) -> None:
    served = serve("--no-tls")
    with connected(served, "plain") as client:
        deliver(client)
    assert served.stop() == 0
    assert not any("C: " in line for line in served.log)
