"""A Django e-mail backend: EMAIL_BACKEND = "django_backend.EmailBackend", wherever you put this file.

It reads the settings of Django's own: EMAIL_HOST, EMAIL_PORT, EMAIL_USE_TLS, EMAIL_USE_SSL, EMAIL_HOST_USER,
EMAIL_HOST_PASSWORD, EMAIL_TIMEOUT, EMAIL_SSL_CERTFILE and EMAIL_SSL_KEYFILE. What became of each recipient goes to the
receivers of `delivered`.
"""

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from email.utils import parseaddr
from ssl import SSLContext

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.dispatch import Signal

from smtpstate import Delivery, DeliveryError, Result, TlsMode, tls
from smtpstate.sasl import Credentials
from smtpstate_blocking import Client, connect

logger = logging.getLogger(__name__)

# Sent for each message that was tried: sender=EmailBackend, message=EmailMessage, delivery=Delivery.
delivered = Signal()


class NotDelivered(DeliveryError):
    """No recipient was accepted; `delivery` has the reason for each."""

    def __init__(self, delivery: Delivery) -> None:
        super().__init__("; ".join(f"{result.address}: {result.outcome}, {result.reply}" for result in delivery))
        self.delivery = delivery


class EmailBackend(BaseEmailBackend):
    """Sends by smtpstate. Threads that share one take turns.

    A message counts as sent when somebody was accepted, as with Django's own; the log has who was not. Where nobody
    was, NotDelivered is raised, and where there is no session another DeliveryError; neither with `fail_silently`.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        username: str | None = None,
        password: str | None = None,
        use_tls: bool | None = None,  # noqa: FBT001 - as Django's own has them
        fail_silently: bool = False,  # noqa: FBT001, FBT002
        use_ssl: bool | None = None,  # noqa: FBT001
        timeout: float | None = None,
        ssl_keyfile: str | None = None,
        ssl_certfile: str | None = None,
        **_ignored: object,
    ) -> None:
        super().__init__(fail_silently)
        self.host: str = settings.EMAIL_HOST if host is None else host
        self.port: int = settings.EMAIL_PORT if port is None else port
        self.username: str = settings.EMAIL_HOST_USER if username is None else username
        self.password: str = settings.EMAIL_HOST_PASSWORD if password is None else password
        self.use_tls: bool = settings.EMAIL_USE_TLS if use_tls is None else use_tls
        self.use_ssl: bool = settings.EMAIL_USE_SSL if use_ssl is None else use_ssl
        self.timeout: float | None = settings.EMAIL_TIMEOUT if timeout is None else timeout
        self.ssl_keyfile: str | None = settings.EMAIL_SSL_KEYFILE if ssl_keyfile is None else ssl_keyfile
        self.ssl_certfile: str | None = settings.EMAIL_SSL_CERTFILE if ssl_certfile is None else ssl_certfile
        if self.use_tls and self.use_ssl:
            raise ValueError("EMAIL_USE_TLS and EMAIL_USE_SSL exclude each other: one of them may be True")
        self.client: Client | None = None
        self._session = ExitStack()
        self._lock = threading.RLock()

    @property
    def tls_mode(self) -> TlsMode:
        if self.use_ssl:
            return TlsMode.IMPLICIT
        return TlsMode.REQUIRED if self.use_tls else TlsMode.OFF

    def ssl_context(self) -> SSLContext:
        """What TLS is done with; it verifies the server, by the system's authorities."""
        context = tls.client_context()
        if self.ssl_certfile:
            context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile or None)
        return context

    def open(self) -> bool | None:
        """Begins a session, greeted, in TLS if it is to be, and logged in if there is a user.

        True: it was begun. False: there was one. None: there is none, and `fail_silently`.
        """
        with self._lock:
            if self.client is not None:
                return False
            mode = self.tls_mode
            context = None if mode is TlsMode.OFF else self.ssl_context()
            host = f"[{self.host}]" if ":" in self.host else self.host
            try:
                with ExitStack() as stack:
                    session = connect(f"{host}:{self.port}", tls=mode, ssl_context=context, timeout=self.timeout)
                    client = stack.enter_context(session)
                    if self.username and self.password:
                        client.authenticate(Credentials(self.username, self.password))
                    self._session = stack.pop_all()
            except DeliveryError:
                if not self.fail_silently:
                    raise
                return None
            self.client = client
            return True

    def close(self) -> None:
        """Says goodbye, if there is a session."""
        with self._lock:
            self.client = None
            self._session.close()

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """How many were sent. It begins a session and ends it, unless `open` has begun one."""
        if not email_messages:
            return 0
        with self._lock:
            begun = self.open()
            if begun is None:
                return 0
            try:
                return sum(self._send(message) for message in email_messages)
            finally:
                if begun:
                    self.close()

    def _send(self, message: EmailMessage) -> bool:
        recipients = [_address(recipient) for recipient in message.recipients()]
        if not recipients:
            return False
        sender = _address(message.from_email) if message.from_email else ""
        try:
            self.open()  # again, if the last message has ended the session
            if self.client is None:
                return False
            try:
                delivery = self.client.send(message.message(), sender=sender, recipients=recipients)
            finally:
                if self.client.closed is not None:
                    self.close()
            delivered.send_robust(type(self), message=message, delivery=delivery)
            return self._judge(delivery)
        except DeliveryError:
            if not self.fail_silently:
                raise
            return False

    def _judge(self, delivery: Delivery) -> bool:
        refused = [result for result in delivery if result.outcome is not Result.ACCEPTED]
        if len(refused) == len(delivery.results):
            raise NotDelivered(delivery)
        for result in refused:
            logger.warning("not to %s: %s, %s", result.address, result.outcome, result.reply)
        return True


def _address(text: str) -> str:
    """The bare address in a header's value, such as `Me <me@example.com>`."""
    address = parseaddr(text)[1]
    if not address:  # it would be the null reverse-path
        raise ValueError(f"not an address: {text!r}")
    return address
