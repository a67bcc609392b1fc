"""The strategies: what they draw is what they say, and our own server is as they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from smtpstate import (
    Command,
    CommandRefused,
    Ehlo,
    ForwardPath,
    Limits,
    Mailbox,
    Reply,
    ReplyReceived,
    ReversePath,
    ServerConfig,
    Violation,
)
from smtpstate.policy import STRICT, BareNewline, WireRules
from smtpstate_testing import Pair, strategies
from smtpstate_testing.script import Script, ScriptedPair, on

if TYPE_CHECKING:
    from collections.abc import Callable

    from smtpstate_testing.strategies import Dialogue

PATIENT = Limits(errors=10_000, junk=10_000, commands=10_000)
CONFIG = ServerConfig("mx.example.org", limits=PATIENT)
COMMANDS = ServerConfig("mx.example.org", limits=PATIENT, policy=STRICT, asks_vrfy=True)


@given(mailbox=strategies.mailboxes())
def test_mailboxes_are_spelled_and_read_back(mailbox: Mailbox) -> None:
    assert Mailbox.parse(str(mailbox)) == mailbox
    assert ForwardPath.parse(f"<{mailbox}>").mailbox == mailbox


@given(mailbox=strategies.mailboxes(utf8=True), path=strategies.reverse_paths(utf8=True))
def test_with_utf8_they_are_those_of_rfc_6531(mailbox: Mailbox, path: ReversePath) -> None:
    assert Mailbox.parse(str(mailbox), utf8=True) == mailbox
    assert ReversePath.parse(f"<{path}>", utf8=True) == path


@given(command=strategies.commands(utf8=True))
def test_commands_are_read_back_as_they_were_sent(command: Command) -> None:
    pair = Pair(COMMANDS)
    pair.talk(strategies.spelled(command))
    refused = [event.violation for event in pair.server_events if isinstance(event, CommandRefused)]
    # Out of order they may be, or in need of SMTPUTF8 or TLS; but not wrong.
    assert set(refused) <= {
        Violation.OUT_OF_SEQUENCE,
        Violation.NOT_IMPLEMENTED,
        Violation.PARAMETER_UNKNOWN,
        Violation.NON_ASCII,
    }
    assert refused or command in pair.server_events


@settings(max_examples=60, deadline=None)
@given(dialogue=strategies.dialogues(), cut=strategies.cuts())
def test_a_dialogue_in_order_is_taken_to_its_end(dialogue: Dialogue, cut: strategies.Cut) -> None:
    pair = Pair(CONFIG, cut=cut)
    said = b"".join(pair.talk(piece) for piece in dialogue.pieces)
    assert [(m.sender, m.recipients, m.data) for m in pair.inbox] == [
        (sent.sender, sent.recipients, sent.data) for sent in dialogue.messages
    ]
    assert not any(isinstance(event, CommandRefused) for event in pair.server_events)
    assert said.endswith(b"221 2.0.0 Bye\r\n")


@settings(max_examples=60, deadline=None)
@given(dialogue=strategies.dialogues(pipelined=False, contents=strategies.messages(eight_bit=True)))
def test_one_line_at_a_time_it_is_taken_as_well(dialogue: Dialogue) -> None:
    pair = ScriptedPair(Script())
    for piece in dialogue.pieces:
        pair.talk(piece)
    assert [message.data for message in pair.inbox] == [sent.data for sent in dialogue.messages]


@settings(max_examples=100, deadline=None)
@given(data=st.data(), octets=strategies.mutated())
def test_nothing_that_is_mutated_raises_whenever_it_comes(data: st.DataObject, octets: bytes) -> None:
    schedule = data.draw(strategies.schedules(octets))
    assert b"".join(piece for _, piece in schedule) == octets
    pair = Pair()
    for pause, piece in schedule:
        pair.wait(pause)
        pair.talk(piece)
    pair.hang_up()
    while pair.server.closed is None:  # after too many errors replies are late
        assert pair.jump()


@pytest.mark.parametrize("treatment", [BareNewline.NOTE, BareNewline.NORMALIZE])
@given(body=strategies.bodies(), cut=strategies.cuts())
@settings(max_examples=60, deadline=None)
def test_bodies_are_anything_at_all(treatment: BareNewline, body: bytes, cut: strategies.Cut) -> None:
    pair = Pair(ServerConfig("mx.example.org", wire=WireRules(treatment)), cut=cut)
    pair.talk(b"EHLO c\r\n")
    pair.talk(b"MAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nBDAT %d LAST\r\n" % len(body) + body)
    arrives = body if treatment is BareNewline.NOTE else re.sub(rb"\r\n|\r|\n", b"\r\n", body)
    assert [message.data for message in pair.inbox] == [arrives]


@given(reply=strategies.replies((4, 5)))
def test_replies_can_be_sent_and_are_read_back(reply: Reply) -> None:
    pair = ScriptedPair(Script(on(Ehlo).reply(reply)))
    pair.drive()
    pair.client.send(Ehlo("c"))
    pair.drive()
    # Text that begins as an enhanced code is one.
    [received] = [event.reply for event in pair.client_events if isinstance(event, ReplyReceived)][1:]
    assert received.raw == reply.encode(enhanced=False)


@pytest.mark.parametrize(
    "wanted",
    [
        lambda octets: octets.count(b"QUIT") > 1,
        lambda octets: b"QUIT" not in octets,
    ],
)
def test_mutations_reach_far(wanted: Callable[[bytes], bool]) -> None:
    find(strategies.mutated(), wanted, settings=settings(max_examples=2000, phases=[Phase.generate]))


def test_the_kit_needs_no_hypothesis() -> None:
    script = "import smtpstate_testing, smtpstate_testing.script, smtpstate_testing.pytest_plugin, sys; "
    path = f"import sys; sys.path[:] = {sys.path!r}; sys.modules['hypothesis'] = None; "
    done = subprocess.run(
        [sys.executable, "-I", "-c", path + script + "print('fine')"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "fine\n"
