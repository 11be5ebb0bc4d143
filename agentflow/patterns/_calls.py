"""Functions at work in a pattern: what they take, how they are called, and how what they return is said."""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from inspect import Parameter, isasyncgenfunction, isawaitable, iscoroutinefunction, unwrap
from types import UnionType
from typing import Any, Self, Union, get_args, get_origin

import anyio
import anyio.to_thread
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from agentflow.agents.branches import Branch
from agentflow.content import Data, Text
from agentflow.core import Agent, InvocationContext
from agentflow.errors import ConfigError, InvalidEvent, RunError
from agentflow.events import Event
from agentflow.policies import Retry

Function = Callable[..., Any]
"""A function of values; a plain one runs in a thread, so that it holds up nobody."""


def is_async(function: object) -> bool:
    """Whether calling it gives something to await."""
    while isinstance(function, partial):
        function = function.func
    return iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def name_of(function: object) -> str:
    """What a function is called; empty for a lambda and other things without a name."""
    while isinstance(function, partial):
        function = function.func
    name = str(getattr(function, "__name__", ""))
    return "" if name == "<lambda>" else name


async def call(function: Function, value: Any, limiter: anyio.CapacityLimiter) -> Any:
    """Call a function of any kind and wait for what it gives."""
    return await (function(value) if is_async(function) else in_thread(function, value, limiter=limiter))


async def in_thread(function: Function, *args: Any, limiter: anyio.CapacityLimiter | None, **kwargs: Any) -> Any:
    """Call a plain function in a thread, which nothing can stop.

    When its time is up, or the run is cancelled, it isn't waited for, and what it returns is dropped.
    """

    def work() -> tuple[Any]:  # in a tuple, since trio takes a coroutine that a thread returns for a mistake
        return (function(*args, **kwargs),)

    (value,) = await anyio.to_thread.run_sync(work, limiter=limiter, abandon_on_cancel=True)
    return await value if isawaitable(value) else value


def as_event(ctx: InvocationContext, value: Any) -> Event | None:
    """What a function returned, as an event: text as itself, any other value as `Data` with its JSON as text.

    Raises:
        InvalidEvent: JSON can't hold it.
    """
    if value is None:
        return None
    if type(value) is str:
        return ctx.text(value)
    if isinstance(value, Event):
        return value
    try:
        data = to_jsonable_python(value)
    except (PydanticSerializationError, ValueError) as error:
        raise InvalidEvent(f"agent {ctx.path!r} returned what JSON can't hold: {error}") from error
    if isinstance(data, str):  # of an enumeration, a date, a path
        return ctx.text(data)
    return ctx.event(Text(json.dumps(data, ensure_ascii=False)), Data(data, type(value).__name__))


def waited(branch: Branch) -> float:
    """Seconds that a branch waited for room."""
    return branch.ctx.began - branch.queued[0] if branch.queued is not None and branch.ctx is not None else 0.0


def worked(branch: Branch) -> float:
    """Seconds that a branch was at work; none where it had ended before the run paused."""
    return branch.outcome.duration if branch.outcome is not None and branch.ctx is not None else 0.0


class Inputs:
    """What a function wants to be given, by the names of its parameters.

    Attributes:
        names: Parameters that are values, in order.
        required: Those of them that have no default.
        wants_ctx: It has a parameter `ctx`, or one that is an `InvocationContext`.
        returns: What it says it returns; `None` if it doesn't say.
    """

    def __init__(self, function: Function, owner: str) -> None:
        try:
            signature = _signature(function)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{owner}: it can't be seen what {function!r} takes: {error}") from error
        self.names: list[str] = []
        self.required: list[str] = []
        self.types: dict[str, Any] = {}
        self.ctx = ""
        for name, parameter in signature.parameters.items():
            if parameter.kind in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL):
                continue
            if parameter.kind is Parameter.POSITIONAL_ONLY:
                raise ConfigError(f"{owner}: {name_of(function)!r} is given values by name; {name!r} can't be (`/`)")
            if name == "ctx" or parameter.annotation is InvocationContext:
                self.ctx = name
                continue
            self.names.append(name)
            if parameter.default is Parameter.empty:
                self.required.append(name)
            self.types[name] = _known_type(parameter.annotation)
        self.returns = _known_type(signature.return_annotation)

    def pick(self, values: Mapping[str, Any], types: Mapping[str, Any], owner: str) -> dict[str, Any]:
        """Of `values` those that are wanted, each made into the type that is asked for or, if none is, promised.

        Raises:
            RunError: A value can't be made into that.
        """
        picked = {}
        for name in self.names:
            if name in values:
                wanted = self.types[name]
                picked[name] = as_type(values[name], types.get(name) if wanted is None else wanted, name, owner)
        return picked


def as_type(value: Any, wanted: Any, name: str, owner: str) -> Any:
    """`value` as the type `wanted`; text that isn't but holds its JSON, a model's answer perhaps, is read.

    Raises:
        RunError: It can't be made into that.
    """
    if wanted is None or wanted is type(value):
        return value
    adapter = _adapter(wanted)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        if isinstance(value, str):
            try:
                return adapter.validate_json(value)
            except ValidationError:
                pass
        shown = getattr(wanted, "__name__", wanted)
        raise RunError(f"{owner}: what it was given as {name!r} is no {shown}: {_first(error)}") from error


def mismatch(given: Any, wanted: Any) -> bool:
    """Whether it is sure that a `given` can't be taken for a `wanted`. In doubt it is not."""
    sides = [get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,) for kind in (given, wanted)]
    return all(_differ(one, other) for one in sides[0] for other in sides[1])


_LOOSE = {(bool, int), (bool, float), (int, float), (str, int), (str, float), (str, bool), (int, str), (float, int)}
"""What is taken for something else, or may be."""


def _differ(given: Any, wanted: Any) -> bool:
    given, wanted = get_origin(given) or given, get_origin(wanted) or wanted
    plain = (str, int, float, bool, list, dict, tuple, set, bytes)
    if given not in plain or wanted not in plain or issubclass(given, wanted):
        return False
    if {given, wanted} <= {list, tuple, set}:
        return False
    return given is not str and (given, wanted) not in _LOOSE


def _first(error: ValidationError) -> str:
    details = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(step) for step in details["loc"])
    return f"{where}: {details['msg']}" if where else str(details["msg"])


def _known_type(annotation: Any) -> Any:
    unknown = annotation in (Parameter.empty, Any, object, None) or isinstance(annotation, str)
    return None if unknown else annotation


def _signature(function: Function) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except NameError:  # names that are known where it was written only
        return inspect.signature(function)


@lru_cache(maxsize=1024)
def _adapter(wanted: Any) -> TypeAdapter[Any]:
    return TypeAdapter(wanted)


@dataclass(slots=True)
class Bound:
    """What a function is given in one turn."""

    args: tuple[Any, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    types: Mapping[str, Any] = field(default_factory=dict)
    limiter: anyio.CapacityLimiter | None = None


class FunctionStep(Agent):
    """A function of values as an agent of a pattern: what it returns is what the agent says.

    Args:
        name: Unique in the tree.
        function: Async, or a plain one, which runs in a thread.
        by_name: It is given values by the names of its parameters, rather than one.
        description: By default the first line of its docstring.
        timeout: Seconds for a turn.
        retry: What to do when a turn fails.

    Raises:
        ConfigError: It is no function, or one whose parameters can't be served.
    """

    def __init__(
        self,
        name: str,
        function: Function,
        *,
        by_name: bool = False,
        description: str = "",
        timeout: float | str | None = None,
        retry: Retry | int | None = None,
    ) -> None:
        text = (getattr(function, "__doc__", None) or "").strip().split("\n")[0] if name_of(function) else ""
        super().__init__(name, description=description or text, timeout=timeout, retry=retry)
        self.function = function
        self.by_name = by_name
        self.inputs: Inputs | None = None
        self.asynchronous = False
        self.bound = Bound()

    def check(self) -> None:
        """Check the settings; see `Agent.check`."""
        super().check()
        owner = f"function {self.name!r}"
        if not callable(self.function) or isinstance(self.function, type):
            raise ConfigError(f"{owner} must be an agent or a function, not {self.function!r}")
        if isasyncgenfunction(unwrap(self.function)):
            raise ConfigError(f"{owner} is an async generator: make it an agent with @agent, or return one value")
        vars(self)["asynchronous"] = is_async(self.function)
        if self.by_name or getattr(self.function, "__code__", None) is not None:  # a built-in may hide what it takes
            vars(self)["inputs"] = inputs = Inputs(self.function, owner)
            if inputs.ctx and not self.asynchronous:
                raise ConfigError(f"{owner} takes {inputs.ctx!r}, which is of no use in a thread: write `async def`")

    def given(self, bound: Bound) -> Self:
        """This agent for one turn, with what its function is to be given."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, bound=bound)
        return other

    async def run(self, ctx: InvocationContext) -> None:
        """Take a turn."""
        bound, inputs = self.bound, self.inputs
        values: dict[str, Any] = {}
        if inputs is not None:
            if self.by_name:
                values = inputs.pick(bound.values, bound.types, f"node {self.name!r}")
            if inputs.ctx:
                values[inputs.ctx] = ctx
        if self.asynchronous:
            value = await self.function(*bound.args, **values)
        else:
            value = await in_thread(self.function, *bound.args, limiter=bound.limiter, **values)
        event = as_event(ctx, value)
        if event is not None:
            await ctx.emit(event)
