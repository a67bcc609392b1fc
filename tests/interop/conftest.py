"""The same `smtpstate serve` as in tests/peers."""

from __future__ import annotations

from tests.peers.conftest import certificates, process, serving

__all__ = ["certificates", "process", "serving"]
