# What the Twisted example needs of zope.interface, which has no types of its own.
from collections.abc import Callable
from typing import TypeVar

_C = TypeVar("_C", bound=type)

class Interface: ...

class Attribute:
    def __init__(self, __name__: str, __doc__: str = "") -> None: ...

def implementer(*interfaces: type) -> Callable[[_C], _C]: ...
