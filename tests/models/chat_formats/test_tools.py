from pathlib import Path

import pytest

from glmtui.errors import UserError
from glmtui.models.chat_formats.tools import (
    ToolCall,
    ToolCallStream,
    arguments_of,
    chatglm3_call,
    chatglm3_tools,
    glm4_call,
    glm4_tools,
    parse_tool_call,
)
from glmtui.protocol import messages


def test_a_call_is_read_as_literals():
    answer = "get_weather\n```python\ntool_call(city_name='北京', days=[1, 2], exact=True)\n```"
    assert parse_tool_call(answer) == ToolCall(
        "get_weather", {"city_name": "北京", "days": [1, 2], "exact": True}
    )


def test_a_call_in_json():
    assert parse_tool_call('get_weather\n{"city": "北京"}') == ToolCall("get_weather", {"city": "北京"})


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "你好！",
        "\n get_weather\n",
        "get_weather\n```python\ntool_call(x=open('f', 'w'))\n```",
        "get_weather\n```python\ntool_call(**{'a': 1})\n```",
        "get_weather\n```python\ntool_call('a')\n```",
        "get_weather\n```python\nother(a=1)\n```",
        "get_weather\n```python\ntool_call(a=1); print(2)\n```",
        "get_weather\n```python\ntool_call(a=" + "(" * 5000 + ")\n```",
        "get_weather\n" + "[" * 50000,
        "get_weather\n[1, 2]",
        "第一行\n第二行",
    ],
)
def test_anything_else_is_no_call(answer: str):
    assert parse_tool_call(answer) is None


def test_nothing_is_evaluated(tmp_path: Path):
    file = tmp_path / "written"
    assert parse_tool_call(f"x\n```python\ntool_call(a=open({str(file)!r}, 'w').write('x'))\n```") is None
    assert not file.exists()


WEATHER = {"name": "天气", "parameters": {"type": "object"}}
WRITTEN = '{\n    "name": "天气",\n    "parameters": {\n        "type": "object"\n    }\n}'


@pytest.mark.parametrize("tool", [WEATHER, {"type": "function", "function": WEATHER}])
def test_tools_are_told_as_in_training(tool: dict[str, object]) -> None:
    (told,) = chatglm3_tools([tool], "Answer.")
    indented = WRITTEN.replace("\n", "\n    ")
    assert told == f"Answer.\n[\n    {indented}\n]"
    assert chatglm3_tools([])[0].startswith("Answer the following questions as best as you can.")
    told, system = glm4_tools([tool, tool], "Be brief.")
    header, *functions = told.split("\n\n## ")
    assert header.endswith("提供适当的答复和支持。\n\n# 可用工具")
    assert functions == [f"天气\n\n{WRITTEN}\n在调用上述函数时，请使用 Json 格式表示调用的参数。"] * 2
    assert system == "Be brief."


def test_a_tool_without_a_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"needs a name.*天气"):
        glm4_tools([{"description": "天气"}])


CALLS = (
    "get_weather\n ```python\ntool_call(city='北京', days=2)\n```",
    'get_weather\n{"city": "北京", "days": 2}',
)


@pytest.mark.parametrize("answer", CALLS)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_call_is_held_back_and_read_at_the_end(answer: str, size: int) -> None:
    stream = ToolCallStream(["get_weather", "get_time"])
    said = "".join(stream.push(answer[at : at + size]) for at in range(0, len(answer), size))
    assert said + stream.finish() == ""
    assert stream.call is not None
    assert (stream.call.name, stream.call.arguments) == ("get_weather", '{"city": "北京", "days": 2}')
    assert stream.call.id.startswith("call_")


@pytest.mark.parametrize(
    "answer",
    ["get", "get_weather", "get_weather\nis what I call", "getting there", "unknown\n{}", "你好\n{}", ""],
)
def test_what_is_no_call_of_a_tool_is_text(answer: str) -> None:
    stream = ToolCallStream(["get_weather"])
    assert "".join(map(stream.push, answer)) + stream.finish() == answer
    assert stream.call is None


def test_only_what_may_become_a_call_is_held_back() -> None:
    stream = ToolCallStream(["get_weather"])
    assert [stream.push(text) for text in ("ge", "t", " it", " now")] == ["", "", "get it", " now"]
    assert ToolCallStream().push("get_weather\n") == "get_weather\n"


def test_a_call_is_written_as_it_is_read() -> None:
    parameters = {"city": "北京", "exact": True}
    for write in (chatglm3_call, glm4_call):
        assert parse_tool_call(write("get_weather", parameters)) == ToolCall("get_weather", parameters)
    assert arguments_of(messages.ToolCall("1", "f", '{"a": 1}')) == {"a": 1}
    assert arguments_of(messages.ToolCall("1", "f", "{not json")) is None
