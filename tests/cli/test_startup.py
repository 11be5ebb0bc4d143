"""What the command costs before it does anything, and what it says when something is not installed."""

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

BARE = """
import sys, types
package = types.ModuleType("agentflow")  # without importing the framework, which a command's own help has no need of
package.__path__, package.__version__ = [{path!r}], "0"
sys.modules["agentflow"] = package
from agentflow.__main__ import main
"""
PATH = str(Path(__file__).parents[2] / "agentflow")


def run(code: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        env=os.environ | env,
        timeout=60,
        check=False,
    )


def cpu(code: str, *args: str) -> float:
    """Seconds of processor time of a fresh interpreter, its own start included."""
    before = os.times()
    assert run(code, *args).returncode == 0
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_listing_the_commands_imports_click_alone() -> None:
    code = BARE.format(path=PATH) + (
        "import atexit\n"
        "atexit.register(lambda: print(sorted({name.partition('.')[0] for name in sys.modules}\n"
        "    & {'anyio', 'asyncio', 'opentelemetry', 'pydantic', 'rich'}),\n"
        "    [name for name in sys.modules if name.startswith('agentflow.')]))\n"
        "main()\n"
    )
    done = run(code, "--help")
    assert done.stdout.splitlines()[-1] == "[] ['agentflow.__main__', 'agentflow.cli']"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children's times are not counted here")
def test_its_own_start_costs_no_more_than_twice_the_import_of_click_and_rich() -> None:
    """Ratios within one run, interleaved; `import agentflow` has a bound of its own."""
    pairs = [(cpu(BARE.format(path=PATH) + "main()", "--help"), cpu("import click, rich")) for _ in range(5)]
    assert statistics.median(ours / theirs for ours, theirs in pairs) <= 2


def test_ctrl_c_while_it_imports_needs_no_traceback() -> None:
    code = "import importlib, agentflow.__main__ as command\ndef stop(name): raise KeyboardInterrupt\n"
    done = run(code + "importlib.import_module = stop\ncommand.main()", "run", "x.py")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_it_names_it(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from agentflow.__main__ import main; main()"
    done = run(code, "run", "x.py")
    assert done.returncode != 0
    assert done.stderr == (
        f"Error: the command line needs {missing}, which is not installed: pip install 'agentflow-py[cli]'\n"
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("agentflow s", {"plain,sessions", "plain,show"}),
        ("agentflow sessions f", {"plain,fork"}),
        ("agentflow run --back", {"plain,--backend"}),
        ("agentflow run pan", {"file,pan"}),
    ],
)
def test_the_shell_completes(words: str, expected: set[str]) -> None:
    count = str(len(words.split(" ")) - 1)
    done = run(
        "from agentflow.__main__ import main; main()",
        _AGENTFLOW_COMPLETE="bash_complete",
        COMP_WORDS=words,
        COMP_CWORD=count,
    )
    assert (set(done.stdout.split()), done.stderr) == (expected, "")


def test_a_collector_that_is_wanted_without_the_extra_is_no_reason_not_to_run(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("from agentflow import *\n@agent\nasync def one(ctx): pass\n", encoding="utf-8")
    code = "import sys; sys.modules['opentelemetry.exporter'] = None; from agentflow.__main__ import main; main()"
    file = str(tmp_path / "x.py")
    done = run(code, "run", file, "--in-memory", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    said = "Spans are not sent: that needs the extra `otlp`, agentflow-py[otlp].\n"
    assert (done.returncode, done.stderr) == (0, said)


def test_an_unknown_backend_is_named_before_anything_runs(tmp_path: Path) -> None:
    code = "import sys; sys.modules['trio'] = None; from agentflow.__main__ import main; main()"
    done = run(code, "run", "x.py", "--backend", "trio")
    assert (done.returncode, done.stderr) == (2, "Error: the backend 'trio' is not installed: pip install trio\n")
