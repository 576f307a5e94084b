"""Every string is translated, and rightly; `python tests/test_translations.py` brings the files up to date.

It takes new strings into the ``.po`` files, drops those that are gone, and compiles the ``.mo`` files.
Messages are found by syntax tree: Babel's own reader finds those inside f-strings only from Python 3.12 on.
"""

from __future__ import annotations

import ast
import gettext
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from string import Formatter
from typing import IO

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from glmtui import i18n
from glmtui.hub.catalog import KNOWN
from glmtui.session import keys
from glmtui.session.slash.registry import COMMANDS
from glmtui.settings.settings import SCHEMA
from glmtui.tui import themes

ROOT = Path(i18n.__file__).parent
THEMES = ROOT.parent / "themes"
SOURCES = sorted(ROOT.rglob("*.py"))
KEYWORDS = {"_": None, "N_": None, "ngettext": (1, 2)}
TABLE_FIELDS = {"help", "title", "hint", "argument", "licence"}
"""Fields of tables that hold messages; `test_tables_hold_messages` looks at them."""
CODE = re.compile(r"`[^`]+`")
COMMAND = re.compile(r"(?<![\w/.}])/[a-z]+(?: (?:nano|\d))?(?![\w/])|(?<![\w-])--[a-z][a-z-]*")
HAN = "[\u3400-\u9fff]"
PHRASE = re.compile(r"\{(allowed|reason|what)\}")
"""Placeholders that stand for words of the same language."""
BADLY_SET = {
    "half-width punctuation after Chinese": re.compile(rf"{HAN}[,;:!?]"),
    "no space between Chinese and Latin": re.compile(rf"{HAN}[A-Za-z0-9{{`]|[A-Za-z0-9}}`]{HAN}"),
}


class PlainCatalog(Catalog):
    """A catalogue whose header has no dates and no versions, so that files change only where words do."""

    mime_headers = property(
        lambda self: [
            ("Project-Id-Version", "glmtui"),
            ("Language", self.locale_identifier),
            ("Plural-Forms", self.plural_forms),
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Transfer-Encoding", "8bit"),
        ],
        Catalog.mime_headers.fset,
    )


def languages() -> list[str]:
    """The languages there is a folder for."""
    return sorted(folder.name for folder in i18n.DIRECTORY.iterdir() if folder.is_dir())


def file(language: str, suffix: str) -> Path:
    return i18n.DIRECTORY / language / "LC_MESSAGES" / f"{i18n.DOMAIN}{suffix}"


def called(node: ast.AST) -> str:
    """The name of the function of this module's business that `node` calls, or nothing."""
    function = node.func if isinstance(node, ast.Call) else None
    if isinstance(function, ast.Attribute):  # phrases._(…)
        name = function.attr
    else:
        name = function.id if isinstance(function, ast.Name) else ""
    return name if name in KEYWORDS else ""


def calls(
    source: IO[bytes], keywords: Collection[str], _tags: Collection[str], options: object
) -> Iterator[tuple[int, str, tuple[str | None, ...], list[str]]]:
    """Babel's extraction method: the calls of `keywords` with their literal arguments."""
    for node in ast.walk(ast.parse(source.read())):
        if (name := called(node)) in keywords:
            assert isinstance(node, ast.Call)
            yield node.lineno, name, tuple(map(literal, node.args)), []


def literal(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


@cache
def extracted() -> list[tuple[str, str | tuple[str, ...]]]:
    """(source file, message) of the whole package, and the titles of its themes."""
    found = []
    for path in SOURCES:
        with path.open("rb") as source:
            for _line, message, _comments, _context in extract(calls, source, keywords=KEYWORDS):
                found.append((path.relative_to(ROOT.parent).as_posix(), message))
    return found + [
        (f"themes/{path.name}", themes.read(path).title) for path in sorted(THEMES.glob("*.toml"))
    ]


def collect(language: str, known: Catalog | None = None) -> Catalog:
    """All messages of the sources in a catalogue for `language`, with the translations of `known`."""
    catalog = PlainCatalog(locale=language, header_comment=f"# glmtui in {language}.", fuzzy=False)
    for name, message in extracted():
        catalog.add(message, locations=[(name, 0)])
    for message in catalog:
        if known is not None and message.id and (old := known.get(message.id)):
            message.string = old.string
    return catalog


def read(language: str) -> Catalog:
    with file(language, ".po").open("rb") as stream:
        return read_po(stream, locale=language)


def compiled(catalog: Catalog) -> bytes:
    """The ``.mo`` file of a catalogue."""
    plain = PlainCatalog(locale=catalog.locale_identifier, fuzzy=False)
    for message in catalog:
        if message.id:
            plain.add(message.id, message.string)
    stream = io.BytesIO()
    write_mo(stream, plain)
    return stream.getvalue()


def pairs(message: Message) -> Iterator[tuple[str, str]]:
    """(English, translation) of every form."""
    if message.pluralizable:
        yield from ((message.id[-1], string) for string in message.string)
    else:
        yield message.id, message.string


def translated(catalog: Catalog) -> list[tuple[str, str]]:
    """(English, translation) of everything that has a translation."""
    return [(text, string) for m in catalog if m.id for text, string in pairs(m) if string]


def placeholders(text: str) -> Counter[tuple[str, str | None, str | None]]:
    """The fields of a `str.format` template; a text without fields may hold any braces."""
    return Counter((name, spec, how) for _, name, spec, how in Formatter().parse(text) if name is not None)


def kept(text: str) -> Counter[str]:
    """What of `text` must stay as it is: code spans, slash commands and options."""
    return Counter(CODE.findall(text)) + Counter(COMMAND.findall(CODE.sub("", text)))


@pytest.fixture(params=languages())
def catalog(request: pytest.FixtureRequest) -> Catalog:
    """The catalogue of a language as it is committed."""
    return read(request.param)


def test_the_languages_of_the_settings_are_there() -> None:
    assert set(languages()) == set(i18n.LANGUAGES) - {"en"}


def test_every_string_is_translated(catalog: Catalog) -> None:
    wanted = {message.id for message in collect(catalog.locale_identifier) if message.id}
    there = {message.id for message in catalog if message.id}
    advice = "run `python tests/test_translations.py`, and translate what is new"
    assert wanted - there == set(), advice
    assert there - wanted == set(), advice
    assert not catalog.obsolete, advice
    assert [m.id for m in catalog if m.id and (m.fuzzy or not all(s for _, s in pairs(m)))] == [], "translate"


def test_translations_have_the_same_placeholders(catalog: Catalog) -> None:
    for english, translation in translated(catalog):
        assert placeholders(translation) == placeholders(english), english


def test_translations_keep_commands_and_code(catalog: Catalog) -> None:
    for english, translation in translated(catalog):
        assert kept(translation) == kept(english), english


def test_chinese_is_set_as_chinese() -> None:
    for _english, translation in translated(read("zh_CN")):
        for fault, pattern in BADLY_SET.items():
            assert not pattern.search(PHRASE.sub("词", translation)), f"{fault}: {translation}"
        assert translation.removesuffix("\n") == translation.strip()


def test_the_compiled_file_is_the_text_files(catalog: Catalog) -> None:
    mo = file(catalog.locale_identifier, ".mo").read_bytes()
    assert mo == compiled(catalog), "run `python tests/test_translations.py`"
    gettext.GNUTranslations(io.BytesIO(mo))


def test_the_interface_changes_its_language() -> None:
    try:
        assert i18n.use("zh_CN") == "zh_CN"
        assert i18n._("Settings") == "设置"
    finally:
        i18n.use("en")
    assert i18n._("Settings") == "Settings"


def test_tables_hold_messages() -> None:
    """What is translated where it is used must have been marked where it stands."""
    marked = {message.id for message in collect("zh_CN")}
    shown = {s for setting in SCHEMA for s in (setting.title, setting.help)}
    shown |= {command.help for command in COMMANDS} | {key.help for key in keys.KEYS}
    shown |= {key.hint for key in keys.KEYS if key.hint} | set(keys.SCOPES.values())
    shown |= {model.licence.template for model in KNOWN}
    assert shown - marked == set()


@pytest.mark.slow
def test_only_what_can_be_found_is_translated() -> None:
    """A string in place, or one from a table of N_() strings: never an f-string or something computed."""
    trees = {
        path: ast.parse(path.read_bytes()) for path in SOURCES if path.name not in ("i18n.py", "phrases.py")
    }
    tables = {name for tree in trees.values() for name in marked_tables(tree)}
    assert {"SCHEMA", "KEYS", "SCOPES", "COMMANDS"} <= tables
    faults = []
    for path, tree in trees.items():
        nodes = list(ast.walk(tree))
        uses_table = any(called(n) == "N_" or (isinstance(n, ast.Name) and n.id in tables) for n in nodes)
        for node in nodes:
            if name := called(node):
                assert isinstance(node, ast.Call)
                messages = node.args[:2] if name == "ngettext" else node.args
                good = all(literal(m) or (name == "_" and is_marked(m, uses_table)) for m in messages)
                faults += [] if good else [f"{path.relative_to(ROOT)}:{node.lineno}"]
    assert faults == []


def marked_tables(tree: ast.Module) -> Iterator[str]:
    """The names at the top of a module whose value has N_() strings in it."""
    for statement in tree.body:
        if any(called(node) == "N_" for node in ast.walk(statement)):
            if isinstance(statement, ast.Assign):
                yield from (target.id for target in statement.targets if isinstance(target, ast.Name))
            elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                yield statement.target.id


def is_marked(node: ast.expr, uses_table: bool) -> bool:
    """Whether `node` can be a message that stands marked in a table."""
    if isinstance(node, ast.Attribute):
        return node.attr in TABLE_FIELDS
    if isinstance(node, ast.Call):  # UNSET.get(key, "auto")
        return uses_table and isinstance(node.func, ast.Attribute) and node.func.attr == "get"
    return uses_table and isinstance(node, ast.Name | ast.Subscript)


def update(language: str) -> list[str]:
    """Bring the files of `language` up to date; return what lacks a translation."""
    catalog = collect(language, read(language) if file(language, ".po").exists() else None)
    with file(language, ".po").open("wb") as stream:
        write_po(stream, catalog, width=110, sort_output=True, include_lineno=False)
    file(language, ".mo").write_bytes(compiled(read(language)))
    return [str(m.id) for m in catalog if m.id and not all(string for _, string in pairs(m))]


if __name__ == "__main__":
    for name in languages():
        for missing in update(name):
            print(f"{name}: not translated: {missing}")
