"""What a server costs one answer, and what a long prompt costs a running one.

    python tests/benchmarks/serving.py [NAME [QUANT [PROMPT]]]

NAME is a known model, built with random weights (chatglm2-6b in INT4 takes about 4 GB); without it the
built-in one is measured, and PROMPT is 300 tokens then, else 1,400. Printed are ratios inside one run:
decoding through the server next to the engine itself (what `glmtui ask` does), by turns, in seconds and in
time of this process on all processors, to which other programs add little; the longest wait of a running
stream while the prompt arrives; and that prompt's time next to the same without a stream. The clients are
processes of their own.
"""

from __future__ import annotations

import itertools
import json
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import torch

from glmtui import host
from glmtui.engine import loader
from glmtui.engine.bench_batches import _Saying
from glmtui.engine.chat_model import ChatModel
from glmtui.engine.generate import Generation
from glmtui.engine.local import LocalEngine, Progress
from glmtui.protocol.engine import Engine
from glmtui.protocol.events import Done, Loaded, Tokens
from glmtui.protocol.models import LocalModel, ModelInfo, Quant
from glmtui.protocol.requests import Complete, Load
from glmtui.protocol.sampling import Sampling
from glmtui.server.options import Limits, ServerOptions
from glmtui.server.server import Server, ServerThread
from glmtui.server.service import Service

TOKENS = 32
"""Of each answer that is timed, ..."""
MANY_TOKENS = 300
"""... and of the built-in model's, where fewer take no longer than what a request costs by itself."""
REPEAT = 3
GREEDY = Sampling(max_length=2048, temperature=0.0)


def ask_engine(engine: Engine, prompt: str, tokens: int) -> float:
    """Return the seconds per token after the first."""
    times: list[tuple[float, int]] = []
    for event in engine.submit(Complete(prompt, replace(GREEDY, max_new_tokens=tokens))):
        if isinstance(event, Tokens) and event.count:
            times.append((time.perf_counter(), event.count))
        if isinstance(event, Done):
            return (times[-1][0] - times[0][0]) / sum(count for _time, count in times[1:])
    raise SystemExit("the engine did not answer")


def client(url: str, prompt: str, tokens: int) -> Iterator[dict[str, Any]]:
    """Start a client in a process of its own; yield what it prints: when something came."""
    body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True}
    body["stream_options"] = {"include_usage": True}
    program = [sys.executable, "-c", CLIENT, url, json.dumps(body)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)


CLIENT = """
import json, sys, time, httpx2
url, body = sys.argv[1], json.loads(sys.argv[2])
with httpx2.Client(trust_env=False, timeout=900) as client:
    began = time.monotonic()
    with client.stream("POST", url + "/v1/completions", json=body) as response:
        for line in response.iter_lines():
            if line.startswith("data: {"):
                event = json.loads(line[6:])
                if "error" in event:
                    sys.exit(event["error"]["message"])
                told = {"began": began, "at": time.monotonic(), "usage": event.get("usage")}
                print(json.dumps(told), flush=True)
"""


def ask_server(url: str, prompt: str, tokens: int) -> float:
    """Return the seconds per token after the first."""
    found = list(client(url, prompt, tokens))
    times = [each["at"] for each in found if not each["usage"]]
    return float((times[-1] - times[0]) / (found[-1]["usage"]["completion_tokens"] - 1))


def first_token(url: str, prompt: str) -> tuple[float, float]:
    """Return when a request began, and when its first token came."""
    found = list(client(url, prompt, 1))
    return found[0]["began"], found[0]["at"]


def words(count: int) -> str:
    """Return a text of about so many tokens that no cache can know."""
    return "".join(random.choices("山水花鸟风月云雨春夏秋冬天地人和", k=count))


def prompt_of(url: str, tokens: int) -> str:
    """Return a new prompt of that many tokens, as the server counts them."""
    text = words(tokens)
    count = httpx2.post(f"{url}/tokenize", json={"prompt": text}, trust_env=False).json()["count"]
    return text[: max(round(len(text) * tokens / count), 1)] if count > tokens else text


def measure_gap(url: str, tokens: int) -> tuple[float, float, float]:
    """Return the longest wait of a running stream, and the prompt's seconds next to it and alone."""
    began, came = first_token(url, prompt_of(url, tokens))
    alone = came - began
    times: list[float] = []
    prompt = prompt_of(url, tokens)
    running, ended = client(url, words(8), 100_000), threading.Event()

    def watch() -> None:
        for event in running:
            times.append(event["at"])
            if ended.is_set():
                break
        running.close()  # type: ignore[attr-defined]

    watcher = threading.Thread(target=watch)
    watcher.start()
    while len(times) < 8:
        time.sleep(0.01)
    began, came = first_token(url, prompt)
    ended.set()
    watcher.join()
    waits = [now - before for before, now in itertools.pairwise(times) if now > began and before < came]
    return max(waits), came - began, alone


class Endless(ChatModel):
    """Computes and chooses every token as ever, and then says a known one, until it may not go on."""

    @property
    def _stop_ids(self) -> tuple[int, ...]:
        return ()

    def _generation(self, *arguments: Any, **options: Any) -> Generation:
        found = super()._generation(*arguments, **options)
        found._sampler = _Saying(GREEDY, itertools.cycle(self.tokenizer.encode_text("山水花鸟风月云雨")))
        return found


class Model:
    """Makes a model of a known shape with random weights whose text is the built-in one's, or that one."""

    def __init__(self, name: str, quant: Quant) -> None:
        self._name, self._quant = name, quant

    def __call__(self, _spec: object) -> Any:
        return self._load

    def _load(self, progress: Progress) -> ChatModel:
        from glmtui.engine.random_model import random_network

        nano = loader.load(LocalModel(device="cpu"), progress)
        if not self._name:
            return Endless(nano.network, nano.folder, nano.info, nano.tokenizer)
        torch.set_num_threads(host.usable_cores())  # nano takes one
        network = random_network(self._name, self._quant, torch.float32)
        info = replace(nano.info, name=self._name, max_length=network.config.max_length, builtin=False)
        return Endless(network, nano.folder, info, nano.tokenizer)


def main() -> None:
    """Print the figures."""
    name, quant, tokens = (*sys.argv[1:], *("", "4", "0")[len(sys.argv) - 1 :])
    count = int(tokens) or (1400 if name else 300)
    engine = LocalEngine(Model(name, quant), slots=4)  # type: ignore[arg-type]
    info: ModelInfo | None = None
    for event in engine.submit(Load(LocalModel(device="cpu"))):
        if isinstance(event, Loaded):
            info = event.info
    assert info is not None
    loaded = info
    options = ServerOptions(port=0, limits=Limits(requests_per_minute=1_000_000))
    thread = ServerThread(Server(Service(engine, lambda: loaded, lambda: GREEDY), options))
    url = thread.server.url
    try:
        length = TOKENS if name else MANY_TOKENS
        ask_engine(engine, words(8), length)
        ratios, work, speeds = [], [], []
        for _ in range(REPEAT):
            prompts, cpu = [words(8), words(8)], [time.process_time()]
            direct = ask_engine(engine, prompts[0], length)
            cpu.append(time.process_time())
            served = ask_server(url, prompts[1], length)
            cpu.append(time.process_time())
            speeds.append(1 / served)
            ratios.append(served / direct)
            work.append((cpu[2] - cpu[1]) / (cpu[1] - cpu[0]))
        print(f"{info.name}: {statistics.median(speeds):.2f} tokens a second through the server")
        print(f"a token takes {statistics.median(ratios):.3f} times what it takes in the engine (goal: 1.03)")
        print(
            f"all of an answer takes {statistics.median(work):.3f} times the engine's time on the processors"
        )
        found = [measure_gap(url, count) for _ in range(1 if name else REPEAT)]
        gap, together, alone = (statistics.median(each) for each in zip(*found, strict=True))
        print(f"longest wait of a stream while {count} tokens arrive: {gap:.2f} s (goal: 1)")
        print(f"that prompt: {together:.2f} s, alone {alone:.2f} s: {together / alone:.2f} times (goal: 1.3)")
    finally:
        thread.stop()
        thread.join(10)
        engine.close()
        engine.join(10)


if __name__ == "__main__":
    main()
