"""What the analysts bring home: small, frozen, with one line of words each (`str`)."""

from dataclasses import dataclass
from typing import Literal

from agentflow.demo._entities import Entities
from agentflow.demo._sections import Section

Label = Literal["positive", "negative", "neutral"]


@dataclass(frozen=True, slots=True)
class Sentiment:
    """The mood of a text.

    Attributes:
        label: `positive` from a score of 0.05, `negative` from -0.05, as VADER's authors advise.
        score: -1 to 1, the mean over all sentences.
        sentences: How many there were.
        most_positive: The sentence with the highest score above 0, on one line; `None` if there is none.
        most_negative: Likewise below 0.
    """

    label: Label
    score: float
    sentences: int
    most_positive: str | None
    most_negative: str | None

    def __str__(self) -> str:
        return f"{self.label} ({self.score:+z.2f})"


@dataclass(frozen=True, slots=True)
class Summary:
    """Sentences of the text that stand for it, in its order, white space collapsed, at least one."""

    sentences: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.sentences)


@dataclass(frozen=True, slots=True)
class Keyword:
    """A word or a phrase of up to three, written as the text does most often.

    Attributes:
        phrase: Stands in the text, white space collapsed.
        count: How often.
        score: What it is ranked by; comparable within one text only.
    """

    phrase: str
    count: int
    score: float


@dataclass(frozen=True, slots=True)
class Keywords:
    """The keywords of a text, the best first; may be empty."""

    found: tuple[Keyword, ...]

    def __str__(self) -> str:
        return ", ".join(each.phrase for each in self.found) or "no keywords"


Finding = Sentiment | Entities | Summary | Keywords


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is known of one section; `None` where an analyst brought nothing home."""

    section: Section
    sentiment: Sentiment | None = None
    entities: Entities | None = None
    summary: Summary | None = None
    keywords: Keywords | None = None


def label(score: float) -> Label:
    """The word for a score from -1 to 1."""
    return "positive" if score >= 0.05 else "negative" if score <= -0.05 else "neutral"
