"""Code blocks: a frame that says the language and copies at a click, colours, long lines broken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from textual.content import Content, Span
from textual.style import Style

from glmtui.i18n import _
from glmtui.tui.transcript.typeset.blocks import NARROWEST, Block
from glmtui.tui.transcript.typeset.lines import Line, fold

if TYPE_CHECKING:
    from pygments.lexer import Lexer

COPY = "copy"
"""Key of the meta data under the button that copies the block."""
_STYLES = {
    kind: style
    for style, kinds in {
        "comment": "Comment Generic.Prompt",
        "keyword": "Keyword Operator.Word Name.Tag Generic.Deleted",
        "string": "Literal.String Generic.Inserted",
        "number": "Literal.Number Name.Constant",
        "builtin": "Name.Builtin Name.Attribute",
        "name": "Name.Class Name.Function Name.Decorator Generic.Heading Generic.Subheading",
    }.items()
    for kind in kinds.split()
}
"""The colours of Pygments' token types, which hold for the types below them too."""


@dataclass(eq=False)
class Code(Block):
    """Code in a frame.

    Colouring is paid once per twentieth of the text, so that a long block being streamed costs what it
    would cost if it came at once, times a constant, and not its square.
    """

    code: str
    language: str = ""
    growing: bool = False
    """More may come: colours may wait."""
    _rows: list[Content] = field(default_factory=list, repr=False)
    _coloured: int = 0
    _row_lines: dict[int, tuple[Content, list[Line]]] = field(default_factory=dict, repr=False)
    """Lines of a row (by its number) and what they were made of."""

    def take(self, old: Block) -> None:
        """Keep the colours of what was there, and the lines of rows that did not change."""
        if isinstance(old, Code) and old.language == self.language and self.code.startswith(old.code):
            self._rows, self._coloured = old._rows, old._coloured
            self._row_lines, self._width = old._row_lines, old._width

    def rows(self) -> list[Content]:
        fresh = len(self.code) - self._coloured
        if not self._rows or (fresh and (not self.growing or fresh >= len(self.code) // 20)):
            self._rows = colour(self.code, self.language)
            self._coloured = len(self.code)
        elif fresh:
            texts = self.code.split("\n")
            known = self._rows
            same = next(
                (
                    number
                    for number, row in enumerate(known)
                    if number >= len(texts) or row.plain != texts[number]
                ),
                len(known),
            )
            self._rows = known[:same] + [Content(text) for text in texts[same:]]
        return self._rows

    def make_lines(self, width: int) -> list[Line]:
        inner = max(width - 4, NARROWEST)
        made = self._row_lines if self._width == width else {}
        found: dict[int, tuple[Content, list[Line]]] = {}
        lines = [self._top(inner)]
        for number, row in enumerate(self.rows()):
            known = made.get(number)
            if known is None or (known[0] is not row and not known[0].is_same(row)):
                known = row, _framed(row, inner)
            found[number] = known
            lines += known[1]
        self._row_lines = found
        lines.append(_rest(Content.styled(f"╰{'─' * (inner + 2)}╯", ".text--frame")))
        return lines

    def _top(self, inner: int) -> Line:
        copy, frame = _("copy"), ".text--frame"
        label = set_cell_size(self.language, min(cell_len(self.language), max(inner - cell_len(copy) - 6, 0)))
        dashes = max(inner - cell_len(label) - cell_len(copy) - 2 - (2 if label else 0), 0)
        button = Content.styled(copy, ".text--label").stylize(Style.from_meta({COPY: self.code}))
        top = Content.assemble(
            ("╭─", frame), (f" {label} " if label else "", ".text--label"), ("─" * dashes + " ", frame),
            button, (" ─╮", frame),
        )  # fmt: skip
        return _rest(top)


def _rest(content: Content) -> Line:
    """A line of which nothing is copied."""
    return Line(content.stylize_before(".text--code"), start=len(content))


def _framed(row: Content, inner: int) -> list[Line]:
    lines = []
    for line in fold(row, inner):
        left = Content.styled("│ ", ".text--frame")
        text = line.content
        right = Content.styled(" " * (inner - text.cell_length) + " │", ".text--frame")
        framed = (left + text + right).stylize_before(".text--code")
        lines.append(Line(framed, start=2, end=2 + len(text), joint=line.joint))
    return lines


def colour(code: str, language: str) -> list[Content]:
    """Return the rows of `code` with the colours of `language` (plain where that is not known)."""
    rows = code.split("\n")
    lexer = _lexer(language)
    if lexer is None:
        return [Content(row) for row in rows]
    spans: list[Span] = []
    at = 0
    for kind, text in lexer.get_tokens(code):
        end = at + len(text)
        if style := _style_of(str(kind)):
            spans.append(Span(at, end, style))
        at = end
    return Content(code, spans).split("\n", allow_blank=True)


def _lexer(language: str) -> Lexer | None:
    if not language:
        return None
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer: Lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None
    return lexer


def _style_of(kind: str) -> str:
    """Return the style of a Pygments token type, ``Token.Name.Function`` or one above it."""
    name = kind.removeprefix("Token.")
    while name:
        if style := _STYLES.get(name):
            return f".text--code-{style}"
        name = name.rpartition(".")[0]
    return ""
