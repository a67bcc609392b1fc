"""`serve -o NAME=VALUE`: one table of all limits, with Postfix's names where they mean the same, and its values."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, final

from smtpstate import Limits, LocalProtocolError
from smtpstate.policy import BareNewline, EarlyInput, Forbidden, WireRules
from smtpstate.proxy import parse_networks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from smtpstate.proxy import Network
    from smtpstate_anyio import Admission

Value: TypeAlias = "int | float | bool | tuple[Network, ...] | BareNewline | EarlyInput | Forbidden | None"

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_TIME: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhdw]?)")
_REFUSAL: Final = re.compile(r"[45][0-5][0-9]")
_INTEGER: Final = re.compile(r"[0-9]{1,18}")
_LONGEST: Final = 52 * 604_800.0  # seconds
_MOST: Final = 2**31 - 1
_MOST_OCTETS: Final = 2**63 - 1

# Its yes means normalize. Its no ends messages at other newlines, too, which nothing makes us do; note is what is left.
_POSTFIX_NEWLINES: Final = {"yes": "normalize", "no": "note"}


class Kind(Protocol):
    """How a value is written."""

    @property
    def unit(self) -> str: ...
    def parse(self, text: str) -> Value:
        """Raises ValueError, with what it has to be."""

    def format(self, value: Value) -> str: ...


@final
@dataclass(frozen=True, slots=True)
class Seconds:
    """Seconds, or with s, m, h, d or w behind them."""

    zero: bool = False
    unit: str = "time"

    def parse(self, text: str) -> Value:
        match = _TIME.fullmatch(text)
        seconds = -1.0 if match is None else float(match[1]) * _UNITS[match[2]]
        if seconds < 0 or seconds > _LONGEST or (seconds == 0 and not self.zero):
            least = "from 0" if self.zero else "above 0 and"
            raise ValueError(f"a time is needed, {least} up to 52w: a number, and s, m, h, d or w behind it")
        return seconds

    def format(self, value: Value) -> str:
        return f"{value:g}s"


@final
@dataclass(frozen=True, slots=True)
class Count:
    """A whole number. With `off`, 0 means that there is no limit."""

    least: int = 1
    most: int = _MOST
    off: bool = False
    unit: str = "number"

    def parse(self, text: str) -> Value:
        number = int(text) if _INTEGER.fullmatch(text) else -1
        if self.off and number == 0:
            return None
        if not self.least <= number <= self.most:
            most = "" if self.most >= _MOST else f" to {self.most}"
            also = ", or 0 for no limit" if self.off else ""
            raise ValueError(f"a whole number is needed, from {self.least}{most}{also}")
        return number

    def format(self, value: Value) -> str:
        return "0" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


@final
@dataclass(frozen=True, slots=True)
class ReplyCode:
    """The code of a refusal. RFC 5321 section 4.2."""

    unit: str = "reply code"

    def parse(self, text: str) -> Value:
        if not _REFUSAL.fullmatch(text):
            raise ValueError("a reply code is needed, 4 or 5 and a digit from 0 to 5 and another digit")
        return int(text)

    def format(self, value: Value) -> str:
        return str(value)


@final
@dataclass(frozen=True, slots=True)
class YesNoAuto:
    """yes, no, or auto: the server decides."""

    unit: str = "yes, no or auto"

    def parse(self, text: str) -> Value:
        if text not in ("yes", "no", "auto"):
            raise ValueError("yes, no or auto is needed")
        return None if text == "auto" else text == "yes"

    def format(self, value: Value) -> str:
        return "auto" if value is None else "yes" if value else "no"


@final
@dataclass(frozen=True, slots=True)
class AlwaysOn:
    """yes, and nothing else."""

    unit: str = "yes"

    def parse(self, text: str) -> Value:
        if text != "yes":
            raise ValueError("it is always on, so only yes is taken; how long a request may take is smtpd_timeout")
        return True

    def format(self, value: Value) -> str:
        return "yes"


@final
@dataclass(frozen=True, slots=True)
class Networks:
    """Networks with commas or white space between them; brackets around an IPv6 address are taken."""

    unit: str = "networks"

    def parse(self, text: str) -> Value:
        try:
            return parse_networks(text.replace("[", "").replace("]", "").replace(",", " ").split())
        except ValueError as error:
            raise ValueError(
                f"addresses and networks (ADDRESS/BITS) are needed, no names and no tables: {error}"
            ) from None

    def format(self, value: Value) -> str:
        return " ".join(map(str, value)) if isinstance(value, tuple) else ""


@final
@dataclass(frozen=True, slots=True)
class BareNewlines:
    """reject, normalize or note; or auto: which of the first two, the listener decides."""

    unit: str = "reject, normalize, note or auto"

    def parse(self, text: str) -> Value:
        name = _POSTFIX_NEWLINES.get(text.lower(), text.lower())
        if name == "auto":
            return None
        if name.upper() not in BareNewline.__members__:
            raise ValueError("reject, normalize (or yes), note (or no) or auto is needed")
        return BareNewline[name.upper()]

    def format(self, value: Value) -> str:
        return value.name.lower() if isinstance(value, BareNewline) else "auto"


@final
@dataclass(frozen=True, slots=True)
class Commands:
    """A list of commands, as `Forbidden` reads it."""

    unit: str = "words and /patterns/"

    def parse(self, text: str) -> Value:
        try:
            return Forbidden(text)
        except LocalProtocolError as error:
            raise ValueError(str(error)) from None

    def format(self, value: Value) -> str:
        return value.text if isinstance(value, Forbidden) else ""


@final
@dataclass(frozen=True, slots=True)
class ForbidOrNote:
    """yes or no; no is to note it."""

    unit: str = "yes or no"

    def parse(self, text: str) -> Value:
        if text not in ("yes", "no"):
            raise ValueError("yes or no is needed")
        return EarlyInput.FORBID if text == "yes" else EarlyInput.NOTE

    def format(self, value: Value) -> str:
        return "yes" if value is EarlyInput.FORBID else "no"


@final
@dataclass(frozen=True, slots=True)
class Setting:
    """A name that `-o` takes, and the fields of Limits, Admission or WireRules that it sets."""

    name: str
    fields: tuple[str, ...]
    kind: Kind
    what: str


_SIZE: Final = Count(1, _MOST_OCTETS, unit="octets")

SETTINGS: Final[tuple[Setting, ...]] = (
    # Postfix's, in the order of its manual.
    Setting(
        "default_process_limit", ("connections",), Count(), "connections at once; from 90 % of them on there is stress"
    ),
    Setting(
        "smtpd_client_connection_count_limit",
        ("per_source",),
        Count(off=True),
        "connections at once from one network; under stress no more than an equal share",
    ),
    Setting(
        "smtpd_client_event_limit_exceptions",
        ("exempt",),
        Networks(),
        "networks to which the line above does not apply",
    ),
    Setting("smtpd_client_ipv4_prefix_length", ("ipv4_prefix",), Count(0, 32, unit="bits"), "what one network is"),
    Setting("smtpd_client_ipv6_prefix_length", ("ipv6_prefix",), Count(0, 128, unit="bits"), "what one network is"),
    Setting("stress", ("stress",), YesNoAuto(), "whether there is stress; auto: as connections come and go"),
    Setting(
        "smtpd_timeout",
        ("command_seconds", "body_seconds"),
        Seconds(),
        "one whole command and its reply; one whole message, extended by what comes fast enough",
    ),
    Setting("smtpd_starttls_timeout", ("handshake_seconds",), Seconds(), "one whole TLS handshake"),
    Setting("smtpd_per_request_deadline", (), AlwaysOn(), "octets do not extend the time that a request may take"),
    Setting("smtpd_min_data_rate", ("body_rate",), Count(unit="octets/s"), "how fast a message has to come"),
    Setting("smtpd_soft_error_limit", ("soft_errors",), Count(), "refused commands, after which replies are delayed"),
    Setting("smtpd_error_sleep_time", ("error_delay_seconds",), Seconds(zero=True), "that delay"),
    Setting("smtpd_hard_error_limit", ("errors",), Count(), "refused commands, after which the session ends"),
    Setting(
        "smtpd_junk_command_limit",
        ("junk",),
        Count(),
        "commands that bring no mail nearer, after which they count as refused",
    ),
    Setting("smtpd_recipient_limit", ("recipients",), Count(), "recipients of one message"),
    Setting(
        "smtpd_recipient_overshoot_limit",
        ("recipient_overshoot",),
        Count(0),
        "recipients beyond that which count as no error",
    ),
    Setting(
        "smtpd_forbid_bare_newline",
        ("bare_newline",),
        BareNewlines(),
        "what is done about a bare CR or LF; auto: `reject` on `--submission` listeners, `normalize` elsewhere",
    ),
    Setting(
        "smtpd_forbid_bare_newline_exclusions",
        ("bare_newline_exclusions",),
        Networks(),
        "networks whose bare newlines are only noted",
    ),
    Setting(
        "smtpd_forbid_bare_newline_reject_code",
        ("bare_newline_code",),
        ReplyCode(),
        "what `reject` answers with; 421 and 521 end the session after a message, too",
    ),
    Setting(
        "smtpd_forbidden_commands",
        ("forbidden",),
        Commands(),
        "what ends the session at once, beside headers and requests of HTTP",
    ),
    Setting(
        "smtpd_forbid_unauth_pipelining",
        ("early_input",),
        ForbidOrNote(),
        "whether 554 ends the session of a client that does not wait for a reply where it has to; no: the log has it",
    ),
    Setting("message_size_limit", ("message",), _SIZE, "a whole message; also `--message-size-limit`"),
    Setting("line_length_limit", ("command_line",), Count(512, 65_536, unit="octets"), "a command"),
    Setting("smtpd_sasl_response_limit", ("auth_line",), Count(512, 1_048_576, unit="octets"), "a line of AUTH"),
    # Ours, which Postfix has nothing for.
    Setting("bodies", ("bodies",), Count(off=True), "messages under way at once, from DATA to the answer"),
    Setting("refusals", ("refusals",), Count(0), "connections that hear 421 at once; others are closed without a word"),
    Setting("commands", ("commands",), Count(), "commands of any kind, after which the session ends"),
    Setting("transactions", ("transactions",), Count(off=True), "messages in one session"),
    Setting("recipient_domains", ("recipient_domains",), Count(off=True), "domains of recipients in one session"),
    Setting("auth_failures", ("auth_failures",), Count(), "wrong guesses, after which the session ends"),
    Setting("unsent", ("unsent",), Count(512, unit="octets"), "replies that wait for a client that does not read"),
    Setting("linger", ("linger",), Count(0, unit="octets"), "what is dropped while the last reply travels"),
    Setting("session_seconds", ("session_seconds",), Seconds(), "all the waiting in one session, extended likewise"),
    Setting("linger_seconds", ("linger_seconds",), Seconds(), "after the last reply"),
    Setting("handler_seconds", ("handler_seconds",), Seconds(), "what delivery may take"),
)

# Fields of Limits that only a client spends.
CLIENTS: Final = frozenset(
    {"reply_line", "reply", "reply_lines", "greeting_seconds", "data_seconds", "block_seconds", "end_seconds"}
)

_LIMITS: Final = frozenset(one.name for one in fields(Limits))
_WIRE: Final = frozenset(one.name for one in fields(WireRules))


def _by_field() -> dict[str, Setting]:
    """Fields by their own names; one that goes with others in Postfix can be set alone."""
    return {name: Setting(name, (name,), one.kind, one.what) for one in SETTINGS for name in one.fields}


BY_NAME: Final[dict[str, Setting]] = _by_field() | {one.name: one for one in SETTINGS}


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """What a server is to be limited to."""

    limits: Limits
    admission: Admission
    wire: WireRules = field(default_factory=WireRules)

    def plus(self, texts: Iterable[str]) -> Settings:
        """The same with NAME=VALUE after NAME=VALUE; a later one wins. Raises ValueError, with one line."""
        limits: dict[str, Value] = {}
        admission: dict[str, Value] = {}
        wire: dict[str, Value] = {}
        for text in texts:
            setting, value = _parse(text)
            for name in setting.fields:
                (limits if name in _LIMITS else wire if name in _WIRE else admission)[name] = value
        # Each value has passed the parser of its row, so it is of the type of its field.
        return Settings(
            replace(self.limits, **limits),  # type: ignore[arg-type]
            replace(self.admission, **admission),  # type: ignore[arg-type]
            replace(self.wire, **wire),  # type: ignore[arg-type]
        )

    def value(self, setting: Setting) -> str:
        """What `setting` is now, as it would be written."""
        values: list[Value] = [getattr(self._home(name), name) for name in setting.fields]
        return ", ".join(dict.fromkeys(setting.kind.format(value) for value in values or (True,)))

    def _home(self, name: str) -> Limits | Admission | WireRules:
        return self.limits if name in _LIMITS else self.wire if name in _WIRE else self.admission

    def table(self) -> str:
        """Every setting: NAME = VALUE, and what it is."""
        rows = [(f"{one.name} = {self.value(one)}", one) for one in SETTINGS]
        width = max(len(head) for head, _ in rows)
        return "".join(f"{head:<{width}}  {one.what.replace('`', '')} ({one.kind.unit})\n" for head, one in rows)


def _parse(text: str) -> tuple[Setting, Value]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name:
        raise ValueError(f"-o {text}: NAME=VALUE is needed; --show-limits shows the names")
    setting = BY_NAME.get(name)
    if setting is None:
        if name in CLIENTS:
            raise ValueError(f"-o {text}: {name} is for clients, a server has no use for it")
        close = get_close_matches(name, BY_NAME, 3)
        hint = f"is it {' or '.join(close)}?" if close else "--show-limits shows the names"
        raise ValueError(f"-o {text}: there is no {name}; {hint}")
    try:
        return setting, setting.kind.parse(value)
    except ValueError as error:
        raise ValueError(f"-o {text}: {error}") from None
