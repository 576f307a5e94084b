"""What is written on a disk without room: an error of the system that says so, whoever writes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from glmtui.errors import BadFileError
from glmtui.models.weight_files import read_file, write_pickle, write_tensors

resource = pytest.importorskip("resource", reason="limits are POSIX's")
TENSORS = {"a": torch.arange(5000.0), "b": torch.ones(3, dtype=torch.float16)}


@pytest.fixture
def room() -> Iterator[None]:
    """At most some kilobytes a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("write", [write_tensors, write_pickle])
def test_a_disk_without_room_is_an_error_of_the_system(write, room, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        write(TENSORS, tmp_path / "model.bin")


@pytest.mark.parametrize(
    ("write", "name"), [(write_tensors, "model.safetensors"), (write_pickle, "model.bin")]
)
def test_what_is_written_is_read(write, name: str, tmp_path: Path) -> None:
    write(TENSORS, tmp_path / name)
    found = dict(read_file(tmp_path / name))
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in TENSORS.items())


@pytest.mark.parametrize("name", ["model.safetensors", "model.bin"])
def test_complex_weights_are_named(name: str, tmp_path: Path) -> None:
    write = write_tensors if name.endswith("safetensors") else write_pickle
    write({"query": torch.ones(2, dtype=torch.complex64)}, tmp_path / name)
    with pytest.raises(BadFileError, match="query"):
        list(read_file(tmp_path / name))
