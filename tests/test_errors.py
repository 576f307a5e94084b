"""Failures are typed: a program tells them apart by their code, and the rooms below say which one it is."""

from __future__ import annotations

import ast
from pathlib import Path

import glmtui
from glmtui import errors
from glmtui.errors import UserError

ROOT = Path(glmtui.__file__).parent
ROOMS = ("protocol", "engine", "hub", "models", "quant", "settings", "text")
LATER = ("chatglm.py", "chatglm2.py", "glm_hf.py")
"""Their configs still raise the bare one."""


def kinds(kind: type[UserError] = UserError) -> list[type[UserError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in kinds(child))]


def test_every_kind_has_a_code_of_its_own() -> None:
    mine = [kind for kind in kinds() if kind.__module__ == errors.__name__]
    codes = [kind.code for kind in mine]
    assert len(set(codes)) == len(codes) > 5


def test_the_rooms_below_say_which_kind_it_is() -> None:
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    assert len(files) > 60
    for file in (*files, ROOT / "paths.py"):
        if file.name in LATER:
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "UserError", f"{file}:{node.lineno}"
