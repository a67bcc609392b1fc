"""The exceptions: one for the caller's mistakes, one for text that does not match the grammar."""

from enum import Enum, unique
from typing import final


class SMTPStateError(Exception):
    """The base of every exception that this package raises."""


@final
class LocalProtocolError(SMTPStateError):
    """The caller did something that SMTP forbids here; nothing was changed and nothing was sent."""


@final
@unique
class Fault(Enum):
    """What is wrong with a piece of text; the seat that read it chooses the reply code."""

    SYNTAX = "not a command line: controls or 8-bit octets in it"  # RFC 5321 section 4.1.2: 500
    VERB_UNKNOWN = "a verb that nobody defined"  # RFC 5321 section 4.2.4: 500
    VERB_NOT_IMPLEMENTED = "a verb that is defined and not implemented here"  # RFC 5321 section 4.2.4: 502
    ARGUMENT = "the argument does not match the verb's grammar"  # RFC 5321 section 4.1.1: 501
    ADDRESS = "not a valid path, mailbox, domain or address literal"  # RFC 5321 section 4.1.2: 501 5.1.3, 5.1.7
    PARAMETER_SYNTAX = "parameters do not match the grammar, or one came twice"  # RFC 5321 section 4.1.2: 501
    PARAMETER_UNKNOWN = "a parameter that was not offered"  # RFC 5321 section 4.1.1.11: 555
    PARAMETER_VALUE = "a parameter value that its extension does not allow"  # RFC 5321 section 4.1.1.11: 501
    NON_ASCII = "UTF-8 in MAIL or RCPT of a transaction without SMTPUTF8"  # RFC 6531 section 3.5: 550, 553 5.6.7
    BASE64 = "not base64"  # RFC 4954 section 4: 501
    CHUNK_SIZE = "a chunk size that does not match the grammar"  # RFC 3030 section 2: 501
    REPLY_SYNTAX = "does not match the grammar of a reply"  # RFC 5321 section 4.2
    REPLY_MIXED_CODES = "the lines of one reply carry different codes"  # RFC 5321 section 4.2.1
    REPLY_TOO_LONG = "a reply of more lines or octets than allowed"  # RFC 5321 section 4.5.3.1.5


@final
class GrammarError(SMTPStateError):
    """Text from a peer that does not match the grammar; the seats catch it, so it never leaves the core.

    ``fault`` says which rule failed; ``detail`` is for a log or a test and never holds the peer's text, which
    might carry anything.
    """

    def __init__(self, fault: Fault, detail: str = "") -> None:
        super().__init__(detail or fault.value)
        self.fault: Fault = fault
        self.detail: str = detail
