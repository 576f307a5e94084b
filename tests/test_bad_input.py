"""Every bad model gives one clear line that names the file, changes nothing, and leaves all usable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bad_models import BAD, contents, write_bad_model
from tiny_model import write_tiny_model
from tui.app_support import send, settled, wait_until

from glmtui import i18n
from glmtui.cli import main as cli
from glmtui.engine.local import LocalEngine
from glmtui.session.options import AppOptions
from glmtui.settings.settings import Settings
from glmtui.tui.app import GlmTui

Spoil = Callable[[Path], None]
each_bad_model = pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    i18n.use("en")
    yield
    i18n.use("en")


@pytest.fixture
def bad(tmp_path: Path, spoil: Spoil) -> Iterator[Path]:
    """The folder; nothing in it, nor next to it, may have changed after the test."""
    folder = write_bad_model(tmp_path / "model", spoil)
    before = contents(folder)
    yield folder
    assert contents(folder) == before
    assert not folder.with_name("executed").exists()


def lacks(message: str, spoil: Spoil) -> list[str]:
    return [word for word in BAD[spoil] if word not in message]


@each_bad_model
def test_on_the_command_line(bad: Path, spoil: Spoil, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ask", "你好", "--model", str(bad), "--device", "cpu"]) == 1
    output, message = capsys.readouterr()
    assert output == ""
    assert message.startswith("glmtui: ")
    assert message.count("\n") == 1
    assert lacks(message, spoil) == [], message
    assert "Traceback" not in message


@each_bad_model
async def test_in_the_app(bad: Path, spoil: Spoil, tmp_path: Path) -> None:
    good = write_tiny_model(tmp_path / "good")
    app = GlmTui(
        AppOptions({"model.device": "cpu", "model.threads": 1, "ui.language": "en"}), engine=LocalEngine()
    )
    app.settings.set("model.source", str(good))
    app.settings.set("generation.max_new_tokens", 3)
    async with app.run_test(size=(120, 36)) as pilot:
        status = lambda: app.session.state  # noqa: E731
        await wait_until(pilot, lambda: status().activity == "ready", 60)
        await send(pilot, f"/model {bad}")
        await wait_until(pilot, lambda: bool(errors(app)), 60)
        [message] = errors(app)
        assert "\n" not in message
        assert lacks(message, spoil) == [], message
        # all is as it was: the settings, the model in memory, and it answers
        await wait_until(pilot, lambda: status().activity == "ready", 60)
        assert status().info is not None
        assert status().info.source == str(good)
        assert Settings.load()["model.source"] == str(good)
        await send(pilot, "你好")
        await wait_until(pilot, lambda: len(answers(app)) == 1 and app.session.answer is None, 60)
        assert answers(app)[0].state in ("done", "length")
        await settled(pilot)


def errors(app: GlmTui) -> list[str]:
    return [entry.text for entry in app.chat.transcript.column if entry.kind == "error"]


def answers(app: GlmTui) -> list[object]:
    return [message for message in app.session.conversation.branch() if message.role == "assistant"]
