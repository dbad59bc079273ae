"""A gateway's file is checked as a whole: every planted mistake is found, with its line and what to do."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Final

import pytest

from tests.unit.notifier.cli.planted import CANARY, Planted, checked, found_at, line_of

#: What a file says, with a mark behind each line that has a mistake.
FILE: Final = """\
listn: ":8080"                                        #g-unknown
metricsAddr: ":8081"                                  #g-twice-an-address
sources:
  - name: a
    kind: alertmanger                                 #g-kind
    namespace: alerts
    per: day                                          #g-word
    auth: {insecure: true}
  - name: b
    kind: json
    namespace: alerts
    auth: {}                                          #g-proof
  - name: c
    kind: json
    namespace: alerts
    dedupWindw: 1h                                    #g-misspelt
    auth: {insecure: true}
    mapping:
      subject: "{{ a..b }}"                                #g-expression
      body: b
  - name: d
    kind: json
    namespace: Alerts                                 #g-namespace
    patience: 2m
    patience: 20s                                     #g-repeated
    auth: {insecure: true}
    mapping: {subject: s, body: b}
  - name: e
    kind: json
    namespace: alerts                                 #g-required
    auth: {insecure: true}
    mapping: {subject: s}
  - name: f                                           #g-namespaces
    kind: flux
    namespace: "{{ a }}"
    auth: {insecure: true}
  - name: g
    kind: json
    namespace: alerts
    auth: {insecure: true}
    mapping:
      subject: "{{ shout(a) }}"                            #g-function
      body: b
  - name: h
    kind: github
    namespace: alerts
    auth: {clientCertificate: {caFiles: [/x]}}        #g-tls
  - name: h                                           #g-name
    kind: heartbeat
    namespace: alerts
    expectEvery: 5m
    auth: {insecure: true}
  - 5                                                 #g-mapping
"""
IN_FILE: Final[dict[str, Planted]] = {
    "g-unknown": Planted("error", "listn", "did you mean listen?", "write listen instead"),
    "g-twice-an-address": Planted(
        "error", "metricsAddr", "must differ from", "the default is :9090"
    ),
    "g-kind": Planted("error", "sources[0].kind", "must be one of alertmanager,", "one of these"),
    "g-word": Planted("error", "sources[0].per", "'group' or 'alert'", "the default is group"),
    "g-proof": Planted("error", "sources[1].auth.insecure", "one of bearer,", "name a proof"),
    "g-misspelt": Planted(
        "error", "sources[2].dedupWindw", "did you mean dedupWindow?", "write dedupWindow instead"
    ),
    "g-expression": Planted(
        "error", "sources[2].mapping.subject", "'a..b' cannot be read", "correct the expression"
    ),
    "g-namespace": Planted(
        "error", "sources[3].namespace", "must be the name of a namespace", "digits and dashes"
    ),
    "g-repeated": Planted("error", "sources[3].patience", "written twice", "keep one of the two"),
    "g-required": Planted("error", "sources[4].mapping.body", "required for kind json", "add it"),
    "g-namespaces": Planted("error", "sources[5].namespaces", "where namespace", "add it: a list"),
    "g-function": Planted(
        "error", "sources[6].mapping.subject", "no function shout()", "one of the functions"
    ),
    "g-tls": Planted("error", "sources[7].auth.clientCertificate", "needs `tls`", "add tls: {"),
    "g-name": Planted("error", "sources[8].name", "name of a source before it", "choose another"),
    "g-mapping": Planted("error", "sources[9]", "must be a mapping", "gateway-configuration.md"),
}

#: A file without mistakes, but for those of its secrets.
GOOD: Final = """\
sources:
  - name: a
    kind: json
    namespace: alerts
    auth:
      {proof}
    mapping: {{subject: s, body: b}}
"""


def test_planted_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each is found at its line, with what to do; nothing else is, and the file alone is checked."""
    code, answer, said = checked(capsys, tmp_path, gateway=FILE)
    lines = {mark: line_of(FILE, mark) for mark in IN_FILE}
    lines["g-required"] += 2  # the mapping, which lacks the key
    missed = {
        mark: [f for f in answer["findings"] if f["line"] == lines[mark]]
        for mark, planted in IN_FILE.items()
        if len(found_at(answer, lines[mark], planted)) != 1
    }
    assert missed == {}
    assert code == 1
    assert len(answer["findings"]) == len(IN_FILE), answer
    assert (said, answer["not_looked_at"]) == ("", [])


def test_a_good_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """There is nothing to say; beside settings and routing it is a third file."""
    good = GOOD.format(proof="insecure: true")
    assert checked(capsys, tmp_path, gateway=good)[:2] == (
        0, {"findings": [], "errors": 0, "warnings": 0, "not_looked_at": []},
    )  # fmt: skip
    code, answer, said = checked(
        capsys, tmp_path, config="redis: {url: 5}\n", gateway=good.replace("json", "jsn")
    )
    assert code == 1
    assert [Path(f["file"]).name for f in answer["findings"]] == ["config.yaml", "gateway.yaml"]
    assert "the routing file is not checked" in said


@pytest.mark.parametrize("text", ["sources: []", "sources: {}", "a: [", "5"])
def test_a_file_without_sources(
    text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Also what is no YAML, or no mapping, is one error with something to do."""
    code, answer, _ = checked(capsys, tmp_path, gateway=text)
    (error,) = [f for f in answer["findings"] if f["severity"] == "error"]
    assert (code, bool(error["fix"])) == (1, True)


#: Content of a file of secrets, and what is said; None is a file that is not there.
SECRETS: Final[dict[str, tuple[str, list[bytes | None], list[tuple[str, str, str]]]]] = {
    "a token": ("bearer: {tokenFiles: FILES}", [CANARY.encode()], []),
    "an empty token": (
        "bearer: {tokenFiles: FILES}", [b"\n"],
        [("error", "bearer.tokenFiles[0]", "names a file that is empty")],
    ),
    "one of two is empty": (
        "basic: {user: u, passwordFiles: FILES}", [CANARY.encode(), b""],
        [("warning", "basic.passwordFiles[1]", "names a file that is empty")],
    ),
    "a key that is no base64": (
        "signature: {scheme: standard-webhooks, keyFiles: FILES}", [CANARY.encode()],
        [("error", "signature.keyFiles[0]", "holds a key that is empty or not base64")],
    ),
    "a key in base64": (
        "signature: {scheme: standard-webhooks, keyFiles: FILES}", [b"whsec_" + base64.b64encode(b"k")],
        [],
    ),
    "any key of GitHub": ("signature: {scheme: github, keyFiles: FILES}", [CANARY.encode()], []),
}  # fmt: skip


@pytest.mark.parametrize("case", SECRETS)
def test_secrets(case: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each file of a secret is read as the gateway reads it."""
    proof, contents, wanted = SECRETS[case]
    files = [str(tmp_path / f"secret-{n}") for n in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        Path(file).write_bytes(content or b"")
    _, answer, said = checked(
        capsys, tmp_path, gateway=GOOD.format(proof=proof.replace("FILES", str(files)))
    )
    found = [(f["severity"], f["path"], f["message"], f["line"]) for f in answer["findings"]]
    assert found == [(kind, f"sources[0].auth.{at}", text, 6) for kind, at, text in wanted]
    assert said == ""


def test_what_only_the_pod_has(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a laptop secrets and certificates are not checked, and it is said; in a pod they are missing."""
    text = "tls: {certFile: /nowhere/crt, keyFile: /nowhere/key}\n" + GOOD.format(
        proof="bearer: {tokenFiles: [/nowhere/token]}"
    )
    code, answer, _ = checked(capsys, tmp_path, gateway=text)
    assert (code, answer["findings"]) == (0, [])
    assert answer["not_looked_at"] == [
        f"{path} is not checked: its file does not exist here"
        for path in ("sources[0].auth.bearer.tokenFiles", "tls.certFile", "tls.keyFile")
    ]
    namespace = tmp_path / "namespace"
    namespace.write_text("here")
    monkeypatch.setattr("notifier.cli.files.NAMESPACE_FILE", namespace)
    code, answer, said = checked(capsys, tmp_path, gateway=text)
    assert (code, said) == (1, "")
    assert [(f["path"], f["line"]) for f in answer["findings"]] == [
        ("tls.certFile", 1), ("sources[0].auth.bearer.tokenFiles[0]", 7),
    ]  # fmt: skip


def test_what_a_signature_does_not_prove(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A proof that leaves something open is told of, where the source depends on that."""
    text = "sources:" + "".join(
        f"""
  - name: s{n}
    kind: {kind}
    namespace: alerts
    auth: {{signature: {{scheme: {scheme}, keyFiles: [/nowhere/{key}]{more}}}}}"""
        for n, (kind, scheme, key, more) in enumerate(
            (
                ("cloudevents", "standard-webhooks", "a", ""),
                ("grafana", "grafana", "b", ""),
                ("grafana", "grafana", "c", ", timestampHeader: x-time"),
                ("flux", "flux", "b", ""),
            )
        )
    )
    code, answer, _ = checked(capsys, tmp_path, gateway=text + "\n")
    assert code == 0
    assert [(f["severity"], f["path"], f["message"]) for f in answer["findings"]] == [
        ("warning", f"sources[{n}].auth.signature", message)
        for n, message in (
            (0, "covers no ce- headers, so only structured events are taken"),
            (1, "covers no timestamp, so an intended repeat never creates a new notification"),
            (3, "shares a key with sources[1]: what was sent to one can be sent to the other"),
        )
    ]
