"""
What the chart takes from the code, so that neither can fall behind the other.

    scripts/chart generate    write it
    scripts/chart check       say what is out of date; exit code 1 if something is

The settings models of the controller are the one source of `config`: of its block in `values.yaml`,
with every key, its default and its description, and of `properties.config` in `values.schema.json`.
The comments in `values.yaml` are the one source of all other descriptions: in the schema, whose types
are written by hand, and in the table of the chart's README.

Keys that the chart sets by itself are no part of `config`: where a pod listens, what it watches, where
Redis is. Said twice, they could contradict each other.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from notifier.settings import Settings
from syncer.configfile import group_of
from syncer.fields import is_duration, schema_for, summary

ROOT: Final = Path(__file__).resolve().parent.parent
CHART: Final = ROOT / "charts" / "notification-ledger"
#: Keys that the chart sets, with what sets them.
OWN: Final = {
    "controller": "the pod's ports and `watch`",
    "delivery.credentials": "where `credentials` are mounted",
    "redis.url": "`redis`",
    "redis.urlFile": "`redis`",
    "redis.passwordFile": "`redis`",
    "redis.sentinelPasswordFile": "`redis`",
    "sharding.leaseName": "`leaseName`",
    "sync.statusPolicy": "`admission`",
}
#: Keys whose default the chart decides: null in its values, and what is set there wins.
DECIDED: Final = frozenset({"delivery.pagerduty.dedupNamespace"})
#: Keys whose default in the chart differs from that of a file, which is the replaced controller's.
OTHERWISE: Final = {"delivery.onOperatorError": "hold"}
_BEGIN: Final = "  # --- made by scripts/chart from the controller's settings; do not edit ---"
_END: Final = "  # --- end of what scripts/chart makes ---"
_TABLE: Final = ("<!-- values: made by scripts/chart -->", "<!-- end of values -->")
_WIDTH: Final = 100


class Key(typing.NamedTuple):
    """A field of a settings model as the file names it."""

    name: str
    path: str
    field: FieldInfo
    group: type[BaseModel] | None


def keys(model: type[BaseModel], path: str = "") -> Iterator[Key]:
    """Yield the fields of a group that are for the user to set."""
    for name, field in model.model_fields.items():
        alias = field.alias or name
        full = f"{path}{alias}"
        if full not in OWN:
            yield Key(alias, full, field, group_of(field.annotation))


# -- the schema -----------------------------------------------------------------------------------


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of what is for the user to set."""
    return schema_for(model, skip=OWN.keys(), nullable=DECIDED)


# -- the values -----------------------------------------------------------------------------------


def values_of(model: type[BaseModel], path: str = "", indent: int = 2) -> Iterator[str]:
    """Yield the lines that show every key of a group with its description and default."""
    for key in keys(model, path):
        pad = " " * indent
        text = summary(key.group) if key.group else str(key.field.description)
        yield from comment(text, pad)
        if key.group is None:
            default = "null" if key.path in DECIDED else shown(key.field)
            default = OTHERWISE.get(key.path, default)
            yield f"{pad}{key.name}: {default}"
            continue
        inner = list(values_of(key.group, f"{key.path}.", indent + 2))
        if key.field.get_default(call_default_factory=True) is None and not key.field.is_required():
            # A group that is absent by default: shown, not set.
            inner = [re.sub(rf"^ {{{indent}}}", f"{pad}# ", line) for line in inner]
            yield f"{pad}# {key.name}:"
        else:
            yield f"{pad}{key.name}:"
        yield from inner


def comment(text: str, pad: str) -> Iterator[str]:
    """Yield a text as a comment."""
    for line in textwrap.wrap(text, _WIDTH - len(pad) - 2, break_on_hyphens=False):
        yield f"{pad}# {line}"


def shown(field: FieldInfo) -> str:
    """Return a default as YAML."""
    if field.is_required():
        return '""'
    default = field.get_default(call_default_factory=True)
    if is_duration(field):
        return duration(float(default))
    if isinstance(default, tuple):
        default = list(default)
    if isinstance(default, float) and default.is_integer():
        default = int(default)
    return json.dumps(default) if not isinstance(default, str) or not default else default


def duration(seconds: float) -> str:
    """Return seconds in Go's form, in the largest unit that makes it a whole number."""
    for unit, size in (("h", 3600.0), ("m", 60.0), ("s", 1.0)):
        if seconds % size == 0 and (seconds or unit == "s"):
            return f"{int(seconds / size)}{unit}"
    return f"{round(seconds * 1000)}ms"


# -- the files ------------------------------------------------------------------------------------


def new_values(text: str) -> str:
    """Return `values.yaml` with the block of `config` made anew."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    if not after:
        raise SystemExit("chart: values.yaml has lost the lines between which the config stands")
    lines = "\n".join(values_of(Settings))
    return f"{before}{_BEGIN}\n{lines}\n{_END}{after}"


def new_schema(text: str, values: str) -> str:
    """Return `values.schema.json` with descriptions and the schema of `config` made anew."""
    schema = json.loads(text)
    for path, _, said, _ in documented(values):
        node: Any = schema
        for name in path.split("."):
            node = node.get("properties", {}).get(name, {})
        if node:
            node["description"] = said
    made = schema_of(Settings)
    made["description"] = "The controller's settings file, without what the chart sets by itself."
    schema["properties"]["config"] = made
    require_groups(schema, schema["definitions"])
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def require_groups(node: dict[str, Any], definitions: dict[str, Any]) -> None:
    """
    Require each group that the chart reads, since Helm drops a key with nothing below it.

    Without it a template would end with a nil pointer. `resources` and whatever is Kubernetes's own is
    passed on, and may be dropped. What the group requires for some values only is left to its `then`.

    Args:
        node: of the schema, a group; what is below it is changed in place.
        definitions: what its references name.
    """
    required = set(node.get("required", []))
    sometimes = node.get("then", {}).get("required", [])
    for name, child in node["properties"].items():
        refs = [part["$ref"].rpartition("/")[2] for part in child.get("allOf", [])]
        group = definitions[refs[0]] if refs else child
        closed = group.get("additionalProperties") is False and "properties" in group
        if closed and refs != ["resources"]:
            if name not in sometimes:
                required.add(name)
            if name != "config":
                require_groups(group, definitions)
    if required:
        node["required"] = sorted(required)


def documented(text: str) -> Iterator[tuple[str, str, str, bool]]:
    """
    Yield path, default and description of each value, in order, and whether it is a group.

    The comment that stands right above a key is its description.
    """
    path: list[tuple[int, str]] = []
    said: list[str] = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if match := re.match(r"^ *# ?(.*)", line):
            said = [] if match[1].startswith("---") else [*said, match[1]]
            continue
        if match := re.match(r"^( *)([A-Za-z][\w.-]*):(?: (.*))?$", line):
            indent = len(match[1])
            while path and path[-1][0] >= indent:
                path.pop()
            path.append((indent, match[2]))
            below = next((x for x in lines[number + 1 :] if not x.lstrip().startswith("#")), "")
            listed = below.startswith(f"{match[1]}  - ")
            group = match[3] is None and not listed
            default = match[3] or ("a list" if listed else "")
            yield ".".join(name for _, name in path), default, " ".join(said), group
        said = []


def new_readme(text: str, values: str) -> str:
    """Return the chart's README with the table of values made anew."""
    begin, end = _TABLE
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    if not after:
        raise SystemExit("chart: README.md has lost the lines between which the values stand")
    rows = ["| value | default | |", "|---|---|---|"]
    for path, default, said, group in documented(values):
        if not group:
            rows.append(f"| `{path}` | `{default}` | {said.replace('|', '&#124;')} |")
    table = "\n".join(rows)
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


def made() -> dict[Path, str]:
    """Return each file that is made here, with what should be in it."""
    values = new_values((CHART / "values.yaml").read_text())
    schema = CHART / "values.schema.json"
    readme = CHART / "README.md"
    return {
        CHART / "values.yaml": values,
        schema: new_schema(schema.read_text(), values),
        readme: new_readme(readme.read_text(), values),
    }


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="chart", description=__doc__.strip().splitlines()[0])
    parser.add_argument("command", choices=["generate", "check"])
    command = parser.parse_args().command
    stale = [path for path, text in made().items() if path.read_text() != text]
    for path in stale:
        if command == "generate":
            path.write_text(made()[path])
        print(f"chart: {path.relative_to(ROOT)} {'written' if command == 'generate' else 'is old'}")
    return 1 if stale and command == "check" else 0


if __name__ == "__main__":
    sys.exit(main())
