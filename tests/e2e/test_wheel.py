"""What a newcomer gets from the index: the wheel holds everything, and runs away from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from glmtui.quant.cpu.build import SOURCES
from glmtui.server.web import FOLDER as PAGE

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout by the build backend that pip uses."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("glmtui-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_installed(installed: Path, *arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=100,
        env={
            **os.environ,
            "PYTHONPATH": str(installed),
            "GLMTUI_HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "PYTHONIOENCODING": "utf-8",
        },
    )


def test_wheel_holds_what_the_program_reads(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    themes = {f"glmtui/themes/{path.name}" for path in (ROOT / "themes").glob("*.toml")}
    assert len(themes) >= 4
    assert themes <= names
    for needed in (
        "models/nano/model.safetensors",
        "models/nano/ice_text.model",
        "models/nano/config.json",
        *(f"quant/cpu/{path.name}" for path in SOURCES),
        "locale/zh_CN/LC_MESSAGES/glmtui.mo",
        *(f"server/page/{path.relative_to(PAGE).as_posix()}" for path in PAGE.rglob("*.*")),
    ):
        assert f"glmtui/{needed}" in names
    packaged = {name.split("/")[0] for name in names}
    assert len(packaged) == 2, "only the package and its metadata"
    nano = {name.removeprefix("glmtui/models/nano/") for name in names if "/nano/" in name}
    assert nano == {"config.json", "ice_text.model", "model.safetensors", "tokenizer_config.json"}


def test_installed_package_is_the_one_that_runs(installed: Path, tmp_path: Path) -> None:
    program = "import glmtui.paths as p; print(p.themes_dir(), p.__file__)"
    done = run_installed(installed, "-c", program, home=tmp_path)
    assert done.returncode == 0, done.stderr
    themes, module = done.stdout.split()
    assert Path(themes) == installed / "glmtui" / "themes"
    assert Path(module).is_relative_to(installed)
    assert list(Path(themes).glob("*.toml"))


def test_installed_package_answers(installed: Path, tmp_path: Path) -> None:
    done = run_installed(installed, "-m", "glmtui", "ask", "--temperature", "0", "你好", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "glmtui" in done.stdout
