"""How the app looks: a dozen pictures. Behaviour is tested elsewhere; after a deliberate change of looks,
look at the report that a failing run writes, then run with ``--snapshot-update``."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from picture_files import png
from scripted_run import ScriptedRun, story
from textual.pilot import Pilot
from tui.app_support import ScriptedEngine, app_of, send, settled, visible_text
from tui.some_models import MODELS
from tui_helpers import wait_until

from glmtui.chat.library import Library
from glmtui.engine.usage import Usage
from glmtui.protocol.events import DownloadProgress
from glmtui.protocol.models import FileProgress
from glmtui.session.options import AppOptions
from glmtui.tui.app import GlmTui
from glmtui.tui.composer.prompt import Prompt
from glmtui.tui.history.history import HistoryPane
from glmtui.tui.screens.tune import TuneScreen
from glmtui.tui.status.line import StatusLine

Compare = Callable[..., bool]
Before = Callable[[Pilot[None]], Awaitable[None]]

NOON = datetime(2026, 3, 15, 12, tzinfo=timezone.utc)
ANSWER = """\
量化把权重从 16 位压缩到 **4 位（INT4）。**要点：

1. 内存大约减少到四分之一；
2. 质量略有下降，但*通常*够用；
3. 速度取决于设备。

```python
import glmtui

model = glmtui.load("chatglm-6b", quant="4")  # 约 4 GB
```

| Quantisation | Memory |
| --- | --- |
| none | 12.5 GB |
| INT4 | 3.9 GB |
"""


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No clock, no spinner, no blinking cursor."""
    monkeypatch.setenv("TZ", "UTC")
    if hasattr(time, "tzset"):
        time.tzset()
    monkeypatch.setattr(HistoryPane, "today", staticmethod(lambda: date(2026, 3, 15)))
    monkeypatch.setattr(StatusLine, "animate_tick", lambda _self: None)
    monkeypatch.setattr(GlmTui, "_measure_memory", lambda _self: None)
    monkeypatch.setattr(Prompt, "cursor_blink", False)
    yield
    monkeypatch.undo()
    if hasattr(time, "tzset"):
        time.tzset()


@pytest.fixture
def conversation() -> Path:
    """Some conversations on disk; the newest, which is to be opened."""
    library = Library()
    written = [
        ("Plan a week in Chengdu", "Day one: …", 9),
        ("写一首关于秋天的诗", "秋风起兮白云飞。", 1),
        ("Explain rotary embeddings", "Imagine a clock …", 1),
        ("INT4 量化以后，内存会减少多少？", ANSWER, 0),
    ]
    for minute, (question, answer, days) in enumerate(written):
        new = library.create()
        when = NOON - timedelta(days=days) + timedelta(minutes=minute)
        new.append("user", question, time=when)
        meta = {"model": "chatglm-6b", "quant": "4", "tokens": 187, "tokens_per_second": 12.4}
        new.append("assistant", answer, time=when, meta=meta)
        new.rename(question)
        assert new.path is not None
    return new.path


def look(app: GlmTui, then: Before | None = None, *, hold_load: bool = False) -> Before:
    """Wait until the model is loaded and everything has been drawn; then do `then`."""

    async def before(pilot: Pilot[None]) -> None:
        wanted = "loading" if hold_load else "ready"
        await wait_until(pilot, lambda: app.session.state.activity == wanted)
        await settled(pilot)
        if app.session.conversation.messages:
            await wait_until(pilot, lambda: app.session.state.used > 0)
            await wait_until(
                pilot, lambda: "▌" in visible_text(app.chat.history) or not app.chat.history.display
            )
        if then:
            await then(pilot)
        await settled(pilot)
        await pilot.pause(0.2)

    return before


def make(
    path: Path | None = None, engine: ScriptedEngine | None = None, settings: Mapping[str, object] = {}
) -> GlmTui:
    return GlmTui(AppOptions(settings, conversation=path), engine=engine or ScriptedEngine())


def test_welcome(snap_compare: Compare) -> None:
    app = make()
    assert snap_compare(app, terminal_size=(120, 36), run_before=look(app))


def test_conversation(snap_compare: Compare, conversation: Path) -> None:
    app = make(conversation)
    assert snap_compare(app, terminal_size=(120, 36), run_before=look(app))


@pytest.mark.parametrize("theme", ["glmtui-light", "high-contrast", "ansi"])
def test_conversation_in_other_themes(snap_compare: Compare, conversation: Path, theme: str) -> None:
    app = make(conversation, settings={"ui.theme": theme})
    assert snap_compare(app, terminal_size=(120, 36), run_before=look(app))


def test_small_window(snap_compare: Compare, conversation: Path) -> None:
    app = make(conversation)
    assert snap_compare(app, terminal_size=(80, 24), run_before=look(app))


def test_small_window_with_the_history_over_it(snap_compare: Compare, conversation: Path) -> None:
    app = make(conversation)

    async def then(pilot: Pilot[None]) -> None:
        await pilot.press("ctrl+b")

    assert snap_compare(app, terminal_size=(80, 24), run_before=look(app, then))


def test_large_window_with_settings(snap_compare: Compare, conversation: Path) -> None:
    app = make(conversation)

    async def then(pilot: Pilot[None]) -> None:
        await pilot.press("f3")
        app_of(pilot).chat.settings_pane.focus_row("generation.temperature")
        await pilot.press("left", "left", "down", "o", "left")
        app.chat.status_line.show_usage(Usage(5_120_000_000))

    assert snap_compare(app, terminal_size=(200, 50), run_before=look(app, then))


def test_chinese_interface(snap_compare: Compare) -> None:
    app = make(settings={"ui.language": "zh_CN"})
    assert snap_compare(app, terminal_size=(120, 36), run_before=look(app))


def test_loading(snap_compare: Compare) -> None:
    app = make(engine=ScriptedEngine(hold_load=True), settings={"model.source": "/models/chatglm-6b"})
    app.chat.status_line._clock = lambda: app.session.state.since + 12

    async def half_way(pilot: Pilot[None]) -> None:
        await wait_until(pilot, lambda: app.session.state.done > 0)
        app.session._update(begun=0)

    assert snap_compare(app, terminal_size=(120, 36), run_before=look(app, half_way, hold_load=True))


def test_answering_with_a_message_waiting(snap_compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glmtui.tui.transcript.message.show_time", lambda *_times: "12:00")
    app = make(engine=ScriptedEngine(ANSWER, hold=True))

    async def then(pilot: Pilot[None]) -> None:
        await send(pilot, "INT4 量化以后，内存会减少多少？")
        await wait_until(pilot, lambda: app.session.state.activity == "answering")
        await send(pilot, "那 INT8 呢？")
        await wait_until(pilot, lambda: "压缩到" in visible_text(app.chat.transcript))

    assert snap_compare(app, terminal_size=(120, 36), run_before=look(app, then))


def test_a_picture(snap_compare: Compare, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("glmtui.tui.transcript.message.show_time", lambda *_times: "12:00")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gradient.png").write_bytes(png(40, 24))
    engine = ScriptedEngine("左边是蓝色，右边渐渐变成红色，下边变成绿色。")
    engine.info = replace(engine.info, sees_images=True)
    app = make(engine=engine)

    async def then(pilot: Pilot[None]) -> None:
        await send(pilot, "@gradient.png 描述这张图片。")
        await wait_until(pilot, lambda: "▀" in visible_text(app.chat.transcript))

    assert snap_compare(app, terminal_size=(80, 24), run_before=look(app, then))


def test_theme_chooser(snap_compare: Compare, conversation: Path) -> None:
    app = make(conversation)

    async def then(pilot: Pilot[None]) -> None:
        app.run_command("theme")
        await wait_until(pilot, lambda: bool(app.screen.query("OptionList")) and app.screen is not app.chat)
        await pilot.press("down")
        await wait_until(pilot, lambda: app.theme != "glmtui-dark")

    async def before(pilot: Pilot[None]) -> None:
        await look(app)(pilot)
        await then(pilot)
        await pilot.pause(0.2)

    assert snap_compare(app, terminal_size=(120, 36), run_before=before)


def test_models(snap_compare: Compare) -> None:
    engine = ScriptedEngine()
    engine.models = MODELS
    app = make(engine=engine)

    async def then(pilot: Pilot[None]) -> None:
        await pilot.press("f5")
        await wait_until(pilot, lambda: "13.4 GB" in visible_text(app.screen))

    assert snap_compare(app, terminal_size=(120, 36), run_before=look(app, then))


def test_downloading_in_a_small_window_in_chinese(snap_compare: Compare) -> None:
    engine = ScriptedEngine()
    engine.models = MODELS
    app = make(engine=engine, settings={"ui.language": "zh_CN", "ui.theme": "glmtui-light"})

    async def then(pilot: Pilot[None]) -> None:
        await app.show("models", "chatglm-6b")
        await wait_until(pilot, lambda: "13.4 GB" in visible_text(app.screen))
        await pilot.pause()
        await pilot.press("enter")
        await wait_until(pilot, lambda: engine.download is not None)
        assert engine.download is not None
        files = (FileProgress("config.json", 700, 700), FileProgress("ice_text.model", 2_000_000, 2_700_000))
        files += (FileProgress("pytorch_model-00001-of-00008.bin", 600_000_000, 1_740_000_000),)
        engine.tell(DownloadProgress(files))
        await wait_until(pilot, lambda: "00001-of" in visible_text(app.screen))

    assert snap_compare(app, terminal_size=(80, 24), run_before=look(app, then))


def test_teaching_in_a_small_window_in_chinese(snap_compare: Compare, tmp_path: Path) -> None:
    data = tmp_path / "train.jsonl"
    data.write_text('{"prompt": "问", "response": "答"}\n', encoding="utf-8")
    app = make(settings={"ui.language": "zh_CN"})

    async def then(pilot: Pilot[None]) -> None:
        app.session.tuning.make_job = ScriptedRun(list(story()), hold=40)
        app.session.tuning.choose("data", str(data))
        app.session.tuning.start()
        await app.show("tune")
        await wait_until(pilot, lambda: "32 / 40" in visible_text(app.screen))
        assert isinstance(app.screen, TuneScreen)
        app.screen._draw_run()  # else twice a second
        await pilot.pause()

    assert snap_compare(app, terminal_size=(80, 24), run_before=look(app, then))


def test_help(snap_compare: Compare) -> None:
    app = make()

    async def then(pilot: Pilot[None]) -> None:
        await pilot.press("f1")
        await wait_until(pilot, lambda: "Shift+Enter" in visible_text(app.screen))

    assert snap_compare(app, terminal_size=(120, 36), run_before=look(app, then))
