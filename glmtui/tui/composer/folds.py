"""Long pastes and files are shown in the composer by a short label, and sent in full."""

from __future__ import annotations

import re

from glmtui.i18n import ngettext
from glmtui.session.attached_file import AttachedFile

LINES = 10
CHARACTERS = 1000
"""A paste of more lines or characters than these is folded."""


class Folds:
    """The pastes that are folded, by what stands for them."""

    def __init__(self) -> None:
        self._pasted: dict[str, str] = {}
        self._files: dict[str, AttachedFile] = {}

    def __bool__(self) -> bool:
        return bool(self._pasted)

    def fold(self, text: str) -> str:
        """Return what to put into the text area for a pasted `text`: itself, if it is short."""
        lines = text.rstrip("\n").count("\n") + 1
        if lines <= LINES and len(text) <= CHARACTERS:
            return text
        label = ngettext("pasted text {number}, {lines} line", "pasted text {number}, {lines} lines", lines)
        return self.keep(label.format(number=len(self._pasted) + 1, lines=lines), text)

    def keep(self, label: str, text: str, file: AttachedFile | None = None) -> str:
        """Return what stands for `text`: `label` in brackets, numbered where another has this label.

        A `file` goes with the message instead of being written in it.
        """
        placeholder, number = f"⟦{label}⟧", 2
        while self._pasted.get(placeholder, text) != text:
            placeholder, number = f"⟦{label} ({number})⟧", number + 1
        self._pasted[placeholder] = text
        if file is not None:
            self._files[placeholder] = file
        return placeholder

    def sent(self, text: str) -> tuple[str, tuple[AttachedFile, ...]]:
        """Return `text` as it is sent, pastes in full and files by their names, and these files."""
        attached: list[AttachedFile] = []
        for placeholder, file in self._files.items():
            if placeholder in text:
                text = text.replace(placeholder, f"@{file.name}")
                attached.append(file)
        return self.unfold(text), tuple(attached)

    def refold(self, text: str) -> str:
        """Return `text` with what is known folded again, as after it was edited elsewhere."""
        for placeholder, full in self._pasted.items():
            text = text.replace(full, placeholder)
        return text

    def unfold(self, text: str) -> str:
        return self._pattern.sub(lambda match: self._pasted[match.group()], text) if self._pasted else text

    def spans(self, line: str) -> list[tuple[int, int]]:
        return [match.span() for match in self._pattern.finditer(line)] if self._pasted else []

    @property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, self._pasted)))
