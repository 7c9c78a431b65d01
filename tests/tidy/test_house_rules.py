"""House rules that a machine can check. Each says what to do instead."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES_MAX = 500
FUNCTION_LINES_MAX = 70

SOURCE = (".py", ".pyx", ".pyi", ".cc", ".h", ".cmake", ".sh")
TEXT = (*SOURCE, ".md", ".toml", ".yml", ".yaml", ".json", ".txt", "")
GENERIC = {"utils", "util", "helpers", "helper", "misc", "core", "manager", "managers"}
"""Names that say nothing; csrc/common alone may be called common, and holds what has no Python in it."""

FORBIDDEN_WORDS = {
    r"(?<![\w.-])/(?:work|root|home|Users)/\w": "no paths of one machine",
    r"\b(?:pypi|pythonhosted|proxy\.golang|registry\.npmjs|static\.crates)\.(?:org|io)\b": "no registry hosts",
    r"\bTODO\b|\bFIXME\b|\bXXX\b": "finish it, or leave it out",
}
# Beside what ruff refuses, such as YAML without a safe loader, and also where ruff is told to be lenient.
BANNED_CALLS = {
    "eval": "parse the text",
    "exec": "write the code",
    "pickle": "a documented format",
    "marshal": "a documented format",
    "time.time": "time.monotonic for spans; the store's own dates for ages",
    "datetime.utcnow": "datetime.now(UTC)",
    "numpy.load": "a documented format",
}
NOT_PLACES = {
    "time.time": ("tests", "bench", "akidb/telemetry", "akidb/storage", "akidb/cli/doctor.py"),  # compares clocks
    "numpy.load": ("tests", "bench"),
    "pickle": ("tests",),
}
"""Where a ban does not hold: logs and listings show wall-clock times, and decide nothing by them; tests see pickle
refused."""


def tracked(*suffixes: str) -> list[Path]:
    """Files that are, or with the next commit will be, in the repository; all of them without `suffixes`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    paths = [Path(name) for name in sorted(set(listing.split("\0"))) if name and (ROOT / name).is_file()]
    return [path for path in paths if not suffixes or path.suffix in suffixes]


if not (ROOT / ".git").exists():
    pytest.skip("not a checkout", allow_module_level=True)

PYTHON = tracked(".py")


def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def name_of(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def test_files_are_short() -> None:
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in tracked(*SOURCE)}
    long = {path: length for path, length in lengths.items() if length > LINES_MAX}
    assert long == {}, "split at a seam a reader would look for"


def test_functions_are_short() -> None:
    long = [
        f"{path}:{node.lineno} {node.name}: {length}"
        for path in PYTHON
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := node.end_lineno - node.body[0].lineno + 1) > FUNCTION_LINES_MAX  # type: ignore[operator]
    ]
    assert long == [], "one thought per function"


def test_names_say_something() -> None:
    generic = {str(path) for path in tracked(*SOURCE) for part in path.with_suffix("").parts if part.lower() in GENERIC}
    common = {str(path) for path in PYTHON if "common" in path.with_suffix("").parts}
    assert generic | common == set()


def test_every_package_says_what_it_is_for() -> None:
    silent = [str(path) for path in PYTHON if path.parts[0] == "akidb" and not ast.get_docstring(tree(path))]
    assert silent == []


def imports(path: Path) -> set[str]:
    """Whole names of what a file imports: `from a import b` is a.b."""
    nodes = list(ast.walk(tree(path)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {
        f"{node.module}.{alias.name}" for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
    }


def test_only_native_imports_the_binary() -> None:
    users = {str(path) for path in PYTHON if any(f"{name}.".startswith("akidb._core.") for name in imports(path))}
    assert users == {"akidb/_native.py"}, "import akidb._native; the linter of layers cannot see the binary"


@pytest.mark.parametrize("call", BANNED_CALLS)
def test_banned_calls_are_absent(call: str) -> None:
    paths = [path for path in PYTHON if not str(path).startswith(NOT_PLACES.get(call, ("\0",)))]
    found = [
        f"{path}:{node.lineno}"
        for path in paths
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and name_of(node.func).replace("np.", "numpy.") == call
    ]
    found += [str(path) for path in paths if any(f"{name}.".startswith(f"{call}.") for name in imports(path))]
    assert found == [], f"instead: {BANNED_CALLS[call]}"


@pytest.mark.parametrize("pattern", FORBIDDEN_WORDS)
def test_forbidden_words_are_absent(pattern: str) -> None:
    here = Path(__file__).relative_to(ROOT)
    found = [
        f"{path}:{number}: {line.strip()[:80]}"
        for path in tracked(*TEXT)
        if path != here
        for number, line in enumerate((ROOT / path).read_text(errors="replace").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert found == [], FORBIDDEN_WORDS[pattern]


def test_tests_mirror_what_they_test() -> None:
    """tests/unit/<package>/ holds test files for packages that exist."""
    orphans = [
        str(folder.relative_to(ROOT))
        for folder in sorted((ROOT / "tests" / "unit").iterdir())
        if folder.is_dir() and any(folder.glob("test_*.py")) and not (ROOT / "akidb" / folder.name).exists()
    ]
    assert orphans == []


def test_no_file_is_large() -> None:
    large = {str(path) for path in tracked() if (ROOT / path).stat().st_size > 1_000_000}
    assert large == {"sample/debian-packages.parquet"}
