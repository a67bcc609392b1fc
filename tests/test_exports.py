"""The public names: adding one is a decision, and losing one breaks somebody."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

import pytest

import smtpstate
from smtpstate import delivery, policy, proxy, sasl, tls, trace

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
    assert public == {
        *("FORBIDDEN", "MX", "STRICT", "BareNewline", "Deviation", "EarlyInput", "Forbidden", "Leftover", "Policy"),
        *("Treatment", "WireRules"),
    }


DELIVERY: list[str] = [
    "AuthenticationFailed",
    "Batches",
    "Envelope",
    "Procedure",
    "Recipient",
    "Wants",
    "Work",
    "ask",
    "authenticate",
    "open_session",
    "quit_session",
    "recipients_of",
    "send_message",
]
PROXY: list[str] = [
    "MAX_SECONDS",
    "Network",
    "ProxyEvent",
    "ProxyFault",
    "ProxyHeader",
    "ProxyReader",
    "ProxyVersion",
    "Tlv",
    "TlvType",
    "parse_networks",
    "trusted",
]
SASL: list[str] = [
    "CertificateGiven",
    "Challenge",
    "ChannelBinding",
    "ClientMechanism",
    "ClientStep",
    "Credentials",
    "Done",
    "Failure",
    "KeysNeeded",
    "MAX_NAME",
    "MIN_ITERATIONS",
    "PasswordGiven",
    "Respond",
    "SERVER_MECHANISMS",
    "SaslFault",
    "ScramKeys",
    "ServerMechanism",
    "ServerStep",
    "Success",
    "TokenGiven",
    "WorkNeeded",
    "challenge_of",
    "channel_bindings",
    "choose",
    "password_work",
    "read_name",
    "server_mechanism",
    "unknown_keys",
]


TRACE: list[str] = [
    "Trace",
    "TraceBudget",
    "TraceLine",
    "TracePhase",
    "TraceRecord",
    "TraceVerdict",
    "render",
]


TLS: list[str] = [
    "Dane",
    "HandshakeRefused",
    "HelloFault",
    "MtaSts",
    "MtaStsMode",
    "SecureConnection",
    "Shown",
    "TlsCapable",
    "TlsPolicy",
    "Tlsa",
    "client_context",
    "public_key_of",
    "secure",
    "server_context",
]


def test_the_names_of_the_tls_layer_are_these() -> None:
    assert sorted(TLS) == TLS
    tree = ast.parse(Path(tls.__file__).read_text())
    made = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef) if node.name[0] != "_"}
    given = {
        alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert made | given == set(TLS)


@pytest.mark.parametrize(
    ("module", "names"),
    [(delivery, DELIVERY), (proxy, PROXY), (sasl, SASL), (trace, TRACE)],
    ids=["delivery", "proxy", "sasl", "trace"],
)
def test_what_drivers_need_besides_has_modules_that_are_nothing_else(module: ModuleType, names: list[str]) -> None:
    assert sorted(names) == names
    assert {name for name in vars(module) if name[0] != "_"} == set(names)
    assert module.__file__ is not None
    for node in ast.parse(Path(module.__file__).read_text()).body[1:]:
        assert isinstance(node, ast.ImportFrom)
        (alias,) = node.names
        assert alias.asname == alias.name


# What has no better home: words for one reply or one rule that ours shares with the core; and its grammar of commands,
# for servers and clients of the testing kit that follow a table instead of the rules.
ADAPTERS_MAY = {
    "smtpstate._abnf": {"DOMAIN", "UTF8_NON_ASCII"},
    "smtpstate._config": {"HANDLER_TIMED_OUT", "OFFERS", "SHUTTING_DOWN"},
    "smtpstate._errors": {"GrammarError"},
    "smtpstate._events": {"Owed"},
    "smtpstate._syntax": {"LOCAL_ERROR", "encode_command", "find_verb", "parse_command", "parse_response"},
}


def test_the_adapters_are_written_as_anybody_could_write_one() -> None:
    paths = list((Path(smtpstate.__file__).parents[1] / "adapters").rglob("*.py"))
    assert paths
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("smtpstate._"):
                assert {alias.name for alias in node.names} <= ADAPTERS_MAY.get(node.module or "", set()), path


def test_it_is_typed() -> None:
    assert (Path(smtpstate.__file__).parent / "py.typed").exists()
