"""What is written of an error that nobody foresaw, and how often."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from glmtui import failures
from glmtui.errors import NotFoundError

pytestmark = pytest.mark.faults
SECRET = "what was said"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path))
    return tmp_path


def caught(work: Callable[[], object]) -> Exception:
    try:
        work()
    except Exception as error:  # noqa: BLE001
        return error
    raise AssertionError("nothing was raised")


def chained() -> None:
    try:
        int(SECRET)
    except ValueError as error:
        raise RuntimeError("a shape is wrong") from error


@pytest.mark.parametrize(
    "work",
    [
        lambda: int(SECRET),
        lambda: {}[SECRET],
        lambda: SECRET.encode("ascii") + "é".encode("ascii"),
        lambda: open(SECRET, "rb"),  # noqa: SIM115
        chained,
    ],
)
def test_the_log_says_where_and_nothing_of_what_was_said(work: Callable[[], object]) -> None:
    log = failures.write_log(caught(work))
    assert log is not None
    written = log.read_text("utf-8")
    assert "test_failures.py" in written
    assert "Error" in written
    assert SECRET not in written


def test_errors_that_speak_of_the_program_keep_their_text() -> None:
    log = failures.write_log(caught(chained))
    assert log is not None
    assert "a shape is wrong" in log.read_text("utf-8")


def test_the_same_error_is_written_once_and_another_again(home: Path) -> None:
    def divide(number: int) -> float:
        return 1 / number

    faults = failures.Faults()
    first, again = faults.describe(caught(lambda: divide(0))), faults.describe(caught(lambda: divide(0)))
    assert (first[1], again[1]) == (True, False)
    assert first[0] == again[0]
    size = failures.log_file().stat().st_size
    assert faults.describe(caught(lambda: [][0]))[1]
    assert failures.log_file().stat().st_size > size
    assert str(failures.log_file()) in str(first[0])


def test_what_a_person_can_act_on_is_not_written() -> None:
    phrase, _new = failures.Faults().describe(NotFoundError("there is none"))
    assert str(phrase) == "there is none"
    assert not failures.log_file().exists()
