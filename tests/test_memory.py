"""What the system is told about memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys, torch
from glmtui import memory
from glmtui.engine.local import free_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _product in range(20):
        [torch.ones(2 << 20) for _tensor in range(5)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
torch.set_num_threads(1)
memory.keep_what_products_take()
faults()
kept = faults()
free_memory()
print(kept, faults())
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc")
def test_what_products_take_is_kept_until_it_is_given_back() -> None:
    found = subprocess.run([sys.executable, "-c", COUNT], check=True, capture_output=True, text=True)
    kept, after = map(int, found.stdout.split())
    assert kept < 100, "pages of 4 KB; else 20 products take 100,000 and more"
    assert after >= 10_000, "once more, after what was kept was given back"
