"""Random shapes through the C code: under sanitizers, and on processors that are emulated."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from glmtui.quant.cpu import build

pytestmark = pytest.mark.slow

SOURCES = [
    *(str(path) for path in build.SOURCES if path.suffix == ".c"),
    str(Path(__file__).with_name("fuzz.c")),
]
SECONDS = "2"
ARM = "aarch64-linux-gnu-gcc"
MINGW = "x86_64-w64-mingw32-gcc"


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
    flags = ["-O0", "-g", "-std=c11", "-march=native", *([f"-DISA_{isa.upper()}"] if isa else [])]
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


@pytest.mark.parametrize("isa", ["avx512", "avxvnni"])
def test_vnni(tmp_path: Path, isa: str) -> None:
    """The code for VNNI computes right, through the plain C that SIMDe has for its instructions."""
    compilers = [each for each in build.find_compilers() if Path(each).stem.lower() != "cl"]
    program = tmp_path / "fuzz"
    flags = ["-O0", "-std=c11", f"-DISA_{isa.upper()}", f"-I{Path(__file__).with_name('emulated')}"]
    made = run([compilers[0], *flags, *SOURCES, "-o", str(program), "-lm"]) if compilers else None
    if made is None or "fatal error: simde/" in made.stderr:
        pytest.skip("there is no C compiler here with SIMDe's headers (libsimde-dev)")
    assert made.returncode == 0, made.stderr
    assert fuzz([str(program)]).startswith(isa)


@pytest.mark.skipif(not shutil.which("gcc"), reason="there is no GCC here")
def test_avxvnni_compiles(tmp_path: Path) -> None:
    """Also what an emulation leaves out: the instruction itself, as the compiler's own assembler wants it."""
    made = run(["gcc", "-mavxvnni", "-E", "-x", "c", "/dev/null", "-o", str(tmp_path / "nothing")])
    if made.returncode != 0:
        pytest.skip("this GCC knows no AVX-VNNI")
    flags = ["-O1", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fopenmp", "-fPIC", "-shared"]
    target = ["-mavx2", "-mfma", "-mf16c", "-mavxvnni"]
    made = run(["gcc", *flags, *target, *SOURCES[:-1], "-o", str(tmp_path / "kernels.so"), "-lm"])
    assert made.returncode == 0, made.stderr


@pytest.mark.skipif(not shutil.which(MINGW), reason="there is no MinGW here (gcc-mingw-w64)")
@pytest.mark.parametrize("isa", ["avx512", "avxvnni", "avx2", "plain"])
def test_windows(tmp_path: Path, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """MinGW makes a library of it, without moves that a stack aligned to 16 bytes breaks."""
    target = {
        "avx512": ["-mavx512f", "-mavx512bw", "-mavx512vnni"],
        "avxvnni": ["-mavx2", "-mfma", "-mf16c", "-mavxvnni"],
        "avx2": ["-mavx2", "-mfma", "-mf16c"],
        "plain": [],
    }[isa]
    flags = ["-O2", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fopenmp", "-shared", f"-DISA_{isa.upper()}"]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        target += build._move_flags(MINGW, target)
    made = run([MINGW, *flags, *target, *SOURCES[:-1], "-o", str(tmp_path / "kernels.dll")])
    assert made.returncode == 0, made.stderr
    code = run([MINGW.replace("gcc", "objdump"), "-d", str(tmp_path / "kernels.dll")]).stdout
    assert isa == "plain" or "vpadd" in code
    assert not re.search(r"vmov(ap|dqa).*\(.*[yz]mm|vmov(ap|dqa).*[yz]mm.*\(", code)
