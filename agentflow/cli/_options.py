"""What several commands take, and how it is checked."""

import os
import re
from collections.abc import Callable
from typing import TypeVar

import click

from agentflow.cli._errors import Fault
from agentflow.errors import ConfigError
from agentflow.models.base import Model
from agentflow.models.registry import resolve_model
from agentflow.policies import seconds

F = TypeVar("F", bound=Callable[..., object])


def utf8(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse what was not valid UTF-8 on the command line."""
    bad = next((char for char in value or "" if "\ud800" <= char <= "\udfff"), "")
    if bad:
        byte = f" (byte 0x{ord(bad) - 0xDC00:02x})" if "\udc80" <= bad <= "\udcff" else ""
        name = param.opts[0] if isinstance(param, click.Option) else param.human_readable_name.strip("[]")
        raise Fault(f"{name} is not valid UTF-8{byte}. Nothing was run.")
    return value


def as_text(data: bytes, what: str) -> str:
    """Decode UTF-8, a byte order mark aside.

    Raises:
        Fault: It isn't.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = f"byte 0x{data[error.start]:02x} at position {error.start:,}"
        raise Fault(f"{what} is not valid UTF-8 ({at}). Nothing was run.") from error


def in_seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Seconds, or `90s`, `5m`, `1.5h`."""
    try:
        return seconds(value, "--timeout")
    except ConfigError:
        raise Fault(f"--timeout must be seconds above 0, or a time such as 90s or 5m, not {value!r}") from None


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def seconds_of(age: str, what: str) -> float:
    """`90s`, `5m`, `12h`, `30d`, `8w` in seconds.

    Raises:
        Fault: It is none of these.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", age, re.ASCII)
    if found is None:
        raise Fault(f"{what} must be a number and a unit, such as 12h, 30d or 8w, not {age!r}")
    return float(found[1]) * _UNITS[found[2]]


def backend_option(function: F) -> F:
    """`--backend`."""
    return click.option(
        "--backend", type=click.Choice(["asyncio", "trio"]), default="asyncio", show_default=True,
        help="Event loop to run on.",
    )(function)  # fmt: skip


KEY = "ANTHROPIC_API_KEY"
"""The environment variable whose presence lets Claude think."""


def model_option(default: str) -> Callable[[F], F]:
    """`--model`; `default` is Claude's that thinks where there is a key."""
    return click.option(
        "--model", callback=utf8, metavar="NAME",
        help=f"What agents think with that name no model; {default} where {KEY} is set, else none.",
    )  # fmt: skip


def chosen_model(name: str | None, default: str) -> Model | None:
    """The model that `--model` names, or the default where there is a key; `none` is none.

    Raises:
        Fault: There is no such model.
    """
    name = name or (default if os.environ.get(KEY) else "none")
    try:
        return None if name == "none" else resolve_model(name)
    except ConfigError as error:
        raise Fault(f"--model: {error}") from error


def json_option(function: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one event a line as JSON, and nothing else.")(
        function
    )


def listing_option(function: F) -> F:
    """`--json`, of commands that give objects."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON objects, one a line, and nothing else.")(
        function
    )


def debug_option(function: F) -> F:
    """`--debug`."""
    return click.option("--debug", is_flag=True, help="Add the traceback to an error.")(function)
