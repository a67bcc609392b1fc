"""One Postfix and one server of ours for all the sessions here."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import pytest

from smtpstate import Limits
from tests.differential import ours
from tests.differential.postfix import Postfix
from tests.differential.rows import DOMAIN, ERRORS, JUNK, MESSAGE, RECIPIENTS
from tests.peers.conftest import certificates

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from tests.peers.serving import Certificates

__all__ = ["certificates"]

# What both are told alike, and nothing that asks the network.
SETTINGS: Final = {
    "compatibility_level": "3.6",
    "myhostname": f"mx.{DOMAIN}",
    "mydestination": DOMAIN,
    "myorigin": DOMAIN,
    "mynetworks": "192.0.2.1/32",
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "alias_maps": "",
    "local_recipient_maps": "",
    "smtpd_peername_lookup": "no",
    "smtpd_forbid_bare_newline": "normalize",
    "smtpd_forbid_bare_newline_exclusions": "",
    "smtpd_forbid_unauth_pipelining": "yes",
    "smtpd_helo_required": "yes",
    "strict_rfc821_envelopes": "yes",
    "smtputf8_enable": "no",
    "smtpd_helo_restrictions": "reject_invalid_helo_hostname",
    "smtpd_delay_reject": "no",
    "smtpd_relay_restrictions": "reject_unauth_destination",
    "smtpd_recipient_restrictions": "static:HOLD",
    "smtpd_discard_ehlo_keywords": "dsn, etrn",
    "smtpd_error_sleep_time": "0",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_tls_security_level": "may",
    "smtpd_recipient_limit": str(RECIPIENTS),
    "smtpd_recipient_overshoot_limit": str(RECIPIENTS),
    "smtpd_hard_error_limit": str(ERRORS),
    "smtpd_junk_command_limit": str(JUNK),
    "message_size_limit": str(MESSAGE),
    "cleanup_replace_stray_cr_lf": "no",  # it would make spaces of them, and hide what is to be compared
    "in_flow_delay": "0",
    "local_header_rewrite_clients": "",
    "notify_classes": "",
}


OUR_LIMITS: Final = Limits(message=MESSAGE, recipients=RECIPIENTS, errors=ERRORS, junk=JUNK, error_delay_seconds=0)


@contextmanager
def running_postfix(certificates: Certificates, settings: Mapping[str, str]) -> Generator[Postfix, None, None]:
    # Not below tmp_path, where only root may look: most of Postfix runs as somebody else.
    with TemporaryDirectory(prefix="postfix-") as directory:
        home = Path(directory)
        home.chmod(0o755)
        tls = {"smtpd_tls_cert_file": str(certificates.chain), "smtpd_tls_key_file": str(certificates.key)}
        server = Postfix(home, {**settings, **tls})
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="module")
def postfix(certificates: Certificates) -> Generator[Postfix, None, None]:
    with running_postfix(certificates, SETTINGS) as server:
        yield server


@pytest.fixture(scope="module")
def reporting_postfix(certificates: Certificates) -> Generator[Postfix, None, None]:
    """One that offers DSN."""
    with running_postfix(certificates, {**SETTINGS, "smtpd_discard_ehlo_keywords": "etrn"}) as server:
        yield server


@pytest.fixture(scope="module")
def trusting_postfix(certificates: Certificates) -> Generator[Postfix, None, None]:
    """One that believes whoever is on this host about others, and offers SMTPUTF8."""
    trusting = dict.fromkeys(("smtpd_authorized_xclient_hosts", "smtpd_authorized_xforward_hosts"), "127.0.0.1")
    settings = {**SETTINGS, **trusting, "smtputf8_enable": "yes", "inet_protocols": "all"}  # for addresses of IPv6
    with running_postfix(certificates, settings) as server:
        yield server


@pytest.fixture(scope="module")
def our_server(certificates: Certificates) -> Generator[ours.Ours, None, None]:
    with ours.running(DOMAIN, certificates.server, OUR_LIMITS) as server:
        yield server
