"""Every bad model gives one clear line that names the file, changes nothing, and leaves all usable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bad_models import BAD, contents, write_bad_model
from session.conftest import Chat
from tiny_model import write_tiny_model

from glmtui import i18n
from glmtui.cli import main as cli
from glmtui.engine.local import LocalEngine
from glmtui.settings.settings import Settings

pytestmark = pytest.mark.slow

Spoil = Callable[[Path], None]
each_bad_model = pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
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
async def test_in_a_chat(bad: Path, spoil: Spoil, tmp_path: Path) -> None:
    good = write_tiny_model(tmp_path / "good")
    chat = Chat(LocalEngine())
    for key, value in (
        ("model.device", "cpu"), ("model.threads", 1),
        ("model.source", str(good)), ("generation.max_new_tokens", 3),
    ):  # fmt: skip
        chat.settings.set(key, value)
    chat.load()
    await chat.idle(60)
    try:
        await chat.enter(f"/model {bad}")
        await chat.idle(60)
        [message] = chat.notices("error")
        assert "\n" not in message
        assert lacks(message, spoil) == [], message
        # all is as it was: the settings, the model in memory, and it answers
        assert chat.state.activity == "ready"
        assert chat.state.info is not None
        assert chat.state.info.source == str(good)
        assert Settings.load()["model.source"] == str(good)
        await chat.enter("你好")
        await chat.idle(60)
        assert chat.saved().branch()[-1].state in ("done", "length")
    finally:
        chat.close()
