"""WireRules: what a server does about octets that break the rules of the wire, whatever they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from smtpstate._errors import LocalProtocolError
from smtpstate._forbidden import FORBIDDEN, Forbidden
from smtpstate._networks import trusted
from smtpstate._newlines import BareNewline
from smtpstate._policy import EarlyInput
from smtpstate._replies import Reply

if TYPE_CHECKING:
    from smtpstate._events import Peer
    from smtpstate._networks import Network

_BARE_NEWLINE_CODE: Final = 550  # Postfix: smtpd_forbid_bare_newline_reject_code


@final
@dataclass(frozen=True, slots=True)
class WireRules:
    """What a server does about what no honest client sends, or only a broken one.

    `bare_newline` is None for the default: REJECT where mail is taken from users only, whose own programs they can
    mend, NORMALIZE where it comes from everywhere, so that none is lost. For peers in the networks of
    `bare_newline_exclusions` it is NOTE. `bare_newline_code` is the code, 4yz or 5yz, that REJECT answers with.
    Raises LocalProtocolError for any other code.

    `forbidden` are the commands that end the session at once, and `early_input` says what becomes of a client that does
    not wait for a reply where it has to.
    """

    bare_newline: BareNewline | None = None
    bare_newline_exclusions: tuple[Network, ...] = ()
    bare_newline_code: int = _BARE_NEWLINE_CODE
    forbidden: Forbidden = FORBIDDEN
    early_input: EarlyInput = EarlyInput.FORBID

    def __post_init__(self) -> None:
        if self.bare_newline_code // 100 not in (4, 5):
            raise LocalProtocolError(f"a refusal is 4yz or 5yz, not {self.bare_newline_code}")
        self.bare_newline_refusal.encode(enhanced=True)

    @property
    def bare_newline_refusal(self) -> Reply:
        """What REJECT answers with. RFC 3463 section 3.6."""
        code = self.bare_newline_code
        return Reply(code, "Bare CR or LF received, lines end with CRLF", enhanced=f"{code // 100}.5.2")

    def newlines_of(self, peer: Peer | None, *, users_only: bool) -> BareNewline:
        """What is done about the bare newlines of `peer`."""
        if peer is not None and self.bare_newline_exclusions and trusted(peer.address, self.bare_newline_exclusions):
            return BareNewline.NOTE
        if self.bare_newline is not None:
            return self.bare_newline
        return BareNewline.REJECT if users_only else BareNewline.NORMALIZE
