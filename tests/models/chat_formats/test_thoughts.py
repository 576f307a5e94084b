import pytest

from glmtui.chat.parts import parts_of_text
from glmtui.models.chat_formats.thoughts import Piece, ThoughtStream, parts_of, written
from glmtui.protocol.messages import Text, Thought, text_of, thought_of


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
def test_a_stream_tells_what_old_files_do_and_takes_nothing_back(text: str, size: int) -> None:
    stream = ThoughtStream()
    pieces = [piece for at in range(0, len(text), size) for piece in stream.push(text[at : at + size])]
    pieces += stream.finish(complete=True)
    thought = "".join(piece.text for piece in pieces if piece.thought)
    answer = "".join(piece.text for piece in pieces if not piece.thought)
    parts = parts_of_text("assistant", text)
    assert (thought, answer) == (thought_of(parts), text_of(parts))
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
