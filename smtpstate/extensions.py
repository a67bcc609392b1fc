"""SMTP's extensions: what their parameters mean, how to offer them, and how to add one of your own.

A parameter is text in `Mail.parameters` and `Rcpt.parameters`. The functions here read one out of a command, as
`ret(mail)` and `notify(rcpt)` do; None says that it was not sent. What a connection hands out has been checked, so they
do not raise; on a command of your own making they raise SMTPStateError for a value that does not parse. `parameters()`
goes the other way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, final

from smtpstate._abnf import ESMTP_KEYWORD
from smtpstate._address import ascii_form as ascii_form
from smtpstate._address import domain_key as domain_key
from smtpstate._address import needs_smtputf8 as needs_smtputf8
from smtpstate._carried import DateTime as DateTime
from smtpstate._carried import DeliverBy as DeliverBy
from smtpstate._carried import Envid as Envid
from smtpstate._carried import HoldFor as HoldFor
from smtpstate._carried import HoldUntil as HoldUntil
from smtpstate._carried import Notify as Notify
from smtpstate._carried import OriginalRecipient as OriginalRecipient
from smtpstate._carried import Priority as Priority
from smtpstate._carried import Ret as Ret
from smtpstate._carried import Rrvs as Rrvs
from smtpstate._carried import ServerLimits as ServerLimits
from smtpstate._carried import Submitter as Submitter
from smtpstate._commands import OwnCommand as OwnCommand
from smtpstate._errors import Fault, GrammarError, LocalProtocolError
from smtpstate._params import MAIL_PARAMETERS, RCPT_PARAMETERS, ParameterTable
from smtpstate._params import Parameter as Parameter
from smtpstate._params import Parameters as Parameters
from smtpstate._params import flag as flag
from smtpstate._verbs import OwnVerb as OwnVerb
from smtpstate._verbs import Verb
from smtpstate._xclient import Absence as Absence
from smtpstate._xclient import XClient as XClient
from smtpstate._xclient import XForward as XForward
from smtpstate._xclient import XForwardSource as XForwardSource

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Mapping

    from smtpstate._capabilities import Capabilities
    from smtpstate._commands import Mail, Rcpt

_KEYWORD: Final = re.compile(ESMTP_KEYWORD)
_ANNOUNCED: Final = re.compile(r"[!-~]+")
_VERB: Final = re.compile(r"[A-Z]{4,}")

_Value = TypeVar("_Value")


@final
@dataclass(frozen=True, slots=True)
class Extension:
    """An extension as a server offers it and as both seats check it. RFC 5321 section 2.2.

    `keyword` is what EHLO says, `announced` the parameters behind it. `mail` and `rcpt` are the parameters that MAIL
    and RCPT may then have, `verb` is a command of its own: an `OwnCommand`. `needs` are the EHLO keywords that have to
    be offered beside it. `tls_only` says that it is not offered in clear, and that a client counts on it only where the
    server's certificate was verified. Keywords are in upper case. Raises LocalProtocolError for what EHLO cannot say,
    and for a verb that is none, or the core's.
    """

    keyword: str
    announced: tuple[str, ...] = ()
    mail: tuple[Parameter, ...] = ()
    rcpt: tuple[Parameter, ...] = ()
    needs: frozenset[str] = frozenset()
    tls_only: bool = False
    verb: OwnVerb | None = None

    def __post_init__(self) -> None:
        keywords = (self.keyword, *(parameter.keyword for parameter in (*self.mail, *self.rcpt)))
        if not all(_KEYWORD.fullmatch(keyword) and keyword == keyword.upper() for keyword in keywords):
            raise LocalProtocolError(f"not keywords in upper case: {', '.join(map(repr, keywords))}")
        if not all(map(_ANNOUNCED.fullmatch, self.announced)):
            raise LocalProtocolError(f"no EHLO parameters: {self.announced!r}")
        if self.verb is not None and (not _VERB.fullmatch(self.verb.name) or self.verb.name in Verb.__members__):
            raise LocalProtocolError(f"no verb, or one of the core: {self.verb.name!r}")


def _parses(parse: Callable[[str], object]) -> Callable[[str | None], bool]:
    """The rule for a value that `parse` takes."""

    def check(value: str | None) -> bool:
        if value is None:
            return False
        try:
            parse(value)
        except GrammarError:
            return False
        return True

    return check


def _always(value: str | None) -> bool:
    return True


def _does_not_return(value: str | None) -> bool:
    return value is not None and not DeliverBy.parse(value).returns


def _continues(value: str | None) -> bool:
    return value is not None and Rrvs.parse(value).continues


# What a message may lose on its way to a server that does not offer the extension: all of DSN, for then the reports are
# the sender's to make (RFC 3461 section 5.2.2); the submitter (RFC 4954 section 5) and the priority (RFC 6710); a time
# after which it would not come back (RFC 2852); a date that a header field tells, too (RFC 7293 section 5).
#
# The increments are what the RFC says, or the longest spelling where it says nothing or was not at hand: RFC 1870 and
# RFC 6531 were read; RFC 4954's 500 is known at second hand; the rest is counted.
DSN: Final = Extension(
    "DSN",
    mail=(
        Parameter("RET", _parses(Ret.parse), 9, expendable=_always),
        Parameter("ENVID", _parses(Envid.parse), 307, expendable=_always),
    ),
    rcpt=(
        Parameter("NOTIFY", _parses(Notify.parse), 29, expendable=_always),
        Parameter("ORCPT", _parses(OriginalRecipient.parse), 507, expendable=_always),
    ),
)
SMTPUTF8: Final = Extension("SMTPUTF8", mail=(Parameter("SMTPUTF8", flag, 10),), needs=frozenset({"8BITMIME"}))
REQUIRETLS: Final = Extension("REQUIRETLS", mail=(Parameter("REQUIRETLS", flag, 11),), tls_only=True)
RRVS: Final = Extension("RRVS", rcpt=(Parameter("RRVS", _parses(Rrvs.parse), 33, expendable=_continues),))

# AUTH itself is the core's: RFC 4954. What it adds to MAIL may be sent before and without authentication.
_AUTH: Final = Extension("AUTH", mail=(Parameter("AUTH", _parses(Submitter.parse), 500, expendable=_always),))


def deliver_by(minimum: int | None = None) -> Extension:
    """DELIVERBY; with `minimum`, in seconds and announced, a message to be returned sooner is refused. RFC 2852."""

    def parse(text: str) -> None:
        by = DeliverBy.parse(text)
        _refuse_if(minimum is not None and by.returns and by.seconds < minimum)

    announced = () if minimum is None else (str(minimum),)
    return Extension("DELIVERBY", announced, mail=(Parameter("BY", _parses(parse), 17, expendable=_does_not_return),))


def mt_priority(profile: str | None = None) -> Extension:
    """MT-PRIORITY; `profile` is a registered name: MIXER, STANAG4406 or NSEP. RFC 6710."""
    announced = () if profile is None else (profile,)
    row = Parameter("MT-PRIORITY", _parses(Priority.parse), 15, expendable=_always)
    return Extension("MT-PRIORITY", announced, mail=(row,))


def future_release(seconds: int, until: str) -> Extension:
    """FUTURERELEASE: messages are held for `seconds`, or until the UTC time `until`, at most. RFC 4865.

    Both are announced, and what lies beyond them is refused. It is for submission alone (section 3). `until` is a time
    and not a distance, so a process that runs for long makes a new one now and then. Raises LocalProtocolError when it
    is not a time in UTC.
    """
    try:
        last = HoldUntil.parse(until).time
    except GrammarError:
        raise LocalProtocolError(f"not a time in UTC: {until!r}") from None

    def hold_for(text: str) -> None:
        _refuse_if(HoldFor.parse(text).seconds > seconds)

    def hold_until(text: str) -> None:
        _refuse_if(_instant(HoldUntil.parse(text).time) > _instant(last))

    return _future_release((str(seconds), until), hold_for, hold_until)


def _instant(time: DateTime) -> tuple[int, int, int, int, int, int, str]:
    """What orders times in UTC: of two fractions without their last zeros the larger is the later text, too."""
    return time.year, time.month, time.day, time.hour, time.minute, time.second, time.fraction.rstrip("0")


def _future_release(
    announced: tuple[str, ...], hold_for: Callable[[str], object], hold_until: Callable[[str], object]
) -> Extension:
    # RFC 4865 section 4: one of the two. So only the longer one, HOLDUNTIL with two digits of a fraction, is counted.
    return Extension(
        "FUTURERELEASE",
        announced,
        mail=(
            Parameter("HOLDFOR", _parses(hold_for), 0, excludes=frozenset({"HOLDUNTIL"})),
            Parameter("HOLDUNTIL", _parses(hold_until), 34, excludes=frozenset({"HOLDFOR"})),
        ),
    )


def _refuse_if(wrong: bool) -> None:  # noqa: FBT001  # the only argument, and never a literal
    if wrong:
        raise GrammarError(Fault.PARAMETER_VALUE)


# What a parameter means without a word from a server of ours: for the client, and for an offer that is only a keyword.
BUILT_IN: Final[Mapping[str, Extension]] = {
    extension.keyword: extension
    for extension in (
        DSN,
        _AUTH,
        SMTPUTF8,
        REQUIRETLS,
        _future_release((), HoldFor.parse, HoldUntil.parse),
        deliver_by(),
        mt_priority(),
        RRVS,
    )
}

# What the core does by itself: nobody else may define it.
_OF_THE_CORE: Final = frozenset(
    {
        "8BITMIME",
        "AUTH",
        "BINARYMIME",
        "CHUNKING",
        "ENHANCEDSTATUSCODES",
        "LIMITS",
        "PIPELINING",
        "SIZE",
        "STARTTLS",
        "XCLIENT",
        "XFORWARD",
    }
)
_NEEDS: Final[Mapping[str, frozenset[str]]] = {"BINARYMIME": frozenset({"CHUNKING"})}  # RFC 3030 section 3


def tables(extensions: Iterable[Extension] = ()) -> tuple[ParameterTable, ParameterTable, Mapping[str, Extension]]:
    """The parameters of MAIL, those of RCPT, and `extensions` by keyword.

    The tables have all that is built in; one of `extensions` takes the place of the built-in one of its keyword. Raises
    LocalProtocolError for a keyword that is the core's or comes twice, and for a parameter or a verb that another
    extension has.
    """
    given: dict[str, Extension] = {}
    for extension in extensions:
        if extension.keyword in _OF_THE_CORE or extension.keyword in given:
            raise LocalProtocolError(f"an extension that there is already: {extension.keyword}")
        given[extension.keyword] = extension
    verbs = [own.name for own in own_verbs(given.values(), given)]
    if len(set(verbs)) < sum(one.verb is not None for one in given.values()):
        raise LocalProtocolError(f"a verb that there is already: {', '.join(verbs)}")
    mail, rcpt = dict(MAIL_PARAMETERS), dict(RCPT_PARAMETERS)
    for extension in {**BUILT_IN, **given}.values():
        for table, added in ((mail, extension.mail), (rcpt, extension.rcpt)):
            for parameter in added:
                if parameter.keyword in table:
                    raise LocalProtocolError(f"a parameter that there is already: {parameter.keyword}")
                table[parameter.keyword] = {extension.keyword: parameter}
    return mail, rcpt, given


def own_verbs(extensions: Iterable[Extension], offered: Container[str]) -> frozenset[OwnVerb]:
    """The verbs of those of `extensions` that are among the EHLO keywords `offered`."""
    return frozenset(one.verb for one in extensions if one.verb is not None and one.keyword in offered)


def check_offers(offered: Collection[str], extensions: Iterable[Extension] = ()) -> None:
    """Whether all that the EHLO keywords `offered` need is among them: RFC 6531 section 3.1, RFC 3030 section 3.

    Raises LocalProtocolError.
    """
    needs = {**_NEEDS, **{one.keyword: one.needs for one in (*BUILT_IN.values(), *extensions)}}
    for keyword in sorted(offered):
        missing = needs.get(keyword, frozenset()) - set(offered)
        if missing:
            raise LocalProtocolError(f"{keyword} cannot be offered without {', '.join(sorted(missing))}")


Carried: TypeAlias = (
    DeliverBy | Envid | HoldFor | HoldUntil | Notify | OriginalRecipient | Priority | Ret | Rrvs | Submitter
)

_KEYWORDS: Final[Mapping[type, str]] = {
    DeliverBy: "BY",
    Envid: "ENVID",
    HoldFor: "HOLDFOR",
    HoldUntil: "HOLDUNTIL",
    Notify: "NOTIFY",
    OriginalRecipient: "ORCPT",
    Priority: "MT-PRIORITY",
    Ret: "RET",
    Rrvs: "RRVS",
    Submitter: "AUTH",
}


def parameters(*values: Carried | None) -> Parameters:
    """`values` as MAIL and RCPT have them: `Rcpt(path, parameters(Notify.NEVER))`. None is left out.

    Nothing is checked; a command with parameters that are not legal, offered, or its own is refused when it is sent.
    """
    return tuple((_KEYWORDS[type(value)], value.format()) for value in values if value is not None)


def _read(command: Mail | Rcpt, keyword: str, parse: Callable[[str], _Value]) -> _Value | None:
    value = dict(command.parameters).get(keyword)
    return None if value is None else parse(value)


def _has(command: Mail, keyword: str) -> bool:
    return any(keyword == sent for sent, _ in command.parameters)


def ret(mail: Mail) -> Ret | None:
    """RET, and HDRS whatever was sent when REQUIRETLS stands beside it: RFC 8689 section 5."""
    return Ret.HDRS if requires_tls(mail) else _read(mail, "RET", Ret.parse)


def envid(mail: Mail) -> Envid | None:
    """ENVID."""
    return _read(mail, "ENVID", Envid.parse)


def submitter(mail: Mail) -> Submitter | None:
    """AUTH="""
    return _read(mail, "AUTH", Submitter.parse)


def smtputf8(mail: Mail) -> bool:
    """Whether SMTPUTF8 was sent. RFC 6531 section 3.4."""
    return mail.smtputf8


def requires_tls(mail: Mail) -> bool:
    """Whether REQUIRETLS was sent: every hop from here has to be TLS with a verified name. RFC 8689 section 4."""
    return _has(mail, "REQUIRETLS")


def hold(mail: Mail) -> HoldFor | HoldUntil | None:
    """HOLDFOR or HOLDUNTIL."""
    return _read(mail, "HOLDFOR", HoldFor.parse) or _read(mail, "HOLDUNTIL", HoldUntil.parse)


def by(mail: Mail) -> DeliverBy | None:
    """BY."""
    return _read(mail, "BY", DeliverBy.parse)


def priority(mail: Mail) -> Priority | None:
    """MT-PRIORITY; without it a message has priority 0."""
    return _read(mail, "MT-PRIORITY", Priority.parse)


def notify(rcpt: Rcpt) -> Notify | None:
    """NOTIFY; without it failures are reported, and delays may be. RFC 3461 section 4.1."""
    return _read(rcpt, "NOTIFY", Notify.parse)


def original_recipient(rcpt: Rcpt) -> OriginalRecipient | None:
    """ORCPT."""
    return _read(rcpt, "ORCPT", OriginalRecipient.parse)


def rrvs(rcpt: Rcpt) -> Rrvs | None:
    """RRVS."""
    return _read(rcpt, "RRVS", Rrvs.parse)


def server_limits(capabilities: Capabilities) -> ServerLimits:
    """What a server's LIMITS say; ask again after each CapabilitiesChanged. RFC 9422."""
    return ServerLimits.parse(capabilities.keywords.get("LIMITS", ()))
