"""What extensions do to each other: 22 rules, each for both seats where it has two. Each test says which it shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

import pytest

from smtpstate import (
    Auth,
    AuthResponse,
    Bdat,
    Body,
    BodyType,
    CapabilitiesChanged,
    CloseReason,
    Command,
    CommandRefused,
    Connected,
    ConnectionClosed,
    Data,
    Ehlo,
    EndOfMessage,
    Expn,
    Flow,
    Helo,
    Help,
    Limits,
    LocalProtocolError,
    Mail,
    Noop,
    Phase,
    Quit,
    Rcpt,
    Reply,
    ReplyReceived,
    ResetCause,
    Rset,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    StartTls,
    TlsInfo,
    TransactionReset,
    Violation,
    Vrfy,
)
from smtpstate import extensions as ext
from smtpstate._config import CARRIED, OFFERS
from smtpstate_testing import Pair
from tests.helpers import Seat, codes, in_transaction, ready, silent
from tests.scripted_server import HELLO, Wire
from tests.scripted_server import codes as answered

if TYPE_CHECKING:
    from collections.abc import Callable

SERVER, CLIENT, BOTH = "server", "client", "both"
TLS: Final = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384")
NAME: Final = "mx.example.org"
MAIL, RCPT = b"MAIL FROM:<a@example.com>\r\n", b"RCPT TO:<b@example.org>\r\n"
GREETING: Final = (b"", b"220 mx.example.org ESMTP\r\n")


@dataclass(frozen=True)
class Shown:
    """That a test shows a rule, and where the rule stands."""

    rule: int
    seat: str
    source: str
    test: str


SHOWN: Final[list[Shown]] = []
_Test = TypeVar("_Test", bound="Callable[..., None]")


def rule(number: int, seat: str, source: str) -> Callable[[_Test], _Test]:
    """Marks a test with the number of the rule it shows."""

    def note(test: _Test) -> _Test:
        SHOWN.append(Shown(number, seat, source, test.__name__))
        return test

    return note


# Both seats, as small as they come.


def with_auth(*, starttls: bool = False) -> ServerConfig:
    return ServerConfig(NAME, mechanisms=("PLAIN", "LOGIN"), auth_in_clear=True, starttls=starttls)


def offering(*keywords: str) -> ServerConfig:
    return ServerConfig(NAME, offers=OFFERS | set(keywords))


def lets_in(connection: ServerConnection, event: ServerEvent) -> None:
    """Accepts all mail, and everybody is joe."""
    if connection.owed is not event:
        return
    if isinstance(event, Auth | AuthResponse):
        connection.authenticated("joe")
    else:
        connection.accept()


def hello(*keywords: str, said: bytes = HELLO) -> tuple[bytes, bytes]:
    """What a server answers to a hello."""
    lines = ("mx.example.org", *keywords)
    text = "".join(f"250{' ' if line is lines[-1] else '-'}{line}\r\n" for line in lines)
    return said, text.encode()


def opened(*keywords: str, script: tuple[tuple[bytes, bytes], ...] = (), tls: TlsInfo | None = None) -> Wire:
    """A client after EHLO, where these keywords are offered; inside TLS where `tls` says of what kind."""
    wire = Wire([GREETING, hello(*keywords), *script])
    wire.client.tls = tls
    return wire.open()


def asked_for_mail(*keywords: str, script: tuple[tuple[bytes, bytes], ...] = (), tls: TlsInfo | None = None) -> Wire:
    """A client in a transaction with one recipient."""
    wire = opened(*keywords, script=((MAIL, b"250 ok\r\n"), (RCPT, b"250 ok\r\n"), *script), tls=tls)
    wire.say(Mail.of("a@example.com"), Rcpt.of("b@example.org"))
    return wire


def refuses(wire: Wire, command: Command) -> bool:
    """Whether the client does not send this, and nothing has changed."""
    before = (wire.client.phase, wire.client.outstanding, wire.written)
    try:
        wire.client.send(command)
    except LocalProtocolError:
        assert (wire.client.phase, wire.client.outstanding, wire.written) == before
        return True
    return False


def mail_with(keyword: str, value: str | None) -> Mail:
    return replace(Mail.of("a@example.com"), parameters=((keyword, value),))


def rcpt_with(keyword: str, value: str | None) -> Rcpt:
    return replace(Rcpt.of("b@example.org"), parameters=((keyword, value),))


# 1 and 2: what needs something else.


@rule(1, SERVER, "RFC 3030 section 3")
def test_binarymime_is_not_offered_without_chunking() -> None:
    with pytest.raises(LocalProtocolError):
        ServerConfig(NAME, offers=frozenset({"BINARYMIME"}))


@rule(1, SERVER, "RFC 3030 section 3")
def test_binarymime_that_is_not_offered_is_refused() -> None:
    seat = ready()
    assert b"BINARYMIME" not in seat.say(b"EHLO c.example\r\n"), "off by default"
    assert seat.say(b"MAIL FROM:<a@example.com> BODY=BINARYMIME\r\n")[:3] in (b"501", b"555")
    assert seat.connection.phase is Phase.READY


@rule(1, CLIENT, "RFC 3030 section 3")
def test_a_client_asks_for_binarymime_only_where_it_is_offered() -> None:
    binary = Mail.of("a@example.com", body=BodyType.BINARYMIME)
    assert refuses(opened("8BITMIME", "CHUNKING"), binary)
    assert not refuses(opened("8BITMIME", "CHUNKING", "BINARYMIME"), binary)


@rule(2, SERVER, "RFC 6531 section 3.1")
def test_smtputf8_is_not_offered_without_8bitmime() -> None:
    with pytest.raises(LocalProtocolError):
        ServerConfig(NAME, offers=OFFERS - {"8BITMIME"}, extensions=(ext.SMTPUTF8,))


@rule(2, BOTH, "RFC 6533 section 3")
def test_an_original_recipient_of_type_utf_8_has_a_form_that_is_ascii() -> None:
    """It needs DSN alone, so that a message can go on where SMTPUTF8 is not offered."""
    seat = ready(offering("DSN"))
    assert codes(seat.say(MAIL + b"RCPT TO:<b@example.org> ORCPT=utf-8;\\x{FC}@example.org\r\n")) == [250, 250]
    [rcpt] = seat.of_type(Rcpt)
    assert isinstance(rcpt, Rcpt)
    original = ext.original_recipient(rcpt)
    assert original is not None
    assert original == ext.OriginalRecipient("utf-8", "\xfc@example.org")


# 3: LMTP.


@rule(3, SERVER, "RFC 2033 section 5")
def test_lmtp_offers_pipelining_and_enhanced_codes() -> None:
    seat = Seat(ServerConfig(NAME, lmtp=True))
    said = seat.say(b"LHLO c.example\r\n")
    assert {b"PIPELINING", b"ENHANCEDSTATUSCODES"} <= {line[4:] for line in said.split(b"\r\n")}


@rule(3, SERVER, "RFC 2033 section 5")
@pytest.mark.parametrize("keyword", ["PIPELINING", "ENHANCEDSTATUSCODES"])
def test_lmtp_without_what_it_has_to_offer_is_a_mistake_of_the_caller(keyword: str) -> None:
    with pytest.raises(LocalProtocolError):
        ServerConfig(NAME, lmtp=True, offers=OFFERS - {keyword})


# 4 and 5: TLS.


@rule(4, SERVER, "RFC 8689 section 2")
def test_requiretls_is_offered_inside_tls_only_and_means_nothing_outside() -> None:
    seat = Seat(replace(offering("REQUIRETLS"), starttls=True))
    assert b"REQUIRETLS" not in seat.say(b"EHLO c.example\r\n")
    assert seat.say(b"MAIL FROM:<a@example.com> REQUIRETLS\r\n").startswith(b"555 5.5.4")
    seat.say(b"STARTTLS\r\n")
    seat.connection.tls_established(TLS)
    assert b"REQUIRETLS\r\n" in seat.say(b"EHLO c.example\r\n")
    assert codes(seat.say(b"MAIL FROM:<a@example.com> REQUIRETLS\r\n")) == [250]


@rule(5, SERVER, "RFC 3207 section 4.2")
def test_tls_takes_starttls_away_and_all_that_was_learnt_before() -> None:
    seat = Seat(with_auth(starttls=True), handler=lets_in)
    assert b"STARTTLS" in seat.say(b"EHLO c.example\r\n")
    assert codes(seat.say(b"AUTH PLAIN AGpvZQB4\r\nSTARTTLS\r\n")) == [235, 220]
    seat.connection.tls_established(TLS)
    assert (seat.connection.identity, seat.connection.hello, seat.connection.phase) == (None, None, Phase.GREETED)
    assert codes(seat.say(MAIL)) == [503], "the old EHLO is forgotten"
    assert b"STARTTLS" not in seat.say(b"EHLO c.example\r\n")
    assert codes(seat.say(b"AUTH PLAIN AGpvZQB4\r\n")) == [235], "and so is who it was"


@rule(5, SERVER, "RFC 3207 section 4")
def test_there_is_no_transaction_that_tls_could_take_over() -> None:
    seat = in_transaction(ServerConfig(NAME, starttls=True))
    assert codes(seat.say(b"STARTTLS\r\nRSET\r\nSTARTTLS\r\n")) == [503, 250, 220]


@rule(5, CLIENT, "RFC 3207 section 4.2")
def test_a_client_forgets_in_tls_what_it_was_offered_before() -> None:
    wire = opened("STARTTLS", "SIZE", "AUTH PLAIN", script=((b"STARTTLS\r\n", b"220 go\r\n"), hello("SIZE")))
    events = wire.say(StartTls())
    assert events[-1] == CapabilitiesChanged(wire.client.capabilities)
    assert dict(wire.client.capabilities.keywords) == {}
    assert refuses(wire, Mail.of("a@example.com"))
    wire.say(Ehlo("me.example"))
    assert refuses(wire, StartTls())
    assert refuses(wire, Auth("PLAIN", b"")), "this EHLO offers it no more"
    assert not refuses(wire, Mail.of("a@example.com", size=1))


# 6 and 7: AUTH, and HELO.


@rule(6, SERVER, "RFC 4954 section 4")
def test_auth_comes_once_and_not_in_a_transaction() -> None:
    seat = ready(with_auth(), handler=lets_in)
    assert codes(seat.say(MAIL + b"AUTH PLAIN AGpvZQB4\r\nRSET\r\n")) == [250, 503, 250]
    assert codes(seat.say(b"AUTH PLAIN AGpvZQB4\r\n")) == [235]
    assert seat.say(b"AUTH PLAIN AGpvZQB4\r\n").startswith(b"503 5.5.1")


@rule(6, SERVER, "RFC 4954 section 4")
def test_a_line_of_an_exchange_may_have_12288_octets() -> None:
    for size, code in ((12_286, 235), (12_288, 501), (12_289, 500)):  # of base64 it can hold 12,286, CRLF included
        seat = ready(with_auth(), handler=challenge_once)
        assert codes(seat.say(b"AUTH LOGIN\r\n")) == [334]
        assert codes(seat.say(b"A" * (size - 2) + b"\r\n")) == [code]


def challenge_once(connection: ServerConnection, event: ServerEvent) -> None:
    if isinstance(event, Auth):
        connection.challenge(b"?")
    else:
        lets_in(connection, event)


@rule(6, CLIENT, "RFC 4954 section 4")
def test_a_client_authenticates_once_outside_of_a_transaction_and_says_nothing_behind_it() -> None:
    login = Auth("PLAIN", b"\0joe\0x")
    assert refuses(asked_for_mail("PIPELINING", "AUTH PLAIN"), login)
    wire = opened("PIPELINING", "AUTH PLAIN", script=((b"AUTH PLAIN AGpvZQB4\r\n", b"235 ok\r\n"),))
    wire.client.send(login)
    assert refuses(wire, Noop())
    assert answered(wire.events()) == [("AUTH", 235)]
    assert refuses(wire, login)


@rule(7, SERVER, "RFC 5321 section 2.2.1")
def test_after_helo_there_are_no_extensions() -> None:
    seat = Seat(with_auth(starttls=True), handler=lets_in)
    assert seat.say(b"HELO c.example\r\n") == b"250 mx.example.org\r\n"
    assert codes(seat.say(b"AUTH PLAIN AGpvZQB4\r\nSTARTTLS\r\n")) == [503, 503]
    assert codes(seat.say(b"MAIL FROM:<a@example.com> SIZE=1\r\nMAIL FROM:<> BODY=7BIT\r\n")) == [555, 555]
    assert codes(seat.say(MAIL + RCPT + b"BDAT 2 LAST\r\nhi")) == [250, 250, 502]
    assert seat.of_type(Body, EndOfMessage) == []


@rule(7, CLIENT, "RFC 5321 section 2.2.1")
def test_a_client_uses_no_extension_after_helo() -> None:
    # A server that answers HELO with keywords has not offered any.
    script = [GREETING, hello("SIZE", "STARTTLS", "AUTH PLAIN", "CHUNKING", said=b"HELO me.example\r\n")]
    wire = Wire([*script, (MAIL, b"250 ok\r\n"), (RCPT, b"250 ok\r\n")])
    wire.events()
    wire.say(Helo("me.example"))
    for command in (Mail.of("a@example.com", size=1), StartTls(), Auth("PLAIN", b"")):
        assert refuses(wire, command), command
    wire.say(Mail.of("a@example.com"), Rcpt.of("b@example.org"))
    assert refuses(wire, Bdat(1, last=True))
    assert not refuses(wire, Data())


# 8 and 9: two ways to send a message.


@rule(8, SERVER, "RFC 3030 section 2")
def test_a_transaction_has_one_body_and_one_way_to_send_it() -> None:
    seat = in_transaction()
    assert codes(seat.say(b"BDAT 1\r\nhDATA\r\n" + MAIL + RCPT + b"BURL imap://x LAST\r\n")) == [
        250,
        503,
        503,
        503,
        502,
    ]
    assert codes(seat.say(b"BDAT 1 LAST\r\ni")) == [250], "what was refused has not harmed it"
    assert codes(seat.say(b"BDAT 1 LAST\r\ni" + MAIL)) == [503, 250], "after the last chunk there is none"


@rule(8, CLIENT, "RFC 3030 section 2")
def test_a_client_that_began_with_chunks_goes_on_with_chunks() -> None:
    wire = asked_for_mail("CHUNKING", script=((b"BDAT 1\r\nh", b"250 ok\r\n"),))
    wire.say(Bdat(1), Body(b"h"), at_once=True)
    for command in (Data(), Mail.of("c@example.com"), Rcpt.of("d@example.org")):
        assert refuses(wire, command), command
    assert not refuses(wire, Bdat(0, last=True))


@rule(9, SERVER, "RFC 3030 section 2")
@pytest.mark.parametrize(
    ("before", "code", "reason"),
    [
        (b"", 503, "before MAIL"),
        (MAIL, 554, "no recipient was accepted"),
        (MAIL + RCPT + b"BDAT 1\r\nhRCPT TO:<c@example.org>\r\n", 250, "in order"),
        (MAIL + RCPT + b"BDAT 2 LAST\r\nhi", 503, "after the last chunk"),
        (b"HELO c.example\r\n" + MAIL + RCPT, 502, "not offered"),
    ],
)
def test_the_octets_of_a_chunk_are_never_commands(before: bytes, code: int, reason: str) -> None:
    seat = ready()
    seat.say(before)
    assert codes(seat.say(b"BDAT 12 LAST\r\nQUIT\r\nQUIT\r\nNOOP\r\n")) == [code, 250], reason


@rule(9, SERVER, "RFC 3030 section 2")
def test_the_octets_of_a_refused_chunk_are_read_and_those_of_the_next_ones_too() -> None:
    seat = in_transaction(limits=Limits(message=10))
    said = seat.say(b"BDAT 12\r\nQUIT\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nDATA\r\n" + MAIL + RCPT + b"RSET\r\n" + MAIL)
    assert codes(said) == [552, 503, 503, 503, 503, 250, 250]


@rule(9, CLIENT, "RFC 3030 section 2")
def test_a_client_sends_what_it_announced_though_the_chunk_is_refused_already() -> None:
    wire = asked_for_mail(
        "CHUNKING", script=((b"BDAT 4 LAST\r\n", b"552 no\r\n"), (b"body", b""), (b"RSET\r\n", b"250 ok\r\n"))
    )
    assert answered(wire.say(Bdat(4, last=True))) == [("BDAT", 552)]
    assert wire.client.can_send_body
    assert refuses(wire, Rset())
    wire.say(Body(b"body"))
    assert not wire.client.can_send_body
    assert answered(wire.say(Rset())) == [("RSET", 250)]


# 10 to 12: parameters.


@rule(10, BOTH, "RFC 4865 section 4")
def test_a_message_is_held_for_some_time_or_until_some_time() -> None:
    seat = ready(offering("FUTURERELEASE"))
    until = "2030-01-01T00:00:00Z"
    assert seat.say(f"MAIL FROM:<> HOLDFOR=60 HOLDUNTIL={until}\r\n".encode()).startswith(b"501 5.5.4")
    assert codes(seat.say(b"MAIL FROM:<> HOLDFOR=60\r\nRSET\r\n")) == [250, 250]
    assert codes(seat.say(f"MAIL FROM:<> HOLDUNTIL={until}\r\n".encode())) == [250]
    wire = opened("FUTURERELEASE 100 2030-01-01T00:00:00Z")
    both = replace(Mail.of(""), parameters=(("HOLDFOR", "60"), ("HOLDUNTIL", until)))
    assert refuses(wire, both)
    assert not refuses(wire, mail_with("HOLDFOR", "60"))


@rule(11, BOTH, "RFC 3461 section 4.1")
@pytest.mark.parametrize("value", ["NEVER,SUCCESS", "FAILURE,NEVER", "NEVER,NEVER", "DELAY,DELAY"])
def test_never_is_said_alone_and_nothing_twice(value: str) -> None:
    seat = ready(offering("DSN"))
    seat.say(MAIL)
    assert seat.say(f"RCPT TO:<b@example.org> NOTIFY={value}\r\n".encode()).startswith(b"501 5.5.4")
    assert codes(seat.say(b"RCPT TO:<b@example.org> NOTIFY=NEVER\r\n")) == [250]
    wire = opened("PIPELINING", "DSN")
    wire.client.send(Mail.of("a@example.com"))
    assert refuses(wire, rcpt_with("NOTIFY", value))
    assert not refuses(wire, rcpt_with("NOTIFY", "NEVER"))


# Where each parameter belongs, and whether anything here can offer it.
OF_MAIL: Final = (
    ("BY", "120;R", True, "RFC 2852 section 4"),
    ("MT-PRIORITY", "3", True, "RFC 6710 section 4.2"),
    ("SIZE", "1", True, "RFC 1870 section 3"),
    ("BODY", "8BITMIME", True, "RFC 6152 section 2"),
    ("AUTH", "<>", True, "RFC 4954 section 5"),
    ("RET", "HDRS", True, "RFC 3461 section 4.3"),
    ("ENVID", "x", True, "RFC 3461 section 4.4"),
    ("HOLDFOR", "60", True, "RFC 4865 section 4"),
    ("HOLDUNTIL", "2030-01-01T00:00:00Z", True, "RFC 4865 section 4"),
    ("REQUIRETLS", None, True, "RFC 8689 section 2"),
    ("SMTPUTF8", None, True, "RFC 6531 section 3.4"),
    ("SOLICIT", "org.example:ADV", False, "RFC 3865 section 4"),
    ("MTRK", "abc", False, "RFC 3885 section 4"),
    ("TRANSID", "x", False, "RFC 1845 section 2"),
    ("CONPERM", None, False, "RFC 4141 section 2"),
)
OF_RCPT: Final = (
    ("NOTIFY", "NEVER", True, "RFC 3461 section 4.1"),
    ("ORCPT", "rfc822;b@example.org", True, "RFC 3461 section 4.2"),
    ("RRVS", "2014-04-03T23:01:00Z", True, "RFC 7293 section 3"),
    ("CONNEG", None, False, "RFC 4141 section 3"),
)
PLACES: Final = [("MAIL", *row) for row in OF_MAIL] + [("RCPT", *row) for row in OF_RCPT]


def everything() -> ServerConfig:
    """A server that offers all that it can."""
    known = OFFERS | CARRIED
    more = () if "SMTPUTF8" in known else (ext.SMTPUTF8,)
    return ServerConfig(NAME, offers=known, extensions=more, mechanisms=("PLAIN",), auth_in_clear=True)


@rule(12, SERVER, "RFC 5321 section 4.1.1.11")
@pytest.mark.parametrize(("place", "keyword", "value", "known", "source"), PLACES)
def test_a_parameter_in_the_wrong_place_is_unknown_there(
    place: str, keyword: str, value: str | None, known: bool, source: str
) -> None:
    seat = Seat(everything(), implicit_tls=True, greet=False)
    seat.connection.tls_established(TLS)
    seat.settle()
    seat.say(b"EHLO c.example\r\n")
    parameter = (keyword if value is None else f"{keyword}={value}").encode()
    mail, rcpt = MAIL[:-2] + b" " + parameter + b"\r\n", RCPT[:-2] + b" " + parameter + b"\r\n"
    right, wrong = (mail, MAIL + rcpt) if place == "MAIL" else (MAIL + rcpt, mail)
    assert codes(seat.say(right + b"RSET\r\n"))[-2:] == [250 if known else 555, 250], source
    assert seat.say(wrong).splitlines()[-1].startswith(b"555 5.5.4"), source


@rule(12, CLIENT, "RFC 5321 section 4.1.1.11")
@pytest.mark.parametrize(("place", "keyword", "value", "known", "source"), PLACES)
def test_a_client_sends_no_parameter_in_the_wrong_place(
    place: str, keyword: str, value: str | None, known: bool, source: str
) -> None:
    offered = everything().offered(secure=True, auth=True)
    wire = opened("PIPELINING", *offered, tls=TLS)
    if place == "MAIL":
        assert refuses(wire, mail_with(keyword, value)) is (not known), source
        wire = asked_for_mail("PIPELINING", *offered, tls=TLS)
        assert refuses(wire, rcpt_with(keyword, value)), source
    else:
        assert refuses(wire, mail_with(keyword, value)), source
        wire.client.send(Mail.of("a@example.com"))
        assert refuses(wire, rcpt_with(keyword, value)) is (not known), source


# 13 and 14: a session begins anew.


@rule(13, SERVER, "RFC 5321 section 4.1.4")
@pytest.mark.parametrize("again", [b"EHLO d.example\r\n", b"HELO d.example\r\n"])
def test_a_hello_in_a_transaction_ends_it(again: bytes) -> None:
    seat = in_transaction()
    seat.events.clear()
    assert codes(seat.say(again)) == [250]
    assert seat.of_type(TransactionReset) == [TransactionReset(ResetCause.HELLO)]
    assert codes(seat.say(RCPT + b"DATA\r\n" + MAIL)) == [503, 503, 250]


@rule(13, CLIENT, "RFC 5321 section 4.1.4")
def test_a_client_that_says_ehlo_again_is_in_no_transaction() -> None:
    wire = asked_for_mail("PIPELINING", script=(hello(),))
    wire.say(Ehlo("me.example"))
    assert wire.client.phase is Phase.READY
    assert refuses(wire, Rcpt.of("d@example.org"))
    assert refuses(wire, Data())
    assert not refuses(wire, Mail.of("a@example.com"))


@rule(14, SERVER, "XCLIENT_README")
@pytest.mark.parametrize("command", [b"XCLIENT ADDR=192.0.2.7\r\n", b"XFORWARD ADDR=192.0.2.7\r\n"])
def test_who_is_not_trusted_cannot_be_somebody_else(command: bytes) -> None:
    seat = ready()
    assert seat.say(command).startswith(b"502 5.5.1")
    assert (seat.connection.phase, seat.of_type(Connected)) == (Phase.READY, [Connected()])


# 15: pipelining.

# Each verb, and whether the client may go on before its answer.
GROUPS: Final[tuple[tuple[Command, bool], ...]] = (
    (Mail.of("a@example.com"), True),
    (Noop(), False),
    (Vrfy("x"), False),
    (Expn("x"), False),
    (Help(), False),
    (Ehlo("me.example"), False),
    (Helo("me.example"), False),
    (Rset(), True),
)


@rule(15, CLIENT, "RFC 2920 section 3.1")
@pytest.mark.parametrize(("first", "goes_on"), GROUPS, ids=lambda value: type(value).__name__)
def test_a_client_waits_after_what_ends_a_group(first: Command, goes_on: bool) -> None:
    wire = opened("PIPELINING")
    wire.client.send(first)
    wire.client.send(Quit())
    written = wire.client.data_to_send()
    assert (b"QUIT" in written) is goes_on


@rule(15, CLIENT, "RFC 2920 section 3.1")
def test_a_client_says_mail_rcpt_and_data_in_one_go_where_it_may() -> None:
    for keywords, group in ((("PIPELINING",), MAIL + RCPT + RCPT + b"DATA\r\n"), ((), MAIL)):
        wire = opened(*keywords)
        for command in (Mail.of("a@example.com"), Rcpt.of("b@example.org"), Rcpt.of("b@example.org"), Data()):
            wire.client.send(command)
        assert wire.client.data_to_send() == group


@rule(15, SERVER, "RFC 2920 section 3.2")
def test_a_server_answers_a_group_in_order_and_throws_nothing_away() -> None:
    seat = ready()
    group = b"MAIL FROM:<a>x\r\n" + MAIL + b"RCPT TO:nobody\r\n" + RCPT + b"DATA\r\n"
    assert codes(seat.say(group)) == [501, 250, 501, 250, 354]
    assert codes(seat.say(b"hi\r\n.\r\n" + MAIL + b"RSET\r\nQUIT\r\n")) == [250, 250, 250, 221]


@rule(15, SERVER, "RFC 2920 section 3.2")
def test_a_server_sends_the_answers_to_a_group_at_once() -> None:
    seat = ready()
    seat.connection.receive_data(MAIL + RCPT + RCPT + b"DATA\r\n")
    while seat.pull() is not Flow.NEED_DATA:
        pass
    assert codes(seat.connection.data_to_send()) == [250, 250, 250, 354]


# 16 and 17: enhanced status codes.


@rule(16, SERVER, "RFC 2034 section 4")
def test_no_greeting_no_hello_and_no_3yz_has_an_enhanced_code() -> None:
    def handler(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Connected):
            connection.reply(Reply(220, "hi", enhanced="2.0.0"))
        elif isinstance(event, Ehlo | Helo):
            connection.reply(Reply(250, "hi", enhanced="2.0.0"))
        else:
            challenge_once(connection, event)

    seat = Seat(with_auth(), handler=handler, greet=False)
    said = seat.say(b"EHLO c.example\r\n")
    said += seat.say(b"HELO c.example\r\nEHLO c.example\r\nAUTH LOGIN\r\n")
    seat.say(b"\r\n")
    said += seat.say(MAIL + RCPT + b"DATA\r\n")[-100:].split(b"\r\n")[-2] + b"\r\n"
    assert codes(said) == [220, 250, 250, 250, 334, 354]
    assert not any(line[4:7] in (b"2.0", b"2.1", b"3.0") for line in said.split(b"\r\n"))


@rule(16, SERVER, "RFC 2034 section 4")
@pytest.mark.parametrize("kind", [Connected, Ehlo])
def test_a_refused_greeting_or_hello_has_none_either(kind: type) -> None:
    def handler(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, kind):
            connection.reply(Reply(554, "go away", enhanced="5.7.1"))

    said = Seat(handler=handler, greet=False).say(b"EHLO c.example\r\n")
    assert said.splitlines()[kind is Ehlo] == b"554 go away"


@rule(17, SERVER, "RFC 2034 section 4")
def test_no_reply_leaves_with_an_enhanced_code_of_another_class() -> None:
    caught: list[LocalProtocolError] = []

    def handler(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Mail):
            with pytest.raises(LocalProtocolError) as error:
                connection.reply(Reply(550, "no", enhanced="4.7.1"))
            caught.append(error.value)
        silent(connection, event)

    seat = ready(handler=handler)
    assert seat.say(MAIL) == b"250 2.1.0 Sender accepted\r\n", "nothing was said, and silence has its default"
    assert len(caught) == 1


@rule(17, SERVER, "RFC 2034 section 4")
def test_what_the_core_says_by_itself_keeps_to_the_class_too() -> None:
    seat = in_transaction(ServerConfig(NAME, starttls=True))
    said = seat.say(
        b"FOO\r\nETRN x\r\nMAIL\r\n" + MAIL + b"VRFY x\r\nEXPN x\r\nHELP\r\nNOOP\r\nEHLO\r\nSTARTTLS x\r\n"
        b"RCPT TO:<x\r\nRCPT TO:<b@example.org> X=Y\r\nDATA x\r\nBDAT 0\r\nDATA\r\nRSET\r\nQUIT\r\n"
    )
    for line in said.split(b"\r\n")[:-1]:
        assert line[4:6] == line[:1] + b".", line


@rule(17, CLIENT, "RFC 5321 section 4.2.1")
def test_a_client_believes_the_three_digits() -> None:
    wire = opened("ENHANCEDSTATUSCODES", script=((MAIL, b"550 2.1.0 fine\r\n"), (MAIL, b"250 5.1.0 no\r\n")))
    mail = Mail.of("a@example.com")
    assert [(answered(wire.say(mail)), wire.client.phase) for _ in range(2)] == [
        ([("MAIL", 550)], Phase.READY),
        ([("MAIL", 250)], Phase.MAIL),
    ]


# 18 to 20.


@rule(18, CLIENT, "RFC 5321 section 4.1.4")
def test_what_an_old_ehlo_offered_is_offered_no_more() -> None:
    wire = opened("SIZE", "DSN", "STARTTLS", "CHUNKING", script=(hello("8BITMIME"),))
    assert not refuses(opened("SIZE"), Mail.of("a@example.com", size=1))
    wire.client.send(Ehlo("me.example"))
    assert refuses(wire, Mail.of("a@example.com", size=1)), "nobody knows before it is answered"
    wire.events()
    for command in (Mail.of("a@example.com", size=1), mail_with("RET", "HDRS"), StartTls()):
        assert refuses(wire, command), command
    assert not refuses(wire, Mail.of("a@example.com", body=BodyType.EIGHTBITMIME))


@rule(18, SERVER, "RFC 5321 section 4.1.4")
def test_a_hello_that_offers_less_takes_the_rest_back() -> None:
    seat = ready(offering("DSN"))
    assert codes(seat.say(b"MAIL FROM:<> RET=HDRS SIZE=1\r\nHELO c.example\r\n")) == [250, 250]
    assert codes(seat.say(b"MAIL FROM:<> RET=HDRS\r\nMAIL FROM:<> SIZE=1\r\nMAIL FROM:<>\r\n")) == [555, 555, 250]


@rule(19, SERVER, "RFC 5321 section 3.8")
@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", "the EHLO that is owed a verdict"),
        (b"EHLO c.example\r\n" + MAIL, "MAIL"),
        (b"EHLO c.example\r\n" + MAIL + RCPT + b"DATA\r\nhalf", "a body"),
        (b"EHLO c.example\r\n" + MAIL + RCPT + b"BDAT 9\r\nhalf", "a chunk"),
        (b"EHLO c.example\r\n" + MAIL + RCPT + b"DATA\r\n.\r\n", "after a message"),
    ],
)
def test_a_server_can_say_421_at_any_time_and_says_nothing_after_it(said: bytes, reason: str) -> None:
    seat = Seat()
    seat.say(said)
    seat.connection.close()
    assert seat.drain() == b"421 4.3.2 Service shutting down\r\n", reason
    assert seat.say(b"\r\n.\r\nNOOP\r\n") == b""
    seat.connection.receive_eof()
    seat.settle()
    assert seat.events[-1] == ConnectionClosed(CloseReason.CLOSED)


@rule(19, SERVER, "RFC 5321 section 3.8")
@pytest.mark.parametrize("kind", [Connected, Ehlo, Mail, Rcpt, Data, EndOfMessage])
def test_421_may_be_the_answer_to_anything(kind: type) -> None:
    def handler(connection: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, kind):
            connection.reply(Reply(421, "later", enhanced="4.3.2"))
        else:
            lets_in(connection, event)

    pair = Pair(handler=handler)
    assert codes(pair.talk(b"EHLO c.example\r\n" + MAIL + RCPT + b"DATA\r\n.\r\nNOOP\r\n"))[-1] == 421
    assert pair.hang_up() == b""
    assert pair.server.closed == ConnectionClosed(CloseReason.CLOSED)


@rule(19, CLIENT, "RFC 5321 section 3.8")
@pytest.mark.parametrize(
    ("commands", "verb"),
    [
        ((Noop(),), "NOOP"),
        ((Mail.of("a@example.com"), Rcpt.of("b@example.org"), Data()), "MAIL"),
        ((StartTls(),), "STARTTLS"),
        ((Auth("PLAIN", b""),), "AUTH"),
        ((Quit(),), "QUIT"),
    ],
)
def test_a_client_that_is_told_421_is_through_with_it(commands: tuple[Command, ...], verb: str) -> None:
    wire = opened("PIPELINING", "STARTTLS", "AUTH PLAIN")
    for command in commands:
        wire.client.send(command)
    assert wire.client.data_to_send()
    assert wire.client.data_to_send() == b""
    wire.client.receive_data(b"421 4.3.2 later\r\n250 ok\r\n")
    events = wire.events()
    reply = Reply(421, "later", enhanced="4.3.2")
    assert [event.to.verb.name for event in events if isinstance(event, ReplyReceived)] == [verb]
    assert events[-1] == ConnectionClosed(CloseReason.GOING_AWAY, reply=reply)
    assert wire.client.send(Noop()) is False


@rule(19, CLIENT, "RFC 5321 section 3.8")
def test_421_needs_no_question() -> None:
    wire = opened()
    wire.client.receive_data(b"421 4.4.2 you took too long\r\n")
    [event] = wire.events()
    assert isinstance(event, ConnectionClosed)
    assert event.reason is CloseReason.GOING_AWAY


@rule(20, SERVER, "RFC 4954 section 5")
def test_mail_may_name_its_submitter_before_anybody_is_authenticated() -> None:
    seat = ready(with_auth())
    assert codes(seat.say(b"MAIL FROM:<> AUTH=<>\r\nRSET\r\n")) == [250, 250]
    assert seat.connection.identity is None
    assert codes(ready().say(b"MAIL FROM:<> AUTH=<>\r\n")) == [555], "but AUTH has to be offered"


@rule(20, CLIENT, "RFC 4954 section 5")
def test_a_client_may_name_the_submitter_where_auth_is_offered() -> None:
    assert not refuses(opened("AUTH PLAIN"), mail_with("AUTH", "<>"))
    assert refuses(opened("SIZE"), mail_with("AUTH", "<>"))


# 21 and 22.


@rule(21, SERVER, "RFC 1985 section 5, RFC 2645 section 5.2, RFC 5321 section 4.1.4")
@pytest.mark.parametrize(
    ("command", "code"),
    [(b"VRFY x", 252), (b"EXPN x", 502), (b"HELP", 214), (b"NOOP", 250), (b"ETRN x", 502), (b"ATRN x", 502)],
)
def test_a_transaction_outlives_what_has_nothing_to_do_with_it(command: bytes, code: int) -> None:
    seat = in_transaction()
    assert codes(seat.say(command + b"\r\nDATA\r\n")) == [code, 354]
    assert codes(seat.say(b".\r\n")) == [250]
    assert seat.of_type(TransactionReset) == []


@rule(21, CLIENT, "RFC 5321 section 4.1.4")
def test_a_client_may_ask_in_a_transaction_and_go_on() -> None:
    pair = Pair()
    opening: list[Command] = [Ehlo("client.example.com"), Mail.of("a@example.com"), Vrfy("x"), Rcpt.of("b@example.org")]
    for command in (*opening, Vrfy("x"), Expn("x"), Data()):
        assert pair.client.send(command)
        pair.drive()
    assert pair.client.phase is pair.server.phase is Phase.BODY
    assert pair.server.recipients == (Rcpt.of("b@example.org"),)


@rule(22, SERVER, "RFC 5321 sections 2.3.8 and 4.1.2")
@pytest.mark.parametrize("line", [b"NOOP \0", b"NOOP\rNOOP", b"VRFY a\0b", b"NOOP \r", b"MAIL FROM:<a\r@example.com>"])
def test_nul_and_a_stray_cr_make_a_line_a_syntax_error_and_count(line: bytes) -> None:
    seat = ready(limits=Limits(errors=2))
    assert seat.say(line + b"\r\n").startswith(b"500 5.5.2 "), line
    [refused] = seat.of_type(CommandRefused)
    assert isinstance(refused, CommandRefused)
    assert refused.violation in (Violation.SYNTAX, Violation.BARE_NEWLINE)
    seat.say(line + b"\r\n")
    assert codes(seat.say(line + b"\r\n")) == [421]
    assert seat.connection.closed is None or seat.connection.closed.violation is Violation.TOO_MANY_ERRORS


@rule(22, CLIENT, "RFC 5321 sections 2.3.8 and 4.1.2")
@pytest.mark.parametrize("text", ["a\0b", "a\rb", "a\nb", "a\r\nRSET"])
def test_a_client_cannot_be_made_to_send_them(text: str) -> None:
    wire = opened("SIZE")
    for command in (Noop(text), Vrfy(text), Ehlo(text), mail_with("SIZE", text)):
        assert refuses(wire, command), command


# Rules that need what came later, and what is still missing.


@rule(1, SERVER, "RFC 3030 section 3")
def test_a_binary_message_comes_in_chunks_only_and_as_it_is() -> None:
    seat = ready(offering("BINARYMIME"))
    assert codes(seat.say(b"MAIL FROM:<a@example.com> BODY=BINARYMIME\r\n" + RCPT + b"DATA\r\n")) == [250, 250, 503]
    octets = b"\0\n.\r\n.\r\n\r" + bytes(range(256))
    assert codes(seat.say(b"BDAT %d LAST\r\n%s" % (len(octets), octets))) == [250]
    assert b"".join(event.data for event in seat.of_type(Body) if isinstance(event, Body)) == octets


@rule(1, CLIENT, "RFC 3030 section 3")
def test_a_client_that_said_binarymime_cannot_say_data() -> None:
    said = b"MAIL FROM:<a@example.com> BODY=BINARYMIME\r\n"
    wire = opened("8BITMIME", "CHUNKING", "BINARYMIME", script=((said, b"250 ok\r\n"), (RCPT, b"250 ok\r\n")))
    wire.say(Mail.of("a@example.com", body=BodyType.BINARYMIME), Rcpt.of("b@example.org"))
    assert refuses(wire, Data())
    assert not refuses(wire, Bdat(1, last=True))


@rule(2, SERVER, "RFC 6533 section 4, RFC 6531 section 3.4")
def test_with_smtputf8_addresses_and_orcpt_have_utf_8_and_without_it_they_have_not() -> None:
    config = ServerConfig(NAME, offers=OFFERS | {"DSN"}, extensions=(ext.SMTPUTF8,))
    mail, rcpt = "MAIL FROM:<\xfc@example.com>", "RCPT TO:<\xfc@example.org> ORCPT=utf-8;\xfc@example.org"
    seat = ready(config)
    assert codes(seat.say(f"{mail} SMTPUTF8\r\n{rcpt}\r\nRSET\r\n".encode())) == [250, 250, 250]
    assert seat.say(f"{mail}\r\n".encode()).startswith((b"550 5.6.7", b"553 5.6.7"))
    said = seat.say(MAIL + f"{rcpt}\r\nRCPT TO:<b@example.org> ORCPT=utf-8;\xfc@example.org\r\n".encode())
    assert codes(said)[0] == 250
    assert all(code // 100 == 5 for code in codes(said)[1:])


@rule(4, CLIENT, "RFC 8689 section 4.1")
def test_a_client_asks_for_requiretls_inside_tls_only() -> None:
    assert refuses(opened("REQUIRETLS"), mail_with("REQUIRETLS", None))
    assert not refuses(opened("REQUIRETLS", tls=TLS), mail_with("REQUIRETLS", None))


@rule(14, SERVER, "XCLIENT_README")
def test_xclient_begins_the_session_anew_but_keeps_tls_and_gives_its_right_away_with_addr() -> None:
    seat = Seat(replace(offering("XCLIENT"), starttls=True))
    seat.connection.trusted = True
    seat.say(b"EHLO c.example\r\nSTARTTLS\r\n")
    seat.connection.tls_established(TLS)
    seat.say(b"EHLO c.example\r\n")
    assert codes(seat.say(MAIL + b"XCLIENT ADDR=192.0.2.7\r\nRSET\r\n")) == [250, 503, 250]
    assert seat.say(b"XCLIENT NAME=c.example ADDR=192.0.2.7\r\n").startswith(b"220 ")
    connected = seat.of_type(Connected)[-1]
    assert isinstance(connected, Connected)
    assert connected.peer is not None
    assert connected.peer.address == "192.0.2.7"
    assert (seat.connection.phase, seat.connection.tls) == (Phase.GREETED, TLS)
    assert codes(seat.say(MAIL)) == [503], "the hello is forgotten"
    assert b"XCLIENT" not in seat.say(b"EHLO c.example\r\n"), "it comes from an address without privilege now"
    assert codes(seat.say(b"XCLIENT ADDR=192.0.2.8\r\n")) == [502]


def test_each_rule_is_shown_by_a_test() -> None:
    assert {shown.rule for shown in SHOWN} == set(range(1, 23))
    assert all(shown.source and shown.seat in (SERVER, CLIENT, BOTH) for shown in SHOWN)
    here = {name for name in globals() if name.startswith("test_")}
    assert {shown.test for shown in SHOWN} == here - {"test_each_rule_is_shown_by_a_test"}
