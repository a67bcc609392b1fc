"""What adapters share waits for nothing: what it imports, and that no adapter is among it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import smtpstate_parts

MODULES = sorted(Path(smtpstate_parts.__file__).parent.glob("*.py"))

# It may ask what time it is, draw random numbers, write into the log and name an exception of `socket` or `ssl`; it may
# open nothing, and know of no loop, thread or descriptor.
FROM = {"socket": {"gaierror", "gethostname"}, "ssl": {"SSLCertVerificationError", "SSLContext", "SSLError"}}
STDLIB = {
    *("__future__", "codecs", "collections", "copy", "dataclasses", "email", "enum", "errno", "io", "ipaddress"),
    *("logging", "os", "re", "secrets", "time", "typing"),
}
CALLS = {"open", "sleep"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_it_imports_nothing_that_waits(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= STDLIB
        elif isinstance(node, ast.ImportFrom):
            root = (node.module or "").split(".")[0]
            names = {alias.name for alias in node.names}
            assert root in STDLIB | {"smtpstate", "smtpstate_parts"} or names <= FROM.get(root, set()), node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_nothing_in_it_awaits_opens_or_sleeps(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith)
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
            assert name not in CALLS, ast.unparse(node)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_part_is_not_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500
