"""The state machine for anybody's server, pointed at ours in memory, and at servers that are wrong on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from smtpstate import Bdat, Limits, Rcpt, Reply, ServerConfig, ServerConnection, ServerEvent, Verb
from smtpstate.policy import STRICT
from smtpstate_testing import Pair, accept_everything
from smtpstate_testing.script import (
    Connected,
    Data,
    EndOfMessage,
    Line,
    Noop,
    Quit,
    Rset,
    Script,
    ScriptedPair,
    after,
    on,
)
from smtpstate_testing.script import Mail as MailPattern
from smtpstate_testing.script import Rcpt as RcptPattern
from smtpstate_testing.stateful import _GOODBYE, MemoryChannel, Sent, ServerRules, server_rules

if TYPE_CHECKING:
    from smtpstate_testing.script import Row
    from smtpstate_testing.stateful import Channel, Stored

LIMITS = Limits(error_delay_seconds=0.0)


def handler(server: ServerConnection, event: ServerEvent) -> None:
    if isinstance(event, Rcpt) and event.recipient.within("example.net"):
        server.reply(Reply(550, "Nobody", enhanced="5.1.1"))
    else:
        accept_everything(server, event)


class Ours(ServerRules):
    """Our server; nothing of it is excused."""

    config = ServerConfig("mx.example.org", limits=LIMITS)
    strangers = st.just("him@example.net")
    policy = STRICT
    ordered = ServerRules.ordered | {Verb.BDAT}

    def open(self) -> Channel:
        self.pair = Pair(self.config, handler=handler)
        return MemoryChannel(self.pair)

    def stored(self, reply: Reply) -> Stored:
        return self.pair.inbox[-1]


class Plain(Ours):
    """The same without extensions."""

    config = ServerConfig("mx.example.org", limits=LIMITS, offers=frozenset())


TestOurs = Ours.TestCase
TestOurs.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPlain = Plain.TestCase
TestPlain.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


def test_a_refused_chunk_ends_the_transaction() -> None:
    rules = Ours()
    rules.begin(esmtp=True)
    rules.mail("me@example.com", None)
    rules.out_of_order(Bdat(0, last=True))
    rules.mail("me@example.com", None)
    rules.rcpt("you@example.org")
    rules.message(b"Subject: x\r\n", 5)
    assert [message.recipients for message in rules.pair.inbox] == [("you@example.org",)]


@pytest.mark.parametrize("nonsense", [b"220 mx.example.org\r\n", b"Host: www.example.org\r\n", b"GET / HTTP/1.1\r\n"])
def test_nonsense_may_end_the_session_with_a_goodbye(nonsense: bytes) -> None:
    rules = Ours()
    rules.begin(esmtp=True)
    rules._no(nonsense, "nonsense", _GOODBYE)
    assert rules.interview is None
    rules.begin(esmtp=True)
    with pytest.raises(AssertionError, match="out of order"):
        rules._no(nonsense, "out of order")


# It finds what is wrong.

WRONG: list[tuple[Row, str]] = [
    (on(Noop).say(b"250 2.0.0 OK\r\n250 2.0.0 OK\r\n"), "two replies to one command"),
    (on(Noop).silence(), "no reply"),
    (on(Noop).say(b"250-2.0.0 OK\r\n"), "half a reply"),
    (on(Noop).reply(550), "a refusal of what was in order"),
    (on(Noop).reply(354), "a code that cannot answer it"),
    (on(Rset).say(b"OK\r\n"), "no code at all"),
    (on(RcptPattern).reply(550), "nobody is accepted"),
    (on(MailPattern).say(b"250-2.1.0 OK\r\n251 2.1.0 OK\r\n"), "two codes in a reply"),
    (on(Data).reply(250), "a yes where a body was to come"),
    (on(EndOfMessage).reply(554), "a message is refused for good"),
    (after(EndOfMessage).say(b"250 2.0.0 OK\r\n"), "a reply too many at the end"),
    (on(Quit).reply(250), "another goodbye"),
    (after(Quit).say(b""), "out of order, but taken"),
    (on(Connected).reply(554), "no greeting"),
    (after(Rset).drop(), "a server that leaves"),
    (on(Line("XYZZY")).reply(250), "nonsense, but taken"),
    (on(Line("XYZZY")).drop(), "a server that leaves on nonsense without a word"),
    (on(Line("XYZZY")).reply(221), "a goodbye to nonsense, and no end"),
    (after(Line("XYZZY")).drop(), "a refusal of nonsense that does not say that it ends"),
]


@pytest.mark.parametrize(("row", "reason"), WRONG, ids=[reason for _, reason in WRONG])
def test_a_server_that_is_wrong_is_found_out(row: Row, reason: str) -> None:
    rules = server_rules(lambda: MemoryChannel(ScriptedPair(Script(row))))
    quick = settings(max_examples=300, stateful_step_count=15, deadline=None, phases=[Phase.generate], database=None)
    with pytest.raises(AssertionError, match="what was said:"):
        run_state_machine_as_test(rules, settings=quick)


@pytest.mark.parametrize("field", ["sender", "recipients", "data"])
def test_a_message_that_is_kept_otherwise_is_found_out(field: str) -> None:
    pairs: list[Pair] = []

    def connect() -> MemoryChannel:
        pairs.append(Pair(ServerConfig("mx.example.org", limits=LIMITS)))
        return MemoryChannel(pairs[-1])

    def stored(reply: Reply) -> Sent:
        kept = pairs[-1].inbox[-1]
        fields = {"sender": kept.sender, "recipients": kept.recipients, "data": kept.data}
        fields |= {field: {"sender": "x@example.com", "recipients": ("x@example.com",), "data": b"x"}[field]}
        return Sent(**fields)  # type: ignore[arg-type]  # one of them is wrong, of its own type

    quick = settings(max_examples=200, stateful_step_count=15, deadline=None, phases=[Phase.generate], database=None)
    with pytest.raises(AssertionError, match="what was said:"):
        run_state_machine_as_test(server_rules(connect, stored=stored), settings=quick)


def test_an_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="no such options: recipient"):
        server_rules(lambda: MemoryChannel(Pair()), recipient="you@example.org")


def test_a_machine_without_a_server_says_so() -> None:
    with pytest.raises(NotImplementedError):
        ServerRules().open()
