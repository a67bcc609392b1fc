"""Mail servers log in at `smtpstate serve --users`, to hand on what they were given."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.interop.headers import without
from tests.interop.peers import staged, until
from tests.interop.test_relays import BARE, COURIER, COURIER_PACKAGES, DMA, EXIM, OPENSMTPD, POSTFIX, SENDMAIL
from tests.peers.contents import CONTENTS
from tests.peers.programs import needs
from tests.peers.serving import RECIPIENT, SENDER, Certificates
from tests.peers.test_auth_peers import RIGHT, Login

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

OCTETS = CONTENTS[0].octets

_POSTFIX = """smtp_tls_security_level = encrypt
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = static:joe:{password}
smtp_sasl_security_options = noanonymous
smtp_sasl_mechanism_filter = """
_EXIM = """hosts_require_tls = *
  hosts_require_auth = *
begin authenticators
client:
  driver = plaintext
  public_name = """
_SENDMAIL = SENDMAIL.replace(
    "FEATURE(`nocanonify')",
    "define(`confAUTH_MECHANISMS', `{options}')\nFEATURE(`nocanonify')\nFEATURE(`authinfo', `hash /etc/mail/authinfo')",
).replace(
    "submit()",
    'echo \'AuthInfo:127.0.0.1 "U:joe" "P:{password}"\' | /usr/libexec/sendmail/makemap hash /etc/mail/authinfo\n'
    "chmod 600 /etc/mail/authinfo.db\nsubmit()",
)
_OPENSMTPD = OPENSMTPD.replace(
    "listen on socket", 'table secrets {{ joe = "joe:{password}" }}\nlisten on socket'
).replace("{options}://127.0.0.1:{port}", "{options}://joe@127.0.0.1:{port} auth <secrets>")
_DMA = DMA.replace(": >/etc/dma/auth.conf", "echo 'joe|127.0.0.1:{password}' >/etc/dma/auth.conf")
_COURIER = COURIER.replace(
    "makealiases", "echo '[127.0.0.1],{port} joe {password}' >/etc/courier/esmtpauthclient\nmakealiases"
)


class Row(NamedTuple):
    """A mail server; `options` go into its settings, and header fields it `rewrites` are not compared."""

    name: str
    packages: tuple[str, ...]
    setup: str
    options: str
    mechanism: str
    reason: str
    rewrites: str = ""


ROWS = (
    Row("Postfix", (), POSTFIX, f"{_POSTFIX}plain", "PLAIN", "Cyrus SASL, an initial response"),
    Row("Postfix", (), POSTFIX, f"{_POSTFIX}scram-sha-256", "SCRAM-SHA-256", "Cyrus SASL, where -PLUS is offered too"),
    Row("Exim", ("exim4-daemon-light",), EXIM, f"{_EXIM}PLAIN\n  client_send = ^joe^{{password}}", "PLAIN", "its own"),
    Row(
        "Exim", ("exim4-daemon-light",), EXIM, f"{_EXIM}LOGIN\n  client_send = : joe : {{password}}", "LOGIN", "its own"
    ),
    Row("OpenSMTPD", ("opensmtpd",), _OPENSMTPD, "smtp+tls", "PLAIN", "its own"),
    Row("sendmail", ("sendmail-bin", "sendmail-cf"), _SENDMAIL, "SCRAM-SHA-256", "SCRAM-SHA-256", "Cyrus SASL"),
    Row("dma", ("dma",), _DMA, "SECURETRANSFER\nSTARTTLS\nAUTHPATH /etc/dma/auth.conf", "LOGIN", "its own"),
    Row("Courier", COURIER_PACKAGES, _COURIER, "/SECURITY=REQUIRED", "PLAIN", "its own", BARE[1]),
)


@pytest.fixture(scope="module")
def login(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Generator[Login, None, None]:
    started = Login(tmp_path_factory.mktemp("login"), certificates, "SCRAM-SHA-256")
    try:
        yield started
        started.stop()
    finally:
        started.process.kill()
        started.process.wait()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name}, {row.mechanism}")
def test_a_mail_server_that_logs_in_may_send(login: Login, tmp_path: Path, row: Row) -> None:
    if row.name == "Postfix":
        needs("postfix")
    values = {"port": login.submission, "sender": SENDER, "recipient": RECIPIENT, "password": RIGHT, "starttls": 1}
    script = row.setup.format(**values, options=row.options.format(**values))
    (tmp_path / "1.eml").write_bytes(OCTETS.replace(b"\r\n", b"\n"))
    (tmp_path / "ca.pem").write_bytes(login.certificates.ca.read_bytes())
    new = login.home / "mail" / "new"
    with staged(tmp_path, row.packages, f"{script}submit <1.eml\ncat\n") as process:
        until(process, tmp_path, lambda: any(new.iterdir()))
        [stored] = login.take()
    assert re.findall(r": AUTH (\S+), user='joe'", login.log.read_text())[-1] == row.mechanism
    assert stored[:2] == (SENDER, RECIPIENT)
    assert stored.protocol in ("ESMTPSA", "UTF8SMTPSA")
    assert without(f"received {row.rewrites}", stored.content) == without(row.rewrites, OCTETS)
