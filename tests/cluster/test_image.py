"""
What can be said of image and cluster without building either.

`scripts/image check` builds twice and runs the result, `scripts/cluster test` installs it; both need
minutes, a network or root. Here stands what breaks silently between those runs: a Containerfile that
says something else than the builder, a lock that lacks a package, an archive that depends on the day.
"""

from __future__ import annotations

import gzip
import importlib
import io
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tarfile
import time
import tomllib
from pathlib import Path
from typing import IO, Any, Final, cast  # noqa: V104 (named in the text of a cast)

import pytest

from scripts import cluster, image
from scripts.gobuild import Problem
from syncer.ledger.codec import decode_record, encode_record
from syncer.model.errors import ContractError
from syncer.model.record import Kind, Record
from syncer.rules.fold import ROOT_CHAIN
from tests.cluster.recipe import Cluster

ROOT: Final = Path(__file__).resolve().parents[2]


def instructions() -> list[tuple[str, str]]:
    """The Containerfile's instructions of the last stage."""
    text = (ROOT / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if re.match(r"[A-Z]+ ", line)]
    out = [(word, " ".join(rest.split())) for word, rest in lines]
    last = max(n for n, (word, _) in enumerate(out) if word == "FROM")
    assert out[last] == ("FROM", "scratch")
    return out[last:]


def test_the_commands_of_the_image_are_those_of_the_project(tmp_path: Path) -> None:
    """Each command of the project is a program of the image, and calls what exists."""
    image.environment(tmp_path)
    folder = tmp_path / image.HOME / "bin"
    commands = {f.name: f.read_text() for f in folder.iterdir() if not f.is_symlink()}
    assert set(commands) == set(image.about()["scripts"])
    assert set(commands) >= {"notifier", "syncer"}
    for text in commands.values():
        called = re.search(r"^from (\S+) import (\w+)\n\nsys\.exit\(\2\(\)\)$", text, re.MULTILINE)
        assert called, text
        assert callable(getattr(importlib.import_module(called[1]), called[2]))


def pairs(text: str) -> dict[str, str]:
    """`A=1 B=2` as a mapping."""
    return dict(word.split("=", 1) for word in shlex.split(text))


def test_the_containerfile_and_the_builder_say_the_same() -> None:
    """User, command, environment, ports and labels are equal, whoever builds."""
    said = dict(instructions())
    config = image.config()
    assert said["USER"] == config["User"] == f"{image.UID}:{image.UID}"
    assert json.loads(said["ENTRYPOINT"]) == config["Entrypoint"]
    assert json.loads(said["CMD"]) == config["Cmd"]
    assert said["WORKDIR"] == config["WorkingDir"]
    assert pairs(said["ENV"]) == dict(word.split("=", 1) for word in config["Env"])
    assert {f"{port}/tcp" for port in said["EXPOSE"].split()} == set(config["ExposedPorts"])
    assert pairs(said["LABEL"]) == config["Labels"]


def test_the_containerfile_takes_the_uv_of_the_scripts() -> None:
    """Another uv could read the lock differently; both take the one file that names it with its hashes."""
    file = "scripts/uv-requirements.txt"
    assert re.match(r"uv==[0-9.]+ \\\n +--hash=sha256:", (ROOT / file).read_text())
    assert file in (ROOT / "scripts/lib.sh").read_text()
    assert f"COPY {file} " in (ROOT / "Containerfile").read_text()


def test_the_build_context_holds_what_the_build_reads() -> None:
    """Everything else is ignored, so that a checkout's virtual environment is not sent along."""
    lines = (ROOT / ".containerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines
    read = {"pyproject.toml", "uv.lock", "README.md", "LICENSE", "notifier", "syncer"}
    read.add("charts/notification-ledger/files/crd.yaml")
    own = {"scripts/image.py", "scripts/gobuild.py", "scripts/image-debian.json"}
    own.add("scripts/uv-requirements.txt")
    assert kept == read | own
    assert all((ROOT / name).exists() for name in kept)
    copies = re.findall(r"^COPY ([^-].*) \S+$", (ROOT / "Containerfile").read_text(), re.MULTILINE)
    assert {name for words in copies for name in words.split()} == kept
    text = (ROOT / "scripts/image.py").read_text()
    imported = re.findall(r"^from (scripts\.\w+) import", text, re.MULTILINE)
    assert {f"{name.replace('.', '/')}.py" for name in imported} <= kept
    # docker knows the file by another name.
    assert (ROOT / ".dockerignore").read_text() == (ROOT / ".containerignore").read_text()


def test_every_package_is_locked_by_a_hash() -> None:
    """Both images are made of locked packages, and nothing is locked that neither needs."""
    locked = json.loads(image.LOCK.read_text())
    assert locked["release"] == image.RELEASE
    assert set(locked["packages"]) == set(image.ARCHITECTURES)
    names = {*image.DEBIAN, *image.DEBIAN_REDIS}
    for architecture, packages in locked["packages"].items():
        assert set(packages) == names
        for package in image.locked_packages(sorted(names), architecture):
            assert re.fullmatch(r"[0-9a-f]{64}", package.sha256), package
            assert package.architecture in {architecture, "all"}, package
    with pytest.raises(Problem, match="does not hold bash"):
        image.locked_packages(["bash"])


def test_the_python_of_the_image_is_one_that_the_project_takes() -> None:
    """The markers in the lock are decided for the Python that is in the image."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert wanted.startswith(">=3.11,")
    for architecture in image.ARCHITECTURES:
        assert image.python_version(architecture).startswith("3.11.")


def tree(folder: Path, *, late: bool) -> Path:
    """A small tree, made in one of two orders, at one of two times, under one of two umasks."""
    before = os.umask(0o077 if late else 0o022)
    try:
        for name in sorted(("opt/x/b", "opt/x/a", "usr/bin/tool", "tmp/.keep"), reverse=late):
            image.write(folder / name, name, mode=0o755 if "bin" in name else 0o644)
        (folder / "bin").symlink_to("usr/bin")
    finally:
        os.umask(before)
    if late:
        os.utime(folder / "opt/x/a", (10**9, 10**9))
    image.settle(folder)
    if late:
        os.utime(folder / "opt/x/b", (10**9, 10**9))
    return folder


def test_an_archive_depends_on_the_content_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither order, time, umask nor owner of a tree shows in the image."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    early, late = tree(tmp_path / "early", late=False), tree(tmp_path / "late", late=True)
    digests = [
        image.archive_of(target, "localhost/x:1", {}, tmp_path / f"{target.name}.tar")
        for target in (early, late)
    ]
    assert digests[0] == digests[1]
    assert (tmp_path / "early.tar").read_bytes() == (tmp_path / "late.tar").read_bytes()
    names = ["opt", "opt/x", "opt/x/a", "tmp", "bin"]
    assert image.tar_of(late, names) == image.tar_of(late, names[::-1])
    (late / "opt/x/a").write_text("another")
    changed = image.archive_of(late, "localhost/x:1", {}, tmp_path / "late.tar")
    assert changed != digests[0]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86401")
    later = image.archive_of(early, "localhost/x:1", {}, tmp_path / "early.tar")
    assert later not in {changed, digests[0]}


def test_an_archive_is_what_the_image_format_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Index, manifest, config and layers refer to each other by digest and size; all belongs to root."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    target = tree(tmp_path / "tree", late=False)
    file = tmp_path / "image.tar"
    digest = image.archive_of(target, "localhost/x:1", image.config(), file)
    with tarfile.open(file) as archive:
        content = {m.name: cast("IO[bytes]", archive.extractfile(m)).read() for m in archive}

    def blob(descriptor: dict[str, Any]) -> bytes:
        found = content[descriptor["digest"].replace("sha256:", "blobs/sha256/")]
        assert len(found) == descriptor["size"]
        assert f"sha256:{image.sha256(found)}" == descriptor["digest"]
        return found

    (described,) = json.loads(content["index.json"])["manifests"]
    assert described["digest"] == digest
    (saved,) = json.loads(content["manifest.json"])
    assert saved["RepoTags"] == ["localhost/x:1"]
    assert {saved["Config"], *saved["Layers"]} < set(content)
    assert described["annotations"]["io.containerd.image.name"] == "localhost/x:1"
    manifest = json.loads(blob(described))
    config = json.loads(blob(manifest["config"]))
    assert config["created"] == "1970-01-01T00:00:00Z"
    assert config["config"]["User"] == "65532:65532"
    names = []
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        raw = gzip.decompress(blob(layer))
        assert f"sha256:{image.sha256(raw)}" == diff_id
        with tarfile.open(fileobj=io.BytesIO(raw)) as inner:
            for member in inner:
                assert (member.uid, member.gid, member.mtime) == (0, 0, 0), member.name
                names.append(member.name)
                if member.name == "tmp":
                    assert stat.S_IMODE(member.mode) == 0o1777
    assert sorted(names) == sorted({str(p.relative_to(target)) for p in target.rglob("*")})


def test_one_index_leads_to_the_image_of_each_architecture(tmp_path: Path) -> None:
    """Laid out twice it has one digest, and what it refers to is there, with its architecture."""
    target = tree(tmp_path / "tree", late=False)
    archives = []
    for name in image.ARCHITECTURES:
        archives.append(tmp_path / f"{name}.tar")
        image.archive_of(target, "localhost/x:1", {}, archives[-1], name)
    digest, again = (image.index(tmp_path / str(n), archives) for n in range(2))
    assert digest == again

    def blob(digest: str) -> dict[str, Any]:
        text = (tmp_path / "0" / image.path_of(digest)).read_bytes()
        assert f"sha256:{image.sha256(text)}" == digest
        return cast("dict[str, Any]", json.loads(text))

    (top,) = json.loads((tmp_path / "0" / "index.json").read_text())["manifests"]
    assert top["digest"] == digest
    found = []
    for described in blob(digest)["manifests"]:
        config = blob(blob(described["digest"])["config"]["digest"])
        assert described["platform"] == {"architecture": config["architecture"], "os": "linux"}
        found.append(config["architecture"])
    assert found == list(image.ARCHITECTURES)


def test_the_bill_of_materials_names_what_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every dependency of uv.lock and every Debian package, and the same text each time."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    packages = image.locked_packages(image.DEBIAN)
    text = image.bill_of_materials(packages)
    assert text == image.bill_of_materials(packages)
    document = json.loads(text)
    assert (document["bomFormat"], document["metadata"]["timestamp"]) == (
        "CycloneDX", "1970-01-02T00:00:00Z",
    )  # fmt: skip
    purls = {component["purl"] for component in document["components"]}
    lock = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    pinned = {p["name"]: p["version"] for p in lock}
    (project,) = [p for p in lock if p["name"] == image.NAME]
    for dependency in project["dependencies"]:
        name = dependency["name"]
        assert f"pkg:pypi/{name}@{pinned[name]}" in purls
    assert {package.purl for package in packages} <= purls


def test_the_next_version_can_still_be_made(tmp_path: Path) -> None:
    """The places that `--successor` changes are there; it writes 2, reads 1, and has its setting."""
    for name in ("syncer", "notifier"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name, old, new in image.SUCCESSOR:
        image.replace_once(tmp_path / name, old, new)
    record = Record(Kind.ORDER, "order:1", "console", {"at": 1})
    element = encode_record(record)
    code = (
        "import sys\n"
        "from syncer.ledger.codec import decode_record, encode_record, next_chain\n"
        "from syncer.rules.fold import ROOT_CHAIN\n"
        "from syncer.model.record import Kind, Record\n"
        "def appended(element):\n"
        "    at = element.index(b' ', element.index(b' order:1 console ') + 17) + 1\n"
        "    chain = next_chain(ROOT_CHAIN, element[:at]).encode()\n"
        "    return element[:at] + chain + b' ' + element[at:]\n"
        "old = bytes.fromhex(sys.argv[1])\n"
        "new = encode_record(Record(Kind.ORDER, 'order:1', 'console', {'at': 1}))\n"
        "assert old != new\n"
        "for element in (old, new):\n"
        "    print(decode_record(appended(element), ROOT_CHAIN, 1).body)\n"
        "print(appended(new).hex())\n"
        "from notifier.settings import DeliverySettings\n"
        "assert 'planted' in DeliverySettings.model_fields\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, element.hex()],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second, written = done.stdout.splitlines()
    assert first == second == "{'at': 1}"
    # And this tree refuses what that one writes, instead of guessing.
    with pytest.raises(ContractError, match="body version 2 is not known"):
        decode_record(bytes.fromhex(written), ROOT_CHAIN, 1)
    with pytest.raises(Problem, match="0 times instead of once"):
        image.replace_once(tmp_path / "syncer/model/record.py", "not in there", "")


# ------------------------------------------------------------------------------ the cluster


def test_a_cluster_writes_below_its_folder_and_keeps_its_tokens(tmp_path: Path) -> None:
    """Every path in a command line is the folder's or a program's; credentials are for root only."""
    programs = dict.fromkeys(
        ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "containerd",
         "kubelet", "kube-proxy", "coredns", "runc", "ctr"),
        Path("/programs"),
    )  # fmt: skip
    made = Cluster(tmp_path / "c", programs, Path("/plugins"))
    made.write()
    for program, argv in made.commands().items():
        assert argv[0] == f"/programs/{program}"
        for word in argv[1:]:
            path = word.partition("=")[2]
            assert not path.startswith("/") or path.startswith(str(made.folder)), word
    secret = [
        *made.folder.glob("*.kubeconfig"),
        made.folder / "token",
        *(made.folder / "pki").iterdir(),
    ]
    assert len(secret) > 6
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in secret)
    for file in made.folder.rglob("*.json"):
        json.loads(file.read_text())
    assert tomllib.loads((made.folder / "containerd.toml").read_text())["root"].startswith(
        str(made.folder)
    )


@pytest.mark.parametrize(
    ("words", "code"),
    [(["down"], 0), (["status"], cluster.NOT_RUNNING), (["run", "true"], 1), (["load", "x"], 1)],
    ids=["down", "status", "run", "load"],
)
def test_without_a_cluster_each_command_says_so(
    tmp_path: Path, words: list[str], code: int
) -> None:
    """`down` may always be run; the others fail with a sentence."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/cluster.py", words[0], "--dir", tmp_path / "none",
         *words[1:]],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "none") in done.stdout + done.stderr


def test_a_folder_with_something_else_in_it_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`up` refuses it before it starts anything; `down` does not touch it."""
    monkeypatch.setattr(cluster, "programs", dict)
    (tmp_path / "thesis").write_text("years of work")
    with pytest.raises(Problem, match="is not empty"):
        cluster.start(tmp_path, [])
    assert cluster.down(tmp_path) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["thesis"]


def test_a_stored_pid_is_believed_only_with_its_command_line(tmp_path: Path) -> None:
    """Pids are used again; a stranger under one of ours is neither entered nor killed."""
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "first.pid").write_text(str(stranger.pid))
        assert cluster.inside(tmp_path) == 0
        cluster.clear(tmp_path, "no-such-group")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
    ours = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)", "_first", str(tmp_path)]
    )
    try:
        (tmp_path / "first.pid").write_text(str(ours.pid))
        deadline = time.monotonic() + 20
        while not cluster.inside(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)  # for a moment after exec a process has no command line
        assert cluster.inside(tmp_path) == ours.pid
        other = tmp_path / "other"
        other.mkdir()
        (other / "first.pid").write_text(str(ours.pid))
        assert cluster.inside(other) == 0
    finally:
        ours.kill()
        ours.wait()
    assert cluster.inside(tmp_path) == 0
