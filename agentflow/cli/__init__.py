"""The command line: `agentflow run`, `agentflow timeline`, ... Imports nothing but click until a command is used."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from agentflow import __version__

READER_GONE = 141
"""The exit code where nobody reads the output any more: what a shell shows for a program that SIGPIPE ended."""

_COMMANDS = {
    "run": ("run:command", "Run an agent and watch all its branches."),
    "batch": ("batch:command", "Run an agent on each of many inputs."),
    "demo": ("demo:command", "Analyse a text with agents in parallel."),
    "sessions": ("sessions:command", "List sessions; title, fork, rewind, delete, prune."),
    "show": ("show:command", "Show what was said in a session."),
    "timeline": ("timeline:command", "Draw when each agent of a run was at work."),
    "replay": ("replay:command", "Show a stored run in the live view again."),
    "export": ("transfer:export_command", "Write whole sessions to a file."),
    "import": ("transfer:import_command", "Put exported sessions back."),
    "db": ("db:command", "Look after the file of sessions."),
    "completion": ("completion:command", "Let your shell complete what you type."),
}
"""Each command in the order of `--help`: where it is, and what it does."""


@contextmanager
def _reader_may_go() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise click.exceptions.Exit(READER_GONE) from error


class _LazyGroup(click.Group):
    """Imports a command when it is used, not to list it."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with _reader_may_go():  # help is printed here
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> object:
        with _reader_may_go():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if name in _COMMANDS:
            module, _, attribute = _COMMANDS[name][0].partition(":")
            command = getattr(importlib.import_module(f"agentflow.cli.{module}"), attribute)
        return name, command, rest


@click.group(
    cls=_LazyGroup,
    commands=[click.Command(name, help=text) for name, (_, text) in _COMMANDS.items()],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="agentflow")
def cli() -> None:
    """Run AI agents, nested to any depth, watch all branches at once, and look at what they did."""
