"""What is compared in a search and in the check of citations: words, and pairs of Chinese characters.

Chinese has no spaces, and most of its words have two characters: every pair of neighbours is a term, so that
any word is found without a dictionary. English words go to a common stem.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

VERSION = 1
"""Of what follows: an index of other terms is made anew."""
_HAN = (
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_RUN = re.compile(rf"[{_HAN}]+|[^\W_{_HAN}]+")
_IS_HAN = re.compile(rf"[{_HAN}]")
_CODE = re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9]+(?:[-_./:@][A-Za-z0-9]+)+")
_STOP = """
a an the and or of in on at to for from by with without about as is are was were be been do does did how what
which who whom whose when where why this that these those it its they their there i you he she we my your his
her our me can could should would may might must will shall not no if then than so such into over
有 的 了 是 在 和 与 或 吗 呢 吧 啊 么 个 我 你 他 她 它 这 那
"""
STOP_WORDS = frozenset(_STOP.split())
"""Words that questions are asked with: they say nothing of what is asked about."""
_ASKING = re.compile(
    "为什么|什么时候|有?什么样|有?什么|怎么样|怎么办|怎么|怎样|如何|有?多少|有?多[久长大高远]|有?哪些|有?哪个|哪[里儿年天]|[是由]?谁"
    "|有?几[个天点年次种项月]|第几|是否|请问|能否|为何|有没有|是不是|可不可以|能不能|吗|呢|吧|啊|的|了|是"
)


def fold(text: str) -> str:
    """Return `text` as it is compared: full width as half width, capitals as small letters."""
    return unicodedata.normalize("NFKC", text).lower()


def terms(text: str) -> list[str]:
    """Return the terms of `text` in their order; of a run of characters also the last one alone.

    With it, a single character is found as the beginning of a term wherever it stands.
    """
    found: list[str] = []
    for match in _RUN.finditer(fold(text)):
        run = match[0]
        if _IS_HAN.match(run):
            found += map("".join, pairwise(run))
            found.append(run[-1])
        else:
            found.append(stem(run))
    return found


def asked(question: str) -> list[str]:
    """Return the terms of a question that say what it is about, each once.

    A run of one character stays as it is: it is looked for as the beginning of a term.
    """
    found: dict[str, None] = {}
    folded = fold(question)
    for text in (_ASKING.sub(" ", folded), folded):
        for match in _RUN.finditer(text):
            run = match[0]
            if not _IS_HAN.match(run):
                if run not in STOP_WORDS:
                    found[stem(run)] = None
            elif len(run) > 1:
                found.update(dict.fromkeys(map("".join, pairwise(run))))
            elif run not in STOP_WORDS:
                found[run] = None
        if found:
            break
    return list(found)


def phrases(question: str) -> Iterator[list[str]]:
    """Yield names with signs in them, such as ``HT-2024-0917``, as the terms that follow one another."""
    for match in _CODE.finditer(unicodedata.normalize("NFKC", question)):
        parts = terms(match[0])
        if len(parts) > 1:
            yield parts


def is_han(term: str) -> bool:
    """Whether a term is of Chinese (or Japanese, Korean) characters."""
    return bool(_IS_HAN.match(term))


def is_chinese(text: str) -> bool:
    """Whether `text` is rather Chinese than in letters."""
    han = len(_IS_HAN.findall(text))
    words = len(re.findall(r"[A-Za-z]+", text))
    return han > words


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """Return about what an English word has in common with its other forms."""
    if len(word) < 4 or not word.isascii() or not word.isalpha():
        return word
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "shes", "ches", "xes", "zes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed", "ly"):
        root = word.removesuffix(ending)
        if root != word and len(root) > 2 and re.search("[aeiouy]", root):
            word = root
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word.removesuffix("e") if len(word) > 3 else word
