from pathlib import Path

import pytest

from glmtui.errors import UserError
from glmtui.models.chat_formats.tools import ToolCall, chatglm3_tools, glm4_tools, parse_tool_call


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
