"""Transcripts: dialogues as text that run, against a server and against a client, and sessions written down as such."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpstate import (
    Limits,
    Rcpt,
    Reply,
    ServerConfig,
    ServerConnection,
    ServerEvent,
    TlsMode,
)
from smtpstate.delivery import Envelope, open_session, quit_session, send_message
from smtpstate_testing import Pair, PromptedPair, run_transcript
from smtpstate_testing.script import Data, Script, ScriptedPair, on
from smtpstate_testing.script import Rcpt as RcptPattern

ROUND = """
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.com
    S: 250-mx.example.org
    S: ...
    C: MAIL FROM:<me@example.com>
    C: RCPT TO:<you@example.org>
    C: DATA
    S: 250 2.1.0 ...
    S: 250 2.1.5 Recipient accepted
    S: 354 ...
    C: Subject: x
    C:
    C: ..dots
    C: .
    S: 250 2.0.0 Message accepted
    C: QUIT
    S: 221 2.0.0 Bye
    S closes
"""


# As a test of a server.


@pytest.mark.parametrize("cut", [None, 1, 7])
def test_a_dialogue_runs(cut: int | None) -> None:
    happened = run_transcript(ROUND, cut=cut)
    assert "S: 250-PIPELINING\n" in happened
    assert run_transcript(happened) == happened


def test_a_dialogue_runs_against_a_script() -> None:
    with_errors = ROUND.replace("250 2.1.5 Recipient accepted", "450 4.0.0 ...")
    script = Script(on(RcptPattern).reply(450, "later"), on(Data).reply(354, "well"))
    with pytest.raises(AssertionError, match=r"\+S: 250 2\.0\.0 OK"):
        run_transcript(with_errors, server=script)
    run_transcript(with_errors.replace("Message accepted", "OK"), server=script)


def test_what_differs_is_shown_as_a_diff() -> None:
    with pytest.raises(AssertionError) as failed:
        run_transcript("S: 220 ...\n\n# a comment\nC: NOOP\nS: 250 2.0.0 Sure\nC: QUIT\nS: 221 ...")
    assert str(failed.value).splitlines()[:12] == [
        "the dialogue went another way:",
        "--- expected",
        "+++ happened",
        "@@ -1,5 +1,6 @@",
        " S: 220 mx.example.org ESMTP",
        " C: NOOP",
        "-S: 250 2.0.0 Sure",
        "+S: 250 2.0.0 OK",
        " C: QUIT",
        " S: 221 2.0.0 Bye",
        "+S closes",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("S: 220 ...\nC: NOOP", "a reply that nobody wrote down"),
        ("S: 220 ...\nS: 250 more", "a reply that does not come"),
        ("S: 220 ...\nS closes", "an end that does not come"),
        ("S: 220 ...\nC: NOO\\\nS: 250 ...", "half a line"),
    ],
)
def test_nothing_may_be_missing(text: str, reason: str) -> None:
    with pytest.raises(AssertionError, match="another way"):
        run_transcript(text)


def test_time_passes_when_the_dialogue_says_so() -> None:
    run_transcript("S: 220 ...\nT: 299.5\nC: NOOP\nS: 250 ...\nT: 300\nS: 421 4.4.2 ...\nS closes\n")


def test_a_client_may_close() -> None:
    run_transcript("S: 220 ...\nC: NO\\\nC closes\nS closes\n")


def test_octets_that_cannot_be_printed_are_escaped() -> None:
    run_transcript("S: 220 ...\nC: NOOP\\x0aNOOP \\x5c\\\\\nS: 250 ...\nS: 250 ...\n")
    run_transcript("S: 220 ...\nC: NOOP \u00e9\nS: 500 ...\n")


@pytest.mark.parametrize("text", ["X: what", "S 220", "C: NOOP \\n", "C: \\x4", "T: soon"])
def test_what_is_no_transcript_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"line 1|means nothing|could not convert"):
        run_transcript(text)


def test_the_handler_gives_the_verdicts() -> None:
    def nobody(server: ServerConnection, event: ServerEvent) -> None:
        if isinstance(event, Rcpt):
            server.reply(Reply(550, "Nobody", enhanced="5.1.1"))

    text = "S: 220 ...\nC: HELO c\nS: 250 mx.example.net\nC: MAIL FROM:<>\nS: 250 ...\n"
    text += "C: RCPT TO:<you@example.org>\nS: 550 5.1.1 Nobody\n"
    config = ServerConfig("mx.example.net")
    run_transcript(text, server=config, handler=nobody, limits=Limits(command_seconds=1))


# As a test of a client.


def deliver(pair: PromptedPair) -> None:
    pair.run(open_session(pair.client, TlsMode.OFF))
    pair.run(send_message(pair.client, Envelope("me@example.com", ("you@example.org",))), [b"Subject: x\r\n\r\n.\r\n"])
    pair.run(quit_session(pair.client))


CLIENT = """
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.com
    S: 250-mx.example.org
    S: 250 SIZE
    C: MAIL FROM:<...>
    S: 250 OK
    C: RCPT TO:<you@example.org>
    S: 250 OK
    C: DATA
    S: 354 Go on
    C: Subject: x
    C:
    C: ..
    C: .
    S: 250 OK
    C: QUIT
    S: 221 Bye
    S closes
"""


@pytest.mark.parametrize("cut", [None, 1])
def test_a_client_is_read_a_dialogue(cut: int | None) -> None:
    happened = run_transcript(CLIENT, client=deliver, cut=cut)
    assert "C: MAIL FROM:<me@example.com>\n" in happened


def test_a_client_that_says_something_else_is_found_out() -> None:
    with pytest.raises(AssertionError, match=r"(?s)-C: EHLO client\n.*\+C: EHLO client\.example\.com") as failed:
        run_transcript(CLIENT.replace("EHLO client.example.com", "EHLO client"), client=deliver)
    assert failed.value.__cause__ is not None


def test_a_client_that_says_more_is_found_out() -> None:
    with pytest.raises(AssertionError, match=r"\+C: QUIT"):
        run_transcript(CLIENT.replace("    C: QUIT\n    S: 221 Bye\n    S closes\n", "    C closes"), client=deliver)


def test_what_the_client_raises_comes_out() -> None:
    def fail(pair: PromptedPair) -> None:
        pair.drive()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run_transcript("S: 220 mx.example.org ESMTP", client=fail)


def test_a_client_has_to_wait() -> None:
    def wait(pair: PromptedPair) -> None:
        pair.run(open_session(pair.client, TlsMode.OFF))
        assert pair.clock.now == 100
        pair.client.close()

    run_transcript("T: 100\nS: 220 mx\nC: EHLO ...\nS: 250 mx\nC closes\n", client=wait)


def test_a_client_is_told_nothing_vague() -> None:
    with pytest.raises(ValueError, match=r"cannot be said as it stands: S: 220 \.\.\."):
        run_transcript("S: 220 ...", client=deliver)


# Written down.


def test_a_pair_can_be_written_down_and_run_again() -> None:
    pair = Pair()
    pair.run(open_session(pair.client, TlsMode.OFF))
    pair.run(send_message(pair.client, Envelope("me@example.com", ("you@example.org",))), [b"x\0\xff \\ ", b"\ny"])
    pair.run(quit_session(pair.client))
    written = pair.as_transcript()
    assert "C: x\\x00\\xff \\\\\\x20\n" in written
    assert written.endswith("S: 221 2.0.0 Bye\nS closes\n")
    assert run_transcript(written) == written


def test_a_scripted_pair_can_be_written_down() -> None:
    script = Script(on(RcptPattern).reply(421))
    pair = ScriptedPair(script)
    pair.talk(b"EHLO c\r\nRCPT TO:<you@example.org>\r\n")
    assert run_transcript(pair.as_transcript(), server=script) == pair.as_transcript()


def test_what_is_in_tls_cannot_be_said_again() -> None:
    pair = Pair(tls="starttls")
    pair.run(open_session(pair.client, TlsMode.REQUIRED))
    with pytest.raises(ValueError, match="TLS"):
        pair.as_transcript()


PIECES = (
    *(b"EHLO c\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<you@example.org>\r\n", b"DATA\r\n", b".\r\n", b"RSET\r\n"),
    *(b"\r", b"\n", b"\\", b" ", b"...", b"\xe9", b"# no\r\n", b"QUIT\r\n", b"NOOP\r\nNOOP\r\n"),
)


@settings(max_examples=200, deadline=None)
@given(acts=st.lists(st.one_of(st.sampled_from(PIECES), st.sampled_from([1.0, 100.25, 400.0]), st.none()), max_size=12))
def test_whatever_is_written_down_runs_again_and_says_the_same(acts: list[bytes | float | None]) -> None:
    pair = Pair()
    pair.talk()
    for act in acts:
        if isinstance(act, bytes):
            pair.talk(act)
        elif act is None:
            pair.hang_up()
        else:
            pair.wait(act)
    written = pair.as_transcript()
    assert run_transcript(written) == written
