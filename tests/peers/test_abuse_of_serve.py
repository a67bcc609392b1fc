"""What hostile and broken clients do to `smtpstate serve` over a real socket; it goes on serving after each."""

from __future__ import annotations

import random
import socket
import ssl
import struct
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.peers.programs import SECONDS

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.peers.serving import Serving

MIB = 1024 * 1024
GROWTH = 24 * MIB
TO_BODY = b"EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"


@contextmanager
def connected(serving: Serving, *, tls_port: bool = False) -> Generator[socket.socket, None, None]:
    port = serving.tls_port if tls_port else serving.port
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
        yield connection


def reply(connection: socket.socket) -> bytes:
    """One reply, read octet by octet so that nothing behind it is taken; b"" when there is no more."""
    line = b""
    while octet := connection.recv(1):
        line += octet
        if line.endswith(b"\r\n"):
            if line[3:4] != b"-":
                return line
            line = b""
    return line


def rest(connection: socket.socket) -> bytes:
    """All that is left until the server closes; a reset ends it too."""
    found = b""
    with suppress(ConnectionResetError):
        while data := connection.recv(65_536):
            found += data
    return found


def pour(connection: socket.socket, block: bytes, times: int = 1) -> bool:
    """Sends it all, or as much of it as the server lets us; whether that was all."""
    try:
        for _ in range(times):
            connection.sendall(block)
    except (ConnectionResetError, BrokenPipeError):
        return False
    return True


def reset(connection: socket.socket) -> None:
    """Closes with RST, as a host that crashed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Flood(NamedTuple):
    """`before` is said first; then `block`, `times` over, then `after`, and the last reply begins with `code`."""

    name: str
    before: bytes
    block: bytes
    times: int
    after: bytes
    code: bytes
    reason: str


FLOODS = (
    Flood("a line", b"", b"x" * MIB, 64, b"\r\n", b"500 ", "64 MiB without a newline, kept by nobody"),
    Flood(
        "a line that looks well",
        b"",
        b"MAIL FROM:<" + b"x" * MIB,
        64,
        b"\r\n",
        b"500 ",
        "nor when it begins like a command",
    ),
    Flood("NULs", b"", bytes(MIB), 64, b"\r\n", b"221 ", "no mail client begins so"),
    Flood("dots", b"", b"." * MIB, 64, b"\r\n", b"221 ", "no mail client begins so"),
    Flood("CRs", b"", b"\r" * MIB, 64, b"\n", b"500 ", "each could be the first half of a newline"),
    Flood(
        "a body in one line",
        TO_BODY,
        b"x" * MIB,
        64,
        b"\r\n.\r\n",
        b"552 ",
        "beyond 50 MiB: drained to its end, and refused",
    ),
    Flood("a body of dots", TO_BODY, b"\r\n.\rx" * (MIB // 5), 64, b"\r\n.\r\n", b"552 ", "each is nearly an end"),
)


@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.name)
def test_64_mib_cost_no_memory_and_the_session_goes_on(serving: Serving, flood: Flood) -> None:
    with connected(serving) as connection:
        assert reply(connection).startswith(b"220 ")
        for line in flood.before.splitlines(keepends=True):
            connection.sendall(line)
            assert reply(connection)[:1] in b"23"
        with serving.grows_less_than(GROWTH):
            assert pour(connection, flood.block, flood.times)
            connection.sendall(flood.after)
            assert reply(connection).startswith(flood.code), flood.reason
        if flood.code != b"221 ":
            connection.sendall(b"NOOP\r\n")
            assert reply(connection).startswith(b"250 ")
    serving.still_serves()


def test_a_large_message_is_stored_without_being_held(serving: Serving) -> None:
    """Below the limit; it is compared octet by octet."""
    block = random.Random(2).randbytes(MIB).replace(b".", b"!").replace(b"\r", b"!").replace(b"\n", b"!")
    with connected(serving) as connection, serving.grows_less_than(GROWTH):
        assert reply(connection).startswith(b"220 ")
        for line in TO_BODY.splitlines(keepends=True):
            connection.sendall(line)
            assert reply(connection)[:1] in b"23"
        assert pour(connection, block, 32)
        connection.sendall(b"\r\n.\r\n")
        assert reply(connection).startswith(b"250 ")
    [stored] = serving.take()
    assert stored.content == block * 32 + b"\r\n"
    serving.still_serves()


class Chatter(NamedTuple):
    name: str
    octets: bytes
    reason: str


CHATTER = (
    Chatter("NOOP", b"NOOP\r\n" * 100_000, "commands that bring no mail nearer, and have to wait for each other"),
    Chatter("EHLO", b"EHLO x\r\n" * 100_000, "the longest reply there is to a short command"),
    Chatter("errors", b"X\r\n" * 100_000, "commands that are none"),
    Chatter("empty lines", b"\r\n" * 100_000, "not even that"),
    Chatter("RSET", b"RSET\r\n" * 100_000, "of all that is harmless"),
    Chatter("STARTTLS", b"STARTTLS\r\n" * 100_000, "the first cuts the session, for the second comes early"),
)


@pytest.mark.parametrize("chatter", CHATTER, ids=lambda chatter: chatter.name)
def test_a_hundred_thousand_commands_whose_replies_nobody_reads_end_the_session(
    serving: Serving, chatter: Chatter
) -> None:
    with serving.grows_less_than(GROWTH), connected(serving) as connection:
        reply(connection)
        connection.sendall(b"EHLO x\r\n")
        reply(connection)
        pour(connection, chatter.octets)
        serving.still_serves()  # while that one is still there
        said = rest(connection)
    assert said.count(b"\r\n") < 5000, chatter.reason
    serving.still_serves()


def test_who_never_reads_is_no_longer_read_and_loses_nothing(serving: Serving) -> None:
    """No limit on junk or errors ends this one: recipients beyond the limit are 452 (RFC 5321 section 4.5.3.1.10)."""
    mail = b"MAIL FROM:<a@b.example>\r\n"
    recipients = b"RCPT TO:<c@d.example>\r\n" * 1000
    sent = len(mail)
    with serving.grows_less_than(GROWTH), connected(serving) as connection:
        assert reply(connection).startswith(b"220 ")
        connection.sendall(b"EHLO x\r\n")
        assert reply(connection).startswith(b"250 ")
        connection.sendall(mail)
        connection.setblocking(False)
        with suppress(BlockingIOError):
            while sent < 256 * MIB:
                sent += connection.send(recipients[(sent - len(mail)) % 23 :])
        assert sent < 256 * MIB
        serving.still_serves()
        connection.settimeout(SECONDS)
        due = 1 + (sent - len(mail)) // 23
        replies = b""
        while replies.count(b"\r\n") < due:
            data = connection.recv(16 * MIB)
            assert data, replies[-1000:]
            replies += data
    codes = [line[:3] for line in replies.splitlines() if line[3:4] == b" "]
    assert codes == [b"250"] * 1001 + [b"452"] * (due - 1001)
    serving.still_serves()


CLIENT_HELLO = bytes.fromhex("1603010200010001fc0303") + bytes(range(256)) * 2
DICE = random.Random(1)


class Garbage(NamedTuple):
    name: str
    octets: bytes
    reason: str
    tls_port: bool = False


GARBAGE = (
    Garbage("octets", DICE.randbytes(100_000), "of any kind"),
    Garbage("lines", b"\r\n".join(DICE.randbytes(DICE.randrange(60)) for _ in range(1000)), "of octets of any kind"),
    Garbage("NULs", b"\x00" * 1000 + b"\r\n" + b"EHLO \x00\r\nNOOP\x00\r\n", "in commands"),
    Garbage("8 bits", b"EHLO \xff\xfe\r\nMAIL FROM:<\xc3\xbc@example.org>\r\n\x80\r\n", "in commands"),
    Garbage(
        "HTTP",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nRSET\r\n\r\n",
        "a browser, cross-protocol",
    ),
    Garbage("a ClientHello", CLIENT_HELLO, "TLS where clear text is spoken"),
    Garbage("SSH", b"SSH-2.0-OpenSSH_9.2\r\n" + bytes(256), "the wrong port"),
    Garbage(
        "bare newlines", b"EHLO x\nMAIL FROM:<a@b.example>\nRCPT TO:<c@d.example>\nDATA\nx\n.\nQUIT\n", "LF for CRLF"
    ),
    Garbage("escapes", b"\x1b[2J\x1b]0;x\x07\r\nEHLO \x1b[31m\r\n", "meant for whoever reads the log"),
    Garbage("clear text", b"EHLO x\r\nMAIL FROM:<a@b.example>\r\n", "where TLS is spoken", tls_port=True),
    Garbage("half a ClientHello", CLIENT_HELLO[:100], "where TLS is spoken", tls_port=True),
    Garbage("octets for a handshake", DICE.randbytes(100_000), "where TLS is spoken", tls_port=True),
    Garbage("a huge record", b"\x16\x03\x01\xff\xff" + b"x" * 70_000, "longer than TLS allows", tls_port=True),
)


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: garbage.name)
def test_garbage_ends_in_a_closed_session(serving: Serving, garbage: Garbage) -> None:
    with serving.grows_less_than(GROWTH), connected(serving, tls_port=garbage.tls_port) as connection:
        pour(connection, garbage.octets)
        with suppress(OSError):  # closed already
            connection.shutdown(socket.SHUT_WR)
        said = rest(connection)
    assert b"Message accepted" not in said, garbage.reason
    assert all(32 <= octet < 127 or octet in b"\r\n" for octet in said) or garbage.tls_port
    serving.still_serves()


def test_starttls_with_a_command_in_the_same_segment_is_cut(serving: Serving) -> None:
    with connected(serving) as connection:
        reply(connection)
        connection.sendall(b"EHLO x\r\n")
        reply(connection)
        connection.sendall(b"STARTTLS\r\nNOOP\r\n")
        said = rest(connection)
    assert said.startswith(b"554 ")
    assert said.count(b"\r\n") == 1
    serving.still_serves()


def test_what_is_injected_behind_starttls_is_never_executed(serving: Serving) -> None:
    """Behind its 220 and in front of the handshake, as somebody in the middle would put it."""
    context = serving.certificates.trusting
    with connected(serving) as connection:
        reply(connection)
        connection.sendall(b"EHLO x\r\n")
        reply(connection)
        connection.sendall(b"STARTTLS\r\n")
        assert reply(connection).startswith(b"220 ")
        connection.sendall(b"MAIL FROM:<injected@example.org>\r\n")
        with pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(connection, server_hostname="localhost")
    serving.still_serves()


def test_after_the_handshake_nothing_is_left_from_before(serving: Serving) -> None:
    context = serving.certificates.trusting
    with connected(serving) as connection:
        reply(connection)
        for line in (b"EHLO x\r\n", b"STARTTLS\r\n"):
            connection.sendall(line)
            assert reply(connection)[:1] == b"2"
        with context.wrap_socket(connection, server_hostname="localhost") as secure:
            secure.sendall(b"MAIL FROM:<a@example.org>\r\n")
            assert reply(secure).startswith(b"503 ")
            secure.sendall(b"EHLO x\r\n")
            assert reply(secure)[:1] == b"2"
            secure.sendall(b"STARTTLS\r\n")
            assert reply(secure)[:1] == b"5"
    serving.still_serves()


class Stop(NamedTuple):
    said: bytes
    tls_port: bool
    reason: str


STOPS = (
    Stop(b"", False, "never says a word"),
    Stop(b"EH", False, "in the middle of a command"),
    Stop(b"EHLO x\r\nMAIL FROM:<a@example.org>\r\n", False, "in the middle of a transaction"),
    Stop(TO_BODY + b"Subject: half\r\n\r\nhalf", False, "in the middle of a message"),
    Stop(TO_BODY + b"Subject: half\r\n\r\nhalf\r\n.\r", False, "one octet before the end of a message"),
    Stop(b"EHLO x\r\nSTARTTLS\r\n", False, "before its handshake"),
    Stop(b"", True, "before its handshake"),
    Stop(CLIENT_HELLO[:50], True, "in the middle of its handshake"),
)


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: f"{stop.said[-20:]!r}, {stop.reason}")
def test_clients_that_stop_hold_up_nobody_and_leave_nothing(serving: Serving, stop: Stop) -> None:
    """Some only fall silent, some close one side, some both, and some reset."""
    with ExitStack() as stack:
        held = [stack.enter_context(connected(serving, tls_port=stop.tls_port)) for _ in range(20)]
        for connection in held:
            connection.sendall(stop.said)
        for connection in held[:5]:
            connection.shutdown(socket.SHUT_WR)
            rest(connection)  # the server closes its side, too
        for connection in held[5:10]:
            connection.close()
        for connection in held[10:15]:
            reset(connection)
        with socket.create_connection(("127.0.0.1", serving.port), SECONDS) as other:
            assert reply(other).startswith(b"220 ")
    serving.settles()
    serving.still_serves()


def test_five_hundred_quick_connects_are_nothing(serving: Serving) -> None:
    with serving.grows_less_than(GROWTH):
        for number in range(500):
            with connected(serving, tls_port=number % 5 == 4) as connection:
                match number % 3:
                    case 0:
                        reset(connection)
                    case 1:
                        connection.shutdown(socket.SHUT_WR)
                    case _:
                        pass
        serving.settles()
    serving.still_serves()


def test_two_hundred_sessions_at_once_are_greeted_one_and_all(serving: Serving) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(connected(serving)) for _ in range(200)]
        assert all(reply(connection).startswith(b"220 ") for connection in held)
        serving.still_serves()
        for connection in held:
            connection.sendall(b"QUIT\r\n")
        assert all(reply(connection).startswith(b"221 ") for connection in held)
    serving.settles()
