"""How much memory a process uses: what Python allocated, or what the system gave it."""

import gc
import os
import resource
import sys
import tracemalloc
from pathlib import Path
from typing import Literal


class Meter:
    """Bytes in use since `start()`.

    `"traced"` counts what Python allocated, exactly; `"rss"` asks the operating system, with what allocators waste.
    """

    def __init__(self, how: Literal["traced", "rss"]) -> None:
        self._how = how
        self._before = 0

    def start(self) -> None:
        """Count from here."""
        gc.collect()
        if self._how == "traced":
            tracemalloc.start()
        self._before = self._now()

    def used(self) -> int:
        """Bytes since `start()`, after a full collection."""
        gc.collect()
        return self._now() - self._before

    def _now(self) -> int:
        if self._how == "traced":
            return tracemalloc.get_traced_memory()[0]
        statm = Path("/proc/self/statm")
        if statm.exists():
            return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
