"""How long recognising a model folder and estimating its fit takes, without torch (aim: 50 ms).

Writes folders in the published layout whose weights are as large as the real ones but empty (sparse files),
and prints the milliseconds in a fresh process: of the imports, of the first folder, and of it again.

    python tests/benchmarks/recognise.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

FIRST = {
    "model_type": "chatglm", "num_layers": 28, "hidden_size": 4096, "inner_hidden_size": 16384,
    "num_attention_heads": 32, "vocab_size": 130528, "max_sequence_length": 2048, "torch_dtype": "float16",
}  # fmt: skip
SECOND = {
    "model_type": "chatglm", "num_layers": 28, "hidden_size": 4096, "ffn_hidden_size": 13696,
    "num_attention_heads": 32, "kv_channels": 128, "multi_query_attention": True, "multi_query_group_num": 2,
    "seq_length": 32768, "padded_vocab_size": 65024, "torch_dtype": "float16",
}  # fmt: skip
MEASURE = """
import json, pathlib, sys, time
started = time.perf_counter()
from glmtui.models.folder import ModelFolder
imported = time.perf_counter()
def estimate():
    folder = ModelFolder.open(sys.argv[1])
    return folder.file_bytes, [folder.sizes.memory_bytes(quant, 2) for quant in ("none", "8", "4")]
size, needs = estimate()
first = time.perf_counter()
for _again in range(20):
    estimate()
then = (time.perf_counter() - first) / 20
assert size > 3e9 and needs[0] > 1.2e10 and not {"torch", "numpy", "huggingface_hub"} & set(sys.modules)
print(json.dumps([1e3 * (imported - started), 1e3 * (first - imported), 1e3 * then]))
"""


def write(folder: Path, config: dict[str, object], shards: int, size: int) -> Path:
    """Write a folder with an index of 368 tensors and `shards` sparse shards of `size` bytes in all."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    names = [f"pytorch_model-{number:05}-of-{shards:05}.bin" for number in range(1, shards + 1)]
    for name in names:
        with (folder / name).open("wb") as file:
            file.truncate(size // shards)
    weight_map = {
        f"transformer.layers.{number}.weight": names[number * shards // 368] for number in range(368)
    }
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}, indent=2))
    return folder


def main() -> None:
    """Print a line for each shape."""
    print("folder            imports    first    again  (milliseconds)")
    with tempfile.TemporaryDirectory() as place:
        for name, config, shards, size in (
            ("chatglm-6b", FIRST, 8, 13_416_906_785),
            ("chatglm2-6b", SECOND, 7, 12_487_168_064),
            ("chatglm2-6b-int4", SECOND | {"quantization_bit": 4}, 1, 3_923_712_365),
        ):
            folder = write(Path(place, name), config, shards, size)
            runs = [
                json.loads(subprocess.check_output([sys.executable, "-c", MEASURE, str(folder)]))
                for _run in range(5)
            ]
            best = min(runs, key=lambda run: run[0] + run[1])
            print(f"{name:16} {best[0]:8.1f} {best[1]:8.1f} {best[2]:8.2f}")


if __name__ == "__main__":
    main()
