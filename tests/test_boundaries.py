"""Who may import whom, read from the source and checked in fresh processes; importing does nothing else."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import glmtui

ROOT = Path(glmtui.__file__).parent
HEAVY = ("torch", "transformers", "accelerate", "safetensors", "sentencepiece", "huggingface_hub")
SCREEN = ("textual", "rich", "glmtui.tui", "glmtui.plain", "glmtui.cli")
ENGINE = ("glmtui.engine", "glmtui.models", "glmtui.quant")

FORBIDDEN: Mapping[str, tuple[str, ...]] = {
    "protocol": (*HEAVY, "textual", "rich", "gettext", "glmtui"),
    "text": (*HEAVY, "textual", "glmtui.tui", "glmtui.cli", *ENGINE, "glmtui.session"),
    "settings": (*HEAVY, *SCREEN, *ENGINE, "glmtui.session"),
    "chat": (*HEAVY, *SCREEN, *ENGINE, "glmtui.session"),
    "hub": (*HEAVY, *SCREEN, *ENGINE, "glmtui.session"),
    "models": (*SCREEN, "glmtui.engine", "glmtui.session", "glmtui.chat"),
    "quant": (*SCREEN, "glmtui.engine", "glmtui.session", "glmtui.chat"),
    "engine": (*SCREEN, "glmtui.session", "glmtui.chat"),
    "server": ("torch", "transformers", *SCREEN, "glmtui.session", "glmtui.chat"),
    "training": ("textual", "glmtui.tui"),
    "retrieval": (*HEAVY, *SCREEN, *ENGINE, "glmtui.session"),
    "session": (*HEAVY, *SCREEN, "glmtui.models", "glmtui.quant"),
    "plain": (*HEAVY, "textual", "rich", "glmtui.tui", "glmtui.cli", "glmtui.models", "glmtui.quant"),
    "tui": (*HEAVY, "glmtui.plain", "glmtui.cli", "glmtui.models", "glmtui.quant"),
}
"""Rooms of the package, and what nothing in them may import (but the room itself)."""
TRITON = "glmtui.quant.cuda.kernels"
"""What only Triton can import."""
BACK = {
    (
        "glmtui",
        "glmtui.integrations.transformers",
    ): "a name of the Python interface, imported with its first use",
    ("glmtui.cli.completion", "glmtui.cli.main"): "a shell completes the commands of which this is one",
    (
        "glmtui.models.chat_formats.formats",
        "glmtui.models.chat_formats.templates",
    ): "a folder names its format",
    (
        "glmtui.models.chat_formats.formats",
        "glmtui.models.chat_formats.visualglm",
    ): "a folder names its format",
    ("glmtui.models.tokenizers.chatglm", "glmtui.models.tokenizers.glm4"): "a folder names its tokenizer",
    ("glmtui.models.tokenizers.chatglm", "glmtui.models.tokenizers.glm_hf"): "a folder names its tokenizer",
    ("glmtui.quant.formats", "glmtui.quant.cpu"): "products of the bytes of a format are kernels of the CPU",
}
"""Imports, inside functions or for types, of what imports the module in turn, each with its reason."""
IN_A_FUNCTION = {
    ("hub", "huggingface_hub"): "the hub's client, imported when a person asks for a download",
}
"""What may be imported when it is needed, though not at the top."""


class Imported(NamedTuple):
    """One name that a module imports."""

    name: str
    """The module, or the name in it."""
    line: int
    at_top: bool
    """Not in a function: a type-only import counts."""


def modules() -> Mapping[str, Path]:
    """Every module by its name."""
    return {_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def _name(path: Path) -> str:
    parts = ("glmtui", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path: Path) -> Iterator[Imported]:
    def walk(node: ast.AST, at_top: bool) -> Iterator[Imported]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Imported(alias.name, child.lineno, at_top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}:{child.lineno}: a relative import"
                yield from (
                    Imported(f"{child.module}.{alias.name}", child.lineno, at_top) for alias in child.names
                )
            else:
                inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                yield from walk(child, at_top and not inside)

    return walk(tree_of(path), True)


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


# --- who imports whom ---


def test_the_table_names_rooms_that_there_are() -> None:
    assert all((ROOT / room).is_dir() for room in FORBIDDEN)


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_nothing_that_is_forbidden_there(room: str) -> None:
    """Not even in a function, nor for a type."""
    found = [
        f"{path.relative_to(ROOT)}:{each.line} {each.name}"
        for path in (ROOT / room).rglob("*.py")
        for each in imports_of(path)
        for forbidden in FORBIDDEN[room]
        if of({each.name}, forbidden)
        and not of({each.name}, f"glmtui.{room}")
        and (each.at_top or (room, forbidden) not in IN_A_FUNCTION)
    ]
    assert not found


@pytest.mark.parametrize(
    "rooms",
    [
        ("protocol", "text", "settings", "chat", "hub", "session"),
        ("retrieval",),
        ("plain",),
        ("tui",),
        ("models", "quant", "engine"),
        ("server",),
    ],
    ids="+".join,
)
def test_what_a_room_imports_imports_it_neither(rooms: tuple[str, ...], tmp_path: Path) -> None:
    """In a fresh process, which shows what others import. Rooms with a process in common share its rules."""
    chosen = [
        name for name in modules() if of({name}, *(f"glmtui.{room}" for room in rooms)) and name != TRITON
    ]
    assert len(chosen) >= 5
    names = imported_by("import " + ", ".join(chosen), tmp_path)
    forbidden = set.intersection(*({*FORBIDDEN[room]} for room in rooms))
    forbidden -= {f"glmtui.{room}" for room in rooms}
    assert forbidden
    assert not of(names, *forbidden)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports for types and those inside functions count."""
    known = modules()
    below: dict[str, set[str]] = {}
    for name, path in known.items():
        names = (each.name for each in imports_of(path))
        imported = {each if each in known else each.rpartition(".")[0] for each in names}
        below[name] = imported & known.keys()
    for name, back in BACK:
        below[name].remove(back)  # a reason that nothing needs any more goes
    while ends := {name for name, imported in below.items() if not imported} | {
        name for name in below if not any(name in imported for imported in below.values())
    }:
        below = {name: imported - ends for name, imported in below.items() if name not in ends}
    assert not below, "these import each other, or lie between such"


FRAMEWORK = frozenset(
    {
        "inference_mode",
        "CUDAGraph",
        "CancelToken",
        "check_current",
        "PromptProgress",
        "register_forward_pre_hook",
    }
)


def test_a_models_file_computes_and_does_nothing_else() -> None:
    """Gradients, progress, cancelling, steps through a prompt and recorded graphs are the engine's."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno} {name}"
        for path in (ROOT / "models").glob("*.py")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute | ast.Name)
        and (name := node.attr if isinstance(node, ast.Attribute) else node.id) in FRAMEWORK
    ]
    assert not found


WRITES = frozenset({"set", "update", "reset", "set_key", "save_preset", "apply_preset", "delete_preset"})


def test_only_the_session_writes_settings() -> None:
    """What has ``settings`` in its name is asked to write nowhere else."""
    found = set()
    for name, path in modules().items():
        if of({name}, "glmtui.session", "glmtui.settings"):
            continue
        for node in ast.walk(tree_of(path)):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Attribute(attr=owner) | ast.Name(id=owner), attr=method)
                ):
                    if method in WRITES and owner.lower().endswith("settings"):
                        found.add(name)
    assert not found


# --- what importing costs ---


def test_what_the_first_paint_does_not_need_is_imported_after_it(tmp_path: Path) -> None:
    names = imported_by("import glmtui.cli.main, glmtui.tui.app", tmp_path)
    session = ("glmtui.session.chat_session", "glmtui.session.model_jobs")
    later = ("glmtui.protocol.events", "glmtui.retrieval.citations", *session)
    assert {*later} <= modules().keys()
    assert not of(names, *later)


def test_what_must_be_quick_imports_nothing_heavy(tmp_path: Path) -> None:
    names = imported_by(
        "import glmtui.engine.local, glmtui.models.chat_tokenizer, glmtui.host, glmtui.failures",
        tmp_path,
    )
    assert not of(names, "torch", "transformers", "textual")


def test_the_command_line_imports_nothing_heavy(tmp_path: Path) -> None:
    names = imported_by(
        "import glmtui, glmtui.settings.settings; from glmtui.cli.main import build_parser; "
        "build_parser().format_help()",
        tmp_path,
    )
    assert not of(names, *HEAVY, "textual", "rich", "shtab", "numpy", "tomlkit", "psutil")


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
import asyncio, os, sys
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
sys.stdout.flush()
os._exit(0)  # as glmtui itself ends: a thread may be importing torch
"""


def test_the_first_paint_needs_no_torch(tmp_path: Path) -> None:
    script = f"{tmp_path}/probe.py"
    with open(script, "w", encoding="utf-8") as file:
        file.write(PROBE)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    assert "glmtui.tui.app" in loaded
    assert not loaded & {"torch", "transformers", "numpy", "sentencepiece", "tomlkit", "pyperclip"}
