"""Code blocks: language, colours that follow the theme, and not too much work while they are written."""

from __future__ import annotations

import re

from markdown_it.token import Token
from textual.app import ComposeResult
from textual.content import Content
from textual.layout import Layout
from textual.markup import escape
from textual.widgets import Markdown, Static

from glmtui.tui.widgets.markdown_blocks import MarkdownBlock, MarkdownFence
from glmtui.tui.widgets.stack import STACK

_LANGUAGE = re.compile(r"[\w+#.-]{1,24}")


class CodeBlock(MarkdownFence):
    """Code in a frame that says its language. Long lines are wrapped: nothing hides at the right.

    Colouring is paid once per twentieth of the text, so that a long block being streamed costs what it
    would cost if it came at once, times a constant, and not its square.
    """

    DEFAULT_CSS = """
    CodeBlock {
        layout: vertical;
        width: 1fr;
        height: auto;
        margin: 0 0 1 0;
        padding: 0;
        overflow: hidden hidden;
        color: $foreground;
        background: $surface;
        border: round $foreground 20%;
        border-title-color: $text-muted;
        border-title-align: right;
        & > Static { width: 1fr; height: auto; padding: 0 1; }
        &:light { background: $surface; }
        &:ansi {
            background: ansi_default;
            border: round ansi_bright_black;
            margin: 0 0 1 0;
            & > Static { padding: 0 1; }
        }
    }
    """

    def __init__(self, markdown: Markdown, token: Token, code: str) -> None:
        super().__init__(markdown, token, code)
        match = _LANGUAGE.match(token.info.strip())
        self.lexer = match.group().lower() if match else ""
        self._coloured = ""
        self._colours_of: tuple[bool, bool] | None = None

    @property
    def layout(self) -> Layout:
        """Blocks one below the other."""
        return STACK

    @classmethod
    def highlight(cls, code: str, language: str, ansi: bool = False, dark: bool = False) -> Content:
        """Nothing yet: a block is made at every step of a stream and mostly thrown away."""
        return Content(code)

    def compose(self) -> ComposeResult:
        """Show the code."""
        self.border_title = escape(self.lexer)
        self._colour()
        yield Static(self._highlighted_code, id="code-content", expand=True, markup=False)

    async def _update_from_block(self, block: MarkdownBlock) -> None:
        if isinstance(block, CodeBlock):
            self.code = block.code
            if block.lexer != self.lexer:
                self.lexer = block.lexer
                self.border_title = escape(self.lexer)
                self._coloured = ""
            self._colour()
            self.set_content(self._highlighted_code)

    def set_content(self, content: Content) -> None:
        """Show other content."""
        self._content = content
        for child in self.query_children(Static):
            child.update(content)

    def notify_style_update(self) -> None:
        """Colour again, if it was the theme that changed."""
        super(MarkdownFence, self).notify_style_update()
        if self._colours_of not in (None, self._palette):
            self.finish()

    def finish(self) -> None:
        """Colour all of it: nothing more will come."""
        if self._coloured != self.code or self._colours_of != self._palette:
            self._coloured = ""
            self._colour()
            self.set_content(self._highlighted_code)

    @property
    def _palette(self) -> tuple[bool, bool]:
        return self.app.native_ansi_color, self.app.current_theme.dark

    def _colour(self) -> None:
        done = self._coloured
        grown = len(self.code) - len(done)
        if done and grown < len(self.code) // 20 and self.code.startswith(done):
            self._highlighted_code = self._highlighted_code[: len(done)] + self.code[len(done) :]
            return
        ansi, dark = self._colours_of = self._palette
        self._coloured = self.code
        # Without a language Textual would guess, by importing and trying every lexer there is.
        self._highlighted_code = super().highlight(self.code, self.lexer or "text", ansi=ansi, dark=dark)
