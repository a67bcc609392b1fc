"""The attack: holds connections open, each by an octet now and then. `trickle.py` starts it; see there.

One process with one selector, so that it costs next to nothing beside what it attacks. It says `held` once everybody
has been let in who will be, and at its end a line of JSON. It ends by itself: with the last connection, or in time.
"""

from __future__ import annotations

import argparse
import heapq
import json
import selectors
import signal
import socket
import sys
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

_AT_ONCE: Final = 64  # connections that wait for their greeting
_PATIENCE: Final = 0.25  # seconds without a greeting, after which others are opened all the same
_BEFORE_BODY: Final = (
    b"EHLO trickler.example\r\n",
    b"MAIL FROM:<sender@example.org>\r\n",
    b"RCPT TO:<recipient@example.org>\r\n",
    b"DATA\r\n",
)
_GOLDEN: Final = 0.618_033_988_749_895  # its multiples, modulo 1, lie evenly


@dataclass(slots=True)
class Trickler:
    """One connection. `began` is when it owed the request that it trickles."""

    number: int
    socket: socket.socket
    said: int = 0  # commands in front of the body
    heard: bytes = b""
    began: float | None = None
    octets: int = 0


@dataclass(slots=True)
class Attack:
    """What came of it."""

    address: tuple[str, int]
    connections: int
    sources: int
    body: bool
    interval: float
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    opened: int = 0
    admitted: int = 0
    refused: int = 0
    told: int = 0  # 421 4.4.2
    held: list[float] = field(default_factory=list)
    octets: int = 0
    progress: float = 0.0
    turns: list[tuple[float, int]] = field(default_factory=list)  # when whose next octet is due
    live: dict[int, Trickler] = field(default_factory=dict)

    def run(self, opening: float, lifetime: float) -> None:
        """Opens for `opening` seconds at most, and holds for `lifetime` seconds from then on."""
        now = monotonic()
        until, stop = now + opening, now + opening + lifetime
        said = False
        while now < stop and (self.live or self.opened < self.connections):
            if not said:
                self._open(now)
                if self.admitted + self.refused == self.connections or now > until:
                    said = True
                    stop = now + lifetime
                    self._say()
            wait = min(self.turns[0][0] - now, 0.02) if self.turns else 0.02
            for key, _ in self.selector.select(max(0.0, wait)):
                self._hear(key.data)
            now = monotonic()
            self._trickle(now)
        if not said:  # everybody was gone before the last one came
            self._say()

    def _say(self) -> None:
        """Whoever has not come yet never will."""
        self.connections = self.opened
        sys.stdout.write(f"held {self.admitted} {self.refused}\n")
        sys.stdout.flush()

    def _open(self, now: float) -> None:
        waiting = self.opened - self.admitted - self.refused
        if waiting >= _AT_ONCE:
            if now - self.progress < _PATIENCE:
                return
            waiting = 0  # they are in a queue that does not move: fill it
            self.progress = now
        for _ in range(min(_AT_ONCE - waiting, self.connections - self.opened)):
            number = self.opened
            one = Trickler(number, socket.socket())
            one.socket.setblocking(False)
            if self.sources:
                one.socket.bind((f"127.1.{number % self.sources // 250}.{number % self.sources % 250 + 1}", 0))
            self.opened += 1
            self.live[number] = one
            one.socket.connect_ex(self.address)
            self.selector.register(one.socket, selectors.EVENT_READ, one)

    def _hear(self, one: Trickler) -> None:
        try:
            data = one.socket.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        now = self.progress = monotonic()
        if not data:
            self._close(one, now)
            return
        one.heard += data
        if one.began is not None:
            if b"421 4.4.2 " in one.heard:
                self.told += 1
                one.heard = b""
            return
        last = one.heard.splitlines()[-1]
        if not one.heard.endswith(b"\n") or last[3:4] == b"-":
            return
        one.heard = b""
        if last[:1] not in b"23":
            self._close(one, now)
        elif self.body and one.said < len(_BEFORE_BODY):
            self._send(one, _BEFORE_BODY[one.said])
            one.said += 1
        else:
            one.began = now
            self.admitted += 1
            heapq.heappush(self.turns, (now + self.interval * (one.number * _GOLDEN % 1.0), one.number))

    def _trickle(self, now: float) -> None:
        while self.turns and self.turns[0][0] <= now:
            at, number = heapq.heappop(self.turns)
            one = self.live.get(number)
            if one is None:
                continue
            text = b"x\r\n" if self.body else b"NOOP x"
            self._send(one, text[one.octets % 3 :][:1] if self.body else text[min(one.octets, 5) :][:1])
            one.octets += 1
            self.octets += 1
            heapq.heappush(self.turns, (at + self.interval, number))

    def _send(self, one: Trickler, data: bytes) -> None:
        try:
            one.socket.send(data)
        except OSError:  # it was cut; reading tells when
            return

    def _close(self, one: Trickler, now: float) -> None:
        self.selector.unregister(one.socket)
        one.socket.close()
        del self.live[one.number]
        if one.began is None:
            self.refused += 1
        else:
            self.held.append(now - one.began)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True, help="on 127.0.0.1, and nowhere else")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--sources", type=int, default=0, help="addresses of loopback to come from; 0: as it comes")
    parser.add_argument("--kind", choices=["command", "body"], default="command", help="what trickles")
    parser.add_argument("--interval", type=float, default=3.0, help="seconds between two octets of a connection")
    parser.add_argument("--opening", type=float, default=10.0, help="seconds in which to be let in")
    parser.add_argument("--lifetime", type=float, default=40.0, help="seconds after which to give up")
    options = parser.parse_args()
    signal.alarm(int(options.opening + options.lifetime) + 30)  # whatever happens
    attack = Attack(
        ("127.0.0.1", options.port),
        options.connections,
        options.sources,
        options.kind == "body",
        options.interval,
    )
    attack.run(options.opening, options.lifetime)
    still = [one for one in attack.live.values() if one.began is not None]
    result = {
        "admitted": attack.admitted,
        "refused": attack.refused,
        "waiting": len(attack.live) - len(still),  # never greeted
        "held": len(still),  # still there
        "told": attack.told,
        "octets": attack.octets,
        "shortest": min(attack.held, default=None),
        "longest": max(attack.held, default=None),
    }
    sys.stdout.write(f"{json.dumps(result)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
