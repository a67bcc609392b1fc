"""Who knows one adapter knows the other: what they take, what their objects can, and their names."""

from __future__ import annotations

from inspect import Parameter, signature
from typing import Any

import pytest

import smtpstate_anyio
import smtpstate_asyncio

OTHER = {"task_status"}  # anyio's way to say that the addresses are bound; here `serving` gives them
EMBEDDED = {"stop", "grace"}  # whoever has the loop stops listening; `drain` takes the grace


def taken(function: Any, *, without: set[str] = OTHER) -> dict[str, Any]:
    """Names and defaults of the arguments, in order."""
    return {one.name: one.default for one in signature(function).parameters.values() if one.name not in without}


@pytest.mark.parametrize("name", ["serve", "serve_messages", "connect"])
def test_both_take_the_same_arguments(name: str) -> None:
    ours, theirs = (taken(getattr(module, name)) for module in (smtpstate_asyncio, smtpstate_anyio))
    assert [*ours.items()] == [*theirs.items()]


@pytest.mark.parametrize(("name", "of"), [("serving", "serve"), ("serving_messages", "serve_messages")])
def test_a_block_takes_what_the_call_does(name: str, of: str) -> None:
    ours, theirs = taken(getattr(smtpstate_asyncio, name)), taken(getattr(smtpstate_asyncio, of), without={"stop"})
    assert [*ours.items()] == [*theirs.items()]


@pytest.mark.parametrize(
    ("name", "of", "called"),
    [("smtp_server_protocol", "serve", "handler"), ("smtp_messages_protocol", "serve_messages", "on_message")],
)
def test_a_factory_takes_what_the_call_does(name: str, of: str, called: str) -> None:
    ours = taken(getattr(smtpstate_asyncio, name), without={"on_event", "on_message", "listener"})
    assert ours == taken(getattr(smtpstate_asyncio, of), without={*EMBEDDED, called, "listen"})
    assert signature(getattr(smtpstate_asyncio, name)).parameters["listener"].default is None


def test_a_client_of_your_own_connection_takes_what_connect_does() -> None:
    ours, theirs = taken(smtpstate_asyncio.smtp_client_protocol), taken(smtpstate_asyncio.connect)
    assert [*ours.items()] == [*theirs.items()]


def test_everything_but_what_is_served_has_a_name() -> None:
    for name in ("smtp_server_protocol", "smtp_messages_protocol"):
        first, *others = signature(getattr(smtpstate_asyncio, name)).parameters.values()
        assert first.kind is Parameter.POSITIONAL_OR_KEYWORD
        assert {one.kind for one in others} == {Parameter.KEYWORD_ONLY}


FOR_THE_SERVER = {
    "Client": {"abandon", "close", "driver", "failed", "gone", "machine", "overdue", "wake", "say_goodbye"},
    "Session": {"driver", "failed", "gone", "leave", "overdue", "rearm", "swap_budget", "wake", "run"},
    "MessageBody": {"keep"},
}


@pytest.mark.parametrize("kind", ["Client", "Session", "Message", "MessageBody", "Authenticator", "Users", "Observer"])
def test_both_have_the_same_methods(kind: str) -> None:
    def public(module: Any) -> set[str]:
        return {name for name in dir(getattr(module, kind)) if not name.startswith("_")}

    mine = FOR_THE_SERVER.get(kind, set())
    assert public(smtpstate_asyncio) - mine == public(smtpstate_anyio) - mine


def test_anyio_exports_no_name_that_is_not_here() -> None:
    def public(module: Any) -> set[str]:
        return {name for name in vars(module) if not name.startswith("_")}

    more = {"serving", "serving_messages", "Budget", "Owner", "ProtocolFactory", "ClientProtocol"}
    protocols = {"smtp_server_protocol", "smtp_messages_protocol", "smtp_client_protocol"}
    assert public(smtpstate_asyncio) == public(smtpstate_anyio) | more | protocols
