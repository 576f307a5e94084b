from pathlib import Path

import pytest

from glmtui.models.tools import ToolCall, parse_tool_call, tools_message


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


def test_tools_are_told_as_in_training():
    assert (
        tools_message("Answer.", [{"name": "天气"}]) == 'Answer.\n[\n    {\n        "name": "天气"\n    }\n]'
    )
