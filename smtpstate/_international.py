"""What a client asks SMTPUTF8 for, and what it says without (RFC 6531 section 3.2).

SMTPUTF8 is asked for only where something needs it: a local part, or the headers. A domain never does, for it has
A-labels, and so has the mail that every server takes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from smtpstate._address import ascii_form, needs_smtputf8
from smtpstate._replies import Reply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smtpstate._commands import Mail, Rcpt

# In the words that a server would have found: RFC 6531 section 3.5, RFC 3463's registry for 5.6.9.
HEADERS_NEED_UTF8: Final = Reply(
    550, "The headers of the message need SMTPUTF8, and the server does not offer it", enhanced="5.6.9"
)
SENDER_NEEDS_UTF8: Final = Reply(
    550, "The sender's address needs SMTPUTF8, and the server does not offer it", enhanced="5.6.7"
)
RECIPIENT_NEEDS_UTF8: Final = Reply(
    553, "This recipient's address needs SMTPUTF8, and the server does not offer it", enhanced="5.6.7"
)


def spelled(mail: Mail, rcpts: Sequence[Rcpt], *, headers: bool, offered: bool) -> tuple[Mail, list[Rcpt | Reply]]:
    """The commands as they are to be sent: with SMTPUTF8 if something needs it, else with all domains as A-labels.

    `headers` says that the headers need it. A recipient that cannot be had without SMTPUTF8, where that is not
    `offered`, is a Reply, which says what needs it. Raises LocalProtocolError for a domain without A-labels.
    """
    sender = mail.reverse_path.mailbox
    sender_needs = sender is not None and needs_smtputf8(sender)
    if not offered:
        refusal = HEADERS_NEED_UTF8 if headers else SENDER_NEEDS_UTF8 if sender_needs else None
        if refusal is not None:
            return mail, [refusal] * len(rcpts)
    elif headers or sender_needs or any(needs_smtputf8(rcpt.recipient.mailbox) for rcpt in rcpts):
        asked = () if mail.smtputf8 else (("SMTPUTF8", None),)
        return replace(mail, parameters=(*mail.parameters, *asked)), list(rcpts)
    if sender is not None:
        mail = replace(mail, reverse_path=replace(mail.reverse_path, mailbox=ascii_form(sender)))
    return mail, [_in_ascii(rcpt) for rcpt in rcpts]


def _in_ascii(rcpt: Rcpt) -> Rcpt | Reply:
    mailbox = rcpt.recipient.mailbox
    if needs_smtputf8(mailbox):
        return RECIPIENT_NEEDS_UTF8
    return replace(rcpt, recipient=replace(rcpt.recipient, mailbox=ascii_form(mailbox)))
