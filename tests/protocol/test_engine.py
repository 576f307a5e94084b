"""The stream of one request: what is joined, what is not, and where it ends."""

from __future__ import annotations

from glmtui.protocol.engine import Stream
from glmtui.protocol.events import (
    Cancelled,
    DownloadProgress,
    LoadProgress,
    PromptProgress,
    Started,
    Tokens,
    Unloaded,
)


def stream_of(*events: object) -> Stream:
    stream = Stream()
    for event in events:
        stream.put(event)  # type: ignore[arg-type]
    return stream


def test_text_is_joined_and_of_progress_the_latest_is_told() -> None:
    stream = stream_of(
        LoadProgress("read", 1, 9),
        LoadProgress("quantize", 9, 9),
        Started(3, 2048, 0),
        PromptProgress(0.1),
        PromptProgress(0.9),
        Tokens("你", 1),
        Tokens("好", 2),
        DownloadProgress(()),
        DownloadProgress(()),
    )
    assert stream.drain() == [
        LoadProgress("quantize", 9, 9),
        Started(3, 2048, 0),
        PromptProgress(0.9),
        Tokens("你好", 3),
        DownloadProgress(()),
    ]
    assert stream.drain() == []
    assert not stream.ended


def test_thought_and_answer_are_never_joined() -> None:
    events = [Tokens("a", 1, thought=True), Tokens("b", 1), Tokens("c", 1, thought=True)]
    assert stream_of(*events).drain() == events


def test_it_has_ended_when_the_end_was_taken() -> None:
    stream = stream_of(Tokens("a", 1), Unloaded())
    assert not stream.ended
    assert stream.drain()[-1] == Unloaded()
    assert stream.ended
    assert list(stream) == []


def test_iterating_tells_every_event_up_to_the_end() -> None:
    events = [Tokens("a", 1), Tokens("b", 1), Cancelled()]
    stream = stream_of(*events)
    assert list(stream) == events
    assert stream.ended


def test_a_drain_takes_no_more_than_a_screen_can_show() -> None:
    stream = stream_of(*[Tokens("a", 1)] * (Stream.MOST + 1), Unloaded())
    assert stream.drain() == [Tokens("a" * Stream.MOST, Stream.MOST)]
    assert not stream.ended
    assert stream.drain() == [Tokens("a", 1), Unloaded()]


def test_cancelling_only_asks() -> None:
    stream = Stream()
    stream.cancel()
    assert stream.token.cancelled
    assert stream.drain() == []
