"""Events: what they say, and what they do not show."""

from __future__ import annotations

from typing import get_args

import pytest

from smtpstate._errors import Fault
from smtpstate._events import (
    FAULT_VIOLATIONS,
    Body,
    ClientEvent,
    CloseReason,
    Connected,
    ConnectionClosed,
    Flow,
    Owed,
    Peer,
    ResetCause,
    ServerEvent,
    Timer,
    TlsInfo,
    TransactionReset,
    Violation,
)
from smtpstate._keys import ChannelBinding


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        (Peer("192.0.2.1", 25), "192.0.2.1:25"),
        (Peer("2001:db8::1", 25), "[2001:db8::1]:25"),
        (Peer("unix"), "unix:0"),
    ],
)
def test_a_peer_is_written_as_an_address_and_a_port(peer: Peer, text: str) -> None:
    assert str(peer) == text


def test_every_fault_has_a_violation_of_its_own() -> None:
    assert set(FAULT_VIOLATIONS) == set(Fault)
    assert len(set(FAULT_VIOLATIONS.values())) == len(FAULT_VIOLATIONS)


@pytest.mark.parametrize("kind", [Flow, CloseReason, Violation, ResetCause])
def test_no_two_members_mean_the_same(kind: type) -> None:
    members = list(kind)  # type: ignore[call-overload]  # an Enum class can be listed
    assert len({member.value for member in members}) == len(kind.__members__)  # type: ignore[attr-defined]  # likewise


@pytest.mark.parametrize("violation", Violation)
def test_every_violation_names_its_section(violation: Violation) -> None:
    assert violation.value.startswith("RFC ")
    assert "section" in violation.value


def test_timers_count_from_nothing_without_a_gap() -> None:
    assert list(Timer) == list(range(len(Timer)))


@pytest.mark.parametrize("event", [*get_args(ServerEvent), *get_args(ClientEvent), *get_args(Owed)])
def test_events_are_frozen_and_slotted(event: type) -> None:
    assert vars(event)["__dataclass_params__"].frozen
    assert "__slots__" in vars(event)


def test_contents_and_certificates_stay_out_of_logs() -> None:
    assert "secret" not in repr(Body(b"secret"))
    assert "secret" not in repr(TlsInfo("TLSv1.3", "x", peer_certificate=b"secret"))
    assert "secret" not in repr(TlsInfo("TLSv1.2", "x", bindings=(ChannelBinding("tls-unique", b"secret"),)))


def test_events_compare_by_what_they_say() -> None:
    assert Connected(Peer("192.0.2.1")) == Connected(Peer("192.0.2.1"))
    assert TransactionReset(ResetCause.RSET) != TransactionReset(ResetCause.HELLO)
    assert ConnectionClosed(CloseReason.EOF) == ConnectionClosed(CloseReason.EOF)
