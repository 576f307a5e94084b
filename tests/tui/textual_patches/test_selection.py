"""A selection grows while the mouse is held at the edge of the view and the text scrolls under it."""

from __future__ import annotations

import pytest
from textual import events
from tui_helpers import Host, dialogue, wait_until

from glmtui.tui.transcript import text_scroll
from glmtui.tui.transcript.transcript import Transcript


@pytest.mark.parametrize("mended", [True, False])
async def test_it_grows_under_a_mouse_that_is_held_still(
    mended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not mended:
        monkeypatch.setattr(text_scroll, "follow_scroll", lambda *_arguments: None)
    transcript = Transcript()
    async with Host(transcript).run_test(size=(60, 20)) as pilot:
        transcript.show(dialogue(60))
        transcript.go_to("m20")
        await pilot.pause()
        await pilot.mouse_down(offset=(4, 1))
        move = events.MouseMove(None, 20, 19, 0, 9, 1, False, False, False, screen_x=20, screen_y=19)
        pilot.app.screen._forward_event(move)  # the pilot's own moves have no distance, which scrolls nothing
        start = transcript.scroll_y
        await wait_until(pilot, lambda: transcript.scroll_y > start + 30)
        selected = pilot.app.screen.get_selected_text() or ""  # before the pilot moves the mouse
        await pilot.mouse_up(offset=(20, 19))
        assert ("number 30" in selected) is mended, "Textual does it itself: remove selection.py"
