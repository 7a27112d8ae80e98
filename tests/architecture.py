"""Which package may import which, and how large the code is.

``python tests/architecture.py`` prints lines of code by package, the lengths of functions, and the
imports that break the rules; ``test_architecture.py`` fails if there are any of these.
"""

import ast
import statistics
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

BASE = {"mianet.errors", "mianet.config", "mianet.addresses"}
"""Modules of mianet that everything may import; they import nothing but each other."""

_DATA = {"base", "mianet.data"}
_EXTRACTION = _DATA | {"mianet.extraction"}
_MODEL = _DATA | {"mianet", "mianet.inference"}  # training ends with a classifier
_REFERENCE = _MODEL | {"mianet.reference"}
_SPEC = _REFERENCE | {"tuning.spec"}
_EVENTS = _SPEC | {"tuning.events"}
_ANALYSIS = _SPEC | {"tuning.analysis"}
_COMPUTE = _SPEC | {"tuning.compute"}
_ENGINE = _COMPUTE | _EVENTS | _ANALYSIS | {"tuning.engine"}
_TRACKING = _EVENTS | _ANALYSIS | {"tuning.tracking"}
_BOTH = _ENGINE | _TRACKING
_CLI = _BOTH | _EXTRACTION | {"tuning.finals", "tuning.paper", "tuning.report", "tuning.cli"}

ALLOWED = {
    "base": {"base"},
    "mianet.data": _DATA,
    "mianet.extraction": _EXTRACTION,
    "mianet": _MODEL | _EXTRACTION,
    "mianet.inference": _MODEL,
    "mianet.reference": _REFERENCE,
    "tuning.spec": _SPEC,
    "tuning.events": _EVENTS,
    "tuning.analysis": _ANALYSIS,
    "tuning.compute": _COMPUTE,
    "tuning.engine": _ENGINE,
    "tuning.tracking": _TRACKING,
    "tuning.finals": _BOTH | {"tuning.finals"},
    "tuning.paper": _BOTH | {"tuning.paper"},
    "tuning.report": _BOTH | {"tuning.report"},
    "tuning.cli": _CLI,
    "tuning": _CLI,  # the commands
    "infra": _CLI,
}
"""Package → the packages that it may import; ``mianet`` and ``tuning`` are their own modules."""

ONLY_IN = {
    "mlflow": {"tuning.tracking"},
    "ray.tune": {"tuning.engine"},
    "ray": {
        *("tuning.compute", "tuning.engine", "tuning.finals", "tuning.paper", "tuning.cli"),
        "infra",
    },
    "optuna": {
        *("tuning.spec", "tuning.analysis", "tuning.compute", "tuning.engine", "tuning.tracking"),
        "tuning.report",
    },
}
"""Library → the packages that may import it."""


def undocumented():
    """Return the public functions of three or more parameters without a section on these.

    Methods that a library calls by its own interface, and functions whose docstring names the type
    that describes them, have none.
    """
    found = []
    for module, path in modules().items():
        for top in ast.parse(path.read_text()).body:
            if getattr(top, "name", "").startswith("_"):
                continue
            of = top.body if isinstance(top, ast.ClassDef) and not top.bases else [top]
            for function in of:
                if isinstance(function, ast.FunctionDef) and not function.name.startswith("_"):
                    given, text = function.args, ast.get_docstring(function) or ""
                    names = {a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
                    told = "Args:" in text or "; see ``" in text
                    if len(names - {"self", "cls"}) >= 3 and not told:
                        found.append(f"{module}.{function.name}")
    return found


def modules():
    """Return the name of each module → its file."""
    files = [p for top in ("mianet", "tuning", "infra") for p in (ROOT / top).rglob("*.py")]
    named = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in sorted(files)}
    return {name.removesuffix(".__init__"): path for name, path in named.items()}


def package_of(module):
    """Return the package of a module as ``ALLOWED`` names it."""
    if module in BASE:
        return "base"
    first, *rest = module.split(".")
    package = f"{first}.{rest[0]}" if rest else first
    return package if (ROOT / Path(*package.split("."))).is_dir() else first


def imports_of(path, known):
    """Yield the modules that a file imports anywhere, in functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} must import by the full name"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known or inner in ONLY_IN else node.module


def violations():
    """Return pairs of a module, and what it imports against the rules."""
    known = modules()
    found = set()
    for module, path in known.items():
        package = package_of(module)
        for imported in imports_of(path, known):
            top = imported.split(".")[0]
            if top in ("mianet", "tuning", "infra"):
                wrong = package_of(imported) not in ALLOWED[package]
            else:
                wrong = any(
                    package not in allowed
                    for library, allowed in ONLY_IN.items()
                    if f"{imported}.".startswith(f"{library}.")
                )
            if wrong:
                found.add((module, imported))
    return found


def lines_by_package():
    """Return package → lines of Python."""
    lines = Counter()
    for module, path in modules().items():
        lines[package_of(module)] += len(path.read_text(encoding="utf-8").splitlines())
    return lines


def function_lengths():
    """Return (lines, module, name) of each function, the longest first; docstrings count."""
    lengths = []
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lengths.append((node.end_lineno - node.lineno + 1, module, node.name))
    return sorted(lengths, reverse=True)


def main():
    """Print the figures."""
    lines = lines_by_package()
    for package in ALLOWED:
        print(f"{package:18}{lines[package]:7,}")
    print(f"{'in all':18}{lines.total():7,}")
    lengths = function_lengths()
    counts = [length for length, _, _ in lengths]
    percentile = statistics.quantiles(counts, n=10)[-1]
    print(
        f"\n{len(counts):,} functions: median {statistics.median(counts):g} lines, "
        f"90th percentile {percentile:g}, longest:"
    )
    for length, module, name in lengths[:5]:
        print(f"{length:5}  {module}.{name}")
    wrong = sorted(violations())
    print(f"\n{len(wrong)} imports against the rules")
    for module, imported in wrong:
        print(f"  {module} imports {imported}")


if __name__ == "__main__":
    main()
