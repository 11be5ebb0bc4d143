"""What users copy from the pages passes the strictest check of types that they may have."""

import subprocess
import sys
from pathlib import Path

from tests.docs.test_snippets import BLOCKS, ROOT


def test_every_block_is_clean_under_strict_mypy(tmp_path: Path) -> None:
    for block in (parameter.values[0] for parameter in BLOCKS):
        name = f"{block.path.relative_to(ROOT).with_suffix('')}_{block.start_line}"
        (tmp_path / (name.replace("/", "_").replace("-", "_").replace(".", "_") + ".py")).write_text(block.source)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.stdout == ""
    assert checked.returncode == 0, checked.stderr
