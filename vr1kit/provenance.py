"""Where a number came from: the code, the commit, the packages and the machine that made it.

Code is hashed module by module, without comments and docstrings, so that polishing prose costs nobody a training
run. Nothing recorded here names a user, a host or a folder of the machine: results get published.
"""

import ast
import functools
import hashlib
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from vr1kit import __version__
from vr1kit.files import RunError, file_hash, read_json

FORMAT = 1  # of manifests; raised when a version can no longer read what another wrote. Where none is written it is 1
PACKAGE = Path(__file__).resolve().parent
# Modules that draw, report or start things: they cannot change a number, so editing them makes no step stale.
NOT_IN_FINGERPRINT = frozenset({
    "__init__", "__main__", "style", "pictures", "figures", "tables", "page", "report", "publish", "terminal", "reproduce",
    "refresh", "subcommands", "evaluation_cli", "cli", "scoring", "gallery", "comparison", "evaluation_figures", "paper_tables", "rebuild",
})  # fmt: skip
RECORDED_PACKAGES = (
    "torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "safetensors",
    "numpy", "scipy", "pillow", "pycocotools", "matplotlib", "papermill", "vllm", "deepspeed", "bitsandbytes",
)  # fmt: skip


@functools.cache
def _read_module(content_hash: str, path: Path) -> tuple[str, frozenset[str]]:
    """(hash of the code without comments and docstrings, modules of this package that it imports)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        first = node.body[0] if isinstance(getattr(node, "body", None), list) and node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            del node.body[0]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16], imported_modules(tree)


def imported_modules(tree: ast.AST) -> frozenset[str]:
    """Names of the vr1kit modules that this code imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("vr1kit.")}
        elif isinstance(node, ast.ImportFrom):
            module = f"vr1kit.{node.module or ''}".rstrip(".") if node.level else node.module or ""
            if module == "vr1kit":
                names |= {alias.name for alias in node.names}
            elif module.startswith("vr1kit."):
                names.add(module.split(".")[1])
    return frozenset(names)


def notebook_modules(code: str) -> frozenset[str]:
    """The vr1kit modules that a notebook's code cells import; lines of IPython magic aside."""
    plain = "\n".join(line for line in code.split("\n") if not line.lstrip().startswith(("%", "!")))
    return imported_modules(ast.parse(plain))


def code_hashes(modules: Sequence[str] | None = None) -> dict[str, str]:
    """Hash per module: of all that can change a result, or of the named modules and whatever they import."""
    paths = {path.stem: path for path in sorted(PACKAGE.glob("*.py"))}
    read = {name: _read_module(file_hash(path), path) for name, path in paths.items()}
    if modules is None:
        wanted = set(read) - NOT_IN_FINGERPRINT
    else:
        wanted, queue = set(), [name for name in modules if name in read]
        while queue:
            name = queue.pop()
            if name not in wanted:
                wanted.add(name)
                queue += [imported for imported in read[name][1] if imported in read]
    return {name: read[name][0] for name in sorted(wanted)}


def describe_code() -> dict[str, Any]:
    """Commit of the checkout this package sits in, and whether tracked files differ from it."""
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit or None, "git_dirty": None if changes is None else bool(changes)}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        return None  # no git here: a release archive, or a wheel
    return done.stdout.strip() if done.returncode == 0 else None


def describe_machine() -> dict[str, Any]:
    """Versions and hardware; the thread count only if torch is loaded already."""
    torch = sys.modules.get("torch")
    return {
        "python": platform.python_version(),
        "packages": {name: version for name in RECORDED_PACKAGES if (version := _version(name))},
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu_model": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads() if torch else None,
        "gpu": torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def describe_command() -> str:
    """The command as a person would type it: `$VR1KIT_COMMAND` if the caller said, else the program and its words."""
    if said := os.environ.get("VR1KIT_COMMAND"):
        return said
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    if "ipykernel" in program:
        return "jupyter"
    return " ".join([program, *(Path(word).name if os.path.isabs(word) else word for word in sys.argv[1:])])


def peak_memory_mib() -> float:
    """Largest resident size this process has had; Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


@contextmanager
def set_environment(**values: str) -> Iterator[None]:
    """Variables for the processes started within; put back afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def read_record(path: Path) -> dict[str, Any]:
    """A manifest, or the record of an attempt. Raises RunError for one that another version of the kit wrote."""
    record = read_json(path)
    found = record.get("format", 1) if isinstance(record, dict) else None
    lacking = {"config", "inputs", "code", "code_of", "fingerprint"} - set(record if isinstance(record, dict) else ())
    if found != FORMAT or lacking:
        what = f"format {found}" if found != FORMAT else f"without {', '.join(sorted(lacking))}"
        by = record.get("vr1kit", "unknown") if isinstance(record, dict) else "unknown"
        raise RunError(
            f"{path} was written by another version of vr1kit ({by}, {what}; this is {__version__}, format {FORMAT}): "
            "use that version, or another run name"
        )
    return record
