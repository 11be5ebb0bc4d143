"""The pictures of a run: what they show, that they are well-formed, that nothing said in a run can break them."""

import html
import json
import re
import runpy
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import anyio
import pytest

from agentflow import Agent, Event, FunctionAgent, InvocationContext, ParallelAgent, Runner, SequentialAgent
from agentflow.events import AgentComplete, AgentStart
from agentflow.timeline import Timeline, gantt, runs, to_chrome, to_html, to_jsonl, to_svg
from agentflow.timeline.rows import moment, rows, ticks
from agentflow.timeline.text import columns, cut
from tests.browser import dom, needs_chromium
from tests.timeline.panel import events_of, panel, speaker, virtual

ROOT = Path(__file__).parents[2]
WICKED = "</script><script>alert(1)</script><!-- <b>&amp;\"'\x1b[31m\u202e\0\ud800 日本 @DATA@ ]]>"


async def wicked() -> Timeline:
    """A run whose words try to be something else."""

    async def speak(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text(WICKED))
        raise ValueError(WICKED)

    pair = ParallelAgent("pair", [FunctionAgent("名前", speak), speaker("b", 0)], on_error="collect")
    async with Runner(pair) as runner, runner.run(WICKED, session_id="s") as run:
        async for _ in run:
            pass
        session = await runner.sessions.get(run.session)
    assert session is not None
    (timeline,) = runs(session.events)
    return timeline


@virtual
async def test_the_text_shows_all_of_it() -> None:
    (timeline,) = runs(await events_of(panel()))
    assert gantt(timeline, width=100).splitlines() == [
        "panel ok · 6.8 s · 23 turns · 78 events · 320 tokens · Should we?",
        "                0           2 s         4 s         6 s",
        "panel           ──────────────────────────────────────────    6.8 s  ok",
        "  planner       ━━━━━                                        750 ms  ok",
        "  views             ────────────────────────────────          5.0 s  ok         5 of 9 succeeded",
        "    optimist        ━━━━━━━━━━━━━                             2.0 s  ok",
        "    critic          ────────────────────────                  3.8 s  ok",
        "      objection     ━━━━━━━ ━━━━━━━ ━━━━━━                    3.0 s  ok         3 turns",
        "      answer              ━━      ━━      ━━                 750 ms  ok         3 turns",
        "    research        ────────────────────────────────          5.0 s  ok",
        "      search        ╍╍╍╍╍╍╍╍╍╍                                1.5 s  ok",
        "      sources                 ──────────────────────          3.5 s  ok",
        "        news                  ━━━━━━━━━━━━━━━━                2.5 s  ok",
        "        prices                ━━━━━━━━━━━━━━━━━━━━━━          3.5 s  ok",
        "        filings               ━━                             250 ms  error      ConnectionError: cl…",
        "    lawyer          ━━━━━━━╌╌╌━━━━━━╌╌╌╌╌╌━━━━━━━             4.5 s  ok         attempt 3",
        "    accountant      ·············━━━━━━━━━                    1.5 s  ok         queued 2.0 s",
        "    translator      ······················━━━━━━━━━━          1.5 s  cancelled  5 of 9 succeeded, q…",
        "    late            ························━━━━━━━━          1.2 s  cancelled  5 of 9 succeeded, q…",
        "    last            ····························━━━━         500 ms  cancelled  5 of 9 succeeded, q…",
        "    never                                                            skipped",
        "  editor                                           ━━━━━━━    1.0 s  ok",
        "",
        "━━ at work   ── its agents at work   ╍╍ its tools at work   ·· queued   ╌╌ before a retry",
    ]


@virtual
@pytest.mark.parametrize("width", [20, 40, 60, 79, 80, 99, 100, 160, 400])
@pytest.mark.parametrize("plain", [False, True])
async def test_no_line_of_text_is_wider_than_was_asked(width: int, plain: bool) -> None:
    (timeline,) = runs(await events_of(panel()))
    for line in gantt(timeline, width=width, ascii=plain).splitlines():
        assert columns(line) <= width, line
        assert line.isascii() or not plain


@virtual
async def test_names_are_read_however_deep_they_are() -> None:
    agent: Agent = speaker("the_leaf", 1)
    for level in range(20):
        agent = SequentialAgent(f"level_{level}", [agent])
    (timeline,) = runs(await events_of(agent))
    for width in (60, 80, 120):
        assert gantt(timeline, width=width).count("level_") == 21, "the headline names the root, too"
        assert "the_leaf" in gantt(timeline, width=width)
    drawn = to_svg(timeline)
    assert all(f">level_{level}</text>" in drawn for level in range(20))
    (everything,) = runs(await events_of(panel()))
    (filings,) = [line for line in gantt(everything, width=44).splitlines() if "filings" in line]
    assert filings.startswith("    filings "), "where it is narrow, a level takes one column"
    assert ">the_leaf</text>" in drawn


@virtual
async def test_a_name_leaves_room_for_the_facts() -> None:
    (timeline,) = runs(await events_of(speaker("n" * 200, 1)))
    (title,) = re.findall(r'class="title".*?>(n+…) <', to_svg(timeline))
    assert 50 < len(title) < 90
    assert gantt(timeline, width=60).splitlines()[0].endswith("n… ok · 1.0 s")


@virtual
@pytest.mark.parametrize("width", [300, 960])
async def test_the_picture_names_the_colours_that_it_has(width: int) -> None:
    (timeline,) = runs(await events_of(panel()))
    drawn = to_svg(timeline, width=width)
    legend = drawn[drawn.index(">at work<") :]
    assert re.findall(r">([^<>\n]+)</text>", legend)[-3:] == ["error", "cancelled", "skipped"]
    root = ElementTree.fromstring(drawn)
    texts = list(root.iter("{http://www.w3.org/2000/svg}text"))
    assert max(float(text.attrib["y"]) for text in texts) + 16 == float(root.attrib["height"])


@virtual
async def test_a_timeout_says_how_long_it_had() -> None:
    async def work(ctx: InvocationContext) -> None:
        await anyio.sleep(9)

    pair = ParallelAgent("pair", [FunctionAgent("slow", work, timeout=0.5), speaker("b", 1)], on_error="collect")
    (timeline,) = runs(await events_of(pair))
    (line,) = [line for line in gantt(timeline, width=120).splitlines() if "slow" in line]
    assert line.endswith(" timeout  still at work after 0.5 s")


async def test_what_was_said_breaks_no_picture() -> None:
    timeline = await wicked()
    text = gantt(timeline, width=200)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", text)
    picture = to_svg(timeline)
    ElementTree.fromstring(picture)
    page = to_html([timeline])
    assert page.count("<script") == 2
    assert page.count("</script") == 2
    assert "alert(1)<" not in page.partition("@font")[0].split('id="data">')[1].partition("</script>")[0]
    for line in to_jsonl([timeline]):
        json.loads(line)
    json.loads("\n".join(to_chrome([timeline])))


async def test_pictures_load_nothing_and_send_nothing() -> None:
    timeline = await wicked()
    for text in (to_svg(timeline).replace("http://www.w3.org/2000/svg", ""), to_html([timeline])):
        assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)|fetch\(|XMLHttp|WebSocket|sendBeacon", text)
    assert "default-src 'none'" in to_html([timeline])


def test_an_outcome_that_tries_to_be_something_else_breaks_no_picture() -> None:
    """Whoever made an export can have written anything as an outcome."""
    (timeline,) = runs(
        [
            Event(id="1", invocation_id="r", author="a", path="a", lifecycle=AgentStart("a")),
            Event(
                id="2",
                invocation_id="r",
                author="a",
                path="a",
                lifecycle=AgentComplete("a", "{x}" + WICKED.replace("\ud800", "")),
            ),
        ]
    )
    drawn = to_svg(timeline)
    ElementTree.fromstring(drawn)
    assert "<script" not in drawn
    assert "\x1b" not in gantt(timeline)


def test_an_empty_run_is_no_error() -> None:
    empty = Timeline()
    empty.close()
    said = Timeline()
    said.add(Event(id="u", author="user", parts="hello", invocation_id="r", timestamp=5.0, serial=1))
    said.close()
    for timeline in (empty, said):
        assert gantt(timeline).startswith("run unfinished · 0 ms · 0 turns")
        ElementTree.fromstring(to_svg(timeline))
        assert 'id="data"' in to_html([timeline])
        assert json.loads("\n".join(to_chrome([timeline])))["displayTimeUnit"] == "ms"
        assert list(to_jsonl([timeline])) == []


@virtual
async def test_the_picture_has_a_bar_for_each_piece_of_each_turn() -> None:
    (timeline,) = runs(await events_of(panel()))
    root = ElementTree.fromstring(to_svg(timeline))
    names = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert all(row.label in names for row in rows(timeline))
    groups = list(root.iter("{http://www.w3.org/2000/svg}g"))
    assert len(groups) == len(timeline.turns)
    titles = [group[0].text for group in groups]
    assert "filings: error, 250 ms, ConnectionError: closed on <Sundays> & holidays" in titles
    width = float(root.attrib["width"])
    for rect in root.iter("{http://www.w3.org/2000/svg}rect"):
        if rect.get("x") is not None:
            assert 0 <= float(rect.attrib["x"]) <= float(rect.attrib["x"]) + float(rect.attrib["width"]) <= width + 2


@virtual
async def test_slices_of_a_trace_nest_in_each_thread() -> None:
    """Perfetto draws what doesn't nest wrongly, and says nothing."""
    (timeline,) = runs(await events_of(panel()))
    trace = json.loads("\n".join(to_chrome([timeline, timeline])))["traceEvents"]
    slices = defaultdict(list)
    for event in trace:
        assert event["pid"] in (1, 2)
        if "ts" in event:
            assert isinstance(event["ts"], int)
            assert event["ts"] >= 0
        if event["ph"] == "X":
            slices[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"], event["name"]))
    assert sum(name not in ("queued", "before a retry") for each in slices.values() for *_, name in each) == 2 * 23
    for thread in slices.values():
        open_until: list[int] = []
        for began, ended, name in sorted(thread, key=lambda piece: (piece[0], -piece[1])):
            while open_until and open_until[-1] <= began:
                open_until.pop()
            assert not open_until or ended <= open_until[-1], name
            open_until.append(ended)
    threads = {event["args"]["name"] for event in trace if event["name"] == "thread_name"}
    assert threads >= {"main", "views.lawyer", "views.research.sources.news"}
    tools = [event for event in trace if event.get("cat") == "tool"]
    assert [event["ph"] for event in tools] == ["b", "e"] * 6
    arrows = [event for event in trace if event.get("cat") == "fork"]
    assert len(arrows) == 2 * 2 * 11


@virtual
async def test_a_line_of_json_for_each_turn() -> None:
    (timeline,) = runs(await events_of(panel()))
    lines = [json.loads(line) for line in to_jsonl([timeline])]
    by_name = {line["name"]: line for line in lines}
    lawyer, filings, search = by_name["lawyer"], by_name["filings"], by_name["search"]
    assert (lawyer["waitedForRetries"], len(lawyer["attempts"]), lines[lawyer["parent"]]["name"]) == (1.5, 3, "views")
    assert filings["error"].startswith("ConnectionError: closed on")
    assert (filings["status"], filings.get("critical", False)) == ("error", False)
    assert search["usage"] == {"inputTokens": 290, "outputTokens": 30, "modelCalls": 2}
    assert by_name["views"]["skipped"] == ["never"]
    assert [line["name"] for line in lines if line.get("critical")] == ["planner", "search", "prices", "editor"]


DRIVE = """
<script>
const press = key => document.body.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
const told = () => document.getElementById("details").innerText;
const shown = [];
{
  press("e"); shown.push(told());
  press("c"); shown.push(document.getElementById("critical").getAttribute("aria-pressed"));
  press("Enter"); shown.push(view.to - view.from < run.end / 2);
  press("0"); shown.push(view.to - view.from === run.end);
  press("ArrowLeft"); press("ArrowLeft"); shown.push(rows.length);
  press("ArrowRight"); shown.push(rows.length);
  const find = document.getElementById("find");
  find.value = "five sources"; find.dispatchEvent(new Event("input"));
  shown.push(document.getElementById("found").textContent);
  press("t"); shown.push(document.documentElement.dataset.theme);
  press("Escape"); shown.push(document.getElementById("details").hidden);
  for (const key of ["End", "Home"]) { press(key); shown.push(picked.row.label); press("Escape"); }
  paint(); shown.push(document.querySelectorAll(".row").length);
  document.body.append(Object.assign(document.createElement("pre"), {id: "shown", textContent: JSON.stringify(shown)}));
}
</script>
"""


@needs_chromium
@virtual
async def test_the_page_in_a_browser(tmp_path: Path) -> None:
    (timeline,) = runs(await events_of(panel()), words=2_000)
    page = tmp_path / "page.html"
    page.write_text(to_html([timeline]).replace("</body>", DRIVE + "</body>"), encoding="utf-8")
    drawn = dom(page.as_uri(), tmp_path / "profile", size=(1280, 1000))
    found = re.search(r'<pre id="shown">(.*?)</pre>', drawn, re.DOTALL)
    assert found is not None, drawn[-2000:]
    details, *rest = json.loads(html.unescape(found[1]))
    assert "panel.views.research.sources.filings" in details
    assert "ConnectionError: closed on <Sundays>" in details
    assert rest == ["true", True, True, 17, 20, "1 found", "dark", True, "editor", "panel", 20]
    assert "<title>panel · ok · 6.8 s</title>" in drawn


@needs_chromium
async def test_a_page_of_many_turns_draws_what_can_be_seen(tmp_path: Path) -> None:
    """20,000 events: the rows in view are drawn, not all; and what an agent said stays words."""
    wide = ParallelAgent("wide", [speaker(f"a{number}", 0) for number in range(6_650)])
    timeline = Timeline(words=300)
    async with Runner(wide) as runner, runner.run(WICKED, lookahead=64) as run:
        async for event in run:
            timeline.add(event)
    timeline.close()
    assert timeline.events > 19_900
    page = tmp_path / "page.html"
    page.write_text(to_html([timeline]), encoding="utf-8")
    drawn = dom(page.as_uri(), tmp_path / "profile")
    assert 10 < drawn.count('role="treeitem"') < 60
    assert "6,651" in drawn


@virtual
async def test_the_picture_in_the_docs_is_what_it_looks_like_today(tmp_path: Path) -> None:
    draw = runpy.run_path(str(ROOT / "docs" / "make_timeline.py"))["draw"]
    await draw(tmp_path / "timeline.svg")
    today = (tmp_path / "timeline.svg").read_text(encoding="utf-8")
    assert today == (ROOT / "docs" / "timeline.svg").read_text(encoding="utf-8"), "run docs/make_timeline.py"


@pytest.mark.parametrize("seconds", [1e-6, 0.0007, 0.03, 0.9, 1.0, 7.8, 59, 61, 3_599, 5_400, 90_000, 1e7])
def test_an_axis_has_few_round_ticks(seconds: float) -> None:
    found = ticks(seconds, 8)
    assert 1 <= len(found) <= 8
    assert found[0] == 0
    assert found[-1] <= seconds
    assert len({moment(tick) for tick in found}) == len(found)


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("abc", 5, "abc  "),
        ("abcdef", 4, "abc…"),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日… "),
        ("e\u0301x", 2, "e\u0301x"),
    ],
)
def test_text_is_cut_to_columns(text: str, width: int, expected: str) -> None:
    assert cut(text, width) == expected
