"""Models for the list of models, whatever is on this machine."""

from __future__ import annotations

from glmtui.protocol.events import ModelList
from glmtui.protocol.models import ModelEntry

GB = 1_000_000_000
ENTRIES = (
    ModelEntry(
        None,
        "nano",
        "builtin",
        "/glmtui/nano",
        parameters=5_300_000,
        format="FP16 safetensors",
        max_length=1024,
        file_bytes=10_500_000,
        needs=(("none", 310_000_000), ("8", 284_000_000), ("4", 282_000_000)),
        licence="Comes with glmtui, under its licence.",
    ),
    ModelEntry(
        "chatglm2-6b-int4",
        "chatglm2-6b-int4",
        "hub",
        "/cache/chatglm2-6b-int4/snapshots/1",
        "zai-org/chatglm2-6b-int4",
        6_243_584_000,
        "4",
        "INT4 bin",
        32768,
        3_923_712_365,
        needs=(("4", 3_700_000_000),),
        licence="Free for research.",
    ),
    ModelEntry(
        "/models/broken",
        "broken",
        "folder",
        "/models/broken",
        problem="/models/broken/config.json cannot be read.",
    ),
    ModelEntry(
        "chatglm-6b",
        "chatglm-6b",
        "absent",
        hub_id="zai-org/chatglm-6b",
        parameters=6_173_286_400,
        format="FP16",
        max_length=2048,
        file_bytes=13_415_890_944,
        licence="Free for research.",
        needs=(("none", 13_600_000_000), ("8", 7_400_000_000), ("4", 4_600_000_000)),
    ),
    ModelEntry(
        "chatglm3-6b-base",
        "chatglm3-6b-base",
        "absent",
        hub_id="zai-org/chatglm3-6b-base",
        parameters=6_243_584_000,
        format="FP16",
        max_length=32768,
        file_bytes=12_487_168_000,
        part_bytes=3 * GB,
        needs=(("none", 12_800_000_000), ("8", 6_600_000_000), ("4", 3_700_000_000)),
        chats=False,
    ),
)
MODELS = ModelList(ENTRIES, "cpu", "Processor", 8 * GB, 50 * GB, "/cache")
