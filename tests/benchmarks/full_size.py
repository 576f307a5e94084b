"""Write a ChatGLM-6B checkpoint of the published shape with random weights, or measure how one is loaded.

    python tests/benchmarks/full_size.py write FOLDER [LAYERS]
    python tests/benchmarks/full_size.py load FOLDER 4

`load` prints seconds and peak memory: anonymous (what the machine must have) and resident (mapped files too).
Run it twice: the first start quantises into the cache, the second maps the result.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import torch

from glmtui.engine.bench import peak_rss
from glmtui.models import catalog
from glmtui.models.chatglm import ChatGLM, ChatGLMConfig


def write(folder: Path, layers: int = 28) -> None:
    known = catalog.find("chatglm-6b")
    assert known is not None
    config = {**known.shape, "num_layers": layers, "num_attention_heads": 32, "bos_token_id": 130004}
    config |= {"eos_token_id": 130005, "mask_token_id": 130000, "gmask_token_id": 130001}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        json.dumps({"model_type": "chatglm", "torch_dtype": "float16", **config})
    )
    with torch.device("meta"):
        network = ChatGLM(ChatGLMConfig.from_dict(config))
    weight_map: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    names = dict(network.named_parameters(remove_duplicate=False))
    for name, empty in names.items():
        shard[name] = torch.empty(empty.shape, dtype=torch.float16).normal_(0, 0.02)
        if sum(tensor.nbytes for tensor in shard.values()) > 1 << 30 or name == list(names)[-1]:
            file = f"pytorch_model-{len(set(weight_map.values())) + 1:05}.bin"
            torch.save(shard, folder / file)
            weight_map |= dict.fromkeys(shard, file)
            shard = {}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def load(folder: Path, quant: int) -> None:
    """Linux only: others do not tell anonymous memory apart."""
    import glmtui.engine.loader as loader

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
    model = loader.load(str(folder), quant="8" if quant == 8 else "4")
    seconds = time.perf_counter() - start
    first = time.perf_counter()
    model.logits([20, 21, 130001, 130004])
    answered = time.perf_counter() - first
    done.set()
    watcher.join()
    print(
        f"ready in {seconds:.2f} s (first tokens {answered:.2f} s later), "
        f"weights {model.info.memory_bytes / 1e9:.2f} GB, "
        f"peak anonymous {peak / 1e9:.2f} GB, peak resident {peak_rss() / 1e9:.2f} GB"
    )


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), *map(int, sys.argv[3:]))
    else:
        load(Path(sys.argv[2]), int(sys.argv[3]))
