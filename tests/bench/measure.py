"""Running a program and measuring it: what it printed and when, its peak memory; how it may be run; the machine."""

import json
import os
import platform
import statistics
import subprocess
import threading
import time
import venv
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE.parent / "goldens" / "requirements.txt"
# f32 against f32; a bf16 forward pass differs from f32 by far more, and is reported only.
LOSS_TOLERANCE = 1e-3
PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes")


class Option(Enum):
    """How a program is run, beside its dtype: the part of a variant after an `@`."""

    AVX2 = "avx2"
    LARGE_BLOCKS = "large-blocks"

    def words(self) -> str:
        match self:
            case Option.AVX2:
                return "AVX2 only"
            case Option.LARGE_BLOCKS:
                return "large blocks kept"

    def environment(self) -> dict[str, str]:
        """Each program reads its own variables and ignores those of the others."""
        match self:
            case Option.AVX2:
                # Ours; then torch's own kernels, oneDNN (bf16 and convolutions) and MKL (f32).
                return {
                    "FIREBRAND_CPU": "avx2",
                    "ATEN_CPU_CAPABILITY": "avx2",
                    "ONEDNN_MAX_CPU_ISA": "AVX2",
                    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
                }
            case Option.LARGE_BLOCKS:
                blocks = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=68719476736:glibc.malloc.top_pad=67108864"
                return {"GLIBC_TUNABLES": blocks}


@dataclass(frozen=True)
class Variant:
    """A way to run one side: `bf16`, `f32@avx2`, `bf16@large-blocks`."""

    dtype: str
    options: tuple[Option, ...]

    @staticmethod
    def of(text: str) -> "Variant":
        dtype, *options = text.split("@")
        if dtype not in ("f32", "bf16"):
            raise SystemExit(f"variant {text!r}: expected f32 or bf16 before any @, found {dtype!r}")
        known = {option.value for option in Option}
        for option in options:
            if option not in known:
                raise SystemExit(f"variant {text!r}: expected {' or '.join(sorted(known))} after @, found {option!r}")
        return Variant(dtype, tuple(Option(option) for option in options))

    def words(self) -> str:
        return ", ".join([self.dtype, *(option.words() for option in self.options)])

    def environment(self) -> dict[str, str]:
        return {key: value for option in self.options for key, value in option.environment().items()}


def variants(text: str) -> list[Variant]:
    return [Variant.of(part) for part in text.split(",") if part]


@dataclass
class Finished:
    started: float  # as time.time() has it
    out: list[tuple[float, str]]  # lines of standard output, and when they came
    errors: list[tuple[float, str]]
    peak_gib: float  # resident memory of the process, the kernel's figure

    def text(self) -> str:
        return "".join(line for _, line in self.out)


def run(command: list[str], environment: dict[str, str] | None = None) -> Finished:
    def read(pipe: IO[str], lines: list[tuple[float, str]]) -> None:
        for line in pipe:
            lines.append((time.time(), line))

    started = time.time()
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | (environment or {})
    )
    out: list[tuple[float, str]] = []
    errors: list[tuple[float, str]] = []
    readers = [threading.Thread(target=read, args=pair) for pair in ((child.stdout, out), (child.stderr, errors))]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        said = "".join(line for _, line in errors)
        raise SystemExit(f"{' '.join(command)}\nended with {child.returncode}:\n{said[-3000:]}")
    return Finished(started, out, errors, usage.ru_maxrss / 2**20)


def interpreter(python: str | None, folder: Path | None) -> str:
    """`python`, or that of the virtual environment in `folder`, which is made and filled when it is not there."""
    if python:
        return python
    if not folder:
        raise SystemExit("give --venv DIR (made when it is not there) or --python PATH")
    inside = folder / "bin" / "python"
    if not inside.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([inside, "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS], check=True)
    return str(inside)


def program(given: Path | None) -> Path:
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target"))
    binary = given or target / "release" / "firebrand"
    if not binary.exists():
        raise SystemExit(f"{binary} is not there: cargo build --release, or --binary")
    return binary.resolve()


def machine() -> str:
    if not Path("/proc/cpuinfo").exists():
        return platform.platform()
    info = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line]
    fields = {key.strip(): value.strip() for key, value in info}
    has = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in fields.get("flags", "").split()]
    name, model = fields.get("model name", platform.machine()), fields.get("model", "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cpu = f"{name} (family {fields.get('cpu family', '?')}, model {model}; {' '.join(has)})"
    return f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB, {' '.join(platform.libc_ver())}"


def versions(python: str, binary: Path) -> str:
    """Of our program and of the reference's packages, those that are there."""
    ask = "import importlib.metadata as m, json, sys\nfound = {}\n"
    ask += "for name in sys.argv[1:]:\n    try: found[name] = m.version(name)\n    except m.PackageNotFoundError: pass\n"
    found = json.loads(run([python, "-c", ask + "print(json.dumps(found))", *PACKAGES]).text())
    ours = run([str(binary), "--version"]).text().strip()
    return ", ".join([ours, *(f"{name} {version}" for name, version in found.items())])


def span(values: list[float], digits: int) -> str:
    middle = f"{statistics.median(values):.{digits}f}"
    return f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"
