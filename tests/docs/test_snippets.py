"""Every Python block of README and docs/ runs by itself and prints its `#>` lines.

A block that can't is marked ```` ```python {test="skip"} ````. `pytest tests/docs --update-examples` writes the lines.
"""

import sys
from pathlib import Path

import pytest
from pytest_examples import CodeExample, EvalExample, find_examples

ROOT = Path(__file__).parents[2]


def name(block: CodeExample) -> str:
    return f"{block.path.relative_to(ROOT)}:{block.start_line}"


BLOCKS = [
    pytest.param(block, id=name(block))
    for block in sorted(find_examples(ROOT / "README.md", ROOT / "docs"), key=name)
    if block.prefix_settings().get("test") != "skip"
]


@pytest.mark.parametrize("block", BLOCKS)
def test_block_runs_and_prints_what_the_page_says(
    block: CodeExample, eval_example: EvalExample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # the block becomes this; put it back
    eval_example.set_config(line_length=120, quotes="double")
    if eval_example.update_examples:
        eval_example.run_print_update(block)
    else:
        eval_example.run_print_check(block)
