"""What becomes of a model's raw answer before it is shown: the published post-processing, streaming.

The published code works on all of the answer after every token; here text goes through once, and a character
is held back only while it is undecided.
"""

from __future__ import annotations

import re

TRAINING_TIME = "[[训练时间]]"
"""What ChatGLM was trained to say where its training date belongs."""
TRAINING_YEAR = "2023年"

_PUNCTUATION = {",": "，", "!": "！", ":": "：", ";": "；", "?": "？"}
_PLACEHOLDER_START = re.compile(
    "(?:" + "|".join(re.escape(TRAINING_TIME[:n]) for n in range(len(TRAINING_TIME) - 1, 0, -1)) + r")\Z"
)


class ResponseStream:
    """Post-processes one answer as it comes: outer white space, the training date, punctuation.

    Args:
        punctuation: make ``, ! : ; ?`` next to a Chinese character fullwidth, as ChatGLM-6B needs it, whose
            tokenizer knows only the halfwidth ones.
        dates: replace the mark that ChatGLM writes for its training date.
        after: text that the answer goes on from; white space at the seam then belongs to it.
        opening: what the prompt holds of the answer already, which is to come first.
    """

    def __init__(self, *, punctuation: bool, dates: bool = True, after: str = "", opening: str = "") -> None:
        self._widens = punctuation
        self._dates = dates
        self._opening = "" if after else opening
        self._started = bool(after or opening)
        self._space = ""  # white space that is only kept if something follows
        self._placeholder = ""  # what may become the training date
        self._mark = ""  # punctuation whose width the next character decides
        self._last = after[-1:]

    def push(self, text: str) -> str:
        """Return what of the answer is decided once `text` has come."""
        return self._widen(self._date(self._strip(text), final=False), final=False)

    def finish(self) -> str:
        """Return what was held back, as the answer ends here."""
        return self._widen(self._date("", final=True), final=True)

    def _strip(self, text: str) -> str:
        if not self._started:
            text = text.lstrip()
            self._started = bool(text)
        text = self._opening + self._space + text
        self._opening = ""
        kept = text.rstrip()
        self._space = text[len(kept) :]
        return kept

    def _date(self, text: str, *, final: bool) -> str:
        if not self._dates:
            return text
        text = (self._placeholder + text).replace(TRAINING_TIME, TRAINING_YEAR)
        self._placeholder = ""
        if not final and (start := _PLACEHOLDER_START.search(text)):
            self._placeholder = start[0]
            text = text[: start.start()]
        return text

    def _widen(self, text: str, *, final: bool) -> str:
        if not self._widens:
            return text
        widened = []
        for character in text:
            if self._mark:
                widened.append(_PUNCTUATION[self._mark] if _is_han(character) else self._mark)
                self._mark = ""
            if character not in _PUNCTUATION:
                widened.append(character)
            elif _is_han(self._last):
                widened.append(_PUNCTUATION[character])
            else:
                self._mark = character
            self._last = character
        if final:
            widened.append(self._mark)
            self._mark = ""
        return "".join(widened)


def _is_han(character: str) -> bool:
    return "\u4e00" <= character <= "\u9fff"
