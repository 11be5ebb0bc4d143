"""Who imports whom: no cycle of any kind, nothing hidden in functions, and a light `import agentflow`."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import agentflow

ROOT = Path(__file__).parents[1]


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in sorted((ROOT / "agentflow").rglob("*.py"))}


def own(node: ast.AST) -> set[str]:
    """Modules of the package that an import statement names."""
    if isinstance(node, ast.Import):
        names = {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        # `from package import name` is the sub-module if there is one, else something of the package's own.
        names = {f"{node.module}.{alias.name}" for alias in node.names}
        names = {name if name in MODULES else str(node.module) for name in names}
    else:
        return set()
    return {name for name in names if name in MODULES}


def hidden(node: ast.AST, where: str = "") -> Iterator[tuple[int, str]]:
    """Own imports that don't stand at the top of a module: line, and what they hide in."""
    for child in ast.iter_child_nodes(node):
        inside = where
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inside = getattr(child, "name", "lambda")
        elif isinstance(child, ast.If):
            inside = where or "if"
        if where and own(child):
            yield child.lineno, where  # type: ignore[attr-defined]
        yield from hidden(child, inside)


@pytest.mark.parametrize("module", MODULES)
def test_imports_of_our_own_stand_at_the_top(module: str) -> None:
    """Not in functions, not under TYPE_CHECKING. Only the package itself, which resolves its names on first use."""
    allowed = {"if"} if module == "agentflow" else set()
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    assert [(line, where) for line, where in hidden(tree) if where not in allowed] == []


def test_no_module_imports_itself_in_the_end() -> None:
    """Counting every import statement, wherever it stands."""
    graph = {
        module: set().union(*(own(node) for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))))
        for module, file in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(reversed(error.args[1]))}", pytrace=False)


def test_importing_agentflow_loads_nothing_heavy_or_optional() -> None:
    heavy = ["anthropic", "click", "genai_prices", "httpx2", "openai", "opentelemetry.sdk", "pydantic_ai", "rich"]
    heavy += ["sqlalchemy", "sqlite3", "trio"]
    code = f"import sys, agentflow; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_without_the_extras() -> None:
    """What needs one says so when it is made."""
    extras = ["alembic", "click", "genai_prices", "mcp", "openai", "pydantic_ai", "rich", "sqlalchemy", "trio"]
    code = f"""if True:
        import sys
        sys.modules.update(dict.fromkeys({extras}))
        from agentflow import *
        from agentflow import ConfigError, SQLiteStore
        try:
            SQLiteStore("agents.db")
        except ConfigError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "SQLiteStore needs the extra `sqlite`: pip install 'agentflow-py[sqlite]'"


def test_the_public_names_are_what_type_checkers_see() -> None:
    """The two lists in `agentflow/__init__.py` say the same, and every name is there."""
    tree = ast.parse(MODULES["agentflow"].read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (alias.asname, node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == set(agentflow._home_of.items())
    assert all(getattr(agentflow, name) is not None for name in agentflow.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Runer'"):
        agentflow.Runer  # noqa: B018
