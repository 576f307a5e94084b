"""Curves as text."""

from __future__ import annotations

import math

import pytest

from glmtui.text.columns import widest
from glmtui.text.plot import Curve, plot


def lines(*curves: Curve, width: int = 40, height: int = 8) -> list[str]:
    return ["".join(character for character, _curve in row) for row in plot(curves, width, height)]


@pytest.mark.parametrize(("width", "height"), [(40, 8), (20, 3), (200, 50)])
def test_it_is_as_large_as_asked_for(width: int, height: int) -> None:
    drawn = lines(Curve([(0, 1.0), (1, 3.5), (2, 2.0)]), width=width, height=height)
    assert len(drawn) == height
    assert {widest([line]) for line in drawn} == {width}


def test_a_falling_line_goes_from_above_left_to_below_right() -> None:
    drawn = lines(Curve([(step, 4 - step / 25) for step in range(101)]))
    assert drawn[0].startswith("4 ┤")
    assert drawn[-2].lstrip().startswith("0 ┤")
    assert drawn[0].rstrip() != "4 ┤"
    columns = [max(at for at, character in enumerate(line) if character > "\u2800") for line in drawn[:-1]]
    assert columns == sorted(columns)
    assert drawn[-1].split() == ["0", "100"]


def test_each_dot_belongs_to_its_curve_and_marks_stay_on_top() -> None:
    points = [(0.0, 0.0), (1.0, 1.0)]
    found = plot([Curve(points, "dots"), Curve(points), Curve([(0.5, 0.5)], "marks")], 30, 7)
    owners = [curve for row in found for _character, curve in row if curve is not None]
    assert set(owners) == {1, 2}, "the line covers the dots"
    assert owners.count(2) == 1


def test_what_is_not_finite_is_left_out() -> None:
    points = [(0, 1.0), (1, math.nan), (2, math.inf), (3, 2.0)]
    assert lines(Curve(points)) == lines(Curve([(0, 1.0), (3, 2.0)]))


@pytest.mark.parametrize(
    ("points", "width", "height"),
    [([], 40, 8), ([(0, math.nan)], 40, 8), ([(0, 1.0)], 6, 8), ([(0, 1.0)], 40, 2)],
)
def test_without_points_or_room_there_is_nothing(
    points: list[tuple[float, float]], width: int, height: int
) -> None:
    assert lines(Curve(points), width=width, height=height) == []


def test_a_single_point_and_a_level_line() -> None:
    assert any("◆" in line for line in lines(Curve([(5, 3.0)], "marks")))
    assert len(lines(Curve([(step, 2.0) for step in range(10)]))) == 8
