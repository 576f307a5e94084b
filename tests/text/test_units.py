"""Sizes, numbers and times as a person reads them."""

from __future__ import annotations

import pytest

from glmtui.text.units import duration, parameters, size


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (10_538_360, "10.5 MB"), (310e6, "310 MB"),
     (13.4e9, "13.4 GB"), (213.7e9, "214 GB"), (2e15, "2000.0 TB")],
)  # fmt: skip
def test_a_size(count: float, shown: str) -> None:
    assert size(count) == shown


def test_a_number_of_parameters_and_a_time() -> None:
    assert [parameters(count) for count in (0, 5_260_000, 6_240_000_000)] == ["", "5.3 M", "6.2 B"]
    assert [duration(seconds) for seconds in (-1, 59.6, 3600)] == ["0:00", "1:00", "60:00"]
