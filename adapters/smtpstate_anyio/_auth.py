"""AUTH in the server's seat: who the users are, and what tells a session that a client is one of them."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, final

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from smtpstate import Auth, AuthCancel, AuthResponse, Reply
from smtpstate.sasl import (
    SERVER_MECHANISMS,
    CertificateGiven,
    Challenge,
    Failure,
    KeysNeeded,
    PasswordGiven,
    Success,
    TokenGiven,
    server_mechanism,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from smtpstate.sasl import ScramKeys, ServerMechanism, ServerStep
    from smtpstate_anyio._session import Session

_logger: Final = logging.getLogger("smtpstate")

_TROUBLE: Final = Reply(454, "Temporary authentication failure", enhanced="4.7.0")  # RFC 4954 section 6
_WORKERS: Final = 2  # threads that hash at a time; however many guess, most of the processors stay with the mail
_SECRET: Final = 32  # octets
_NONCE: Final = 18  # octets, 24 characters; RFC 5802 section 5.1 wants it never to come again

_limiter: Final[RunVar[CapacityLimiter]] = RunVar("smtpstate_hashing")

_T = TypeVar("_T")


class Users(Protocol):
    """Who may log in. A method that raises, or takes longer than `Limits.handler_seconds`, is a 4yz for the client.

    User names are prepared (RFC 4013) and hold no controls; passwords and tokens are as they came. An answer for
    somebody unknown should take as long as one for somebody who is known: see `hashing`.
    """

    @property
    def mechanisms(self) -> Sequence[str]:
        """What AUTH may offer, the best first: of SCRAM-SHA-256-PLUS, SCRAM-SHA-256, OAUTHBEARER, XOAUTH2, EXTERNAL,
        PLAIN, LOGIN.

        A session is offered -PLUS where TLS gives it a channel binding, see `Authenticator`, and EXTERNAL where the
        client has shown a certificate that the server's context verifies.
        """
        ...

    async def keys(self, username: str) -> ScramKeys | None:
        """For SCRAM-SHA-256 and its -PLUS: what is kept of the user's password. None: nobody has that name."""
        ...

    async def check(self, username: str, password: str) -> bool:
        """For PLAIN and LOGIN: whether that is the user's password."""
        ...

    async def token(self, username: str, token: str) -> str | None:
        """For OAUTHBEARER and XOAUTH2: whose bearer token that is, None: nobody's. `username`, if any, must be its."""
        ...

    async def certificate(self, name: str) -> str | None:
        """For EXTERNAL: whom a name in a client's verified certificate means, None: nobody.

        It is the name that the client asks for if it asks for one, else the first of `TlsInfo.identities`.
        """
        ...


async def hashing(work: Callable[[], _T]) -> _T:
    """What `work()` returns: a run of PBKDF2 or argon2. It runs in a thread, of which there are two for all sessions.

    Waiting for one can be cancelled, the work cannot. What it raises goes through.
    """
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = CapacityLimiter(_WORKERS)
        _limiter.set(limiter)
    return await to_thread.run_sync(work, limiter=limiter)


@final
class Authenticator:
    """Answers AUTH for the sessions of one server.

    `secret`, 16 octets or more, makes up the keys of those who do not exist; without one that outlives the process,
    somebody who asks before and after a restart learns that a name has no account.

    `certificate`, in DER, is what the server's TLS context shows to every client: `ssl.PEM_cert_to_DER_cert` makes it.
    With it SCRAM-SHA-256-PLUS is offered under TLS 1.3 as well, with tls-server-end-point. RFC 9266 has clients take
    tls-exporter there, which Python's ssl has not, and one that knows no other binding will then not get in by SCRAM;
    so give it where you know your clients. Under TLS 1.2 there is tls-unique in any case.

    Raises ValueError for mechanisms that are not among those of `Users.mechanisms`.
    """

    def __init__(self, users: Users, *, secret: bytes | None = None, certificate: bytes | None = None) -> None:
        self.users: Final = users
        self.mechanisms: Final = tuple(users.mechanisms)
        unknown = {*self.mechanisms}.difference(SERVER_MECHANISMS)
        if unknown:
            raise ValueError(f"unknown mechanisms: {', '.join(sorted(unknown))}")
        self.secret: Final = secret or secrets.token_bytes(_SECRET)
        self.certificate: Final = certificate

    def exchange(self) -> Exchange:
        """What answers for one session."""
        return Exchange(self)


@final
class Exchange:
    """The AUTH of one session, from each event to its verdict."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator: Final = authenticator
        self._mechanism: ServerMechanism | None = None
        self._username: str = ""  # for the log

    async def answer(self, session: Session, event: Auth | AuthResponse | AuthCancel) -> None:
        """Gives the verdict. Raises nothing: trouble of ours is a 454 for the client and a record in the log."""
        if isinstance(event, AuthCancel):
            self._mechanism = None
            return  # the core has said 501
        with session.budget() as scope:
            try:
                await self._answer(session, event)
            except Exception as error:
                _logger.error("session %s: users cannot be checked", session.id, exc_info=error)
                self._mechanism = None
                if session.owed is event:
                    session.reply(_TROUBLE)
        if scope.cancelled_caught:
            self._mechanism = None
            if not session.killed:
                _logger.error("session %s: checking a user took too long and was cancelled", session.id)

    async def _answer(self, session: Session, event: Auth | AuthResponse) -> None:
        if isinstance(event, Auth):
            data, self._username, tls = event.initial_response, "", session.tls
            self._mechanism = server_mechanism(
                event.mechanism,
                offered=session.connection.mechanisms,
                nonce=secrets.token_urlsafe(_NONCE),
                secret=self._authenticator.secret,
                bindings=() if tls is None else tls.bindings,
                identities=() if tls is None else tls.identities,
            )
        else:
            data = event.data
        mechanism = self._mechanism
        assert mechanism is not None  # the core takes a response after a challenge only
        step = mechanism.step(data)
        while isinstance(step, PasswordGiven | KeysNeeded | TokenGiven | CertificateGiven):
            self._username = step.name if isinstance(step, CertificateGiven) else step.username
            step = await self._ask(mechanism, step)
        if isinstance(step, Challenge):
            session.challenge(step.data)
            return
        self._mechanism = None
        self._say(session, mechanism.name, step)

    async def _ask(
        self, mechanism: ServerMechanism, step: PasswordGiven | KeysNeeded | TokenGiven | CertificateGiven
    ) -> ServerStep:
        users = self._authenticator.users
        match step:
            case PasswordGiven():
                good = await users.check(step.username, step.password)
                return mechanism.answer(step.username if good else None)
            case KeysNeeded():
                return mechanism.answer(await users.keys(step.username))
            case TokenGiven():
                return mechanism.answer(await users.token(step.username, step.token))
            case CertificateGiven():
                return mechanism.answer(await users.certificate(step.name))

    def _say(self, session: Session, name: str, step: Success | Failure) -> None:
        if isinstance(step, Success):
            session.authenticated(step.identity)
            _logger.info("session %s: AUTH %s, user=%a", session.id, name, step.identity)
            return
        session.reply(step.reply)
        why, peer = step.why.name, session.peer
        _logger.info("session %s: AUTH %s failed, user=%a peer=%s why=%s", session.id, name, self._username, peer, why)
