"""What a peer may spend: octets, counts and seconds; and the timers that count the seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, assert_never, final

from smtpstate._commands import Wait
from smtpstate._events import Flow, Timer

Clock: TypeAlias = Callable[[], float]  # monotonic seconds, any origin

_NEVER: Final = float("inf")


@final
@dataclass(frozen=True, slots=True)
class Limits:
    """Everything that a peer may spend. Octets include line endings; seconds are real ones."""

    # octets
    command_line: int = 2048  # common use; never less than 512 plus what is offered adds, RFC 5321 section 4.5.3.1.4
    auth_line: int = 12_288  # a line of an AUTH exchange; RFC 4954 section 4
    reply_line: int = 4096  # section 4.5.3.1.5 says 512; some peers send more, and it costs nothing
    reply: int = 65_536  # all lines of one reply
    reply_lines: int = 1000  # an EHLO reply has some twenty
    message: int = 52_428_800  # 50 MiB; section 4.5.3.1.7 asks for 64 KiB at least; announced with SIZE (RFC 1870)
    unsent: int = 65_536  # output that waits for a peer who does not read; then we stop reading
    linger: int = 262_144  # input dropped while a last reply travels

    # counts
    recipients: int = 1000  # a transaction; section 4.5.3.1.8 asks for 100
    recipient_domains: int | None = None  # different ones a session; RFC 9422: RCPTDOMAINMAX
    transactions: int | None = None  # accepted MAILs a session; RFC 9422: MAILMAX; Exim: smtp_accept_max_per_connection
    errors: int = 20  # refused commands a session; Postfix: smtpd_hard_error_limit
    auth_failures: int = 5  # failed AUTH attempts a session; RFC 4954 section 4 wants a limit and names none
    junk: int = 100  # commands since the last message that bring no mail nearer; Postfix: smtpd_junk_command_limit

    # seconds of waiting for the peer, RFC 5321 section 4.5.3.2 where it has a figure
    greeting_seconds: float = 300.0  # 4.5.3.2.1
    command_seconds: float = 300.0  # 4.5.3.2.7; one whole command, whatever the number of octets it comes in
    data_seconds: float = 120.0  # 4.5.3.2.4, from DATA to its 354
    block_seconds: float = 180.0  # 4.5.3.2.5, one block of a message on its way out
    end_seconds: float = 600.0  # 4.5.3.2.6, from the lone dot to its reply
    body_seconds: float = 300.0  # one whole message, extended by what comes at `body_rate` or faster
    session_seconds: float = 1800.0  # all the waiting in one session, extended likewise
    handshake_seconds: float = 60.0  # TLS
    linger_seconds: float = 2.0  # after the last reply

    # seconds of ours
    handler_seconds: float = 120.0  # from an event to the next `next_event()`

    # octets a second
    body_rate: float = 500.0  # n octets earn n / 500 s, never more than a full `body_seconds`

    def wait_seconds(self, wait: Wait) -> float:
        """How long a sender waits for a reply."""
        match wait:
            case Wait.GREETING:
                return self.greeting_seconds
            case Wait.COMMAND:
                return self.command_seconds
            case Wait.DATA:
                return self.data_seconds
            case Wait.END:
                return self.end_seconds
            case _:
                assert_never(wait)


@final
class TimerTable:
    """One slot for each Timer: seconds left while it rests, a point in time while it runs.

    A peer is charged only while we wait for it, so budgets rest and run again; what was spent stays spent.
    """

    __slots__ = ("_at", "_left")

    def __init__(self) -> None:
        self._left: list[float] = [_NEVER] * len(Timer)
        self._at: list[float] = [_NEVER] * len(Timer)

    def grant(self, timer: Timer, seconds: float) -> None:
        """Gives a fresh budget, at rest."""
        self._left[timer] = seconds
        self._at[timer] = _NEVER

    def stop(self, timer: Timer) -> None:
        """Takes the budget away: nothing expires."""
        self._left[timer] = _NEVER
        self._at[timer] = _NEVER

    def stop_all(self) -> None:
        for timer in Timer:
            self.stop(timer)

    def run(self, timer: Timer, now: float) -> None:
        """Lets what is left run from `now`; a timer that runs already is not disturbed."""
        if self._at[timer] == _NEVER:
            self._at[timer] = now + self._left[timer]

    def rest(self, timer: Timer, now: float) -> None:
        """Keeps what is left at `now`."""
        if self._at[timer] != _NEVER:
            self._left[timer] = max(0.0, self._at[timer] - now)
            self._at[timer] = _NEVER

    def credit(self, timer: Timer, seconds: float, now: float, *, cap: float = _NEVER) -> None:
        """Adds `seconds`, but never so many that more than `cap` would be left. What was stopped stays stopped."""
        if self._at[timer] != _NEVER:
            self._at[timer] = min(self._at[timer] + seconds, now + cap)
        elif self._left[timer] != _NEVER:
            self._left[timer] = min(self._left[timer] + seconds, cap)

    @property
    def deadline(self) -> float | None:
        """The earliest point in time at which something expires."""
        earliest = min(self._at)
        return None if earliest == _NEVER else earliest

    def expired(self, now: float) -> Timer | None:
        """The timer that expired first, if any did."""
        earliest = min(self._at)
        return Timer(self._at.index(earliest)) if earliest <= now else None


@final
class Budgets:
    """Who pays: the peer while we wait for it, the handler while it works; nobody pays for both at once."""

    __slots__ = ("_flow", "_limits", "_request", "_timers")

    def __init__(self, limits: Limits) -> None:
        self._limits: Final = limits
        self._timers: Final = TimerTable()
        self._request: Timer = Timer.COMMAND
        self._flow: Flow | None = None
        self._timers.grant(Timer.SESSION, limits.session_seconds)

    @property
    def deadline(self) -> float | None:
        return self._timers.deadline

    def expired(self, now: float) -> Timer | None:
        """The budget that is spent, if one is."""
        return self._timers.expired(now)

    def expect(self, timer: Timer) -> None:
        """The peer owes us something else now, a command, a body or a handshake, and has a fresh budget for it."""
        match timer:
            case Timer.BODY:
                self._grant(timer, self._limits.body_seconds)
            case Timer.HANDSHAKE:
                self._grant(timer, self._limits.handshake_seconds)
            case _:
                self._grant(timer, self._limits.command_seconds)

    def _grant(self, timer: Timer, seconds: float) -> None:
        self._timers.stop(self._request)
        self._request = timer
        self._flow = None
        self._timers.grant(timer, seconds)

    def received(self, octets: int, now: float) -> None:
        """Octets came in. Those of a body earn time at `body_rate`; no others do."""
        if self._request is Timer.BODY:
            earned = octets / self._limits.body_rate
            self._timers.credit(Timer.BODY, earned, now, cap=self._limits.body_seconds)
            self._timers.credit(Timer.SESSION, earned, now, cap=self._limits.session_seconds)

    def charge_handler(self, now: float) -> None:
        """An event is handed out."""
        self._flow = None
        self._timers.rest(self._request, now)
        self._timers.rest(Timer.SESSION, now)
        self._timers.grant(Timer.HANDLER, self._limits.handler_seconds)
        self._timers.run(Timer.HANDLER, now)

    def release_handler(self) -> None:
        """Our own side pays no more."""
        self._timers.stop(Timer.HANDLER)

    def charge_peer(self, flow: Flow, clock: Clock) -> None:
        """We wait for the peer. Waiting on for the same thing changes nothing, and does not read the clock."""
        if flow is not self._flow:
            now = clock()
            self._flow = flow
            self._timers.stop(Timer.HANDLER)
            self._timers.run(self._request, now)
            self._timers.run(Timer.SESSION, now)

    def only_linger(self, seconds: float) -> None:
        """Nothing but the end is left to wait for."""
        self._timers.stop_all()
        self._grant(Timer.LINGER, seconds)

    def stop(self) -> None:
        """Nobody waits any more."""
        self._timers.stop_all()
