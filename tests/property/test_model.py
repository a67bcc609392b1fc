"""A client and a server that do anything they may, over any wire, at any time: architecture section 11, in numbers.

1. Any body, cut anywhere, arrives intact, and both phases agree. 2. No octets raise. 3. `deadline` is never past after
`handle_timeout()`. 4. A LocalProtocolError changes nothing. 5. Memory held stays within the limits. 6. A peer that
keeps the sync points gets the same events however its octets are cut; another one a beginning of them and one
violation at most. 7. A recorded session replays to the same octets.

What happens is in `tests.property.model`, and so are most of the checks: `Model` counts them.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Final, get_args

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from smtpstate import (
    Command,
    ConnectionClosed,
    Phase,
    ResetCause,
    ServerEvent,
    TransactionReset,
    Verb,
    Violation,
)
from smtpstate._state import TRANSITIONS
from smtpstate._syntax import COMMANDS, VERDICTS
from smtpstate_testing import Pair
from tests.property.model import (
    ACTS,
    ANSWERS,
    IN_CLEAR,
    ITEMS,
    LEGAL_CODES,
    ONWARD,
    RARE,
    SETTINGS,
    Application,
    Model,
    Setting,
    from_list,
    walk,
)
from tests.property.wire import cuts, joined

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from smtpstate_testing._link import Cut

# Answered although no command says them: the connection, the handshake, and the ends of messages and chunks.
UNSPOKEN: Final = {Verb.CONNECT, Verb.TLS, Verb.END, Verb.CHUNK}


def test_the_model_knows_every_verb() -> None:
    """Whoever adds one gives it examples in ITEMS, or says here why no command has it."""
    assert set(ITEMS) | UNSPOKEN == set(Verb)
    assert set(COMMANDS) <= set(ITEMS)
    assert set(ONWARD) <= set(ITEMS)
    for verb, items in ITEMS.items():
        assert {item.verb for item in items} == {verb}
    assert {type(item) for items in ITEMS.values() for item in items} == set(get_args(Command))


def test_the_model_knows_every_verdict() -> None:
    assert set(VERDICTS) <= set(ITEMS) | UNSPOKEN
    assert len(LEGAL_CODES) == 4 * 6 * 10  # RFC 5321 section 4.2: Reply-code


# Walks by Hypothesis, which shortens those that fail.


class Walks(RuleBasedStateMachine):
    """Each rule is one act of the model; what has to hold is checked by it, and once more at the end."""

    @initialize(data=st.data(), setting=st.sampled_from(SETTINGS), cut=cuts)
    def begin(self, data: st.DataObject, setting: Setting, cut: Cut) -> None:
        self.model = Model(setting, lambda options: data.draw(st.sampled_from(options)), cut)
        event(setting.name)

    def _act(self, data: st.DataObject, act: Callable[[Model], None]) -> None:
        self.model.choose = lambda options: data.draw(st.sampled_from(options))
        act(self.model)

    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        self._act(data, Model.go_on)

    @rule(data=st.data())
    def go_on_and_settle(self, data: st.DataObject) -> None:
        self._act(data, Model.go_on)
        self._act(data, Model.settle)

    @rule(data=st.data(), act=st.sampled_from(ACTS))
    def do_anything(self, data: st.DataObject, act: Callable[[Model], None]) -> None:
        self._act(data, act)

    @rule(data=st.data(), act=st.sampled_from((*ACTS, *RARE)))
    def do_something_rare(self, data: st.DataObject, act: Callable[[Model], None]) -> None:
        self._act(data, act)

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.model.choose = from_list([])
            self.model.end()
            for what in ("a body", "a body in LMTP", "a body inside TLS", "Phase.AUTH", "Phase.CHUNKED", "Phase.DEAD"):
                if self.model.seen[what]:
                    event(what)


TestWalks = Walks.TestCase
TestWalks.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


# Property 6.

# What happens at a time that does not depend on how octets are cut.
STEADY: Final = (*[Model.go_on] * 5, *[Model.settle] * 3, Model.speak, Model.plan, Model.blurt)


def wait(model: Model) -> None:
    model.settle()
    model.wait()


numbers = st.lists(st.integers(0, 1000), min_size=20, max_size=150)


@settings(max_examples=100, deadline=None)
@given(numbers=numbers, setting=st.sampled_from(IN_CLEAR), cut=cuts)
def test_a_client_that_keeps_the_sync_points_has_the_same_session_however_it_is_cut(
    numbers: list[int], setting: Setting, cut: Cut
) -> None:
    whole, pieces = (walk(Model(setting, from_list(numbers), how), 25, (*STEADY, wait)) for how in (None, cut))
    assert joined(pieces.pair.server_events) == joined(whole.pair.server_events)
    assert pieces.pair.received == whole.pair.received
    assert pieces.client.closed == whole.client.closed
    assert pieces.pair.transcript == whole.pair.transcript


def groups_of(numbers: Sequence[int], setting: Setting) -> tuple[list[bytes], Model]:
    """What a client wrote in a session, a group of commands in each piece."""
    model = walk(Model(setting, from_list(numbers)), 25, STEADY)
    return [item.data for item in model.pair.inputs if item.what == "data"], model


def events_of(groups: Sequence[bytes], model: Model, cut: Cut) -> list[ServerEvent]:
    pair = Pair(model.setting.config, cut=cut, handler=Application(model.application.used))
    for group in groups:
        pair.talk(group)
    pair.hang_up()
    return joined(pair.server_events)


@settings(max_examples=100, deadline=None)
@given(numbers=numbers, setting=st.sampled_from(IN_CLEAR), cut=cuts)
def test_a_client_that_does_not_wait_has_a_beginning_of_that_session_and_one_violation_at_most(
    numbers: list[int], setting: Setting, cut: Cut
) -> None:
    groups, model = groups_of(numbers, setting)
    patient = events_of(groups, model, None)
    hasty = events_of([b"".join(groups)], model, cut)
    if hasty != patient:
        assert isinstance(hasty[-1], ConnectionClosed)
        assert isinstance(hasty[-1].violation, Violation)
        begun = hasty[:-1]
        if begun and begun[-1] == TransactionReset(ResetCause.CLOSED):  # for what was open when it ended
            del begun[-1]
        assert begun == patient[: len(begun)]


# What keeps all of this from passing without having been anywhere.


@pytest.fixture(scope="module")
def walked() -> list[Model]:
    """The same walks each time, with a generator of its own."""
    found: list[Model] = []
    for seed in range(240):
        random = Random(seed)
        setting = SETTINGS[seed % len(SETTINGS)]
        acts = ((*ACTS * 4, *RARE), (*STEADY, wait))[seed // len(SETTINGS) % 2]
        cut: Cut = random.choice((None, 99, (1, 400)) if setting.tls else (None, 1, 2, 3, 99, (1, 7, 40)))
        found.append(walk(Model(setting, random.choice, cut), 50, acts))
    return found


def test_fixed_walks_reach_every_phase_and_say_every_verb(walked: list[Model]) -> None:
    seen: Counter[str] = Counter()
    for model in walked:
        seen.update(model.seen)
    assert {phase for phase in Phase if not seen[f"Phase.{phase.name}"]} == set()
    assert set(TRANSITIONS) == set(Phase)
    assert {verb for verb in ITEMS if not seen[f"Verb.{verb.name}"]} == set()
    assert {kind.__name__ for kind in get_args(ServerEvent) if not seen[kind.__name__]} == set()
    assert {verdict.name for verdict in ANSWERS if not seen[verdict.name]} == set()
    for what in ("a body", "a body in LMTP", "a body inside TLS"):
        assert seen[what] >= 10, what
    for what in ("with SMTPUTF8", "with BINARYMIME", "with RET", "with ORCPT"):
        assert seen[f"a body {what}"], what
    assert seen["LIMITS are spent"]


def test_fixed_walks_check_every_property(walked: list[Model]) -> None:
    """But the sixth, which takes two sessions to see."""
    checked: Counter[int] = Counter()
    for model in walked:
        checked.update(model.checked)
    assert {number for number in (1, 2, 3, 4, 5, 7) if checked[number] < 40} == set()


def test_in_fixed_walks_both_phases_agree_often(walked: list[Model]) -> None:
    assert sum(model.seen["agreed"] for model in walked) >= 1000
