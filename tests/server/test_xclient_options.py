"""`smtpstate serve --xclient-from` and `--xforward-from`: the options, and a client that a front end names."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from smtpstate_server._exits import Exit
from tests.server.running import SECONDS, Home, Serve

if TYPE_CHECKING:
    from collections.abc import Sequence

MESSAGE = (b"EHLO c.example", b"MAIL FROM:<me@example.org>", b"RCPT TO:<you@example.com>", b"DATA", b"hello\r\n.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--xclient-from proxy.example", "'proxy.example' does not appear to be an IPv4 or IPv6 network"),
        ("--xforward-from 192.0.2.1/24", "192.0.2.1/24 has host bits set"),
        ("--xclient-from 127.0.0.1", "other hosts can reach a proxy: say --domain NAME"),
        (
            "--xclient-from 127.0.0.1 --proxy v1 --proxy-from 127.0.0.1",
            "--proxy does not go with --xclient-from or --xforward-from",
        ),
    ],
)
def test_what_makes_no_sense_is_one_line(home: Home, arguments: str, words: str) -> None:
    done = home.run("serve", "--listen", "127.0.0.1:0", *arguments.split())
    text = done.stderr.decode()
    assert text.count("\n") == 1
    assert words in text
    assert done.returncode == Exit.USAGE


def talk(port: int, lines: Sequence[bytes]) -> list[bytes]:
    """The code of each answer."""
    found: list[bytes] = []
    with socket.create_connection(("127.0.0.1", port), SECONDS) as peer, peer.makefile("rb") as replies:
        for line in (b"", *lines, b"QUIT"):
            peer.sendall(line + b"\r\n" if line else b"")
            while (reply := replies.readline())[3:4] == b"-":
                pass
            found.append(reply[:3])
        assert replies.read() == b""
    return found[1:-1]


def test_received_and_the_log_name_the_client_that_a_front_end_names(serve: Serve, home: Home) -> None:
    served = serve("--no-tls", "--domain", "example.com", "--xclient-from", "127.0.0.0/8")
    named = b"XCLIENT NAME=c.example ADDR=IPV6:2001:db8::1 PORT=9 LOGIN=joe"
    assert talk(served.port, (named, *MESSAGE)) == [b"220", b"250", b"250", b"250", b"354", b"250"]
    [stored] = home.stored()
    assert b"Received: from c.example ([IPv6:2001:db8::1])" in stored
    assert b" with ESMTPA id " in stored
    assert served.stop() == 0
    assert any(" peer=[2001:db8::1]:9 via=127.0.0.1:" in line for line in served.log), served.log
    assert any(" user=joe " in line for line in served.log), served.log


def test_the_log_says_where_a_relay_has_a_message_from(serve: Serve, home: Home) -> None:
    served = serve("--no-tls", "--domain", "example.com", "--xforward-from", "127.0.0.1", "--xforward-from", "::1")
    forward = b"XFORWARD NAME=a+20b ADDR=192.0.2.9"
    unknown, local = b"XFORWARD NAME=[UNAVAILABLE]", b"XFORWARD SOURCE=LOCAL"
    hello, *message = MESSAGE
    assert talk(served.port, (hello, forward, *message, unknown, *message, local, *message))[1] == b"250"
    assert b"192.0.2.9" not in b"".join(home.stored()), "it is for the log"
    assert served.stop() == 0
    origins = [line.partition(" origin=")[2].partition(" from=")[0] for line in served.log if " origin=" in line]
    assert origins == ["'a b/192.0.2.9'", "'?'", "'LOCAL'"], served.log
