"""Both seats of a mechanism, talking to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smtpstate._keys import ChannelBinding, ScramKeys, WorkNeeded, password_work
from smtpstate._sasl import (
    Answer,
    CertificateGiven,
    Challenge,
    ClientMechanism,
    ClientStep,
    Done,
    Failure,
    KeysNeeded,
    PasswordGiven,
    Respond,
    ServerMechanism,
    Success,
    TokenGiven,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SECRET = b"sixteen octets !"
BINDING = ChannelBinding("tls-exporter", bytes(32))

_work = password_work("pencil", b"salt of 16 octet")
KEYS = ScramKeys.derive(_work, _work.run())

Asked = PasswordGiven | KeysNeeded | TokenGiven | CertificateGiven


def accounts(asked: Asked) -> Answer:
    """One user, "user" with "pencil" or the token "token"; the administrator may act for others."""
    match asked:
        case PasswordGiven(authzid, username, "pencil") if username == "user" or username == "admin":
            return authzid or username
        case KeysNeeded("user" | "admin", _):
            return KEYS
        case TokenGiven(_, "token") | CertificateGiven("user"):
            return "user"
        case _:
            return None


def respond(client: ClientMechanism, data: bytes | None) -> ClientStep:
    """What the client does with a challenge, its work done."""
    step = client.step(data)
    return client.step(step.run()) if isinstance(step, WorkNeeded) else step


def converse(
    client: ClientMechanism,
    server: ServerMechanism,
    decide: Callable[[Asked], Answer] = accounts,
    *,
    withheld: bool = False,
) -> tuple[Success | Failure, Done | Failure]:
    """How it ended for the server and for the client; `withheld`: the initial response waits for a challenge."""
    said = client.step(None)
    assert isinstance(said, Respond)
    if withheld and said.data is not None:
        assert isinstance(server.step(None), Challenge)
    step = server.step(said.data)
    while True:
        match step:
            case Challenge(data):
                said = respond(client, data)
                if isinstance(said, Failure):
                    raise AssertionError(said)
                assert isinstance(said, Respond)
                step = server.step(said.data)
            case PasswordGiven() | KeysNeeded() | TokenGiven() | CertificateGiven():
                step = server.answer(decide(step))
            case Success():
                return step, client.concluded()
            case Failure():
                return step, client.concluded()
