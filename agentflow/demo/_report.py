"""One report from what the analysts found in each section."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from agentflow.demo._entities import Kind
from agentflow.demo._findings import Analysis, label
from agentflow.demo._prose import length, select, tidy

_FOUR = ("sentiment", "entities", "summary", "keywords")


def synthesis(analyses: Sequence[Analysis], *, title: str = "Document analysis", top: int = 10) -> str:
    """Put the findings of all sections together, as Markdown; the same findings give the same report.

    Args:
        analyses: In the order of the text. What is `None` is left out and named as missing.
        title: The heading of the report.
        top: At most so many names and keywords.

    Raises:
        ValueError: No analyses.
    """
    if not analyses:
        raise ValueError("there is nothing to put together: no section was analysed")
    size = round(sum(length(each.section.text) for each in analyses))
    parts = [
        f"# {tidy(title)}",
        f"{_plural(len(analyses), 'section')}, {_plural(size, 'word')}.",
        *_mood(analyses),
        *_names(analyses, top),
        *_topics(analyses, top),
        *_in_short(analyses),
        *_missing(analyses),
    ]
    return "\n\n".join(parts) + "\n"


def _mood(analyses: Sequence[Analysis]) -> Iterator[str]:
    moods = [(each.section, each.sentiment) for each in analyses if each.sentiment]
    if not moods:
        return
    total = sum(mood.sentences for _, mood in moods)
    mean = math.fsum(mood.score * mood.sentences for _, mood in moods) / total
    line = f"{label(mean).capitalize()} overall ({mean:+z.2f}, the mean of {_plural(total, 'sentence')})"
    if len(moods) > 1:
        high = max(moods, key=lambda each: each[1].score)
        low = min(moods, key=lambda each: each[1].score)
        line += (
            f"; {_trend([mood.score for _, mood in moods])}. Brightest in {high[0].number}, *{tidy(high[0].title)}* "
            f"({high[1].score:+z.2f}); darkest in {low[0].number}, *{tidy(low[0].title)}* ({low[1].score:+z.2f})"
        )
    yield f"## Sentiment\n\n{line}."
    widest = max(abs(mood.score) for _, mood in moods) or 1
    rows = [
        f"| {section.number} | {_cell(section.title)} | {mood} | {_bar(mood.score / widest)} |"
        for section, mood in moods
    ]
    yield "\n".join(["| # | Section | Sentiment | − · + |", "| --: | :-- | :-- | :-- |", *rows])


def _names(analyses: Sequence[Analysis], top: int) -> Iterator[str]:
    counts: Counter[str] = Counter()
    kinds: defaultdict[str, Counter[Kind]] = defaultdict(Counter)
    places: defaultdict[str, list[int]] = defaultdict(list)
    for each in analyses:
        for entity in each.entities.found if each.entities else ():
            counts[entity.name] += entity.count
            kinds[entity.name][entity.kind] += entity.count if entity.kind != "other" else 0
            places[entity.name].append(each.section.number)
    if any(each.entities for each in analyses):
        rows = [
            f"- **{_cell(name)}** ({kinds[name].most_common(1)[0][0]}): {count:,} × in {_numbers(places[name])}"
            for name, count in counts.most_common(top)
        ]
        yield "\n".join(["## Names\n", *(rows or ["None found."])])


def _topics(analyses: Sequence[Analysis], top: int) -> Iterator[str]:
    names = {entity.name.lower() for each in analyses if each.entities for entity in each.entities.found}
    counts: Counter[str] = Counter()
    forms: dict[str, str] = {}
    places: defaultdict[str, list[int]] = defaultdict(list)
    for each in analyses:
        for keyword in each.keywords.found if each.keywords else ():
            key = keyword.phrase.lower()
            counts[key] += keyword.count
            forms.setdefault(key, keyword.phrase)
            places[key].append(each.section.number)
    if any(each.keywords for each in analyses):
        best = [key for key, _ in counts.most_common() if key not in names][:top]
        rows = [f"- **{_cell(forms[key])}**: {counts[key]:,} × in {_numbers(places[key])}" for key in best]
        yield "\n".join(
            [
                "## Keywords beside the names\n",
                "Each is counted in the sections that it is a keyword of.\n",
                *(rows or ["None found."]),
            ]
        )


def _in_short(analyses: Sequence[Analysis]) -> Iterator[str]:
    summaries = [(each.section, each.summary) for each in analyses if each.summary]
    if not summaries:
        return
    chosen = select([sentence for _, each in summaries for sentence in each.sentences], 3)
    yield "## Summary\n\n" + " ".join(chosen)
    if len(summaries) > 1:
        rows = [f"{section.number}. **{_cell(section.title)}**: {each}" for section, each in summaries]
        yield "\n".join(["## Section by section\n", *rows])


def _missing(analyses: Sequence[Analysis]) -> Iterator[str]:
    lacks = {name: [each.section.number for each in analyses if getattr(each, name) is None] for name in _FOUR}
    rows = [f"- {name} of {_numbers(numbers)}" for name, numbers in lacks.items() if numbers]
    if rows:
        yield "\n".join(["## Missing\n", *rows])


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _numbers(numbers: list[int]) -> str:
    """`section 4`, `sections 1-3, 7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ("section " if len(numbers) == 1 else "sections ") + ", ".join("–".join(map(str, run)) for run in runs)


def _cell(text: str) -> str:
    """On one line, without what Markdown would read as a border of a table."""
    return tidy(text).replace("|", "\\|")


def _bar(share: float) -> str:
    """Five places left of the middle, five right of it, filled as far as `share` (-1 to 1) says."""
    filled = round(abs(share) * 5)
    left, right = (filled, 0) if share < 0 else (0, filled)
    return f"`{'█' * left:>5}│{'█' * right:<5}`"


def _trend(scores: list[float]) -> str:
    """The first third against the last, in words."""
    third = max(1, round(len(scores) / 3))
    first, last = (math.fsum(part) / third for part in (scores[:third], scores[-third:]))
    way = "rising" if last - first >= 0.05 else "falling" if first - last >= 0.05 else "about level"
    return f"{way} from {first:+z.2f} in the first third to {last:+z.2f} in the last"
