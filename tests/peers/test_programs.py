"""A peer that is missing is named; where CI=true it is a failure."""

from __future__ import annotations

import pytest

from tests.peers.programs import needs


@pytest.mark.parametrize(
    ("ci", "outcome", "reason"),
    [
        (None, pytest.skip.Exception, "somebody's own computer need not have every mail program there is"),
        ("", pytest.skip.Exception, "set to nothing"),
        ("true", pytest.fail.Exception, "a check that silently leaves out its peers checks nothing"),
    ],
)
def test_a_missing_program_is_named(
    monkeypatch: pytest.MonkeyPatch, ci: str | None, outcome: type[BaseException], reason: str
) -> None:
    if ci is None:
        monkeypatch.delenv("CI", raising=False)
    else:
        monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="no-such-program is not installed"):
        needs("no-such-program")


def test_a_program_that_is_there_is_found() -> None:
    assert needs("sh").endswith("/sh")
