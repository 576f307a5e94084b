import pytest

from glmtui.reasoning import Reasoned, answer_of, split


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello", Reasoned("", "Hello")),
        ("", Reasoned("", "")),
        (" <", Reasoned("", "", thinking=True)),
        ("<thin", Reasoned("", "", thinking=True)),
        ("<thing>", Reasoned("", "<thing>")),
        ("<think>", Reasoned("", "", thinking=True)),
        ("<think>\nwell", Reasoned("well", "", thinking=True)),
        ("<think>well\n</thi", Reasoned("well", "", thinking=True)),
        ("<think>a < b\n</think>\n\n c", Reasoned("a < b", "c")),
        ("<think></think>c", Reasoned("", "c")),
        ("<think>a</think>b</think>", Reasoned("a", "b</think>")),
        ("He said <think>a</think>", Reasoned("", "He said <think>a</think>")),
    ],
)
def test_split(text: str, expected: Reasoned) -> None:
    assert split(text) == expected


def test_the_answer_alone() -> None:
    assert answer_of("<think>a</think>\nb") == "b"
    assert answer_of("<think>a") == ""
