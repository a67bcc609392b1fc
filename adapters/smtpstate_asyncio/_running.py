"""Runner: runs coroutines, with a task for those that have to wait and none for the others."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from types import coroutine
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    Work: TypeAlias = Coroutine[Any, Any, None]


@final
class Runner:
    """Runs coroutines on the running loop, at once and as far as they go without a wait.

    One task lies ready. A coroutine is begun as if in that task, so that `asyncio.current_task()`, and with it
    timeouts and task groups, have one from the first line on. If it has to wait, the task becomes its own and goes on
    with it; if not, the task stays where it is, for the next. `_enter_task` and `_leave_task` are what asyncio has for
    those who make tasks of their own ("Extending" in its documentation).
    """

    def __init__(self) -> None:
        self._loop: Final = asyncio.get_running_loop()
        self._spare: _Spare | None = None

    def start(self, work: Work, ended: Callable[[asyncio.Task[None]], None]) -> bool:
        """True when `work` is done; else `ended` will be called with its task. What it raises now goes through."""
        spare = self._spare
        if spare is None or spare.task.done() or spare.task.cancelling():
            spare = self._spare = _Spare(self._loop)
        context, outer = copy_context(), asyncio.current_task()
        if outer is not None:
            asyncio._leave_task(self._loop, outer)
        asyncio._enter_task(self._loop, spare.task)
        try:
            waits = context.run(work.send, None)
        except StopIteration:
            return True
        finally:
            asyncio._leave_task(self._loop, spare.task)
            if outer is not None:
                asyncio._enter_task(self._loop, outer)
        self._spare = None
        spare.task.add_done_callback(ended)
        spare.take(_rest(work, context, waits))
        return False

    def close(self) -> None:
        """Nothing will be started for now."""
        if self._spare is not None:
            self._spare.task.cancel()
            self._spare = None


@final
class _Spare:
    """A task that waits for something to do."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._called: Final[asyncio.Future[None]] = loop.create_future()
        self._work: Callable[[bool], Generator[Any, Any, None]] | None = None
        running = self._run()
        running.send(None)  # so that it has begun: a task that is cancelled before it begins never does
        self.task: Final = loop.create_task(running)

    def take(self, work: Callable[[bool], Generator[Any, Any, None]]) -> None:
        self._work = work
        if not self._called.done():
            self._called.set_result(None)

    async def _run(self) -> None:
        cancelled = False
        try:
            await _pause()
            await self._called
        except asyncio.CancelledError:
            cancelled = True
        if self._work is None:
            raise asyncio.CancelledError
        await _await(self._work(cancelled))


@coroutine
def _pause() -> Generator[None, None, None]:
    yield


@coroutine
def _await(steps: Generator[Any, Any, None]) -> Generator[Any, Any, None]:
    yield from steps


def _rest(work: Work, context: Context, waits: Any) -> Callable[[bool], Generator[Any, Any, None]]:  # noqa: ANN401
    """What is left of `work`, which waits for `waits`: its steps, in its context; `cancelled` before the first."""

    def steps(cancelled: bool) -> Generator[Any, Any, None]:  # noqa: FBT001
        waiting = waits
        # As a task does it that is cancelled: what it waits for is, or the coroutine itself.
        throw = cancelled and (waiting is None or not waiting.cancel())
        with suppress(StopIteration):
            while True:
                try:
                    if throw:
                        throw = False
                        raise asyncio.CancelledError
                    value = yield waiting
                except BaseException as error:
                    step: Callable[[], Any] = partial(work.throw, error)
                else:
                    step = partial(work.send, value)
                waiting = context.run(step)

    return steps
