"""The core is pure: what it imports, in which order its modules stand, and which words it may not know."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import smtpstate

CORE = Path(smtpstate.__file__).parent
MODULES = sorted(CORE.glob("*.py"))

# Nothing ambient: no I/O, no clock, no randomness, no logger (architecture, law 5). tls.py and its contexts have ssl.
FORBIDDEN = {
    "asyncio",
    "datetime",
    "io",
    "logging",
    "os",
    "pathlib",
    "random",
    "secrets",
    "select",
    "selectors",
    "socket",
    "ssl",
    "subprocess",
    "sys",
    "threading",
    "time",
    "uuid",
}
MAY = {
    "tls": {"ssl", "contextlib"},
    "_contexts": {"ssl", "contextlib", "pathlib"},  # pathlib for a type
    "_sslobject": {"ssl"},
}

# A module imports from those on its left, and from none beside it.
LAYERS = (
    {"_errors", "_abnf", "_verbs", "_evidence", "_lines", "_networks", "_newlines", "_output"},
    {"_address", "_params", "_dot", "_chunk", "_forbidden", "_keys", "_policy"},
    {"_clienthello", "_carried", "_replies", "_capabilities", "_xclient"},
    {"_tlspolicy", "_commands", "_sasl"},
    {"_contexts", "_sslobject", "_syntax", "extensions", "_scram", "_mechanisms", "_international", "_quota"},
    {"_state", "_events", "_choice"},
    {"_budget", "_early", "_intake", "_outcomes", "_trace", "_wire"},
    {"_config", "_closing", "_conduct", "_proxy", "_questions", "policy"},
    {"_admission", "_conversation", "_envelope", "_listening", "_outstanding"},
    {"_reception"},
    {"_hearing"},
    {"_server", "_client"},
    {"_delivery"},
    {"_authentication", "_batches"},
    {"__init__", "delivery", "proxy", "sasl", "trace"},
    {"tls"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imports(path: Path) -> set[str]:
    """The full names of all modules that a file imports, at its top or elsewhere, for types or in earnest."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute"
            assert node.module is not None
            found.add(node.module)
    return found


def test_every_module_has_its_layer() -> None:
    assert {path.stem for path in MODULES} == set(LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_imports_only_from_the_layers_below(path: Path) -> None:
    own = {name.partition(".")[2] or "__init__" for name in imports(path) if name.split(".")[0] == "smtpstate"}
    above = {name for name in own if LEVEL[name] >= LEVEL[path.stem]}
    assert not above


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_imports_nothing_ambient(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)} - MAY.get(path.stem, set())
    assert not roots & FORBIDDEN
    assert roots <= {"smtpstate", "__future__"} | STDLIB


STDLIB = {
    *("base64", "binascii", "collections", "dataclasses", "enum", "hashlib", "hmac", "ipaddress", "re", "stringprep"),
    *("types", "typing", "unicodedata"),
}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_is_not_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500


@pytest.mark.parametrize("word", ["client", "server"])
def test_the_table_does_not_know_its_seat(word: str) -> None:
    assert word not in (CORE / "_state.py").read_text().lower().replace("xclient", "")  # which is a verb


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_holds_no_state_of_its_own(path: Path) -> None:
    """No function rebinds a module's names, and what stands there bare, without Final, cannot be changed in place."""
    tree = ast.parse(path.read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Global)]
    mutable = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    bare = [node for node in tree.body if isinstance(node, ast.Assign)]
    assert not [ast.unparse(node) for node in bare if isinstance(node.value, mutable)]
