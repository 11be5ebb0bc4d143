"""`agentflow demo`: the document analysis, on the text that comes with it and on one's own."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from agentflow import Event
from agentflow.demo.pipeline import NOTE

Call = Callable[..., Result]
SAYS = f"{NOTE}\nSet ANTHROPIC_API_KEY and Claude reads it."
TEXT = "# One\n\nMary is happy in Paris. Mary sings.\n\n# Two\n\nTom is sad. Tom weeps in Rome, and Tom waits.\n"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_text_that_comes_with_it(call: Call, backend: str) -> None:
    result = call("demo", "--backend", backend)
    assert (result.exit_code, result.stderr) == (0, SAYS + "\n")
    for number in range(1, 13):
        for analyst in ("sentiment", "entities", "summary", "keywords"):
            assert f"sections.section-{number:02}.{analyst}-{number:02}: " in result.stdout
    assert "\nsynthesis:\n# Alice's Adventures in Wonderland\n\n12 sections, 26,301 words.\n" in result.stdout
    assert "- **Alice** (person): " in result.stdout
    assert result.stdout.count(" ok ") >= 61


def test_ones_own_text(call: Call, tmp_path: Path) -> None:
    (tmp_path / "tale.md").write_text(TEXT, encoding="utf-8")
    result = call("demo", tmp_path / "tale.md")
    assert result.exit_code == 0
    assert "synthesis:\n# tale\n\n2 sections, 17 words.\n" in result.stdout
    assert "- **Mary** (" in result.stdout


def test_the_report_is_the_same_each_time(call: Call) -> None:
    reports = {call("demo").stdout.partition("synthesis:")[2].partition("document ")[0] for _ in range(2)}
    assert len(reports) == 1


def test_a_folder_is_read_one_file_after_the_other(call: Call, tmp_path: Path) -> None:
    for name, data in (
        ("b.txt", TEXT.encode()),
        ("a.md", TEXT.encode()),
        ("c.rst", b"\xff"),
        ("d.TXT", b" \n"),
        ("e.py", b""),
    ):
        (tmp_path / name).write_bytes(data)
    result = call("demo", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        *SAYS.splitlines(),
        "[1/4] a.md",
        "[2/4] b.txt",
        "[3/4] c.rst",
        "Error: 'c.rst' is not valid UTF-8 (byte 0xff at position 0). Nothing was run.",
        "[4/4] d.TXT",
        "Error: 'd.TXT': there is nothing to analyse: the text is empty",
    ]
    assert result.stdout.index("# a\n") < result.stdout.index("# b\n")


def test_json_is_events_and_nothing_else(call: Call) -> None:
    result = call("demo", "--json")
    events = [Event.from_json(line) for line in result.stdout_bytes.splitlines()]
    findings = [event for event in events if event.author.startswith("sentiment-") and event.text]
    assert len(findings) == 12
    values = [part.value for event in findings for part in event.parts if part.kind == "data"]  # type: ignore[union-attr]
    assert sorted(value["section"] for value in values) == list(range(1, 13))
    assert {"label", "score", "sentences", "most_positive", "most_negative", "section"} == set(values[0])


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("missing.txt", None, "there is no file or folder "),
        ("empty.txt", b"", "'empty.txt': there is nothing to analyse: the text is empty"),
        ("latin.txt", b"caf\xe9", "'latin.txt' is not valid UTF-8 (byte 0xe9 at position 3)"),
        ("folder", b"", "there is no text in "),
    ],
)
def test_what_cannot_be_read_is_one_error(call: Call, tmp_path: Path, name: str, data: bytes | None, says: str) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif data is not None:
        path.write_bytes(data)
    result = call("demo", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Error: {says}" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_empty_name_is_not_the_working_folder(call: Call) -> None:
    assert call("demo", "").stderr.endswith("Error: there is no file or folder ''\n")


def test_without_the_extra_it_names_it(tmp_path: Path) -> None:
    code = "import sys; sys.modules['vaderSentiment'] = None; from agentflow.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "demo"], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        "Error: the sentiment analyst needs vaderSentiment, which the extra `examples` brings: "
        "pip install 'agentflow-py[examples]'"
    )
