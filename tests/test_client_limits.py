"""ClientConnection: what the server's LIMITS leave (RFC 9422)."""

import pytest

from smtpstate._commands import Command, Ehlo, Mail, Rcpt, Rset
from smtpstate._errors import LocalProtocolError
from smtpstate._state import Phase
from tests.scripted_server import HELLO, Wire, codes

GREETING = (b"", b"220 mx.example\r\n")
ME = Mail.of("me@me.example")
A, B, Y = Rcpt.of("a@x.example"), Rcpt.of("b@x.example"), Rcpt.of("y@y.example")
MAIL = (b"MAIL FROM:<me@me.example>\r\n", b"250 ok\r\n")
TO_A = (b"RCPT TO:<a@x.example>\r\n", b"250 ok\r\n")
TO_Y = (b"RCPT TO:<y@y.example>\r\n", b"250 ok\r\n")
RSET = (b"RSET\r\n", b"250 ok\r\n")


def hello(limits: bytes) -> tuple[bytes, bytes]:
    return HELLO, b"250-mx.example\r\n250 %b\r\n" % limits


@pytest.mark.parametrize(
    ("limits", "script", "sent", "refused", "allowed", "reason"),
    [
        (b"RCPTMAX=1", [MAIL, TO_A], [ME, A], B, Rset(), "a recipient more than a transaction may have"),
        (b"MAILMAX=1", [MAIL, RSET], [ME, Rset()], ME, Rset(), "a transaction more than the session may have"),
        (b"MAILMAX=1", [(MAIL[0], b"450 later\r\n")], [ME], ME, Rset(), "the server may count those it refused"),
        (b"RCPTDOMAINMAX=1", [MAIL, TO_A], [ME, A], Y, B, "a domain more than the session may have"),
        (b"RCPTDOMAINMAX=1", [MAIL, TO_A, RSET, MAIL], [ME, A, Rset(), ME], Y, A, "in whatever transaction"),
    ],
)
def test_what_passes_the_limits_is_the_callers_mistake(
    limits: bytes,
    script: list[tuple[bytes, bytes]],
    sent: list[Command],
    refused: Command,
    allowed: Command,
    reason: str,
) -> None:
    wire = Wire([GREETING, hello(b"LIMITS " + limits), *script]).open()
    wire.say(*sent)
    written, phase = wire.written, wire.client.phase
    for _ in range(2):
        with pytest.raises(LocalProtocolError, match="the server takes no more"):
            wire.client.send(refused)
    wire.client.data_to_send()
    assert (wire.written, wire.client.phase, wire.client.in_sync) == (written, phase, True), reason
    assert wire.client.send(allowed), "nothing has changed"


def test_another_hello_brings_other_limits_and_the_same_session() -> None:
    script = [hello(b"LIMITS MAILMAX=1"), MAIL, hello(b"LIMITS MAILMAX=2"), MAIL, hello(b"HELP"), MAIL]
    wire = Wire([GREETING, *script]).open()
    wire.say(ME)
    for _ in range(2):
        wire.say(Ehlo("me.example"))
        assert codes(wire.say(ME)) == [("MAIL", 250)]
    assert wire.client.phase is Phase.MAIL
    assert not wire.script


def test_limits_that_make_no_sense_are_none() -> None:
    wire = Wire([GREETING, hello(b"LIMITS RCPTMAX=0 MAILMAX=x"), MAIL, TO_A, TO_Y]).open()
    assert codes(wire.say(ME, A, Y)) == [("MAIL", 250), *[("RCPT", 250)] * 2]
