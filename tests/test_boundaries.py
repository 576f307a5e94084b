"""Who may import whom, checked in fresh processes; and that importing does nothing else."""

from __future__ import annotations

import ast
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import glmtui

ROOT = Path(glmtui.__file__).parent
HEAVY = ("torch", "transformers", "accelerate", "safetensors", "sentencepiece", "huggingface_hub")
ENGINE_SIDE = ("glmtui.models", "glmtui.quant", "glmtui.engine", "glmtui.server")


def modules() -> list[str]:
    """Every module but nano's training scripts, which are programs, and what only Triton can import."""
    found = [module.name for module in pkgutil.walk_packages([str(ROOT)], "glmtui.")]
    return [
        name
        for name in found
        if not name.startswith("glmtui.models.nano.")
        and name not in ("glmtui.__main__", "glmtui.quant.cuda.kernels")
    ]


def imported_by(statement: str, home: Path) -> set[str]:
    """Return the modules in a fresh process after `statement`, which must neither print nor write."""
    code = f"{statement}\nimport sys, threading\nassert threading.active_count() == 1\nprint(*sys.modules)"
    environment = {**os.environ, "GLMTUI_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == [], "importing wrote files"
    *printed, names = done.stdout.splitlines()
    assert printed == []
    return set(names.split())


def of(names: set[str], *packages: str) -> set[str]:
    return {name for name in names if any(name == each or name.startswith(f"{each}.") for each in packages)}


def test_engine_side_imports_no_textual(tmp_path: Path) -> None:
    chosen = [name for name in modules() if of({name}, *ENGINE_SIDE)]
    assert "glmtui.engine.loader" in chosen
    names = imported_by("import " + ", ".join(chosen), tmp_path)
    assert not of(names, "textual", "rich", "glmtui.tui", "glmtui.chat")


def test_chat_imports_neither_engine_nor_screen(tmp_path: Path) -> None:
    chosen = [name for name in modules() if of({name}, "glmtui.chat")]
    assert "glmtui.chat.conversation" in chosen
    names = imported_by("import " + ", ".join(chosen), tmp_path)
    assert not of(names, "textual", "glmtui.tui", "glmtui.models", "glmtui.quant", *HEAVY)
    # the plain dataclasses between the two halves are all that either may know of the other
    assert of(names, "glmtui.engine") <= {"glmtui.engine", "glmtui.engine.choices", "glmtui.engine.events"}


def test_tui_imports_no_torch(tmp_path: Path) -> None:
    chosen = [name for name in modules() if of({name}, "glmtui.tui")]
    assert "glmtui.tui.app" in chosen
    names = imported_by("import " + ", ".join(chosen), tmp_path)
    assert not of(names, *HEAVY, "glmtui.quant")


def test_what_the_first_paint_does_not_need_is_imported_after_it(tmp_path: Path) -> None:
    names = imported_by("import glmtui.cli, glmtui.tui.app", tmp_path)
    assert not of(names, "glmtui.engine.events", "glmtui.session.controller", "glmtui.session.model_jobs")


def test_the_line_mode_and_what_it_shares_with_the_screen_import_nothing_of_it(tmp_path: Path) -> None:
    chosen = [name for name in modules() if of({name}, "glmtui.session", "glmtui.plain")]
    assert {"glmtui.session.controller", "glmtui.plain.line_mode"} <= set(chosen)
    names = imported_by("import " + ", ".join(chosen), tmp_path)
    assert not of(names, "textual", "rich", "glmtui.tui", "glmtui.models", "glmtui.quant", *HEAVY)


def test_the_session_knows_neither_program_nor_the_line_mode_the_screen() -> None:
    """Not even in a function: what needs a screen is asked of `FullScreen`."""
    for folder, forbidden in (
        ("session", ("textual", "torch", "glmtui.tui", "glmtui.plain")),
        ("plain", ("textual", "torch", "glmtui.tui")),
    ):
        for path in (ROOT / folder).glob("*.py"):
            names: set[str] = set()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    names |= {f"{node.module}.{alias.name}" for alias in node.names}
            assert not of(names, *forbidden), path


@pytest.mark.parametrize("module", ["worker", "chat_tokenizer", "host", "failures"])
def test_what_must_be_quick_imports_no_torch(module: str, tmp_path: Path) -> None:
    names = imported_by(f"import glmtui.engine.{module}", tmp_path)
    assert not of(names, "torch", "transformers", "textual")


@pytest.mark.parametrize(
    "statement",
    [
        "import glmtui",
        "import glmtui.cli",
        "import glmtui.cli; glmtui.cli.build_parser().format_help()",
        "import glmtui.settings",
    ],
)
def test_the_command_line_imports_nothing_heavy(statement: str, tmp_path: Path) -> None:
    names = imported_by(statement, tmp_path)
    assert not of(names, *HEAVY, "textual", "rich", "numpy", "tomlkit", "psutil")


def test_loading_and_answering_needs_neither_transformers_nor_the_compiler(tmp_path: Path) -> None:
    """Each of them takes two seconds and more to import."""
    folder = Path(__file__).parent / "golden" / "chatglm-fp16-sharded"
    (tmp_path / "home").mkdir()
    statement = (
        f"import glmtui; model = glmtui.load({str(folder)!r}, device='cpu', threads=1); "
        "assert len(list(model.generate([75, 134, 301, 304], max_new_tokens=4, temperature=0.9))) == 4"
    )
    names = imported_by(statement, tmp_path / "home")
    assert "torch" in names
    assert not of(names, "transformers", "accelerate", "torch._dynamo", "textual")


PROBE = """
import asyncio, sys
from pathlib import Path
import glmtui.tui.app
class Probe(glmtui.tui.app.GlmTui):
    CSS_PATH = str(Path(glmtui.tui.app.__file__).with_name("app.tcss"))
    def on_ready(self):
        print(*sys.modules)
        self.exit()
async def main():
    async with Probe().run_test():
        pass
asyncio.run(main())
"""


def test_the_first_paint_needs_no_torch(tmp_path: Path) -> None:
    script = f"{tmp_path}/probe.py"
    with open(script, "w", encoding="utf-8") as file:
        file.write(PROBE)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    assert "glmtui.tui.app" in loaded
    assert not loaded & {"torch", "transformers", "numpy", "sentencepiece", "tomlkit", "pyperclip"}
