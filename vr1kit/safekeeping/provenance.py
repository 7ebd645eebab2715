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
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from vr1kit.safekeeping.files import file_hash

PACKAGE = Path(__file__).resolve().parents[1]
# Modules that draw, report or start things: they cannot change a number, so editing them makes no step stale.
NOT_IN_FINGERPRINT = frozenset({
    "figures", "publish", "terminal", "reproduce", "refresh", "rerun", "cli", "scoring",
    "safekeeping.locks", "safekeeping.disks", "safekeeping.differences", "safekeeping.failures", "safekeeping.verify",
    *(f"reporting.{name}" for name in ("tables", "paper_tables", "page", "gallery", "comparison", "rebuild", "report")),
})  # fmt: skip
NOT_IN_FINGERPRINT_PACKAGES = ("drawing.", "commands.")
PLAIN = ("--no-ext-diff", "--no-textconv", "--no-color")  # whatever the user has set
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
    """Names of the vr1kit modules that this code may import, anywhere in it: `grpo`, `formats.coco`.

    `from vr1kit.a import b` gives both `a` and `a.b`, since the text does not tell a module from what lies in it.
    """
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name.removeprefix("vr1kit.") for name in names if name.startswith("vr1kit."))


def notebook_modules(code: str) -> frozenset[str]:
    """The vr1kit modules that a notebook's code cells import; lines of IPython magic aside."""
    plain = "\n".join(line for line in code.split("\n") if not line.lstrip().startswith(("%", "!")))
    return imported_modules(ast.parse(plain)) & set(module_paths())


def module_paths() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    return {module_name(path): path for path in sorted(PACKAGE.rglob("*.py")) if not path.name.startswith("__")}


def module_name(path: Path) -> str:
    """vr1kit/formats/coco.py -> 'formats.coco'"""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def code_hashes(modules: Sequence[str] | None = None) -> dict[str, str]:
    """Hash per module: of all that can change a result, or of the named modules and whatever they import."""
    read = {name: _read_module(file_hash(path), path) for name, path in module_paths().items()}
    if modules is None:
        wanted = {name for name in read if name not in NOT_IN_FINGERPRINT and not name.startswith(NOT_IN_FINGERPRINT_PACKAGES)}
    else:
        wanted, queue = set(), [name for name in modules if name in read]  # an old record may name one that is gone
        while queue:
            name = queue.pop()
            if name not in wanted:
                wanted.add(name)
                queue += [imported for imported in read[name][1] if imported in read]
    return {name: read[name][0] for name in sorted(wanted)}


def describe_code() -> dict[str, Any]:
    """Commit of the checkout this package sits in, and whether its files differ from it; `diff_code` says how."""
    commit = _git("rev-parse", "HEAD") if _is_checkout() else None
    if commit is None:
        return {"git_commit": None, "git_dirty": None}
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit, "git_dirty": bool(changes or _untracked())}


def _is_checkout() -> bool:
    """False for a wheel, also for one installed inside somebody else's repository."""
    top = _git("rev-parse", "--show-toplevel")
    return top is not None and Path(top).resolve() == PACKAGE.resolve().parent


def diff_code() -> str:
    """How the checkout differs from its commit, as `git apply` takes it, new files of the package included; "" if it does not.

    Notebooks are left out: their steps keep them as they were executed. Of binary files only the names are listed.
    """
    if not _is_checkout():
        return ""
    changed = _git("diff", *PLAIN, "HEAD", "--", ":(top)", ":(top,exclude)notebooks/*.ipynb") or ""
    added = [_git("diff", *PLAIN, "--no-index", "--", os.devnull, name, code=1) or "" for name in _untracked()]
    return "".join(part + "\n" for part in (changed, *added) if part)


def _untracked() -> list[str]:
    """New files of the package that git does not know yet; imports find them as well as the others."""
    return [name for name in (_git("ls-files", "--others", "--exclude-standard", "--", PACKAGE.name) or "").split("\n") if name]


def _git(*arguments: str, code: int = 0) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=PACKAGE.parent, capture_output=True, timeout=30, check=False)
    except FileNotFoundError:
        return None  # no git here: a release archive, or a wheel
    text = done.stdout.decode("utf-8", "replace")
    return text.rstrip("\n") if done.returncode == code else None


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
        "peak_gpu_memory_mib": torch.cuda.max_memory_allocated() / 2**20 if torch and torch.cuda.is_available() else None,
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
    program = "vr1kit" if program in ("cli.py", "__main__.py") else program
    return shlex.join([program, *(Path(word).name if os.path.isabs(word) else word for word in sys.argv[1:])])


def peak_memory_mib() -> float:
    """Largest resident size that this process, or one of its children that has ended, has had; Linux counts in KiB, macOS in bytes."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
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
