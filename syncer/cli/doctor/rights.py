"""Checks of the rights that the controller needs, of the account that runs this or of another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from syncer.cli.doctor.result import Result, fail, ok, unknown
from syncer.kube.client import Json, KubeClient
from syncer.model.errors import PortError
from syncer.model.resource import GROUP, PLURAL

_TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True)
class Right:
    """One right that the controller needs."""

    check: str
    group: str
    resource: str
    verbs: tuple[str, ...]
    subresource: str = ""
    leases: bool = False


RIGHTS: Final = (
    Right("rbac-objects", GROUP, PLURAL, ("get", "list", "watch")),
    Right("rbac-status", GROUP, PLURAL, ("patch",), "status"),
    Right("rbac-events", "", "events", ("create",)),
    Right(
        "rbac-leases", "coordination.k8s.io", "leases",
        ("get", "list", "watch", "create", "patch", "delete"), leases=True,
    ),
)  # fmt: skip


@dataclass(slots=True)
class RightsFacts:
    """Verbs and namespaces that are refused, by check; or why that could not be asked."""

    missing: dict[str, list[str]] = field(default_factory=dict)
    problem: str = ""


async def read_rights(
    kube: KubeClient, *, namespaces: Sequence[str], home: str, account: str
) -> RightsFacts:
    """
    Ask the API server about every right; never raises for what it answers.

    Args:
        kube: The API server.
        namespaces: That are watched; empty for all.
        home: Namespace of the controller, empty if that is not known.
        account: `namespace/name` of the service account whose rights are asked; empty for one's own.
    """
    facts = RightsFacts()
    for right in RIGHTS:
        where = [home] if right.leases else list(namespaces) or [""]
        if right.leases and not home:
            continue
        for namespace in where:
            for verb in right.verbs:
                try:
                    allowed = await _allowed(kube, right, verb, namespace, account)
                except (PortError, TimeoutError) as error:
                    facts.problem = str(error)
                    return facts
                if not allowed:
                    refused = f"{verb} in {namespace or 'all namespaces'}"
                    facts.missing.setdefault(right.check, []).append(refused)
    return facts


async def _allowed(kube: KubeClient, right: Right, verb: str, namespace: str, account: str) -> bool:
    attributes: Json = {
        "group": right.group, "resource": right.resource, "verb": verb, "namespace": namespace,
    }  # fmt: skip
    if right.subresource:
        attributes["subresource"] = right.subresource
    spec: Json = {"resourceAttributes": attributes}
    kind = "SelfSubjectAccessReview"
    if account:
        owner, _, name = account.partition("/")
        kind = "SubjectAccessReview"
        spec |= {
            "user": f"system:serviceaccount:{owner}:{name}",
            "groups": [
                "system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{owner}",
            ],
        }  # fmt: skip
    answer = await kube.request(
        "POST",
        f"/apis/authorization.k8s.io/v1/{kind.lower()}s",
        body={"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec},
        timeout=_TIMEOUT,
    )
    return bool((answer.get("status") or {}).get("allowed"))


def check_rights(facts: RightsFacts, *, home: str) -> list[Result]:
    """Check the rights; `home` is the controller's namespace, empty if that is not known."""
    return [_check(right, facts, home) for right in RIGHTS]


def _check(right: Right, facts: RightsFacts, home: str) -> Result:
    resource = right.resource + (f"/{right.subresource}" if right.subresource else "")
    if facts.problem:
        text = f"permissions cannot be checked: {facts.problem}"
        return unknown(right.check, text, "grant create on (self)subjectaccessreviews")
    if right.leases and not home:
        text = "the controller's namespace is not known"
        return unknown(right.check, text, "name it ($KUBERNAUT_CONTROLLER_NAMESPACE)")
    if right.check in facts.missing:
        fix = (
            "apply the chart's roles; to ask about the controller's account instead of your own, name it"
            " (--service-account NAMESPACE/NAME)"
        )
        return fail(
            right.check, f"{resource}: missing {', '.join(facts.missing[right.check])}", fix
        )
    return ok(right.check, f"{resource}: {', '.join(right.verbs)}")
