"""Every scenario, in every mode and both seats, in memory; where both seats can be ours, also with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from smtpstate import StartTls, Violation
from smtpstate_testing._core_scenarios import CORE
from tests.conformance.memory import play_both, play_client, play_server
from tests.conformance.scenarios_endings import ENDINGS
from tests.conformance.scenarios_extensions import EXTENSIONS
from tests.conformance.scenarios_mail import MAILS
from tests.conformance.scenarios_security import SECURITY
from tests.conformance.scenarios_session import SESSION
from tests.conformance.scenarios_violations import named, of_a_client, of_a_server
from tests.violations import CLIENT_ROWS, SERVER_ROWS

if TYPE_CHECKING:
    from smtpstate_testing._scenario import Mode, Scenario
    from tests.violations import ClientRow, ServerRow

# Too much to be fed octet by octet; and what is there too early, or a moment later, is told apart.
WHOLE = {"a-message-of-200-kilobytes", "a-command-behind-starttls", "a-reply-behind-that-to-starttls"}
SCENARIOS = (*CORE, *SESSION, *MAILS, *EXTENSIONS, *SECURITY, *ENDINGS)


def rows(*seats: str) -> list[object]:
    """Each scenario of these seats in each of its modes."""
    return [
        pytest.param(scenario, mode, id=f"{scenario}-{mode}")
        for scenario in SCENARIOS
        for mode in scenario.modes
        if set(seats) <= set(scenario.seats)
    ]


def test_there_are_enough_of_them() -> None:
    assert len(SCENARIOS) >= 80
    for mode in ("plain", "starttls", "implicit"):
        for seat in ("server", "client"):
            assert len([one for one in SCENARIOS if mode in one.modes and seat in one.seats]) >= 40, (mode, seat)


def test_each_scenario_has_a_name_of_its_own_and_a_reason() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    assert all(scenario.why for scenario in SCENARIOS)


@pytest.mark.parametrize(("scenario", "mode"), rows("server"))
def test_our_server_does_what_the_scenario_says(scenario: Scenario, mode: Mode) -> None:
    play_server(scenario, mode)


@pytest.mark.parametrize(("scenario", "mode"), rows("client"))
def test_our_client_does_what_the_scenario_says(scenario: Scenario, mode: Mode) -> None:
    play_client(scenario, mode)


@pytest.mark.parametrize(("scenario", "mode"), rows("server", "client"))
def test_our_client_and_our_server_do_what_the_scenario_says(scenario: Scenario, mode: Mode) -> None:
    play_both(scenario, mode)


@pytest.mark.parametrize("cut", [1, 3])
@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if one.name not in WHOLE], ids=str)
def test_it_does_not_matter_how_the_octets_are_cut(scenario: Scenario, cut: int) -> None:
    mode = scenario.modes[0]
    if "server" in scenario.seats:
        play_server(scenario, mode, cut)
    if "client" in scenario.seats:
        play_client(scenario, mode, cut)


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
@pytest.mark.parametrize("row", [row for row in SERVER_ROWS if row.greeted and not row.config.starttls], ids=named)
def test_a_client_that_breaks_the_rules_is_told_so_inside_tls_as_well(row: ServerRow, mode: Mode) -> None:
    if row.violation in (Violation.TOO_MANY_COMMANDS, Violation.TOO_MUCH_JUNK):
        mode = "implicit"  # STARTTLS and its hello would be counted, too
    play_server(of_a_client(row), mode)


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
@pytest.mark.parametrize("row", [row for row in CLIENT_ROWS if not row.early and row.asked != (StartTls(),)], ids=named)
def test_a_server_that_breaks_the_rules_is_left_inside_tls_as_well(row: ClientRow, mode: Mode) -> None:
    play_client(of_a_server(row), mode)
