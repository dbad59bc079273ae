"""What is wrong with a kubeconfig is said by file and field, and the context is kubectl's choice."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from syncer.kube.client import KubeClient
from syncer.model.errors import ConfigError

CANARY: Final = "c4n4ry-s3cret"


def config(**members: Any) -> dict[str, Any]:
    """Return a kubeconfig of one context, with other members where given."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://10.0.0.1:6443"}}],
        "users": [{"name": "u", "user": {"token": CANARY}}],
        **members,
    }


def cluster(**values: Any) -> dict[str, Any]:
    """Return a kubeconfig whose cluster says this."""
    return config(clusters=[{"name": "k", "cluster": values}])


def user(**values: Any) -> dict[str, Any]:
    """Return a kubeconfig whose user says this."""
    return config(users=[{"name": "u", "user": values}])


#: What the file holds, and the whole error; `{k}` is the file, `{used}` how it is called as a whole.
WRONG: Final[dict[str, tuple[Any, str]]] = {
    "it is empty": (
        "", "{k} is empty: add a cluster, a user and a context, or name another file"
    ),
    "it is no YAML": ("clusters: [", "{k}: not valid YAML: line 1: did not find expected node content"),
    "it is no text": (b"\xff\xfe\x00", "{k} is not UTF-8"),
    "it is no mapping": ("- a", "{k}: the top level must be a mapping"),
    "it is a word": (CANARY, "{k}: the top level must be a mapping"),
    "it has no context": (
        config(**{"current-context": ""}),
        "{k} has no current-context: set it (kubectl config use-context NAME); its contexts are 'c'",
    ),
    "it has no contexts": (
        config(contexts=None),
        "{k} has no context 'c', which the file's current-context names; it has no contexts"
    ),
    "contexts are a mapping": (config(contexts={"c": {}}), "{k}: contexts must be a list"),
    "an entry is a word": (
        config(clusters=[CANARY]), "{k}: clusters[0] must be a mapping with name and cluster"
    ),
    "an entry has no name": (
        config(users=[{"user": {"token": CANARY}}]), "{k}: users[0].name must be a string that is not empty"
    ),
    "an entry says nothing": (
        config(contexts=[{"name": "c"}]), "{k}: contexts[0].context must be a mapping"
    ),
    "two entries have one name": (
        config(users=[{"name": "u", "user": {"token": CANARY}}] * 2),
        "{k}: users has two entries 'u': keep one",
    ),
    "the context names no cluster": (
        config(contexts=[{"name": "c", "context": {"user": "u"}}]),
        "{k}: context 'c' names no cluster: set its cluster; its clusters are 'k'",
    ),
    "the cluster is not there": (
        config(clusters=[]), "{k} has no cluster 'k', which {k}: context 'c' names; it has no clusters"
    ),
    "the user is not there": (
        config(users=[{"name": "v", "user": {"token": CANARY}}]),
        "{k} has no user 'u', which {k}: context 'c' names; its users are 'v'",
    ),
    "the cluster has no address": (
        cluster(), "{k}: cluster 'k': server is missing: set the address of the API server"
    ),
    "the address is no URL": (
        cluster(server=f"{CANARY}:6443"),
        "{k}: cluster 'k': server must be a URL such as https://HOST:6443"
    ),
    "the address is half an address": (
        cluster(server=f"https://[{CANARY}"),
        "{k}: cluster 'k': server must be a URL such as https://HOST:6443"
    ),
    "a server's name is a list": (
        cluster(server="https://h", **{"tls-server-name": [CANARY]}),
        "{k}: cluster 'k': tls-server-name must be a string",
    ),
    "a switch is a text": (
        cluster(server="https://h", **{"insecure-skip-tls-verify": CANARY}),
        "{k}: cluster 'k': insecure-skip-tls-verify must be true or false",
    ),
    "a provider is a word": (
        user(**{"auth-provider": CANARY}),
        "{k}: user 'u': auth-provider must be a mapping with name and config",
    ),
    "a provider's settings are a word": (
        user(**{"auth-provider": {"name": "oidc", "config": CANARY}}),
        "{k}: user 'u': auth-provider must be a mapping with name and config",
    ),
    "a plugin's arguments are a word": (
        user(exec={"apiVersion": "v1", "command": "c", "args": CANARY}),
        "{k}: user 'u': exec.args must be a list of texts",
    ),
    "an argument of a plugin is a number": (
        user(exec={"apiVersion": "v1", "command": "c", "args": [7]}),
        "{k}: user 'u': exec.args must be a list of texts",
    ),
    "a plugin's variables are a mapping": (
        user(exec={"apiVersion": "v1", "command": "c", "env": {"A": CANARY}}),
        "{k}: user 'u': exec.env must be a list of mappings with name and value",
    ),
    "a plugin's variable has no value": (
        user(exec={"apiVersion": "v1", "command": "c", "env": [{"name": "A"}]}),
        "{k}: user 'u': exec.env must be a list of mappings with name and value",
    ),
    "a certificate is a missing file": (
        cluster(server="https://h", **{"certificate-authority": "ca.crt"}),
        "{k}: cluster 'k': certificate-authority: cannot read {dir}/ca.crt: No such file or directory",
    ),
    "a certificate is a folder": (
        cluster(server="https://h", **{"certificate-authority": "."}),
        "{k}: cluster 'k': certificate-authority: cannot read {dir}: Is a directory",
    ),
    "a key is no path": (
        user(**{"client-key": [CANARY]}), "{k}: user 'u': client-key must be the path of a file"
    ),
    "a certificate is not base64": (
        cluster(server="https://h", **{"certificate-authority-data": f"{CANARY}="}),
        "{k}: cluster 'k': certificate-authority-data is not base64",
    ),
    "a certificate is none": (
        cluster(server="https://h", **{"certificate-authority-data": "eA=="}),
        "{used} cannot be used: the certificate authority of the API server is not a certificate in PEM",
    ),
    "a client's certificate is none": (
        user(**{"client-certificate-data": "eA==", "client-key-data": "eA=="}),
        "{used} cannot be used: the client certificate and its key are not in PEM, or do not match",
    ),
    "a token is in a missing file": (
        user(tokenFile="/nowhere/t"),
        "{k}: user 'u': tokenFile: cannot read /nowhere/t: No such file or directory",
    ),
    "a plugin is a word": (
        user(exec=CANARY), "{k}: user 'u': exec must be a mapping with command and apiVersion"
    ),
    "a plugin has no command": (
        user(exec={"apiVersion": "v1"}), "{k}: user 'u': exec.command must be a string that is not empty"
    ),
    "a plugin is not installed": (
        user(exec={"apiVersion": "v1", "command": "/nowhere/plugin"}),
        "{used}: the credential plugin /nowhere/plugin cannot be started: No such file or directory",
    ),
}  # fmt: skip


async def error_of(kubeconfig: Path | str, context: str = "") -> str:
    """Return what is wrong with a kubeconfig, empty for nothing."""
    try:
        async with await KubeClient.connect(str(kubeconfig), user_agent="t", context=context):
            return ""
    except ConfigError as error:
        return str(error)


@pytest.mark.parametrize("case", WRONG)
async def test_what_is_wrong_is_named_with_what_to_do(case: str, tmp_path: Path) -> None:
    """File, field and the fix, whatever the file holds; no value of it."""
    content, wanted = WRONG[case]
    path = tmp_path / "k"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    error = await error_of(path)
    assert error == wanted.format(k=path, used=f"the kubeconfig {path}", dir=tmp_path)
    assert CANARY not in error


async def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """The system's word; one that is not there is named too."""
    assert await error_of(tmp_path) == f"cannot read {tmp_path}: Is a directory"
    long = tmp_path / ("n" * 300)
    assert await error_of(long) == f"cannot read {long}: File name too long"
    absent = tmp_path / "absent"
    assert await error_of(absent) == (
        f"the kubeconfig {absent} does not exist: name an existing file"
    )


async def test_a_context_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    """At most eight names, each cut where it has more than 64 characters."""
    path = tmp_path / "k"
    names = ["l" * 65, "m" * 64, *(f"x{n}" for n in range(8))]
    path.write_text(
        yaml.safe_dump(config(contexts=[{"name": n, "context": {"cluster": "k"}} for n in names]))
    )
    assert await error_of(path, "other") == (
        f"{path} has no context 'other'; its contexts are '{'l' * 64}…', '{'m' * 64}', 'x0', 'x1', 'x2',"
        " 'x3', 'x4', 'x5' and 2 more"
    )


async def test_several_files_are_merged_as_kubectl_does(tmp_path: Path) -> None:
    """The first current-context holds, and the first entry of a name; paths are relative to their file."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "token").write_text("t")
    first, empty, second = tmp_path / "first", tmp_path / "empty", tmp_path / "b" / "second"
    first.write_text(yaml.safe_dump(config(users=[])))
    empty.touch()
    second.write_text(
        yaml.safe_dump(
            {
                "current-context": "d",
                "clusters": [
                    {"name": "k", "cluster": {"server": "https://10.0.0.2:1"}},
                    {"name": "d", "cluster": {"server": "https://10.0.0.3:1"}},
                ],
                "contexts": [{"name": "d", "context": {"cluster": "d"}}],
                "users": [{"name": "u", "user": {"tokenFile": "token"}}],
            }
        )
    )
    both = f"{first}{os.pathsep}{second}"
    async with await KubeClient.connect(both, user_agent="t") as client:
        assert client.address == "https://10.0.0.1:6443"
    async with await KubeClient.connect(both, user_agent="t", context="d") as client:
        assert client.address == "https://10.0.0.3:1"
    (tmp_path / "b" / "token").unlink()
    assert await error_of(both) == (
        f"{second}: user 'u': tokenFile: cannot read {tmp_path}/b/token: No such file or directory"
    )
    assert await error_of(f"{first}{os.pathsep}{empty}") == (
        f"{first}{os.pathsep}{empty} has no user 'u', which {first}: context 'c' names; it has no users"
    )


async def test_of_two_tokens_the_one_of_the_file_holds(tmp_path: Path) -> None:
    """As with kubectl: whoever names a file renews the token there, and what stands beside it is old."""
    (tmp_path / "token").write_text("new")
    path = tmp_path / "k"
    users = [{"name": "u", "user": {"token": "old", "tokenFile": "token"}}]
    path.write_text(yaml.safe_dump(config(users=users)))
    async with await KubeClient.connect(str(path), user_agent="t") as client:
        configuration = client._session.api.configuration
        assert await configuration.get_api_key_with_prefix("BearerToken") == "Bearer new"


#: What may stand where something else should.
ODD: Final[tuple[Any, ...]] = (
    None,
    "",
    CANARY,
    0,
    7,
    True,
    1.5,
    [],
    {},
    [None],
    [[]],
    {"name": 1},
    "\0",
)
ABSENT: Final = object()


def everywhere(node: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value below a node."""
    items = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    for key, value in items:
        yield (key,)
        for path in everywhere(value):
            yield (key, *path)


async def test_no_value_leads_to_the_name_of_an_exception(tmp_path: Path) -> None:
    """Whatever stands wherever: the client is made, or the error names a file and a field."""
    whole = config(
        clusters=[
            {"name": "k", "cluster": {"server": "https://h", "certificate-authority-data": ""}}
        ],
        users=[
            {"name": "u", "user": {"token": CANARY, "client-certificate-data": "", "exec": None}}
        ],
    )
    path = tmp_path / "k"
    path.write_text(yaml.safe_dump(whole))
    assert await error_of(path) == ""
    told = set()
    for place in everywhere(whole):
        for odd in (*ODD, ABSENT):
            changed = copy.deepcopy(whole)
            at: Any = changed
            for key in place[:-1]:
                at = at[key]
            if odd is ABSENT:
                del at[place[-1]]
            else:
                at[place[-1]] = odd
            path.write_text(yaml.safe_dump(changed))
            error = await error_of(path)
            assert not re.search(r"\w+(Error|Exception)\b", error), (place, odd)
            assert error == "" or str(path) in error, (place, odd)
            assert CANARY not in error.replace(f"'{CANARY}'", ""), (place, odd)
            told.add(error)
    assert len(told) > 30
