"""HOST:PORT, and who can reach it."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Endpoint:
    """HOST:PORT."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this host can reach it. A name is looked up: all that it means must be loopback.

        Raises OSError and UnicodeError for a name that means nothing.
        """
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        addresses = {str(entry[4][0]).partition("%")[0] for entry in found}
        return bool(addresses) and all(ip_address(address).is_loopback for address in addresses)
