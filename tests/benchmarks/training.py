"""P-tuning of a full-size model with random weights: peak memory, and steps an hour next to a plain loop's.

    python tests/benchmarks/training.py [chatglm-6b|chatglm2-6b] [4|8]

The plain loop unpacks each weight with PyTorch and multiplies by it, forward, again and backward; it is
timed on one layer and the output layer, and reckoned up.
"""

from __future__ import annotations

import sys
import time
from typing import Any, cast

import torch
from torch import nn

from glmtui import host
from glmtui.engine.bench import peak_rss
from glmtui.engine.random_model import random_network
from glmtui.quant.linear import QuantizedLinear
from glmtui.training.prefix import PrefixTuning
from glmtui.training.trainer import Trainer

SOURCE, TARGET, ROWS, ACCUMULATE = 64, 64, 128, 16


def main() -> None:
    name, quant = (*sys.argv[1:], *("chatglm-6b", "4")[len(sys.argv) - 1 :])
    torch.set_num_threads(host.usable_cores())
    network = random_network(name, cast("Any", quant), torch.float32)
    print(f"{name} INT{quant}: loaded, {peak_rss() / 1e9:.2f} GB", flush=True)
    tuning = PrefixTuning(network, {}, rows=ROWS, dropout=0.1)
    trainer = Trainer(network, tuning, learning_rate=2e-2, steps=9)
    ids = torch.randint(10, 60_000, (1, SOURCE + TARGET))
    if name == "chatglm-6b":
        ids[0, SOURCE - 2 : SOURCE] = torch.tensor([130_001, 130_004])
    labels = ids.clone()
    labels[:, :SOURCE] = -100
    seconds = []
    for _step in range(2):
        begun = time.perf_counter()
        trainer.step([(ids, labels)])
        seconds.append(time.perf_counter() - begun)
        print(f"a micro-batch of {SOURCE} + {TARGET} tokens: {seconds[-1]:.1f} s", flush=True)
    print(f"peak memory {peak_rss() / 1e9:.2f} GB")
    step = min(seconds) * ACCUMULATE
    print(f"{3600 / step:.1f} steps of {ACCUMULATE} an hour")
    plain = plain_seconds(network)
    print(f"a plain loop's micro-batch: {plain:.1f} s, {plain / min(seconds):.1f} times as long")


def plain_seconds(network: Any) -> float:
    """Time one layer's products, and the output layer's, unpacked by PyTorch."""
    layers = {
        module_name: module
        for module_name, module in network.named_modules()
        if isinstance(module, QuantizedLinear)
    }
    first = [module for module_name, module in layers.items() if ".layers.0." in module_name]
    last = [module for module_name, module in layers.items() if ".layers." not in module_name]
    return network.config.num_layers * sum(map(_plain, first)) + sum(_plain(each, TARGET) for each in last)


def _plain(layer: QuantizedLinear, tokens: int = SOURCE + TARGET) -> float:
    begun = time.perf_counter()
    x = torch.randn(tokens, layer.in_features)
    for _pass in range(2):
        weight = layer.weight.packed.dequantize()
        out = nn.functional.linear(x, weight)
        del weight
    weight = layer.weight.packed.dequantize()
    out @ weight
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
