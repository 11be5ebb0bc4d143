"""What the same work costs with bare anyio: the floors that everything is compared with."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream

from benchmarks.backends import run_on
from benchmarks.measure import Sample, StopWatch, median_of, median_stop, sample, settle
from benchmarks.memory import Meter

Make = Callable[[], Any]
"""Makes the next object to send."""


def _ready_made() -> Make:
    item = object()
    return lambda: item


def _event() -> Make:
    """agentflow's own events, built as an agent builds them; without agentflow, a flat model of the same shape."""
    try:
        from agentflow import Event, Text
    except ImportError:
        return _stand_in()
    return lambda: Event(author="a", parts=(Text(text="hello"),))


def _stand_in() -> Make:
    from pydantic import BaseModel, ConfigDict

    @dataclass(slots=True, kw_only=True)
    class Text:
        text: str
        kind: Literal["text"] = "text"

    class Event(BaseModel):
        model_config = ConfigDict(frozen=True)
        author: str
        parts: tuple[Text, ...]
        partial: bool = False

    Event.model_rebuild(_types_namespace={"Text": Text})
    return lambda: Event(author="a", parts=(Text(text="hello"),))


async def _merge(branches: int, events: int, make: Make) -> int:
    send, receive = anyio.create_memory_object_stream[Any](0)

    async def produce(out: ObjectSendStream[Any]) -> None:
        async with out:
            for _ in range(events):
                await out.send(make())

    delivered = 0
    async with anyio.create_task_group() as tasks, receive:
        async with send:
            for _ in range(branches):
                tasks.start_soon(produce, send.clone())
        async for _ in receive:
            delivered += 1
    assert delivered == branches * events
    return delivered


def merge(*, branches: int, events: int, item: Literal["ready", "event"], backend: str) -> Sample:
    """W1: `branches` producers send `events` objects each to one consumer; per delivered object."""

    async def main() -> Sample:
        make = _ready_made() if item == "ready" else _event()
        return await sample(lambda: None, lambda _: _merge(branches, events, make))

    return run_on(backend, main)


def sequence(*, runs: int, backend: str) -> Sample:
    """W2: one object, then three from three tasks, then one, through one stream; per run."""

    async def one() -> None:
        send, receive = anyio.create_memory_object_stream[Any](0)

        async def line() -> None:
            async with send:
                await send.send(1)
                async with anyio.create_task_group() as inner:
                    for _ in range(3):
                        inner.start_soon(send.send, 1)
                await send.send(1)

        async with anyio.create_task_group() as tasks, receive:
            tasks.start_soon(line)
            async for _ in receive:
                pass

    async def many(_: None) -> int:
        for _run in range(runs):
            await one()
        return runs

    async def main() -> Sample:
        return await sample(lambda: None, many)

    return run_on(backend, main)


def wait(*, branches: int, seconds: float, backend: str) -> Sample:
    """One sleep in each of `branches` tasks; per run."""

    async def once(_: None) -> int:
        async with anyio.create_task_group() as tasks:
            for _branch in range(branches):
                tasks.start_soon(anyio.sleep, seconds)
        return 1

    async def main() -> Sample:
        return await sample(lambda: None, once, most=5)

    return run_on(backend, main)


def stop(*, branches: int, busy: bool, backend: str) -> Sample:
    """From cancelling a task group to the end of its last task.

    Each task sends one object and waits; `busy` ones send for ever instead, so that all but one hang in `send`.
    """

    async def once() -> Sample:
        watch = StopWatch()
        send, receive = anyio.create_memory_object_stream[int](0)

        async def body() -> None:
            try:
                await send.send(1)
                while busy:
                    await send.send(1)
                await anyio.sleep_forever()
            finally:
                watch.ended()

        async with anyio.create_task_group() as tasks, send, receive:
            for _ in range(branches):
                tasks.start_soon(body)
            await _take(receive, branches)
            await settle(anyio.lowlevel.checkpoint)
            watch.start()
            tasks.cancel_scope.cancel()
        assert watch.count == branches
        return watch.reading()

    return run_on(backend, lambda: median_stop(once))


async def _take(receive: ObjectReceiveStream[int], count: int) -> None:
    taken = 0
    async for _ in receive:
        taken += 1
        if taken == count:
            return


def live(*, branches: int, how: Literal["traced", "rss"], backend: str) -> Sample:
    """Memory of `branches` tasks, each in a cancel scope of its own, all waiting; bytes each."""

    async def main() -> Sample:
        meter = Meter(how)
        gate = anyio.Event()
        arrived = 0
        all_here = anyio.Event()

        async def body() -> None:
            nonlocal arrived
            with anyio.CancelScope():
                arrived += 1
                if arrived == branches:
                    all_here.set()
                await gate.wait()

        async with anyio.create_task_group() as warm:
            warm.start_soon(anyio.lowlevel.checkpoint)
        meter.start()
        async with anyio.create_task_group() as tasks:
            for _ in range(branches):
                tasks.start_soon(body)
            await all_here.wait()
            used = meter.used()
            gate.set()
        return {"bytes": used / branches}

    return run_on(backend, main)


def imports(*, statement: str, forbidden: list[str]) -> Sample:
    """CPU seconds of import statements in a fresh interpreter, without the interpreter's own start.

    `forbidden` are modules that must not have been loaded; how many were is in the answer.
    """
    program = (
        f"import sys, time; before = len(sys.modules); wall = time.perf_counter(); cpu = time.process_time(); "
        f"{statement}; cpu = time.process_time() - cpu; wall = time.perf_counter() - wall; "
        f"print(cpu, wall, len(sys.modules) - before, *[name for name in {forbidden!r} if name in sys.modules])"
    )
    samples: list[Sample] = []
    for _ in range(4):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        if done.returncode:
            raise ImportError(done.stderr.strip().splitlines()[-1])
        cpu, wall, modules, *loaded = done.stdout.split()
        samples.append(
            {"cpu": float(cpu), "wall": float(wall), "modules": float(modules), "forbidden": float(len(loaded))}
        )
    return median_of(samples[1:])  # the first may have written bytecode
