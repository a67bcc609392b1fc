"""Commands that end the session: the list, the two rules beside it, and what is said."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpstate import CloseReason, CommandRefused, ConnectionClosed, LocalProtocolError, ServerConfig, Violation
from smtpstate._forbidden import FORBIDDEN, Forbidden
from smtpstate._syntax import COMMANDS
from smtpstate.policy import WireRules
from tests.helpers import Seat, codes, in_body, in_transaction, ready

CUTS = (1, 2, 3, 99, 100_000)
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "x-own")
POSTFIX = "CONNECT GET POST regexp:{{/^[^A-Z]/ Bogus}}"  # its default


@pytest.mark.parametrize("list_", [FORBIDDEN, Forbidden(POSTFIX)], ids=["ours", "Postfix's"])
@pytest.mark.parametrize(
    ("line", "forbids", "reason"),
    [
        (b"GET /", True, "HTTP/0.9"),
        (b"get /", True, "without case"),
        (b"POST", True, "the first word alone decides"),
        (b"  CONNECT x", True, "white space in front is no part of it"),
        (b"GETS", False, "a whole word"),
        (b"HEAD / HTTP/1.1", True, "any request of HTTP"),
        (b"M-SEARCH * HTTP/1.1", True, "any request of HTTP"),
        (b"HEAD\t/\tHTTP/1.1", True, "tabs, which servers of HTTP take for spaces"),
        (b"PRI * HTTP/2.0", True, "HTTP/2's preface"),
        (b"HEAD / http/1.1", False, "the version is written in capitals"),
        (b"HEAD /", False, "without a version it may be anything"),
        (b"see also HTTP/1.1 there", False, "the version stands last"),
        (b"Host: example.org", True, "a header"),
        (b"Host:example.org", True, "a header"),
        (b"X-Forwarded-For:", True, "a header"),
        (b"a" * 300 + b": b", True, "a header with a long name"),
        (b"DATA: x", True, "a header, whatever its name"),
        (b"Subject : x", False, "Postfix looks at the first word only"),
        (b": x", True, "no letter comes first"),
        (b"\x16\x03\x01\x02", True, "TLS in clear text"),
        (b"\x80x", True, "no letter comes first"),
        (b"<?xml", True, "no letter comes first"),
        (b"12", True, "no letter comes first"),
        (b"", False, "nothing is nothing"),
        (b" \t", False, "white space is nothing"),
        (b"FOO", False, "unknown, and no more than that"),
    ],
)
def test_the_default(list_: Forbidden, line: bytes, forbids: bool, reason: str) -> None:
    assert list_.forbids(line) is forbids, reason


@pytest.mark.parametrize("verb", ["NOOP", "HELP", "VRFY", "EHLO", "MAIL", "DATA", "QUIT"])
def test_a_known_command_is_forbidden_as_a_request_of_http_only(verb: str) -> None:
    word = verb.encode()
    everything = Forbidden(f"{verb} /./")
    assert not everything.forbids(word, known=True)
    assert everything.forbids(word + b" / HTTP/1.1", known=True)
    assert not Forbidden(f"!{verb}").forbids(word + b" / HTTP/1.1", known=True)
    assert FORBIDDEN.forbids(word + b" / HTTP/1.0", known=True)


@pytest.mark.parametrize(
    ("text", "line", "forbids", "reason"),
    [
        ("", b"GET /", False, "an empty list"),
        ("", b"Host: x", True, "the rules hold without one"),
        ("", b"PUT / HTTP/1.1", True, "the rules hold without one"),
        ("!PUT", b"PUT / HTTP/1.1", False, "an exception holds against them, too"),
        ("!Host:", b"Host: x", False, "an exception holds against them, too"),
        ("!/./", b"\0", False, "all off"),
        ("foo,bar", b"BAR", True, "commas"),
        (" , foo \t bar\n", b"BAR", True, "white space"),
        ("!FOO FOO", b"foo", False, "the first that matches decides"),
        ("FOO !FOO", b"foo", True, "the first that matches decides"),
        ("!!FOO", b"foo", True, "twice excepted is not excepted"),
        ("/^fo+$/", b"FOOO x", True, "a pattern, without case"),
        ("/^fo+$/i", b"FOOO x", False, "its flag has case count"),
        ("!/^a/ /./", b"abc", False, "a pattern excepts"),
        (r"/a\/b, c/", b"a/b,", False, "what delimits can stand in it"),
        (r"/^a\/b,/", b"a/b,", True, "what delimits can stand in it"),
        (r"/^\x80/", b"\x80", True, "octets beyond ASCII are escaped"),
        ("pcre:{ { /^x/i well, well } } y", b"Y", True, "Postfix's tables, with one pattern"),
        ("/b/", b"a" * 100 + b"b", False, "100 octets are looked at"),
    ],
)
def test_lists(text: str, line: bytes, forbids: bool, reason: str) -> None:
    assert Forbidden(text).forbids(line) is forbids, reason


@pytest.mark.parametrize(
    "text",
    [
        "/x",
        "a{b",
        "/(/",
        "/a/z",
        "é",
        "/é/",
        "regexp:/etc/x",
        "/a{99999999999999}/",
        "! x",
        "x !",
        "a/b",
        "/a/b c",
        "a:b",
    ],
)
def test_a_list_that_cannot_be_read_is_the_callers_mistake_in_one_line(text: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        Forbidden(text)
    assert "\n" not in str(caught.value)


def test_lists_of_the_same_text_are_equal() -> None:
    assert Forbidden("x") == Forbidden("x") != FORBIDDEN
    assert len({Forbidden("x"), Forbidden("x")}) == 1


def feed(seat: Seat, wire: bytes, cut: int) -> bytes:
    return b"".join(seat.say(wire[at : at + cut]) for at in range(0, len(wire), cut))


GOODBYE = b"221 2.7.0 This is for mail programs only\r\n"


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("method", METHODS)
def test_a_request_of_http_ends_at_its_first_line(method: str, cut: int) -> None:
    seat = Seat()
    wire = method.encode() + b" /secret?token=1 HTTP/1.1\r\nHost: x\r\n\r\nEHLO y\r\nMAIL FROM:<a@b>\r\n"
    assert feed(seat, wire, cut) == GOODBYE
    seat.connection.receive_eof()
    seat.settle()
    closed = seat.connection.closed
    assert closed == ConnectionClosed(CloseReason.VIOLATION, Violation.FORBIDDEN_COMMAND)
    assert closed is not None
    assert closed.evidence == method.encode() + b" /secret?*** HTTP/1.1"


@pytest.mark.parametrize("at", [Seat, ready, in_transaction])
def test_it_ends_wherever_a_command_is_due(at: type[Seat]) -> None:
    seat = at()
    seat.drain()
    assert seat.say(b"GET / HTTP/1.1\r\n") == GOODBYE


def test_inside_a_message_it_is_content() -> None:
    seat = in_body()
    assert codes(seat.say(b"GET / HTTP/1.1\r\n.\r\n")) == [250]


def test_a_line_too_long_is_known_by_its_start() -> None:
    assert Seat().say(b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n") == GOODBYE
    assert Seat().say(b"Cookie: " + b"x" * 10_000 + b"\r\n") == GOODBYE
    assert codes(Seat().say(b"EHLO " + b"x" * 10_000 + b"\r\n")) == [500]
    seat = Seat()
    assert codes(seat.say(b"PUT /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n")) == [500, 221], "its version is gone"


def test_a_bare_cr_hides_nothing() -> None:
    assert Seat().say(b"GET / HTTP/1.1\rX\r\n") == GOODBYE


def test_the_list_is_configured() -> None:
    seat = Seat(ServerConfig("mx.example.org", wire=WireRules(forbidden=Forbidden("!GET FOO"))))
    assert codes(seat.say(b"GET / HTTP/1.1\r\n\x01\r\nFOO\r\n")) == [500, 500, 221]


@pytest.mark.parametrize("line", [b"EXPN x", b"TURN", b"BURL x", b"STARTTLS"])
def test_what_is_known_and_not_to_be_had_here(line: bytes) -> None:
    """Postfix forbids what it does not know; so do we, and what has no implementation is known by its name alone."""
    seat = Seat(ServerConfig("mx.example.org", wire=WireRules(forbidden=Forbidden("TURN BURL EXPN STARTTLS"))))
    (code,) = codes(seat.say(line + b"\r\n"))
    assert (code == 221) is (line.split()[0].decode() in {"TURN", "BURL"})


MARK = st.text("QXZJ", min_size=4, max_size=12).map(str.encode)  # in no word of ours
VERBS = [*(verb.name.encode() for verb in COMMANDS), b"GET", b"HEAD", b"Host:", b"<", b"FOO", b"AUTH PLAIN"]
GLUE = [b" ", b":<", b"=", b"@", b"\t", b"\0", b"\r", b"\xff"]


@given(marks=st.lists(st.tuples(st.sampled_from(VERBS), MARK, st.sampled_from(GLUE)), max_size=9))
def test_nothing_that_a_client_sends_comes_back(marks: list[tuple[bytes, bytes, bytes]]) -> None:
    """Reflected, it would be script of the client's choice that comes from us (ALPACA)."""
    seat = Seat(ServerConfig("mx.example.org", mechanisms=("PLAIN", "LOGIN"), auth_in_clear=True, asks_vrfy=True))
    seat.handler = lambda connection, event: None
    said = seat.say(b"EHLO qxzj.example\r\n")
    for verb, mark, glue in marks:
        said += seat.say(verb + b" " + mark + glue + mark + b"\r\n" + mark + b"\r\n")
    assert not re.search(rb"[QXZJ]{4}", said, re.IGNORECASE)


def test_a_refusal_shows_the_application_what_was_said() -> None:
    seat = Seat()
    seat.say(b"FOO bar\r\n")
    (refused,) = seat.of_type(CommandRefused)
    assert isinstance(refused, CommandRefused)
    assert refused.line == b"FOO bar"
