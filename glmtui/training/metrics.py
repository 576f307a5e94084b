"""How near answers are to the expected ones, by the measures of the published ``main.py``: BLEU-4 and ROUGE.

Words are those of jieba; ROUGE is computed by rouge_chinese, as there. Both come with the extra ``tune``.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from glmtui import paths
from glmtui.atomic import make_directory
from glmtui.errors import UnavailableError
from glmtui.protocol.phrases import _

ORDERS = 4


@dataclass(frozen=True, slots=True)
class Scores:
    """Each from 0 to 100."""

    bleu_4: float
    rouge_1: float
    rouge_2: float
    rouge_l: float

    @classmethod
    def mean(cls, scores: Sequence[Scores]) -> Scores:
        """Return the mean of at least one."""
        names = ("bleu_4", "rouge_1", "rouge_2", "rouge_l")
        return cls(*(sum(getattr(each, name) for each in scores) / len(scores) for name in names))


def score(prediction: str, label: str) -> Scores:
    """Compare an answer with the one that was expected.

    Raises:
        UnavailableError: the extra ``tune`` is not installed.
    """
    words, rouge = _words(), _rouge()
    hypothesis, reference = (" ".join(words(text)) for text in (prediction, label))
    bleu = 100 * bleu_4(prediction, label)
    if not hypothesis.strip() or not reference.strip():  # rouge_chinese raises there
        return Scores(bleu, 0.0, 0.0, 0.0)
    found = rouge.get_scores(hypothesis, reference)[0]
    return Scores(bleu, *(100 * found[name]["f"] for name in ("rouge-1", "rouge-2", "rouge-l")))


def check_installed() -> None:
    """Raise UnavailableError where the extra ``tune`` is not installed."""
    _words()
    _rouge()


def bleu_4(prediction: str, label: str) -> float:
    """Return BLEU-4 of the characters, 0 to 1, smoothed as nltk's method 3.

    The k-th order without any match counts as 1 / (2^k * its n-grams); a text that has not even a character
    in common with the label has 0.
    """
    logarithms, misses = 0.0, 0
    for order in range(1, ORDERS + 1):
        found, expected = (Counter(_ngrams(text, order)) for text in (prediction, label))
        matches, total = (found & expected).total(), max(found.total(), 1)
        if not matches:
            if order == 1:
                return 0.0
            misses += 1
        logarithms += math.log(matches / total if matches else 1 / (2**misses * total))
    shortness = min(0.0, 1 - len(label) / len(prediction))
    return math.exp(shortness + logarithms / ORDERS)


def _ngrams(text: str, order: int) -> list[str]:
    return [text[at : at + order] for at in range(len(text) - order + 1)]


@lru_cache(1)
def _words() -> Callable[[str], list[str]]:
    """Return what cuts a text into words. The dictionary is prepared once, and kept in our own cache."""
    try:
        with warnings.catch_warnings():  # of its own sources
            warnings.simplefilter("ignore")
            import jieba
    except ImportError as error:
        raise _missing() from error
    jieba.setLogLevel("ERROR")
    tokenizer = jieba.Tokenizer()
    folder = paths.cache_dir()
    make_directory(folder)
    tokenizer.tmp_dir = str(folder)
    cut: Callable[[str], list[str]] = tokenizer.lcut
    return cut


@lru_cache(1)
def _rouge() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from rouge_chinese import Rouge
    except ImportError as error:
        raise _missing() from error
    return Rouge()


def _missing() -> UnavailableError:
    return UnavailableError(
        _("Scores need jieba and rouge_chinese, which are not installed: pip install 'glmtui[tune]'")
    )
