"""The plugin as one file: what is in it, that any Python from 3.9 on can run it, and how it is packed."""

from __future__ import annotations

import ast
import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.unit.syncer.kubectl.stand_in import StandIn, on_path

ROOT: Final = Path(__file__).resolve().parents[4]
URL: Final = "https://forge.example/ledger/releases/download/v0.1.0"
#: Newer than 3.9, by name: members of the standard library, and parameters of what was there before.
NEWER: Final = {
    "UTC", "StrEnum", "ExceptionGroup", "BaseExceptionGroup", "TaskGroup", "pairwise", "batched",
    "tomllib", "override", "Self", "assert_never", "ParamSpec", "TypeAlias",
    "get_annotations", "aiter", "anext", "EncodingWarning", "bit_count", "root_dir",
}  # fmt: skip
NEWER_PARAMETERS: Final = {"strict", "slots", "kw_only", "process_group"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what was built."""
    folder = tmp_path_factory.mktemp("plugin")
    subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "scripts" / "plugin"), "build",
         "--output", str(folder), "--url", URL],
        check=True, timeout=60, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return folder


def sources(program: Path) -> dict[str, str]:
    """The modules of the program."""
    with zipfile.ZipFile(program) as archive:
        return {n: archive.read(n).decode() for n in archive.namelist() if n.endswith(".py")}


def imported(tree: ast.AST) -> set[str]:
    """Names of the modules that a module imports."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def newer(source: str) -> set[str]:
    """What a module uses that Python 3.9 does not have, as far as its text shows it."""
    tree = ast.parse(source, feature_version=(3, 9))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Match, ast.TryStar)):
            found.add(type(node).__name__)
        elif isinstance(node, ast.Attribute):
            found |= {node.attr} & NEWER
        elif isinstance(node, ast.Name):
            found |= {node.id} & NEWER
        elif isinstance(node, ast.alias):
            found |= {node.name.rpartition(".")[2]} & NEWER
        elif isinstance(node, ast.keyword):
            found |= {node.arg or ""} & NEWER_PARAMETERS
    if "\nfrom __future__ import annotations\n" not in source and "->" in source:
        found.add("annotations that are evaluated")
    return found


def test_it_is_of_the_standard_library_alone(built: Path) -> None:
    """No module of it imports anything else, not even of this project."""
    modules = sources(built / "kubectl-ledger")
    assert set(modules) == {
        "__main__.py", "syncer/__init__.py", "syncer/model/__init__.py", "syncer/model/carried.py",
        *(f"syncer/kubectl/{p.name}" for p in (ROOT / "syncer" / "kubectl").glob("*.py")),
    }  # fmt: skip
    for name, source in modules.items():
        for module in imported(ast.parse(source)):
            ours = module.startswith("syncer.kubectl.") or module == "syncer.model.carried"
            assert ours or module.partition(".")[0] in sys.stdlib_module_names, f"{name}: {module}"


def test_python_3_9_understands_it(built: Path) -> None:
    """Neither its syntax nor what it calls is newer; the check itself finds what is."""
    for name, source in sources(built / "kubectl-ledger").items():
        assert newer(source) == set(), name
    assert newer("zip(a, b, strict=True)") == {"strict"}
    assert newer("from datetime import UTC") == {"UTC"}
    assert newer("def f() -> int | None: ...") == {"annotations that are evaluated"}
    with pytest.raises(SyntaxError):
        newer("match x:\n    case 1: pass")


def test_it_runs_without_anything_installed(
    built: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A Python without site-packages, in which every warning is an error, runs it as kubectl does."""
    kubectl = on_path(monkeypatch, tmp_path / "bin")
    kubectl.runs("echo fine")

    def run(*words: str, program: Path = built / "kubectl-ledger") -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-I", "-S", str(program), *words], cwd=tmp_path,
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        assert done.stderr == ""
        return done.stdout

    assert run("doctor") == "fine\n"
    assert run("--version") == "kubectl-ledger 0.1.0\n"
    link = tmp_path / "kubectl_complete-ledger"
    link.symlink_to(built / "kubectl-ledger")
    assert run("expl", program=link) == "explain\n:4\n"


def test_it_is_a_program(built: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is run by its name, as kubectl runs a plugin."""
    kubectl: StandIn = on_path(monkeypatch, tmp_path / "bin")
    kubectl.runs("exit 3")
    done = subprocess.run([built / "kubectl-ledger", "explain", "a/b"], check=False, timeout=30)
    assert done.returncode == 3


def test_the_same_tree_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    """Whatever the time, the folder and the umask."""
    subprocess.run(
        ["sh", "-c", f"umask 077; {sys.executable} scripts/plugin build --output {tmp_path}"],
        cwd=ROOT, check=True, timeout=60, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"kubectl-ledger", "kubectl-ledger_v0.1.0.zip"}
    for name in names:
        assert (tmp_path / name).read_bytes() == (built / name).read_bytes()


def test_the_manifest_is_for_the_archive(built: Path) -> None:
    """Krew finds the program in the archive, by its digest, and the program may be executed."""
    manifest = yaml.safe_load((built / "ledger.yaml").read_text())
    assert manifest["kind"] == "Plugin"
    assert manifest["metadata"]["name"] == "ledger"
    spec = manifest["spec"]
    assert spec["version"] == "v0.1.0"
    assert spec["homepage"] == "https://forge.example/ledger"
    assert len(spec["shortDescription"]) <= 64
    (platform,) = spec["platforms"]
    name = platform["uri"].removeprefix(f"{URL}/")
    content = (built / name).read_bytes()
    assert platform["sha256"] == hashlib.sha256(content).hexdigest()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        modes = {i.filename: i.external_attr >> 16 & 0o777 for i in archive.infolist()}
        assert archive.read(platform["bin"]) == (built / "kubectl-ledger").read_bytes()
    assert modes == {"LICENSE": 0o644, "kubectl-ledger": 0o755}
    assert {f["from"] for f in platform["files"]} == set(modes)
