"""The kernels are compiled once, whole, for the owner only; without a compiler it works all the same."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from time import sleep, time
from unittest.mock import Mock

import psutil
import pytest
import torch
from quant_support import needs_compiler

from glmtui.protocol.cancellation import CancelToken, OperationCancelled
from glmtui.quant import cpu, formats
from glmtui.quant.cpu import build as building
from glmtui.quant.linear import QuantizedLinear
from glmtui.quant.partial import partial_folder

pytestmark = pytest.mark.slow

posix = pytest.mark.skipif(os.name != "posix", reason="about POSIX permissions")


@pytest.fixture(scope="module")
def library(kernel_home: Path) -> bytes:
    """Kernels that work, as the tests of this run use them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLMTUI_HOME", str(kernel_home))
        return building.build_kernels().path.read_bytes()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path))
    if os.name == "posix" and (found := building.find_compilers()):  # their speed is no matter here
        monkeypatch.setenv("CC", compiler(tmp_path, f'exec "{found[0]}" "$@" -O0', "hasty-cc"))
    monkeypatch.setattr(cpu, "_load", cpu._load.__wrapped__)
    monkeypatch.setattr(cpu, "load", lambda: cpu._load()[0])
    return tmp_path


@pytest.fixture
def compiled(library: bytes, home: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What the compiler was asked for; it is quick here, as it has the library already."""
    asked: list[Path] = []

    def compile_(_compiler: str, _flags: list[str], target: Path) -> None:
        asked.append(target)
        target.write_bytes(library)

    monkeypatch.setattr(building, "_compile", compile_)
    return asked


def compiler(folder: Path, script: str, name: str = "fake-cc") -> str:
    """Make a stand-in for a compiler."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@posix
def test_a_compiler_is_killed_when_the_load_is_given_up(home, monkeypatch, tmp_path):
    begun = tmp_path / "begun"
    monkeypatch.setenv(
        "CC", compiler(tmp_path, f"sleep 600 & echo $! >'{begun}.part'; mv '{begun}.part' '{begun}'; wait")
    )
    token = CancelToken()

    def cancel() -> None:
        while not begun.exists():
            sleep(0.01)
        token.cancel()

    threading.Thread(target=cancel).start()
    with token.current(), pytest.raises(OperationCancelled):
        building.build_kernels()
    gone = time() + 10
    while psutil.pid_exists(child := int(begun.read_text())) and time() < gone:
        if psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            break
    else:
        assert time() < gone, "what the compiler started still runs"
    assert list((tmp_path / "cache" / "kernels").iterdir()) == []


def product() -> torch.Tensor:
    torch.manual_seed(1)
    layer = QuantizedLinear(formats.quantize(torch.randn(20, 300), 4))
    return layer(torch.randn(3, 300))


@needs_compiler
@posix
def test_built_once_and_for_the_owner_only(compiled):
    first = building.build_kernels()
    assert stat.S_IMODE(first.path.parent.stat().st_mode) == 0o700
    assert [path.name for path in first.path.parent.iterdir()] == [first.path.name]
    assert building.build_kernels() == first
    assert len(compiled) == 1


@needs_compiler
@posix
def test_a_file_that_others_may_write_is_not_loaded(compiled):
    building.build_kernels().path.chmod(0o666)
    assert stat.S_IMODE(building.build_kernels().path.stat().st_mode) & 0o022 == 0
    assert len(compiled) == 2


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    return bytes(byte ^ 0x55 if at % 97 == 0 else byte for at, byte in enumerate(content))


def foreign(content: bytes) -> bytes:
    """With the number of another processor."""
    return content[:18] + b"\xf7\x00" + content[20:]


@needs_compiler
@posix
@pytest.mark.parametrize("spoil", [cut, flipped, foreign, lambda _content: b"", lambda _content: b"?" * 99])
def test_a_damaged_library_is_made_anew(compiled, spoil):
    """The system would end this process for loading most of them."""
    made = building.build_kernels()
    content = made.path.read_bytes()
    made.path.unlink()  # as a file that is mapped, by an earlier test, must not change
    made.path.write_bytes(spoil(content))
    assert cpu.status().implementation != "torch"
    assert product().isfinite().all()
    assert len(compiled) == 2
    [found] = made.path.parent.iterdir()
    assert found.read_bytes() == content


@needs_compiler
@posix
@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_makes_place_for_the_library(compiled, put):
    made = building.build_kernels()
    made.path.unlink()
    put(made.path)
    assert building.build_kernels() == made
    assert made.path.is_file()
    assert len(compiled) == 2


@needs_compiler
@posix
def test_a_folder_that_others_may_write_is_closed_to_them(compiled):
    folder = building.build_kernels().path.parent
    folder.chmod(0o777)
    assert building.build_kernels().path.parent == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@needs_compiler
@posix
def test_nothing_is_loaded_from_the_folder_of_somebody_else(compiled, monkeypatch):
    folder = building.build_kernels().path.parent
    monkeypatch.setattr(building.os, "getuid", lambda: os.geteuid() + 1)
    monkeypatch.setattr(Path, "chmod", lambda self, _mode: None)
    made = building.build_kernels()
    assert made.temporary
    assert folder not in made.path.parents
    shutil.rmtree(made.path.parent)


@needs_compiler
@posix
def test_what_a_killed_program_left_is_removed(compiled):
    folder = building.build_kernels().path.parent
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for path in folder.iterdir():
        path.unlink()
    (folder / f"partial-{ended.pid}-kernels-0").mkdir()
    (folder / f"partial-{os.getpid()}-kernels-1").mkdir()  # in a container all have the same number
    with partial_folder(folder / "kernels-2") as mine:
        building.build_kernels()
        assert [path for path in folder.iterdir() if path.is_dir()] == [mine]


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_compiler_ends_with_the_program_however_that_ends(number, home, tmp_path):
    begun = tmp_path / "begun"
    script = f"sleep 600 & echo $! >'{begun}.part'; mv '{begun}.part' '{begun}'; wait"
    program = subprocess.Popen(
        [sys.executable, "-c", "from glmtui.quant.cpu.build import build_kernels; build_kernels()"],
        env={**os.environ, "CC": compiler(tmp_path, script)},
    )
    end = time() + 60
    while not begun.exists() and time() < end:
        sleep(0.01)
    child = psutil.Process(int(begun.read_text()))
    program.send_signal(number)
    program.wait()
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time() < end, "what the compiler started still runs"
        sleep(0.01)


@needs_compiler
@posix
def test_kernels_that_crash_are_tried_elsewhere(home, monkeypatch, tmp_path):
    """Where every way of compiling gives such, there are none, and the program goes on."""
    linked = 'case " $* " in *" -c "*) exit 0;; esac; while [ "$1" != "-o" ]; do shift; done'
    source = f'{linked}; echo "int glmtui_quantize(void) {{ __builtin_trap(); }}"'
    real = building.find_compilers()[0]
    monkeypatch.setenv("CC", compiler(tmp_path, f'{source} | {real} -shared -fPIC -x c - -o "$2"'))
    assert product().isfinite().all()
    assert cpu.status().implementation == "torch"
    assert "crashes" in str(cpu.status().reason)


@needs_compiler
def test_other_source_other_file(home, monkeypatch, tmp_path):
    made = building.build_kernels()
    changed = tmp_path / "source"
    shutil.copytree(building.FOLDER, changed)
    with (changed / "simd.h").open("a") as file:
        file.write("\n/* a comment */\n")
    monkeypatch.setattr(building, "SOURCES", tuple(changed / path.name for path in building.SOURCES))
    assert building.build_kernels().path != made.path


def test_without_a_compiler(home, monkeypatch):
    monkeypatch.setattr(building, "find_compilers", list)
    found = product()
    assert cpu.status().implementation == "torch"
    assert "compiler" in str(cpu.status().reason)
    monkeypatch.undo()
    torch.testing.assert_close(found, product(), rtol=1e-3, atol=1e-3)


@posix
def test_a_compiler_that_fails_is_quoted(home, monkeypatch, tmp_path):
    monkeypatch.setenv("CC", compiler(tmp_path, "echo 'kernels.c:1: error: no such luck' >&2; exit 1"))
    assert product().isfinite().all()
    assert "no such luck" in str(cpu.status().reason)


@posix
def test_a_compiler_that_fails_without_a_word_is_told_in_a_line(home, monkeypatch, tmp_path):
    monkeypatch.setenv("CC", compiler(tmp_path, "exit 3"))
    reason = str(cpu.status().reason)
    assert "code 3" in reason
    assert len(reason) < 300


@posix
def test_a_compiler_that_makes_nonsense_is_not_trusted(home, monkeypatch, tmp_path):
    script = 'while [ "$1" != "-o" ]; do shift; done; echo nonsense > "$2"'
    monkeypatch.setenv("CC", compiler(tmp_path, script))
    assert product().isfinite().all()
    assert cpu.status().implementation == "torch"


@needs_compiler
def test_kernels_that_compute_nonsense_are_not_used(compiled, monkeypatch):
    monkeypatch.setattr(cpu.Kernels, "multiply", lambda self, matrix, x: torch.zeros(len(x), matrix.rows))
    assert cpu.status().implementation == "torch"
    assert "wrong" in str(cpu.status().reason)


@needs_compiler
@posix
def test_a_cache_that_cannot_be_made(home, compiled):
    (home / "cache").write_text("a file in the way")
    assert cpu.status().implementation != "torch"
    assert product().isfinite().all()


@needs_compiler
@posix
@pytest.mark.parametrize("full", ["the cache", "all"])
def test_a_disk_that_is_full_while_kernels_are_compiled(full, library, home, monkeypatch, tmp_path):
    (tmp_path / "library").write_bytes(library)
    tried = tmp_path / "tried"
    script = f"""
        echo "$TMPDIR" >>'{tried}'
        while [ "$1" != "-o" ]; do shift; done
        case "$2" in {"*" if full == "all" else "*/cache/*"})
            head -c 5000 '{tmp_path}/library' >"$2"
            echo "/tmp/ccX.s: fatal error: error writing to $2: No space left on device" >&2; exit 1;;
        esac
        cp '{tmp_path}/library' "$2"
    """
    monkeypatch.setenv("CC", compiler(tmp_path, script))
    status = cpu.status()
    places = set(tried.read_text().splitlines())  # what it keeps meanwhile is where the library will be
    assert len(places) == 2, "no other way of compiling needs less room"
    assert (status.implementation == "torch") == (full == "all")
    if full == "all":
        assert str(tmp_path / "cache") in str(status.reason)
        assert "No space left" in str(status.reason)
    assert product().isfinite().all()
    assert not list((home / "cache" / "kernels").iterdir())


@needs_compiler
@posix
def test_kernels_without_any_place_for_temporary_files(library, home, monkeypatch, tmp_path):
    (home / "cache").write_text("a file in the way")
    monkeypatch.setattr(
        building.tempfile, "mkdtemp", Mock(side_effect=FileNotFoundError(errno.ENOENT, "none"))
    )
    assert cpu.status().implementation == "torch"
    assert str(home / "cache") in str(cpu.status().reason)


def test_the_variable_chooses(home, monkeypatch):
    monkeypatch.setenv(cpu.VARIABLE, "torch")
    assert cpu.status().implementation == "torch"
    monkeypatch.setenv(cpu.VARIABLE, "sse17")
    assert "sse17" in str(cpu.status().reason)


@needs_compiler
def test_two_processes_at_once(home):
    code = "from glmtui.quant import cpu; s = cpu.status(); print(s.implementation, s.reason)"
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ})
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=100)[0].strip() for process in both]
    assert outputs[0] == outputs[1] != ""
    assert not outputs[0].startswith("torch")
    assert len(list((home / "cache" / "kernels").iterdir())) == 1
