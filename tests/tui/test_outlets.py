"""Nothing that a file holds steers the terminal of the full screen."""

from __future__ import annotations

from pathlib import Path

from hostile import HOSTILE, steering, write_home
from textual.app import App
from tui.app_support import running, settled

from glmtui.session.options import AppOptions

SGR = r"\x1b\[[\d;]*m"
MOVE = r"\x1b\[\d+;\d+H"


def drawn(app: App[None]) -> str:
    """Return what is written to the terminal to draw the whole screen."""
    update = app.screen._compositor.render_update(full=True)
    assert update is not None
    return update.render_segments(app.console)


async def test_all_that_a_home_holds_is_drawn_clean(tmp_path: Path, home: Path) -> None:
    file = write_home(home)
    async with running(options=AppOptions(conversation=file), size=(160, 60), notifications=True) as (
        pilot,
        app,
        _,
    ):
        await app.show("conversations")
        for key in ("f3", "f4", "escape", "f1", "escape", "f5", "escape"):
            await pilot.press(key)
            await pilot.pause()
            assert steering(drawn(app), SGR, MOVE) == []
        for view in ("presets", "keys"):
            app.run_worker(app.show(view))  # type: ignore[arg-type]
            await pilot.pause()
            assert steering(drawn(app), SGR, MOVE) == []
            await pilot.press("escape")
        app.say(HOSTILE, "error")
        app.notify(HOSTILE, title=HOSTILE, markup=False)
        app.chat.composer.text = HOSTILE
        await settled(pilot)
        written = drawn(app)
        assert steering(written, SGR, MOVE) == []
        assert "UFdORUQ" in written, "the toast shows what has no effect any more"
