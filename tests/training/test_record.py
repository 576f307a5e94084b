"""A run as it is looked at, and as it is written down."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from scripted_run import ESTIMATE, story

from glmtui.errors import StorageError
from glmtui.protocol.phrases import _
from glmtui.training.log import BOARD, NAME, RunLog
from glmtui.training.progress import Began, Ended, Estimate, Step
from glmtui.training.record import MOST_POINTS, RAW, SMOOTHED, VALIDATION, RunRecord, estimate_lines, time_of


def record_of(steps: int) -> RunRecord:
    record = RunRecord()
    for event in story(steps):
        record.take(event)
    return record


def test_what_is_so_now() -> None:
    record = RunRecord()
    assert record.figures() == []
    assert record.plot(60, 10) == []
    assert not record.ending()
    record = record_of(40)
    shown = {str(name): value for name, value in record.figures()}
    assert shown["step"] == "40 / 40"
    assert shown["tokens/s"] == "431.5"
    assert shown["memory"] == "5.6 GB"
    assert shown["time left"] == "0:00"
    assert shown["validation"].startswith("1.1750")
    assert record.fraction == 1
    assert str(record.ending()) == "Done after 40 steps: /out"
    assert record.before[0].answer != record.after[0].answer


def test_all_three_curves_are_drawn() -> None:
    owners = {curve for row in record_of(40).plot(60, 12) for _character, curve in row}
    assert owners == {None, RAW, SMOOTHED, VALIDATION}


def test_a_long_run_keeps_as_many_points_as_can_be_seen() -> None:
    record = RunRecord()
    for step in range(1, 100_001):
        record.take(Step(step, 100_000, 1, 1, 1, 1, 1, 1))
    assert MOST_POINTS / 4 < len(record.steps) < MOST_POINTS
    assert (record.steps[0].step, record.step and record.step.step) == (1, 100_000)
    gaps = [b.step - a.step for a, b in zip(record.steps, record.steps[1:], strict=False)]
    assert max(gaps) <= 2 * min(gaps)


def test_the_estimate_and_what_speaks_against_it() -> None:
    (line,) = map(str, estimate_lines(ESTIMATE))
    assert line == "Trains 29.4 M parameters; needs about 5.8 GB of 12.0 GB free; takes about 2:30:00"
    hopeless = Estimate(1, 1, 1e6, 1, _("That is hopeless."))
    assert str(estimate_lines(hopeless)[1]) == "That is hopeless."
    assert time_of(59.6) == "1:00"


def test_the_log_has_an_event_a_line_and_goes_on(tmp_path: Path) -> None:
    events = list(story(10))
    for part in (events[:6], events[6:]):
        log = RunLog(tmp_path, tensorboard=False)
        for event in part:
            log.take(event)
        log.close()
    lines = [json.loads(line) for line in (tmp_path / NAME).read_text("utf-8").splitlines()]
    assert [line["event"] for line in lines] == [type(event).__name__.lower() for event in events]
    assert lines[0]["estimate"]["warning"] == ""
    assert lines[2]["step"] == 1
    assert lines[2]["loss"] == pytest.approx(events[2].loss)  # type: ignore[union-attr]
    assert lines[1]["samples"][0]["question"] == "衬衫怎么搭配？"


def test_a_line_that_was_torn_costs_itself(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"event": "step", "st')
    log = RunLog(tmp_path, tensorboard=False)
    log.take(Ended("done", 1, "/out"))
    log.close()
    torn, whole = (tmp_path / NAME).read_text("utf-8").splitlines()
    assert (torn, json.loads(whole)["event"]) == ('{"event": "step", "st', "ended")


def test_what_is_no_number_is_null_in_the_log(tmp_path: Path) -> None:
    log = RunLog(tmp_path, tensorboard=False)
    log.take(Began(Estimate(1, 1, float("inf"), 1, _("{n} hours").format(n=7)), 1, 0, 0, 1))
    log.close()
    line = json.loads((tmp_path / NAME).read_text("utf-8"))
    assert line["estimate"]["seconds"] is None
    assert line["estimate"]["warning"] == "7 hours"


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"log\.jsonl cannot be written"):
        RunLog(tmp_path / "absent", tensorboard=False)


def test_tensorboard_reads_the_same_figures(tmp_path: Path) -> None:
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = RunLog(tmp_path)
    for event in story(10):
        log.take(event)
    log.close()
    board = loading.EventAccumulator(str(tmp_path / BOARD))
    board.Reload()
    assert len(board.Tags()["tensors"] or board.Tags()["scalars"]) == 6
    found = board.Scalars("train/loss") if board.Tags()["scalars"] else board.Tensors("train/loss")
    assert [each.step for each in found] == list(range(1, 11))


def test_without_tensorboard_there_is_the_log_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    log = RunLog(tmp_path)
    log.take(Ended("done", 1, "/out"))
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
