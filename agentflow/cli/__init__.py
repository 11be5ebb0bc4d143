"""The command line: `agentflow run`, `batch` and `demo`. Imports nothing but click until a command is used."""

import importlib

import click

from agentflow import __version__

_HOMES = {"batch": "agentflow.cli.batch", "demo": "agentflow.cli.demo", "run": "agentflow.cli.run"}
"""Where each command is."""


class _LazyGroup(click.Group):
    """Imports a command when it is used, not to list it."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if name in _HOMES:
            command = importlib.import_module(_HOMES[name]).command
        return name, command, rest


@click.group(
    cls=_LazyGroup,
    commands=[
        click.Command("run", help="Run an agent from a Python file or module, and watch all its branches."),
        click.Command("batch", help="Run an agent on each of many inputs."),
        click.Command("demo", help="Analyse a text with agents in parallel."),
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="agentflow")
def cli() -> None:
    """Run AI agents, nested to any depth, and watch all branches at once."""
