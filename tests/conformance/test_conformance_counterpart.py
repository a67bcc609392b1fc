"""The counterpart can fail: whatever a side under test does that its dialogue does not have is found out."""

from __future__ import annotations

import pytest

from smtpstate_testing._counterpart import Counterpart, Mismatch
from smtpstate_testing._dialogue import Act, Step, read_dialogue

DIALOGUE = """
    S: 220 mx
    C: EHLO me
    S: 250-mx
    S: 250 SIZE
    C: QUIT
    S: 221
"""


def counterpart(side: str = "C", text: str = DIALOGUE) -> Counterpart:
    return Counterpart("C" if side == "C" else "S", read_dialogue(text))


def test_a_dialogue_is_read_line_by_line() -> None:
    assert read_dialogue("S: 220-a\nS: 220 b\nC: \u00e4\nC= a\\x00\nC* fin\n* tls") == (
        Step("S", Act.SAY, b"220-a\r\n220 b\r\n"),
        Step("C", Act.SAY, b"\xc3\xa4\r\n"),
        Step("C", Act.SAY, b"a\0"),
        Step("C", Act.FIN),
        Step("C", Act.TLS),
    )


@pytest.mark.parametrize("line", ["X: 220", "220 mx", "C* explode", "* tsl"])
def test_what_is_no_line_of_a_dialogue_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match=r"line of a dialogue|not a valid Act"):
        read_dialogue(line)


def test_a_client_says_its_lines_when_the_replies_are_whole() -> None:
    client = counterpart()
    assert client.to_send() == b""
    client.receive(b"220-hello\r\n220 mx.exam")
    assert client.to_send() == b""
    with pytest.raises(Mismatch, match="nothing more came"):
        client.check_finished()


def test_a_reply_may_say_more_and_in_another_order() -> None:
    client = counterpart()
    client.receive(b"220 mx ESMTP\r\n")
    assert client.to_send() == b"EHLO me\r\n"
    client.receive(b"250-mx hello\r\n250-SIZE 100\r\n250 PIPELINING\r\n")
    assert client.to_send() == b"QUIT\r\n"
    client.receive(b"221 2.0.0 Bye\r\n")
    assert client.ends is Act.FIN
    client.receive(b"")
    client.check_finished()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"221 mx\r\n", "another code"),
        (b"220 other\r\n", "another text"),
        (b"220 mx\r\n250 mx\r\n", "a line is missing"),
        (b"220 mx\r\n250-mx\r\n250 SIZE\r\n221 2.0.0 Bye\r\n250 OK\r\n", "a reply too many"),
        (b"", "it closed"),
    ],
)
def test_a_server_that_says_something_else_is_found_out(said: bytes, why: str) -> None:
    with pytest.raises(Mismatch):
        counterpart().receive(said)


@pytest.mark.parametrize("said", [b"HELO me\r\n", b"EHLO me \r\n", b"EHLO me\r\nQUIT\r\nQUIT\r\n", b"EHLO me\n"])
def test_a_client_that_says_something_else_is_found_out(said: bytes) -> None:
    server = counterpart("S")
    assert server.to_send() == b"220 mx\r\n"
    with pytest.raises(Mismatch):
        server.receive(said)


def test_what_comes_after_the_end_is_found_out() -> None:
    server = counterpart("S")
    server.receive(b"EHLO me\r\n")
    server.receive(b"QUIT\r\n")
    with pytest.raises(Mismatch, match="it went on"):
        server.receive(b"NOOP\r\n")


def test_what_is_dropped_is_not() -> None:
    server = counterpart("S", "S: 421 no\nS* drop")
    server.receive(b"EHLO me\r\n")
    server.receive(b"")
    server.check_finished()


def test_a_handshake_that_fails_is_found_out() -> None:
    import ssl

    context = ssl.create_default_context()
    client = Counterpart("C", read_dialogue("* tls\nS: 220"), context=context)
    assert client.to_send()
    with pytest.raises(Mismatch, match="the handshake failed"):
        client.receive(b"220 in clear text\r\n")
