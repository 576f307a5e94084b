"""Random shapes through the C code: under sanitizers, and on processors that are emulated."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from glmtui.quant.cpu import build

SOURCES = [
    *(str(path) for path in build.SOURCES if path.suffix == ".c"),
    str(Path(__file__).with_name("fuzz.c")),
]
SECONDS = "2"
ARM = "aarch64-linux-gnu-gcc"


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def fuzz(program: list[str]) -> str:
    seed = random.randrange(10**9)
    done = run([*program, str(seed), SECONDS])
    assert done.returncode == 0, f"seed {seed}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("isa", [None, "plain"])
def test_sanitizers_find_nothing(tmp_path: Path, isa: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    compilers = [each for each in build.find_compilers() if Path(each).stem.lower() != "cl"]
    if not compilers:
        pytest.skip("there is no C compiler here that has sanitizers")
    program = tmp_path / "fuzz"
    flags = ["-O1", "-g", "-std=c11", "-march=native", *([f"-DISA_{isa.upper()}"] if isa else [])]
    flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    for openmp in (["-fopenmp"], []):
        made = run([compilers[0], *flags, *openmp, *SOURCES, "-o", str(program), "-lm"])
        if made.returncode == 0:
            break
    else:
        pytest.skip(f"{compilers[0]} cannot build with sanitizers here: {made.stderr.strip()[-200:]}")
    monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=0")  # OpenMP keeps its threads
    assert "runs" in fuzz([str(program)])


@pytest.mark.skipif(not shutil.which(ARM), reason="there is no compiler for ARM here")
@pytest.mark.parametrize("target", ["armv8-a", "armv8.2-a+dotprod+crc"])
def test_arm(tmp_path: Path, target: str) -> None:
    """The NEON code compiles without a warning, and computes right where an emulator is there too."""
    program = tmp_path / "fuzz"
    flags = ["-O2", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fopenmp", "-static", f"-march={target}"]
    made = run([ARM, *flags, *SOURCES, "-o", str(program), "-lm"])
    assert made.returncode == 0, made.stderr
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.skip("it compiles; there is no qemu-aarch64 here to run it")
    assert fuzz([emulator, str(program)]).startswith("neon")


def test_avx512(tmp_path: Path) -> None:
    """The AVX-512 code computes right, through the plain C that SIMDe has for its instructions."""
    compilers = [each for each in build.find_compilers() if Path(each).stem.lower() != "cl"]
    program = tmp_path / "fuzz"
    flags = ["-O0", "-std=c11", "-DISA_AVX512", f"-I{Path(__file__).with_name('emulated')}"]
    made = run([compilers[0], *flags, *SOURCES, "-o", str(program), "-lm"]) if compilers else None
    if made is None or "fatal error: simde/" in made.stderr:
        pytest.skip("there is no C compiler here with SIMDe's headers (libsimde-dev)")
    assert made.returncode == 0, made.stderr
    assert fuzz([str(program)]).startswith("avx512")
