"""`python -m agentflow` and the `agentflow` command."""

import importlib
import io
import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that can't show a character is no reason to fail
    try:
        click = importlib.import_module("click")
        cli = importlib.import_module("agentflow.cli")
    except ModuleNotFoundError as error:
        _without_extra(error)
    try:
        code = cli.cli.main(prog_name="agentflow", standalone_mode=False)
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            code = cli.READER_GONE
        if code == cli.READER_GONE:  # what is still buffered goes nowhere, or the interpreter complains
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(code)
    except ModuleNotFoundError as error:
        _without_extra(error)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


def _without_extra(error: ModuleNotFoundError) -> NoReturn:
    missing = (error.name or "").partition(".")[0]
    if missing not in ("click", "rich"):
        raise error
    sys.exit(f"Error: the command line needs {missing}, which is not installed: pip install 'agentflow-py[cli]'")


if __name__ == "__main__":
    main()
