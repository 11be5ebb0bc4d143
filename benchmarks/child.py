"""One cell in a fresh process: `python -m benchmarks.child REQUEST`, a JSON object; the answer is the last line.

Standard library only: peers run this inside their own virtual environments.
"""

import importlib
import json
import sys
from typing import Any

from benchmarks.measure import Sample, Unavailable

MARK = "@benchmark "


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Run what a request names: `{"module", "function", "params"}`."""
    try:
        function = getattr(importlib.import_module(request["module"]), request["function"])
        result: Sample = function(**request["params"])
    except (Unavailable, ImportError) as error:
        return {"skipped": f"{error}"}
    return dict(result)


if __name__ == "__main__":
    print(MARK + json.dumps(answer(json.loads(sys.argv[1]))))
