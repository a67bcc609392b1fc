"""OpenSSL can do DANE, too: both are held against the same server, with the same records."""

from __future__ import annotations

import re
import ssl
import threading
from hashlib import sha256, sha512
from typing import TYPE_CHECKING

import pytest
import trustme

from smtpstate.tls import Dane, Shown, Tlsa, public_key_of
from tests.peers.programs import needs, run
from tests.peers.test_tls_peers import typing

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

HOST = "mx.example.org"
ROOT = trustme.CA()
MIDDLE = ROOT.create_child_ca()
LEAF = MIDDLE.issue_cert(HOST)
STRANGER = trustme.CA()


def der(pem: trustme.Blob) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.bytes().decode())


CHAIN = (der(LEAF.cert_chain_pems[0]), der(MIDDLE.cert_pem), der(ROOT.cert_pem))
OF = {"leaf": CHAIN[0], "middle": CHAIN[1], "root": CHAIN[2], "stranger": der(STRANGER.cert_pem)}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Generator[int, None, None]:
    """A server that shows the whole chain."""
    directory: Path = tmp_path_factory.mktemp("dane")
    paths = {name: str(directory / name) for name in ("leaf", "key", "above")}
    LEAF.cert_chain_pems[0].write_to_path(paths["leaf"])
    LEAF.private_key_pem.write_to_path(paths["key"])
    for authority in (MIDDLE, ROOT):
        authority.cert_pem.write_to_path(paths["above"], append=True)
    files = ("-cert", paths["leaf"], "-key", paths["key"], "-cert_chain", paths["above"])
    with typing([needs("openssl"), "s_server", "-accept", "127.0.0.1:0", *files]) as server:
        server.until(b"ACCEPT")
        server.until(b"\n")
        match = re.search(rb"ACCEPT \S+:(\d+)\n", server.said)
        assert match is not None, server.said
        threading.Thread(target=server.rest, daemon=True).start()  # or it would wait until somebody reads
        yield int(match[1])


def made(usage: int, selector: int, matching: int, certificate: bytes) -> Tlsa:
    selected = certificate if selector == 0 else public_key_of(certificate) or b""
    digests = {0: selected, 1: sha256(selected).digest(), 2: sha512(selected).digest()}
    return Tlsa(usage, selector, matching, digests[matching])


def by_openssl(port: int, records: list[Tlsa]) -> bool:
    """Whether s_client, which trusts nobody, finds that one matches."""
    command = [needs("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-brief", "-verify_return_error"]
    command += ["-dane_tlsa_domain", HOST, "-dane_ee_no_namechecks"]
    for one in records:
        command += ["-dane_tlsa_rrdata", f"{one.usage} {one.selector} {one.matching} {one.data.hex()}"]
    done = run(command)
    said = done.stdout + done.stderr
    assert (b"Verification: OK" in said) is (done.returncode == 0), said
    return done.returncode == 0


def by_us(records: list[Tlsa]) -> bool:
    """Whether it is met by this chain, which ssl has verified where it has to."""
    policy = Dane(records)
    verified = policy.verifies
    return policy.unmet_by(Shown(HOST, CHAIN[0], CHAIN if verified else (), verified=verified)) is None


FORMS = [(selector, matching) for selector in (0, 1) for matching in (0, 1, 2)]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form[0]} {form[1]}")
@pytest.mark.parametrize("usage", [2, 3])
def test_a_record_means_the_same_to_both(port: int, usage: int, form: tuple[int, int]) -> None:
    found = {name: by_us([made(usage, *form, certificate)]) for name, certificate in OF.items()}
    assert found == {name: by_openssl(port, [made(usage, *form, certificate)]) for name, certificate in OF.items()}
    assert found == {name: name in (("middle", "root") if usage == 2 else ("leaf",)) for name in OF}


SETS = [
    pytest.param([made(3, 1, 1, OF["stranger"]), made(3, 0, 2, OF["leaf"])], True, True, id="one of two matches"),
    pytest.param([made(2, 1, 1, OF["root"]), made(3, 1, 1, OF["leaf"])], True, True, id="both usages match"),
    pytest.param([made(2, 1, 1, OF["stranger"]), made(3, 1, 1, OF["leaf"])], True, True, id="the end entity matches"),
    # Stricter than RFC 7672: one handshake cannot be both verified and not. See docs/decisions/0006.
    pytest.param([made(2, 1, 1, OF["root"]), made(3, 1, 1, OF["stranger"])], False, True, id="the authority matches"),
]


@pytest.mark.parametrize(("records", "ours", "theirs"), SETS)
def test_of_several_records_one_is_enough(port: int, records: list[Tlsa], ours: bool, theirs: bool) -> None:
    assert (by_us(records), by_openssl(port, records)) == (ours, theirs)
