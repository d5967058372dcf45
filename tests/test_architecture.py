"""Who may import whom: the table of docs/architecture.md, enforced on the syntax trees of asr/ and local/."""
from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Iterator, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]

GROUND_FLOOR = {"types", "config", "files", "hypotheses", "source"}
EVERYTHING = {path.stem for path in (ROOT / "asr").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()} | {"asr"}

ALLOWED: dict[str, set[str]] = {
    "fsa": set(),
    "features": {"models"},
    "tokens": set(),
    "data": {"features", "tokens"},
    "lang": {"tokens", "fsa", "lm"},
    "lm": {"models"},
    "models": set(),
    "losses": {"models", "fsa"},
    "decode": {"models", "lang", "lm", "tokens", "fsa"},
    "score": set(),
    "train": {"data", "losses", "models", "lm"},
    "export": {"models"},
    "environment": set(),
    "experiment": EVERYTHING - {"cli", "recipe"},
    "recipe": {"data", "experiment"},
    "bench": {"data", "features", "models", "losses", "decode", "lang", "lm", "tokens", "fsa", "train", "experiment"},
    "cli": EVERYTHING,
}
"""Package or module of asr/ -> what of asr/ it may import, beside itself and the ground floor."""

FOREIGN = {"k2": {"fsa"}, "lhotse": {"data", "features"}}
"""Libraries that only these packages import. `environment` probes all libraries, by name, and is exempt."""


class Import(NamedTuple):
    path: Path
    line: int
    module: str  # absolute, as far as it names a module: "asr.models.transducer"

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: imports {self.module}"


def imports(path: Path, root: Path) -> Iterator[Import]:
    """Every import of a file, inside functions too, and importlib.import_module of a literal name."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    here = path.relative_to(root)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = ".".join(here.parts[: -node.level]) + "." if node.level else ""
            module = parent + (node.module or "")
            names = [f"{module.rstrip('.')}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__"):
            names = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        else:
            continue
        for name in names:
            yield Import(here, node.lineno, name)


def violations(root: Path) -> list[str]:
    """One line per forbidden import in root/asr and root/local, naming file, line and the rule."""
    found = []
    for path in sorted((root / "asr").rglob("*.py")):
        here = path.relative_to(root / "asr").parts[0].removesuffix(".py")
        for item in imports(path, root):
            top, *rest = item.module.split(".")
            if top in ("local", "egs", "tests", "utils"):
                found.append(f"{item}, but asr/ never imports {top}/")
            elif top in FOREIGN and here not in FOREIGN[top] | {"environment"}:
                found.append(f"{item}, which only {' and '.join(f'asr.{p}' for p in sorted(FOREIGN[top]))} may")
            elif top == "asr" and rest and not _may(here, rest[0]):
                found.append(f"{item}, but asr.{here} may import only {_names(here)}")
    for path in sorted((root / "local").rglob("*.py")):
        for item in imports(path, root):
            if item.module.split(".")[0] in {"egs", "tests", "local", *FOREIGN}:
                found.append(f"{item}, but local/ is thin over asr/ and imports neither this nor its neighbours")
    return found


def _may(importer: str, imported: str) -> bool:
    if importer == imported or imported not in EVERYTHING:  # a name of asr/__init__.py, such as __version__
        return True
    if importer in GROUND_FLOOR or importer in ("__init__", "__main__"):
        return imported in GROUND_FLOOR or importer == "__main__"
    return imported in GROUND_FLOOR or imported in ALLOWED.get(importer, set())


def _names(importer: str) -> str:
    return ", ".join(sorted(GROUND_FLOOR | (set() if importer in GROUND_FLOOR else ALLOWED.get(importer, set()))))


def test_imports_follow_the_table() -> None:
    found = violations(ROOT)
    assert not found, "\n" + "\n".join(found)


def test_every_package_is_in_the_table() -> None:
    missing = EVERYTHING - set(ALLOWED) - GROUND_FLOOR - {"asr", "__init__", "__main__"}
    assert not missing, f"add {sorted(missing)} to ALLOWED here and to the table in docs/architecture.md"


def test_the_document_has_the_same_table() -> None:
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|$", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), re.MULTILINE)
    documented = {name: set(re.findall(r"`(\w+)`", right)) for left, right in rows for name in re.findall(r"`(\w+)`", left)}
    for name, allowed in ALLOWED.items():
        assert name in documented, f"docs/architecture.md has no row for {name}"
        if name not in ("experiment", "cli"):
            assert documented[name] == allowed, f"docs/architecture.md and this test differ about {name}"


@pytest.mark.parametrize(
    ("file", "code", "complaint"),
    [
        ("asr/train/loop.py", "from asr.decode import greedy", "loop.py:1: imports asr.decode.greedy, but asr.train may import only"),
        ("asr/decode/beam.py", "import asr.train.loop", "asr.decode may import only"),
        ("asr/decode/beam.py", "def f():\n    from asr import train", "asr/decode/beam.py:2: imports asr.train"),
        ("asr/decode/scorers/lm.py", "from ...train import loop", "asr/decode/scorers/lm.py:1: imports asr.train.loop"),
        ("asr/models/encoder.py", "import k2", "imports k2, which only asr.fsa may"),
        ("asr/models/encoder.py", "import importlib\nimportlib.import_module('k2')", "asr/models/encoder.py:2: imports k2"),
        ("asr/losses/rnnt.py", "from lhotse import CutSet", "which only asr.data and asr.features may"),
        ("asr/files.py", "import asr.data", "asr.files may import only config, files, hypotheses, source, types"),
        ("asr/cli/train.py", "import local.train", "asr/ never imports local/"),
        ("local/train.py", "import egs.yesno.prepare", "local/train.py:1: imports egs.yesno.prepare"),
    ],
)
def test_a_forbidden_import_is_named_with_file_and_line(tmp_path: Path, file: str, code: str, complaint: str) -> None:
    (tmp_path / "local").mkdir()
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(code + "\n", encoding="utf-8")
    found = violations(tmp_path)
    assert len(found) == 1 and complaint in found[0], found


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("asr/train/loop.py", "from asr.types import Batch\nfrom asr.train.step import step\nfrom asr import losses\nimport torch"),
        ("asr/decode/beam.py", "from .search import Search\nfrom ..models import transducer"),
        ("asr/fsa.py", "import k2"),
        ("asr/data/cuts.py", "import lhotse"),
        ("asr/cli/decode.py", "import asr.decode, asr.train\nfrom asr import __version__"),
    ],
)
def test_an_allowed_import_passes(tmp_path: Path, file: str, code: str) -> None:
    (tmp_path / "local").mkdir()
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(code + "\n", encoding="utf-8")
    assert violations(tmp_path) == []
