#!/usr/bin/env python3
"""
The container image, built without a container daemon.

    scripts/image build            dist/notification-ledger.oci.tar, and its bill of materials
    scripts/image build --architecture arm64
                                   the same for another architecture than this machine's
    scripts/image index DIR ARCHIVE...
                                   an OCI layout with one index over archives; prints its digest
    scripts/image build --successor
                                   a mock-up of the next version, to test upgrades against
    scripts/image redis            dist/redis.oci.tar: a Redis for tests of the embedded mode
    scripts/image check            build twice, compare, and run the result
    scripts/image lock             look up the newest Debian packages and pin them
    scripts/image root DIR         only the file tree; the Containerfile calls this

Design
------
The image contains only what the controller needs: a few Debian packages (Python, OpenSSL,
certificates, the C library), the wheels that `uv.lock` pins, and the project. No shell, no package
manager. Both lists are locked with hashes, `uv.lock` and `scripts/image-debian.json`, so the same
tree gives the same bytes:

- files are sorted, owned by 0:0 and dated 0; a layer is compressed without name or time;
- byte code is compiled here, by the interpreter of the image, with unchecked hashes instead of times
  (PEP 552), because a read-only root could never cache it;
- the only date is `created`: SOURCE_DATE_EPOCH, else the time of the last commit.

The compressed bytes also depend on the zlib of the Python that runs this; `check` compares builds on
one machine. The identity of the uncompressed layers (`diff_ids`) does not depend on it.

`root` makes the whole tree, so the Containerfile is a stage that runs it and a `FROM scratch` that
copies the result: the content is the same with either builder.

Debian packages are downloaded by apt-get, which needs a Debian of the locked release and no root. For
another architecture, apt uses a private state in which that architecture counts as the machine's. Nothing
of another architecture is run: its byte code is written by this machine's package of the same Python, and
is the same. There are three layers, from rarely to often changed: system, dependencies, project.

An archive can be read as an OCI layout and as the output of `docker save`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gzip
import hashlib
import io
import json
import lzma
import os
import platform
import re
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import uuid
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.gobuild import GO_ARCHITECTURES, Problem, cache, say  # noqa: E402 (needs the path above)

NAME = "notification-ledger"
CRD = "charts/notification-ledger/files/crd.yaml"
LOCK = ROOT / "scripts" / "image-debian.json"
RELEASE = "bookworm"


@dataclass(frozen=True)
class Architecture:
    """The values that differ between architectures."""

    name: str
    triplet: str
    loader: str

    @property
    def wheels(self) -> str:
        """Platform of the wheels, with the C library of the release."""
        return f"{self.triplet.partition('-')[0]}-manylinux_2_36"


ARCHITECTURES = {
    each.name: each
    for each in (
        Architecture("amd64", "x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
        Architecture("arm64", "aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
    )
}
NATIVE = ARCHITECTURES[GO_ARCHITECTURES.get(platform.machine(), "amd64")]

UID = 65532
HOME = "opt/notification-ledger"  # a virtual environment, as `python -m venv` would create it
SBOM = f"usr/share/sbom/{NAME}.cdx.json"
ENTRYPOINT = f"/{HOME}/bin/notifier"
PATH_IN_IMAGE = f"/{HOME}/bin:/usr/bin:/bin"

# Packages that the interpreter and the wheels need, found through their shared libraries.
DEBIAN = (
    "base-files", "ca-certificates", "gcc-12-base", "libbz2-1.0", "libc6", "libexpat1", "libffi8",
    "libgcc-s1", "liblzma5", "libpython3.11-minimal", "libpython3.11-stdlib", "libssl3",
    "libstdc++6", "libuuid1", "python3.11-minimal", "zlib1g",
)  # fmt: skip
DEBIAN_REDIS = (
    "base-files", "busybox-static", "gcc-12-base", "libatomic1", "libc6", "libcap2", "libgcc-s1",
    "libgcrypt20", "libgpg-error0", "libjemalloc2", "liblz4-1", "liblzf1", "liblzma5", "libssl3",
    "libstdc++6", "libsystemd0", "libzstd1", "redis-server", "redis-tools",
)  # fmt: skip
# Files that are left out: modules of the standard library whose libraries are missing or that only test
# Python, documentation, and folders that the image does not need.
LEFT_OUT = re.compile(
    r"usr/lib/python3\.11/lib-dynload/(_crypt|_curses|_curses_panel|_dbm|_sqlite3|nis|ossaudiodev"
    r"|readline|xxlimited|xxlimited_35|_xx\w+|_\w*test\w*)\.cpython-311-[^/]+\.so"
    r"|usr/share/(man|lintian|locale|info|bash-completion|zsh|python3|binfmts|applications|pixmaps"
    r"|base-files|dict|menu)(/.*)?|usr/share/doc/[^/]+/(?!copyright$).*"
    r"|(etc/(init\.d|logrotate\.d|default|skel|update-motd\.d|profile\.d|dpkg|issue|issue\.net)"
    r"|boot|media|mnt|srv|home|usr/games|usr/include|usr/src|usr/local|usr/lib/systemd"
    r"|usr/lib/[^/]+-linux-gnu/(gconv|audit|perl5)|usr/sbin)(/.*)?"
)
BUSYBOX = (
    "cat", "cp", "cut", "date", "echo", "env", "grep", "hostname", "id", "kill", "ls", "mkdir",
    "ps", "rm", "sed", "sh", "sha256sum", "sleep", "test", "timeout", "touch", "tr", "wc",
)  # fmt: skip

# The vendor's generated API, which `syncer/kube/transport.py` keeps from being imported.
UNUSED = ("kubernetes_asyncio/client/api", "kubernetes_asyncio/client/models")

# A mock-up of the next version, to test upgrade and rollback with: it writes version 2 of the record format
# and reads both versions, and it has one more setting, which `tests/cluster/run.py` sets.
# (file, text that must occur once, its replacement)
SUCCESSOR = (
    ("syncer/model/record.py", "BODY_VERSION: Final = 1", "BODY_VERSION: Final = 2"),
    (
        "syncer/model/record.py",
        "READABLE_VERSIONS: Final = frozenset({1})",
        "READABLE_VERSIONS: Final = frozenset({1, 2})",
    ),
    (
        "notifier/settings.py",
        '    log_outage: Literal["hold", "journal"] = Field(',
        (
            '    planted: int = Field(default=0, description="A setting of the next version.")\n'
            '    log_outage: Literal["hold", "journal"] = Field('
        ),
    ),
)

DEADLINE = 10 * 60  # seconds for any one command


# ---------------------------------------------------------------------------- Debian packages


@dataclass(frozen=True)
class Package:
    """A locked Debian package."""

    name: str
    version: str
    architecture: str
    sha256: str

    @property
    def purl(self) -> str:
        """Package URL."""
        name, number = (quote(text, safe="~") for text in (self.name, self.version))
        return f"pkg:deb/debian/{name}@{number}?arch={self.architecture}&distro={RELEASE}"


def locked_packages(names: Sequence[str], architecture: str = NATIVE.name) -> list[Package]:
    """Return some packages as locked."""
    locked = json.loads(LOCK.read_text())["packages"][architecture]
    known = {name: Package(name=name, **fields) for name, fields in locked.items()}
    missing = sorted(set(names) - set(known))
    if missing:
        msg = f"{LOCK.name} does not hold {', '.join(missing)}: run `scripts/image lock`"
        raise Problem(msg)
    return [known[name] for name in names]


@functools.cache
def apt(architecture: str) -> dict[str, str]:
    """Return an environment in which apt works for an architecture and leaves the machine's state alone."""
    if architecture == NATIVE.name:
        return dict(os.environ)
    folder = cache() / f"apt-{architecture}"
    for name in ("lists/partial", "archives/partial", "sources"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    mine = re.compile(rf"\s{RELEASE}(-updates|-security)?\s")
    for file in (Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").iterdir()):
        if file.is_file() and mine.search(text := file.read_text()):
            (folder / "sources" / file.name).write_text(text)
    options = {
        "APT::Architecture": architecture, "Dir::State": folder, "Dir::State::lists": folder / "lists",
        "Dir::State::status": "/dev/null", "Dir::Cache": folder, "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": folder / "sources",
    }  # fmt: skip
    lines = [f'{name} "{value}";\n' for name, value in options.items()]
    write(folder / "apt.conf", f'{"".join(lines)}APT::Architectures {{ "{architecture}"; }};\n')
    env = {**os.environ, "APT_CONFIG": str(folder / "apt.conf")}
    run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "update"], env=env)
    return env


def lock() -> int:
    """Pin the newest version of each package that the release's archives offer."""
    names = sorted({*DEBIAN, *DEBIAN_REDIS})
    packages: dict[str, dict[str, dict[str, str]]] = {}
    for architecture in ARCHITECTURES:
        command = ["apt-cache", "show", "--no-all-versions", *names]
        text = run(command, env=apt(architecture))
        found = packages[architecture] = {}
        for paragraph in re.split(r"\n\n+", text.strip()):
            fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", paragraph, re.MULTILINE))
            found[fields["Package"]] = {
                "version": fields["Version"],
                "architecture": fields["Architecture"],
                "sha256": fields["SHA256"],
            }
        if set(found) != set(names):
            msg = f"apt-cache knows nothing of {', '.join(sorted(set(names) - set(found)))}"
            raise Problem(msg)
    document = {"release": RELEASE, "packages": packages}
    LOCK.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    say(f"{len(names)} packages in {LOCK.relative_to(ROOT)}")
    return 0


def fetch(package: Package, architecture: str) -> Path:
    """Return the file of a package, from the cache or downloaded by apt-get and checked."""
    folder = cache() / "debian"
    folder.mkdir(exist_ok=True)
    kept = folder / f"{package.sha256}.deb"
    if not kept.exists():
        wanted = f"{package.name}={package.version}"
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            try:
                # The user that apt would otherwise download as may not write here.
                run(
                    ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", wanted],
                    cwd=Path(temporary),
                    env=apt(architecture),
                )
            except Problem as error:
                msg = (
                    f"{error}\napt-get cannot download {wanted}. On a Debian {RELEASE}: `apt-get"
                    " update`; if the archive has a newer one by now: `scripts/image lock`."
                )
                raise Problem(msg) from error
            (file,) = Path(temporary).iterdir()
            if (found := sha256(file.read_bytes())) != package.sha256:
                msg = f"{wanted} has the hash {found}, locked is {package.sha256}"
                raise Problem(msg)
            file.rename(kept)
    return kept


def members(deb: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the members of an ar archive, the format of a package."""
    if not deb.startswith(b"!<arch>\n"):
        msg = "not a Debian package"
        raise Problem(msg)
    at = 8
    while at < len(deb):
        name, size = deb[at : at + 16].decode().strip().rstrip("/"), int(deb[at + 48 : at + 58])
        yield name, deb[at + 60 : at + 60 + size]
        at += 60 + size + size % 2


def unpack(package: Package, target: Path, architecture: str) -> None:
    """Unpack the files of a package into a tree whose /bin, /lib ... are links into /usr."""
    parts = dict(members(fetch(package, architecture).read_bytes()))
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(parts["data.tar.xz"]))) as archive:
        for member in archive:
            name = re.sub(
                r"^(bin|sbin|lib|lib64)(/|$)", r"usr/\1\2", member.name.removeprefix("./")
            )
            if name in {"", "."} or LEFT_OUT.fullmatch(name):
                continue
            path = target / name
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                if member.issym():
                    path.symlink_to(member.linkname)
                    continue
                source = archive.extractfile(member)
                if source is None:
                    msg = f"{package.name}: {member.name} is neither file, folder nor link"
                    raise Problem(msg)
                path.write_bytes(source.read())
            path.chmod(member.mode & 0o1777)  # nothing here needs setuid
    # Where scanners look for the packages of an image that has no dpkg.
    status = target / "var" / "lib" / "dpkg" / "status.d" / package.name
    status.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(parts["control.tar.xz"]))) as archive:
        control = archive.extractfile("./control")
        status.write_bytes(control.read() if control else b"")


def system(target: Path, names: Sequence[str], architecture: str = NATIVE.name) -> list[Package]:
    """Create the tree of the operating system."""
    for folder in ("bin", "sbin", "lib", "lib64"):
        (target / "usr" / folder).mkdir(parents=True)
        (target / folder).symlink_to(f"usr/{folder}")
    packages = locked_packages(names, architecture)
    for package in packages:
        unpack(package, target, architecture)
    write(target / "etc/passwd", f"root:x:0:0:root:/:/nologin\nledger:x:{UID}:{UID}::/:/nologin\n")
    write(target / "etc/group", f"root:x:0:\nledger:x:{UID}:\n")
    write(target / "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
    (target / "tmp").mkdir(exist_ok=True)
    (target / "tmp").chmod(0o1777)
    return packages


def certificates(target: Path) -> None:
    """Do the work of update-ca-certificates: put all authorities into one file that OpenSSL finds."""
    files = sorted((target / "usr/share/ca-certificates").rglob("*.crt"))
    if not files:
        msg = "ca-certificates holds no certificate"
        raise Problem(msg)
    bundle = "".join(file.read_text().strip() + "\n" for file in files)
    write(target / "etc/ssl/certs/ca-certificates.crt", bundle)
    shutil.rmtree(target / "usr/share/ca-certificates")
    (target / "usr/lib/ssl").mkdir(parents=True, exist_ok=True)
    (target / "usr/lib/ssl/certs").symlink_to("/etc/ssl/certs")
    (target / "usr/lib/ssl/cert.pem").symlink_to("/etc/ssl/certs/ca-certificates.crt")


# -------------------------------------------------------------------------------- the project


def python_version(architecture: str = NATIVE.name) -> str:
    """Return the version of the image's Python, which decides the markers in the lock."""
    (package,) = locked_packages(["python3.11-minimal"], architecture)
    return package.version.partition("-")[0]


def dependencies(site: Path, architecture: Architecture) -> None:
    """Install the wheels of `uv.lock`, every one checked against its hash."""
    with tempfile.TemporaryDirectory() as temporary:
        wanted = Path(temporary) / "requirements.txt"
        wanted.write_text(
            uv("export", "--locked", "--no-dev", "--no-emit-project", "--format=requirements.txt")
        )
        uv(
            "pip", "install", "--quiet", "--requirements", str(wanted), "--target", str(site),
            "--require-hashes", "--no-deps", "--only-binary=:all:", "--link-mode=copy",
            "--no-compile-bytecode", "--python-platform", architecture.wheels,
            "--python-version", python_version(architecture.name),
        )  # fmt: skip
    # Nobody runs the commands of the wheels, and they name the interpreter of this machine, which also
    # changes their hashes in the lists of files.
    shutil.rmtree(site / "bin", ignore_errors=True)
    for name in UNUSED:
        shutil.rmtree(site / name)
    gone = re.compile("|".join([r"(\.\./)*bin/", *(re.escape(f"{name}/") for name in UNUSED)]))
    for file in site.glob("*.dist-info/RECORD"):
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(line for line in lines if not gone.match(line)))
    (site / ".lock").unlink(missing_ok=True)
    for junk in ("direct_url.json", "uv_cache.json", "REQUESTED"):
        for file in site.glob(f"*.dist-info/{junk}"):
            file.unlink()


def project(site: Path, *, successor: bool) -> None:
    """Build the project's wheel from a copy of the tree and unpack it."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "tree"
        copy.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, copy)
        for name in ("notifier", "syncer"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / CRD).parent.mkdir(parents=True)
        shutil.copy(ROOT / CRD, copy / CRD)
        if successor:
            for name, old, new in SUCCESSOR:
                replace_once(copy / name, old, new)
        uv("build", "--quiet", "--wheel", "--out-dir", str(copy / "dist"), str(copy))
        (wheel,) = (copy / "dist").glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)  # noqa: S202 (built a line above)


def replace_once(file: Path, old: str, new: str) -> None:
    """Replace a text in a file, where it must occur exactly once."""
    text = file.read_text()
    if text.count(old) != 1:
        msg = f"{file.name} holds {old!r} {text.count(old)} times instead of once"
        raise Problem(msg)
    file.write_text(text.replace(old, new))


def environment(target: Path) -> Path:
    """Create the virtual environment, and return its site-packages folder."""
    home = target / HOME
    site = home / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    (home / "bin").mkdir()
    (home / "bin" / "python3").symlink_to("/usr/bin/python3.11")
    (home / "bin" / "python").symlink_to("python3")
    write(home / "pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n")
    for command, place in about()["scripts"].items():
        module, _, function = place.partition(":")
        write(
            home / "bin" / command,
            f"#!/{HOME}/bin/python3\nimport sys\n\nfrom {module} import {function}\n\n"
            f"sys.exit({function}())\n",
            mode=0o755,
        )
    return site


def byte_code(target: Path, folder: str, interpreter: Path) -> None:
    """Compile a folder with the interpreter of a tree, which need not be the root for that."""
    libraries = [interpreter / "usr/lib" / NATIVE.triplet, interpreter / "usr/lib"]
    run(
        [
            str(libraries[0] / NATIVE.loader),
            "--library-path", ":".join(map(str, libraries)),
            str(interpreter / "usr/bin/python3.11"), "-B", "-S", "-m", "compileall", "-q", "-j", "1",
            "--invalidation-mode", "unchecked-hash",
            "-s", str(target), "-p", "/", str(target / folder),
        ],
        env={"PYTHONHOME": str(interpreter / "usr"), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip


def make_root(
    target: Path, *, successor: bool = False, architecture: Architecture = NATIVE
) -> None:
    """Create the whole tree of the image."""
    if target.exists() and any(target.iterdir()):
        msg = f"{target} is not empty"
        raise Problem(msg)
    target.mkdir(parents=True, exist_ok=True)
    packages = system(target, DEBIAN, architecture.name)
    certificates(target)
    with tempfile.TemporaryDirectory(prefix="image-") as temporary:
        interpreter = target
        if architecture != NATIVE:
            interpreter = Path(temporary) / "native"
            system(interpreter, DEBIAN)
            if python_version() != python_version(architecture.name):
                msg = "the lock has another Python for each architecture: run `scripts/image lock`"
                raise Problem(msg)
        byte_code(target, "usr/lib/python3.11", interpreter)
        site = environment(target)
        dependencies(site, architecture)
        project(site, successor=successor)
        byte_code(target, HOME, interpreter)
    write(target / SBOM, bill_of_materials(packages))
    shutil.copy(ROOT / "LICENSE", target / HOME / "LICENSE")
    settle(target)


def settle(target: Path) -> None:
    """Give every file and folder the mode and the date that the layers will have."""
    for path in sorted(target.rglob("*"), reverse=True):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            # Readable by the image's user whatever umask this ran under.
            path.chmod((mode & 0o1755) | (0o755 if path.is_dir() or mode & 0o100 else 0o644))
            if path == target / "tmp":
                path.chmod(0o1777)
        os.utime(path, (0, 0), follow_symlinks=False)
    target.chmod(0o755)


# -------------------------------------------------------------------------- bill of materials


def bill_of_materials(packages: Sequence[Package]) -> str:
    """Return a CycloneDX document: uv's export of its lock, and the Debian packages."""
    document = json.loads(
        uv("export", "--locked", "--no-dev", "--preview-features", "sbom-export",
           "--format=cyclonedx1.5")
    )  # fmt: skip
    root = document["metadata"]["component"]
    root["type"] = "container"
    for package in packages:
        document["components"].append({
            "type": "library",
            "bom-ref": package.purl,
            "name": package.name,
            "version": package.version,
            "purl": package.purl,
            "hashes": [{"alg": "SHA-256", "content": package.sha256}],
        })  # fmt: skip
    # uv makes two members random; derive them from the content and the date of the image instead.
    document["metadata"]["timestamp"] = created()
    document.pop("serialNumber", None)
    digest = sha256(json.dumps(document, sort_keys=True).encode())
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}"
    return json.dumps(document, indent=2) + "\n"


def created() -> str:
    """Return the date of the image, RFC 3339."""
    return datetime.fromtimestamp(epoch(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def commit() -> str:
    """Return the hash of the commit that is checked out."""
    return run(["git", "rev-parse", "HEAD"]).strip()


def epoch() -> int:
    """Return SOURCE_DATE_EPOCH, else the time of the last commit, else 0."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return int(given)
    with contextlib.suppress(Problem):
        return int(run(["git", "log", "-1", "--format=%ct"], cwd=ROOT))
    return 0


# ------------------------------------------------------------------------------ the OCI archive


@dataclass(frozen=True)
class Blob:
    """A piece of content and its media type."""

    media_type: str
    content: bytes

    @property
    def digest(self) -> str:
        """Hash with its algorithm."""
        return f"sha256:{sha256(self.content)}"

    @property
    def descriptor(self) -> dict[str, Any]:
        """The reference to it in a manifest."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content)}


OCI = "application/vnd.oci.image"


def tar_of(target: Path, names: Sequence[str]) -> bytes:
    """Return an uncompressed layer of some files; everything that could vary has a fixed value."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(names):
            path = target / name
            member = archive.gettarinfo(str(path), arcname=name)
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = 0
            if member.islnk():  # hard links differ between file systems
                member.type, member.linkname = tarfile.REGTYPE, ""
                member.size = path.stat().st_size
            if member.isreg():
                with path.open("rb") as file:
                    archive.addfile(member, file)
            else:
                archive.addfile(member)
    return buffer.getvalue()


def layers_of(target: Path) -> list[list[str]]:
    """Divide a tree into layers: system, dependencies, project."""
    layers: list[list[str]] = [[], [], []]
    site = f"{HOME}/lib/python3.11/site-packages"
    mine = re.compile(
        rf"{HOME}/(bin|LICENSE)(/.*)?|{re.escape(SBOM)}"
        rf"|{site}/(notifier|syncer|notification_ledger-[^/]+)(/.*)?"
    )
    for path in target.rglob("*"):
        name = str(path.relative_to(target))
        layer = 2 if mine.fullmatch(name) else 1 if name.startswith(f"{HOME}/") else 0
        layers[layer].append(name)
    return [names for names in layers if names]


def archive_of(
    target: Path,
    reference: str,
    config: dict[str, Any],
    file: Path,
    architecture: str = NATIVE.name,
) -> str:
    """Write an OCI archive and return the digest of its manifest."""
    blobs: list[Blob] = []
    diff_ids = []
    for names in layers_of(target):
        layer = tar_of(target, names)
        diff_ids.append(f"sha256:{sha256(layer)}")
        # mtime=0 leaves the time out; the default level keeps this quick.
        blobs.append(Blob(f"{OCI}.layer.v1.tar+gzip", gzip.compress(layer, 6, mtime=0)))
    image = {
        "created": created(),
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created": created(), "created_by": "scripts/image"} for _ in diff_ids],
    }
    described = Blob(f"{OCI}.config.v1+json", canonical(image))
    manifest = Blob(
        f"{OCI}.manifest.v1+json",
        canonical({
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": described.descriptor,
            "layers": [blob.descriptor for blob in blobs],
        }),
    )  # fmt: skip
    index = canonical({
        "schemaVersion": 2,
        "mediaType": f"{OCI}.index.v1+json",
        "manifests": [{
            **manifest.descriptor,
            "platform": {"architecture": architecture, "os": "linux"},
            "annotations": {
                "io.containerd.image.name": reference,
                "org.opencontainers.image.ref.name": reference,
            },
        }],
    })  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    contents = {
        "oci-layout": canonical({"imageLayoutVersion": "1.0.0"}),
        "index.json": index,
        "manifest.json": canonical([{
            "Config": path_of(described.digest),
            "RepoTags": [reference],
            "Layers": [path_of(blob.digest) for blob in blobs],
        }]),
        **{path_of(blob.digest): blob.content for blob in (*blobs, described, manifest)},
    }  # fmt: skip
    part = file.with_name(f"{file.name}.part")
    with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(contents.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o644
            archive.addfile(member, io.BytesIO(content))
    part.rename(file)
    compressed = sum(len(blob.content) for blob in blobs) / 1e6
    say(f"{file}: {reference}, {manifest.digest}, {compressed:.1f} MB compressed")
    return manifest.digest


def path_of(digest: str) -> str:
    """Return the path of a blob in a layout."""
    return f"blobs/{digest.replace(':', '/')}"


def index(folder: Path, archives: Sequence[Path]) -> str:
    """Unpack archives of one image into a folder, under one index; return the index's digest."""
    folder.mkdir(parents=True)
    manifests = []
    for file in archives:
        with tarfile.open(file) as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            archive.extractall(folder)  # noqa: S202 (built by this program)
        (described,) = json.loads((folder / "index.json").read_text())["manifests"]
        manifests.append({n: value for n, value in described.items() if n != "annotations"})
    (folder / "manifest.json").unlink()
    media_type = f"{OCI}.index.v1+json"
    document = {"schemaVersion": 2, "mediaType": media_type}
    blob = Blob(media_type, canonical({**document, "manifests": manifests}))
    (folder / path_of(blob.digest)).write_bytes(blob.content)
    top = canonical({**document, "manifests": [blob.descriptor]})
    (folder / "index.json").write_bytes(top)
    return blob.digest


def canonical(document: object) -> bytes:
    """Return JSON that is the same for the same content."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def about() -> dict[str, Any]:
    """Return the project's metadata, such as version and commands."""
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def version() -> str:
    """Return the project's version."""
    return str(about()["version"])


def config(source: str = "") -> dict[str, Any]:
    """Return how the image is run, as in the Containerfile; only here, labels may name the source."""
    origin = {"source": source, "documentation": source, "revision": commit()} if source else {}
    return {
        "User": f"{UID}:{UID}",
        "Entrypoint": [ENTRYPOINT],
        "Cmd": ["run"],
        "Env": [f"PATH={PATH_IN_IMAGE}", "LANG=C.UTF-8", "PYTHONUNBUFFERED=1"],
        "WorkingDir": "/",
        "ExposedPorts": {"8081/tcp": {}, "9090/tcp": {}},
        "Labels": {
            f"org.opencontainers.image.{label}": value
            for label, value in {
                "title": NAME,
                "description": about()["description"],
                "licenses": about()["license"],
                "version": version(),
                **origin,
            }.items()
        },
    }


# ---------------------------------------------------------------------------------- commands


def build(
    file: Path,
    reference: str,
    *,
    successor: bool,
    architecture: Architecture = NATIVE,
    source: str = "",
) -> str:
    """Build the image into an archive, with its bill of materials beside it; return the digest."""
    with tempfile.TemporaryDirectory(prefix="image-") as temporary:
        target = Path(temporary) / "root"
        make_root(target, successor=successor, architecture=architecture)
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(target / SBOM, file.with_name(f"{file.name.split('.')[0]}.cdx.json"))
        return archive_of(target, reference, config(source), file, architecture.name)


def build_redis(file: Path, reference: str) -> str:
    """Build an image with Debian's Redis, for tests; its programs also have Valkey's names."""
    with tempfile.TemporaryDirectory(prefix="image-") as temporary:
        target = Path(temporary) / "root"
        target.mkdir()
        system(target, DEBIAN_REDIS)
        for command in BUSYBOX:
            (target / "usr/bin" / command).symlink_to("busybox")
        for command in ("server", "cli"):
            (target / "usr/bin" / f"valkey-{command}").symlink_to(f"redis-{command}")
        (target / "data").mkdir()
        settle(target)
        return archive_of(target, reference, {
            "User": "999:999", "Cmd": ["redis-server"], "WorkingDir": "/data",
            "Env": ["PATH=/usr/bin:/bin"], "ExposedPorts": {"6379/tcp": {}},
        }, file)  # fmt: skip


def check() -> int:
    """Build twice and compare; then run the result as the image's user, on a read-only root."""
    with tempfile.TemporaryDirectory(prefix="image-") as temporary:
        folder = Path(temporary)
        digests = [
            build(folder / f"{n}.oci.tar", f"localhost/{NAME}:check", successor=False)
            for n in range(2)
        ]
        if digests[0] != digests[1]:
            msg = f"two builds of one tree differ: {digests}; {difference(folder)}"
            raise Problem(msg)
        say("two builds are the same, byte for byte")
        root = folder / "root"
        extract(folder / "0.oci.tar", root)
        unlisted = installed(root) - listed(root)
        if unlisted:
            msg = f"the bill of materials does not name {', '.join(sorted(unlisted))}"
            raise Problem(msg)
        say(f"the bill of materials names all {len(installed(root))} packages that are installed")
        modules = "\n".join(
            file.name.split(".")[0]
            for file in sorted((root / "usr/lib/python3.11/lib-dynload").glob("*.so"))
        )
        everything = (
            "import sys, importlib, pkgutil, ssl\n"
            f"for name in {modules.split()!r}: importlib.import_module(name)\n"
            "import notifier, syncer\n"
            "for package in (notifier, syncer):\n"
            "    for m in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
            "        if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
            "assert ssl.create_default_context().get_ca_certs(), 'no certificate authorities'\n"
            "for m in list(sys.modules.values()):\n"
            "    origin = getattr(m, '__cached__', None)\n"
            "    assert not origin or __import__('os').path.exists(origin), f'{origin}: no byte code'\n"
            "print(len(sys.modules), 'modules')"
        )
        for argv in (
            [ENTRYPOINT, "--version"],
            [ENTRYPOINT, "show", "crd"],
            [f"/{HOME}/bin/syncer", "--help"],
            [f"/{HOME}/bin/python3", "-c", everything],
        ):
            answer = run_in(root, argv)
            say(f"ran {' '.join(argv)[:60]!r}: {answer.splitlines()[0]}")
    return 0


def installed(root: Path) -> set[str]:
    """Return the packages in a tree as URLs: all wheels except the project's, and Debian packages."""
    site = root / HOME / "lib/python3.11/site-packages"
    found = {
        f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{number}"
        for name, number in (
            f.name[: -len(".dist-info")].split("-") for f in site.glob("*.dist-info")
        )
    }
    names = [file.name for file in (root / "var/lib/dpkg/status.d").iterdir()]
    return (found - {f"pkg:pypi/{NAME}@{version()}"}) | {p.purl for p in locked_packages(names)}


def listed(root: Path) -> set[str]:
    """Return the packages that the bill of materials in a tree names."""
    return {component["purl"] for component in json.loads((root / SBOM).read_text())["components"]}


def difference(folder: Path) -> str:
    """Name the members that only one of two archives has."""
    names = []
    for n in range(2):
        with tarfile.open(folder / f"{n}.oci.tar") as archive:
            names.append(set(archive.getnames()))
    return f"only in one: {sorted(names[0] ^ names[1])}"


def extract(file: Path, target: Path) -> None:
    """Unpack the layers of an archive, as a container runtime would."""
    target.mkdir()
    with tarfile.open(file) as archive:

        def read(digest: str) -> bytes:
            member = archive.extractfile(f"blobs/sha256/{digest.removeprefix('sha256:')}")
            return member.read() if member else b""

        index = archive.extractfile("index.json")
        manifest = json.loads(read(json.load(index or io.BytesIO())["manifests"][0]["digest"]))
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=io.BytesIO(gzip.decompress(read(layer["digest"])))) as inner:
                # Set as an attribute, because Debian's Python 3.11 does not know the argument.
                inner.extraction_filter = getattr(tarfile, "tar_filter", None)
                inner.extractall(target)  # noqa: S202 (built by this program)


def run_in(tree: Path, argv: Sequence[str]) -> str:
    """Run a program of a tree as the image's user, without a network, on a read-only root."""
    # Bind-mounted onto itself, the tree is a mount, and a mount can be made read-only.
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    root = os.geteuid() == 0  # otherwise the only available user is mapped to root
    return run(
        [
            "unshare", "--mount", "--net", *([] if root else ["--map-root-user"]),
            "/bin/sh", "-c", script, str(tree),
            "unshare", f"--root={tree}", "--wd=/",
            *([f"--setuid={UID}", f"--setgid={UID}"] if root else []), *argv,
        ],
        env={"PATH": f"{PATH_IN_IMAGE}:/usr/sbin:/sbin", "LANG": "C.UTF-8"},
    )  # fmt: skip


# ----------------------------------------------------------------------------------- helpers


def sha256(content: bytes) -> str:
    """Return the hash in hex."""
    return hashlib.sha256(content).hexdigest()


def write(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file; create its folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def uv(*arguments: str) -> str:
    """Run uv on the project and return what it prints."""
    return run(["uv", *arguments], cwd=ROOT, env={**os.environ, "SOURCE_DATE_EPOCH": "315532800"})


def run(argv: Sequence[str], *, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """Run a command with a deadline; its standard error becomes the problem if it fails."""
    try:
        done = subprocess.run(
            argv, cwd=cwd, env=env, capture_output=True, text=True, check=False,
            timeout=DEADLINE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"{argv[0]}: {error}"
        raise Problem(msg) from error
    if done.returncode != 0:
        msg = f"`{' '.join(argv)[:200]}` failed ({done.returncode}):\n{done.stderr[-3000:].strip()}"
        raise Problem(msg)
    return done.stdout


def main() -> int:
    """Read the command line and do it."""
    usage, _, _ = (__doc__ or "").partition("\nDesign\n")
    parser = argparse.ArgumentParser(
        prog="image", description=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in ("build", "redis"):
        command = commands.add_parser(name)
        command.add_argument("--out", type=Path, help="the archive (default: in dist/)")
        command.add_argument("--reference", help="the name that the image is imported under")
        if name == "build":
            command.add_argument("--successor", action="store_true")
            command.add_argument(
                "--source", default="", help="address of the repository, for a label"
            )
            command.add_argument("--architecture", choices=ARCHITECTURES, default=NATIVE.name)
    commands.add_parser("check")
    commands.add_parser("lock")
    commands.add_parser("root").add_argument("target", type=Path, metavar="DIR")
    command = commands.add_parser("index")
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument("archives", type=Path, nargs="+", metavar="ARCHIVE")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    dist = ROOT / "dist"
    try:
        if options.command == "build":
            suffix = "-successor" if options.successor else ""
            build(
                options.out or dist / f"{NAME}{suffix}.oci.tar",
                options.reference or f"localhost/{NAME}:{version()}{suffix}",
                successor=options.successor,
                architecture=ARCHITECTURES[options.architecture],
                source=options.source,
            )
            return 0
        if options.command == "redis":
            build_redis(
                options.out or dist / "redis.oci.tar", options.reference or "localhost/redis:test"
            )
            return 0
        if options.command == "index":
            print(index(options.folder, options.archives))
            return 0
        if options.command == "root":
            make_root(options.target.resolve())
            return 0
        return {"check": check, "lock": lock}[options.command]()
    except Problem as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
