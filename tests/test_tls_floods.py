"""TLS as a layer: records that bring no plaintext, made by hand with the keys of a session."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from smtpstate._commands import Noop
from smtpstate._events import CloseReason, ConnectionClosed, ReplyReceived
from tests.tls_peers import HOST, Client, Raw, Server, Side, client_side, server_side

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT = 65_536
DATA, HANDSHAKE = 23, 22


class Forger:
    """Writes records as one side of a session of TLS_AES_256_GCM_SHA384 would. RFC 8446 sections 5.2, 5.3 and 7.2."""

    def __init__(self, keylog: Path, label: str) -> None:
        [secret] = [line.split()[2] for line in keylog.read_text().splitlines() if line.startswith(f"{label} ")]
        self.secret = bytes.fromhex(secret)
        self.use()

    def use(self) -> None:
        self.key, self.iv = self.expand(b"key", 32), self.expand(b"iv", 12)
        self.sequence = 0

    def expand(self, label: bytes, size: int) -> bytes:
        """HKDF-Expand-Label without a context; one block of SHA-384 is enough for all that is wanted."""
        label = b"tls13 " + label
        info = size.to_bytes(2) + bytes([len(label)]) + label + b"\0"
        return hmac.digest(self.secret, info + b"\1", "sha384")[:size]

    def record(self, content: bytes, kind: int, padding: int = 0) -> bytes:
        plain = content + bytes([kind]) + bytes(padding)
        head = b"\x17\3\3" + (len(plain) + 16).to_bytes(2)
        nonce = (int.from_bytes(self.iv) ^ self.sequence).to_bytes(12)
        self.sequence += 1
        return head + AESGCM(self.key).encrypt(nonce, plain, head)

    def empty(self, padding: int) -> Iterator[bytes]:
        while True:
            yield self.record(b"", DATA, padding)

    def key_updates(self, *, wants: bool) -> Iterator[bytes]:
        while True:
            record = self.record(bytes((24, 0, 0, 1, wants)), HANDSHAKE)
            self.secret = self.expand(b"traffic upd", 48)
            self.use()
            yield record


def floods(forger: Forger) -> dict[str, Iterator[bytes]]:
    return {
        "key updates": forger.key_updates(wants=False),
        "key updates that want one": forger.key_updates(wants=True),
        "empty records": forger.empty(0),
        "empty records in padding": forger.empty(4000),
    }


KINDS = ["key updates", "key updates that want one", "empty records", "empty records in padding"]


@pytest.fixture(params=["server", "client"])
def seat(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Side, Forger]:
    """One of our sides after its handshake, and who speaks to it with the keys of the other."""
    keylog = tmp_path / "keys"
    side: Side
    if request.param == "server":
        side, raw = Server(implicit=True), Raw(client_side(keylog_filename=str(keylog)), HOST)
        label = "CLIENT_TRAFFIC_SECRET_0"
    else:
        side, raw = Client(implicit=True), Raw(server_side(keylog_filename=str(keylog), num_tickets=0))
        label = "SERVER_TRAFFIC_SECRET_0"
    side.pull()
    raw.inward.write(side.drain())
    raw.meet(side)
    assert raw.tls.version() == "TLSv1.3"
    return side, Forger(keylog, label)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flood_without_plaintext_is_cut_off(seat: tuple[Side, Forger], kind: str) -> None:
    side, forger = seat
    flood = floods(forger)[kind]
    fed = last = answered = 0
    while side.closed is None:
        assert fed <= LIMIT
        record = next(flood)
        side.feed(record)
        last = len(record)
        fed += last
        answered += len(side.drain())
    assert side.closed == ConnectionClosed(CloseReason.LOST)
    if side.machine.failure is None:
        assert fed - last <= LIMIT < fed
    else:
        assert kind == "empty records", "of which OpenSSL, too, takes so many and no more"
    assert answered <= LIMIT


@pytest.mark.parametrize("kind", KINDS)
def test_plaintext_in_between_starts_the_count_anew(seat: tuple[Side, Forger], kind: str) -> None:
    side, forger = seat
    flood = floods(forger)[kind]
    side.feed(forger.record(b"NOOP " if isinstance(side, Server) else b"220 ", DATA))
    fed = 0
    while fed < 2 * LIMIT:
        for _ in range(10):
            record = next(flood)
            fed += len(record)
            side.feed(record)
        side.drain()
        side.feed(forger.record(b"x", DATA))
        assert side.closed is None, fed
    side.feed(forger.record(b"\r\n", DATA))
    assert type(side.events[-1]) is (Noop if isinstance(side, Server) else ReplyReceived)
