"""Small files that are whole as soon as they are there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def create(path: Path, octets: bytes, mode: int) -> bool:
    """Makes a file that is whole as soon as it is there; False when there is one already. Raises OSError."""
    temporary = _temporary(path, octets, mode)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links: the last one who writes wins, and the next start mends the pair
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def replace(path: Path, octets: bytes, mode: int) -> None:
    """Puts a file in the place of another, if there is one. Raises OSError."""
    _temporary(path, octets, mode).replace(path)


def _temporary(path: Path, octets: bytes, mode: int) -> Path:
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    with open(fd, "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(fd)
    temporary = Path(name)
    if mode != 0o600:
        temporary.chmod(mode)
    return temporary
