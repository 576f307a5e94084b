"""Trains nano: ``python -m nano.train``. See the package's docstring for how long and how well.

The network is `glmtui.models.chatglm.ChatGLM` itself, run over padded batches. Only answers count in the
loss. Most answers are cut short: which answer is meant shows in its first words, the rest is learnt by heart
soon, and what is hard is to hear the same intent in questions never read before.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 (its usual name)
from safetensors.torch import load_file, save_file
from sentencepiece import SentencePieceProcessor, set_random_generator_seed
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.attention import SDPBackend, sdpa_kernel

from glmtui import host
from glmtui.models.base import PrefixState
from glmtui.models.chat_formats.formats import Dialogue, Rounds
from glmtui.models.chatglm import ALPHA, Block, ChatGLM, ChatGLMConfig, rotary
from nano.corpus import Corpus, Example

FOLDER = Path(__file__).resolve().parents[2] / "glmtui" / "models" / "nano"
"""The model folder that the package ships."""
SEED = 7
OPENING_TOKENS = 8
"""Length of an answer cut short."""
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Sequence:
    """Token ids of a prompt, ``[gMASK] <sop>`` at its end, and of its answer."""

    prompt: list[int]
    answer: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


class Encoder:
    """Writes examples as token ids; segmentations vary and tokens get lost, so that none is relied upon."""

    def __init__(self, config: ChatGLMConfig) -> None:
        self.config = config
        self.pieces = SentencePieceProcessor(str(FOLDER / "ice_text.model"))
        self._answers: dict[str, list[int]] = {}

    def __call__(self, example: Example, rng: random.Random) -> Sequence:
        """Return the ids of `example`, roughened anew at every call."""
        text = Rounds.build_prompt(Dialogue.of(example.turns)).replace("\n", "<n>")
        sampled = rng.random() < 0.4
        prompt: list[int] = self.pieces.Encode(text, enable_sampling=sampled, alpha=0.3, nbest_size=-1)
        if rng.random() < 0.25:
            unknown = self.pieces.unk_id()
            prompt = [unknown if rng.random() < 0.06 else token for token in prompt]
        if example.answer not in self._answers:
            ids = self.pieces.Encode(example.answer.replace("\n", "<n>"))
            self._answers[example.answer] = [*ids, self.config.eos_token_id]
        answer = self._answers[example.answer]
        if rng.random() < 0.88:
            answer = answer[:OPENING_TOKENS]
        return Sequence([*prompt, self.config.gmask_token_id, self.config.bos_token_id], answer)


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded sequences: ids and targets ``[b, n]``, positions ``[b, 2, n]``, mask ``[b, 1, n, n]``."""

    ids: Tensor
    positions: Tensor
    mask: Tensor
    targets: Tensor
    tokens: int


def collate(sequences: list[Sequence], pad: int) -> Batch:
    """Pad `sequences` on the right, and lay out positions and mask as ChatGLM-6B has them."""
    n = max(map(len, sequences)) - 1  # the last token is only ever a target
    ids = torch.full((len(sequences), n), pad)
    targets = torch.full((len(sequences), n), IGNORED)
    for row, each in enumerate(sequences):
        whole = torch.tensor(each.prompt + each.answer)
        ids[row, : len(whole) - 1] = whole[:-1]
        targets[row, len(each.prompt) - 1 : len(whole) - 1] = whole[len(each.prompt) :]
    context = torch.tensor([len(each.prompt) - 1 for each in sequences])[:, None]  # all before <sop>
    index = torch.arange(n)
    positions = torch.stack(
        (torch.where(index < context, index, context - 1), (index - context + 1).clamp(min=0)), dim=1
    )
    visible = (index[None, None, :] < context[..., None]) | (index[None, :] <= index[:, None])
    return Batch(ids, positions, visible[:, None], targets, sum(map(len, sequences)))


def batches(seed: int, config: ChatGLMConfig, tokens: int) -> Iterator[Batch]:
    """Yield batches of about `tokens` tokens, of sequences about equally long."""
    examples, encode, rng = Corpus().stream(seed), Encoder(config), random.Random(seed)
    while True:
        pool = [encode(next(examples), rng) for _ in range(4096)]
        pool = sorted((each for each in pool if len(each) <= config.max_length), key=len)
        groups: list[list[Sequence]] = [[]]
        for each in pool:
            if (len(groups[-1]) + 1) * len(each) > tokens:
                groups.append([])
            groups[-1].append(each)
        rng.shuffle(groups)
        for group in groups:
            yield collate(group, config.pad_token_id)


def initialise(model: ChatGLM) -> None:
    """Start from weights that suit a residual of `ALPHA` times a LayerNorm's output."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and module is not model.lm_head:
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            nn.init.zeros_(module.bias)
    for block in model.transformer.layers:
        assert isinstance(block, Block)
        # What a layer adds must be heard next to ALPHA times the stream.
        block.attention.dense.weight.data *= ALPHA / 3
        block.mlp.dense_4h_to_h.weight.data *= ALPHA / 2
    nn.init.normal_(model.transformer.word_embeddings.weight, std=model.config.hidden_size**-0.5)


def loss_of(model: ChatGLM, batch: Batch, dropout: float = 0.0) -> Tensor:
    """Return the mean cross entropy over the answers' tokens."""
    x = F.dropout(model.transformer.word_embeddings(batch.ids), dropout)
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
    rotation, state = rotary(batch.positions, model.config.head_dim, dtype), PrefixState()
    for layer, block in enumerate(model.transformer.layers):
        x = F.dropout(block(x, rotation, batch.mask, state, layer), dropout)
    counted = batch.targets != IGNORED
    logits = model.lm_head(model.transformer.final_layernorm(x[counted]))
    return F.cross_entropy(logits.float(), batch.targets[counted])


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    steps: int
    learning_rate: float
    tokens: int
    processes: int
    seed: int
    dropout: float
    start: Path | None
    output: Path


def train(rank: int, options: Options, rendezvous: str) -> None:
    """Be one of the processes that train, each on batches of its own; the first reports and writes the file.

    One thread each: on a machine with other work, threads that share every product wait for each other.
    """
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)  # the same weights in all processes
    set_random_generator_seed(options.seed + rank)
    dist.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=options.processes)
    config = ChatGLMConfig.from_dict(json.loads((FOLDER / "config.json").read_text(encoding="utf-8")))
    model = ChatGLM(config)
    initialise(model)
    if options.start is not None:
        model.load_state_dict(load_file(options.start / "model.safetensors"), strict=False)
    average = copy.deepcopy(model)
    parameters = list(model.parameters())
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim == 2], "weight_decay": 0.05},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
        fused=True,
    )
    stream = batches(options.seed + rank, config, options.tokens)
    native = host.has_native_bfloat16()  # else emulated, and many times slower than float32
    start = shown = time.monotonic()
    examples, tokens, losses = 0, 0, []
    for step in range(1, options.steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * schedule(step, options.steps)
        batch = next(stream)
        with torch.autocast("cpu", torch.bfloat16, enabled=native), sdpa_kernel(SDPBackend.MATH):
            loss = loss_of(model, batch, options.dropout)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        share_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if rank:
            continue
        keep = min(0.99, step / (step + 10))
        with torch.no_grad():
            for averaged, weight in zip(average.parameters(), parameters, strict=True):
                averaged.lerp_(weight, 1 - keep)
        examples += len(batch.ids)
        tokens += batch.tokens * options.processes  # about
        losses.append(loss.item())
        if time.monotonic() - shown > 20 or step == options.steps:
            shown = time.monotonic()
            mean, speed = sum(losses) / len(losses), tokens / (shown - start)
            minutes = (shown - start) / 60
            print(f"step {step}  loss {mean:.4f}  {speed:,.0f} tokens/s  {minutes:.1f} min", flush=True)
            losses = []
    if not rank:
        write(average, options.output / "model.safetensors")
        seconds = time.monotonic() - start
        leg = {
            "steps": options.steps,
            "learning_rate": options.learning_rate,
            "tokens_per_batch": options.tokens,
            "processes": options.processes,
            "seed": options.seed,
            "examples": options.processes * examples,
            "tokens": tokens,
            "minutes": round(seconds / 60, 1),
            "tokens_per_second": round(tokens / seconds),
        }
        legs = [*(read_legs(options.start) if options.start else []), leg]
        record(options.output).write_text(json.dumps(legs, indent=2) + "\n", encoding="utf-8")
    dist.destroy_process_group()


def schedule(step: int, steps: int) -> float:
    """Return the share of the learning rate at `step`: a short rise, then half a cosine down."""
    return min(step / 100, 1) * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)


def share_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace every gradient by its mean over all processes."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, mean in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def write(model: ChatGLM, file: Path) -> None:
    """Write the weights in float16, LayerNorms in float32 as the published files have them."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name not in model.TIED:
            tensors[name] = tensor.to(torch.float32 if "layernorm" in name else torch.float16).contiguous()
    save_file(tensors, file, metadata={"format": "pt"})


def average_weights(folders: list[Path], output: Path) -> None:
    """Write the mean of the weights in `folders`, trained on from each other; the last tells how.

    It hears more questions right than any of them (Wortsman and others, "Model soups", 2022).
    """
    models = [load_file(folder / "model.safetensors") for folder in folders]
    tensors = {
        name: torch.stack([model[name].float() for model in models]).mean(0).to(tensor.dtype)
        for name, tensor in models[0].items()
    }
    output.mkdir(parents=True, exist_ok=True)
    save_file(tensors, output / "model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(record(folders[-1]), record(output))


def record(folder: Path) -> Path:
    """Return the file that says how the weights in `folder` were trained; for those shipped it is here."""
    return (Path(__file__).parent if folder.resolve() == FOLDER else folder) / "training.json"


def read_legs(folder: Path) -> list[dict[str, Any]]:
    """Return how the weights in `folder` were trained: one entry a run, each going on from the last."""
    legs: list[dict[str, Any]] = json.loads(record(folder).read_text(encoding="utf-8"))
    return legs


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--learning-rate", type=float, default=2.5e-3)
    parser.add_argument("--tokens", type=int, default=1024, help="tokens in a batch of each process")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--start", type=Path, help="folder of weights to go on from")
    parser.add_argument("--output", type=Path, default=FOLDER)
    parser.add_argument(
        "--average", type=Path, nargs="+", help="folders whose mean to write, in place of training"
    )
    arguments = vars(parser.parse_args())
    if folders := arguments.pop("average"):
        average_weights(folders, arguments["output"])
        return
    options = Options(**arguments)
    with tempfile.TemporaryDirectory() as folder:
        rendezvous = f"{folder}/rendezvous"
        spawn(train, (options, rendezvous), nprocs=options.processes)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
