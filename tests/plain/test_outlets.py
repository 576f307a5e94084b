"""Nothing that a file holds or a person wrote steers the terminal of the line mode."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hostile import HOSTILE, steering, write_home
from scripted_engine import ScriptedEngine

from glmtui import i18n
from glmtui.plain.line_mode import LineMode
from glmtui.plain.reader import StreamReader
from glmtui.session.options import AppOptions
from glmtui.settings.settings import Settings

SGR = r"\x1b\[[\d;]*m"
LINE = " ".join(HOSTILE.replace("\ud800", "").split())
SCRIPT = f"""\
/themes
/theme
/theme {LINE}
/preset
/preset {LINE}
/keys
/settings
/set top_p {LINE}
/set {LINE} 1
/stats
/history
/load 1
/search e
/rename {LINE}
/system {LINE}
/model {LINE}
/ptuning {LINE}
/save /dev/null/{LINE}
/export md /dev/null/{LINE}
/import {LINE}
/load {LINE}
/{LINE}
{LINE}
/delete
/trash
/models
"""


@pytest.mark.parametrize("color", ["always", "never"])
def test_commands_and_what_they_show(color: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    i18n.use("en")
    write_home(tmp_path / "home")
    output, errors = io.StringIO(), io.StringIO()
    reader = StreamReader(io.StringIO(SCRIPT), output)
    options = AppOptions(color=color)  # type: ignore[arg-type]
    engine = ScriptedEngine(HOSTILE)
    LineMode(options, Settings.load(), reader, output, errors, lambda: engine).run()
    allowed = [SGR] if color == "always" else []
    for written in (output.getvalue(), errors.getvalue()):
        assert len(written) > 500
        assert steering(written, *allowed) == []
        assert ("\x1b" in written) == (color == "always")
