"""The README's tables come from the registries; `python tests/test_readme.py` writes them anew."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from glmtui import i18n
from glmtui.cli.main import build_parser
from glmtui.cli.subcommands import parsers
from glmtui.session import keys
from glmtui.session.slash.registry import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
READMES = {"en": ROOT / "README.md", "zh_CN": ROOT / "README.zh_CN.md"}
TABLES = {"commands": COMMANDS.markdown, "keys": keys.markdown_table}


def table(name: str, language: str) -> str:
    """The table as it should stand between its markers."""
    i18n.use(language)
    try:
        return TABLES[name]().strip()
    finally:
        i18n.use("en")


def block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)


@pytest.mark.parametrize("language", READMES)
@pytest.mark.parametrize("name", TABLES)
def test_table_is_the_registrys(name: str, language: str) -> None:
    found = block(name).search(READMES[language].read_text("utf-8"))
    assert found, f"there is no <!-- {name} --> block"
    stands = found[0].removeprefix(found[1]).removesuffix(found[2]).strip()
    assert stands == table(name, language), "run `python tests/test_readme.py` to write it anew"


@pytest.mark.parametrize("language", READMES)
def test_commands_of_newcomers_are_there(language: str) -> None:
    text = READMES[language].read_text("utf-8")
    assert text.count("python -m pip install . && glmtui") == 1
    assert text.count("python -m pip install '.[test]' && python -m pytest") == 1


@pytest.mark.parametrize("language", READMES)
def test_what_a_readme_names_is_there(language: str) -> None:
    """Files that it links to, modules of the package, options of the command line."""
    text = READMES[language].read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]
    for module, name in re.findall(r"`(glmtui(?:\.[a-z_]+)+)\.([a-z_]+)\(", text):
        assert hasattr(importlib.import_module(module), name)
    helps = "".join(parser.format_help() for parser in parsers(build_parser()))
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", "\n".join(re.findall(r"glmtui [^\n`]+", text))))
    assert {"--plain", "--model"} <= options
    assert not {option for option in options if option not in helps}


if __name__ == "__main__":
    for language, path in READMES.items():
        text = path.read_text("utf-8")
        for name in TABLES:
            text = block(name).sub(lambda m, n=name, g=language: f"{m[1]}{table(n, g)}\n{m[2]}", text)
        path.write_text(text, "utf-8")
