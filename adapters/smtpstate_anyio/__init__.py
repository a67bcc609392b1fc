"""smtpstate on anyio: a server in two tiers and a client, on asyncio and trio."""

from smtpstate_anyio._auth import Authenticator as Authenticator
from smtpstate_anyio._auth import Users as Users
from smtpstate_anyio._auth import hashing as hashing
from smtpstate_anyio._client import AuthUnavailable as AuthUnavailable
from smtpstate_anyio._client import CannotConnect as CannotConnect
from smtpstate_anyio._client import Client as Client
from smtpstate_anyio._client import connect as connect
from smtpstate_anyio._driver import Driver as Driver
from smtpstate_anyio._driver import Machine as Machine
from smtpstate_anyio._listen import BoundListener as BoundListener
from smtpstate_anyio._listen import Listener as Listener
from smtpstate_anyio._listen import ListenerProxy as ListenerProxy
from smtpstate_anyio._listen import ListenerService as ListenerService
from smtpstate_anyio._listen import ListenerTls as ListenerTls
from smtpstate_anyio._messages import IncompleteMessage as IncompleteMessage
from smtpstate_anyio._messages import Message as Message
from smtpstate_anyio._messages import MessageBody as MessageBody
from smtpstate_anyio._messages import serve_messages as serve_messages
from smtpstate_anyio._observer import Observer as Observer
from smtpstate_anyio._server import serve as serve
from smtpstate_anyio._session import Session as Session
from smtpstate_anyio._source import Source as Source
