"""Compile the kernels with the compiler that is there, once, and keep the result in the cache directory.

A library has a name made of everything that it depends on and of a digest of its content. It is tried in a
process of its own, appears complete (written elsewhere, brought to the disk, then renamed), and is only
loaded where nobody else could have written it and its content is what the name says: over one that was cut
short the system would end the process. What is not so is made anew.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from glmtui import host
from glmtui.atomic import sync_directory
from glmtui.paths import cache_dir, make_private
from glmtui.protocol.cancellation import INTERVAL, check_current
from glmtui.protocol.phrases import Phrase, _
from glmtui.quant.partial import partial_folder, remove_leftovers, sync_file
from glmtui.text.quoting import reason_of

FOLDER = Path(__file__).parent
SOURCES = (
    *(
        FOLDER / f"{name}.c"
        for name in [
            *("gemv", "cached", "halves"),  # they take longest to compile
            *("kernels", "gemm", "elementwise", "layers", "attention", "packing", "gradient", "checksum"),
        ]
    ),
    *(FOLDER / f"{name}.h" for name in ["product", "elementwise", "cached", "exponential", "layout", "simd"]),
)
COMPILERS = ("cc", "gcc", "clang", "cl")
TIMEOUT = 300
"""Seconds that a compiler may take."""
WATCHED = FOLDER / "watched.py"
TRIAL = FOLDER / "trial.py"
FULL = (errno.ENOSPC, errno.EDQUOT) if hasattr(errno, "EDQUOT") else (errno.ENOSPC,)
"""How the system says that a disk has no room."""
TRIAL_TIMEOUT = 60
"""Seconds that the first run may take, on a machine that has everything else to do."""


class CrashError(subprocess.SubprocessError):
    """The kernels that a compiler made end the process that runs them."""


class BuildError(Exception):
    """The kernels could not be compiled; the phrase says why and what to install."""

    def __init__(self, phrase: Phrase) -> None:
        super().__init__(phrase)
        self.phrase = phrase


@dataclass(frozen=True)
class Build:
    """A library file, and how it came to be."""

    path: Path
    compiler: str
    temporary: bool = False
    """The cache directory cannot be written: the file lies in a temporary folder of its own."""


def find_compilers() -> list[str]:
    """Return the C compilers on this machine, the user's choice (``CC``) first."""
    names = [os.environ["CC"]] if os.environ.get("CC") else list(COMPILERS)
    return [path for path in map(shutil.which, names) if path]


def build_kernels(isa: str | None = None) -> Build:
    """Return the kernels for this machine, compiling them if need be.

    Args:
        isa: ``avx512``, ``avxvnni``, ``avx2``, ``neon`` or ``plain``; None takes the best that this
            machine has.

    Raises:
        BuildError: there is no compiler, none of them could do it, or no disk has room for it.
    """
    compilers = find_compilers()
    if not compilers:
        raise BuildError(_("no C compiler was found. {advice}").format(advice=install_advice()))
    problem: Phrase | str = ""
    for compiler in compilers:
        for flags in _flag_sets(compiler, isa):
            try:
                return _build_with(compiler, flags)
            except (OSError, subprocess.SubprocessError) as error:  # noqa: PERF203 (a compiler run each)
                problem = _describe(error)
    raise BuildError(
        _("{compiler} could not compile the kernels: {problem}. {advice}").format(
            compiler=compilers[-1], problem=problem, advice=install_advice()
        )
    )


def install_advice() -> Phrase:
    """Say how to get a compiler on this system."""
    if sys.platform == "darwin":
        return _("Install one with: xcode-select --install")
    if sys.platform == "win32":
        return _("Install MinGW-w64 or LLVM and put it on PATH")
    return _("Install one, for example with: apt install gcc")


def _build_with(compiler: str, flags: list[str]) -> Build:
    name = f"kernels-{_key(compiler, flags)}"
    try:
        folder = _own_folder(make_private(cache_dir() / "kernels"))
        if found := _find(folder, name):
            return Build(found, compiler)
        remove_leftovers(folder)
        with partial_folder(folder / name) as scratch:
            return Build(_keep(_make(compiler, flags, scratch, name), folder), compiler)
    except OSError as error:
        if error.errno is None and type(error) is OSError:
            raise
        problem = error
    try:
        scratch = Path(tempfile.mkdtemp(prefix="glmtui-"))
    except OSError as error:  # it names no reason
        raise _no_place(problem) from error
    try:
        return Build(_make(compiler, flags, scratch, name), compiler, temporary=True)
    except BaseException as error:
        shutil.rmtree(scratch, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in FULL:
            raise _no_place(problem) from error
        raise


def _no_place(problem: OSError) -> BuildError:
    """Say why the cache cannot keep the kernels; temporary files have no place either."""
    return BuildError(
        _(
            "the compiled kernels have no place: {folder}: {reason}, and there is none for temporary files. "
            "Make room there"
        ).format(folder=cache_dir(), reason=reason_of(problem))
    )


def _make(compiler: str, flags: list[str], scratch: Path, name: str) -> Path:
    """Compile the kernels in `scratch`, try them, and name them by their content."""
    made = scratch / f"{name}{_suffix()}"
    _compile(compiler, flags, made)
    _try(made)
    return made.rename(made.with_stem(f"{name}-{_digest(made)}"))


def _keep(made: Path, folder: Path) -> Path:
    """Move `made` to `folder`, durably."""
    sync_file(made)
    target = folder / made.name
    try:
        made.replace(target)
    except PermissionError:  # Windows: another process has just built and loaded the same file
        if not target.exists():
            raise
    sync_directory(folder)
    return target


def _find(folder: Path, name: str) -> Path | None:
    """Return the library of that name that may be loaded; what may not be is removed."""
    for path in folder.glob(f"{name}-*{_suffix()}"):
        info = path.lstat()
        if stat.S_ISDIR(info.st_mode):
            shutil.rmtree(path)
            continue
        is_file = stat.S_ISREG(info.st_mode)  # reading a pipe would wait for ever
        if is_file and _is_ours(info) and path.stem == f"{name}-{_digest(path)}":
            return path
        path.unlink()
    return None


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:24]


def _try(library: Path) -> None:
    """Run the kernels in another process. Raises CrashError if that ends by them, or does not end."""
    if not sys.executable:
        return
    command = [sys.executable, "-I", "-S", str(TRIAL), str(library)]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=TRIAL_TIMEOUT
        )
    except subprocess.TimeoutExpired as error:
        raise CrashError("the first product does not end") from error
    crashed = done.returncode < 0 or done.returncode >= 0xC0000000  # a signal; Windows' exceptions
    if crashed:  # any other failure is of the process, not of the kernels: it may lack torch's libraries
        raise CrashError(f"the first product crashes (code {done.returncode})")


def _compile(compiler: str, flags: list[str], target: Path) -> None:
    """Compile the sources, as many at once as there are processors, and link them."""
    sources = [source for source in SOURCES if source.suffix == ".c"]
    if _is_msvc(compiler):
        steps = [[[compiler, *flags, "/MP", *map(str, sources), f"/Fe:{target}"]]]
    else:
        objects = [target.with_name(f"{source.stem}.o") for source in sources]
        steps = [
            [
                [compiler, *flags, "-c", str(source), "-o", str(made)]
                for source, made in zip(sources, objects, strict=True)
            ],
            [[compiler, *flags, *map(str, objects), "-o", str(target), "-lm"]],
        ]
    try:
        for commands in steps:
            _run(commands, target.parent)
    except subprocess.CalledProcessError as error:
        for number in FULL:
            if os.strerror(number) in error.stderr:
                raise OSError(number, os.strerror(number), str(target.parent)) from error
        raise


def _run(commands: list[list[str]], folder: Path) -> None:
    """Run compilers in `folder`, where they also keep what they need meanwhile; they speak English.

    They are killed, with what they started, when one fails, if what this thread does is given up, and where
    this process ends, however it does.

    Raises:
        subprocess.SubprocessError: one failed, with what it said, or they took longer than `TIMEOUT`.
        OperationCancelled: it was given up.
    """
    waiting, running = list(enumerate(commands)), dict[subprocess.Popen[bytes], Path]()
    end = monotonic() + TIMEOUT
    with _pipe() as (alive, _held):  # the other end is closed when this process ends
        try:
            while waiting or running:
                while waiting and len(running) < host.usable_cores():
                    number, command = waiting.pop(0)
                    said = folder / f"compiler-{number}.txt"
                    running[_start(command, folder, alive, said)] = said
                with contextlib.suppress(subprocess.TimeoutExpired):
                    next(iter(running)).wait(INTERVAL)
                for process in [each for each in running if each.poll() is not None]:
                    output = running.pop(process).read_text(errors="replace")
                    if process.returncode:
                        raise subprocess.CalledProcessError(process.returncode, process.args, "", output)
                check_current()
                if monotonic() > end:
                    raise subprocess.TimeoutExpired(commands[0], TIMEOUT)
        finally:
            for process in running:
                _kill(process)


def _start(command: list[str], folder: Path, alive: int, said: Path) -> subprocess.Popen[bytes]:
    """Begin to run a compiler that ends when `alive` does, and writes to the file `said`."""
    if sys.executable and sys.platform != "win32":
        command = [sys.executable, "-I", "-S", str(WATCHED), *command]
    with said.open("wb") as output:
        return subprocess.Popen(
            command,
            stdin=alive,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "TMPDIR": str(folder), "LC_ALL": "C"},
            start_new_session=True,
        )


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:  # a compiler is several programs
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _flag_sets(compiler: str, isa: str | None) -> Iterator[list[str]]:
    """Yield the flags to try, best first: with OpenMP before without, for this processor before any."""
    if _is_msvc(compiler):
        arch = {"avx512": "/arch:AVX512", "plain": ""}.get(isa or "", "/arch:AVX2")
        common = ["/nologo", "/O2", "/std:c11", "/LD", *([arch] if arch else []), *_define(isa, "/D")]
        yield [*common, "/openmp:experimental"]  # plain /openmp knows no `simd`
        yield common
        return
    common = ["-O3", "-std=c11", "-shared", "-fvisibility=hidden", *_define(isa, "-D")]
    common += ["-fno-math-errno", "-fno-trapping-math"]
    common.append("-ffp-contract=off")  # else few tokens' sums and many's are rounded at different places
    if sys.platform != "win32":
        common.append("-fPIC")
    for openmp in (*_openmp_flags(), []):
        for target in _target_flags(isa):
            yield [*common, *target, *_move_flags(compiler, target), *openmp]


def _define(isa: str | None, option: str) -> list[str]:
    return [f"{option}ISA_{isa.upper()}"] if isa else []


def _target_flags(isa: str | None) -> list[list[str]]:
    if isa in ("avx2", "avxvnni"):  # also on a machine that has more, so that it can be tested there
        return [["-mavx2", "-mfma", "-mf16c", *(["-mavxvnni"] if isa == "avxvnni" else [])]]
    if platform.machine().lower() in ("arm64", "aarch64"):
        return [["-mcpu=native"], ["-march=armv8.2-a+dotprod"], []]
    return [["-march=native"], []]


def _move_flags(compiler: str, target: list[str]) -> list[str]:
    """Let GCC for Windows, which keeps vectors of 32 bytes on a stack aligned to 16, move them unaligned.

    GCC's bug 54412: such a program dies at the first spilled vector. Clang has not got it, nor the option.
    """
    is_hit = sys.platform == "win32" and target and "clang" not in Path(compiler).stem.lower()
    return ["-Wa,-muse-unaligned-vector-move"] if is_hit else []


def _openmp_flags() -> list[list[str]]:
    if platform.system() != "Darwin":
        return [["-fopenmp"]]
    # Apple's clang knows OpenMP but has no library for it. PyTorch brings one, and two in one process clash.
    folders = [_torch_libraries(), Path("/opt/homebrew/opt/libomp/lib"), Path("/usr/local/opt/libomp/lib")]
    return [
        ["-Xclang", "-fopenmp", f"-L{folder}", "-lomp", f"-Wl,-rpath,{folder}"]
        for folder in folders
        if (folder / "libomp.dylib").exists()
    ]


def _torch_libraries() -> Path:
    import torch

    return Path(torch.__file__).parent / "lib"


def _key(compiler: str, flags: list[str]) -> str:
    """Name everything that the file depends on."""
    binary = Path(compiler).resolve().stat()
    parts = [compiler, str(binary.st_size), str(binary.st_mtime_ns), *flags, *_processor()]
    digest = hashlib.sha256("\0".join(parts).encode())
    for source in SOURCES:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:24]


def _processor() -> list[str]:
    """Name the processor: a home directory may be shared by machines that differ."""
    found = [sys.platform, platform.machine(), platform.processor()]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return found
    told = ("model name", "flags", "Features", "CPU part")
    return found + sorted({line for line in lines if line.startswith(told)})


def _own_folder(folder: Path) -> Path:
    """Return `folder`, closed to others. Raises PermissionError if it is somebody else's."""
    if not _is_ours(folder.stat()):
        folder.chmod(0o700)  # which only its owner may
        if not _is_ours(folder.stat()):
            raise PermissionError(errno.EPERM, "the folder is another user's", str(folder))
    return folder


def _is_ours(info: os.stat_result) -> bool:
    """Whether nobody else could have written a file or folder."""
    return sys.platform == "win32" or (info.st_uid == os.getuid() and not info.st_mode & 0o022)


def _is_msvc(compiler: str) -> bool:
    return Path(compiler).stem.lower() == "cl"


def _suffix() -> str:
    return {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")


def _describe(error: Exception) -> Phrase | str:
    output = getattr(error, "stderr", None)
    lines = output.strip().splitlines() if isinstance(output, str) else []
    if isinstance(error, subprocess.CalledProcessError) and not lines:
        return _("it ended with code {code} without a word").format(code=error.returncode)
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else str(error))
