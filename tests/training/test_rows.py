"""Training data in every format that is read, good and bad."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from glmtui.chat import export
from glmtui.chat.conversation import Conversation
from glmtui.errors import BadFileError, NotFoundError
from glmtui.training.rows import Columns, Row, Rows, read_rows

GOOD = {"prompt": "问", "response": "答"}


def write(path: Path, content: Any) -> Path:
    """Write a file: JSON Lines for a list, where the name does not end in ``.json``."""
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    else:
        lines = (json.dumps(each, ensure_ascii=False) + "\n" for each in content)
        path.write_text("".join(lines), encoding="utf-8")
    return path


def rows_of(path: Path, content: Any, columns: Columns | None = None) -> Rows:
    return read_rows([write(path, content)], columns)


def reasons(found: Rows) -> list[tuple[str, str]]:
    return [(skipped.origin, str(skipped.reason)) for skipped in found.skipped]


# --- good ---


def test_published_rows(tmp_path: Path) -> None:
    content = [GOOD, {**GOOD, "history": []}, {**GOOD, "history": [["a", "b"]]}]
    found = rows_of(tmp_path / "data.jsonl", content)
    assert found.rows == [
        Row("问", "答", None, "", "data.jsonl:1"),
        Row("问", "答", (), "", "data.jsonl:2"),
        Row("问", "答", (("a", "b"),), "", "data.jsonl:3"),
    ]
    assert not found.skipped


@pytest.mark.parametrize("name", ["data.json", "data.jsonl"])
@pytest.mark.parametrize("written", ["lines", "array", "indented", "one"])
def test_an_array_and_lines_under_either_name(tmp_path: Path, name: str, written: str) -> None:
    """The published files end in ``.json`` and have a value in each line."""
    rows = [{**GOOD, "prompt": str(number)} for number in range(1 if written == "one" else 3)]
    match written:
        case "lines":
            text = "".join(f"{json.dumps(row)}\n\n" for row in rows)
        case "one":
            text = json.dumps(rows[0], indent=2)
        case _:
            text = json.dumps(rows, indent=2 if written == "indented" else None)
    found = rows_of(tmp_path / name, text)
    assert [row.prompt for row in found.rows] == [row["prompt"] for row in rows]
    assert not found.skipped


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_files_in_the_encodings_that_chinese_programs_write(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "数据.json"
    file.write_bytes("".join(json.dumps(GOOD, ensure_ascii=False) + "\n" for _ in range(3)).encode(encoding))
    assert [row.response for row in read_rows([file]).rows] == ["答"] * 3


def test_a_line_separator_of_unicode_ends_no_line(tmp_path: Path) -> None:
    assert (
        rows_of(tmp_path / "data.jsonl", [{**GOOD, "prompt": "a\u2028b\x85c"}]).rows[0].prompt
        == "a\u2028b\x85c"
    )


@pytest.mark.parametrize(
    ("columns", "names"),
    [(None, Columns("content", "summary")), (Columns("q", "a", "before"), Columns("q", "a", "before"))],
)
def test_columns_of_other_names(tmp_path: Path, columns: Columns | None, names: Columns) -> None:
    row = {names.prompt: "类型#裙", names.response: "这条裙子", names.history: [["一", "二"]]}
    (found,) = rows_of(tmp_path / "data.jsonl", [row], columns).rows
    assert (found.prompt, found.response, found.history) == ("类型#裙", "这条裙子", (("一", "二"),))


def test_named_columns_are_the_only_ones(tmp_path: Path) -> None:
    found = rows_of(tmp_path / "data.jsonl", [{"q": "1", "a": "2"}, GOOD], Columns("q", "a"))
    assert [row.prompt for row in found.rows] == ["1"]
    assert reasons(found) == [("data.jsonl:2", "it has no column q, a, but prompt, response")]


def test_alpaca(tmp_path: Path) -> None:
    rows = [
        {"instruction": "翻译", "input": "cat", "output": "猫"},
        {"instruction": "问好", "input": "", "output": "你好", "system": "有礼貌", "history": [["a", "b"]]},
    ]
    first, second = rows_of(tmp_path / "alpaca.json", rows).rows
    assert (first.prompt, first.response) == ("翻译\ncat", "猫")
    assert (second.prompt, second.system, second.history) == ("问好", "有礼貌", (("a", "b"),))


SHAREGPT = {
    "system": "短",
    "conversations": [
        {"from": "human", "value": "一"},
        {"from": "gpt", "value": "二"},
        {"from": "human", "value": "三"},
        {"from": "gpt", "value": "四"},
    ],
}
OPENAI = {
    "messages": [
        {"role": "system", "content": "短"},
        {"role": "user", "content": [{"type": "text", "text": "一"}]},
        {"role": "assistant", "content": "二"},
        {"role": "user", "content": "三"},
        {"role": "assistant", "content": "四"},
    ]
}


@pytest.mark.parametrize("record", [SHAREGPT, OPENAI], ids=["sharegpt", "openai"])
@pytest.mark.parametrize("name", ["chat.json", "chat.jsonl"])
def test_every_answer_of_a_conversation_is_a_row(tmp_path: Path, name: str, record: Any) -> None:
    assert rows_of(tmp_path / name, [record]).rows == [
        Row("一", "二", (), "短", f"{name}:1"),
        Row("三", "四", (("一", "二"),), "短", f"{name}:1"),
    ]


def test_questions_without_an_answer_are_asked_with_the_next(tmp_path: Path) -> None:
    turns = [("human", "一"), ("human", "二"), ("gpt", "三"), ("human", "四")]
    record = {"conversations": [{"from": role, "value": text} for role, text in turns]}
    assert rows_of(tmp_path / "chat.jsonl", [record]).rows == [Row("一\n二", "三", (), "", "chat.jsonl:1")]


def test_conversations_as_chatglm3_was_tuned_with(tmp_path: Path) -> None:
    turns = [("system", "短"), ("user", "一"), ("assistant", "二"), ("user", "三"), ("assistant", "四")]
    record = {"conversations": [{"role": role, "content": text} for role, text in turns]}
    assert rows_of(tmp_path / "chat.jsonl", [record]).rows == [
        Row("一", "二", (), "短", "chat.jsonl:1"),
        Row("三", "四", (("一", "二"),), "短", "chat.jsonl:1"),
    ]


def test_an_answer_that_weighs_nothing_is_only_read(tmp_path: Path) -> None:
    def said(*weights: int) -> dict[str, Any]:
        asked = {"role": "user", "content": "问"}
        answers = [{"role": "assistant", "content": str(weight), "weight": weight} for weight in weights]
        return {"messages": [turn for answer in answers for turn in (asked, answer)]}

    found = rows_of(tmp_path / "chat.jsonl", [said(0, 1), said(0)])
    assert found.rows == [Row("问", "1", (("问", "0"),), "", "chat.jsonl:1")]
    assert reasons(found) == [("chat.jsonl:2", "it has no answer")]


def test_a_column_of_histories_that_is_nowhere_is_told(tmp_path: Path) -> None:
    columns = Columns(history="hsitory")
    with pytest.raises(BadFileError, match="hsitory"):
        rows_of(tmp_path / "data.jsonl", [{**GOOD, "history": []}], columns)
    rows = [GOOD, {**GOOD, "hsitory": [["一", "二"]]}]
    assert [row.history for row in rows_of(tmp_path / "data.jsonl", rows, columns).rows] == [
        None,
        (("一", "二"),),
    ]


@pytest.mark.parametrize("bad", [b"\xff\xfe", b"\x00", "日".encode()[:2] + b"\xff"])
@pytest.mark.parametrize("name", ["data.jsonl", "data.csv"])
def test_a_line_that_is_no_text_costs_itself(tmp_path: Path, name: str, bad: bytes) -> None:
    is_csv = name.endswith("csv")
    line = "日,{}".encode() if is_csv else b'{"prompt": "\xe6\x97\xa5", "response": "{}"}'
    lines = [line.replace(b"{}", text) for text in (b"1", bad, b"3")]
    file = tmp_path / name
    file.write_bytes(b"\n".join([b"prompt,response", *lines] if is_csv else lines))
    found = read_rows([file])
    assert [(row.prompt, row.response) for row in found.rows] == [("日", "1"), ("日", "3")]
    assert reasons(found) == [(f"{name}:{3 if is_csv else 2}", "it is not text")]


def test_a_row_of_a_csv_with_an_unquoted_separator_is_not_cut(tmp_path: Path) -> None:
    found = rows_of(tmp_path / "data.csv", "prompt,response\na,b, and c\nd,e,,\n")
    assert [(row.prompt, row.response) for row in found.rows] == [("d", "e")]
    assert reasons(found) == [("data.csv:2", "it has more fields than the first line")]


def test_csv(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows(
            [
                ["prompt", "response", "history"],
                ["问，\n又问", "答", '[["a", "b"]]'],
                ["1", "2", ""],
                ["", ""],
            ]
        )
    found = read_rows([file])
    assert [(row.prompt, row.response, row.history) for row in found.rows] == [
        ("问，\n又问", "答", (("a", "b"),)),
        ("1", "2", ()),
    ]
    assert not [skipped for skipped in found.skipped if "answer" not in str(skipped.reason)]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_csv_with_another_separator(tmp_path: Path, separator: str) -> None:
    text = "prompt|response\n你好，朋友|你好\n".replace("|", separator)
    assert rows_of(tmp_path / "data.csv", text).rows[0].prompt == "你好，朋友"


@pytest.fixture
def conversation(tmp_path: Path) -> Conversation:
    conversation = Conversation(path=tmp_path / "chat.jsonl")
    conversation.append("user", "一")
    conversation.append("assistant", "<think>嗯</think>二")
    conversation.append("user", "三")
    conversation.append("assistant", "四")
    conversation.append("user", "五")
    conversation.append("assistant", "六…", state="stopped")
    return conversation


def test_a_conversation_of_the_apps_own_up_to_what_was_stopped(conversation: Conversation) -> None:
    assert conversation.path
    assert read_rows([conversation.path]).rows == [
        Row("一", "二", (), "", "chat.jsonl"),
        Row("三", "四", (("一", "二"),), "", "chat.jsonl"),
    ]


def test_an_exported_conversation(conversation: Conversation, tmp_path: Path) -> None:
    found = rows_of(tmp_path / "exported.json", export.export(conversation, "json"))
    assert [(row.prompt, row.response) for row in found.rows] == [("一", "二"), ("三", "四")]


def test_a_folder_is_its_files(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", [GOOD])
    write(tmp_path / "a.json", [GOOD])
    write(tmp_path / "notes.txt", "none")
    (tmp_path / "below").mkdir()
    write(tmp_path / "below" / "c.jsonl", [GOOD])
    assert [row.origin for row in read_rows([tmp_path]).rows] == ["a.json:1", "b.jsonl:1"]


def test_where_all_columns_have_other_names_it_is_said_how_to_name_them(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=r"it has: ask, reply\..*--prompt-column"):
        rows_of(tmp_path / "data.jsonl", [{"ask": "1", "reply": "2"}])
    with pytest.raises(BadFileError, match=r"no column q, but ask, a\..*--prompt-column"):
        rows_of(tmp_path / "named.jsonl", [{"ask": "1", "a": "2"}], Columns("q", "a"))
    with pytest.raises(BadFileError) as caught:
        rows_of(tmp_path / "empty.jsonl", [{"prompt": "", "response": "2"}])
    assert "--prompt-column" not in str(caught.value)


def test_a_short_line_of_a_table_has_an_empty_end(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("prompt,response\n1,2\n3\n")
    found = read_rows([tmp_path / "data.csv"])
    assert reasons(found) == [("data.csv:3", "the answer is empty")]


# --- bad ---


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (7, "it is no JSON object"),
        ({"prompt": "", "response": "答"}, "the question is empty"),
        ({"prompt": "问", "response": " \n"}, "the answer is empty"),
        ({"prompt": ["问"], "response": "答"}, "prompt is no text"),
        ({"prompt": "问", "response": None}, "response is no text"),
        ({**GOOD, "history": "a, b"}, "the history is no list"),
        ({**GOOD, "history": [["a"]]}, "the history is no list"),
        ({**GOOD, "history": [["a", 7]]}, "the history is no list"),
        ({**GOOD, "history": {"a": "b"}}, "the history is no list"),
        ({"x": 1, "y": 2}, "it is in no known format; it has: x, y"),
        ({"instruction": "做", "output": 3.5, "input": []}, "input is no text"),
        ({"conversations": [{"from": "gpt", "value": "答"}]}, "an answer has no question"),
        ({"conversations": []}, "it has no answer"),
        ({"conversations": [{"from": "observation", "value": "x"}]}, "of the role observation"),
        ({"conversations": ["x"]}, "a message of it is no JSON object"),
        ({"messages": [{"role": "user", "content": None}]}, "a message of it has no text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "more than text"),
    ],
)
@pytest.mark.parametrize("name", ["data.json", "data.jsonl"])
def test_a_bad_row_costs_itself_and_is_named(tmp_path: Path, name: str, bad: Any, reason: str) -> None:
    found = rows_of(tmp_path / name, [GOOD, bad, GOOD])
    assert [row.origin for row in found.rows] == [f"{name}:1", f"{name}:3"]
    ((origin, said),) = reasons(found)
    assert origin == f"{name}:2"
    assert reason in said


def test_a_line_that_is_no_json(tmp_path: Path) -> None:
    line = json.dumps(GOOD)
    found = rows_of(tmp_path / "data.jsonl", f'{line[:-3]}\n{line}\n{{"prompt": NaN}}\n{line}\n')
    assert [row.origin for row in found.rows] == ["data.jsonl:2", "data.jsonl:4"]
    assert [origin for origin, _reason in reasons(found)] == ["data.jsonl:1", "data.jsonl:3"]


def test_an_array_that_is_cut_off_keeps_what_stands_before(tmp_path: Path) -> None:
    found = rows_of(tmp_path / "data.json", json.dumps([GOOD, GOOD, GOOD])[:-10])
    assert len(found.rows) == 2
    ((origin, said),) = reasons(found)
    assert origin == "data.json:3"
    assert said.startswith("it is no JSON")


def test_a_row_of_a_csv_that_has_too_few_cells(tmp_path: Path) -> None:
    found = rows_of(tmp_path / "data.csv", "prompt,response\n1,2\n3\n5,6\n")
    assert [row.prompt for row in found.rows] == ["1", "5"]
    assert [origin for origin, _reason in reasons(found)] == ["data.csv:3"]


def test_a_cell_that_is_too_long_costs_its_row(tmp_path: Path) -> None:
    found = rows_of(tmp_path / "data.csv", f"prompt,response\n1,2\n{'x' * 200_000},4\n5,6\n")
    assert [row.prompt for row in found.rows] == ["1", "5"]
    assert len(found.skipped) == 1


@pytest.mark.parametrize("content", [b"\x00\x01\x02", b"\x89PNG\r\n\x1a\n\x00", b"", b"[]", b"{", b"7"])
@pytest.mark.parametrize("name", ["bad.json", "bad.jsonl", "bad.csv"])
def test_a_file_that_is_none_costs_itself(tmp_path: Path, name: str, content: bytes) -> None:
    bad, good = tmp_path / name, write(tmp_path / "good.jsonl", [GOOD])
    bad.write_bytes(content)
    assert [row.origin for row in read_rows([bad, good]).rows] == ["good.jsonl:1"]
    with pytest.raises(BadFileError, match="The data has no rows"):
        read_rows([bad])


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"There is no .*absent"):
        read_rows([tmp_path / "absent.json"])
    with pytest.raises(NotFoundError, match="no file that ends in"):
        read_rows([tmp_path])


def test_a_conversation_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    turn = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    found = rows_of(tmp_path / "long.jsonl", [{"messages": turn * 20_000}, {"messages": turn}])
    assert 0 < len(found.rows) < 2000
    assert found.rows[-1].origin == "long.jsonl:2"
    assert [each.origin for each in found.skipped] == ["long.jsonl:1"]
