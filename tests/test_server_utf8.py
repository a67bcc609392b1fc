"""The server's seat under SMTPUTF8: what is taken, what is refused, and who is answered in UTF-8."""

from __future__ import annotations

import pytest

from smtpstate import Data, EndOfMessage, Expn, Mail, Rcpt, Reply, ServerConfig, ServerConnection, ServerEvent, Vrfy
from smtpstate._config import OFFERS
from tests.helpers import Seat, accept_all, ready

CONFIG = ServerConfig("mx.example.org", offers=OFFERS | {"SMTPUTF8"}, asks_vrfy=True, asks_expn=True)
U = "\u00e9@b\u00fccher.example"
MAIL = f"MAIL FROM:<{U}> SMTPUTF8\r\n"
RCPT = f"RCPT TO:<{U}>\r\n"
REST = "RCPT TO:<a@x>\r\nDATA\r\n.\r\n"
E = Reply(250, "\u00e9")


def say_e(server: ServerConnection, event: ServerEvent) -> None:
    """Says yes to all that waits, in UTF-8."""
    if server.owed is None:
        return
    if isinstance(event, Mail | Rcpt | Vrfy | Expn | EndOfMessage):
        server.reply(E)
    elif isinstance(event, Data):
        server.reply(Reply(354, "\u00e9"))
    else:
        accept_all(server, event)


ASKED, DID_NOT = ["250 2.1.0"], ["250 2.1.0", "553 5.6.7"]


def heard(seat: Seat, text: str) -> list[str]:
    return seat.say(text.encode()).decode().splitlines()


def test_it_is_announced_and_what_is_said_arrives() -> None:
    seat = Seat(CONFIG)
    assert b" SMTPUTF8\r\n" in seat.say(b"EHLO c.example\r\n")
    assert [line[:3] for line in heard(seat, MAIL + RCPT)] == ["250", "250"]
    transaction = seat.connection.transaction
    assert transaction is not None
    assert transaction.mail.smtputf8
    assert (str(transaction.mail.reverse_path), str(transaction.recipients[0].recipient)) == (U, U)
    assert transaction.recipients[0].recipient.within("XN--BCHER-KVA.example"), "domains are the same A-labels"


@pytest.mark.parametrize(
    ("said", "answers", "reason"),
    [
        (f"MAIL FROM:<{U}>\r\n", ["550 5.6.7"], "RFC 6531 section 3.5"),
        (f"MAIL FROM:<>\r\n{RCPT}", DID_NOT, "RFC 6531 section 3.5"),
        (
            f"{MAIL}{RCPT}RSET\r\nMAIL FROM:<>\r\n{RCPT}",
            ["250 2.1.0", "250 2.1.5", "250 2.0.0", "250 2.1.0", "553 5.6.7"],
            "each asks for itself",
        ),
        (f"HELO c.example\r\n{MAIL}", ["250 mx.ex", "555 5.5.4"], "nothing is offered to HELO"),
        (f"NOOP {U}\r\n", ["500 5.5.2"], "no place for it"),
        ("MAIL FROM:<> SMTPUTF8=1\r\n", ["501 5.5.4"], "it has no value"),
    ],
)
def test_what_is_refused(said: str, answers: list[str], reason: str) -> None:
    assert [line[:9] for line in heard(ready(CONFIG), said)] == answers, reason


@pytest.mark.parametrize(
    ("said", "answers", "reason"),
    [
        (
            "MAIL FROM:<> SMTPUTF8\r\nRCPT TO:<a@x>\r\nDATA\r\n.\r\nVRFY x\r\n",
            "\u00e9\u00e9\u00e9\u00e9?",
            "to its end, and no further",
        ),
        ("MAIL FROM:<>\r\nRCPT TO:<a@x>\r\nDATA\r\n.\r\n", "????", "who did not ask"),
        (
            "VRFY x SMTPUTF8\r\nVRFY x\r\nEXPN \u00e9\r\nEXPN \u00e9 SMTPUTF8\r\n",
            "\u00e9??\u00e9",
            "section 3.7.4.2: by the flag",
        ),
    ],
)
def test_replies_hold_utf8_for_those_who_asked(said: str, answers: str, reason: str) -> None:
    seat = ready(CONFIG, handler=say_e)
    assert "".join(line[-1] for line in heard(seat, said)) == answers, reason


def test_a_message_that_is_refused_in_its_middle_is_refused_in_utf8() -> None:
    seat = ready(CONFIG)
    heard(seat, f"{MAIL}{RCPT}DATA\r\nHi\r\n")
    seat.connection.refuse(Reply(550, "\u00e9"))
    assert heard(seat, ".\r\n") == ["550 5.0.0 \u00e9"]


def test_where_it_is_not_offered_a_mailbox_that_needs_it_is_told_so() -> None:
    said = f"{MAIL}{RCPT}VRFY x SMTPUTF8\r\nMAIL FROM:<{U}>\r\nMAIL FROM:<>\r\n{RCPT}"
    answers = ["555 5.5.4", "503 5.5.1", "504 5.5.4", "550 5.6.7", "250 2.1.0", "553 5.6.7"]
    assert [line[:9] for line in heard(ready(), said)] == answers
