"""Every async test runs on asyncio and on trio, and leaves nothing behind."""

import functools
import inspect
import logging
import os
from collections.abc import Awaitable, Callable, Generator, Iterator

import anyio
import pytest
from anyio.lowlevel import checkpoint

os.environ["AGENTFLOW_ALLOW_MODEL_REQUESTS"] = "0"  # no test asks a real model, however it comes to that


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """A test that needs another loop or clock parametrizes this itself, with `(name, options)`."""
    return request.param


class Complaints(logging.Handler):
    """Keeps what others log about our mistakes; nobody raises it."""

    def __init__(self) -> None:
        super().__init__(level=logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "asyncio" and record.levelno < logging.ERROR:
            return  # slow callbacks, on a busy machine
        self.messages.append(f"{record.name}: {record.getMessage()}")


@pytest.fixture(autouse=True)
def complaints() -> Iterator[list[str]]:
    """Fail the test when OpenTelemetry failed to detach a context or asyncio lost a task or an exception.

    A test that expects some takes this fixture and clears the list.
    """
    handler = Complaints()
    loggers = [logging.getLogger(name) for name in ("asyncio", "opentelemetry.context")]
    for logger in loggers:
        logger.addHandler(handler)
    yield handler.messages
    for logger in loggers:
        logger.removeHandler(handler)
    if handler.messages:
        pytest.fail("\n".join(handler.messages), pytrace=False)


def leaving_no_task(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """The same test, failing when tasks that it started outlive it."""

    @functools.wraps(test)
    async def run(**arguments: object) -> None:
        before = {task.id for task in anyio.get_running_tasks()}
        await test(**arguments)
        for _ in range(5):  # a task may be just about to end
            left = [task for task in anyio.get_running_tasks() if task.id not in before]
            if not left:
                return
            await checkpoint()
        pytest.fail(f"still running: {', '.join(str(task.name) for task in left)}", pytrace=False)

    return run


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = leaving_no_task(pyfuncitem.obj)
    return (yield)
