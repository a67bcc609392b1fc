"""What runs coroutines: which of them cost a task, and that those which do not are none the wiser."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from smtpstate import EndOfMessage, Rcpt
from smtpstate_asyncio import connect, smtp_server_protocol
from smtpstate_asyncio._running import Runner
from tests.anyio.loopback import wire
from tests.asyncio_protocol.around import TO, embedded, nobody_left

if TYPE_CHECKING:
    from smtpstate import ServerEvent
    from smtpstate_asyncio import Session

pytestmark = pytest.mark.anyio

said: ContextVar[str] = ContextVar("said", default="nothing")


class Counted:
    """How many tasks were made since it began."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.loop = asyncio.get_running_loop()

    def __enter__(self) -> Counted:
        def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
            self.made.append(coroutine.__qualname__)
            return asyncio.Task(coroutine, loop=loop, **options)

        self.loop.set_task_factory(factory)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.set_task_factory(None)


async def test_a_coroutine_that_needs_no_wait_costs_no_task() -> None:
    tasks: list[set[asyncio.Task[Any]]] = []

    async def on_event(session: Session, event: ServerEvent) -> None:
        if isinstance(event, Rcpt | EndOfMessage):
            session.accept()
        tasks.append(asyncio.all_tasks())

    async with nobody_left():
        with Counted() as counted:
            async with embedded(smtp_server_protocol(on_event, hostname="mx.example.org")) as port:
                for _ in range(5):
                    async with connect(f"127.0.0.1:{port}", tls="off") as client:
                        for _ in range(20):
                            assert (await client.send(b"x", **TO)).all_accepted
    assert len(tasks) > 5 * 20 * 4
    # One lies ready while there is a session, and there is one session after the other. asyncio's own loop makes one
    # for each that it accepts, which is not ours to change.
    assert counted.made.count("_Spare._run") <= 5
    assert max(map(len, tasks)) <= 3, "that one, the test's and the loop's"


async def test_a_hundred_idle_sessions_cost_no_task() -> None:
    async def on_event(session: Session, event: ServerEvent) -> None:
        pass

    async with embedded(smtp_server_protocol(on_event, hostname="mx.example.org")) as port:
        before = len(asyncio.all_tasks())
        wires = [wire(port) for _ in range(100)]
        try:
            clients = [await one.__aenter__() for one in wires]
            for client in clients:
                await client.open()
            assert len(asyncio.all_tasks()) <= before + 1
        finally:
            for one in wires:
                await one.__aexit__(None, None, None)


async def test_a_coroutine_that_waits_costs_one_for_as_long_as_it_takes() -> None:
    go_on, waits = asyncio.Event(), asyncio.Event()

    async def on_event(session: Session, event: ServerEvent) -> None:
        if isinstance(event, EndOfMessage):
            waits.set()
            await go_on.wait()
            session.accept()
        elif isinstance(event, Rcpt):
            session.accept()

    async with nobody_left(), embedded(smtp_server_protocol(on_event, hostname="mx.example.org")) as port:
        before = len(asyncio.all_tasks())
        async with wire(port) as client:
            await client.to_body()
            await client.say(b"x\r\n.")
            await waits.wait()
            assert len(asyncio.all_tasks()) == before + 1
            go_on.set()
            assert (await client.reply()).startswith("250 ")
            await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) <= before + 1  # it, or the next that lies ready


# A coroutine cannot tell in which way it is run.


async def run(runner: Runner, work: Any) -> asyncio.Task[None] | None:
    """Its task, when it is done; None where it had none."""
    done: asyncio.Future[asyncio.Task[None]] = asyncio.get_running_loop().create_future()
    return None if runner.start(work, done.set_result) else await done


async def nothing() -> None:
    pass


async def times_out() -> None:
    """asyncio.timeout needs a task from the first line on."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()


async def gathers() -> None:
    """So does a task group."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asyncio.sleep(0, number)) for number in range(3)]
    assert [task.result() for task in tasks] == [0, 1, 2]


async def remembers() -> None:
    """A context variable is set before the wait and reset after it."""
    assert said.get() == "nothing"
    token = said.set("something")
    await asyncio.sleep(0)
    assert said.get() == "something"
    said.reset(token)


async def is_one_task() -> None:
    first = asyncio.current_task()
    assert first is not None
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    assert asyncio.current_task() is first


async def cancels_what_it_waits_for() -> None:
    """The first wait ends by an exception, and another follows."""
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_exception, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await future
    await asyncio.sleep(0)


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    task.uncancel()
    await asyncio.sleep(0)


WAITS = [times_out, gathers, remembers, is_one_task, cancels_what_it_waits_for, cancels_itself]


@pytest.mark.parametrize("work", WAITS)
@pytest.mark.parametrize("again", [1, 3])
async def test_a_coroutine_that_waits_runs_as_in_a_task_of_its_own(work: Any, again: int) -> None:
    async with nobody_left():
        runner = Runner()
        for _ in range(again):
            assert await run(runner, nothing()) is None
            task = await run(runner, work())
            assert task is not None
            assert not task.cancelled()
            assert task.exception() is None
        runner.close()


async def test_what_it_sets_in_its_context_stays_there() -> None:
    async def sets() -> None:
        said.set("something")

    runner = Runner()
    assert await run(runner, sets()) is None
    assert said.get() == "nothing"
    assert await run(runner, remembers()) is not None
    runner.close()


@pytest.mark.parametrize("waits", [False, True])
async def test_what_it_raises_is_told(waits: bool) -> None:
    async def raises() -> None:
        if waits:
            await asyncio.sleep(0)
        raise ZeroDivisionError

    async with nobody_left():
        runner = Runner()
        if waits:
            task = await run(runner, raises())
            assert task is not None
            assert isinstance(task.exception(), ZeroDivisionError)
        else:
            with pytest.raises(ZeroDivisionError):
                await run(runner, raises())
        runner.close()


CANCELS = [
    pytest.param(0, False, id="before the task has gone on"),
    pytest.param(2, False, id="after it has"),
    pytest.param(0, True, id="before, and what it waits for is no future"),
]


@pytest.mark.parametrize(("turns", "bare"), CANCELS)
async def test_its_task_can_be_cancelled(turns: int, bare: bool) -> None:
    runner, ends = Runner(), asyncio.get_running_loop().create_future()
    inner: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    tasks: list[asyncio.Task[Any] | None] = []

    async def waits() -> None:
        tasks.append(asyncio.current_task())
        await (asyncio.sleep(0) if bare else inner)

    async with nobody_left():
        assert not runner.start(waits(), ends.set_result)
        for _ in range(turns):
            await asyncio.sleep(0)
        [task] = tasks
        assert task is not None
        task.cancel()
        assert (await ends).cancelled()
        assert inner.cancelled() is not bare
        runner.close()


async def test_a_task_that_lay_ready_and_was_cancelled_is_replaced() -> None:
    async def cancelled() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()  # and no wait in which it could be

    async with nobody_left():
        runner = Runner()
        assert await run(runner, nothing()) is None
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task() and "_Spare" in repr(task.get_coro()):
                task.cancel()
        assert await run(runner, is_one_task()) is not None
        assert await run(runner, cancelled()) is None
        assert await run(runner, is_one_task()) is not None
        runner.close()
        runner.close()  # again does nothing


async def test_it_leaves_the_task_that_starts_it_where_it_is() -> None:
    runner, here = Runner(), asyncio.current_task()

    async def looks() -> None:
        assert asyncio.current_task() is not here

    assert runner.start(looks(), print)
    assert asyncio.current_task() is here
    runner.close()
