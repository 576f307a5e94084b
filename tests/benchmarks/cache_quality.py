"""What keys and values with 8 bits cost in quality, against float ones.

    PYTHONPATH=tools:tests python tests/benchmarks/cache_quality.py [EVERY]

Prints perplexity and mean Kullback-Leibler divergence (nats per token): of nano's answers to its held-out
questions; of the same conversations strung together until the context is full; and of attention alone the
error, with thousands of synthetic keys of which some columns are much larger than others, as published models
have them. With EVERY only one question of so many is asked.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from benchmarks.quantisation_quality import log_probabilities, own
from golden_data import read_network
from nano.corpus import heldout
from nano.evaluate import Grader
from nano.train import FOLDER
from torch import Tensor

from glmtui.engine.prefill import read
from glmtui.models.base import LanguageModel
from glmtui.quant import cpu
from glmtui.quant.int8_cache import Int8Storage

Rows = list[Tensor]


def perplexity(found: Rows, targets: Rows) -> float:
    """Return that of the `targets` ``[n, 1]``."""
    total = sum(-rows.gather(1, ids).sum().item() for rows, ids in zip(found, targets, strict=True))
    return math.exp(total / sum(map(len, targets)))


def divergence(expected: Rows, found: Rows) -> float:
    """Return the mean over tokens."""
    pairs = zip(expected, found, strict=True)
    return sum((rows.exp() * (rows - other)).sum().item() for rows, other in pairs) / sum(map(len, found))


@torch.inference_mode()
def strung(network: LanguageModel, ids: list[int]) -> Rows:
    """Return log probabilities ``[n - 1, vocab]`` of what follows each token but the last, one by one."""
    cache = network.new_cache(len(ids))
    rows = [read(network, torch.tensor([token]), cache, last_only=True) for token in ids[:-1]]
    return [F.log_softmax(torch.cat(rows), dim=-1)]


def table(title: str, network: LanguageModel, measure: Callable[[], Rows], targets: Rows) -> None:
    """Print what each way of keeping keys and values gives, the first one being that to compare with."""
    print(f"\n{title}\n\n| keys and values | perplexity | mean KL |\n|---|---|---|")
    expected: Rows = []
    own = network.cache_storage
    for name, storage in (("float", own), ("int8", Int8Storage())):
        network.cache_storage = storage
        found = measure()
        expected = expected or found
        print(
            f"| {name} | {perplexity(found, targets):.5f} | {divergence(expected, found):.7f} |", flush=True
        )
    network.cache_storage = own


def attention(length: int, heads: int = 32, groups: int = 32, size: int = 128) -> None:
    """Print how far one token's attention is from float64's, relative to its norm."""
    torch.manual_seed(0)
    kernels = cpu.load()
    assert kernels is not None
    columns = torch.ones(size)
    columns[torch.randperm(size)[:4]] = 12.0  # the outliers that keys have
    keys, values = torch.randn(groups, length, size) * columns / 4, torch.randn(groups, length, size)
    q = torch.randn(heads, 1, size)
    expected = F.scaled_dot_product_attention(q.double(), keys.double(), values.double())
    pages = torch.zeros(2, groups, -(-length // cpu.PAGE), cpu.PAGE * (size + 4), dtype=torch.uint8)
    kernels.put_cached(keys, values, 0, pages)
    found = {
        "float16": kernels.attend(q, keys.half(), values.half()),
        "int8": kernels.attend_cached(q, pages, length, None),
    }
    for name, each in found.items():
        error = (each.transpose(0, 1) - expected).norm() / expected.norm()
        print(f"| {length} | {name} | {error:.5f} |")


def main() -> None:
    torch.set_num_threads(1)
    network = read_network(FOLDER)
    grader = Grader(network)
    examples = []
    for example in heldout()[:: int(sys.argv[1]) if len(sys.argv) > 1 else 1]:
        answer = [*grader.tokenizer.encode_text(example.answer), grader.tokenizer.eos_id]
        examples.append((grader.prompt(example), answer))
    targets = [torch.tensor(answer)[:, None] for _prompt, answer in examples]
    networks = (("float32", network), ("INT4", own(4)))
    for title, each in networks:
        asked = partial(log_probabilities, each, examples)
        table(f"nano in {title}, {len(examples)} questions", each, asked, targets)
    ids = [token for prompt, answer in examples for token in (*prompt, *answer)][: network.config.max_length]
    after = [torch.tensor(ids[1:])[:, None]]
    for title, each in networks:
        table(f"nano in {title}, {len(ids)} tokens in a row", each, partial(strung, each, ids), after)
    print("\n| keys | held as | error of attention |\n|---|---|---|")
    for length in (64, 2000, 8000):
        attention(length)


if __name__ == "__main__":
    main()
