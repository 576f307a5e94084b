"""Lists of JSON that are read item by item."""

from __future__ import annotations

import json

import pytest

from glmtui.text import json_values

VALUE = [1.5e-3, -20, {"a": ["]", '\\"', {}]}, [], None, True, "汉, 😀]\n", [[1, 2], [3]], 1234567]


@pytest.mark.parametrize("window", [1, 2, 5, 17, 1000])
@pytest.mark.parametrize("indent", [None, 2])
def test_items_are_those_of_the_list_wherever_it_is_cut(
    monkeypatch: pytest.MonkeyPatch, window: int, indent: int | None
) -> None:
    monkeypatch.setattr(json_values, "_WINDOW", window)
    for length in range(len(VALUE) + 1):
        text = f" {json.dumps(VALUE[:length], indent=indent)}\n"
        assert list(json_values.items(text)) == VALUE[:length]


@pytest.mark.parametrize("text", ["[", "[1", "[1,", "[1 2]", "[1,]", "[,]", "[tru]", "[1}", "7"])
@pytest.mark.parametrize("window", [1, 1000])
def test_what_is_no_list_is_an_error(monkeypatch: pytest.MonkeyPatch, text: str, window: int) -> None:
    monkeypatch.setattr(json_values, "_WINDOW", window)
    with pytest.raises(ValueError, match=r"Expecting|missing|not found"):
        list(json_values.items(text))


def test_an_item_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_values, "_WINDOW", 10)
    monkeypatch.setattr(json_values, "_WIDEST", 100)
    read = json_values.items(json.dumps([1, [0] * 200]))
    assert next(read) == 1
    with pytest.raises(json_values.TooManyValuesError):
        next(read)
