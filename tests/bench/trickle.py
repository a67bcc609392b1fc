"""Goodput under the trickle attack: `python tests/bench/trickle.py --full --write`. docs/trickle.md explains it.

For each row a server is started anew. Postfix's `smtp-source` delivers to it, a connection for each message, before the
attack, while it is held, and after it. Then the row says what was left of the messages a second, what a held connection
took of memory, and how long after its deadline the last of them was gone. Everything stays on loopback, is bounded in
time, and is ended by its process id. Linux only; the server has the first processor to itself, as far as there are two.

--full takes a quarter of an hour, --quick (the default) less than a minute. --write writes docs/trickle.json, the plot
docs/trickle.svg and the table in docs/trickle.md; --plot makes the last two of the first, and measures nothing.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="50 tricklers and 5 s; this is the default")
    parser.add_argument("--full", action="store_true", help="up to 5,000 tricklers and 20 s")
    parser.add_argument("--server", action="append", dest="servers", help="only this one; may be repeated")
    parser.add_argument("--tricklers", type=int, help="only with so many; others than the usual numbers with --quick")
    parser.add_argument("--seconds", type=float, help="T, the time for a request")
    parser.add_argument("--window", type=float, help="seconds that goodput is measured for, three times")
    parser.add_argument("--ahead", action="store_true", help="of whatever else runs on the machine; root only")
    parser.add_argument("--dry-run", action="store_true", help="say what would be measured")
    parser.add_argument("--data", type=Path, help="write the data there, and the plot beside them")
    parser.add_argument("--write", action="store_true", help="write the data, the plot and the table into docs")
    parser.add_argument("--plot", action="store_true", help="make the plot and the table in docs anew")
    return parser.parse_args()


def main() -> int:
    options = parse()
    if not sys.platform.startswith("linux"):
        raise SystemExit("what a process takes is read from /proc, which is Linux's")
    sys.path[:0] = [str(ROOT), str(ROOT / "adapters")]
    from tests.bench.measure import full_plan, quick_plan, run
    from tests.bench.report import DATA, PAGE, PLOT, Report, in_page, plot, table

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # nothing that was started is left behind
    if options.plot:
        report = Report.read(DATA)
    else:
        plan = full_plan() if options.full else quick_plan(options.tricklers)
        plan = replace(
            plan,
            attacks=tuple(
                attack
                for attack in plan.attacks
                if attack.server in (options.servers or [attack.server])
                and attack.connections in (options.tricklers or attack.connections,)
            ),
            seconds=options.seconds or plan.seconds,
            window=options.window or plan.window,
        )
        if options.dry_run:
            _say("".join(f"{attack}\n" for attack in plan.attacks))
            _say(f"{plan.most / 60:.0f} minutes at most\n")
            return 0
        if options.ahead:
            os.setpriority(os.PRIO_PROCESS, 0, -20)  # and with us all that we start
        report = run(plan, lambda text: _say(f"{text}\n"))
        _say(f"\n{table(report)}")
        if options.data is not None:
            report.write(options.data)
            plot(report, options.data.with_suffix(".svg"))
        if options.write:
            report.write(DATA)
    if options.write or options.plot:
        plot(report, PLOT)
        PAGE.write_text(in_page(PAGE.read_text("utf-8"), report), "utf-8")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
