"""The document analysis as agents: what it finds, and what happens when an analyst doesn't."""

import pytest

from agentflow import ConfigError, Runner
from agentflow.demo import analysts, pipeline
from agentflow.demo.pipeline import TEXT, document_analysis

SHORT = "# One\n\nMary is happy in Paris. Mary sings.\n\n# Two\n\nTom is sad. Tom weeps.\n"


async def report(text: str, **options: object) -> str:
    async with Runner(document_analysis(text, **options)) as runner, runner.run() as run:  # type: ignore[arg-type]
        return (await run.wait()).text


async def test_the_report_is_what_the_analysts_give_without_agents() -> None:
    text = TEXT.read_text(encoding="utf-8")
    alone = analysts.synthesis([analysts.analyse(section) for section in analysts.sections(text)], title="Alice")
    assert await report(text, title="Alice") == alone


async def test_an_analyst_that_fails_is_named_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(text: str) -> analysts.Summary:
        raise RuntimeError("no luck")

    monkeypatch.setattr(pipeline, "ANALYSTS", {**analysts.ANALYSTS, "summary": fails})
    said = await report(SHORT)
    assert "2 sections" in said
    assert "summary" in said.lower().partition("missing")[2] or "no summary" in said.lower()


async def test_a_second_run_in_the_same_session_reports_its_own_findings() -> None:
    async with Runner(document_analysis(SHORT)) as runner:
        reports = []
        for _ in range(2):
            async with runner.run("again", session_id="s") as run:
                reports.append((await run.wait()).text)
    assert reports[0] == reports[1]


async def test_sections_and_their_analysts_are_branches() -> None:
    async with Runner(document_analysis(SHORT, max_concurrency=1)) as runner, runner.run() as run:
        branches = [event.branch async for event in run if event.text]
    assert sorted(set(branches[:4])) == [
        f"sections.section-1.section-1.{name}-1" for name in ("entities", "keywords", "sentiment", "summary")
    ]
    assert branches[-1] == ""


def test_nothing_to_analyse() -> None:
    with pytest.raises(ValueError, match="the text is empty"):
        document_analysis(" \n")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vaderSentiment", None)
    with pytest.raises(ConfigError, match=r"agentflow-py\[examples\]"):
        document_analysis(SHORT)
