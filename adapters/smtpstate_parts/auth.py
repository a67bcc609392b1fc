"""AUTH in the server's seat: what has to be asked about a client, and what its answers mean."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, TypeAlias, final

from smtpstate import Auth, AuthCancel, AuthResponse, Reply
from smtpstate.sasl import (
    SERVER_MECHANISMS,
    CertificateGiven,
    Challenge,
    KeysNeeded,
    PasswordGiven,
    ScramKeys,
    Success,
    TokenGiven,
    server_mechanism,
)
from smtpstate_parts.seat import logger

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from smtpstate.sasl import Failure, ServerMechanism
    from smtpstate_parts.seat import Seat

_TROUBLE: Final = Reply(454, "Temporary authentication failure", enhanced="4.7.0")  # RFC 4954 section 6
_SECRET: Final = 32  # octets
_NONCE: Final = 18  # octets, 24 characters; RFC 5802 section 5.1 wants it never to come again

# What users are asked: their `check`, `keys`, `token` or `certificate`; and what these say.
Question: TypeAlias = PasswordGiven | KeysNeeded | TokenGiven | CertificateGiven
Answer: TypeAlias = bool | ScramKeys | str | None


class Credentialed:
    """What tells the sessions of one server what AUTH may offer: an adapter's `Authenticator` adds who the users are.

    Raises ValueError for mechanisms that there are not.
    """

    def __init__(
        self, mechanisms: Iterable[str], *, secret: bytes | None = None, certificate: bytes | None = None
    ) -> None:
        self.mechanisms: Final = tuple(mechanisms)
        unknown = {*self.mechanisms}.difference(SERVER_MECHANISMS)
        if unknown:
            raise ValueError(f"unknown mechanisms: {', '.join(sorted(unknown))}")
        self.secret: Final = secret or secrets.token_bytes(_SECRET)
        self.certificate: Final = certificate


@final
class Exchange:
    """The AUTH of one session, from each event to its verdict."""

    def __init__(self, secret: bytes) -> None:
        self._secret: Final = secret
        self._mechanism: ServerMechanism | None = None
        self._username: str = ""  # for the log

    def answer(self, seat: Seat, event: Auth | AuthResponse | AuthCancel) -> Generator[Question, Answer, None]:
        """Gives the verdict. Yields what to ask the users, whose answer is sent in, or what they raise thrown.

        Raises nothing: trouble of ours is a 454 for the client and a record in the log.
        """
        if isinstance(event, AuthCancel):
            self._mechanism = None
            return  # the core has said 501
        try:
            yield from self._answer(seat, event)
        except Exception as error:
            logger.error("session %s: users cannot be checked", seat.id, exc_info=error)
            self._mechanism = None
            if seat.owed is event:
                seat.reply(_TROUBLE)

    def overdue(self, seat: Seat) -> None:
        """The users took too long to answer, and the core has said so."""
        self._mechanism = None
        if not seat.killed:
            logger.error("session %s: checking a user took too long and was cancelled", seat.id)

    def _answer(self, seat: Seat, event: Auth | AuthResponse) -> Generator[Question, Answer, None]:
        if isinstance(event, Auth):
            data, self._username, tls = event.initial_response, "", seat.tls
            self._mechanism = server_mechanism(
                event.mechanism,
                offered=seat.connection.mechanisms,
                nonce=secrets.token_urlsafe(_NONCE),
                secret=self._secret,
                bindings=() if tls is None else tls.bindings,
                identities=() if tls is None else tls.identities,
            )
        else:
            data = event.data
        mechanism = self._mechanism
        assert mechanism is not None  # the core takes a response after a challenge only
        step = mechanism.step(data)
        while isinstance(step, Question):
            self._username = step.name if isinstance(step, CertificateGiven) else step.username
            known = yield step
            if isinstance(known, bool):  # of a password: whether it is right
                known = self._username if known else None
            step = mechanism.answer(known)
        if isinstance(step, Challenge):
            seat.challenge(step.data)
            return
        self._mechanism = None
        self._say(seat, mechanism.name, step)

    def _say(self, seat: Seat, name: str, step: Success | Failure) -> None:
        if isinstance(step, Success):
            seat.authenticated(step.identity)
            logger.info("session %s: AUTH %s, user=%a", seat.id, name, step.identity)
            return
        seat.reply(step.reply)
        why, peer = step.why.name, seat.peer
        logger.info("session %s: AUTH %s failed, user=%a peer=%s why=%s", seat.id, name, self._username, peer, why)
