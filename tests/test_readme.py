"""The README's tables come from the registries; `python tests/test_readme.py` writes them anew."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from glmtui import i18n
from glmtui.session import keys
from glmtui.session.slash.registry import COMMANDS

README = Path(__file__).resolve().parents[1] / "README.md"
TABLES = {"commands": COMMANDS.markdown, "keys": keys.markdown_table}
LANGUAGES = {"": "en", " zh_CN": "zh_CN"}


def table(name: str, language: str) -> str:
    """The table as it should stand between its markers."""
    i18n.use(language)
    try:
        return TABLES[name]().strip()
    finally:
        i18n.use("en")


def block(name: str, suffix: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}{suffix} -->\n).*?(<!-- /{name}{suffix} -->)", re.DOTALL)


@pytest.mark.parametrize("suffix", LANGUAGES)
@pytest.mark.parametrize("name", TABLES)
def test_table_is_the_registrys(name: str, suffix: str) -> None:
    found = block(name, suffix).search(README.read_text("utf-8"))
    assert found, f"README.md has no <!-- {name}{suffix} --> block"
    stands = found[0].removeprefix(found[1]).removesuffix(found[2]).strip()
    assert stands == table(name, LANGUAGES[suffix]), "run `python tests/test_readme.py` to write it anew"


def test_commands_of_newcomers_are_there() -> None:
    text = README.read_text("utf-8")
    assert text.count("python -m pip install . && glmtui") == 2
    assert text.count("python -m pip install '.[test]' && python -m pytest") == 2


if __name__ == "__main__":
    text = README.read_text("utf-8")
    for name in TABLES:
        for suffix, language in LANGUAGES.items():
            text = block(name, suffix).sub(lambda m, n=name, g=language: f"{m[1]}{table(n, g)}\n{m[2]}", text)
    README.write_text(text, "utf-8")
