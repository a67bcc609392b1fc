"""Whom a message goes to, with the parameters that each RCPT has; and what of them a server is not told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar, final

from smtpstate._carried import MAX_ORCPT, OriginalRecipient
from smtpstate._commands import Mail, Rcpt
from smtpstate._errors import GrammarError, LocalProtocolError
from smtpstate._params import Parameters, ParameterTable, without_expendable
from smtpstate._replies import Reply
from smtpstate.extensions import BUILT_IN, Extension, parameters

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from smtpstate._capabilities import Capabilities
    from smtpstate._events import TlsInfo
    from smtpstate.extensions import Notify

_Command = TypeVar("_Command", Mail, Rcpt)

# RFC 3463 section 3.4: "System not capable of selected features", unless the extension has a code of its own.
_NO_FEATURE: Final = "5.3.3"
_CODES: Final[Mapping[str, str]] = {"REQUIRETLS": "5.7.30"}  # RFC 8689 section 5


@final
@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom to send to, and the parameters of the RCPT for it: `Recipient("you@example.org", parameters(...))`."""

    address: str
    parameters: Parameters = ()

    def reporting(self, notify: Notify) -> Recipient:
        """The same with NOTIFY, and with ORCPT so that reports name the address as it is here (RFC 3461 section 4.2).

        Each only where it is not there yet, and ORCPT not where it would be longer than it may be.
        """
        given = {keyword for keyword, _ in self.parameters}
        original = OriginalRecipient("rfc822" if self.address.isascii() else "utf-8", self.address)
        added = parameters(
            None if "NOTIFY" in given else notify,
            None if "ORCPT" in given or len(original.format()) > MAX_ORCPT else original,
        )
        return replace(self, parameters=(*self.parameters, *added))


def recipients_of(given: str | Recipient | Iterable[str | Recipient], notify: Notify | None = None) -> list[Recipient]:
    """One recipient or several, addresses among them; each asking for the reports in `notify`, unless that is None."""
    several = (given,) if isinstance(given, str | Recipient) else given
    found = [one if isinstance(one, Recipient) else Recipient(one) for one in several]
    return found if notify is None else [one.reporting(notify) for one in found]


def usable(capabilities: Capabilities, extensions: Mapping[str, Extension], tls: TlsInfo | None) -> frozenset[str]:
    """The EHLO keywords that count: those for TLS only where we know by its certificate who offers them.

    RFC 8689 section 4.2.1 has that for REQUIRETLS.
    """
    known = {**BUILT_IN, **extensions}
    sure = tls is not None and tls.verified
    return frozenset(one for one in capabilities.keywords if sure or one not in known or not known[one].tls_only)


def fitted(command: _Command, table: ParameterTable, offered: frozenset[str]) -> tuple[_Command, Reply | None]:
    """`command` without the parameters that the server would not understand and the message may lose.

    Second comes the refusal where the message may not go without one that is not offered. Raises LocalProtocolError for
    a parameter that nobody knows, or a value that it cannot have, whatever is offered.
    """
    try:
        kept, missing = without_expendable(command.parameters, table, offered)
    except GrammarError as error:
        raise LocalProtocolError(f"{command.verb.name}: {error}") from None
    return replace(command, parameters=kept), None if missing is None else lacking(missing)


def lacking(keyword: str) -> Reply:
    """What becomes of a message that needs `keyword` where it is not offered. Nobody was asked; we say it."""
    text = f"The message needs {keyword}, which the server does not offer"
    return Reply(554, text, enhanced=_CODES.get(keyword, _NO_FEATURE))
