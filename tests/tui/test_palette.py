"""The command palette: what it offers is shown as it is, brackets and all."""

from __future__ import annotations

from textual.content import Content
from tui.app_support import running

from glmtui.tui.palette import CommandProvider


async def test_brackets_are_text_not_markup() -> None:
    async with running() as (_pilot, app, _engine):
        provider = CommandProvider(app.screen)
        offered = [hit.prompt async for hit in provider.discover()]
        found = [hit async for hit in provider.search("copy")]
    assert all(isinstance(prompt, Content) for prompt in offered)  # strings would be read as markup
    assert "/copy [code]" in map(str, offered)
    assert "/copy [code]" in [str(hit.prompt) for hit in found]
    for hit in found:
        assert "\\" not in Content.from_markup(hit.help or "").plain
