"""The public names: adding one is a decision, and losing one breaks somebody."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

import smtpstate
from smtpstate import policy

NAMES: list[str] = [
    "Anomaly",
    "Auth",
    "AuthCancel",
    "AuthResponse",
    "Bdat",
    "Body",
    "BodyType",
    "Capabilities",
    "CapabilitiesChanged",
    "ClientConnection",
    "ClientEvent",
    "Clock",
    "CloseReason",
    "Command",
    "CommandRefused",
    "Connected",
    "ConnectionBroken",
    "ConnectionClosed",
    "Data",
    "Delivery",
    "DeliveryError",
    "Ehlo",
    "EndOfMessage",
    "EnhancedCode",
    "Expn",
    "Flow",
    "ForwardPath",
    "Helo",
    "Help",
    "Lhlo",
    "Limits",
    "LocalProtocolError",
    "Mail",
    "Mailbox",
    "NoRecipients",
    "Noop",
    "Outcome",
    "Peer",
    "Phase",
    "Quit",
    "Rcpt",
    "RecipientResult",
    "Refusal",
    "Reply",
    "ReplyReceived",
    "ResetCause",
    "Result",
    "ReversePath",
    "Rset",
    "SMTPStateError",
    "ServerConfig",
    "ServerConnection",
    "ServerEvent",
    "SessionRefused",
    "StartTls",
    "Timer",
    "TlsInfo",
    "TlsMode",
    "TlsUnavailable",
    "Trace",
    "TraceLine",
    "Transaction",
    "TransactionReset",
    "Verb",
    "Violation",
    "Vrfy",
]


def test_the_public_names_are_these() -> None:
    public = {name for name, value in vars(smtpstate).items() if name[0] != "_" and not isinstance(value, ModuleType)}
    assert public == set(NAMES)


def test_the_names_are_in_order_and_about_sixty() -> None:
    assert sorted(NAMES) == NAMES
    assert len(NAMES) <= 70


def test_the_package_has_one_line_for_each_name_and_nothing_else() -> None:
    body = ast.parse(Path(smtpstate.__file__).read_text()).body
    assert isinstance(body[0], ast.Expr), "the docstring"
    for node in body[1:]:
        assert isinstance(node, ast.ImportFrom)
        (alias,) = node.names
        assert alias.asname == alias.name, "an explicit re-export, which type checkers want to see"
    assert len(body) - 1 == len(NAMES)


def test_the_names_of_the_policy_are_these() -> None:
    public = {name for name in vars(policy) if name[0] != "_"}
    assert public == {"MX", "STRICT", "Deviation", "Policy", "Treatment"}


def test_it_is_typed() -> None:
    assert (Path(smtpstate.__file__).parent / "py.typed").exists()
