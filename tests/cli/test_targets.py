"""What `TARGET` may be, and what is said when it can't be run."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Call = Callable[..., Result]
Write = Callable[..., Path]

ONE = """
@agent
async def echo(ctx):
    await ctx.emit(ctx.text(f"echo {ctx.user_text}"))
"""
TREE = """
@agent
async def first(ctx):
    await ctx.emit(ctx.text("first"))

@agent
async def second(ctx):
    await ctx.emit(ctx.text("second"))

both = SequentialAgent("pair", [first, second])

def helper():
    pass
"""


def refused(result: Result) -> str:
    """Exit code 2, nothing on stdout, one paragraph on stderr."""
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.stderr
    assert "\n" not in result.stderr.removesuffix("\n")
    return result.stderr.removesuffix("\n")


def test_the_only_agent_of_a_file_is_run(call: Call, agent_file: Write) -> None:
    result = call("run", agent_file(ONE), "hello")
    assert result.exit_code == 0
    assert result.stdout.startswith("echo: echo hello\n")


def test_the_only_root_of_a_file_is_run_whatever_it_is_made_of(call: Call, agent_file: Write) -> None:
    assert call("run", agent_file(TREE)).stdout.startswith("first: first\nsecond: second\n")


@pytest.mark.parametrize("name", ["root_agent", "agent"])
def test_of_several_agents_the_one_of_the_usual_name_is_run(call: Call, agent_file: Write, name: str) -> None:
    file = agent_file(f"{TREE}\nother = second.clone(name='other')\n{name} = other.clone(name='usual')\n")
    assert call("run", file).stdout.startswith("usual: second\n")


def test_several_agents_are_listed(call: Call, agent_file: Write) -> None:
    file = agent_file(f"{TREE}\nother = second.clone(name='other')\n")
    said = refused(call("run", file))
    assert said == f"Error: '{file}' has 2 agents; say which: {file}:both, {file}:other"


@pytest.mark.parametrize(("name", "says"), [("second", "second: second"), ("pair", "first: first")])
def test_an_agent_is_found_by_its_variable_and_by_its_own_name(
    call: Call, agent_file: Write, name: str, says: str
) -> None:
    assert call("run", f"{agent_file(TREE)}:{name}").stdout.startswith(says)


def test_a_typo_in_the_name_is_met_with_what_may_be_meant(call: Call, agent_file: Write) -> None:
    file = agent_file(TREE)
    assert refused(call("run", f"{file}:secnod")) == f"Error: there is no 'secnod' in '{file}'; did you mean 'second'?"


def test_a_name_that_is_like_nothing_is_met_with_what_there_is(call: Call, agent_file: Write) -> None:
    assert refused(call("run", f"{agent_file(TREE)}:zzz")).endswith("; it has first, second, both")


def test_what_is_no_agent_is_named(call: Call, agent_file: Write) -> None:
    said = refused(call("run", f"{agent_file(TREE)}:helper"))
    assert said.endswith("is a function, not an agent; make it an agent with @agent")


def test_a_file_without_agents(call: Call, agent_file: Write) -> None:
    assert "there is no agent in" in refused(call("run", agent_file("x = 1")))


def test_a_missing_file_is_met_with_one_that_is_there(call: Call, agent_file: Write) -> None:
    file = agent_file(ONE)
    missing = file.with_name("targt.py")
    assert refused(call("run", missing)) == f"Error: there is no file '{missing}'; did you mean '{file}'?"


def test_a_folder_is_met_with_the_files_in_it(call: Call, agent_file: Write) -> None:
    folder = agent_file(ONE).parent
    assert refused(call("run", folder)) == f"Error: '{folder}' is a folder; name a file in it (target.py)"


def test_of_a_large_folder_some_files_are_named(call: Call, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"a{number:02}.py").touch()
    assert refused(call("run", tmp_path)).endswith("name a file in it (a00.py, a01.py, a02.py, a03.py, a04.py, "
                                                   "a05.py, a06.py, a07.py, …)")  # fmt: skip


def test_an_empty_name_is_not_the_working_folder(call: Call) -> None:
    assert refused(call("run", "", "hi")) == "Error: there is no file ''"


def test_a_file_that_is_no_python(call: Call, agent_file: Write) -> None:
    assert refused(call("run", agent_file("", name="notes.txt"))) == "Error: 'notes.txt' is not a Python file (.py)"


def test_an_import_that_fails_is_told_with_the_line_of_the_file_itself(call: Call, agent_file: Write) -> None:
    agent_file("def fail():\n    raise LookupError('not here')\n", name="house_helper.py")
    file = agent_file("import house_helper\n\nhouse_helper.fail()\n")
    said = refused(call("run", file))
    assert said == "Error: target.py failed on import: LookupError: not here (target.py, line 6)"


def test_debug_adds_the_traceback_of_a_failed_import(call: Call, agent_file: Write) -> None:
    result = call("run", agent_file("nonsense"), "--debug")
    assert result.exit_code == 2
    assert "Traceback (most recent call last):" in result.stderr
    assert "Error: target.py failed on import: NameError: name 'nonsense' is not defined (target.py, line 4)" in (
        result.stderr
    )


def test_a_syntax_error_is_told_with_its_line(call: Call, agent_file: Write) -> None:
    said = refused(call("run", agent_file("def f(:\n    pass\n")))
    assert said == "Error: target.py can't be imported: SyntaxError: invalid syntax (target.py, line 4)"


def test_a_mistake_in_a_tree_is_told_as_it_is(call: Call, agent_file: Write) -> None:
    said = refused(call("run", agent_file(f"{TREE}\nSequentialAgent('again', [first])\n")))
    assert "agent 'first' already has a parent, 'pair'" in said


def test_a_file_that_ends_the_program_when_imported(call: Call, agent_file: Write) -> None:
    assert "ends the program when it is imported (target.py, line 4)" in refused(call("run", agent_file("exit(3)")))


def test_a_module_of_the_working_folder(call: Call, agent_file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(agent_file(TREE, name="house/rooms.py").parent.parent)
    assert call("run", "house.rooms:both").stdout.startswith("first: first\n")


def test_a_missing_module(call: Call, agent_file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(agent_file(TREE).parent)
    assert refused(call("run", "targte:both")) == "Error: there is no module 'targte'; did you mean 'target.py'?"


def test_a_module_that_imports_what_is_missing(call: Call, agent_file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(agent_file("import house_of_cards\n").parent)
    said = refused(call("run", "target:both"))
    assert (
        said
        == "Error: target failed on import: ModuleNotFoundError: No module named 'house_of_cards' (target.py, line 4)"
    )


def test_what_is_neither_a_file_nor_a_module(call: Call) -> None:
    assert "is neither a Python file (.py) nor the name of a module" in refused(call("run", "what is this"))


def test_a_file_of_a_package_may_import_its_neighbours(call: Call, agent_file: Write) -> None:
    agent_file("", name="house/__init__.py")
    agent_file(ONE, name="house/inner.py")
    assert call("run", agent_file("from .inner import echo", name="house/outer.py"), "x").stdout.startswith(
        "echo: echo x"
    )


def test_a_file_may_be_named_like_a_module_of_others(call: Call, agent_file: Write) -> None:
    assert call("run", agent_file(ONE, name="json.py"), "x").stdout.startswith("echo: echo x")
    assert call("run", agent_file(ONE, name="my agent.py"), "y").stdout.startswith("echo: echo y")
