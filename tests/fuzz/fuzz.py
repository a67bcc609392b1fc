"""Mutates the corpus for as long as you like: `python tests/fuzz/fuzz.py --minutes 5`.

An input that shows something new, an event, a violation or a reply that none before it had in that seat, is mutated on.
One that breaks something is made shorter as long as it still does, written into the corpus, and the run ends with 1.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
import traceback
from pathlib import Path
from random import Random
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long; 5 unless it is given")
    parser.add_argument("--seed", type=int, default=None, help="to do the same again")
    options = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "adapters")]
    from tests.fuzz.seats import CORPUS, Side, corpus, mutate, play

    seed = options.seed if options.seed is not None else time.time_ns()
    random = Random(seed)
    sides: tuple[Side, ...] = ("server", "client")
    pools = {side: [path.read_bytes() for path in corpus(side)] for side in sides}
    seen: set[str] = set()
    until = time.monotonic() + 60 * options.minutes
    runs = 0
    while time.monotonic() < until:
        side = random.choice(sides)
        pool = pools[side]
        data = mutate(random, random.choice(pool), pool)
        how = random.getrandbits(64)  # how it is cut and ended
        runs += 1
        try:
            found = play(side, data, Random(how))
        except Exception:
            data = _shorter(lambda tried, side=side, how=how: play(side, tried, Random(how)), data)
            path = CORPUS / side / f"crash-{hashlib.sha256(data).hexdigest()[:8]}"
            path.write_bytes(data)
            sys.stderr.write(f"{traceback.format_exc()}\nafter {runs} inputs, seed {seed}: {data!r}\nkept as {path}\n")
            return 1
        if not found <= seen:
            seen |= found
            pool.append(data)
    sys.stdout.write(f"{runs} inputs, {len(seen)} things seen, nothing broken; seed {seed}\n")
    return 0


def _shorter(attempt, data: bytes) -> bytes:
    """`data` without whatever it can do without and still break something."""
    size = len(data) // 2
    while size:
        start = 0
        while start < len(data):
            tried = data[:start] + data[start + size :]
            try:
                attempt(tried)
            except Exception:
                data = tried
            else:
                start += size
        size //= 2
    return data


if __name__ == "__main__":
    sys.exit(main())
