"""Words and sentences: where they begin and end, and which words say little."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

_MARKS = (  # punctuation, symbols and pictures: never part of a word
    r"\s\d!-/:-@\[-`{-~\u00a1-\u00bf\u2010-\u206f\u2190-\u2bff\u3000-\u3003\u3008-\u301f\u30fb\uff01-\uff0f\uff1a-\uff1f"
    r"\U0001f000-\U0001faff"
)
_RUN = rf"(?=[^\W\d_])[^{_MARKS}]+"
WORD = re.compile(rf"{_RUN}(?:['’\-]{_RUN})*")
"""A run of letters, with an apostrophe or a hyphen inside: `don’t`, `rabbit-hole`."""

_KANJI = re.compile(r"[\u3001-\u30ff\u3400-\u9fff\uff01-\uff60]")

MAX_SENTENCE = 1_500
"""Characters; a "sentence" beyond that (a table, a log, a text without stops) is cut at a space."""

_BREAK = re.compile(
    r"(?P<stop>(?<![.!?…])[.!?…]++[\"'’”»)\]*_]*+)(?P<gap>\s++)(?P<next>\S)"  # a full stop and what follows it
    r"|[。！？]+[」』”’]*"
    r"|\n[ \t]*(?:\n\s*|(?=[#>*+•\-]+[ \t]))"  # a blank line; the next item of a list
    r"|(?:[^\w\s]\s*){40}"  # a wall of pictures or signs: VADER's time is quadratic in a sentence's words
)
_OPENED = re.compile(r"[‘“„«]")
_CLOSED = re.compile(r"[’”»](?![^\W\d_])")
_BEFORE = re.compile(r"[^\W\d_]+$")


def word_set(text: str) -> frozenset[str]:
    """The words of a list that is kept as text."""
    return frozenset(text.split())


_ABBREVIATIONS = word_set(
    """
    mr mrs ms messrs mme dr prof sr jr st rev hon gen col capt lt sgt gov pres esq inc ltd co corp vs vol fig eq ch
    pp ed al approx dept est jan feb mar apr jun jul aug sept sep oct nov dec
    """
)
TITLES = word_set(
    """
    mr mrs ms miss mister madam mme sir lady lord dame dr doctor prof professor rev reverend saint captain capt
    colonel col gen lieutenant sergeant inspector detective judge president senator governor minister chancellor
    king queen prince princess duke duchess countess baron baroness emperor empress pope bishop father mother
    brother sister uncle aunt cousin granny
    """
)

STOP_WORDS = (
    # pronouns, articles, prepositions, conjunctions, auxiliaries
    word_set(
        """
        a about above across after again against ago all almost along already also although always am among an and
        another any anybody anyone anything anywhere are around as at away back be became because become been before
        behind being below beneath beside besides between beyond both but by can cannot could did do does doing done
        down during each either else enough etc even ever every everybody everyone everything everywhere except few
        first for from further had has have having he hence her here hers herself him himself his how however i if
        in indeed instead into is it its itself just last least less lest like little many may me meanwhile might
        mine more moreover most much must my myself near nearly neither never nevertheless next no nobody none nor
        not nothing now nowhere of off often on once one only onto or other others otherwise ought our ours
        ourselves out over own per perhaps quite rather really said same shall she should since so some somebody
        somehow someone something sometimes somewhere soon still such than that the thee their theirs them
        themselves then thence there therefore these they thine this those thou though through throughout thus thy
        till to together too toward towards under until unto up upon us usually very was we were what whatever when
        whenever where whereas whether which while whilst who whoever whole whom whose why will with within without
        would ye yet you your yours yourself yourselves
        """
    )
    # contractions, once their ending is off, and as they are written without one
    | word_set(
        """
        ain aren couldn d didn doesn don hadn hasn haven isn ll mightn mustn needn re s shan shouldn t tis twas ve
        wasn weren won wouldn
        """
    )
    # numbers, time
    | word_set("eight five four hundred nine second seven six ten third thousand three today tomorrow two yesterday")
    # words of talk and of telling, which say little about what a text is about
    | word_set(
        """
        added ah alas asked began begin bit called came come course cried dear does exclaimed felt found gave get
        getting give go goes going gone good got great heard hello hm hush knew know let look looked looking ma made
        make makes minute moment nay o oh ok okay old please poor pray put replied right saw say saying says see
        seem seemed seen suddenly sure take tell thing things think thought told took tried ugh wake want way well
        went yes
        """
    )
)


def tidy(text: str) -> str:
    """The same words on one line, one space between them."""
    return " ".join(text.split())


def unix_lines(text: str) -> str:
    """`text` with every line ended by a line feed alone."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def words(text: str) -> list[str]:
    """The words of `text`, in order, as they are written."""
    return WORD.findall(text)


def length(text: str) -> float:
    """How many words: what white space separates; in Chinese and Japanese, every two characters."""
    spaced, characters = _KANJI.subn(" ", text)
    return len(spaced.split()) + characters / 2


def says_little(word: str) -> bool:
    """Whether `word` is a stop word, or one with an ending such as `’ll`."""
    low = word.lower().replace("’", "'")
    return low in STOP_WORDS or low.partition("'")[0] in STOP_WORDS


def sentences(text: str) -> Iterator[str]:
    """Cut at full stops, blank lines and list items; white space becomes single spaces.

    A stop ends nothing after an abbreviation or an initial, nor when a small letter follows
    (`‘Oh!’ cried she` is one sentence). Pieces without a letter or a picture are left out.
    """
    text = unix_lines(text)
    start = 0
    for found in _BREAK.finditer(text):
        end = found.end()
        if found["stop"]:
            if found["gap"].count("\n") < 2 and not _ends(found, start):
                continue
            end = found.start("next")
        yield from _pieces(text[start:end])
        start = end
    yield from _pieces(text[start:])


def _ends(found: re.Match[str], start: int) -> bool:
    if found["next"].islower():
        return False
    before = _BEFORE.search(found.string, max(start, found.start() - 12), found.start())
    if before is None or found["stop"] != ".":
        return True
    last = before[0]
    return last.lower() not in _ABBREVIATIONS and not (len(last) == 1 and last.isupper() and last != "I")


def _pieces(text: str) -> Iterator[str]:
    text = tidy(text)
    start = 0
    while start < len(text):
        end = len(text)
        if end - start > MAX_SENTENCE:
            space = text.rfind(" ", start, start + MAX_SENTENCE)
            end = space if space > start else start + MAX_SENTENCE
        piece = text[start:end].strip()
        if _says_something(piece):
            yield piece
        start = end


def select(candidates: Sequence[str], count: int) -> list[str]:
    """The `count` sentences whose words are the most frequent, each adding something new, in their order."""
    if count < 1:
        raise ValueError(f"at least one sentence is needed, not {count}")
    content = [sorted({word.lower() for word in words(each) if not says_little(word)}) for each in candidates]
    frequency = Counter(word for each in content for word in each)
    total = frequency.total()
    share = {word: times / total for word, times in frequency.items()}
    rank = [_rank(each) for each in candidates]
    chosen: list[int] = []
    for _ in range(min(count, len(candidates))):
        best = max(
            (at for at in range(len(candidates)) if at not in chosen),
            key=lambda at: (rank[at], math.fsum(share[word] for word in content[at]) / (len(content[at]) + 5), -at),
        )
        chosen.append(best)
        for word in content[best]:
            share[word] **= 2
    return [candidates[at] for at in sorted(chosen)]


def _rank(sentence: str) -> int:
    """3 for a statement of 10 to 40 words, told; 2 if it begins with somebody speaking; 1 if torn or a question."""
    if not 10 <= sentence.count(" ") + 1 <= 40:
        return 0
    bare = sentence.rstrip("\"'’”»)]*_")
    if bare[-1:] not in (".", "!", "…", "。", "！") or _torn(sentence):
        return 1
    return 2 if sentence[0] in "\"'‘“„«" else 3


def _torn(sentence: str) -> bool:
    """Whether a quotation begins or ends elsewhere, as far as its marks tell."""
    opened = [found.start() for found in _OPENED.finditer(sentence)]
    closed = [found.start() for found in _CLOSED.finditer(sentence)]
    first_closed = min(closed, default=len(sentence))
    return (
        sentence.count('"') % 2 > 0
        or (bool(opened) and not opened[-1] < max(closed, default=-1))
        or first_closed < min(opened, default=len(sentence))
    )


def _says_something(piece: str) -> bool:
    return any(char.isalnum() or char > "⌀" for char in piece)
