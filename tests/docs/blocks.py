"""
Every block of commands in the documentation, and the test that runs it or the reason why none does.

A block is what is fenced or indented. Pages of YAML and diagrams are checked where they are made. Blocks
that install something on a cluster are run by `tests/cluster/documented.py`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]

#: Languages of blocks that hold no command.
DOCUMENTS: Final = {"gotemplate", "result", "yaml", "json", "mermaid"}

_QUICK: Final = "tests/docs/test_quickstart.py::test_quick_start"
_USER: Final = "tests/integration/test_redis_users.py::test_no_user_may"
_REDIS: Final = "tests/docs/test_redis_page.py::test_recipe"
_IMAGE: Final = "tests/docs/test_migration_page.py::test_kubernauts_chart_as_printed"
_SECRET: Final = "tests/docs/test_migration_page.py::test_the_moment_of_the_stop_is_a_credential"
_POD: Final = "tests/e2e/test_dropin.py::test_it_runs_as_a_pod_of_the_controller_that_it_replaces"
#: Typed on the cluster of `scripts/cluster test`, which .ci/run runs where CI_CLUSTER is set.
ON_CLUSTER: Final = "tests/cluster/documented.py::run_block"
#: Typed in Kubernaut by `scripts/kubernaut test`, which .ci/run runs where KUBERNAUT_SOURCE is set.
IN_KUBERNAUT: Final = "tests/kubernaut/run.py::chart"
_LAYOUT: Final = "no command: the layout of a record"
_FORMULA: Final = (
    "no command: a formula, which tests/docs/test_scale_page.py compares with the code"
)

#: By page: the first line of each block, and the test that runs it or the reason why none does.
BLOCKS: Final[dict[str, dict[str, str]]] = {
    "README.md": {
        "git clone <this repository> && cd notification-ledger": (
            "tests/e2e/test_demo.py::test_demo_on_the_stand_in"
        ),
        "scripts/test": "it runs this test",
        "helm install ledger oci://": ON_CLUSTER,
        "$ redis-cli LRANGE 'nl:{62455857-18ab-4120-b3ee-a088552fc77e}' 0 -1": (
            "shows what tests/docs/test_redis_page.py runs on logs of its own"
        ),
    },
    "CONTRIBUTING.md": {
        "scripts/test  ": (
            "a table of commands; that each exists says scripts/gates/repository.py"
        ),
    },
    "charts/notification-ledger/README.md": {
        "helm install ledger charts/notification-ledger -n notifications ": ON_CLUSTER,
    },
    "docs/adr/0001-one-list-per-notification.md": {
        "nl1 object=<ns>/<name> epoch=<e> acked=<i> audited=<i>": _LAYOUT,
        "<kind> <id> <channel> <crc32> <chain> <msgpack map>": _LAYOUT,
    },
    "docs/adr/0003-status-is-a-fold.md": {
        "status = merge(fold(log), status of the object, spec)": "no command: the rule",
    },
    "docs/benchmarks/README.md": {
        "scripts/bench --quick  ": (
            "measures for minutes; every suite of it has a test in tests/benchmarks"
        ),
    },
    "docs/cli.md": {
        "syncer status  ": (
            "a table of commands; each is run by tests/integration/test_operate_*.py"
        ),
        "install syncer/kubectl-ledger ~/.local/bin/": ON_CLUSTER,
        "kubectl -n notifications exec deploy/ledger-notification-ledger -- \\": ON_CLUSTER,
    },
    "docs/client.md": {
        **dict.fromkeys(
            ("where=$(curl ", "# backup.py", "# report.py", "#!/bin/sh"),
            "tests/docs/test_client_page.py::test_what_the_page_says_is_sent_and_answered",
        ),
        "package main": "needs Kubernaut's module, whose dependencies take minutes to build",
        "0 3 * * * out=$(backup 2>&1) || ": "a line for cron, whose script the page's test runs",
    },
    "docs/on-call.md": dict.fromkeys(
        (
            "$ kubectl ledger status",
            "$ kubectl ledger explain db-full",
            "$ kubectl ledger list --unfinished",
            "$ kubectl ledger receivers",
            "$ kubectl ledger list --state unknown",
            "$ kubectl ledger explain payments/deploy-done",
            "$ kubectl ledger list --state lost,unknown --since 1d",
            "$ kubectl ledger list --since 1h",
            '$ kubectl ledger hold --receiver ops --until 2h --reason "their flood"',
            '$ kubectl ledger resolve payments/certificate --as delivered --reason "seen in the channel"',
            "$ kubectl ledger resend --receiver ops --failed --since 2h --dry-run",
        ),
        "tests/docs/test_on_call.py::test_each_question_is_answered",
    ),
    "docs/cluster.md": {
        "scripts/cluster test  ": "a table of commands: the test itself, and what the next block types",
        "scripts/image build && scripts/image redis": ON_CLUSTER,
    },
    "docs/gateway.md": {
        "notifier gateway test --config gateway.yaml ": (
            "tests/docs/test_gateway_page.py::test_a_payload_is_tried_as_printed"
        ),
    },
    "docs/image.md": {
        "scripts/image build  ": (
            "a table of commands: the cluster's test types the first, .ci/run the second where CI_CLUSTER"
            " is set; the third changes what the tree pins"
        ),
        "kubectl -n notifications exec deployment/ledger-notification-ledger -- \\": ON_CLUSTER,
        "docker build ": "needs a container daemon; the page says what was tried",
    },
    "docs/releases.md": {
        "cosign verify ": "asks what a forge has signed; `scripts/release --dry-run` does it with a key",
        "scripts/release --set ": "a release, twice: some minutes, root, and other files in the tree",
    },
    "docs/gitops.md": {
        "-- health.lua": "tests/integration/test_gitops.py::test_what_each_tool_says",
    },
    "docs/install.md": {
        "helm install ledger oci://": ON_CLUSTER,
        "kind load image-archive ": (
            "needs kind or Docker; ctr reads the archives in `scripts/cluster up`, crane what docker reads"
        ),
        "scripts/image build": (
            "copies to a registry of yours; the build itself is typed as part of README.md"
        ),
        "helm install ledger charts/notification-ledger -n notifications ": ON_CLUSTER,
        "helm test ledger -n notifications": ON_CLUSTER,
        "kubectl ledger send --receiver default-console --wait": ON_CLUSTER,
        "kubectl -n notifications create secret generic slack ": ON_CLUSTER,
        "kubectl -n notifications exec ledger-notification-ledger-redis-0 ": ON_CLUSTER,
        "helm upgrade ledger charts/notification-ledger -n notifications --wait -f values.yaml": ON_CLUSTER,
        "helm uninstall ledger -n notifications --wait": ON_CLUSTER,
        "ACL SETUSER ledger ": _USER,
        "+cluster|slots ": _USER,
        "ACL SETUSER reader ": _REDIS,
        "ACL SETUSER explorer ": (
            "tests/integration/test_redis_users.py::test_the_explorer_runs_nothing_on_the_server"
        ),
        "kubectl -n notifications delete pvc,secret -l app.kubernetes.io/instance=ledger": ON_CLUSTER,
        "notifier show crd | kubectl apply --server-side -f -": ON_CLUSTER,
        "helm template ledger charts/notification-ledger -n NAMESPACE ": (
            "tests/chart/test_admission.py::test_the_policies_without_the_chart_are_as_the_page_says"
        ),
    },
    "docs/migration.md": {
        "kubectl -n kubernaut-system create secret generic notification-redis ": _IMAGE,
        "kubectl -n kubernaut-system patch secret notification-redis -p ": _SECRET,
        "helm upgrade kubernaut CHART -n kubernaut-system --set notification.replicas=0 ": _IMAGE,
        "helm upgrade kubernaut CHART -n kubernaut-system -f values.yaml -f ": _IMAGE,
        "helm upgrade kubernaut CHART -n kubernaut-system --reset-values -f values.yaml": _IMAGE,
        "kubectl -n kubernaut-system rollout status deployment notification-controller": _POD,
        "kubectl -n kubernaut-system exec deployment/notification-controller -- syncer verify": _POD,
        "FROM registry.example/notification-ledger": _POD,
        "kubectl get notificationrequests -A -o yaml ": IN_KUBERNAUT,
        "kubectl -n kubernaut-system wait --for=delete pod ": IN_KUBERNAUT,
        "helm upgrade --install notification-ledger charts/notification-ledger ": IN_KUBERNAUT,
        "kubectl -n kubernaut-system exec deployment/notification-ledger -- syncer verify": IN_KUBERNAUT,
        "helm upgrade notification-ledger charts/notification-ledger ": IN_KUBERNAUT,
    },
    "docs/notifier.md": {
        "notifier run --config FILE  ": (
            "a table of commands; that each exists says tests/docs/test_commands.py"
        ),
        "routing.yaml:14: error: ": "no command: what tests/unit/notifier/cli/test_check.py compares",
        "everything → chat  ": (
            "tests/docs/test_schemas.py::test_the_tree_of_the_page_is_what_is_printed"
        ),
    },
    "docs/quickstart.md": {},
    "docs/recovery.md": {
        "jq ": ON_CLUSTER,
        'redis-cli -u "$REDIS_URL" RENAMENX "$NL:{$NL_UID}" "damaged:{$NL_UID}"': (
            "tests/docs/test_recovery.py::test_a_log_is_damaged"
        ),
    },
    "docs/redis.md": {
        "export REDIS_URL=": "sets names, which the tests set to those of their server",
        "read -rs REDISCLI_AUTH; ": (
            "tests/docs/test_redis_page.py::test_the_page_says_how_to_log_in"
        ),
        "nl1 object=<namespace>/<name> epoch=<epoch> acked=<i> audited=<i>": _LAYOUT,
        "<kind> <id> <channel> <crc32> <chain> <msgpack map>": _LAYOUT,
        "$ kubectl get notificationrequest -n NAMESPACE NAME -o jsonpath='{.metadata.uid}'": ON_CLUSTER,
    },
    "docs/scale.md": {
        ".venv/bin/python -m tests.benchmarks.capacity": (
            "typed by who has measured: it writes tables into a page of this repository"
        ),
        "250 + 1.1 * (155 + route + name + channels * channel": _FORMULA,
        "82,000,000 + finished": _FORMULA,
    },
}
#: Marks before a block, by page, and the test that runs every block with such a mark.
MARKED: Final = {
    ("docs/quickstart.md", "step"): _QUICK,
    ("docs/redis.md", "recipe"): _REDIS,
}


class Block(NamedTuple):
    """A block: its page, the mark before it, and its lines."""

    page: str
    mark: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """What a reader copies."""
        return "\n".join(self.lines)


def pages() -> list[Path]:
    """Return what a reader may follow."""
    first = [ROOT / n for n in ("README.md", "CONTRIBUTING.md")]
    return [
        *first,
        ROOT / "charts/notification-ledger/README.md",
        *sorted(ROOT.glob("docs/**/*.md")),
    ]


_BLOCK: Final = re.compile(
    r"(?:^<!-- (?P<mark>\w+): .*? -->\n)?^(?P<in> *)```(?P<language>\w*)\n(?P<fenced>.*?)^ *```$"
    r"|(?<=\n\n)(?P<indented>(?: {4,}[^\n]*\n|\n(?= {4}))+)",
    re.MULTILINE | re.DOTALL,
)


def blocks(page: Path) -> Iterator[Block]:
    """Return the blocks of a page that are neither YAML nor diagrams."""
    name = str(page.relative_to(ROOT))
    for found in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        text = found["fenced"] if found["indented"] is None else found["indented"]
        if found["language"] not in DOCUMENTS:
            lines = textwrap.dedent(text).strip().splitlines()
            yield Block(name, found["mark"] or "", tuple(lines))


def fates(block: Block) -> list[str]:
    """Return the tests that run a block, or the reasons why none does; empty where nothing is said."""
    marked = MARKED.get((block.page, block.mark))
    rows = BLOCKS.get(block.page, {})
    listed = [how for line, how in rows.items() if block.lines[0].startswith(line)]
    return [*([marked] if marked else []), *listed]
