"""A hundred thousand lines of anything at all through file, search and export."""

import json
import random
from pathlib import Path

import pytest

from glmtui.chat.conversation import Conversation
from glmtui.chat.export import export, import_file
from glmtui.chat.library import Library

pytestmark = pytest.mark.slow

POOLS = [
    "".join(map(chr, codes))
    for codes in (
        range(0x20, 0x7F),
        range(0x4E00, 0x9FFF),
        range(0x2000, 0x2070),  # the line breaks and joiners that are not newlines
        range(0x1F300, 0x1F700),
        [*range(0x300, 0x370), *range(0x61, 0x7B)],
        [code for code in range(0, 0x110000, 7) if not 0xD800 <= code < 0xE000],
        range(0xA0),
    )
]


def random_lines(rng: random.Random, count: int) -> list[str]:
    return ["".join(rng.choices(rng.choice(POOLS), k=rng.randint(0, 30))) for _ in range(count)]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    folder = tmp_path_factory.mktemp("unicode")
    return Library(folder / "conversations", cache=folder / "cache")


@pytest.fixture(scope="module")
def conversation(library: Library) -> Conversation:
    rng = random.Random(20)
    conversation = library.create()
    for number in range(100):
        conversation.append("assistant" if number % 2 else "user", "\n".join(random_lines(rng, 1000)))
    return conversation


def test_the_file_gives_them_back(conversation: Conversation) -> None:
    assert conversation.path is not None
    opened = Conversation.open(conversation.path)
    assert not opened.damaged
    assert opened.branch() == conversation.branch()


def test_each_exact_line_is_found(library: Library, conversation: Conversation) -> None:
    rng = random.Random(21)
    searched = 0
    for message in rng.sample(conversation.branch(), 20):
        for line in rng.sample(message.text.split("\n"), 5):
            if line.strip("\1\2 ") and '"' not in line:
                hits = library.search(f'"{line}"', limit=200, per_conversation=200)
                assert message.id in [hit.message_id for hit in hits], ascii(line)
                searched += 1
    assert searched > 50


def test_all_exports_take_them(library: Library, conversation: Conversation, tmp_path: Path) -> None:
    for name in ("md", "txt"):
        assert len(export(conversation, name).encode()) > 1_000_000
    path = tmp_path / "all.json"
    path.write_bytes(export(conversation, "json").encode())
    assert json.loads(path.read_bytes())["messages"][99]["text"] == conversation.branch()[99].text
    other = Library(tmp_path / "other", cache=tmp_path / "cache")
    (imported,) = import_file(path, other)
    assert imported.branch() == conversation.branch()
    page = Conversation()
    for message in conversation.branch()[:5]:
        page.append(message.role, message.text)
    assert export(page, "html").count("<article") == 5
