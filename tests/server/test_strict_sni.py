"""`smtpstate serve --strict-sni`: who asks for a name that the certificate does not have is not let in."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from smtpstate_server._certificate import KeyPair
from smtpstate_server._exits import Exit
from tests.server.running import SECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.running import Home, Serve

CA = trustme.CA()


def written(directory: Path, *names: str) -> tuple[Path, Path]:
    certificate = CA.issue_cert(*names)
    paths = directory / "site.pem", directory / "site.key"
    certificate.private_key_pem.write_to_path(str(paths[1]))
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(paths[0]), append=True)
    return paths


def knock(port: int, name: str | None, *protocols: str) -> str:
    """The code of the greeting, or why there was none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(protocols)
    plain = socket.create_connection(("127.0.0.1", port), SECONDS)
    try:
        with plain, context.wrap_socket(plain, server_hostname=name) as client:
            return client.recv(3).decode()
    except ssl.SSLError as error:
        return str(error)


def test_a_certificate_tells_its_names(tmp_path: Path) -> None:
    assert KeyPair(*written(tmp_path, "mx.example.org", "*.example.net", "192.0.2.1")).names == {
        "mx.example.org",
        "*.example.net",
    }


@pytest.mark.parametrize("strict", [False, True])
def test_only_names_of_the_certificate_may_be_asked_for(serve: Serve, home: Home, strict: bool) -> None:
    certificate, key = written(home.path, "mx.example.org", "*.example.net")
    arguments = ["--listen-tls", "127.0.0.1:0", "--tls-cert", str(certificate), "--tls-key", str(key)]
    served = serve(*arguments, *(["--strict-sni"] if strict else []))
    for name in ("mx.example.org", "a.example.net"):
        assert knock(served.port, name) == "220"
    others: tuple[str | None, ...] = ("example.net", "other.example.org", None)
    for other in others:
        answer = knock(served.port, other)
        assert ("unrecognized name" in answer) if strict else (answer == "220")
    assert "no application protocol" in knock(served.port, "mx.example.org", "h2")
    assert served.stop() == Exit.OK
    ends = [line.rsplit("result=")[1].strip() for line in served.log if " result=" in line]
    assert ends.count("TLS_FAILED/NAME") == (3 if strict else 0)
    assert ends.count("TLS_FAILED/PROTOCOL") == 1


def test_our_own_certificate_has_the_name_that_we_go_by(serve: Serve) -> None:
    served = serve("--listen-tls", "127.0.0.1:0", "--strict-sni", "--hostname", "mx.example.org")
    assert [knock(served.port, name) for name in ("mx.example.org", "localhost")] == ["220", "220"]
    assert "unrecognized name" in knock(served.port, "other.example.org")


def test_a_certificate_without_a_name_lets_nobody_in_so_nothing_starts(home: Home) -> None:
    certificate, key = written(home.path, "192.0.2.1")
    done = home.run(
        "serve", "--listen", "127.0.0.1:0", "--strict-sni", "--tls-cert", str(certificate), "--tls-key", str(key)
    )
    assert done.returncode == Exit.CONFIG
    assert b"is for no host name, so --strict-sni would let nobody in" in done.stderr
