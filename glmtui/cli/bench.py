"""``glmtui bench``: how fast a model runs here, and how near that is to what the machine can do."""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmtui import streams
from glmtui.cli import comparison
from glmtui.cli.options import add_model_options, load_settings, positive
from glmtui.errors import UsageError
from glmtui.i18n import _
from glmtui.protocol.models import RemoteModel
from glmtui.text.columns import table

if TYPE_CHECKING:
    from collections.abc import Callable

    from glmtui.models.base import LanguageModel
    from glmtui.protocol.models import LocalModel, Quant


def add_arguments(parser: ArgumentParser) -> None:
    parser.description = _(
        "Measure how fast a model reads prompts and writes answers, how much memory it takes, and how "
        "near decoding comes to the speed at which this machine reads memory, measured in the same run."
    )
    parser.add_argument(
        "--random-weights",
        metavar="NAME",
        nargs="?",
        const="",
        help=_("build this known model with random weights, without any file (default: what --model names)"),
    )
    parser.add_argument(
        "--prompt",
        metavar="N,N",
        type=partial(_numbers, least=4),
        default=(128, 512),
        help=_("lengths of the prompts in tokens (default: 128,512); tokens are timed behind the shortest"),
    )
    parser.add_argument(
        "--generate", metavar="N", type=positive, default=16, help=_("tokens to generate (default: 16)")
    )
    parser.add_argument(
        "--repeat", metavar="N", type=positive, default=3, help=_("runs, of which medians count (default: 3)")
    )
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=positive,
        help=_(
            "also hold a conversation of N rounds, each with a question of the shortest prompt's length, and "
            "time the first token of every answer"
        ),
    )
    parser.add_argument(
        "--context",
        metavar="N,N",
        type=partial(_numbers, least=4),
        default=(),
        help=_("also time tokens behind prompts of so many tokens, by turns"),
    )
    parser.add_argument(
        "--parallel",
        metavar="N,N",
        type=partial(_numbers, least=1),
        default=(),
        help=_("also make so many answers at once, each time next to one by itself"),
    )
    parser.add_argument(
        "--task",
        choices=("copy", "chat"),
        help=_(
            "also give an answer that rewrites a letter (copy), or one that repeats nothing (chat), with and "
            "without guesses from prompt and answer; what it says is given, so any weights will do"
        ),
    )
    parser.add_argument(
        "--compare", metavar="FILE", type=Path, help=_("show the figures of an earlier --json next to these")
    )
    parser.add_argument("--json", action="store_true", help=_("print JSON"))
    add_model_options(parser)


def run(args: Namespace) -> int:
    spec = load_settings(args).model_spec()
    status = streams.StatusLine(streams.errors())
    earlier = comparison.read(args.compare) if args.compare is not None else {}

    def step(text: str) -> None:
        status.step(_("Measuring … {step}").format(step=text))

    if isinstance(spec, RemoteModel):
        if args.random_weights is not None:
            raise UsageError(_("--random-weights runs on this machine: leave out the server's address"))
        if args.context or args.parallel or args.task:
            raise UsageError(_("--context, --parallel and --task run on this machine: leave out the address"))
        return _measure_server(spec, args, status, step, earlier)
    status.step(_("Starting …"))
    start = time.perf_counter()
    import torch

    from glmtui import host
    from glmtui.engine import bench, device

    imported = time.perf_counter()
    if args.random_weights is not None:
        from glmtui.engine.random_model import random_network

        name = args.random_weights or spec.source
        if not name:
            raise UsageError(_("--random-weights needs the name of a known model, such as chatglm-6b"))
        if spec.device not in ("auto", "cpu"):
            raise UsageError(_("--random-weights runs on the CPU only"))
        torch.set_num_threads(spec.threads or host.usable_cores())
        quant: Quant = spec.quant or "none"
        place = device.probe("cpu")
        dtype = torch.float32 if quant != "none" else device.default_dtype(place, 6 << 30)
        status.step(_("Making {name} with random weights …").format(name=name))
        network = random_network(name, quant, dtype, spec.cache)
        about: dict[str, Any] = {"quant": quant, "model": _("{name}, random weights").format(name=name)}
        about |= {"device": "cpu"}
    else:
        network, about = _load(spec, status)
    loaded = time.perf_counter()
    report = bench.measure(
        network,
        load_s=loaded - imported,
        prompts=args.prompt,
        generate=args.generate,
        repeat=args.repeat,
        step=step,
    )
    rounds = []
    if args.rounds is not None:
        rounds = bench.measure_rounds(
            network,
            args.rounds,
            question=min(args.prompt),
            answer=args.generate,
            repeat=args.repeat,
            step=step,
        )
    several = _measure_several(network, args, step)
    picture = bench.measure_pictures(network, args.repeat) if network.sees_images else None
    status.clear()
    result = {**report.as_dict(), "import_s": round(imported - start, 3), "threads": torch.get_num_threads()}
    result |= about
    if picture is not None:
        result["picture_s"] = round(picture, 3)
    if rounds:
        result["rounds"] = [each.as_dict() for each in rounds]
    result |= several
    if about["device"] == "cpu" and about["quant"] != "none":
        from glmtui.quant import cpu

        result["kernels"] = cpu.status().implementation
    if about["device"] == "cuda" and about["quant"] != "none":
        from glmtui.quant import cuda

        result["kernels"] = cuda.status(next(network.parameters()).device).implementation
    _print(result, args, earlier, lines(result))
    return 0


def _print(result: dict[str, Any], args: Namespace, earlier: dict[str, Any], shown: list[str]) -> None:
    compared = comparison.compare(earlier, result)
    output = streams.output()
    if args.json:
        output.json({**result, **({"compared": compared} if args.compare is not None else {})})
        return
    for line in [*shown, *(comparison.lines(compared) if args.compare is not None else ())]:
        output.line(line)


def _measure_several(network: LanguageModel, args: Namespace, step: Callable[[str], None]) -> dict[str, Any]:
    """Measure what was asked for besides, under its names in the JSON."""
    from glmtui.engine import bench_batches

    found: dict[str, Any] = {}
    runs = {"generate": args.generate, "repeat": args.repeat, "step": step}
    if args.context:
        contexts = bench_batches.measure_contexts(network, args.context, **runs)
        found["contexts"] = [each.as_dict() for each in contexts]
        if left_out := sorted({*args.context} - {each.tokens for each in contexts}):
            phrase = _("Prompts of {counts} tokens were left out: this model takes {most} tokens in all.")
            counts = ", ".join(map(str, left_out))
            streams.errors().line(phrase.format(counts=counts, most=network.config.max_length))
    if args.parallel:
        parallel = bench_batches.measure_parallel(network, args.parallel, prompt=min(args.prompt), **runs)
        found["parallel"] = [each.as_dict() for each in parallel]
    if args.task:
        guessing = bench_batches.measure_lookup(network, args.task, repeat=args.repeat, step=step)
        found["lookup"] = guessing.as_dict()
    return found


def _measure_server(
    spec: RemoteModel,
    args: Namespace,
    status: streams.StatusLine,
    step: Callable[[str], None],
    earlier: dict[str, Any],
) -> int:
    from glmtui.engine import remote_bench, remote_model

    status.step(_("Starting …"))
    model = remote_model.load(spec)
    found = remote_bench.measure(
        model, prompts=args.prompt, generate=args.generate, repeat=args.repeat, step=step
    )
    status.clear()
    result = {"model": model.info.name, "server": model.info.server, **found.as_dict()}
    rows = [(_("model"), f"{result['model']} · {result['server']}")]
    rows += [
        (
            _("prompt of {count}").format(count=run["tokens"]),
            _("first text after {seconds} s").format(seconds=f"{run['first_token_s']:.2f}"),
        )
        for run in result["prefill"]
    ]
    speed = result["decode"]["tokens_per_s"]
    decoding = _("unknown: answers come in one piece") if speed is None else f"{speed:.2f} tok/s"
    rows.append((_("decoding"), decoding))
    _print(result, args, earlier, table(rows))
    return 0


def lines(result: dict[str, Any]) -> list[str]:
    """Lay the result out for people."""
    decode = result["decode"]
    low, high = decode["tokens_per_s_quartiles"]
    rows = [
        (_("model"), f"{result['model']} · {result['quant']} · {result['device']}"),
        (_("threads"), " · ".join(map(str, filter(None, (result["threads"], result.get("kernels")))))),
        (_("load"), f"{result['load_s']:.2f} s"),
        *(
            (_("prompt of {count}").format(count=run["tokens"]), f"{run['tokens_per_s']:.1f} tok/s")
            for run in result["prefill"]
        ),
        (_("decoding"), f"{decode['tokens_per_s']:.2f} tok/s ({low:.2f} – {high:.2f})"),
        (
            _("weights read"),
            _("{size} GB a token, {speed} GB/s").format(
                size=f"{decode['bytes_per_token'] / 1e9:.2f}", speed=f"{decode['bytes_per_s'] / 1e9:.1f}"
            ),
        ),
        (
            _("memory speed"),
            _("{speed} GB/s; decoding reaches {share} %").format(
                speed=f"{result['bandwidth_bytes_per_s'] / 1e9:.1f}",
                share=f"{100 * result['bandwidth_share']:.0f}",
            ),
        ),
        (_("peak memory"), f"{result['peak_rss_bytes'] / 1e9:.2f} GB"),
    ]
    if "picture_s" in result:
        rows.append((_("a picture"), _("{seconds} s").format(seconds=f"{result['picture_s']:.2f}")))
    rows += [
        (
            _("round {number}").format(number=each["round"]),
            _("first token after {seconds} s: {read} of {prompt} tokens read").format(
                seconds=f"{each['first_token_s']:.2f}", read=each["read_tokens"], prompt=each["prompt_tokens"]
            ),
        )
        for each in result.get("rounds", ())
    ]
    rows += [
        (_("behind {count} tokens").format(count=each["tokens"]), f"{each['decode_tokens_per_s']:.2f} tok/s")
        for each in result.get("contexts", ())
    ]
    rows += [
        (
            _("{count} answers at once").format(count=each["streams"]),
            _("{speed} tok/s together, {factor} times one").format(
                speed=f"{each['tokens_per_s']:.2f}", factor=f"{each['speedup']:.2f}"
            ),
        )
        for each in result.get("parallel", ())
    ]
    if lookup := result.get("lookup"):
        rows.append(
            (
                _("guessing ({task})").format(task=lookup["task"]),
                _("{factor} times as fast, {count} tokens guessed right a pass").format(
                    factor=f"{lookup['speedup']:.2f}", count=f"{lookup['accepted_per_step']:.2f}"
                ),
            )
        )
    return [*table(rows), *_remarks(result)]


def _remarks(result: dict[str, Any]) -> list[str]:
    """Say what the rounds of a conversation show."""
    rounds = result.get("rounds", ())
    if len(rounds) < 2:
        return []
    if rounds[-1]["read_tokens"] < rounds[-1]["prompt_tokens"]:
        return [_("Keys and values of earlier rounds are kept: a question costs only its own tokens.")]
    remark = _(
        "ChatGLM-6B sees its context in both directions: every question changes the keys and values of all "
        "before it, so the whole conversation is read again and the wait grows with it."
    )
    return [remark]


def _load(spec: LocalModel, status: streams.StatusLine) -> tuple[LanguageModel, dict[str, Any]]:
    from glmtui.engine import loader

    def progress(stage: str, done: int, total: int) -> None:
        status.show(f"{stage} {100 * done // max(total, 1)} %")

    status.step(_("Loading {name} …").format(name=spec.source or "nano"))
    model = loader.load(spec, progress)
    info = model.info
    return model.network, {"quant": info.quant, "model": info.name, "device": info.device}


def _numbers(text: str, *, least: int) -> tuple[int, ...]:
    try:
        numbers: tuple[int, ...] = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < least:
        raise ArgumentTypeError(
            _("{text!r} is not a list of numbers from {least}, such as {example}").format(
                text=text, least=least, example="128,512" if least > 1 else "4,8"
            )
        )
    return numbers
