"""From `file.py`, `file.py:name` or `module:name` to an agent."""

import difflib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from agentflow.core import Agent

USUAL = ("root_agent", "agent")
"""Names that are taken for the root where a file has several agents."""
_SOME = 8
"""Files of a folder that are named."""


class TargetError(Exception):
    """A target isn't there, isn't an agent, or can't be imported; `__cause__` is what its import raised."""


def load(target: str) -> Agent:
    """The agent that `target` names.

    Args:
        target: `file.py` (the only agent in it that no other has below it, or one named `root_agent` or `agent`),
            `file.py:name`, or `module:name`.

    Raises:
        TargetError: There is none, or it can't be loaded.
    """
    place, name = _split(target)
    if not place:  # an empty variable of the shell; not the working folder
        raise TargetError("there is no file ''")
    if place.endswith(".py") or "/" in place or "\\" in place or Path(place).exists():
        module = _import_file(Path(place))
    else:
        module = _import_module(place)
    return _named(module, place, name) if name else _only(module, place)


def _split(target: str) -> tuple[str, str]:
    place, colon, name = target.rpartition(":")
    if colon and place and (not name or name.replace(".", "_").isidentifier()):
        if not name:
            raise TargetError(f"{target!r} has no name after the colon")
        return place, name
    return target, ""


def _import_file(path: Path) -> ModuleType:
    if path.is_dir():
        files = sorted(entry.name for entry in path.glob("*.py"))
        inside = ", ".join([*files[:_SOME], "…"] if len(files) > _SOME else files) or "no Python files"
        raise TargetError(f"{str(path)!r} is a folder; name a file in it ({inside})")
    if not path.is_file():
        near = _near(path.name, (entry.name for entry in path.parent.glob("*.py")))
        hint = f"; did you mean {str(path.parent / near)!r}?" if near else ""
        raise TargetError(f"there is no file {str(path)!r}{hint}")
    path = path.resolve()
    if path.suffix != ".py":
        raise TargetError(f"{path.name!r} is not a Python file (.py)")
    root, names = path.parent, [path.stem]
    while (root / "__init__.py").is_file() and root.name.isidentifier():
        names.insert(0, root.name)
        root = root.parent
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))  # as `python file.py` does
    if len(names) > 1:  # a module of a package: its relative imports work only under its full name
        return _import(".".join(names), path.name, path)
    name = path.stem if path.stem.isidentifier() and not _taken(path.stem) else f"agentflow_target_{abs(hash(path))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"{path.name!r} can't be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise _failed(path.name, error, path) from error
    return module


def _taken(name: str) -> bool:
    """Whether a file of this name would hide a module that others import."""
    return name in sys.modules or name in sys.stdlib_module_names or name == "agentflow"


def _import_module(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
    if not all(part.isidentifier() for part in name.split(".")):
        raise TargetError(f"{name!r} is neither a Python file (.py) nor the name of a module")
    return _import(name, name, None)


def _import(name: str, shown: str, path: Path | None) -> ModuleType:
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if path is not None or error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failed(shown, error, path) from error
        head = name.partition(".")[0]
        near = _near(head, (entry.stem for entry in Path().glob("*.py")))
        hint = f"; did you mean {near + '.py'!r}?" if near else ""
        raise TargetError(f"there is no module {error.name!r}{hint}") from error
    except (Exception, SystemExit) as error:
        raise _failed(shown, error, path) from error


def _failed(shown: str, error: BaseException, path: Path | None) -> TargetError:
    """What was raised, and the line of the target's own file that it was raised from."""
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{Path(error.filename).name}, line {error.lineno}"
        return TargetError(f"{shown} can't be imported: {type(error).__name__}: {error.msg} ({where})")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    own = [frame for frame in frames if path is not None and frame.filename == str(path)]
    where = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in (own or frames)[-1:])
    if isinstance(error, SystemExit):
        return TargetError(f"{shown} ends the program when it is imported{where}; guard it with __name__ == '__main__'")
    message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return TargetError(f"{shown} failed on import: {message}{where}")


def _agents(module: ModuleType) -> dict[str, Agent]:
    """The agents among its names, each once."""
    found: dict[int, tuple[str, Agent]] = {}
    for name, value in vars(module).items():
        if isinstance(value, Agent) and (id(value) not in found or name in USUAL):
            found[id(value)] = (name, value)
    return dict(found.values())


def _only(module: ModuleType, place: str) -> Agent:
    agents = _agents(module)
    for name in USUAL:
        if name in agents:
            return agents[name]
    roots = {name: agent for name, agent in agents.items() if agent.parent is None}
    if len(roots) == 1:
        return next(iter(roots.values()))
    if not roots:
        raise TargetError(f"there is no agent in {place!r}; make one with @agent, or name what it has as {place}:name")
    which = ", ".join(f"{place}:{name}" for name in roots)
    raise TargetError(f"{place!r} has {len(roots)} agents; say which: {which}")


def _named(module: ModuleType, place: str, name: str) -> Agent:
    value: object = module
    for part in name.split("."):
        value = getattr(value, part, None)
    if isinstance(value, Agent):
        return value
    if value is not None:
        hint = "; make it an agent with @agent" if callable(value) and not isinstance(value, type) else ""
        raise TargetError(f"{name!r} in {place!r} is a {type(value).__name__}, not an agent{hint}")
    agents = _agents(module)
    for agent in agents.values():  # by the agent's own name
        found = agent.find_agent(name)
        if isinstance(found, Agent):
            return found
    near = _near(name, [*agents, *(agent.name for agent in agents.values())])
    hint = f"; did you mean {near!r}?" if near else f"; it has {', '.join(agents)}" if agents else "; it has no agents"
    raise TargetError(f"there is no {name!r} in {place!r}{hint}")


def _near(name: str, names: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(name, sorted(set(names)), 1, 0.6)), "")
