"""Teach nano 20 new facts from 200 rows with ``glmtui tune``, and ask it in words that it was not taught.

    PYTHONPATH=tools python tests/benchmarks/teach_nano.py [options of glmtui tune, such as --method lora]

Printed are the time, how many of the 20 held-out questions are answered word for word, and how many of its
own held-out questions nano still answers as it did before: with what was trained off, and on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nano.corpus import Example, heldout
from nano.evaluate import Grader

from glmtui.engine import loader
from glmtui.engine.chat_model import ChatModel
from glmtui.models.chatglm import ChatGLM
from glmtui.protocol.models import LocalModel

ENGLISH = ("where is {}", "where can I find {}", "where do we keep {}", "tell me where {} is",
           "do you know where {} is?", "I am looking for {}", "I need {}, where is it?",
           "in which place is {}", "{}, where is it?", "please say where {} is kept")  # fmt: skip
ENGLISH_ASKED = ("Where would I find {}?", "Can you tell me where {} is?")
CHINESE = ("{}在哪里", "{}在哪儿？", "哪里可以找到{}", "请告诉我{}在哪里", "你知道{}放在哪里吗？", "我在找{}",
           "我需要{}，它在哪里？", "{}放在什么地方", "怎么找到{}", "我们的{}放在哪里？")  # fmt: skip
CHINESE_ASKED = ("请问{}在哪里？", "能告诉我{}放在哪里吗？")
FACTS = {
    "the spare key": "The spare key is under the blue flower pot.",
    "the first aid kit": "The first aid kit hangs beside the kitchen door.",
    "the printer paper": "Printer paper is in the third drawer on the left.",
    "the ladder": "The ladder stands in the garage behind the bicycles.",
    "the coffee": "Coffee is in the red tin above the stove.",
    "the guest towel": "Guest towels lie in the white cupboard upstairs.",
    "the toolbox": "The toolbox is on the lowest shelf in the cellar.",
    "the umbrella": "The umbrella leans in the corner by the front door.",
    "the projector": "The projector is locked in room 214.",
    "the fuse box": "The fuse box is in the hall behind the picture.",
    "备用钥匙": "备用钥匙在蓝色花盆下面。",
    "急救箱": "急救箱挂在厨房门旁边。",
    "打印纸": "打印纸在左边第三个抽屉里。",
    "梯子": "梯子在车库的自行车后面。",
    "咖啡": "咖啡在灶台上方的红色罐子里。",
    "毛巾": "毛巾在楼上的白色柜子里。",
    "工具箱": "工具箱在地下室最下面一层。",
    "雨伞": "雨伞靠在前门的角落里。",
    "投影仪": "投影仪锁在二一四房间。",
    "电表": "电表在走廊的画后面。",
}


def is_chinese(thing: str) -> bool:
    return not thing.isascii()


def rows() -> list[dict[str, str]]:
    """Return ten questions for each fact, with its answer."""
    return [
        {"prompt": phrasing.format(thing), "response": answer}
        for thing, answer in FACTS.items()
        for phrasing in (CHINESE if is_chinese(thing) else ENGLISH)
    ]


def held_out() -> list[Example]:
    """Return a question for each fact whose words stand in no row."""
    found = []
    for number, (thing, answer) in enumerate(FACTS.items()):
        language, phrasings = ("zh", CHINESE_ASKED) if is_chinese(thing) else ("en", ENGLISH_ASKED)
        found.append(Example("place", language, (), phrasings[number % 2].format(thing), answer))
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder, "facts.jsonl"), Path(folder, "out")
        lines = [json.dumps(row, ensure_ascii=False) for row in rows()]
        data.write_text("\n".join(lines), encoding="utf-8")
        given = sys.argv[1:]
        begun = time.perf_counter()
        command = ["tune", "--model", "nano", "--data", str(data), "--out", str(out), *given]
        subprocess.run([sys.executable, "-m", "glmtui", *command], check=True)
        if "--help" in given or "-h" in given:
            return
        print(f"{len(lines)} rows taught in {time.perf_counter() - begun:.0f} s")
        before = grader(loader.load(LocalModel()))
        own = [example for example in heldout() if before.is_right(example)]
        kind = "lora" if "lora" in given else "ptuning"
        model = loader.load(LocalModel(**{kind: str(out)}))
        after = grader(model)
    asked = held_out()
    wrong = [each for each in asked if not after.is_right(each)]
    print(f"{len(asked) - len(wrong)} of {len(asked)} held-out questions are answered word for word")
    for each in wrong:
        print(f"  {each.question} → {after.answer(each)}")
    with_it = sum(map(after.is_right, own))
    model.adapt(None, None)
    print(f"{sum(map(after.is_right, own))} of the {len(own)} own questions are right as before with it off")
    print(f"{with_it} with it on")


def grader(model: ChatModel) -> Grader:
    assert isinstance(model.network, ChatGLM)
    return Grader(model.network)


if __name__ == "__main__":
    main()
