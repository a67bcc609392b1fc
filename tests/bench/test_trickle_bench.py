"""The benchmark itself: that it measures, ends, and that the page shows what it measured. No figure is judged here."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench.measure import full_plan, quick_plan
from tests.bench.report import DATA, PAGE, PLOT, Report, in_page
from tests.peers.programs import ROOT, needs, run

SCRIPT = Path(__file__).with_name("trickle.py")
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads /proc")


def test_a_small_attack_is_measured_and_cut(tmp_path: Path) -> None:
    needs("smtp-source")
    data = tmp_path / "measured.json"
    what = ("--server", "smtpstate", "--tricklers", "20", "--seconds", "2", "--window", "0.7")
    done = run((sys.executable, "-W", "error", str(SCRIPT), *what, "--data", str(data)), home=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    report = Report.read(data)
    [row] = report.rows
    assert (row.server, row.tricklers, row.admitted, row.refused) == ("smtpstate", 20, 20, 0)
    assert (row.told, row.held) == (20, 0), "all of them were told, and are gone"
    assert row.longest
    assert row.rate_without > 0
    assert row.rate_under > 0
    assert row.cpu_under > 0
    assert row.memory_kib is not None
    assert ElementTree.parse(data.with_suffix(".svg")).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_the_same_figures_make_the_same_plot(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.bench.report import DATA, Report, plot\n"
        "for name in sys.argv[1:]: plot(Report.read(DATA), Path(name))"
    )
    plots = tmp_path / "one.svg", tmp_path / "other.svg"
    done = run((sys.executable, "-W", "error", "-c", script, *map(str, plots)), home=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert plots[0].read_bytes() == plots[1].read_bytes()


def test_the_page_shows_what_was_measured() -> None:
    page = PAGE.read_text("utf-8")
    assert in_page(page, Report.read(DATA)) == page
    assert PLOT.exists()


def test_the_data_do_not_say_where_they_come_from() -> None:
    data = DATA.read_text("utf-8") + PLOT.read_text("utf-8")
    assert str(ROOT) not in data


def test_a_run_is_bounded() -> None:
    assert quick_plan().most < 90
    assert full_plan().most < 15 * 60
