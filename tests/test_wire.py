"""The rules for octets, whatever they say."""

from __future__ import annotations

import pytest

from smtpstate import LocalProtocolError, Peer
from smtpstate._networks import parse_networks
from smtpstate._newlines import BareNewline
from smtpstate._wire import WireRules

INSIDE, OUTSIDE = Peer("192.0.2.7", 1234), Peer("198.51.100.7")
EXCLUDED = parse_networks(["192.0.2.0/24"])


@pytest.mark.parametrize(
    ("rules", "peer", "users_only", "what", "reason"),
    [
        (WireRules(), OUTSIDE, False, BareNewline.NORMALIZE, "mail from everywhere: none is lost"),
        (WireRules(), OUTSIDE, True, BareNewline.REJECT, "users can mend their programs"),
        (WireRules(), None, True, BareNewline.REJECT, "whoever it is"),
        (WireRules(BareNewline.REJECT), OUTSIDE, False, BareNewline.REJECT, "as was said"),
        (WireRules(BareNewline.NORMALIZE), OUTSIDE, True, BareNewline.NORMALIZE, "as was said, for users, too"),
        (WireRules(BareNewline.REJECT, EXCLUDED), INSIDE, False, BareNewline.NOTE, "excluded"),
        (WireRules(None, EXCLUDED), INSIDE, True, BareNewline.NOTE, "excluded from the default, too"),
        (WireRules(BareNewline.NORMALIZE, EXCLUDED), INSIDE, False, BareNewline.NOTE, "and from that"),
        (WireRules(BareNewline.REJECT, EXCLUDED), OUTSIDE, False, BareNewline.REJECT, "somebody else"),
        (WireRules(BareNewline.REJECT, EXCLUDED), None, False, BareNewline.REJECT, "nobody knows who"),
        (WireRules(BareNewline.REJECT, EXCLUDED), Peer("/run/x"), False, BareNewline.REJECT, "no IP address"),
    ],
)
def test_what_is_done_about_the_bare_newlines_of_a_peer(
    rules: WireRules, peer: Peer | None, users_only: bool, what: BareNewline, reason: str
) -> None:
    assert rules.newlines_of(peer, users_only=users_only) is what, reason


@pytest.mark.parametrize(("code", "enhanced"), [(550, "5.5.2"), (521, "5.5.2"), (421, "4.5.2"), (451, "4.5.2")])
def test_the_refusal_has_the_code_that_was_asked_for(code: int, enhanced: str) -> None:
    said = WireRules(bare_newline_code=code).bare_newline_refusal.encode(enhanced=True)
    assert said == b"%d %s Bare CR or LF received, lines end with CRLF\r\n" % (code, enhanced.encode())


def test_without_a_word_it_is_the_code_of_postfix() -> None:
    assert WireRules().bare_newline_refusal.code == 550


@pytest.mark.parametrize("code", [0, 55, 250, 354, 569, 600, 5500])
def test_a_code_that_refuses_nothing_is_a_mistake(code: int) -> None:
    with pytest.raises(LocalProtocolError):
        WireRules(bare_newline_code=code)
