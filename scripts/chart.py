"""
Generate the parts of the chart that come from the code, so that neither can fall behind the other.

    scripts/chart generate    write them
    scripts/chart check       say what is out of date; exit code 1 if something is

The models of the controller's files are the only source of `properties.config` and `routing.content` in
`values.schema.json`.
The comments in `values.yaml` are the only source of all other descriptions: in the schema, whose types
are written by hand, and in the table of the chart's README.

Keys that the chart sets by itself are not part of `config`: where a pod listens, what it watches, where
Redis is. If they were given twice, they could contradict each other.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from notifier.cli.show import routing_schema
from notifier.settings import Settings
from syncer.fields import schema_for

ROOT: Final = Path(__file__).resolve().parent.parent
CHART: Final = ROOT / "charts" / "notification-ledger"
#: Keys that the chart sets, each with the values from which it does.
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
#: Members of the routing file's schema that apply to `routing.content`, where that is not a text.
_OF_CONTENT: Final = ("additionalProperties", "patternProperties", "properties", "required")
#: Keys whose default the chart decides, even if they are null.
DECIDED: Final = frozenset({"delivery.pagerduty.dedupNamespace"})
_TABLE: Final = ("<!-- values: made by scripts/chart -->", "<!-- end of values -->")


# -- the schema -----------------------------------------------------------------------------------


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of the keys that users may set."""
    return schema_for(model, skip=OWN.keys(), nullable=DECIDED)


# -- the files ------------------------------------------------------------------------------------


def new_schema(text: str, values: str) -> str:
    """Return `values.schema.json` with new descriptions and a new schema of `config`."""
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
    content = schema["properties"]["routing"]["properties"].pop("content")
    require_groups(schema, schema["definitions"])
    file = routing_schema()
    content |= {key: file[key] for key in _OF_CONTENT}
    schema["properties"]["routing"]["properties"]["content"] = content
    schema["$defs"] = file["$defs"]
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def require_groups(node: dict[str, Any], definitions: dict[str, Any]) -> None:
    """
    Require each group that the chart reads, because Helm drops a key with nothing below it.

    Without the group a template would fail with a nil pointer. `resources` and Kubernetes's own structures
    are passed on, and may be dropped. Keys required only for some values are left to the group's `then`.

    Args:
        node: a group of the schema; the groups below it are changed in place.
        definitions: the definitions to which the schema refers.
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

    The comment right above a key is its description.
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
    """Return the chart's README with a new table of values."""
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
    """Return each file with generated parts, and the text that it should have."""
    values = (CHART / "values.yaml").read_text()
    schema = CHART / "values.schema.json"
    readme = CHART / "README.md"
    return {
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
