"""The protocol keeps its rules in every reachable state, and each of its steps is needed: without it one breaks."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("model.cc")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    assert compiler is not None, "a C++ compiler is needed, as for AkiDB itself"
    built = tmp_path_factory.mktemp("model") / "model"
    subprocess.run([compiler, "-std=c++20", "-O2", "-o", str(built), str(SOURCE)], check=True)
    return built


def _run(model: Path, variant: str, kind: str, first: int, second: int, mutant: str = "") -> tuple[int, str]:
    done = subprocess.run(
        [model, variant, kind, str(first), str(second), mutant], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, done.stdout.strip().partition(": ")[2]


@pytest.mark.parametrize(
    ("variant", "kind", "first", "second"),
    [
        ("s3", "plain", 1, 1),
        ("local", "plain", 2, 1),
        ("gc", "conditional", 1, 1),
        ("gc", "repeated", 1, 1),
        pytest.param("gc", "plain", 1, 1, marks=pytest.mark.slow),
        ("s3", "conditional", 2, 1),
        ("local", "conditional", 2, 1),
        ("s3", "repeated", 2, 1),
        ("local", "repeated", 2, 1),
        pytest.param("s3", "plain", 2, 1, marks=pytest.mark.slow),
    ],
)
def test_every_rule_holds_in_every_state(model: Path, variant: str, kind: str, first: int, second: int) -> None:
    assert _run(model, variant, kind, first, second) == (0, "every rule holds")


@pytest.mark.parametrize(
    ("variant", "kind", "mutant", "rule"),
    [
        ("s3", "plain", "no uuid compare", "no double commit"),
        ("s3", "plain", "412 is success", "nothing acknowledged is lost"),
        ("s3", "plain", "ack before put", "nothing acknowledged is lost"),
        ("s3", "plain", "next slot while unknown", "no gap"),
        ("s3", "plain", "pipelined slots", "no gap"),
        ("s3", "plain", "no answer means not written", "nothing was written means never"),
        ("s3", "plain", "unknown is refused", "nothing was written means never"),
        ("s3", "plain", "reader stops before the 404", "no stale strong read"),
        ("s3", "plain", "fold beyond applied", "fold is the log"),
        ("local", "plain", "fold without compare", "what may be gone is folded"),
        ("local", "plain", "reader trusts every 404", "no stale strong read"),
        ("local", "plain", "delete before raising garbage", "no stale strong read"),
        ("local", "plain", "gc without lock", "a folded slot was created again"),
        ("local", "plain", "put outlives its lock", "a folded slot was created again"),
        ("local", "plain", "no check of garbage before a put", "a folded slot was created again"),
        ("local", "plain", "again after gone while unknown", "no double commit"),
        ("gc", "plain", "no look at HEAD after a put", "nodes apply the log"),
        ("gc", "plain", "no look at HEAD after a refusal", "nodes apply the log"),
        ("gc", "plain", "no look at HEAD after a body", "nodes apply the log"),
        ("gc", "plain", "reader trusts every 404", "no stale strong read"),
        ("gc", "plain", "HEAD is fresh for ever", "nodes apply the log"),
        ("gc", "plain", "deleted as soon as HEAD says so", "nodes apply the log"),
        ("gc", "plain", "delete before raising garbage", "a folded slot was created again"),
        ("gc", "plain", "again where it may have won", "no double commit"),
        ("gc", "plain", "again after gone while unknown", "no double commit"),
        ("s3", "conditional", "no look at the condition", "a condition holds where its batch lands"),
        ("s3", "conditional", "checked once", "a condition holds where its batch lands"),
        ("s3", "conditional", "refused by what it knows", "no stale refusal"),
        ("s3", "repeated", "no look for the request", "no double commit"),
        ("s3", "repeated", "checked once", "no double commit"),
        ("local", "repeated", "the fold forgets requests", "no double commit"),
    ],
)
def test_without_one_of_its_steps_a_rule_breaks(model: Path, variant: str, kind: str, mutant: str, rule: str) -> None:
    assert _run(model, variant, kind, 1 if variant == "gc" else 2, 1, mutant) == (1, rule)


def test_an_unknown_mutant_would_be_the_protocol_itself(model: Path) -> None:
    """So a misspelt name above can't pass: it would find every rule kept."""
    assert _run(model, "s3", "plain", 1, 1, "no such mutant") == (0, "every rule holds")
