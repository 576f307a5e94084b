"""What quantisation costs in quality: nano's own answers to its held-out questions, against float32.

    PYTHONPATH=tools python tests/benchmarks/quantisation_quality.py

Prints perplexity and mean Kullback-Leibler divergence (nats per token) over the tokens of the right answers,
as the table of the README. Of the output layer, which lies in two planes, no larger a part is exact than in a
model of 130,528 tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from golden_data import read_network
from nano.corpus import heldout
from nano.evaluate import Grader
from nano.train import FOLDER
from torch import nn

from glmtui.engine.prefill import read
from glmtui.hub.model_dir import ModelFolder
from glmtui.models.checkpoint import QUANTIZED, expected_shapes, new_network
from glmtui.quant import formats, linear
from glmtui.quant.formats import Bits
from glmtui.quant.load import Scheme, read_into
from glmtui.quant.policy import install


def float32() -> nn.Module:
    return read_network(FOLDER)


def own(bits: Bits) -> nn.Module:
    """What ``--quant`` runs: groups, embeddings too, rounded activations, a cache in float16."""
    folder = ModelFolder.open(FOLDER)
    network = new_network(folder)
    read_into(network, folder, expected_shapes(network), Scheme(bits))
    network.tie_weights()
    return network.eval()


def published(bits: Bits) -> nn.Module:
    """The published format: one scale a row, embeddings and activations float."""
    network = read_network(FOLDER)
    for name, weight in list(network.named_parameters()):
        if QUANTIZED.search(name):
            packed = formats.pack_published(
                *formats.quantize_published(weight, bits), columns=weight.shape[1]
            )
            install(network, name, packed, "float")
    return network


@torch.inference_mode()
def log_probabilities(network: nn.Module, examples: list[tuple[list[int], list[int]]]) -> list[torch.Tensor]:
    """Return ``[answer, vocab]`` for every example, computed as answers are: one token after another."""
    found = []
    for prompt, answer in examples:
        cache = network.new_cache()  # type: ignore[operator]
        steps = [prompt, *([token] for token in answer[:-1])]
        rows = [read(network, torch.tensor(step), cache, last_only=True) for step in steps]
        found.append(F.log_softmax(torch.cat(rows), dim=-1))
    return found


def main() -> None:
    torch.set_num_threads(1)
    reference = float32()
    linear.REFINED = linear.REFINED * reference.config.vocab_size // 130528
    grader = Grader(reference)  # type: ignore[arg-type]
    examples = []
    for example in heldout():
        answer = [*grader.tokenizer.encode_text(example.answer), grader.tokenizer.eos_id]
        examples.append((grader.prompt(example), answer))
    targets = [torch.tensor(answer)[:, None] for _prompt, answer in examples]
    expected = log_probabilities(reference, examples)
    tokens = sum(map(len, targets))

    def perplexity(found: list[torch.Tensor]) -> float:
        total = sum(-rows.gather(1, ids).sum().item() for rows, ids in zip(found, targets, strict=True))
        return math.exp(total / tokens)

    base = perplexity(expected)
    print(f"{len(examples)} questions, {tokens} tokens of answers\n")
    print("| weights | bits per weight | perplexity | against float32 | mean KL |\n|---|---|---|---|---|")
    print(f"| float32 | 32 | {base:.4f} | – | – |")
    rows: list[tuple[str, str, Callable[[], nn.Module]]] = [
        ("INT8, groups of 128", "8.13", lambda: own(8)),
        ("INT8, published", "8", lambda: published(8)),
        ("INT4, groups of 32 in 128", "4.25", lambda: own(4)),
        ("INT4, published", "4", lambda: published(4)),
    ]
    for name, size, make in rows:
        found = log_probabilities(make(), examples)
        divergence = sum(
            (rows.exp() * (rows - other)).sum().item() for rows, other in zip(expected, found, strict=True)
        )
        value = perplexity(found)
        change = f"{100 * (value / base - 1):+.2f} %"
        print(f"| {name} | {size} | {value:.4f} | {change} | {divergence / tokens:.5f} |")


if __name__ == "__main__":
    main()
