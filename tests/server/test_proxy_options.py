"""`smtpstate serve --proxy`: the options, and a client that a header names."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from smtpstate_anyio import ListenerProxy
from smtpstate_server import _cli
from smtpstate_server._exits import Exit
from tests.server.running import SECONDS, Home, Serve

if TYPE_CHECKING:
    from smtpstate_server._serve import ServeOptions

LINE = b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 25\r\n"
BLOCK = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes((192, 0, 2, 1, 198, 51, 100, 7)) + b"\xdc\x04\0\x19"


@pytest.mark.parametrize(("said", "version"), [("v1", 1), ("v2", 2)])
def test_the_options_make_a_trust_list(said: str, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[ServeOptions] = []

    def take(options: ServeOptions) -> int:
        taken.append(options)
        return 0

    monkeypatch.setattr(_cli, "serve", take)
    assert _cli.run(["serve", "--proxy", said, "--proxy-from", "192.0.2.7", "--proxy-from", "2001:db8::/32"]) == 0
    assert _cli.run(["serve"]) == 0
    with_proxy, without = taken
    trusted = ["192.0.2.7", "2001:db8::/32"]
    assert with_proxy.proxy == ListenerProxy.parse(1 if version == 1 else 2, trusted)
    assert without.proxy is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--proxy v1", "--proxy and --proxy-from go together"),
        ("--proxy-from 192.0.2.1", "--proxy and --proxy-from go together"),
        ("--proxy v3 --proxy-from 192.0.2.1", "'v3' is not one of 'v1', 'v2'"),
        ("--proxy v1 --proxy-from proxy.example", "'proxy.example' does not appear to be an IPv4 or IPv6 network"),
        ("--proxy v1 --proxy-from 192.0.2.1/24", "192.0.2.1/24 has host bits set"),
        ("--proxy v1 --proxy-from 127.0.0.1", "other hosts can reach a proxy: say --domain NAME"),
    ],
)
def test_what_makes_no_sense_is_one_line(home: Home, arguments: str, words: str) -> None:
    done = home.run("serve", "--listen", "127.0.0.1:0", *arguments.split())
    text = done.stderr.decode()
    assert text.count("\n") == 1
    assert words in text
    assert done.returncode == Exit.USAGE


@pytest.mark.parametrize(
    ("version", "header", "client", "literal"),
    [
        ("v1", LINE, "[2001:db8::1]:56324", b"([IPv6:2001:db8::1])"),
        ("v2", BLOCK, "192.0.2.1:56324", b"([192.0.2.1])"),
    ],
)
def test_received_and_the_log_name_the_real_client(
    serve: Serve, home: Home, version: str, header: bytes, client: str, literal: bytes
) -> None:
    served = serve("--no-tls", "--domain", "example.com", "--proxy", version, "--proxy-from", "127.0.0.0/8")
    with socket.create_connection(("127.0.0.1", served.port), SECONDS) as peer, peer.makefile("rb") as replies:
        peer.sendall(header)
        for said, code in (
            (b"", b"220"),
            (b"HELO c.example\r\n", b"250"),
            (b"MAIL FROM:<me@example.org>\r\n", b"250"),
            (b"RCPT TO:<you@example.com>\r\n", b"250"),
            (b"DATA\r\n", b"354"),
        ):
            peer.sendall(said)
            assert replies.readline()[:3] == code
        peer.sendall(b"hello\r\n.\r\nQUIT\r\n")
        assert [replies.readline()[:3] for _ in range(2)] == [b"250", b"221"]
        assert replies.read() == b""
    [stored] = home.stored()
    assert b"Received: from c.example " + literal in stored
    assert served.stop() == 0
    assert any(f" peer={client} " in line for line in served.log), served.log


def test_whoever_is_not_trusted_hears_nothing_and_is_logged(serve: Serve) -> None:
    served = serve("--no-tls", "--domain", "example.com", "--proxy", "v1", "--proxy-from", "192.0.2.0/24")
    with socket.create_connection(("127.0.0.1", served.port), SECONDS) as peer:
        assert peer.recv(1) == b""
    assert served.stop() == 0
    assert any("is no trusted proxy" in line for line in served.log), served.log
