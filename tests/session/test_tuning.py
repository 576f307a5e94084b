"""Teaching a model from a chat, with a run that does what the test says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripted_run import ScriptedRun, story
from session.conftest import Chat

from glmtui.errors import BadFileError, UserError
from glmtui.protocol.phrases import verbatim
from glmtui.session.tuning import BY_NAME, CHOICES
from glmtui.training.options import TuneOptions


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "facts.jsonl"
    rows = [{"prompt": f"问题 {number}", "response": "答案"} for number in range(20)]
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": "?"}]), "utf-8")
    return file


def test_what_can_be_chosen_are_fields_of_the_options_with_their_defaults() -> None:
    for choice in CHOICES:
        if choice.name not in ("data", "out", "quant") and not choice.name.endswith("_column"):
            assert getattr(TuneOptions((), ""), choice.name) == choice.default, choice.name


async def test_a_run_is_chosen_begun_and_told(chat: Chat, data: Path) -> None:
    run = ScriptedRun(list(story(5)))
    chat.tuning.make_job = run
    for line in (
        f"data {data}",
        "method lora",
        "steps 5",
        "learning_rate 0.001",
        "quant 4",
        "prompt_column q",
        "start",
    ):
        await chat.enter(f"/tune {line}")
    assert chat.notices("error") == []
    await chat.until(lambda: not chat.tuning.running)
    options = run.options
    assert options is not None
    assert options.data == (str(data),)
    assert (options.method, options.steps, options.learning_rate) == ("lora", 5, 0.001)
    assert options.model.quant == "4"
    assert options.columns == {"prompt": "q"}
    assert Path(options.out).name == "facts-lora"
    done, hint = chat.notices("info")[-2:]
    assert done == "Done after 5 steps: /out"
    assert hint == "/lora /out puts it on the model, /compare shows what it changed."
    assert chat.state.tuning is None


async def test_how_far_it_is_and_a_stop(chat: Chat, data: Path) -> None:
    chat.tuning.make_job = ScriptedRun(list(story(10)), hold=7)  # five steps
    await chat.enter(f"/tune data {data}")
    await chat.enter("/tune start")
    await chat.until(lambda: chat.state.tuning == ("facts-ptuning", 0.5))
    await chat.enter("/tune start")
    assert "already" in chat.notices("error")[-1]
    await chat.enter("/tune stop")
    await chat.until(lambda: not chat.tuning.running)
    assert chat.notices("info")[-2].startswith("Stopped at step 7")
    await chat.enter("/tune stop")
    assert chat.fake_ui.said[-1] == "Nothing is being taught."


@pytest.mark.faults
@pytest.mark.parametrize("error", [BadFileError(verbatim("That is broken.")), RuntimeError("boom")])
async def test_why_a_run_failed_is_said_once(chat: Chat, data: Path, error: Exception) -> None:
    chat.tuning.make_job = ScriptedRun(list(story(3))[:4], error=error)
    await chat.enter(f"/tune data {data}")
    await chat.enter("/tune start")
    await chat.until(lambda: not chat.tuning.running)
    assert len(chat.notices("error")) == 1
    assert str(error) in chat.notices("error")[0] or "boom" in chat.notices("error")[0]


async def test_the_data_are_checked_without_training(chat: Chat, data: Path) -> None:
    chat.tuning.make_job = ScriptedRun([])
    await chat.enter(f"/tune data {data}")
    await chat.enter("/tune check")
    said = chat.fake_ui.said[-1]  # all of it together
    assert "20 rows to learn from, 1 of them kept apart" in said
    assert "facts.jsonl:21: it is in no known format" in said
    assert chat.tuning.report is not None
    await chat.enter(f"/tune data {data}")
    assert chat.tuning.report is None, "it is no longer of these data"


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (["start"], "There is no data yet"),
        (["check"], "There is no data yet"),
        (["data /nowhere/at/all.json", "check"], "There is no /nowhere/at/all.json"),
        (["colour blue"], "There is no colour to choose"),
        (["method magic"], "tune.method cannot be 'magic'"),
        (["validation 3"], "a number from 0 to 0.9"),
    ],
)
async def test_what_cannot_be(chat: Chat, lines: list[str], error: str) -> None:
    for line in lines:
        await chat.enter(f"/tune {line}")
    assert error in chat.notices("error")[-1]
    assert not chat.tuning.running


async def test_a_model_on_a_server_cannot_be_taught(chat: Chat, data: Path) -> None:
    chat.tuning.choose("data", str(data))
    chat.settings.set("model.source", "http://localhost:1/v1")
    with pytest.raises(UserError, match="Only a model on this machine"):
        chat.tuning.options()


async def test_each_result_has_a_folder_of_its_own(chat: Chat, data: Path) -> None:
    chat.tuning.choose("data", str(data))
    first = Path(chat.tuning.options().out)
    first.mkdir(parents=True)
    assert Path(chat.tuning.options().out).name == "facts-ptuning-2"
    chat.tuning.choose("resume", "on")
    assert Path(chat.tuning.options().out) == first
    chat.tuning.choose("out", str(first / "mine"))
    assert chat.tuning.options().out == str(first / "mine")


async def test_only_what_the_method_has_is_offered(chat: Chat) -> None:
    names = {choice.name for choice in chat.tuning.choices}
    assert "pre_seq_len" in names
    assert "lora_rank" not in names
    offers = [text for text, _help, _label in chat.commands.offers(chat, "/tune me")]
    assert offers == ["/tune method "]
    offers = [text for text, _help, _label in chat.commands.offers(chat, "/tune method ")]
    assert offers == ["/tune method ptuning", "/tune method lora"]
    assert set(BY_NAME) >= names


async def test_a_run_that_is_left_behind_ends(chat: Chat, data: Path) -> None:
    chat.tuning.make_job = ScriptedRun(list(story(10)), hold=5)
    await chat.enter(f"/tune data {data}")
    await chat.enter("/tune start")
    record = chat.tuning.record
    assert record is not None
    await chat.until(lambda: record.step)
    chat.close()
    assert record.ended is not None
    assert record.ended.reason == "cancelled"
