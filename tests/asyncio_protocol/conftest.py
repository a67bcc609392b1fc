"""Every test here runs on asyncio's own loop and on uvloop's."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.anyio.conftest import certificates as certificates


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    if request.param == "uvloop" and sys.platform == "win32":
        pytest.skip("there is no uvloop for Windows")
    return "asyncio", {"use_uvloop": request.param == "uvloop"}
