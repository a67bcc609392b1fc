"""Every scenario, in every mode and both seats, in memory; where both seats can be ours, also with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from smtpstate_testing._core_scenarios import CORE
from tests.conformance.memory import play_both, play_client, play_server

if TYPE_CHECKING:
    from smtpstate_testing._scenario import Mode, Scenario

SCENARIOS = CORE


def rows(*seats: str) -> list[object]:
    """Each scenario of these seats in each of its modes."""
    return [
        pytest.param(scenario, mode, id=f"{scenario}-{mode}")
        for scenario in SCENARIOS
        for mode in scenario.modes
        if set(seats) <= set(scenario.seats)
    ]


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
    if mode == "own":
        pytest.skip("its handshake is the scenario's")
    play_both(scenario, mode)
