"""A page in a real browser that is told to talk to a mail server: it learns nothing, and is cut (ALPACA)."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.peers.programs import SECONDS, needs

if TYPE_CHECKING:
    import ssl
    from collections.abc import Generator
    from pathlib import Path

    from tests.peers.serving import Serving

SECRET = "a1b2c3d4e5f6"

# What the page does: each kind of request, and a report of what became of it.
PAGE = """<!doctype html><script>
(async () => {
  const envelope = "EHLO x\\r\\nMAIL FROM:<%(secret)s@example.org>\\r\\nRCPT TO:<b@example.org>\\r\\n";
  const body = envelope + "DATA\\r\\n%(secret)s\\r\\n.\\r\\n";
  const wishes = [{}, {method: "HEAD"}, {method: "POST", body}, {method: "POST", body, mode: "no-cors"}];
  const found = [];
  for (const target of %(targets)s)
    for (const wish of wishes)
      try {
        const answer = await fetch(`${target}/%(secret)s`, {cache: "no-store", ...wish});
        found.push(`${answer.type} ${answer.status} ${await answer.text()}`);
      } catch (error) {
        found.push(String(error));
      }
  await fetch("/report", {method: "POST", body: JSON.stringify(found)});
})();
</script>"""


class Site(ThreadingHTTPServer):
    """A web server with one page; what the page reports comes out of `reports`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.page = ""
        self.reports: queue.Queue[list[str]] = queue.Queue()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser opens connections that it does not use, and drops them as it likes."""


class Handler(BaseHTTPRequestHandler):
    @property
    def site(self) -> Site:
        assert isinstance(self.server, Site)
        return self.server

    def do_GET(self) -> None:
        self.answer(self.site.page or "hello")

    def do_HEAD(self) -> None:
        self.answer("")

    def do_POST(self) -> None:
        said = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/report":
            self.site.reports.put(json.loads(said))
        self.answer("hello")

    def answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """To nobody."""


@contextmanager
def site(context: ssl.SSLContext | None = None) -> Generator[Site, None, None]:
    with Site() as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(SECONDS)


def browse(directory: Path, targets: list[str]) -> list[str]:
    """What a page learns when it asks for these."""
    browser = [needs("chromium-headless-shell"), "--no-sandbox", "--disable-gpu", "--no-first-run"]
    # It would go no further than the certificate, which would show nothing.
    options = ["--ignore-certificate-errors", f"--user-data-dir={directory}", "--remote-debugging-port=0"]
    with site() as home:
        home.page = PAGE % {"secret": SECRET, "targets": json.dumps(targets)}
        url = f"http://127.0.0.1:{home.server_port}/"
        environment = {"HOME": str(directory), "PATH": "/usr/bin:/bin", "LC_ALL": "C"}
        with subprocess.Popen(
            [*browser, *options, url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        ) as process:
            try:
                return home.reports.get(timeout=SECONDS)
            finally:
                os.killpg(process.pid, signal.SIGKILL)  # what PATH has is a script, and its children are many


FAILED = "TypeError: Failed to fetch"


def test_a_page_learns_nothing_from_our_tls_port_and_is_cut(serving: Serving, tmp_path: Path) -> None:
    """The last of them shows that this browser reaches who lets it, with the same certificate."""
    logged = len(serving.log.read_text())
    with site(serving.certificates.server) as other:
        ports = (f"https://127.0.0.1:{serving.tls_port}", f"http://127.0.0.1:{serving.tls_port}")
        found = browse(tmp_path, [*ports, f"https://127.0.0.1:{other.server_port}"])
    assert found[:8] == [FAILED] * 8
    assert found[8:] == ["cors 200 hello", "cors 200 ", "cors 200 hello", "opaque 0 "]
    serving.settles()
    ends = [line.rsplit("result=")[1] for line in serving.log.read_text()[logged:].splitlines() if "result=" in line]
    assert ends.count("TLS_FAILED/PROTOCOL") >= 4
    assert ends.count("TLS_FAILED/NOT_TLS") >= 4
    assert set(ends) <= {"TLS_FAILED/PROTOCOL", "TLS_FAILED/NOT_TLS", "EOF", "LOST"}, "the others said nothing at all"
    assert serving.take() == []
