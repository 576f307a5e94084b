"""Values in conversation files that no program of ours wrote: each costs itself alone, and no time."""

import json
import time
from pathlib import Path
from time import process_time

import pytest

from glmtui.chat.conversation import Conversation
from glmtui.chat.export import export
from glmtui.chat.library import Library
from glmtui.chat.tree import Tree

CHAIN = [
    {"type": "message", "id": f"m{n}", "parent": f"m{n - 1}" if n else None, "role": "user", "text": "x"}
    for n in range(3000)
]


@pytest.mark.parametrize(
    "records",
    [
        [{"type": "message", "id": "a", "role": "user", "text": str(n)} for n in range(20_000)],
        [*CHAIN, *({"type": "select", "id": f"m{n * 7919 % 3000}"} for n in range(20_000))],
        [
            *CHAIN,
            *(
                record
                for n in range(5000)
                for record in ({"type": "select", "id": f"m{n % 3000}"}, {"role": "user", "text": "y"})
            ),
        ],
        [*CHAIN, *({"type": kind, "id": "m0"} for _ in range(5000) for kind in ("delete", "undelete"))],
        [
            {"role": "assistant", "id": "a", "text": "<think>", "state": "partial"},
            *({"type": "extend", "id": "a", "text": "and so on, " * 20} for _ in range(20_000)),
        ],
    ],
    ids=["same id", "selected", "selected and added", "deleted and back", "extended"],
)
def test_no_records_cost_the_square_of_their_number(
    monkeypatch: pytest.MonkeyPatch, records: list[dict[str, object]]
) -> None:
    monkeypatch.setattr("glmtui.chat.tree.MOST_VISITED", 100_000)
    start = process_time()
    tree = Tree(records)
    assert tree.leaf is not None
    assert process_time() - start < 8  # what is not linear takes a minute


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/Los_Angeles", "Pacific/Kiritimati"])
@pytest.mark.parametrize(
    "when",
    ["9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+14:00", "0001-01-01",
     "9999-12-31T23:59:59", "2026-13-01", "", None, 5, [], "1970-01-01T00:00:00+23:59"],
)  # fmt: skip
def test_a_time_that_no_calendar_shows_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: object, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        folder = tmp_path / "conversations"
        folder.mkdir()
        header = {"type": "conversation", "version": 1, "id": "x", "created": when}
        records = [header, {"role": "user", "text": "never", "time": when}]
        (folder / "x.jsonl").write_text("\n".join(map(json.dumps, records)))
        library = Library(folder, cache=tmp_path / "cache")
        (summary,) = library.list()
        assert summary.updated.astimezone()
        library.refresh()
        monkeypatch.setenv("TZ", "Asia/Shanghai" if zone != "Asia/Shanghai" else "America/Los_Angeles")
        time.tzset()
        (summary,) = Library(folder, cache=tmp_path / "cache").list()
        conversation = library.open("x")
        assert conversation.created.astimezone()
        for name in ("md", "html", "txt", "json"):
            assert "never" in export(conversation, name)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_values_that_cannot_be_written_again_cost_themselves_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    values = {"deep": "[" * 985 + "]" * 985, "f": "1e999", "n": "NaN", "d": "9" * 5000, "model": r'"\ud800"'}
    meta = ", ".join(f'"{name}": {value}' for name, value in values.items())
    path.write_text(
        rf'{{"role": "assistant", "id": "\udfff", "text": "kept", "meta": {{{meta}}}}}' + "\n"
        r'{"type": "settings", "values": {"\ud800": "\ud800"}}' + "\n"
    )
    before = path.read_bytes()
    conversation = Conversation.open(path)
    assert conversation.damaged == ()
    assert [message.text for message in conversation.branch()] == ["kept"]
    for name in ("md", "html", "txt", "json"):
        assert "kept" in export(conversation, name).encode().decode()
    Library(tmp_path).save_as(conversation, tmp_path / "copy.jsonl")
    assert Conversation.open(tmp_path / "copy.jsonl").branch()[0].text == "kept"
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "value",
    ["1" + "0" * 400, "-1", "NaN", "1e999", "true", '"many"', "null", "{}"],
    ids=["huge", "negative", "no number", "infinite", "true", "text", "null", "object"],
)
def test_a_figure_that_no_answer_has_is_left_out(value: str) -> None:
    names = ("tokens", "prompt_tokens", "tokens_per_second")
    meta = ", ".join(f'"{name}": {value}' for name in names)
    line = f'{{"role": "assistant", "id": "a", "text": "x", "meta": {{"model": "nano", {meta}}}}}'
    finish = f'{{"type": "finish", "id": "a", "meta": {{"quant": "4", "sources": [{value}, 1], {meta}}}}}'
    tree = Tree(map(json.loads, (line, finish)))
    assert tree.messages["a"].meta == {"model": "nano", "quant": "4"}
