"""What was measured: as data, as the table of docs/trickle.md, and as a plot."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
DATA: Final = ROOT / "docs" / "trickle.json"
PLOT: Final = ROOT / "docs" / "trickle.svg"
PAGE: Final = ROOT / "docs" / "trickle.md"

LATE: Final = 6.0  # seconds after their deadline that tricklers stay who are not cut

_MARKS: Final = ("<!-- trickle: begin, made by tests/bench/trickle.py -->\n", "<!-- trickle: end -->\n")


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured. Rates are messages a second; processor time is the server's, in ms for each."""

    server: str
    kind: str
    sources: int
    tricklers: int
    admitted: int  # of them, when goodput was measured
    refused: int
    rate_without: float  # the mean of before and after
    rate_under: float
    cpu_without: float
    cpu_under: float
    cpu_held: float  # the share of a processor that the tricklers take, with nobody else there
    memory_kib: float | None  # for each that was admitted
    longest: float | None  # seconds from when a request began to when its connection was gone
    told: int  # how many heard 421 4.4.2
    held: int  # still there at the end

    @property
    def goodput(self) -> float:
        """What is left of the messages a second; 1 is all."""
        return self.rate_under / self.rate_without if self.rate_without else 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """All that is kept of a run. Where it was stays out of it."""

    date: str
    python: str
    cpu: str
    cpus: int
    load: float  # average of the minute before the run: what the machine does besides
    versions: dict[str, str]
    seconds: float
    interval: float
    window: float
    rows: list[Row] = field(default_factory=list)

    @staticmethod
    def read(path: Path) -> Report:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return Report(**{**found, "rows": [Row(**row) for row in found["rows"]]})

    def write(self, path: Path) -> None:
        path.write_text(f"{json.dumps(asdict(self), indent=1)}\n", "utf-8")


_HEADINGS: Final = (
    "server",
    "tricklers",
    "let in",
    "messages/s without",
    "under attack",
    "goodput",
    "CPU ms a message",
    "CPU for tricklers",
    "KiB a connection",
    "last one gone",
)


def _cells(row: Row, seconds: float) -> tuple[str, ...]:
    addresses = "" if row.sources == 1 else f", from {row.sources} addresses"
    under = f"{row.cpu_under:.2f}" if row.rate_under else "-"
    if row.held:
        gone = f"{row.held:,} still there after {seconds + LATE:g} s"
    else:
        gone = "-" if row.longest is None else f"after {row.longest:.1f} s"
    return (
        row.server,
        f"{row.tricklers:,} in a {row.kind}{addresses}",
        f"{row.admitted:,}",
        f"{row.rate_without:,.0f}",
        f"{row.rate_under:,.0f}",
        f"{row.goodput:.0%}",
        f"{row.cpu_without:.2f} / {under}",
        f"{row.cpu_held:.1%}",
        "-" if row.memory_kib is None else f"{row.memory_kib:.1f}",
        gone,
    )


def table(report: Report) -> str:
    """The table of the page, and what it was measured with."""
    lines = [_HEADINGS, ("---",) * len(_HEADINGS), *(_cells(row, report.seconds) for row in report.rows)]
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    about = (
        f"Measured on {report.date}: {report.cpu}, {report.cpus} processors, a load of {report.load:.1f} by others "
        f"before the run, Python {report.python}, {versions}. "
        f"T is {report.seconds:g} s; an octet comes every {report.interval:g} s on each connection; "
        f"goodput is over {report.window:g} s, compared with the mean of as long before and after.\n"
    )
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines) + f"\n{about}"


def in_page(page: str, report: Report) -> str:
    """`page` with the table of `report`."""
    before, _, rest = page.partition(_MARKS[0])
    _, mark, after = rest.partition(_MARKS[1])
    if not mark:
        raise RuntimeError("the page has no place for the table")
    return f"{before}{_MARKS[0]}\n{table(report)}\n{_MARKS[1]}{after}"


def plot(report: Report, path: Path) -> None:
    """Goodput against the number of tricklers. The same figures make the same file."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "smtpstate", "svg.fonttype": "none", "font.size": 10})
    figure, axes = plt.subplots(figsize=(7.0, 4.0), layout="constrained")
    styles = {"smtpstate": ("C0", "o"), "aiosmtpd": ("C1", "s"), "Postfix": ("C2", "^")}
    for server, (colour, marker) in styles.items():
        for kind, line in (("command", "-"), ("body", "--")):
            rows = sorted((one.tricklers, one) for one in report.rows if (one.server, one.kind) == (server, kind))
            if rows:
                numbers = [0, *(number for number, _ in rows)]
                goodput = [100.0, *(100 * row.goodput for _, row in rows)]
                axes.plot(
                    numbers, goodput, line, color=colour, marker=marker, clip_on=False, label=f"{server}, in a {kind}"
                )
    axes.axhline(90, color="0.6", linewidth=0.8, linestyle=":")
    axes.set_xscale("symlog", linthresh=100)
    ticks = sorted({0, *(row.tricklers for row in report.rows)})
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("connections that trickle")
    axes.set_ylabel("messages a second, % of those without")
    axes.set_xlim(0, 1.1 * max(ticks))
    axes.set_ylim(0, None)
    axes.legend(loc="lower left")
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    # It leaves blanks at the ends of lines.
    path.write_text("".join(f"{line.rstrip()}\n" for line in path.read_text("utf-8").splitlines()), "utf-8")
