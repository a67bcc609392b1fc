"""What a peer may spend: octets, counts and seconds; and the timers that count the seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, assert_never, final

from smtpstate._commands import Wait
from smtpstate._events import Flow, Timer

Clock: TypeAlias = Callable[[], float]  # monotonic seconds, any origin

_NEVER: Final = float("inf")

# Postfix: what smtpd_timeout, smtpd_hard_error_limit and smtpd_junk_command_limit become under stress.
_STRESS_SECONDS: Final = 10.0
_STRESS_ERRORS: Final = 1
_STRESS_JUNK: Final = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """Everything that a peer may spend. Octets include line endings; seconds are real ones.

    A class of your own, derived from it, may say in `under_stress()` what is different when there is too much to do.
    """

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
    recipient_overshoot: int = 1000  # recipients above these that are no errors; smtpd_recipient_overshoot_limit
    recipient_domains: int | None = None  # different ones a session; RFC 9422: RCPTDOMAINMAX
    transactions: int | None = None  # accepted MAILs a session; RFC 9422: MAILMAX; Exim: smtp_accept_max_per_connection
    auth_failures: int = 5  # failed AUTH attempts a session; RFC 4954 section 4 wants a limit and names none

    # counts that begin anew with each message that is taken
    commands: int = 10_000  # lines of any kind: more is no way to send mail
    junk: int = 100  # commands that bring no mail nearer; more of them are errors; Postfix: smtpd_junk_command_limit
    soft_errors: int = 10  # refused commands, after which each reply is late; Postfix: smtpd_soft_error_limit
    errors: int = 20  # refused commands, after which the session ends; Postfix: smtpd_hard_error_limit

    # seconds of waiting for the peer, RFC 5321 section 4.5.3.2 where it has a figure
    greeting_seconds: float = 300.0  # 4.5.3.2.1
    command_seconds: float = 300.0  # 4.5.3.2.7; one whole command, whatever the number of octets it comes in
    data_seconds: float = 120.0  # 4.5.3.2.4, from DATA to its 354
    block_seconds: float = (
        180.0  # 4.5.3.2.5, a message on its way out, extended by what leaves at `body_rate` or faster
    )
    end_seconds: float = 600.0  # 4.5.3.2.6, from the lone dot to its reply
    body_seconds: float = 300.0  # one whole message, extended by what comes at `body_rate` or faster
    session_seconds: float = 1800.0  # all the waiting in one session, extended likewise
    handshake_seconds: float = 60.0  # TLS
    linger_seconds: float = 2.0  # after the last reply

    # seconds of ours
    handler_seconds: float = 120.0  # from an event to the next `next_event()`
    error_delay_seconds: float = 1.0  # how late a reply is after `soft_errors`; Postfix: smtpd_error_sleep_time

    # octets a second
    body_rate: float = 500.0  # n octets earn n / 500 s, never more than a full `body_seconds`

    def under_stress(self) -> Limits:
        """The seconds and counts that hold while `stress` is on; octets stay as they were announced."""
        return replace(
            self,
            junk=min(self.junk, _STRESS_JUNK),
            errors=min(self.errors, _STRESS_ERRORS),
            command_seconds=min(self.command_seconds, _STRESS_SECONDS),
            body_seconds=min(self.body_seconds, _STRESS_SECONDS),
            handshake_seconds=min(self.handshake_seconds, _STRESS_SECONDS),
        )

    def seconds(self, timer: Timer) -> float:
        """How long a peer may take over what a server waits for: a command, a body, a handshake, the session."""
        match timer:
            case Timer.BODY:
                return self.body_seconds
            case Timer.HANDSHAKE:
                return self.handshake_seconds
            case Timer.SESSION:
                return self.session_seconds
            case _:
                return self.command_seconds

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

    def granted(self, timer: Timer) -> bool:
        """Whether there is such a budget, at rest or running."""
        return self._at[timer] != _NEVER or self._left[timer] != _NEVER

    def credit(self, timer: Timer, seconds: float, now: float, *, cap: float = _NEVER) -> None:
        """Adds `seconds`, and leaves no more than `cap`. What was stopped stays stopped."""
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
    """Who pays: the peer while we wait for it, the handler while it works; nobody pays for both at once.

    `limits` are those that hold now. A request is what the peer owes us: one whole command, the exchange that AUTH
    begins, a handshake, or a body; answers that wait to be read are paid from what is owed next.
    """

    __slots__ = ("_ahead", "_flow", "_request", "_timers", "limits")

    def __init__(self, limits: Limits) -> None:
        self.limits: Limits = limits
        self._timers: Final = TimerTable()
        self._request: Timer = Timer.COMMAND
        self._flow: Flow | None = None
        self._ahead: int = 0  # octets of bodies that were here before anybody knew that they are some
        self._timers.grant(Timer.SESSION, limits.session_seconds)

    @property
    def deadline(self) -> float | None:
        return self._timers.deadline

    def expired(self, now: float) -> Timer | None:
        """The budget that is spent, if one is."""
        return self._timers.expired(now)

    def switch(self, limits: Limits, now: float) -> None:
        """From `now` on these limits hold. Of budgets that are open no more is left than they would grant.

        None gets longer: what is waited for next has the new time, and switching to and fro is of use to nobody.
        """
        self.limits = limits
        self._timers.credit(Timer.HANDLER, 0.0, now, cap=limits.handler_seconds)
        self._timers.credit(Timer.SESSION, 0.0, now, cap=limits.session_seconds)
        self._timers.credit(self._request, 0.0, now, cap=limits.seconds(self._request))

    def expect(self, timer: Timer) -> None:
        """The peer owes us something else now, a command, a body or a handshake, and has a fresh budget for it."""
        self._grant(timer, self.limits.seconds(timer))

    def _grant(self, timer: Timer, seconds: float) -> None:
        self._timers.stop(self._request)
        self._request = timer
        self._flow = None
        self._timers.grant(timer, seconds)

    def received(self, octets: int, now: float) -> None:
        """Octets came in. Those of a body earn time at `body_rate`; no others do."""
        if self._request is Timer.BODY:
            earned = octets / self.limits.body_rate
            self._timers.credit(Timer.BODY, earned, now, cap=self.limits.body_seconds)
            self._timers.credit(Timer.SESSION, earned, now, cap=self.limits.session_seconds)

    def came_ahead(self, octets: int) -> None:
        """Octets that are here already are of a body: a BDAT came in one piece with what follows it."""
        self._ahead += octets

    def charge_handler(self, now: float) -> None:
        """An event is handed out."""
        self._rest(now)
        self._timers.grant(Timer.HANDLER, self.limits.handler_seconds)
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
            earned = self._ahead / self.limits.body_rate
            self._timers.credit(Timer.SESSION, earned, now, cap=self.limits.session_seconds)
            self._ahead = 0
            self._timers.run(self._request, now)
            self._timers.run(Timer.SESSION, now)

    def charge_nobody(self, clock: Clock) -> None:
        """We wait of our own accord, for the time that a reply is late. Waiting on changes nothing."""
        if not self._timers.granted(Timer.DELAY):
            now = clock()
            self._rest(now)
            self._timers.stop(Timer.HANDLER)
            self._timers.grant(Timer.DELAY, self.limits.error_delay_seconds)
            self._timers.run(Timer.DELAY, now)

    def end_delay(self) -> None:
        """The reply may go."""
        self._timers.stop(Timer.DELAY)

    def _rest(self, now: float) -> None:
        """The peer pays no more."""
        self._flow = None
        self._timers.rest(self._request, now)
        self._timers.rest(Timer.SESSION, now)

    def only_linger(self, seconds: float) -> None:
        """Nothing but the end is left to wait for."""
        self._timers.stop_all()
        self._grant(Timer.LINGER, seconds)

    def stop(self) -> None:
        """Nobody waits any more."""
        self._timers.stop_all()


_MOST: Final = 65_536


def most_at_once(limits: Limits) -> int:
    """How many octets of a body to hand out as one piece.

    A piece earns its time when all of it has left, so the larger it is the earlier who reads slowly is cut.
    """
    return min(_MOST, max(1, int(limits.block_seconds * limits.body_rate / 4)))


@final
class Patience:
    """How long a client waits: for a reply, for a handshake, and for its body to leave. Else nothing runs.

    A body has one budget, however many pieces it comes in: what leaves earns time at `body_rate`, and it rests while
    the piece that is next has not come from us yet.
    """

    __slots__ = ("_flow", "_limits", "_request", "_timers")

    def __init__(self, limits: Limits) -> None:
        self._limits: Final = limits
        self._timers: Final = TimerTable()
        self._request: Timer | None = None
        self._flow: Flow | None = None

    @property
    def deadline(self) -> float | None:
        return self._timers.deadline

    @property
    def sends_body(self) -> bool:
        """Whether it waits for octets of a body to leave."""
        return self._request is Timer.BODY

    def expired(self, now: float) -> Timer | None:
        """The budget that is spent, if one is."""
        return self._timers.expired(now)

    def bound(self, seconds: float, now: float) -> None:
        """All together may take so long, from `now` on, whoever is waited for."""
        self._timers.grant(Timer.SESSION, seconds)
        self._timers.run(Timer.SESSION, now)

    def expect(self, timer: Timer, seconds: float) -> None:
        """A reply or a handshake is due, with a fresh budget."""
        self._turn_to(timer)
        self._timers.grant(timer, seconds)

    def expect_nothing(self) -> None:
        """Nothing is due from the peer."""
        self._turn_to(None)

    def begin_body(self) -> None:
        """A message, or a chunk of one, may be sent, with a fresh budget."""
        self._timers.stop(Timer.BODY)
        if self._request is Timer.BODY:  # octets of the last chunk are still here, and leave with those of this one
            self._grant_body()

    def send_body(self) -> None:
        """Octets of it wait to leave."""
        if self._request is not Timer.BODY:
            self._turn_to(Timer.BODY)
            if not self._timers.granted(Timer.BODY):
                self._grant_body()

    def body_has_left(self, now: float) -> None:
        """There is no more of it for now: what is left of its time is kept for the rest."""
        self._timers.rest(Timer.BODY, now)
        self._request = None

    def sent(self, octets: int, now: float) -> None:
        """Octets have left. Those of a body earn time."""
        if self._request is Timer.BODY:
            earned = octets / self._limits.body_rate
            self._timers.credit(Timer.BODY, earned, now, cap=self._limits.block_seconds)

    def wait(self, flow: Flow, clock: Clock) -> None:
        """We wait. Waiting on for the same thing changes nothing, and does not read the clock."""
        if flow is not self._flow:
            self._flow = flow
            if self._request is not None:
                self._timers.run(self._request, clock())

    def pause(self) -> None:
        """An event is handed out: waiting begins anew after it."""
        self._flow = None

    def stop(self) -> None:
        """Nobody waits any more."""
        self._timers.stop_all()

    def _grant_body(self) -> None:
        self._timers.grant(Timer.BODY, self._limits.block_seconds)
        self._flow = None

    def _turn_to(self, timer: Timer | None) -> None:
        if self._request is not None:
            self._timers.stop(self._request)
        self._request = timer
        self._flow = None
