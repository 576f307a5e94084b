"""Model folders changed at random, and what becomes of them: they load, or one typed error says why not.

By hand, with as many as there is time for: ``python tests/model_mutations.py 100000``. A case is known by its
seed and number: ``--seed S --first N`` begins with it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from glm_support import PLAIN, make_model, make_tokenizer
from safetensors.torch import load_file, save_file
from tiny_model import write_tiny_model, write_tiny_model2

from glmtui.engine import loader, preflight
from glmtui.errors import UserError
from glmtui.failures import describe
from glmtui.hub import inventory
from glmtui.protocol.models import LocalModel

LIMIT = 20
"""Seconds after which a case is stopped; what counts as a hang is less."""
DEEP = 5000
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        -1,
        0,
        1,
        3,
        7,
        64,
        4096,
        2**31,
        2_000_000_000,
        10**12,
        2**63,
        2**64,
        10**400,
        -(10**30),
    ),
    *(0.0, 0.5, -1.5, 1e-300, 1e308, 256.0, float("nan"), float("inf"), float("-inf")),
    *(
        "",
        "x",
        "256",
        "chatglm",
        "glm4",
        "float99",
        "\ud800",
        "\x1b]52;c;UFdORUQ=\x07",
        "名" * 50_000,
        "../../x",
        "\0",
    ),
    *([], {}, [0], [[]], ["a", 1, None], {"a": {"b": []}}, [1] * 10_000, {"": ""}),
)
TEMPLATES = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{{ a * b }}{% endfor %}{% endfor %}",
    "{{ 'x' * 10**10 }}",
    "{{ 9 ** 9 ** 9 ** 9 }}",
    "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% set n = namespace(s='xy') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
    "{{ 'x'.center(10**10) }}{{ '%9999999999d' % 1 }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ raise_exception('\x1b[31m' ~ 'no' * 5000) }}",
    "{% for m in messages %}{{ m.no.such.thing }}{% endfor %}",
    "{{ " + "(" * 3000 + ")" * 3000 + " }}",
    "{% if",
    "{% include '/etc/passwd' %}",
)


class TooSlowError(BaseException):
    """A case took longer than `LIMIT`."""


# --- what is changed ---


def subjects(home: Path) -> list[Path]:
    """Write one good folder of every kind; a prefix's is called so."""
    first, second = write_tiny_model(home / "first"), write_tiny_model2(home / "second")
    shards = shutil.copytree(second, home / "shards")
    state = load_file(shards / "model.safetensors")
    (shards / "model.safetensors").unlink()
    names = sorted(state)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: state[name] for name in part}, shards / file)
        weight_map |= dict.fromkeys(part, file)
    (shards / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    legacy = shutil.copytree(first, home / "legacy")
    torch.save(
        load_file(legacy / "model.safetensors"),
        legacy / "pytorch_model.bin",
        _use_new_zipfile_serialization=False,
    )
    (legacy / "model.safetensors").unlink()
    glm = home / "glm4"
    make_model("glm4", glm)
    make_tokenizer(glm, PLAIN)
    prefix = home / "prefix"
    prefix.mkdir()
    config = json.loads((second / "config.json").read_text())
    (prefix / "config.json").write_text(json.dumps({**config, "pre_seq_len": 4}))
    table = torch.zeros(4, config["num_layers"] * 2 * config["multi_query_group_num"] * config["kv_channels"])
    torch.save({"transformer.prefix_encoder.embedding.weight": table}, prefix / "pytorch_model.bin")
    return [first, second, shards, legacy, glm, prefix]


def mutate(folder: Path, chance: random.Random) -> str:
    """Change one file of `folder`; return how."""
    whole = (file for file in folder.iterdir() if file.is_file() and not file.is_symlink())
    files = sorted(file for file in whole if file.stat().st_size < 1 << 26)
    if not files:
        return "nothing"
    kinds: list[Callable[[Path, random.Random], str | None]] = [change_bytes, change_place]
    readable = [file for file in files if file.suffix == ".json"]
    weights = [file for file in files if file.suffix in (".safetensors", ".bin")]
    templates = [file for file in files if file.suffix == ".jinja"]
    ways = [(kind, files) for kind in kinds]
    ways += [(change_json, readable)] * 6 + [(change_weights, weights)] * 2 + [(change_template, templates)]
    kind, chosen = chance.choice([way for way in ways if way[1]])
    file = chance.choice(chosen)
    return f"{file.name}: {kind(file, chance) or kind.__name__}"


def change_bytes(file: Path, chance: random.Random) -> str:
    content = bytearray(file.read_bytes())
    way = chance.choice(
        ("flip", "cut", "zero", "insert", "double", "empty", "noise", "append", "bom", "utf-16")
    )
    at = chance.randrange(len(content) + 1)
    if way == "flip":
        for _flip in range(chance.choice((1, 1, 8, 200)) if content else 0):
            content[chance.randrange(min(len(content), chance.choice((64, 4096, 1 << 30))))] ^= (
                1 << chance.randrange(8)
            )
    elif way == "cut":
        del content[at:]
    elif way == "zero":
        end = min(at + chance.randrange(1, 5000), len(content))
        content[at:end] = bytes(end - at)
    elif way == "insert":
        content[at:at] = chance.randbytes(chance.randrange(1, 100))
    elif way == "double":
        content += bytes(content)
    elif way == "empty":
        content.clear()
    elif way == "noise":
        content[:] = chance.randbytes(len(content))
    elif way == "append":
        content += chance.randbytes(50)
    elif way == "bom":
        content[:0] = b"\xef\xbb\xbf"
    else:
        content[:] = content.decode("latin-1").encode("utf-16")
    file.write_bytes(content)
    return way


def change_place(file: Path, chance: random.Random) -> str:
    """Put something that is no regular file in its place."""
    way = chance.choice(("gone", "folder", "pipe", "zero", "null", "itself", "dangling", "huge"))
    file.unlink()
    if way == "folder":
        file.mkdir()
    elif way == "pipe":
        os.mkfifo(file)
    elif way in ("zero", "null"):
        file.symlink_to(f"/dev/{way}")
    elif way in ("itself", "dangling"):
        file.symlink_to(file.name if way == "itself" else "nowhere")
    elif way == "huge":
        with file.open("wb") as stream:
            stream.truncate(1 << 36)  # takes no room on the disk
    return way


def change_json(file: Path, chance: random.Random) -> str:
    content = json.loads(file.read_text())
    way = chance.choice(("value", "value", "value", "value", "lose", "add", "whole", "deep", "digits"))
    value = chance.choice(VALUES)
    if way == "whole":
        content = value
    elif way in ("deep", "digits"):
        key = chance.choice(sorted(content) or ["x"])
        deep = "[" * DEEP + "]" * DEEP if way == "deep" else "1" * DEEP
        file.write_text(json.dumps({**content, key: "@"}).replace('"@"', deep))
        return f"{key}: {way}"
    else:
        holder = content
        while isinstance(holder, dict) and holder:
            key = chance.choice(sorted(holder))
            if not isinstance(holder[key], dict) or not holder[key] or chance.random() < 0.3:
                break
            holder = holder[key]
        if way == "lose" and holder:
            holder.pop(key)
        elif way == "add":
            key = chance.choice(
                ("num_labels", "rope_scaling", "rope_parameters", "quantization_bit", "pre_seq_len")
            )
            holder[key] = value
        else:
            holder[key] = value
        way = f"{way} {key} {value!r:.40}"
    file.write_bytes(json.dumps(content).encode("utf-8", "backslashreplace"))
    return way


def change_template(file: Path, chance: random.Random) -> str:
    template = chance.choice(TEMPLATES)
    file.write_text(template)
    return template[:40]


def change_weights(file: Path, chance: random.Random) -> str:
    """Write other tensors, or another table of contents, in the form of the file."""
    if file.suffix == ".safetensors" and chance.random() < 0.5:
        content = file.read_bytes()
        length = int.from_bytes(content[:8], "little")
        table = file.with_name("table.json")
        table.write_bytes(content[8 : 8 + length])
        way = change_json(table, chance)
        header = table.read_bytes()
        table.unlink()
        file.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
        return f"table {way}"
    packed = file.suffix == ".bin"
    state: dict[Any, Any] = torch.load(file, weights_only=True) if packed else load_file(file)
    name = chance.choice(sorted(state))
    tensor = state[name]
    odd: dict[str, Any] = {
        "int64": tensor.long(),
        "bool": tensor.bool(),
        "double": tensor.double(),
        "complex": tensor.to(torch.complex64),
        "nan": torch.full_like(tensor, float("nan")),
        "infinite": torch.full_like(tensor, float("inf")),
        "turned": tensor.flip(0).T.contiguous() if tensor.dim() == 2 else tensor[:-1].clone(),
        "scalar": torch.tensor(1.0),
        "empty": torch.empty(0),
        "half": tensor[: len(tensor) // 2].clone(),
        "float8": tensor.to(torch.float8_e4m3fn),
    }
    if packed:
        odd |= {
            "sparse": tensor.to_sparse(),
            "strided": torch.zeros(1).expand(1 << 20, 1 << 20),
            "spread": torch.zeros(1).expand(tensor.shape),
            "quantised": torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8),
            "text": "text",
            "table": {"weight": tensor},
            "parameter": torch.nn.Parameter(tensor.float()),
        }
    way = chance.choice((*odd, "lost", "renamed", "more"))
    if way == "lost":
        del state[name]
    elif way == "renamed":
        state[chance.choice(("module.", "base_model.model.", "x.")) + name] = state.pop(name)
    elif way == "more":
        state[chance.choice(("lora_A.weight", "prefix_encoder.embedding.weight", ""))] = torch.zeros(3)
    else:
        state[name] = odd[way]
    if packed:
        torch.save(chance.choice((state, state, state, list(state.values()), 7)), file)
    else:
        save_file(state, file)
    return f"{way} {name}"


# --- what becomes of it ---


def attempt(folder: Path, base: Path | None = None) -> str:
    """Do with a folder what a person does: look at it in the list, load it, ask it.

    Returns ``loaded``, or the error's code and what it says.
    """
    inventory.examine(folder)
    spec = LocalModel(
        str(base or folder), device="cpu", threads=1, ptuning=None if base is None else str(folder)
    )
    try:
        model = loader.load(spec, prepared=preflight.prepare(spec))
        model.chat("hi", [("hi", "you")], max_new_tokens=2, temperature=0.0)
    except UserError as error:
        said = str(error)
        assert "\n" not in said, said
        assert len(said) < 1500, said
        return f"{error.code}: {said}"
    return "loaded"


@contextmanager
def time_limit() -> Iterator[None]:
    def stop(*_signal: object) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Report:
    """What became of many."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self.slowest = (0.0, "")
        self.growth = 0.0
        """Megabytes on top of what the good folders took."""

    def __str__(self) -> str:
        total = sum(self.outcomes.values())
        lines = [f"{total} folders: {dict(self.outcomes)}, {len(self.unexpected)} unexpected"]
        lines.append(f"slowest {self.slowest[0]:.1f} s ({self.slowest[1]}), {self.growth:.0f} MB of growth")
        return "\n".join([*lines, *self.unexpected[:30]])


def peak() -> float:
    """Most memory that this process had, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(
    count: int, seed: int, home: Path, first: int = 0, tell: Callable[[str], None] = lambda _text: None
) -> Report:
    """Change and try `count` folders."""
    good = subjects(home / "good")
    for folder in good:
        base = good[1] if folder.name == "prefix" else None
        assert attempt(folder, base) == "loaded", folder
    report, before = Report(), peak()
    for number in range(first, first + count):
        chance = random.Random(f"{seed}/{number}")
        original = chance.choice(good)
        folder = shutil.copytree(original, home / "changed")
        how = f"{number} {original.name} "
        for _mutation in range(chance.choice((1, 1, 1, 2, 3))):
            try:
                how += f"| {mutate(folder, chance)} "
            except Exception:  # noqa: BLE001, PERF203
                how += "| not again "  # what was changed before cannot be read any more
        tell(how)
        started = time.perf_counter()
        try:
            with time_limit():
                outcome = attempt(folder, good[1] if original.name == "prefix" else None)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            code, phrase = describe(error) if not isinstance(error, AssertionError) else ("said", str(error))
            outcome = code
            if code not in (
                "failed",
                "out_of_memory",
            ):  # those the system and the memory give, with their names
                where = traceback.extract_tb(error.__traceback__)[-1]
                report.unexpected.append(
                    f"{how}: {type(error).__name__} {phrase!s:.200} [{where.filename}:{where.lineno}]"
                )
        took = time.perf_counter() - started
        report.outcomes[outcome.partition(":")[0]] += 1
        report.slowest = max(report.slowest, (took, how))
        report.growth = max(report.growth, peak() - before)
        shutil.rmtree(folder)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    args = parser.parse_args()
    os.environ["GLMTUI_HOME"] = tempfile.mkdtemp()
    last = Path(tempfile.gettempdir()) / "model_mutations.last"  # what ended the process, if anything did
    started, first, found = time.monotonic(), args.first, 0
    while first < args.first + args.count and time.monotonic() - started < args.seconds:
        home = Path(tempfile.mkdtemp())
        step = min(500, args.first + args.count - first)
        report = run(step, args.seed, home, first, lambda how: last.write_text(how))
        shutil.rmtree(home)
        print(f"{time.monotonic() - started:.0f} s, from {first}: {report}", flush=True)
        first, found = first + step, found + len(report.unexpected)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
