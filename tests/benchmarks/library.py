"""Time the library: python tests/benchmarks/library.py [conversations] [kilobytes of each]."""

import random
import resource
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from statistics import median

from glmtui.chat.conversation import Conversation
from glmtui.chat.files import encode, file_stem
from glmtui.chat.library import Library

CHINESE = (
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经"
    "十三之进着等部度家电力里如水化高自二理起小物现实加量都两体制机当使点从业本去把性好应开它合还因由其些然前外天政四日那社义事平形"
    "相全表间样与关各重新线内数正心反你明看原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想已通并提直题党程展"
)
ENGLISH = (
    "the", "of", "and", "to", "in", "is", "you", "that", "it", "was", "for", "on", "as", "with", "model",
    "token", "memory", "device", "quantise", "weights", "cache", "layer", "attention", "answer", "question",
    "load", "error", "python", "thread", "kernel", "matrix", "prompt", "sample",
)  # fmt: skip
QUERIES = (
    "不会出现的词组",
    "量化",
    "模型 weights",
    "kernelmatrix",
    "注意",
    "zzzqqq",
    '"device quantise weights"',
)


def text(rng: random.Random, characters: int) -> str:
    lines = []
    while characters > 0:
        line = "".join(rng.choices(CHINESE, k=60)) + "，" + " ".join(rng.choices(ENGLISH, k=14))
        lines.append(line)
        characters -= len(line)
    return "\n".join(lines)


def fill(folder: Path, conversations: int, kilobytes: int) -> int:
    """Write conversation files of about so many kilobytes; return the bytes written."""
    rng = random.Random(0)
    folder.mkdir(parents=True)
    total = 0
    pieces = [
        text(rng, kilobytes * 1024 // 22) for _ in range(500)
    ]  # ten messages each, ~2.2 bytes/character
    for number in range(conversations):
        time_ = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(minutes=number * 7)
        conversation = Conversation()
        for turn in range(10):
            role = "assistant" if turn % 2 else "user"
            conversation.append(role, rng.choice(pieces), time=time_, meta={"model": f"m{number % 3}"})
        data = encode(conversation.records())
        (folder / f"{file_stem(time_, f'对话 {number}')}.jsonl").write_bytes(data)
        total += len(data)
    return total


def timed(label: str, run: object, repeat: int = 7) -> None:
    """Print the median and the best wall time, and the CPU time, which says more on a shared machine."""
    assert callable(run)
    wall: list[float] = []
    cpu: list[float] = []
    for _ in range(repeat):
        start, start_cpu = time.perf_counter(), time.process_time()
        result = run()
        wall.append((time.perf_counter() - start) * 1000)
        cpu.append((time.process_time() - start_cpu) * 1000)
    size = f"{len(result)} found" if isinstance(result, list) else ""
    print(f"{label:36} {median(wall):9.1f} ms  best {min(wall):9.1f} ms  {min(cpu):9.1f} ms CPU   {size}")


def main() -> None:
    conversations = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    kilobytes = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name) / "conversations", Path(name) / "cache"
        total = fill(folder, conversations, kilobytes)
        print(f"{conversations} conversations, {total / 1e6:.0f} MB")
        timed("list, no index yet (names only)", lambda: Library(folder, cache=cache).list(), 1)
        timed("build the index", lambda: Library(folder, cache=cache).refresh(), 1)
        timed("list, first of a process", lambda: Library(folder, cache=cache).list())
        library = Library(folder, cache=cache)
        timed("list, again", library.list)
        timed("refresh, nothing changed", library.refresh)
        changed = library.list()[0]
        library.open(changed.path).rename("新名字")
        timed("list after one file changed", library.list, 1)
        for query in QUERIES:
            timed(f"search {query}", lambda query=query: library.search(query))
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB, map included")


if __name__ == "__main__":
    main()
