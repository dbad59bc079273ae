"""
The chart as Helm renders it, each combination once per run.

A rendering is a matter of a tenth of a second, but there are two majors and many values files, and
every test looks at all of them: so they are kept. Nobody may change what he is given.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from syncer.model.resource import Json

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "charts" / "notification-ledger"
MAJORS: Final = ("3", "4")
#: Values files, by what they are about.
CASES: Final = sorted(p.name.removesuffix("-values.yaml") for p in CHART.glob("ci/*-values.yaml"))
RELEASE: Final = "r"
NAMESPACE: Final = "alerts"
#: Tests that look at the rendering of each values file, so that one process renders them.
OF_EACH_CASE: Final = pytest.mark.xdist_group("the chart's renderings")
_TIMEOUT: Final = 60


@dataclass(frozen=True, slots=True)
class Run:
    """What Helm said."""

    code: int
    out: str
    err: str


@functools.cache
def program(major: str) -> Path:
    """Return Helm of a major version; the first call on a machine fetches it."""
    answer = subprocess.run(
        [sys.executable, ROOT / "scripts" / "helm", "path", major],
        capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    if answer.returncode != 0:
        raise RuntimeError(f"Helm {major} cannot be had: {answer.stderr.strip()}")
    return Path(answer.stdout.strip())


def helm(
    major: str, *arguments: str, values: Json | None = None, kubeconfig: Path | None = None
) -> Run:
    """Run Helm, with values on its standard input if there are any; without a cluster by default."""
    given = () if values is None else ("--values", "-")
    # Without the kubeconfig of whoever runs the tests; a process that lives for a tenth of a second need
    # not collect garbage before it has taken much memory.
    alone = {"KUBECONFIG": str(kubeconfig or os.devnull), "GOGC": "off", "GOMEMLIMIT": "2GiB"}
    env = os.environ | alone
    answer = subprocess.run(
        [program(major), *arguments, *given],
        input=json.dumps(values) if values is not None else "",
        capture_output=True, text=True, check=False, timeout=_TIMEOUT, env=env,
    )  # fmt: skip
    return Run(answer.returncode, answer.stdout, answer.stderr)


def template(
    major: str, values: Json, *, release: str = RELEASE, namespace: str = NAMESPACE
) -> Run:
    """Render the chart with some values, without a look at any cluster."""
    return helm(major, "template", release, str(CHART), "-n", namespace, values=values)


@functools.cache
def rendered(major: str, case: str) -> tuple[Json, ...]:
    """Return the objects of a values file."""
    return objects(template(major, values_of(case)))


def values_of(case: str) -> Json:
    """Return what a values file says."""
    read: Json = yaml.safe_load((CHART / "ci" / f"{case}-values.yaml").read_text())
    return read


def members(values: Json, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each member of values and of the mappings in them, with its path."""
    for key, value in values.items():
        yield (*at, key), value
        if isinstance(value, dict):
            yield from members(value, (*at, key))


def notes(values: Json) -> str:
    """Return what Helm says to who installs the chart with some values."""
    # Helm 3 asks for a cluster all the same.
    run = helm("4", "install", "r", str(CHART), "--dry-run=client", values=values)
    assert run.code == 0, run.err
    return run.out.partition("NOTES:")[2]


def objects(run: Run) -> tuple[Json, ...]:
    """Return the objects of a rendering that must have succeeded, without a warning."""
    assert (run.code, run.err) == (0, "")
    return tuple(d for d in yaml.load_all(run.out, Loader=_LOADER) if d is not None)


def of_kind(found: tuple[Json, ...], kind: str) -> list[Json]:
    """Return the objects of a kind."""
    return [o for o in found if o["kind"] == kind]


def one(found: tuple[Json, ...], kind: str, suffix: str = "") -> Json:
    """Return the only object of a kind whose name ends so."""
    (found_one,) = [o for o in of_kind(found, kind) if o["metadata"]["name"].endswith(suffix)]
    return found_one


def controller(found: tuple[Json, ...]) -> Json:
    """Return the pods' template of the controller."""
    template: Json = component(found, "Deployment", "controller")["spec"]["template"]
    return template


def component(found: tuple[Json, ...], kind: str, name: str) -> Json:
    """Return the only object of a kind that belongs to a component."""
    label = "app.kubernetes.io/component"
    (found_one,) = [o for o in of_kind(found, kind) if o["metadata"]["labels"][label] == name]
    return found_one


def pods(found: tuple[Json, ...]) -> list[tuple[str, Json]]:
    """Return the specification of each pod, with the kind and name of what makes it."""
    out: list[tuple[str, Json]] = []
    for o in found:
        name = f"{o['kind']}/{o['metadata']['name']}"
        if o["kind"] == "Pod":
            out.append((name, o["spec"]))
        elif "template" in (o.get("spec") or {}):
            out.append((name, o["spec"]["template"]["spec"]))
    return out


def settings_file(found: tuple[Json, ...]) -> str:
    """Return the controller's settings file."""
    text: str = one(found, "ConfigMap", "-config")["data"]["config.yaml"]
    return text


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
