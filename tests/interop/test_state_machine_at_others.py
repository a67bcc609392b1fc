"""The state machine that tests ours, unchanged, at servers that others wrote: over loopback, and at ours there, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from smtpstate import Verb
from smtpstate_testing import SmtpServer
from smtpstate_testing.stateful import NONSENSE, Sent, ServerRules, SocketChannel, server_rules
from tests.differential.conftest import postfix
from tests.differential.rows import DOMAIN
from tests.peers.lodger import Handler, aiosmtpd

if TYPE_CHECKING:
    from smtpstate import Reply
    from smtpstate_testing import ReceivedMessage
    from tests.differential.postfix import Postfix

__all__ = ["postfix"]

EXAMPLES: Final = 40
STEPS: Final = 40
ENOUGH: Final = 20  # messages, for it to have met what there is
RECIPIENTS: Final = st.sampled_from([f"you@{DOMAIN}", f"him@{DOMAIN}", f"postmaster@{DOMAIN}"])


def run(rules: type[ServerRules]) -> None:
    quick = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    run_state_machine_as_test(rules, settings=quick)


def test_ours_on_a_port() -> None:
    with SmtpServer() as server:

        def stored(reply: Reply) -> ReceivedMessage:
            return server.inbox[-1]

        run(server_rules(lambda: SocketChannel(server.host, server.port), stored=stored, recipients=RECIPIENTS))
        assert len(server.inbox) > ENOUGH


def test_aiosmtpd() -> None:
    handler = Handler()

    def stored(reply: Reply) -> Sent:
        envelope = handler.kept[-1]
        assert envelope.original_content is not None
        return Sent((envelope.mail_from or "").removeprefix("<>"), tuple(envelope.rcpt_tos), envelope.original_content)

    with aiosmtpd(handler) as port:
        run(
            server_rules(
                lambda: SocketChannel("127.0.0.1", port),
                stored=stored,
                recipients=st.just(f"you@{DOMAIN}"),
                strangers=st.just(f"nobody@{DOMAIN}"),
                nonsense=tuple(line for line in NONSENSE if line not in (b"MAIL FROM:<a@b\r\n", b"RCPT TO:<>\r\n")),
                successes={**ServerRules.successes, Verb.HELP: frozenset({211, 214, 250})},
            )
        )
    assert len(handler.kept) > ENOUGH


def test_postfix(postfix: Postfix) -> None:
    replies: list[Reply] = []

    def stored(reply: Reply) -> Sent:
        replies.append(reply)
        kept = postfix.stored(reply.text)
        return Sent(kept.sender, kept.recipients, kept.content.replace(b"\n", b"\r\n"))

    run(
        server_rules(
            lambda: SocketChannel("127.0.0.1", postfix.port),
            stored=stored,
            recipients=RECIPIENTS,
            strangers=st.just("him@example.net"),
            nonsense=tuple(line for line in NONSENSE if line != b"NOOP\0\r\n"),
        )
    )
    assert len(replies) > ENOUGH
