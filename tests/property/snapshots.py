"""Everything that a machine holds: to say that nothing of it has changed, and that it is not too much."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass

from smtpstate import ClientConnection, LocalProtocolError, ServerConnection


def snapshot(value: object) -> object:
    """Everything that `value` holds, however deep, as something to compare. What is frozen stands for itself."""
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, list | tuple | deque):
        return tuple(snapshot(item) for item in value)
    if isinstance(value, Mapping):
        return tuple((snapshot(key), snapshot(item)) for key, item in value.items())
    if not type(value).__module__.startswith("smtpstate.") or isinstance(value, int | Exception):
        return value
    if is_dataclass(value) and getattr(value, "__dataclass_params__").frozen:  # noqa: B009  # typeshed lacks it
        return value
    return type(value).__name__, {name: snapshot(getattr(value, name)) for name in names(value)}


def names(value: object) -> list[str]:
    """The attributes of an object, in slots or not."""
    slots = {name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())}
    return sorted(name for name in slots | set(getattr(value, "__dict__", ())) if hasattr(value, name))


def attempt(machine: ServerConnection | ClientConnection, act: Callable[[], object]) -> bool:
    """Whether `act` was a mistake; if so, nothing of `machine` has changed."""
    if isinstance(machine, ClientConnection):
        _ = machine._outstanding.assumed  # looking at it makes it, which is no change
    before = snapshot(machine)
    try:
        act()
    except LocalProtocolError:
        assert snapshot(machine) == before
        return True
    return False


def weight(value: object, counted: set[int] | None = None) -> int:
    """How many octets and characters `value` holds, however deep, each object once, and what its caller gave it not."""
    counted = set() if counted is None else counted
    if id(value) in counted:
        return 0
    counted.add(id(value))
    if isinstance(value, bytes | bytearray | str):
        return len(value)
    if isinstance(value, list | tuple | deque | set | frozenset):
        return sum(weight(item, counted) for item in value)
    if isinstance(value, Mapping):
        return sum(weight(key, counted) + weight(item, counted) for key, item in value.items())
    kind = type(value)
    if not kind.__module__.startswith("smtpstate.") or isinstance(value, int | Exception):
        return 0
    return sum(weight(getattr(value, name), counted) for name in names(value) if name not in _GIVEN)


_GIVEN = frozenset({"config", "_limits", "_tables", "_clock", "_trace", "hostname"})
