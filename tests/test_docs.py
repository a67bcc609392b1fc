"""Everything that README and the documentation tell people to type, typed."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shlex
import smtplib
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import tomllib
from asyncio.base_events import BaseEventLoop
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
import trustme

import smtpstate_anyio
import smtpstate_blocking
from smtpstate import CloseReason, ConnectionClosed, Limits, ServerConfig, ServerConnection, tls
from smtpstate_server import _cli
from smtpstate_server._exits import Exit
from smtpstate_testing import SmtpServer, run_transcript

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from contextlib import AbstractContextManager
    from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SECONDS = 60.0  # for whatever a snippet starts; none takes that long, unless it hangs
LETTER = b"Subject: hello\n\nhello\n"
STORED = LETTER.replace(b"\n", b"\r\n")


@dataclass(frozen=True)
class Snippet:
    page: str
    line: int
    language: str
    code: str
    output: str | None = None  # what the page says that it prints; "..." stands for anything
    index: int = 0  # among those of its page

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def snippets(path: Path) -> list[Snippet]:
    """The fenced blocks of a page; plain text right after a block is what that prints."""
    found: list[Snippet] = []
    lines = path.read_text("utf-8").splitlines()
    last_end, number = -1, 0
    while number < len(lines):
        fence = re.fullmatch(r"```(\S+)", lines[number])
        if fence is None:
            number += 1
            continue
        end = lines.index("```", number)
        code = "".join(f"{line}\n" for line in lines[number + 1 : end])
        if fence[1] == "text":
            if not any(lines[last_end + 1 : number]):
                found[-1] = replace(found[-1], output=code)
        elif re.fullmatch(r"\{.+\}|mermaid", fence[1]) is None:  # directives are Sphinx's, the diagram has its check
            page = path.relative_to(ROOT).as_posix()
            found.append(Snippet(page, number + 2, fence[1], code, index=len(found)))
        last_end, number = end, end + 1
    return found


SNIPPETS = {snippet.page: snippets(path) for path in PAGES for snippet in snippets(path)}


@dataclass
class Room:
    """A directory that is also a home, with what the snippets expect to find in it."""

    path: Path

    def __post_init__(self) -> None:
        authority = trustme.CA()
        pair = authority.issue_cert("127.0.0.1", "localhost")
        authority.cert_pem.write_to_path(str(self.path / "ca.pem"))
        pair.private_key_pem.write_to_path(str(self.path / "key.pem"))
        for blob in pair.cert_chain_pems:
            blob.write_to_path(str(self.path / "cert.pem"), append=True)
        (self.path / "mail.eml").write_bytes(LETTER)

    @property
    def server_context(self) -> ssl.SSLContext:
        return tls.server_context(self.path / "cert.pem", self.path / "key.pem")

    @property
    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.path / "ca.pem")

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "PYTEST_"))}
        paths = os.pathsep.join((str(ROOT), str(ROOT / "adapters")))
        return {**kept, "HOME": str(self.path), "PYTHONPATH": paths, "PYTHONWARNINGS": "error"}

    def run(self, *command: str, cwd: Path | None = None, **environment: str) -> str:
        """What a command prints; it has to end well, and in time."""
        done = subprocess.run(
            command,
            cwd=cwd or self.path,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(self, *command: str) -> Iterator[tuple[list[int], Callable[..., str]]]:
        """A command that listens: its ports, and what to call for all that it says until its end, `told` to or not."""
        process = subprocess.Popen(
            command, cwd=self.path, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdout is not None
        said: list[str] = []

        def end(*, told: bool = True) -> str:
            if told:
                process.terminate()
            said.append(process.communicate(timeout=SECONDS)[0])
            assert process.returncode == 0, "".join(said)
            return "".join(said)

        alarm = threading.Timer(SECONDS, process.kill)
        alarm.start()
        try:
            ports: list[int] = []
            while len(ports) < max(1, sum(word.startswith("--listen") for word in command)):
                line = process.stdout.readline()
                assert line, "".join(said)
                said.append(line)
                ports += map(int, re.findall(r"^listening on 127\.0\.0\.1:(\d+) \(", line))
            yield ports, end
        finally:
            alarm.cancel()
            process.kill()
            process.wait()
            process.stdout.close()

    def stored(self) -> bytes:
        """The one message in the Maildir."""
        [path] = (self.path / "mail" / "new").iterdir()
        return path.read_bytes()


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.chdir(tmp_path)
    return Room(tmp_path)


def post(port: int, context: ssl.SSLContext | None = None) -> None:
    with ExitStack() as stack:
        if context is None:
            client = stack.enter_context(smtplib.SMTP("127.0.0.1", port, timeout=SECONDS))
        else:
            client = stack.enter_context(smtplib.SMTP_SSL("127.0.0.1", port, timeout=SECONDS, context=context))
        client.sendmail("me@example.org", ["you@example.org"], STORED)


def execute(snippet: Snippet, code: str) -> str:
    out = StringIO()
    with redirect_stdout(out):
        # A module of its own name, so that what it defines is not taken for ours. Not ours: "from __future__".
        exec(compile(code, str(snippet), "exec", dont_inherit=True), {"__name__": "snippet"})
    return out.getvalue()


# Ways to run a snippet: each returns what it printed.


def in_memory(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch) -> str:
    """As it stands."""
    return execute(snippet, snippet.code)


def see_it(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch) -> str:
    """The first thing that anybody pastes: in ten lines, 421 4.4.2 after five minutes that take no time."""
    started = time.perf_counter()
    output = execute(snippet, snippet.code)
    assert time.perf_counter() - started < 10
    assert len(snippet.code.splitlines()) <= 10
    assert re.search(r"^421 4\.4\.2 ", output, re.MULTILINE)
    assert output.endswith("CloseReason.TIMEOUT 300.0\n")
    return output


class Listening:
    """The task_status of a server that a snippet starts without one."""

    def __init__(self) -> None:
        self.bound: list[smtpstate_anyio.BoundListener] = []
        self.event: anyio.Event | None = None

    def started(self, bound: list[smtpstate_anyio.BoundListener]) -> None:
        assert self.event is not None
        self.bound = bound
        self.event.set()


def serves(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch) -> str:
    """Serves on free ports, gets a message through each, and is cancelled."""
    code = re.sub(r'(127\.0\.0\.1(?::|", ))\d+', r"\g<1>0", snippet.code)
    listening, run = Listening(), anyio.run

    async def until_served(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        listening.event = anyio.Event()
        with anyio.fail_after(SECONDS):
            async with anyio.create_task_group() as group:
                group.start_soon(main)
                await listening.event.wait()
                for listener in listening.bound:
                    context = room.client_context if listener.tls == "implicit" else None
                    await anyio.to_thread.run_sync(post, listener.port, context)
                group.cancel_scope.cancel()

    monkeypatch.setattr(anyio, "run", lambda main: run(until_served, main))
    for name in ("serve", "serve_messages"):
        monkeypatch.setattr(smtpstate_anyio, name, partial(getattr(smtpstate_anyio, name), task_status=listening))
    output = execute(snippet, code)
    assert listening.bound
    return output


def serves_from_threads(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch) -> str:
    """Serves without an event loop on a free port, gets a message through, and is told to stop."""
    served: list[int] = []

    def until_served(serving: Callable[..., AbstractContextManager[list[smtpstate_blocking.BoundListener]]]) -> Any:
        def serve(handler: Any, _: str, **options: Any) -> None:
            with serving(handler, "127.0.0.1:0", **options) as [bound]:
                post(bound.port)
                served.append(bound.port)

        return serve

    monkeypatch.setattr(smtpstate_blocking, "serve", until_served(smtpstate_blocking.serving))
    monkeypatch.setattr(smtpstate_blocking, "serve_messages", until_served(smtpstate_blocking.serving_messages))
    output = execute(snippet, snippet.code)
    assert served
    return output


def stores_from_threads(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same, and leaves what it was sent in a file."""
    output = serves_from_threads(snippet, room, monkeypatch)
    [stored] = room.path.glob("[!m]*.eml")
    assert stored.read_bytes() == STORED
    return output


def stores(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch) -> str:
    """Serves, and leaves what it was sent in a file."""
    output = serves(snippet, room, monkeypatch)
    [stored] = room.path.glob("[!m]*.eml")
    assert stored.read_bytes() == STORED
    return output


def serves_in_a_loop(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch) -> str:
    """Serves by whatever asks the event loop for a server, on a free port; gets a message, and is cancelled."""
    ports: list[int] = []
    create_server, run = BaseEventLoop.create_server, asyncio.run

    async def listen(loop: Any, *args: Any, **options: Any) -> Any:
        server = await create_server(loop, *args, **options)
        ports.extend(sock.getsockname()[1] for sock in server.sockets)
        return server

    async def until_served(main: Coroutine[Any, Any, None]) -> None:
        async with asyncio.timeout(SECONDS):
            task = asyncio.create_task(main)
            while not ports:  # noqa: ASYNC110 - the event would have to be made in this loop and set from `listen`
                await asyncio.sleep(0.01)
            await asyncio.to_thread(post, ports[0])
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    monkeypatch.setattr(BaseEventLoop, "create_server", listen)
    monkeypatch.setattr(asyncio, "run", lambda main: run(until_served(main)))
    output = execute(snippet, re.sub(r'(127\.0\.0\.1(?::|", ))\d+', r"\g<1>0", snippet.code))
    assert ports
    return output


def stores_in_a_loop(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same, and leaves what it was sent in a file."""
    output = serves_in_a_loop(snippet, room, monkeypatch)
    [stored] = room.path.glob("[!m]*.eml")
    assert stored.read_bytes() == STORED
    return output


def connects(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch, *, messages: int = 1) -> str:
    """Sends to a server that stands in for the one it names."""
    monkeypatch.setenv("SSL_CERT_FILE", str(room.path / "ca.pem"))  # where OpenSSL finds its authorities
    with SmtpServer(tls=room.server_context) as server:
        code = snippet.code.replace("mx.example.org:25", f"{server.host}:{server.port}")
        code = code.replace('"mx.example.org", 25', f'"{server.host}", {server.port}')
        output = execute(snippet, code)
    assert len(server.inbox) == messages, output
    assert all(received.tls for received in server.inbox)
    return output


def collected(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch) -> str:
    """A test module; pytest runs it, with no plugin but ours and anyio's."""
    (room.path / "test_snippet.py").write_text(snippet.code, "utf-8")
    plugins = ("-p", "anyio.pytest_plugin", "-p", "smtpstate_testing.pytest_plugin", "-p", "no:cacheprovider")
    command = (sys.executable, "-m", "pytest", "-q", "-W", "error", *plugins, "test_snippet.py")
    output = room.run(*command, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert re.search(r"^\d+ passed", output, re.MULTILINE), output
    return output


def dialogue(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch) -> str:
    """A transcript: it goes as it says."""
    assert snippet.language == "none"
    return run_transcript(snippet.code)


def module(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch) -> str:
    """What another snippet of the page imports: it does nothing by itself."""
    assert execute(snippet, snippet.code) == ""
    return ""


def serve_command(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch) -> str:
    """`smtpstate serve`, perhaps after installing it: takes a message."""
    words = shlex.split(as_run_here(installed(snippet.code)))
    if "--listen" not in words:
        words += ["--listen", "127.0.0.1:0"]
    for other in SNIPPETS[snippet.page]:
        if WAYS[other.page][other.index] is module:
            (room.path / "inbox.py").write_text(other.code, "utf-8")
    with room.running(*words) as ([port, *_], stop):
        post(port)
        said = stop()
    if "--deliver" in words:
        assert "\nme@example.org ['you@example.org'] 25\n" in said
    else:
        assert room.stored().endswith(b"\r\n" + STORED)
    return re.sub(r"127\.0\.0\.1:\d+ \(", "127.0.0.1:2525 (", said)


def send_command(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch) -> str:
    """`smtpstate send`, to a `smtpstate serve` with the same home."""
    if sys.platform != "linux":
        pytest.skip("the page says where Linux keeps the certificate")
    serve = shlex.split(as_run_here("smtpstate serve --listen 127.0.0.1:2525"))
    with room.running(*serve) as ([port], stop):
        output = room.run("sh", "-c", as_run_here(snippet.code, port))
        said = stop()
    assert room.stored().endswith(b"\r\n" + STORED)
    assert "--ca" not in snippet.code or " tls=TLSv1.3/" in said
    return output


def controlled(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch) -> str:
    """Starts a controller on a port that it names, sends to it, and stops it; imports what the examples have."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "examples")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return execute(snippet, snippet.code.replace("8025", str(port)))


def with_examples(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch) -> str:
    """As it stands, beside the examples."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "examples")
    return execute(snippet, snippet.code)


def django_settings(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch) -> str:
    """Settings of a Django project: each is one that the backend of the example takes."""
    named: dict[str, object] = {}
    exec(compile(snippet.code, str(snippet), "exec", dont_inherit=True), named)
    backend = (ROOT / "docs" / "examples" / "django_backend.py").read_text("utf-8")
    assert named["EMAIL_BACKEND"] == "myapp.django_backend.EmailBackend"
    assert all(f"settings.{name} if " in backend for name in named if name.isupper() and name != "EMAIL_BACKEND")
    return ""


def command_for_tests(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs tests. Where it is all of them only these here are collected: it is what runs us."""
    program, *words = shlex.split(installed(snippet.code))
    assert program.rpartition("/")[2] == "python"
    if not words[-1].endswith(".py"):
        words += ["--collect-only", "tests/test_docs.py"]
    return room.run(sys.executable, *words, "-p", "no:cacheprovider", cwd=ROOT)


def benchmark(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch) -> str:
    """Says what it would measure: that takes a quarter of an hour. tests/bench runs a small one."""
    program, script, *options = shlex.split(snippet.code)
    assert program == "python"
    return room.run(sys.executable, str(ROOT / script), *options, "--dry-run")


def driver_command(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch) -> str:
    """The example that takes one connection."""
    program, script, _ = shlex.split(snippet.code)
    assert program == "python"
    with room.running(sys.executable, str(ROOT / script), "0") as ([port], stop):
        post(port)
        return stop(told=False)


def as_run_here(code: str, port: int = 0) -> str:
    """A line of shell, with this checkout for what is installed and `port` of 127.0.0.1 for every other."""
    code = re.sub(r"(?<!\S)\S*\bsmtpstate (?=serve|send)", f"{shlex.quote(sys.executable)} -m smtpstate_server ", code)
    return re.sub(r"(?:127\.0\.0\.1|0\.0\.0\.0):\d+", f"127.0.0.1:{port}", code)


def installed(code: str) -> str:
    """The last command of a line that first installs us; the extra that it installs has to exist."""
    *before, last = (part.strip() for part in code.split(" && "))
    if before:
        venv, pip = before
        match = re.fullmatch(r"\.venv/bin/pip install -q (?:-e )?'\.\[(\w+)\]'", pip)
        assert venv == "python3 -m venv .venv"
        assert match is not None
        assert match[1] in extras()
    return last


def extras() -> set[str]:
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"])


# page -> how each of its blocks is run, in order
WAYS: dict[str, list[Callable[[Snippet, Room, pytest.MonkeyPatch], str]]] = {
    "README.md": [see_it, serve_command, send_command, command_for_tests, stores, serves, connects, collected],
    "docs/asyncio.md": [stores_in_a_loop, serves_in_a_loop, connects, connects],
    "docs/blocking.md": [connects, stores_from_threads, serves_from_threads, in_memory],
    "docs/coming-from.md": [controlled, controlled, serves, serves, connects, connects, connects],
    "docs/deviations.md": [in_memory, in_memory],
    "docs/embed.md": [in_memory, in_memory, in_memory, driver_command, with_examples, in_memory],
    "docs/extend.md": [in_memory],
    "docs/near-terminators.md": [command_for_tests],
    "docs/other-frameworks.md": [django_settings],
    "docs/receive.md": [stores, serves, serves, serves, serves, serves, in_memory],
    "docs/run-a-server.md": [serve_command, serve_command, module, serve_command, send_command],
    "docs/security.md": [command_for_tests],
    "docs/send.md": [connects, in_memory, connects, partial(connects, messages=3), connects],
    "docs/test-my-app.md": [*[collected] * 5, in_memory, in_memory, in_memory],
    "docs/test-smtp.md": [dialogue, *[in_memory] * 4, collected, collected],
    "docs/trickle.md": [in_memory, in_memory, benchmark],
}


def test_every_block_has_a_way_to_run_it() -> None:
    assert {page: len(ways) for page, ways in WAYS.items()} == {page: len(found) for page, found in SNIPPETS.items()}


@pytest.mark.parametrize("snippet", [s for found in SNIPPETS.values() for s in found], ids=str)
def test_what_the_page_says_to_type_works(snippet: Snippet, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    output = WAYS[snippet.page][snippet.index](snippet, room, monkeypatch)
    if snippet.output is not None:
        said = re.escape(snippet.output.strip()).replace(re.escape("..."), ".*")
        assert re.search(said, output.replace("\r\n", "\n"), re.DOTALL), output


# What the pages say beside their blocks.


@pytest.mark.parametrize("heading", ["Run it", "Test it"])
def test_the_readme_has_one_line_for_those_in_a_hurry(heading: str) -> None:
    section = re.split(r"^## ", (ROOT / "README.md").read_text("utf-8"), flags=re.MULTILINE)
    [text] = [part for part in section if part.startswith(f"{heading}\n")]
    first = re.search(r"^```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert first is not None
    assert first[1].count("\n") == 1


def test_the_extras_that_the_pages_name_exist() -> None:
    named = {extra for path in PAGES for extra in re.findall(r"smtpstate\[(\w+)\]", path.read_text("utf-8"))}
    assert named
    assert named <= extras()


def test_one_import_is_all_that_changes_for_handlers_of_aiosmtpd() -> None:
    before, after, *_ = (snippet.code for snippet in SNIPPETS["docs/coming-from.md"])
    assert before.replace("from aiosmtpd.controller import", "from aiosmtpd_shim import") == after


@pytest.mark.parametrize("command", ["serve", "send", "passwd"])
def test_the_page_on_the_server_names_every_option(command: str) -> None:
    page = (ROOT / "docs" / "run-a-server.md").read_text("utf-8")
    described = set(re.findall(r"^\| .*?`(--[\w-]+)|, `(--[\w-]+)", page, re.MULTILINE))
    names = {name for pair in described for name in pair if name}
    options = {
        option
        for parameter in _cli._command.commands[command].params
        for option in parameter.opts
        if option.startswith("--")
    }
    assert options <= names


def test_the_page_on_the_server_names_every_exit_code() -> None:
    page = (ROOT / "docs" / "run-a-server.md").read_text("utf-8")
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "adapters" / "smtpstate_server").glob("*.py"))
    used = {code.value for code in Exit if f"Exit.{code.name}" in sources}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == used


def test_what_is_generated_is_fresh(room: Room) -> None:
    room.run(sys.executable, str(ROOT / "docs" / "diagrams.py"), "--check")


# The driver beside the contract, over loopback.


@pytest.fixture(scope="module")
def driver() -> ModuleType:
    specification = importlib.util.spec_from_file_location("driver", ROOT / "docs" / "examples" / "driver.py")
    assert specification is not None
    assert specification.loader is not None
    found = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(found)
    return found


@contextmanager
def driven(
    driver: ModuleType, config: ServerConfig, context: ssl.SSLContext | None = None
) -> Iterator[tuple[int, list[object]]]:
    """One connection taken by the driver in a thread: its port, and its events, complete when this is left."""
    events: list[object] = []

    def take() -> None:
        sock, _ = listener.accept()
        connection = ServerConnection(config, clock=time.monotonic)
        machine = connection if context is None else tls.secure(connection, context)

        def on_event(event: object) -> None:
            events.append(event)
            if connection.owed is not None:
                connection.accept()

        with sock:
            events.append(driver.drive(sock, machine, on_event))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SECONDS)
        thread = threading.Thread(target=take)
        thread.start()
        yield listener.getsockname()[1], events
        thread.join(SECONDS)
        assert not thread.is_alive()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "STARTTLS"])
def test_the_driver_serves_smtplib(driver: ModuleType, room: Room, secure: bool) -> None:
    context = room.server_context if secure else None
    config = ServerConfig("mx.example.org", starttls=secure)
    with driven(driver, config, context) as (port, events), smtplib.SMTP("127.0.0.1", port, timeout=SECONDS) as client:
        if secure:
            client.starttls(context=room.client_context)
        client.sendmail("me@example.org", ["you@example.org"], b"Subject: x\r\n\r\n" + b"." * 300_000)
    assert events[-1] == ConnectionClosed(CloseReason.QUIT)
    assert [type(event).__name__ for event in events].count("EndOfMessage") == 1


def test_the_driver_keeps_the_deadline(driver: ModuleType) -> None:
    config = ServerConfig("mx.example.org", limits=Limits(command_seconds=0.05))
    with driven(driver, config) as (port, events), socket.create_connection(("127.0.0.1", port), SECONDS) as peer:
        said = peer.makefile("rb").read()
    assert b"\r\n421 4.4.2 " in said
    assert isinstance(events[-1], ConnectionClosed)
    assert events[-1].reason is CloseReason.TIMEOUT


def test_the_driver_survives_a_reset(driver: ModuleType) -> None:
    config = ServerConfig("mx.example.org")
    with driven(driver, config) as (port, events), socket.create_connection(("127.0.0.1", port), SECONDS) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing sends RST
    assert isinstance(events[-1], ConnectionClosed)
    assert events[-1].reason is CloseReason.LOST


def test_the_support_table_names_tests_that_exist() -> None:
    named = re.findall(r"`(tests/[\w/.]+)`", (ROOT / "docs" / "support.md").read_text())
    assert len(named) > 20
    assert [path for path in named if not (ROOT / path).exists()] == []
