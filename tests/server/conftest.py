"""Servers for tests: one that many share, and such with limits of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from served import OPEN, MakeServer, Served, end, make


@pytest.fixture(scope="package")
def one_server() -> Iterator[Served]:
    served = make()
    yield served
    end(served)


@pytest.fixture
def served(one_server: Served) -> Served:
    """The server that all tests share which need no options, with an engine of this test's own."""
    one_server.ready()
    one_server.lines.clear()
    return one_server


@pytest.fixture
def serve() -> Iterator[MakeServer]:
    """Make a server with limits and options of its own."""
    made: list[Served] = []

    def start(**options: Any) -> Served:
        limits = replace(OPEN, **options.pop("limits", {}))
        made.append(make(limits, **options))
        return made[-1]

    yield start
    for each in made:
        end(each)
