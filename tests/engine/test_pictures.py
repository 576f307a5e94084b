"""Pictures in prompts: looked at once, kept by their digests, refused where nobody sees them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("PIL", reason="pictures need Pillow")

from picture_files import BAD, GOOD, png

import glmtui
from glmtui.engine.chat_model import ChatModel
from glmtui.engine.local import LocalEngine
from glmtui.engine.pictures import Pictures
from glmtui.errors import BadFileError, BadValueError, NotFoundError, TooLongError, UnavailableError
from glmtui.protocol.cancellation import OperationCancelled
from glmtui.protocol.events import Done, Failed, Loaded, Started, TokenCount, Tokens
from glmtui.protocol.messages import ChatMessage, Image, Text
from glmtui.protocol.models import LocalModel
from glmtui.protocol.requests import CountTokens, Generate, Load
from glmtui.protocol.sampling import Sampling

FIRST, SECOND = png(), png(30, 30)
GREEDY = Sampling(max_new_tokens=4, temperature=0.0, min_length=0)


@pytest.fixture
def model(seeing_folder: Path, looks: list[int]) -> ChatModel:
    found = glmtui.load(seeing_folder, device="cpu", dtype="float32")
    see = found.network.image_encoder.forward

    def noted(*given: Any) -> Any:
        looks.append(1)
        return see(*given)

    found.network.image_encoder.forward = noted
    return found


@pytest.fixture
def looks() -> list[int]:
    """How often the image encoder has run."""
    return []


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def asked(text: str, *files: bytes) -> ChatMessage:
    return ChatMessage("user", (*(Image(digest(each), "image/png") for each in files), Text(text)))


def files(*data: bytes) -> dict[str, bytes]:
    return {digest(each): each for each in data}


def answer(model: ChatModel, *messages: ChatMessage, **options: Any) -> str:
    found = model.stream(messages, GREEDY, **options)
    for _piece in found:
        pass
    return found.text


def test_the_second_question_about_a_picture_costs_no_look(model: ChatModel, looks: list[int]) -> None:
    first, history = model.chat("这是什么?", image=FIRST, max_new_tokens=3)
    second, history = model.chat("Where?", history, image=FIRST, max_new_tokens=3)
    assert (len(looks), len(history)) == (1, 2)
    assert first
    assert second
    model.chat("Where?", image=SECOND, max_new_tokens=3)
    assert len(looks) == 2


def test_the_picture_is_what_is_answered_about(model: ChatModel) -> None:
    """The logits differ, and those of the same picture do not."""
    ids = model.prompt_ids([asked("x", FIRST)], files(FIRST))
    found = [model.logits(ids, image=data, image_at=2) for data in (FIRST, SECOND, FIRST)]
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])


def test_keys_and_values_of_another_picture_are_not_taken(model: ChatModel) -> None:
    """The ids of both prompts are the same."""
    both = files(FIRST, SECOND)
    for data in (FIRST, SECOND, FIRST):
        kept = model.stream([asked("x", data)], GREEDY, images=both)
        for _piece in kept:
            pass
        fresh = list(model.generate(kept.generation.prompt, max_new_tokens=4, image=data, image_at=at(kept)))
        assert kept._ids == fresh


def at(answer: Any) -> int:
    return int(answer.generation.images[0].at)


def test_a_question_asked_again_needs_no_look_even_when_the_rows_are_gone(
    model: ChatModel, looks: list[int]
) -> None:
    once = answer(model, asked("x", FIRST), images=files(FIRST))
    model._pictures = Pictures(model.network)
    assert answer(model, asked("x", FIRST), images=files(FIRST)) == once
    assert len(looks) == 1  # its keys and values were kept


def test_what_is_kept_has_a_limit(model: ChatModel, looks: list[int]) -> None:
    pictures = Pictures(model.network, limit=3 * 4 * 32 * 4)  # three pictures of 4 rows
    datas = [png(8, n) for n in (8, 9, 10, 11)]
    for data in (*datas, datas[3], datas[1], datas[0]):
        pictures.look(digest(data), data)
    assert len(looks) == 5  # the first was gone, the second not


def test_one_picture_is_kept_whatever_the_limit(model: ChatModel, looks: list[int]) -> None:
    pictures = Pictures(model.network, limit=1)
    for _time in range(3):
        pictures.look("a", FIRST)
    assert len(looks) == 1


def test_a_look_can_be_cancelled(model: ChatModel, looks: list[int]) -> None:
    steps: list[float] = []

    def check(fraction: float) -> None:
        steps.append(fraction)
        if len(steps) == 2:
            raise OperationCancelled

    found = model.stream([asked("x", FIRST)], GREEDY, images=files(FIRST), check=check)
    assert [piece.text for piece in found] == []
    assert found.reason == "cancelled"
    assert steps == [0.0, 0.0]
    assert answer(model, asked("x", FIRST), images=files(FIRST))  # and nothing half was kept
    assert len(looks) == 2


def test_what_is_no_picture(model: ChatModel) -> None:
    for name, data in BAD.items():
        with pytest.raises(BadFileError):
            answer(model, asked("x", data), images=files(data))
        with pytest.raises(BadFileError):
            model.image_embeds(data), name


def test_every_good_picture_is_seen(model: ChatModel) -> None:
    for data in GOOD.values():
        assert model.image_embeds(data).isfinite().all()


def test_a_file_that_is_missing_is_named(model: ChatModel) -> None:
    with pytest.raises(NotFoundError, match=digest(FIRST)):
        answer(model, asked("x", FIRST))
    with pytest.raises(NotFoundError, match=r"nowhere\.png"):
        model.chat("x", image="/nowhere.png")
    with pytest.raises(BadValueError, match="path of its file"):
        model.chat("x", image=5)  # type: ignore[arg-type]


def test_a_model_that_sees_nothing_says_so() -> None:
    model = glmtui.load(device="cpu")
    assert not model.info.sees_images
    assert not model.capabilities.images
    with pytest.raises(UnavailableError, match="does not see pictures"):
        answer(model, asked("x", FIRST), images=files(FIRST))
    for call in (model.image_embeds, lambda data: model.logits([5] * 50, image=data)):
        with pytest.raises(UnavailableError, match="does not see pictures"):
            call(FIRST)


def test_the_rows_count_where_room_is_short(model: ChatModel) -> None:
    message = asked("x" * 40, FIRST)
    ids = model.prompt_ids([message], files(FIRST))
    filler = model.tokenizer.raw.special_ids["<unk>"]
    count = model.count_tokens([message], files(FIRST))
    assert (len(ids), ids.count(filler)) == (count, 4)
    with pytest.raises(TooLongError):
        model.stream([message], Sampling(max_length=count), images=files(FIRST))


def test_no_answer_ends_before_the_shortest_length(seeing_folder: Path) -> None:
    model = glmtui.load(seeing_folder, device="cpu", dtype="float32")
    assert (model.info.sampling.min_length, model.info.sampling.top_p) == (100, 0.4)
    stops = set(range(model.network.config.vocab_size)) - {6}
    model.network.config.__dict__["eos_token_id"] = 7
    from glmtui.engine.generate import Generation

    sampling = Sampling(max_length=20, temperature=0.0, min_length=12)
    generation = Generation(model.network, [5, 301, 304], sampling, stop_ids=tuple(stops))
    assert len(list(generation)) == 9
    assert generation.reason == "stop"


# --- through the engine ---


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    found = LocalEngine()
    yield found
    found.close()
    assert found.join(10)


def test_a_conversation_with_the_engine(engine: LocalEngine, seeing_folder: Path) -> None:
    (*_progress, loaded) = engine.submit(Load(LocalModel(str(seeing_folder), device="cpu")))
    assert isinstance(loaded, Loaded)
    assert loaded.info.sees_images
    assert engine.capabilities.images
    message = asked("这是什么?", FIRST)
    events = list(engine.submit(Generate((message,), GREEDY, images=files(FIRST))))
    assert isinstance(events[-1], Done)
    assert any(isinstance(event, Tokens) and event.text for event in events)
    (count,) = engine.submit(CountTokens((message,), images=files(FIRST)))
    (started,) = (event for event in events if isinstance(event, Started))
    assert isinstance(count, TokenCount)
    assert count.tokens == started.prompt_tokens


@pytest.mark.parametrize(
    ("data", "given", "code"),
    [(FIRST, {}, "not_found"), (b"no picture", files(b"no picture"), "bad_file")],
    ids=["missing", "bad"],
)
def test_what_the_engine_refuses(
    engine: LocalEngine, seeing_folder: Path, data: bytes, given: dict[str, bytes], code: str
) -> None:
    list(engine.submit(Load(LocalModel(str(seeing_folder), device="cpu"))))
    *_before, failed = engine.submit(Generate((asked("x", data),), GREEDY, images=given))
    assert isinstance(failed, Failed)
    assert failed.code == code


def test_the_engine_refuses_pictures_for_a_model_that_sees_none(engine: LocalEngine) -> None:
    list(engine.submit(Load(LocalModel(device="cpu"))))
    *_before, failed = engine.submit(Generate((asked("x", FIRST),), GREEDY, images=files(FIRST)))
    assert isinstance(failed, Failed)
    assert failed.code == "unavailable"
