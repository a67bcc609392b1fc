"""Whom a list of networks means."""

from __future__ import annotations

import pytest

from smtpstate._networks import parse_networks, trusted

TRUST = [
    ("192.0.2.1", ["192.0.2.0/24"], True, "inside"),
    ("192.0.3.1", ["192.0.2.0/24"], False, "outside"),
    ("192.0.2.1", ["192.0.2.1"], True, "a network of one"),
    ("192.0.2.2", ["192.0.2.1"], False, "its neighbour"),
    ("2001:db8::7", ["192.0.2.0/24", "2001:db8::/32"], True, "the second of two"),
    ("::ffff:192.0.2.1", ["192.0.2.0/24"], True, "IPv4 from a socket of IPv6"),
    ("192.0.2.1", ["::/0"], False, "all of IPv6 is nothing of IPv4"),
    ("fe80::1%eth0", ["fe80::/10"], True, "a scope does not count"),
    ("192.0.2.1", [], False, "an empty list trusts nobody"),
    ("/run/proxy.sock", ["0.0.0.0/0", "::/0"], False, "no IP address"),
    ("", ["0.0.0.0/0", "::/0"], False, "nothing"),
]


@pytest.mark.parametrize(("address", "networks", "answer", "reason"), TRUST)
def test_trust(address: str, networks: list[str], answer: bool, reason: str) -> None:
    assert trusted(address, parse_networks(networks)) is answer, reason


@pytest.mark.parametrize("text", ["192.0.2.1/24", "192.0.2.0/33", "example.org", "", "192.0.2"])
def test_a_network_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"network|address|host bits"):
        parse_networks(["192.0.2.0/24", text])
