"""What a model must know of a function, read off its signature and docstring on first use."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import UnionType
from typing import Annotated, Any, NotRequired, Required, Union, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import to_jsonable_python
from typing_extensions import TypedDict

from agentflow.core import InvocationContext, ToolContext
from agentflow.errors import ConfigError, InvalidArguments


class _Schema(GenerateJsonSchema):
    """Without the titles that pydantic makes of names: they cost tokens and say nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


@dataclass(slots=True)
class Signature:
    """A function as a model sees it.

    Attributes:
        description: What its docstring says, parameters aside.
        parameters: JSON schema of its arguments.
        context: The parameter that takes the context, if one does.
    """

    description: str
    parameters: dict[str, Any]
    context: str | None
    _names: dict[str, bool]  # the model's parameters, and whether one can only be given by position
    _adapter: TypeAdapter[Any]

    def bind(self, tool: str, args: dict[str, Any], ctx: ToolContext) -> tuple[list[Any], dict[str, Any]]:
        """What to call the function with.

        Raises:
            InvalidArguments: They don't fit; it says how, for the model to read.
        """
        try:
            fitting = self._adapter.validate_python(args)
        except ValidationError as error:
            problems = "\n".join(
                f"- {'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_context=False, include_input=False)[:20]
            )
            raise InvalidArguments(f"the arguments don't fit the schema of {tool!r}:\n{problems}") from None
        positional = []
        for name, only in self._names.items():
            if name == self.context:
                fitting[name] = ctx
            if only:
                if name not in fitting:
                    break
                positional.append(fitting.pop(name))
        return positional, fitting


_known: "WeakKeyDictionary[Callable[..., Any], Signature]" = WeakKeyDictionary()


def plain_function(function: Callable[..., Any]) -> Any:
    """What is called in the end: inside of partials, bound methods and callable objects."""
    plain: Any = function
    while isinstance(plain, partial):
        plain = plain.func
    if not inspect.isroutine(plain) and not isinstance(plain, type):
        plain = getattr(type(plain), "__call__", plain)  # noqa: B004 - not whether it can be called
    return inspect.unwrap(getattr(plain, "__func__", plain))


def signature_of(function: Callable[..., Any]) -> Signature:
    """The signature of a function; worked out once.

    Raises:
        ConfigError: No schema can be made of it; the message says which parameter is at fault.
    """
    key = getattr(function, "__func__", function)  # each access to a method makes a new object of it
    try:
        signature = _known.get(key)
    except TypeError:  # can't be hashed or referred to weakly
        return _read(function)
    if signature is None:
        signature = _known[key] = _read(function)
    return signature


def _read(function: Callable[..., Any]) -> Signature:
    name = str(getattr(function, "__name__", None) or type(function).__name__)
    plain = plain_function(function)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise ConfigError(f"tool {name!r} has no signature to read; write a function around it") from error
    hints = _hints(name, plain)
    description, documented = read_docstring(inspect.getdoc(plain) or "")
    fields: dict[str, Any] = {}
    names: dict[str, bool] = {}
    context: str | None = None
    for parameter in parameters.values():
        hint = hints.get(parameter.name, Any)
        if _is_context(hint) or (parameter.name == "ctx" and parameter.name not in hints):
            context = parameter.name
        elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ConfigError(
                f"tool {name!r}: a model can't be told what to give as {parameter}; name each parameter, "
                "or take one list or mapping"
            )
        else:
            fields[parameter.name] = _field(parameter, hint, documented.get(parameter.name))
        names[parameter.name] = parameter.kind is parameter.POSITIONAL_ONLY
    arguments = TypedDict("Arguments", fields)  # type: ignore[misc]  # a type made at run time
    arguments.__pydantic_config__ = ConfigDict(extra="forbid", arbitrary_types_allowed=False)  # type: ignore[attr-defined]
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(arguments)
        schema = adapter.json_schema(schema_generator=_Schema)
    except PydanticUserError as error:
        raise ConfigError(f"tool {name!r}: no JSON schema can be made of its parameters: {error}") from error
    schema.pop("title", None)
    schema.setdefault("properties", {})
    return Signature(description, schema, context, names, adapter)


def _hints(name: str, plain: Any) -> dict[str, Any]:
    known = {"ToolContext": ToolContext, "InvocationContext": InvocationContext}
    try:  # our own contexts are often imported for type checkers alone
        return get_type_hints(plain, localns=known, include_extras=True)
    except NameError as error:
        raise ConfigError(
            f"tool {name!r}: an annotation names {error.name!r}, which is not there when the program runs: "
            "import it at the top of the module, not under TYPE_CHECKING or in a function"
        ) from error
    except TypeError:  # a builtin has none
        return {}


def _is_context(hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Annotated:
        return _is_context(get_args(hint)[0])
    if origin in (Union, UnionType):
        return any(_is_context(one) for one in get_args(hint))
    return isinstance(hint, type) and issubclass(hint, InvocationContext)


def _field(parameter: inspect.Parameter, hint: Any, documented: str | None) -> Any:
    notes: dict[str, Any] = {}
    said = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    if documented and not any(isinstance(note, FieldInfo) and note.description for note in said):
        notes["description"] = documented
    if parameter.default is parameter.empty:
        return Required[Annotated[hint, Field(**notes)]] if notes else Required[hint]
    try:
        default = to_jsonable_python(parameter.default)
    except ValueError:  # no JSON: the model need not know it
        return NotRequired[Annotated[hint, Field(**notes)]] if notes else NotRequired[hint]
    if default is not None:
        notes["json_schema_extra"] = {"default": default}
    return NotRequired[Annotated[hint, Field(**notes)]]


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """What a docstring says of the function, and of each parameter. Google, NumPy, reST and Epydoc styles."""
    if not text.strip():
        return "", {}
    from docstring_parser import parse  # where there is something to parse

    parsed = parse(text)
    described = {param.arg_name.lstrip("*"): param.description for param in parsed.params if param.description}
    words = [words for words in (parsed.short_description, parsed.long_description) if words]
    return "\n\n".join(words), described
