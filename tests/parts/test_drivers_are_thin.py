"""Drivers stay thin: what each imports, what it asks a machine for, and how long it is.

A rule of SMTP or TLS in one would be missing in the others.
"""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from smtpstate_parts.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
ADAPTERS = ROOT / "adapters"
EXAMPLE = ROOT / "docs" / "examples" / "driver.py"

# Lines of code, without docstrings, comments and what is blank. Who needs more has a rule in it that belongs elsewhere.
LONGEST = {
    ADAPTERS / "smtpstate_anyio" / "_driver.py": 150,
    ADAPTERS / "smtpstate_asyncio" / "_driver.py": 165,
    ADAPTERS / "smtpstate_blocking" / "_driver.py": 150,
    EXAMPLE: 120,
}
# Of the core: what a machine asks for, and nothing that it says. The example makes machines, too, for it is a program.
FROM_THE_CORE = {"smtpstate": {"Flow"}, "smtpstate_parts.machine": {"Machine"}, "smtpstate_blocking._bell": {"Bell"}}
FOR_THE_EXAMPLE = {
    "smtpstate": {
        *("ClientConnection", "ClientEvent", "ConnectionClosed", "Flow", "Peer"),
        *("ServerConfig", "ServerConnection", "ServerEvent", "tls"),
    },
    "smtpstate.delivery": {"Procedure", "Wants"},
}
OUTSIDE = {
    *("__future__", "anyio", "asyncio", "collections", "contextlib", "functools", "math", "select", "selectors"),
    *("socket", "sys", "time", "typing"),
}
ASKED = {name for name in vars(Machine) if not name.startswith("_")}

drivers = pytest.mark.parametrize("path", LONGEST, ids=lambda path: path.parent.name)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def code_lines(path: Path) -> int:
    """How many lines hold anything but a docstring or a comment."""
    source = path.read_text()
    prose: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            prose.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in blank:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - prose)


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Each module that is imported from, and each name."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def test_every_adapter_has_its_driver_here() -> None:
    assert {path for path in LONGEST if path != EXAMPLE} == set(ADAPTERS.glob("*/_driver.py"))


@drivers
def test_a_driver_imports_no_rule(path: Path) -> None:
    allowed = FOR_THE_EXAMPLE if path == EXAMPLE else FROM_THE_CORE
    for module, name in imports(path):
        root = module.partition(".")[0]
        assert root in OUTSIDE or name in allowed.get(module, set()), (module, name)
        assert root != "ssl"


@drivers
def test_a_driver_asks_a_machine_for_what_every_machine_has(path: Path) -> None:
    asked = {
        node.attr
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("machine", "self.machine")
    }
    assert len(asked) >= 5
    assert asked <= ASKED


@drivers
def test_a_driver_decides_by_no_text(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                text = isinstance(side, ast.Constant) and isinstance(side.value, str | bytes)
                assert not text or ast.unparse(node) in ("sys.platform == 'win32'", "__name__ == '__main__'")


@drivers
def test_a_driver_is_read_in_five_minutes(path: Path) -> None:
    assert code_lines(path) <= LONGEST[path]
