"""Start an async cell on one of the three event loops."""

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import TypeVar

import anyio

from benchmarks.measure import Unavailable

T = TypeVar("T")

BACKENDS = ("asyncio", "uvloop", "trio")


def run_on(backend: str, main: Callable[[], Awaitable[T]]) -> T:
    """Run `main` on `"asyncio"`, `"uvloop"` or `"trio"`.

    Raises:
        Unavailable: The library of that name isn't installed.
    """
    if backend != "asyncio" and find_spec(backend) is None:
        raise Unavailable(f"{backend} is not installed")
    if backend == "trio":
        return anyio.run(main, backend="trio")
    return anyio.run(main, backend="asyncio", backend_options={"use_uvloop": backend == "uvloop"})
