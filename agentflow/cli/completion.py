"""`agentflow completion SHELL`: the script that makes a shell complete commands, options and session ids."""

import click
from click.shell_completion import get_completion_class

from agentflow.cli import cli

_HELP = """Print the script that makes SHELL complete commands, options and session ids.

\b
bash  eval "$(agentflow completion bash)"   in ~/.bashrc
zsh   eval "$(agentflow completion zsh)"    in ~/.zshrc
fish  agentflow completion fish > ~/.config/fish/completions/agentflow.fish
"""


@click.command("completion", help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(*, shell: str) -> None:
    """Print what the shell is to evaluate."""
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(cli, {}, "agentflow", "_AGENTFLOW_COMPLETE").source())
