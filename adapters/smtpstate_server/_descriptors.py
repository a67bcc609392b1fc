"""How many files and sockets may be open: enough for the connections that we let in, where the system allows it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from smtpstate_server._log import logger

if TYPE_CHECKING:
    from smtpstate_anyio import Admission

_OTHERS = 64  # listeners, the log, threads, whatever delivery opens


def make_room(admission: Admission) -> None:
    """Raises our own limit to what `admission` can need; a warning says where the system does not let us."""
    if sys.platform == "win32":  # sockets do not count as files there
        return
    import resource

    # A socket each, and a file in the Maildir for each body, whose directory is opened to sync it.
    connections = admission.connections
    needed = connections + admission.refusals + 2 * min(admission.bodies or connections, connections) + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    possible = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    except (OSError, ValueError):
        possible = soft
    if possible < needed:
        logger.warning(
            "%d files may be open (ulimit -Hn), and %d connections can need %d: lower default_process_limit",
            possible,
            connections,
            needed,
        )
