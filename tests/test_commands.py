"""The vocabulary of commands: what they are made of, what they know, and what they do not show."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

import pytest

from smtpstate._address import ForwardPath, Mailbox, ReversePath
from smtpstate._commands import (
    Auth,
    AuthCancel,
    AuthResponse,
    Bdat,
    Command,
    Ehlo,
    EndOfMessage,
    Helo,
    Mail,
    Noop,
    OwnCommand,
    Quit,
    Rcpt,
    StartTls,
    Verb,
    name_of,
)
from smtpstate._errors import LocalProtocolError
from smtpstate._params import BodyType


@pytest.mark.parametrize(
    "address", ["a", "a@", "@b", "<a@b>", "a@b\r\n", "a b@c", "\x85@b.example", "a@\U0001f4e7.example", ""]
)
def test_what_is_no_mailbox_is_the_callers_mistake(address: str) -> None:
    with pytest.raises(LocalProtocolError):
        Rcpt.of(address)
    if address:
        with pytest.raises(LocalProtocolError):
            Mail.of(address)


def test_postmaster_needs_no_domain() -> None:
    assert Rcpt.of("PostMaster").recipient == ForwardPath(Mailbox("PostMaster", ""))


def test_mail_of_spells_its_parameters() -> None:
    mail = Mail.of("a@b.example", size=12, body=BodyType.EIGHTBITMIME)
    assert mail.parameters == (("SIZE", "12"), ("BODY", "8BITMIME"))


def test_mail_knows_its_parameters() -> None:
    assert Mail.of("", size=1, parameters=(("RET", "FULL"),)).parameters == (("SIZE", "1"), ("RET", "FULL"))
    for address in ("a@b.example", "postmaster"):
        assert Rcpt.of(address, parameters=(("NOTIFY", "NEVER"),)).parameters == (("NOTIFY", "NEVER"),)
    bare = Mail.of("a@b.example")
    assert (bare.size, bare.body) == (None, None)
    full = Mail(Mail.of("").reverse_path, (("SIZE", "00012"), ("BODY", "7bit")))
    assert (full.size, full.body) == (12, BodyType.SEVENBIT)


def test_what_only_the_receiver_knows_does_not_compare() -> None:
    assert Noop("x", raw=b"noop x") == Noop("x")
    assert EndOfMessage(size=5) == EndOfMessage()
    assert len({Ehlo("a"), Helo("a"), Ehlo("a", raw=b"ehlo a")}) == 2


def test_what_is_secret_is_not_shown() -> None:
    for command in (Auth("PLAIN", b"secret", raw=b"AUTH PLAIN secret"), AuthResponse(b"secret")):
        assert "secret" not in repr(command)
    assert repr(Auth("PLAIN", b"secret")) == "Auth(mechanism='PLAIN')"


def test_a_command_is_called_as_its_line_begins() -> None:
    assert [name_of(command) for command in (Quit(), StartTls(), OwnCommand("ETRN", "x"))] == [
        "QUIT",
        "STARTTLS",
        "ETRN",
    ]
    assert OwnCommand("ETRN", "x", raw=b"etrn x") == OwnCommand("ETRN", "x") != OwnCommand("ATRN", "x")


def test_an_empty_initial_response_is_one() -> None:
    assert Auth("X", b"") != Auth("X")


def test_what_secrets_say_compares_all_the_same() -> None:
    assert AuthResponse(b"a") != AuthResponse(b"b")
    assert Auth("X", b"a") != Auth("X", b"b")
    assert AuthCancel() == AuthCancel()
    assert Bdat(1, last=True) != Bdat(1) == Bdat(1, raw=b"bdat 01")


@pytest.mark.parametrize("kind", get_args(Command))
def test_every_command_keeps_its_line_and_shows_it_to_nobody(kind: type[Command]) -> None:
    named = {field.name: field for field in fields(kind)}
    if kind.verb is Verb.RESPONSE:  # all that such a line says is in the command
        assert "raw" not in named
    else:
        assert (named["raw"].compare, named["raw"].repr) == (False, False)


def test_mail_says_whether_it_asks_for_smtputf8() -> None:
    asking = Mail(ReversePath(None), (("SIZE", "1"), ("SMTPUTF8", None)))
    assert asking.smtputf8
    assert not Mail.of("me@b.example", size=1).smtputf8


@pytest.mark.parametrize(
    ("body", "binary"), [(None, False), (BodyType.EIGHTBITMIME, False), (BodyType.BINARYMIME, True)]
)
def test_mail_says_whether_its_message_is_binary(body: BodyType | None, binary: bool) -> None:
    assert Mail.of("", body=body).binary is binary


@pytest.mark.parametrize("address", ["\xe9@b.example", "a@b\xfccher.example", '"\xe9 b"@b.example'])
def test_an_address_need_not_be_ascii(address: str) -> None:
    """Whether it can be sent is known when it is: RFC 6531 section 3.3."""
    assert Mail.of(address).reverse_path.address == address
    assert Rcpt.of(address).recipient.address == address
