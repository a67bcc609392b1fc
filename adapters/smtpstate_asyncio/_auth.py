"""AUTH in the server's seat: who the users are, and what tells a session that a client is one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, final

from smtpstate.sasl import CertificateGiven, KeysNeeded, PasswordGiven, TokenGiven
from smtpstate_parts.auth import Credentialed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from smtpstate.sasl import ScramKeys
    from smtpstate_parts.auth import Answer, Question

# Threads that hash; however many guess, most of the processors stay with the mail.
_threads: Final = ThreadPoolExecutor(2, thread_name_prefix="smtpstate hashing")

_T = TypeVar("_T")


class Users(Protocol):
    """Who may log in. A method that raises, or takes longer than `Limits.handler_seconds`, is a 4yz for the client.

    Each may be a plain function or a coroutine function. User names are prepared (RFC 4013) and hold no controls;
    passwords and tokens are as they came. An answer for somebody unknown should take as long as one for somebody who is
    known: see `hashing`.
    """

    @property
    def mechanisms(self) -> Sequence[str]:
        """What AUTH may offer, the best first: of SCRAM-SHA-256-PLUS, SCRAM-SHA-256, OAUTHBEARER, XOAUTH2, EXTERNAL,
        PLAIN, LOGIN.

        A session is offered -PLUS where TLS gives it a channel binding, see `Authenticator`, and EXTERNAL where the
        client has shown a certificate that the server's context verifies.
        """
        ...

    def keys(self, username: str) -> ScramKeys | Awaitable[ScramKeys | None] | None:
        """For SCRAM-SHA-256 and its -PLUS: what is kept of the user's password. None: nobody has that name."""
        ...

    def check(self, username: str, password: str) -> bool | Awaitable[bool]:
        """For PLAIN and LOGIN: whether that is the user's password."""
        ...

    def token(self, username: str, token: str) -> str | Awaitable[str | None] | None:
        """For OAUTHBEARER and XOAUTH2: whose bearer token that is, None: nobody's. `username`, if any, must be its."""
        ...

    def certificate(self, name: str) -> str | Awaitable[str | None] | None:
        """For EXTERNAL: whom a name in a client's verified certificate means, None: nobody.

        It is the name that the client asks for if it asks for one, else the first of `TlsInfo.identities`.
        """
        ...


async def hashing(work: Callable[[], _T]) -> _T:
    """What `work()` returns: a run of PBKDF2 or argon2. It runs in a thread, of which there are two for all sessions.

    Waiting for one can be cancelled, the work cannot. What it raises goes through.
    """
    return await asyncio.get_running_loop().run_in_executor(_threads, work)


@final
class Authenticator(Credentialed):
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
        super().__init__(users.mechanisms, secret=secret, certificate=certificate)
        self.users: Final = users

    async def ask(self, question: Question) -> Answer:
        """What the users say to it. What they raise goes through."""
        answer = self._ask(question)
        return await answer if isinstance(answer, Awaitable) else answer

    def _ask(self, question: Question) -> Answer | Awaitable[Answer]:
        match question:
            case PasswordGiven():
                return self.users.check(question.username, question.password)
            case KeysNeeded():
                return self.users.keys(question.username)
            case TokenGiven():
                return self.users.token(question.username, question.token)
            case CertificateGiven():
                return self.users.certificate(question.name)
