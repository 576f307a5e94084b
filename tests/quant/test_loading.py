"""Quantised models through the loader: published files, quantising while reading, the cache, and kills."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from golden_data import GOLDEN, check_golden
from safetensors.torch import save_file
from tiny_model import write_tiny_model

import glmtui
from glmtui import signals
from glmtui.cli import main as cli
from glmtui.engine.prefill import read
from glmtui.errors import UserError
from glmtui.hub.model_dir import ModelFolder
from glmtui.models import weight_files
from glmtui.models.checkpoint import Checkpoint
from glmtui.quant import cache, formats
from glmtui.quant.linear import QuantizedEmbedding, QuantizedLinear


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that is large enough for the cache."""
    monkeypatch.setattr(cache, "CACHED_FROM", 1)
    return write_tiny_model(tmp_path / "tiny")


PROMPT = (20, 21, 22, 23)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("name", ["chatglm-int8", "chatglm-int4", "chatglm2-int8", "chatglm2-int4"])
def test_published_files_in_float32_are_what_the_published_code_computes(name):
    check_golden(name, glmtui.load(GOLDEN / name, dtype="float32").network)


@pytest.mark.parametrize("name", ["chatglm-int8", "chatglm-int4", "chatglm2-int8", "chatglm2-int4"])
def test_published_files_with_rounded_activations_stay_near(name):
    expected = np.load(GOLDEN / name / "expected.npz")
    logits = glmtui.load(GOLDEN / name).logits(expected["input_ids"]).numpy()
    error = np.linalg.norm(logits - expected["prompt_logits"]) / np.linalg.norm(expected["prompt_logits"])
    assert error < 0.15  # tiny random networks forgive nothing; see the table of nano in the README


@pytest.mark.parametrize("quant", [8, 4])
@pytest.mark.parametrize("name", ["chatglm-fp16-sharded", "chatglm2-fp16-sharded", "chatglm-ptuning"])
def test_every_large_product_is_quantised(name, quant):
    model = glmtui.load(GOLDEN / name, quant=quant)
    assert model.info.quant == str(quant)
    kinds = {type(module) for module in model.network.modules()}
    assert {QuantizedLinear, QuantizedEmbedding} <= kinds
    assert torch.nn.Linear not in kinds
    assert model.logits(np.load(GOLDEN / name / "expected.npz")["input_ids"]).isfinite().all()


def test_the_output_layer_shares_the_embedding():
    network = glmtui.load(GOLDEN / "chatglm-fp16-sharded", quant=4).network
    assert network.lm_head.weight is network.transformer.word_embeddings.weight
    assert len({buffer.data_ptr() for name, buffer in network.named_buffers() if "lm_head" in name}) == 0


def test_other_bits_than_the_file_has_are_refused():
    with pytest.raises(UserError, match="--quant 8"):
        glmtui.load(GOLDEN / "chatglm-int8", quant=4)


def test_decoding_goes_on_as_the_prompt_did():
    """The cache, one token at a time through other kernels, gives what the whole prompt gives."""
    model = glmtui.load(GOLDEN / "chatglm2-fp16-sharded", quant=8)
    ids = np.load(GOLDEN / "chatglm2-fp16-sharded" / "expected.npz")["input_ids"].tolist()
    whole = model.logits(ids)
    keys_and_values = model.network.new_cache()
    steps = torch.cat([read(model.network, torch.tensor([token]), keys_and_values) for token in ids])
    assert (steps - whole).norm() < 0.02 * whole.norm()


@pytest.mark.parametrize("quant", [8, 4])
def test_the_second_start_reads_the_cache(folder, home, quant, monkeypatch):
    stages = set()
    first = glmtui.load(folder, quant=quant, progress=lambda stage, *_: stages.add(stage)).logits(PROMPT)
    assert stages >= {"quantize", "read"}
    assert [entry.bits for entry in cache.list_cache()] == [quant]
    monkeypatch.setattr(cache, "fill_cache", lambda *_: pytest.fail("quantised again"))
    steps = []
    again = glmtui.load(folder, quant=quant, progress=lambda *step: steps.append(step))
    assert torch.equal(again.logits(PROMPT), first)
    assert steps[-1][1] > 0.9 * steps[-1][2], "the progress goes to the end of what is read"
    monkeypatch.setattr(cache, "CACHED_FROM", 1 << 30)
    assert torch.equal(glmtui.load(folder, quant=quant).logits(PROMPT), first)  # made in memory: the same


def test_a_changed_source_is_quantised_anew(folder, home):
    glmtui.load(folder, quant=4)
    os.utime(folder / "model.safetensors", ns=(1, 1))
    glmtui.load(folder, quant=4)
    assert len(cache.list_cache()) == 2


def test_published_files_are_put_in_order_once(home, monkeypatch):
    direct = glmtui.load(GOLDEN / "chatglm-int4").logits(PROMPT)
    monkeypatch.setattr(cache, "CACHED_FROM", 1)
    model = glmtui.load(GOLDEN / "chatglm-int4")
    assert torch.equal(model.logits(PROMPT), direct)
    for thread in threading.enumerate():
        if thread.name == "fill-cache":
            thread.join()
    [entry] = cache.list_cache()
    monkeypatch.setattr(weight_files, "_read_pickle", lambda _file: pytest.fail("read again"))
    assert torch.equal(glmtui.load(GOLDEN / "chatglm-int4").logits(PROMPT), direct)
    assert [each.path for each in cache.list_cache()] == [entry.path]


def test_a_model_that_is_let_go_of_is_not_kept(home):
    source = ModelFolder.open(GOLDEN / "chatglm-int4")
    with pytest.raises(OSError, match="let go"):
        cache.fill_cache(source, 4, loaded=lambda: None)
    assert not list(cache.cache_folder().iterdir())


@pytest.mark.parametrize(
    "start", ["this", "before", "of an older version", "long before of an older version"]
)
def test_what_the_disk_had_not_got_when_the_machine_stopped_is_made_anew(folder, home, start):
    source = ModelFolder.open(folder)
    found = cache.fill_cache(source, 4)
    for thread in threading.enumerate():
        if thread.name == "sync":
            thread.join()
    assert {path.name for path in found.path.iterdir()} == {"config.json", "model.safetensors", "seal"}
    starts = {
        "this": cache._start_of_machine(),
        "before": "5b2ad0b4-0000-4000-8000-1f2c3d4e5f60",
        "of an older version": str(psutil.boot_time()),
        "long before of an older version": str(psutil.boot_time() - 3600),
    }
    (found.path / "unsynced").write_text(starts[start])
    assert (cache.open_cached(source, 4) is None) == ("before" in start)


def test_no_room_for_the_cache(folder, home, monkeypatch):
    expected = glmtui.load(folder, quant=4).logits(PROMPT)
    cache.clear_cache()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.TensorFile, "write", full)
    assert torch.equal(glmtui.load(folder, quant=4).logits(PROMPT), expected)
    assert not list(cache.cache_folder().iterdir())


def test_a_damaged_cache_is_made_anew(folder, home):
    expected = glmtui.load(folder, quant=4).logits(PROMPT)
    [entry] = cache.list_cache()
    file = entry.path / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    assert torch.equal(glmtui.load(folder, quant=4).logits(PROMPT), expected)
    assert file.read_bytes() == whole


@pytest.mark.parametrize("damage", ["lost pages", "other table", "other config", "other seal"])
def test_a_cache_whose_length_is_right_is_made_anew_too(folder, home, damage):
    """What a power loss leaves of a file has its length, and zeros where nothing was written."""
    expected = glmtui.load(folder, quant=4).logits(PROMPT)
    [entry] = cache.list_cache()
    file = entry.path / "model.safetensors"
    whole = file.read_bytes()
    if damage == "lost pages":
        file.write_bytes(whole[: len(whole) // 4] + bytes(len(whole) - len(whole) // 4))
    elif damage == "other table":
        file.write_bytes(whole.replace(b"layers.0.", b"layers.9.", 1))
    elif damage == "other config":
        config = entry.path / "config.json"
        config.write_text(config.read_text().replace('"num_layers": 2', '"num_layers": 1'))
    else:
        (entry.path / "seal").write_text("?")
    assert torch.equal(glmtui.load(folder, quant=4).logits(PROMPT), expected)
    assert file.read_bytes() == whole


def test_what_a_former_version_cached_is_sealed_as_it_is(folder, home):
    glmtui.load(folder, quant=4)
    [entry] = cache.list_cache()
    made = (entry.path / "model.safetensors").stat().st_mtime_ns
    seal = entry.path / "seal"
    sealed = seal.read_text()
    seal.unlink()
    glmtui.load(folder, quant=4)
    assert seal.read_text() == sealed
    assert (entry.path / "model.safetensors").stat().st_mtime_ns == made


def test_a_damaged_quantised_folder_is_named(folder, home):
    glmtui.load(folder, quant=4)
    [entry] = cache.list_cache()
    file = entry.path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged"):
        glmtui.load(entry.path)


def _fill_slowly(folder: Path, started: object) -> None:
    import time

    from glmtui.quant.cache import TensorFile

    write = TensorFile.write

    def slow(self: TensorFile, name: str, tensor: torch.Tensor) -> None:
        write(self, name, tensor)
        started.set()  # type: ignore[attr-defined]
        time.sleep(60)

    TensorFile.write = slow  # type: ignore[method-assign]
    cache.fill_cache(ModelFolder.open(folder), 4)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_a_kill_while_quantising_leaves_nothing_that_is_taken_for_whole(folder, home):
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=_fill_slowly, args=(folder, started))
    process.start()
    assert started.wait(60)
    process.kill()
    process.join()
    assert len(list(cache.cache_folder().iterdir())) == 1
    assert cache.list_cache() == []
    source = ModelFolder.open(folder)
    assert cache.open_cached(source, 4) is None
    cache.fill_cache(source, 4)
    assert [path.name for path in cache.cache_folder().iterdir()] == [cache.cached(source, 4).name]


def _fill_again_and_again(folder: Path, started: object) -> None:
    while True:
        cache.clear_cache()
        cache.fill_cache(ModelFolder.open(folder), 4)
        started.set()  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_kills_at_any_moment_leave_a_whole_model_or_none(folder, home):
    source = ModelFolder.open(folder)
    whole = cache.fill_cache(source, 4).weight_files[0].read_bytes()
    context = multiprocessing.get_context("spawn")
    for _round in range(3):
        started = context.Event()
        process = context.Process(target=_fill_again_and_again, args=(folder, started))
        process.start()
        assert started.wait(60)
        process.join(random.random() / 4)
        process.kill()
        process.join()
        found = cache.open_cached(source, 4)
        assert found is None or found.weight_files[0].read_bytes() == whole
        assert cache.fill_cache(source, 4).weight_files[0].read_bytes() == whole
        assert len(list(cache.cache_folder().iterdir())) == 1


def _fill_once(folder: Path, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    cache.fill_cache(ModelFolder.open(folder), 4)


@pytest.mark.slow
def test_two_processes_fill_the_cache_at_once(folder, home):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    both = [context.Process(target=_fill_once, args=(folder, barrier)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(100)
    assert [process.exitcode for process in both] == [0, 0]
    assert [path.name for path in cache.cache_folder().iterdir()] == [
        cache.cached(ModelFolder.open(folder), 4).name
    ]
    assert glmtui.load(folder, quant=4).logits(PROMPT).isfinite().all()


def test_a_checkpoint_with_its_prefix_is_quantised_with_it(home, monkeypatch, tmp_path):
    """The prefix of a P-tuned checkpoint stays as it is, in the cache and in a folder."""
    source = GOLDEN / "chatglm-ptuning"
    direct = glmtui.load(source, quant=8).logits(PROMPT)
    assert cli.main(["quantize", str(source), str(tmp_path / "smaller"), "--quant", "8"]) == 0
    torch.testing.assert_close(glmtui.load(tmp_path / "smaller").logits(PROMPT), direct)
    monkeypatch.setattr(cache, "CACHED_FROM", 1)
    for _start in range(2):
        torch.testing.assert_close(glmtui.load(source, quant=8).logits(PROMPT), direct)
    assert len(cache.list_cache()) == 1


@pytest.mark.parametrize("kind", [".bin", ".safetensors"])
@pytest.mark.parametrize("name", ["chatglm-fp16-sharded", "chatglm-int4"])
@pytest.mark.parametrize("damage", ["pointer", "cut", "flipped", "code"])
def test_bad_files_are_named_and_leave_nothing_in_the_cache(home, monkeypatch, tmp_path, name, kind, damage):
    monkeypatch.setattr(cache, "CACHED_FROM", 1)
    bad = Path(shutil.copytree(GOLDEN / name, tmp_path / "bad"))
    state = {key: tensor.clone() for key, tensor in Checkpoint.open(bad).tensors()}
    for file in bad.glob("pytorch_model*"):
        file.unlink()
    file = bad / {".bin": "pytorch_model.bin", ".safetensors": "model.safetensors"}[kind]
    torch.save(state, file) if kind == ".bin" else save_file(state, file)
    content = bytearray(file.read_bytes())
    if damage == "pointer":
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12ab\nsize 1234567890\n")
    elif damage == "cut":
        file.write_bytes(content[: len(content) * 2 // 3])
    elif damage == "flipped" and kind == ".bin":
        largest = max(state.values(), key=lambda tensor: tensor.nbytes)
        content[content.index(largest.numpy().tobytes()) + largest.nbytes // 2] ^= 1
        file.write_bytes(content)
    elif damage == "flipped":
        content[12] ^= 255  # in the header; the format has no checksums of the rest
        file.write_bytes(content)
    else:
        file.write_bytes(pickle.dumps(_Runs(), protocol=2))
    with pytest.raises(UserError) as caught:
        glmtui.load(bad, quant=None if "int4" in name else 4)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert cache.list_cache() == []
    assert not (tmp_path / "ran").exists()


class _Runs:
    """Would make a file, were it unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("ran",)


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="about the permissions of POSIX users"
)
def test_quantize_into_a_folder_that_cannot_be_written(folder, tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert cli.main(["quantize", str(folder), str(tmp_path / "smaller")]) == 1
    tmp_path.chmod(0o700)
    assert "cannot be written" in capsys.readouterr().err


def test_quantize_on_a_full_disk_leaves_nothing(folder, tmp_path, capsys, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.TensorFile, "write", full)
    (tmp_path / "place").mkdir()
    assert cli.main(["quantize", str(folder), str(tmp_path / "place" / "smaller")]) == 1
    assert "No space left" in capsys.readouterr().err
    assert not list((tmp_path / "place").iterdir())


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_quantize_that_is_ended_leaves_nothing(folder, tmp_path, monkeypatch, name):
    number = getattr(signal, name, None)
    if number is None:
        pytest.skip("no such signal here")
    monkeypatch.setattr(signals, "end_soon", lambda _code: None)
    monkeypatch.setattr(cache.TensorFile, "write", lambda *_: signal.raise_signal(number))
    (tmp_path / "place").mkdir()
    assert cli.main(["quantize", str(folder), str(tmp_path / "place" / "smaller")]) == 128 + number
    assert not list((tmp_path / "place").iterdir())


def test_quantize_says_at_once_that_there_is_no_room(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _place: shutil._ntuple_diskusage(10, 9, 1))
    monkeypatch.setattr(cache, "write_folder", lambda *_: pytest.fail("it was tried"))
    assert cli.main(["quantize", str(folder), str(tmp_path / "new" / "smaller")]) == 1
    error = capsys.readouterr().err
    assert str(tmp_path / "new" / "smaller") in error
    assert "free" in error
    assert not (tmp_path / "new").exists()


def test_quantize_removes_what_a_killed_one_left(folder, tmp_path, capsys):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    place = tmp_path / "place"
    left, others = place / f"partial-{ended.pid}-smaller", place / f"partial-{ended.pid}-another"
    mine = place / "partial-notes"
    for each in (left, others, mine):
        each.mkdir(parents=True)
    assert cli.main(["quantize", str(folder), str(place / "smaller")]) == 0
    assert sorted(place.iterdir()) == sorted([others, mine, place / "smaller"])


@pytest.mark.parametrize("name", ["chatglm-int4", "chatglm-fp16-sharded"])
def test_progress_goes_on_within_a_matrix(home, monkeypatch, name):
    monkeypatch.setattr(formats, "_LARGE_PIECE", 1 << 12)
    steps = [0]
    glmtui.load(GOLDEN / name, quant=4, progress=lambda _stage, done, _total: steps.append(done))
    largest = max(tensor.nbytes for _name, tensor in Checkpoint.open(GOLDEN / name).tensors())
    assert max(after - before for before, after in itertools.pairwise(steps)) < largest


def test_quantize_makes_a_folder_that_loads_anywhere(folder, home, tmp_path, capsys):
    target = tmp_path / "smaller"
    assert cli.main(["quantize", str(folder), str(target)]) == 0
    expected = glmtui.load(folder, quant=4).logits(PROMPT)
    moved = tmp_path / "elsewhere"
    shutil.move(target, moved)
    model = glmtui.load(moved)
    assert model.info.quant == "4"
    assert torch.equal(model.logits(PROMPT), expected)
    assert model.tokenizer.encode("你好") == glmtui.load(folder).tokenizer.encode("你好")
    assert ", from " in capsys.readouterr().out


def test_quantize_refuses_to_overwrite(folder, tmp_path, capsys):
    assert cli.main(["quantize", str(folder), str(tmp_path)]) == 1
    assert "exists" in capsys.readouterr().err


def test_a_file_that_goes_while_the_cache_is_listed_is_no_error(folder, home):
    glmtui.load(folder, quant=8)
    (entry,) = cache.list_cache()
    whole = (entry.path / "model.safetensors").stat().st_size
    (entry.path / "gone").symlink_to("nowhere")  # as what was there when the folder was read
    assert cache.list_cache()[0].nbytes >= whole


def test_the_cache_can_be_listed_and_cleared(folder, home, capsys):
    glmtui.load(folder, quant=8)
    assert cli.main(["quantize", "--cache"]) == 0
    assert str(folder) in capsys.readouterr().out
    cli.main(["doctor"])
    assert f"{folder} · int8 · " in capsys.readouterr().out
    assert cli.main(["quantize", "--clear-cache"]) == 0
    assert cache.list_cache() == []


def test_a_later_format_is_refused(folder, home):
    glmtui.load(folder, quant=4)
    [entry] = cache.list_cache()
    config = json.loads((entry.path / "config.json").read_text())
    (entry.path / "config.json").write_text(json.dumps(config | {"quantization_format": "glmtui-99"}))
    with pytest.raises(UserError, match="glmtui-99"):
        glmtui.load(entry.path)


def test_bench_prints_every_number(folder, home):
    command = [sys.executable, "-m", "glmtui", "bench", "--model", str(folder), "--quant", "4", "--json"]
    command += ["--prompt", "8,16", "--generate", "3", "--repeat", "1", "--threads", "1"]
    result = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout
    )
    assert [run["tokens"] for run in result["prefill"]] == [8, 16]
    assert result["decode"]["tokens_per_s"] > 0
    assert result["decode"]["bytes_per_token"] > 0
    assert result["bandwidth_share"] > 0
    assert result["peak_rss_bytes"] > 1 << 20
    assert (result["threads"], result["quant"], result["device"]) == (1, "4", "cpu")
    assert {"load_s", "bandwidth_bytes_per_s", "model"} <= result.keys()
