import pytest

from glmtui.protocol.messages import Text, Thought
from glmtui.reasoning import Piece, Reasoned, ThoughtStream, parts_of, split, written


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
    assert split("<think>a</think>\nb").answer == "b"
    assert split("<think>a").answer == ""


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(
    "text",
    [
        "Hello",
        "  \n indented",
        "<thing>",
        "<think>\nwell\n\n so \n</think>\n\nHello </think> <think>",
        "<think>a < b </thin k></think>c",
        " \n<think></think>\n\nc",
        "<think>never over",
        "He said <think>a</think>",
    ],
)
def test_a_stream_tells_what_split_does_and_takes_nothing_back(text: str, size: int) -> None:
    stream = ThoughtStream()
    pieces = [piece for at in range(0, len(text), size) for piece in stream.push(text[at : at + size])]
    pieces += stream.finish(complete=True)
    thought = "".join(piece.text for piece in pieces if piece.thought)
    answer = "".join(piece.text for piece in pieces if not piece.thought)
    assert (thought, answer) == split(text)[:2]
    assert all(piece.text for piece in pieces)


@pytest.mark.parametrize(
    ("text", "complete", "cut_off"),
    [
        ("<thi", [Piece("<thi", thought=False)], []),
        ("<", [Piece("<", thought=False)], []),
        (
            "<think>a </th",
            [Piece("a", thought=True), Piece(" </th", thought=True)],
            [Piece("a", thought=True)],
        ),
        ("<think>a \n", [Piece("a", thought=True)], [Piece("a", thought=True)]),
    ],
)
def test_half_a_mark_at_the_end(text: str, complete: list[Piece], cut_off: list[Piece]) -> None:
    for expected, is_complete in ((complete, True), (cut_off, False)):
        stream = ThoughtStream()
        pieces = [*stream.push(text), *stream.finish(complete=is_complete)]
        assert [piece for piece in pieces if piece.text] == expected


def test_parts_are_written_as_a_model_writes_them() -> None:
    assert parts_of("<think>a</think>b") == (Thought("a"), Text("b"))
    assert written((Thought("a"), Text("b"))) == "<think>\na\n</think>\n\nb"
    assert written((Thought("a"),)) == "<think>\na"
    assert written((Text("b"),)) == "b"
    assert parts_of(written((Thought("a"), Text("b")))) == (Thought("a"), Text("b"))
