"""Write ChatGLM-6B or VisualGLM-6B in the published shape with random weights, or measure how it is loaded.

    python tests/benchmarks/full_size.py write FOLDER [BITS [LAYERS [NAME]]]
    python tests/benchmarks/full_size.py load FOLDER 4
    python tests/benchmarks/full_size.py compare FOLDER 4 [REPEAT]

`load` prints seconds and peak memory: anonymous (what the machine must have) and resident (mapped files too).
Run it twice: the first start quantises into the cache, the second maps the result.

`compare` prints how long loading takes, with nothing kept in the cache, against reading the files once from
disk, by turns.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch

from glmtui.engine.bench import peak_rss
from glmtui.hub import catalog
from glmtui.models.chatglm import ChatGLM, ChatGLMConfig
from glmtui.models.checkpoint import QUANTIZED, expected_shapes, shapes_only
from glmtui.models.visualglm import VisualGLM, VisualGLMConfig


def write(folder: Path, quant: int = 0, layers: int = 28, name: str = "chatglm-6b") -> None:
    """Write what is published: FP16 in shards of a gigabyte, or INT8 or INT4 in one file."""
    known = catalog.find(name)
    assert known is not None
    config = {**known.shape, "num_layers": layers, "num_attention_heads": 32, "bos_token_id": 130004}
    config |= {"eos_token_id": 130005, "mask_token_id": 130000, "gmask_token_id": 130001}
    config |= {"quantization_bit": quant} if quant else {}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        json.dumps({"model_type": "chatglm", "torch_dtype": "float16", **config})
    )
    with shapes_only():
        sees = known.family == "visualglm"
        network = (
            VisualGLM(VisualGLMConfig.from_dict(config)) if sees else ChatGLM(ChatGLMConfig.from_dict(config))
        )
    shapes = expected_shapes(network, "8" if quant == 8 else "4" if quant else "none")
    if not quant:
        shapes["lm_head.weight"] = shapes["transformer.word_embeddings.weight"]  # they are published twice
    weight_map: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    for name, shape in shapes.items():
        shard[name] = _random(name, shape, quant)
        full = not quant and sum(tensor.nbytes for tensor in shard.values()) > 1 << 30
        if full or name == list(shapes)[-1]:
            file = (
                "pytorch_model.bin" if quant else f"pytorch_model-{len(set(weight_map.values())) + 1:05}.bin"
            )
            torch.save(shard, folder / file)
            weight_map |= dict.fromkeys(shard, file)
            shard = {}
    if not quant:
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def _random(name: str, shape: tuple[int, ...], quant: int) -> torch.Tensor:
    if quant and QUANTIZED.search(name):
        return torch.empty(shape, dtype=torch.int8).random_(-127 if quant == 8 else -128, 128)
    if name.endswith("_scale"):
        return torch.full(shape, 0.02 / (73 if quant == 8 else 4), dtype=torch.float16)
    block = torch.empty(1 << 22, dtype=torch.float16).normal_(0, 0.02)  # drawing all of them takes minutes
    count = torch.Size(shape).numel()
    return block.repeat(-(-count // len(block)))[:count].clone().view(shape)


def load(folder: Path, quant: int) -> None:
    """Linux only: others do not tell anonymous memory apart."""
    from glmtui.engine import loader
    from glmtui.protocol.models import LocalModel

    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    peak = max(peak, int(line.split()[1]) * 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    model = loader.load(LocalModel(str(folder), device="cpu", quant="8" if quant == 8 else "4"))
    seconds = time.perf_counter() - start
    first = time.perf_counter()
    model.logits([20, 21, 130001, 130004])
    answered = time.perf_counter() - first
    if model.info.sees_images:
        start = time.perf_counter(), time.process_time()
        model.image_embeds(_picture())
        taken = time.perf_counter() - start[0], time.process_time() - start[1]
        print(f"looked at a picture in {taken[0]:.2f} s, {taken[1]:.2f} s of all processors together")
    done.set()
    watcher.join()
    print(
        f"ready in {seconds:.2f} s (first tokens {answered:.2f} s later), "
        f"weights {model.info.memory_bytes / 1e9:.2f} GB, "
        f"peak anonymous {peak / 1e9:.2f} GB, peak resident {peak_rss() / 1e9:.2f} GB"
    )


def _picture() -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (640, 480), (200, 30, 60)).save(stream, "PNG")
    return stream.getvalue()


def compare(folder: Path, quant: int, repeat: int = 5) -> None:
    """Every load is a new process; importing torch and compiling kernels are not counted."""
    files = [file for file in folder.iterdir() if file.suffix in (".bin", ".safetensors")]
    reads, loads = [], []
    for _turn in range(repeat):
        for seconds, measure in ((reads, _read_seconds), (loads, _load_seconds)):
            _forget(files)
            seconds.append(measure(folder, files, quant))
        print(f"read in {reads[-1]:.2f} s, loaded in {loads[-1]:.2f} s")
    read, loaded = statistics.median(reads), statistics.median(loads)
    print(f"medians {read:.2f} s and {loaded:.2f} s: {loaded / read:.2f} times as long")


def _forget(files: list[Path]) -> None:
    for file in files:
        with file.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read_seconds(_folder: Path, files: list[Path], _quant: int) -> float:
    buffer, start = bytearray(1 << 20), time.perf_counter()
    for file in files:
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass
    return time.perf_counter() - start


def _load_seconds(folder: Path, _files: list[Path], quant: int) -> float:
    done = subprocess.run(
        [sys.executable, __file__, "time", str(folder), str(quant)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def time_load(folder: Path, quant: int) -> None:
    """Print the seconds that loading takes without the cache, and end at once."""
    from glmtui.engine import loader
    from glmtui.protocol.models import LocalModel
    from glmtui.quant import cache, cpu

    cpu.load()
    cache.CACHED_FROM = 1 << 60
    start = time.perf_counter()
    model = loader.load(LocalModel(str(folder), device="cpu", quant="8" if quant == 8 else "4"))
    print(time.perf_counter() - start, flush=True)
    del model


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), *map(int, sys.argv[3:5]), *sys.argv[5:])
    else:
        commands = {"load": load, "compare": compare, "time": time_load}
        commands[sys.argv[1]](Path(sys.argv[2]), *map(int, sys.argv[3:]))
