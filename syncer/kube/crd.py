"""
The CustomResourceDefinition of this version, and what a served one lacks.

The only source is the chart's file. The build of the wheel puts it beside this module, so that an
installation can print it; a source checkout and an editable installation read the chart's file itself.

An API server drops members of a status that its schema does not know, and answers 200. A controller
that is newer than the CRD in the cluster would thus lose parts of the record without an
error. So the CRD that is served is compared with ours at start: which members would be dropped,
which values would be refused, which guard rails are absent. A controller that may not read CRDs
compares a status that it wrote with the answer: which members were not returned.

Our guard rails are the rules on the status; the rule on the spec is upstream's and always stays. They
differ by their place alone, so a chart template can do what `load_crd` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from syncer.model.resource import GROUP, PLURAL, VERSION, Json

CRD_NAME: Final = f"{PLURAL}.{GROUP}"
#: Where the API server has it.
CRD_PATH: Final = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{CRD_NAME}"

# Not by `importlib.resources`, which imports readers of archives.
_PACKAGED: Final = Path(__file__).with_name("crd.yaml")
#: The CRD in a source checkout.
_SOURCE: Final = Path(__file__).parents[2] / "charts" / "notification-ledger" / "files" / "crd.yaml"

_RULES: Final = "x-kubernetes-validations"
#: Marks a schema node that keeps unknown members.
_PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
#: Members that the server keeps even if no schema names them.
_EVERY_OBJECT: Final = frozenset({"apiVersion", "kind", "metadata"})


def load_crd(*, rules: bool = True) -> Json:
    """
    Load our CustomResourceDefinition as a fresh dictionary.

    Without `rules` our guard rails are left out, for clusters in which the status is edited by hand on
    purpose; upstream's rule, an immutable spec, is kept.
    """
    import yaml  # noqa: PLC0415  # needed here only, and slow to import

    # In C where that is there: in Python it holds the loop of a start for a tenth of a second, three times.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    crd: Json = yaml.load(_text(), loader)  # noqa: S506 - a safe loader, and our own text
    if not rules:
        _schema(crd)["properties"]["status"].pop(_RULES)
    return crd


def render_crd(*, rules: bool = True) -> str:
    """Write our CustomResourceDefinition as YAML, to be applied as it is."""
    if rules:
        return _text()
    import yaml  # noqa: PLC0415 - as above

    return yaml.safe_dump(load_crd(rules=False), sort_keys=False, width=100)


def missing_fields(served: Json) -> list[str]:
    """
    List the members of our schema that the served CRD would drop from a write.

    Returns:
        Sorted dotted paths, `[]` for the entries of a list: `status.deliveryAttempts[].id`. Where a
        branch is unknown only its root is named. Empty if nothing would be dropped.
    """
    return sorted(_missing(_schema(load_crd()), _schema(served), ""))


def missing_rules(served: Json) -> list[str]:
    """List our rules that the served CRD lacks, by message, in the file's order."""
    present = {_one_line(rule.get("rule", "")) for rule in _guard_rails(served)}
    ours = _guard_rails(load_crd())
    return [rule["message"] for rule in ours if _one_line(rule["rule"]) not in present]


def refused_values(served: Json) -> list[str]:
    """
    List the values that we may write and for which the served CRD refuses the write.

    Returns:
        Sorted `path=value`, for example `status.deliveryAttempts[].status=unknown`. Members that
        the CRD does not know at all are the business of `missing_fields`.
    """
    return sorted(_refused(_schema(load_crd()), _schema(served), ""))


def pruned(written: Json, read_back: Json) -> list[str]:
    """
    List the members of a write that its answer does not have.

    Both are compared from the same root, usually the status. A null in a merge patch deletes, so it
    is not missed. The answer must be the one to this very write.

    Returns:
        Sorted dotted paths as in `missing_fields`, each once.
    """
    return sorted(set(_lost(written, read_back, "")))


def has_member(written: Json, path: str) -> bool:
    """Whether a write sets the member at such a path, in one entry of each list at least."""
    nodes: list[Any] = [written]
    for step in path.replace("[]", ".[]").split("."):
        if step == "[]":
            nodes = [entry for node in nodes if isinstance(node, list) for entry in node]
        else:
            nodes = [node.get(step) for node in nodes if isinstance(node, dict)]
        nodes = [node for node in nodes if node is not None]
    return bool(nodes)


def _text() -> str:
    return (_PACKAGED if _PACKAGED.is_file() else _SOURCE).read_text("utf-8")


def _schema(crd: Json) -> Json:
    """Find the schema of our version; empty if the CRD does not serve it."""
    for version in (crd.get("spec") or {}).get("versions") or []:
        if version.get("name") == VERSION and version.get("served", True):
            return (version.get("schema") or {}).get("openAPIV3Schema") or {}
    return {}


def _guard_rails(crd: Json) -> list[Json]:
    """Return the rules on the status."""
    status = (_schema(crd).get("properties") or {}).get("status") or {}
    return status.get(_RULES) or []


def _one_line(rule: str) -> str:
    return " ".join(rule.split())


def _children(node: Json) -> Iterator[tuple[str, Json]]:
    """Yield the nodes below a schema node, each with what it adds to a path."""
    yield from (node.get("properties") or {}).items()
    if isinstance(items := node.get("items"), dict):
        yield "[]", items
    if isinstance(values := node.get("additionalProperties"), dict):
        yield "*", values


def _join(path: str, step: str) -> str:
    return path + step if step == "[]" or not path else f"{path}.{step}"


def _missing(ours: Json, theirs: Json, path: str) -> Iterator[str]:
    if theirs.get(_PRESERVE):
        return
    known = dict(_children(theirs))
    for step, node in _children(ours):
        if step in known:
            yield from _missing(node, known[step], _join(path, step))
        elif path or step not in _EVERY_OBJECT:
            yield _join(path, step)


def _refused(ours: Json, theirs: Json, path: str) -> Iterator[str]:
    if "enum" in theirs:
        yield from (f"{path}={v}" for v in ours.get("enum") or [] if v not in theirs["enum"])
    known = dict(_children(theirs))
    for step, node in _children(ours):
        if step in known:
            yield from _refused(node, known[step], _join(path, step))


def _lost(written: Any, read_back: Any, path: str) -> Iterator[str]:
    if isinstance(written, dict):
        there = read_back if isinstance(read_back, dict) else {}
        for key, value in written.items():
            if value is None:
                continue
            if key in there:
                yield from _lost(value, there[key], _join(path, key))
            else:
                yield _join(path, key)
    elif isinstance(written, list):
        there_too = read_back if isinstance(read_back, list) else []
        for index, value in enumerate(written):
            if index < len(there_too):
                yield from _lost(value, there_too[index], _join(path, "[]"))
            else:
                yield _join(path, "[]")
