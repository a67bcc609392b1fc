"""Servers that others wrote and that take mail from those alone who have logged in: joe, with a password."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.interop.peers import free_port
from tests.interop.servers import Server, serve
from tests.peers.programs import needs

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.peers.serving import Certificates

USER, RIGHT, WRONG = "joe", "pencil", "pen"
KEY = b"a key that signs tokens, and is long enough for SHA-256"

# Whom it let in it relays for. What a token needs is in its JWT alone, so nobody has to be asked.
_DOVECOT = """
mkdir -p /etc/dovecot/keys/default/HS256
cat >/etc/dovecot/keys/default/HS256/default <<.
{key}
.
cat >/etc/dovecot/oauth2 <<.
introspection_mode = local
local_validation_key_dict = fs:posix:prefix=/etc/dovecot/keys/
username_attribute = sub
.
cat >/etc/dovecot/dovecot.conf <<.
protocols = submission
version_ignore = yes
hostname = mx.example.org
log_path = /dev/stderr
ssl = required
ssl_cert = </srv/tls/chain.pem
ssl_key = </srv/tls/key.pem
ssl_ca = <$PWD/clients.pem
ssl_require_crl = no
ssl_verify_client_cert = yes
auth_ssl_username_from_cert = yes
auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256 oauthbearer xoauth2 external
auth_failure_delay = 0
mail_location = maildir:/stored
mail_uid = nobody
mail_gid = nogroup
first_valid_uid = 1
first_valid_gid = 1
submission_relay_host = 127.0.0.1
submission_relay_port = {relay}
submission_relay_trusted = yes
passdb {{
  driver = oauth2
  mechanisms = oauthbearer xoauth2
  args = /etc/dovecot/oauth2
}}
passdb {{
  driver = passwd-file
  mechanisms = external
  args = /etc/dovecot/certified
}}
passdb {{
  driver = passwd-file
  mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256
  args = /etc/dovecot/users
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/stored
}}
service submission-login {{
  inet_listener submission {{
    address = 127.0.0.1
    port = {port}
  }}
  inet_listener submissions {{
    port = 0
  }}
}}
.
echo '{user}:{{PLAIN}}{password}' >/etc/dovecot/users
echo '{user}:::::::nopassword=y' >/etc/dovecot/certified
dovecot -F
"""

# What it takes it throws away. Its own code, but for TLS.
_EXIM = """
user Debian-exim
install -d -o Debian-exim -g Debian-exim /var/spool/exim4
chown Debian-exim /srv/tls/key.pem
mkdir /etc/exim4
install -m 644 clients.pem /srv/tls/clients.pem
cat >/etc/exim4/exim4.conf <<'.'
primary_hostname = mx.example.org
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
log_file_path = /var/spool/exim4/%slog
keep_environment =
tls_advertise_hosts = *
tls_certificate = /srv/tls/chain.pem
tls_privatekey = /srv/tls/key.pem
tls_try_verify_hosts = *
tls_verify_certificates = /srv/tls/clients.pem
acl_smtp_rcpt = rcpt
acl_smtp_data = data
begin acl
rcpt:
  accept authenticated = *
  deny message = 5.7.1 Who are you?
data:
  accept
begin routers
all:
  driver = redirect
  data = :blackhole:
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and {{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if and {{{{eq{{$auth1}}{{{user}}}}}{{eq{{$auth2}}{{{password}}}}}}}}}
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = ${{if eq{{$auth1}}{{{user}}}{{{password}}}fail}}
external:
  driver = external
  public_name = EXTERNAL
  server_condition = ${{if eq{{${{certextract{{subject,CN}}{{$tls_in_peercert}}}}}}{{{user}}}}}
.
exim4 -bdf
"""

# Cyrus SASL is behind it, which Sendmail and Cyrus' own servers use, too.
_POSTFIX = """
install -m 600 -o root /srv/tls/key.pem /srv/tls/root.pem
cat >/etc/postfix/main.cf <<.
compatibility_level = 3.6
myhostname = mx.example.org
mydestination =
default_transport = discard
inet_interfaces = loopback-only
inet_protocols = ipv4
alias_maps =
alias_database =
maillog_file = /dev/stdout
smtpd_tls_cert_file = /srv/tls/chain.pem
smtpd_tls_key_file = /srv/tls/root.pem
smtpd_tls_security_level = encrypt
smtpd_sasl_auth_enable = yes
smtpd_sasl_security_options = noanonymous
smtpd_sasl_local_domain = mx.example.org
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_error_sleep_time = 0
.
cat >/etc/postfix/sasl/smtpd.conf <<.
pwcheck_method: auxprop
auxprop_plugin: sasldb
mech_list: PLAIN LOGIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256
.
echo {password} | saslpasswd2 -p -c -u mx.example.org {user}
chown postfix /etc/sasldb2
sed -i '/^smtp *inet/d' /etc/postfix/master.cf
echo '127.0.0.1:{port} inet n - n - - smtpd' >>/etc/postfix/master.cf
rm -f /var/lib/postfix/master.lock
postfix start-fg
"""

# LMTP for those alone whom its settings call administrators.
_CYRUS = """
user cyrus
install -d -o cyrus -g cyrus /var/lib/cyrus /run/cyrus/socket /run/cyrus/proc /run/cyrus/lock
chown -R cyrus /stored /srv/tls/key.pem
install -m 644 clients.pem /srv/tls/clients.pem
cat >/etc/imapd.conf <<.
configdirectory: /var/lib/cyrus
partition-default: /stored
proc_path: /run/cyrus/proc
mboxname_lockpath: /run/cyrus/lock
lmtpsocket: /run/cyrus/socket/lmtp
servername: mx.example.org
virtdomains: userid
defaultdomain: example.org
autocreate_quota: 0
autocreate_post: yes
autocreate_users: anyone
duplicatesuppression: no
lmtp_admins: {user}
allowplaintext: no
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_mech_list: PLAIN LOGIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256 EXTERNAL
tls_server_cert: /srv/tls/chain.pem
tls_server_key: /srv/tls/key.pem
tls_client_ca_file: /srv/tls/clients.pem
.
cat >/etc/cyrus.conf <<.
START {{
  recover cmd="/usr/sbin/cyrus ctl_cyrusdb -r"
}}
SERVICES {{
  lmtp cmd="lmtpd" listen="127.0.0.1:{port}" prefork=1
}}
EVENTS {{
}}
.
echo {password} | saslpasswd2 -p -c -u mx.example.org {user}
chown cyrus /etc/sasldb2
cyrmaster
"""


def token(user: str, key: bytes = KEY) -> str:
    """A JWT for that user; RFC 7519."""

    def encode(octets: bytes) -> str:
        return base64.urlsafe_b64encode(octets).decode().rstrip("=")

    parts = [{"alg": "HS256", "typ": "JWT"}, {"sub": user, "exp": 4_000_000_000, "iat": 1_700_000_000}]
    text = ".".join(encode(json.dumps(part).encode()) for part in parts)
    return f"{text}.{encode(hmac.digest(key, text.encode(), hashlib.sha256))}"


@contextmanager
def dovecot(directory: Path, certificates: Certificates, clients: bytes, relay: int) -> Generator[Server, None, None]:
    """Its submission server, which hands on to port `relay`. `clients` is the authority of clients' certificates."""
    needs("dovecot")
    (directory / "clients.pem").write_bytes(clients)
    port = free_port()
    key = base64.b64encode(KEY).decode()
    script = _DOVECOT.format(port=port, relay=relay, user=USER, password=RIGHT, key=key)
    with serve(directory, certificates, ("dovecot-submissiond",), script, port) as server:
        yield server


@contextmanager
def exim(directory: Path, certificates: Certificates, clients: bytes, _: int) -> Generator[Server, None, None]:
    (directory / "clients.pem").write_bytes(clients)
    port = free_port()
    script = _EXIM.format(port=port, user=USER, password=RIGHT)
    with serve(directory, certificates, ("exim4-daemon-light",), script, port) as server:
        yield server


@contextmanager
def postfix(directory: Path, certificates: Certificates, _: bytes, __: int) -> Generator[Server, None, None]:
    needs("postfix")
    port = free_port()
    script = _POSTFIX.format(port=port, user=USER, password=RIGHT)
    with serve(directory, certificates, ("sasl2-bin",), script, port) as server:
        yield server


@contextmanager
def cyrus(directory: Path, certificates: Certificates, clients: bytes, _: int) -> Generator[Server, None, None]:
    (directory / "clients.pem").write_bytes(clients)
    port = free_port()
    script = _CYRUS.format(port=port, user=USER, password=RIGHT)
    with serve(directory, certificates, ("cyrus-common", "sasl2-bin"), script, port) as server:
        yield server
