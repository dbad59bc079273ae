"""The sanitiser: what is replaced, what is left alone, and that no text can slow it down."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.content.redaction import REDACTED, RULES, Rule
from notifier.content.sanitise import (
    BLOCK_CHARS,
    MAX_DEPTH,
    PIECE_CHARS,
    sanitise,
    sanitise_head,
    sanitise_tree,
    sanitised_pieces,
)
from tests.examples import examples

R = REDACTED
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"

UPSTREAM = {
    "a generator URL": ('{"generatorURL": "http://prom/x"}', f'{{"generatorURL":"{R}"}}'),
    "annotations in JSON": ('{"annotations": {"a": "b"}}', f'{{"annotations":{R}}}'),
    "a password in JSON": ('{"password":"oak31"}', f'{{"password":"{R}"}}'),
    "a password in JSON with a quote": (r'{"pwd": "a\"b"}', f'{{"pwd":"{R}"}}'),
    "a password at the start": ("password=oak31 and more", f"password: {R} and more"),
    "a password at the end": ("more and password=oak31", f"more and password: {R}"),
    "two passwords": (
        "password=oak31 twice password=oak31", f"password: {R} twice password: {R}",
    ),
    "a quoted password": ('password="b!rch$$9@"', f"password: {R}"),
    "a quoted password with blanks": ('password="two words" x', f"password: {R} x"),
    "the key keeps its case": ("PassWd: oak31", f"PassWd: {R}"),
    "a value ends at a comma": ("pwd: oak31, next", f"pwd: {R}, next"),
    "a password in a URL": ("https://svc:oak31@example.com", f"https://svc:{R}@example.com"),
    "a password with an at sign": ("https://a:o@k@example.com/x", f"https://a:{R}@example.com/x"),
    "an API key in JSON": ('{"apiKey":"q"}', f'{{"apiKey":"{R}"}}'),
    "an API key": ('API_KEY="oak31"', f"API_KEY: {R}"),
    "an OpenAI key": ("model key sk-proj-Zed900", f"model key {R}"),
    "a bearer token": ("bearer abc.def", f"Bearer {R}"),
    "a key of Jira Service Management": ("Authorization: GenieKey 0a-1b", f"Authorization: {R} {R}"),
    "a GitHub token": ("at ghp_" + "a1" * 18, f"at {R}"),
    "a text that is too short for a GitHub token": ("at ghp_" + "a" * 35, "at ghp_" + "a" * 35),
    "a token": ("access_token=ya29.oak31", f"access_token: {R}"),
    "a token in JSON": ('{"token" : "x"}', f'{{"token":"{R}"}}'),
    "a secret": ("client_secret: x1", f"client_secret: {R}"),
    "a secret in JSON": ('{"secret":"x"}', f'{{"secret":"{R}"}}'),
    "an authorization header": ("Authorization: oak31", f"Authorization: {R}"),
    "an AWS key id": ("AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", f"AWS_ACCESS_KEY_ID={R}"),
    "an AWS secret": (
        "aws_secret_key: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", f"aws_secret_key={R}",
    ),
    "a PostgreSQL URL": ("postgresql://u:oak31@db/x", f"postgresql://u:{R}@db/x"),
    "a MySQL URL": ("mysql://svc:oak31@db/orders", f"mysql://svc:{R}@db/orders"),
    "a MongoDB URL": ("mongodb+srv://s:oak31@db/x", f"mongodb+srv://s:{R}@db/x"),
    "a Redis URL without a user": ("redis://:oak31@db:6379/0", f"redis://:{R}@db:6379/0"),
    "a certificate": (
        "a\n-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\nb", f"a\n{R}\nb",
    ),
    "an RSA key": ("-----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY-----", R),
    "data of a Kubernetes Secret": (
        "data:\n    username: b3BlcmF0b3I=\n", f"data:\n  username: {R}\n",
    ),
    "a Secret's value whose eighth character is padding": (
        "data:\n  username: YWRtaW4=\n  key: YWRtaQ==\n",
        f"data:\n  username: {R}\n  key: {R}\n",
    ),
    "a Secret's value before a carriage return": (
        "data:\r\n  key: b3BlcmF0b3I=\r\n", f"data:\r\n  key: {R}\n",
    ),
    "a Secret's value without a blank before it": ("username:b3BlcmF0b3I=", f"  username: {R}"),
    "an e-mail address": ("mail jo.doe+x@mail.example.org now", f"mail {R} now"),
    "an IPv4 address": ("at 10.20.30.40:80", f"at {R}:80"),
}  # fmt: skip

ADDED = {
    "basic credentials": ("Authorization: Basic dXNlcjpwYXNz", f"Authorization: {R} {R}"),
    "JSON inside JSON": (r'{\"password\":\"hunter2\"}', rf'{{\"password\":\"{R}\"}}'),
    "a number as a password": ('{"pwd": 12345}', f'{{"pwd":"{R}"}}'),
    "a refresh token": ("refresh_token=abc", f"refresh_token: {R}"),
    "a variable named after a token": ("GITLAB_TOKEN=abc", f"GITLAB_TOKEN: {R}"),
    "a camel-case name": (
        '{"accessToken": "x", "dbPassword": "y"}',
        f'{{"accessToken":"{R}", "dbPassword":"{R}"}}',
    ),
    "an authorization in JSON": ('{"authorization":"abc"}', f'{{"authorization":"{R}"}}'),
    "a Slack token": ("xoxb-1-2-abc", R),
    "a Slack hook": (
        "see https://hooks.slack.com/services/T0/B0/xyz", f"see https://hooks.slack.com/{R}",
    ),
    "a Teams hook": ("https://x.webhook.office.com/webhookb2/a@b/c", f"https://x.webhook.office.com/{R}"),
    "a signature in a query": ("https://x.example/y?sig=abc&b=1", f"https://x.example/y?sig={R}&b=1"),
    "a web token": (f"got {JWT} here", f"got {R} here"),
    "a GitHub server token": ("ghs_" + "a" * 36, R),
    "a fine-grained GitHub token": ("github_pat_" + "a_" * 20, R),
    "a GitLab token": ("glpat-" + "a" * 20, R),
    "an AWS key id alone": ("key ASIAIOSFODNN7EXAMPLE.", f"key {R}."),
    "an AWS session token": ("aws_session_token=IQoJb3", f"aws_session_token={R}"),
    "a Google key": ("AIza" + "a" * 35, R),
    "an Azure account key": ("AccountKey=abcdefgh==;End", f"AccountKey={R};End"),
    "a webhook secret": ("whsec_abcdefghijkl", R),
    "an OpenSSH key": (
        "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----", R,
    ),
    "an encrypted key": (
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nx\n-----END ENCRYPTED PRIVATE KEY-----", R,
    ),
    "an RSA key with PEM headers": (
        "-----BEGIN RSA PRIVATE KEY-----\nDEK-Info: A,0A\n\nx\n-----END RSA PRIVATE KEY-----", R,
    ),
    "a PGP key": (
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQ==\n-----END PGP PRIVATE KEY BLOCK-----", R,
    ),
    "a key whose end is missing": ("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE", R),
    "a name without value before another": (
        "PASSWORD=\nDB_TOKEN: oak31\npwd:\n'secret': 'elm'\ntoken:\nBearer ash",
        f"PASSWORD=\nDB_TOKEN: {R}\npwd:\n'secret': '{R}'\ntoken:\nBearer {R}",
    ),
    "a dictionary as Python shows it": (
        "{'user': 'jo', 'db_password': 'oak\\'31', 'token': ''}",
        f"{{'user': 'jo', 'db_password': '{R}', 'token': '{R}'}}",
    ),
    "a name before an escaped one": (
        'pwd=\n\\"token\\":\\"oak31\\"', f'pwd=\n\\"token\\":\\"{R}\\"',
    ),
    "a name before an object": (
        'password= {"token": "oak31"} pwd={ "pwd": "elm"}',
        f'password= {{"token":"{R}"}} pwd={{ "pwd":"{R}"}}',
    ),
    "a bearer token by name": ("bearer token: oak31", f"bearer token: {R}"),
    "an authorization before a password": (
        "authorization:\nDEPLOY_TOKEN=oak31", f"authorization:\nDEPLOY_TOKEN: {R}",
    ),
    "an IPv6 address": ("at 2001:db8::8:800 now", f"at {R} now"),
}  # fmt: skip

WIDER = {
    "a value in escaped quotes": (
        r'{"msg":"level=error password=\"oak31\" x"}', rf'{{"msg":"level=error password: {R} x"}}',
    ),
    "a value in escaped quotes with blanks": (r'token=\"two words\" x', f"token: {R} x"),
    "a value in escaped quotes that was cut": (r'secret: \"oak31 el', f"secret: {R}"),
    "a value in quotes that were escaped twice": (r'password=\\\"oak31\\\" x', f"password: {R} x"),
    "the key that a framework signs with": ("SECRET_KEY_BASE=oak31", f"SECRET_KEY_BASE: {R}"),
    "a short name of a password": ("SMTP_PASS=oak31 DB_PASS: b!rch", f"SMTP_PASS: {R} DB_PASS: {R}"),
    "a pair in YAML": (
        "env:\n- name: DB_PASSWORD\n  value: oak31\n- name: LEVEL\n  value: info",
        f'env:\n- name: DB_PASSWORD\n  value: "{R}"\n- name: LEVEL\n  value: info',
    ),
    "a pair in YAML with a quoted value": (
        "- name: API_KEY\n  value: 'oak 31'", f'- name: API_KEY\n  value: "{R}"',
    ),
    "a pair in YAML with several words": (
        "- name: db-password\n  value: correct horse battery", f'- name: db-password\n  value: "{R}"',
    ),
    "a pair in JSON": (
        '[{"name":"DB_PASSWORD","value":"oak31"}]', f'[{{"name":"DB_PASSWORD","value":"{R}"}}]',
    ),
    "a pair in JSON on two lines": (
        '{\n  "name": "GITLAB_TOKEN",\n  "value": "oak\\"31"\n}',
        f'{{\n  "name": "GITLAB_TOKEN",\n  "value": "{R}"\n}}',
    ),
    "a flag": ("mysql --password oak31 -h db", f"mysql --password {R} -h db"),
    "a flag with a longer name": ("run --db-password 'oak 31'", f"run --db-password {R}"),
    "a flag for a token": ("oc login --token oak31", f"oc login --token {R}"),
    "a user of curl": ("curl -u admin:oak31 https://x.example", f"curl -u admin:{R} https://x.example"),
    "a user of curl behind others": (
        "curl -sS -X POST --user 'admin:oak31' https://x.example", f"curl -sS -X POST --user 'admin:{R}' https://x.example",
    ),
    "a user of curl's proxy": (
        "curl --proxy-user admin:oak31 https://x.example", f"curl --proxy-user admin:{R} https://x.example",
    ),
    "a cookie": ("Cookie: session=oak31; theme=dark", f"Cookie: {R}"),
    "a cookie that is set": ("Set-Cookie: id=oak31; Path=/\nok", f"Set-Cookie: {R}\nok"),
    "an element": ("<password>oak31</password>", f"<password>{R}</password>"),
    "an element with a prefix": (
        '<db:apiKey type="x">oak 31</db:apiKey>', f"<db:apiKey>{R}</db:apiKey>",
    ),
    "an element left open": ("<password>oak31", f"<password>{R}"),
    "an arrow": ("password => oak31", f"password: {R}"),
    "an arrow with quotes": ("'db_password' => 'oak 31', 'x'", f"db_password: {R}, 'x'"),
    "an assignment": ('token := "oak31"', f"token: {R}"),
    "credentials of a registry": (
        '{"auths":{"r.example":{"auth":"dXNlcjpvYWszMQ=="}}}',
        f'{{"auths":{{"r.example":{{"auth":"{R}"}}}}}}',
    ),
    "a registry's configuration": (
        ".dockerconfigjson: eyJhdXRocyI6e319", f".dockerconfigjson: {R}",
    ),
    "a line of npm": ("//r.example/:_auth=dXNlcjpvYWs=", f"//r.example/:_auth={R}"),
    "an encoded equals sign": ("next=%2Fx%3Fpassword%3Doak31%26b", f"next=%2Fx%3Fpassword%3D{R}%26b"),
    "an encoded colon": ("token%3Aoak31&b=1", f"token%3D{R}&b=1"),
    "a passphrase of several words": (
        "passphrase: correct horse battery\nok", f"passphrase: {R}\nok",
    ),
    "a connection string": (
        "Server=db;Password=two words;Encrypt=yes", f"Server=db;Password: {R}",
    ),
    "a blank that does not break": ("password\u00a0=\u00a0oak31 x", f"password: {R} x"),
    "letters of full width": ("ｐａｓｓｗｏｒｄ＝oak31", f"password: {R}"),  # noqa: RUF001 - the case
    "a letter that nobody sees": ("pass\u200bword: oak31 \u2060x", f"password: {R} x"),
    "a soft hyphen": ("to\u00adken=oak31", f"token: {R}"),
    "quotation marks of prose": ("password=“two words” x", f"password: {R} x"),
    "JSON that is cut off": ('{"a":1,"password":"oak31', f'{{"a":1,"password":"{R}"'),
    "JSON that is cut off in an escape": ('{"token":"oak\\', f'{{"token":"{R}"'),
}  # fmt: skip

REPLACED: dict[str, tuple[str, str]] = {**UPSTREAM, **ADDED, **WIDER}

#: Secrets of the forms below, none of which may be left of one.
_W, _B64, _HEX = "oak31elmASH", "b2FrMzFlbG0=", "a1b2c3d4" * 8
_HOOK, _CHAT = "a1b2" * 6, "Zq9" * 10
_URL, _KEY = "Zx9_" * 12, "R0" + "1a2B" * 7 + "zz"
#: Forms that were tried by hand and passed the sanitiser.
TRIED = {
    "a block of YAML": f"password: |-\n  {_W}\nnext: 1",
    "a folded block": f"db:\n  token: >\n    {_W}\n    {_W}\n  x: 1",
    "a block in an entry of a list": f"- password: |\n    {_W}\n- a",
    "a block that keeps its line feeds": f"apiKey: |+\n\n   {_W}\n",
    "a block that states how far in it is": f"client_secret: |2-\n   {_W}\n",
    "a block under a quoted name": f'"secret": |\n  {_W}\n',
    "a block that holds a key file": f"tls.key: |\n  {_W}\n  {_W}\nb: 1",
    "a block at the end": f"passphrase: >-\n\t{_W}",
    "a block under a name in camel case": f"appSecret: |\n  {_W}",
    "SecretAccessKey": f"SecretAccessKey: {_W}",
    "SecretAccessKey json": f'{{"SecretAccessKey": "{_W}"}}',
    "SecretAccessKey =": f"SecretAccessKey={_W}",
    "SessionToken json": f'"SessionToken": "{_W}"',
    "client-key-data": f"client-key-data: {_B64}",
    "client-key-data json": f'"client-key-data":"{_B64}"',
    "tls.key": f"tls.key: {_B64}",
    "tls.key json": f'"tls.key": "{_B64}"',
    "ca.key": f"ca.key={_B64}",
    "ssh": f"ssh-privatekey: {_B64}",
    "Secret yaml": (
        f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\ndata:\n  url: {_B64}\n  b: {_B64}\n"
    ),
    "Secret yaml data first": (
        f"apiVersion: v1\ndata:\n  url: {_B64}\nkind: Secret\nmetadata:\n  name: db\n"
    ),
    "Secret stringData": f"kind: Secret\nstringData:\n  url: {_W}\n",
    "Secret json": f'{{"kind":"Secret","metadata":{{"name":"a"}},"data":{{"url":"{_B64}"}}}}',
    "Secret json first": f'{{"apiVersion":"v1","data":{{"url":"{_B64}"}},"kind":"Secret"}}',
    "Secret json pretty": (
        f'{{\n  "apiVersion": "v1",\n  "data": {{\n    "url": "{_B64}"\n  }},\n  "kind": "Secret"\n}}'
    ),
    "appSecret": f"appSecret: {_W}",
    "appSecret json": f'{{"appSecret":"{_W}"}}',
    "githubToken": f"githubToken={_W}",
    "githubToken quoted": f"githubToken = '{_W}'",
    "botToken": f'"botToken": "{_W}"',
    "stripeApiKey": f"stripeApiKey: {_W}",
    "webhookSecret yaml": f'  webhookSecret: "{_W}"',
    "signingKey": f"jwtSigningKey: {_W}",
    "amqp": f"amqp://:{_W}@mq.example:5672/x",
    "docker -p": f"docker login -u me -p{_W} r.example",
    "docker -p space": f"docker login -u me -p {_W} r.example",
    "podman": f"podman login -p '{_W}' r.example",
    "mysql": f"mysql -h db -uroot -p{_W} shop",
    "mysqldump": f"mysqldump -uroot -p'{_W}' shop",
    "sshpass": f"sshpass -p{_W} ssh me@h",
    "sshpass space": f"sshpass -p {_W} ssh h",
    "bytes": f"password=b'{_W}'",
    "bytes dict": f"{{'password': b'{_W}'}}",
    "bytes double": f'token=b"{_W}"',
    "list json": f'{{"password": ["{_W}"]}}',
    "list py": f"{{'token': ['{_W}', '{_W}']}}",
    "list plain": f'secret = ["{_W}"]',
    "tuple": f"password=('{_W}',)",
    "raw": f"password=r'{_W}'",
    "genie": f"Authorization: GenieKey {_W}",
    "negotiate": f"Authorization: Negotiate {_W}",
    "splunk": f"Authorization: Splunk {_W}",
    "discord bot": f"Authorization: Bot {_W}",
    "aws4": (
        "Authorization: AWS4-HMAC-SHA256 Credential=x/20260101/us/s3/aws4_request, "
        f"SignedHeaders=host, Signature={_HEX}"
    ),
    "aws4 alone": f"SignedHeaders=host;x, Signature={_HEX}",
    "mattermost": f"https://mm.example/hooks/{_HOOK}zz",
    "rocket": f"https://chat.example/hooks/{'aB1' * 6}/{_CHAT}",
    "jwk": f'{{"kty":"EC","crv":"P-256","d":"{_URL}"}}',
    "jwk oct": f'{{"kty":"oct","k":"{_URL}"}}',
    "pd": f"invalid routing key {_KEY}",
    "pd is": f"The routing key '{_KEY}' is not valid",
    "pd integration": f"Integration Key: {_KEY}",
}  # fmt: skip

UNTOUCHED = {
    **{
        f"a name with {seen!a} in it is another one": f"pw{seen}d=canary"
        for seen in ("\u0301", "\ufe10", "\U000e01f0", "-", "x")
    },
    "a pass that is none": "first_pass: 3 findings, second_pass=0",
    "an ordinary setting": "environment: production",
    "a URL": "https://example.com/api/v1",
    "an image with a version": "rollout stuck, image reg.example.com/app:v1.2.3 not found",
    "a word that holds sk-": "disk-pressure on a node, task-force",
    "a word with token in it": "tokenizer failed, 512 tokens",
    "a count of tokens": "max_tokens=512, prompt_tokens: 7",
    "a reference to a Secret": "secretKeyRef missing, secretName: tls-cert",
    "a time": "at 12:34:56, since 2026-01-02T03:04:05Z",
    "a key of prose": "key: important message for you",
    "a C++ name": "std::vector<int> overflow",
    "a MAC address": "de:ad:be:ef:00:01",
    "a JSON of harmless members": '{"name":"x","count":3}',
    "a GUID": "a1b2c3d4-e5f6-7890-abcd-ef1234567890",
    "a public key": "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----",
    "a short e-mail look-alike": "look @ this, a@b",
    "prose about a flag": (
        "the flag --token is deprecated, --password must be set, use --secret-key or -auth"
    ),
    "a flag at the end": "run it with --password",
    "a flag before another": "login --password --verbose",
    "a user of a container": "docker run -u 1000:1000 app",
    "a name in a pair": "- name: LOG_LEVEL\n  value: debug\n- name: MAX_TOKENS\n  value: 512",
    "a reference in a pair": (
        "- name: DB_PASSWORD\n  valueFrom:\n    secretKeyRef:\n      name: db\n      key: pg"
    ),
    "a pair in JSON of no secret": '{"name":"replicas","value":"3"}',
    "prose about cookies": "cookie: the browser blocked it; Cookie banner is missing",
    "an element of no secret": "<status>token missing</status> <b>password</b>",
    "an arrow in prose": "the token -> expired; key => value; state := Running",
    "a comparison": "replicas == 3, a => b, x <= y",
    "an authentication that failed": '{"auth":"failed","retry":true}',
    "an encoded URL": "https://x.example/?next=%2Fa%3Fb%3Dc%26d%3De",
    "a text in another script": "Развёртывание застряло на шаге 4, 部署卡住了, نص عربي \u200fRTL",
    "a family of emoji": "ok 👨\u200d👩\u200d👧 and ⚠️ done",
    "a text with typographic blanks": "10\u00a0% of 5\u202f000 pods “failed”",
    "letters of full width that tell nothing": "ＡＢＣ１２３、ﾃｽﾄ",  # noqa: RUF001 - as above
    "a log line": (
        '2026-01-02T03:04:05.678Z WARN pod/web-7d4b9c-x2x1p OOMKilled exit=137 restarts=4 node="n-3"'
    ),
    "a traceback": (
        'Traceback (most recent call last):\n  File "/app/main.py", line 12, in <module>\n'
        "ValueError: invalid literal for int() with base 10: 'x'"
    ),
    "an alert": (
        "[FIRING:2] KubePodCrashLooping (prod-payments) severity=critical\n"
        "Labels:\n - alertname = KubePodCrashLooping\n - container = api\n"
        "Annotations:\n - summary = Pod is crash looping\nSource: https://prom.example/graph?g0.expr=up%3D%3D0"
    ),
    "a report": (
        "# Rollout stuck\n\n**Root cause:** the secret `tls-cert` is missing in *prod*.\n\n"
        "| step | result |\n|---|---|\n| token refresh | ok |\n\n"
        "```\nkubectl -n prod get secret tls-cert\n```\n"
        "Author asked for a password reset. Next: key rotation => done on Monday."
    ),
    "a data block of no Secret": "kind: ConfigMap\ndata:\n  environment: production\n  url: aHR0cHM6\n",
    "a Secret that is only named": (
        "kind: Secret\nmetadata:\n  name: db\n---\nkind: ConfigMap\ndata:\n  environment: production\n"
    ),
    "a word of code in camel case": "isSecret: true, hasToken=false, maxToken: 512, pageTokens=3",
    "an error code": "ExpiredToken: The security token included in the request is expired",
    "a port and a prompt": "docker run -p 8080:80 app; mysql -h db -p shop; psql -p5432",
    "a block of prose": "summary: |\n  the secret was rotated\n  by hand",
    "a list of names": "tokens = [1, 2], keys: ['a'], secrets: none",
    "a hook that is a page": "https://x.example/hooks/usage, /hooks/pre-commit",
    "prose about a routing key": "set the routing key in the integration, then retry",
    "short members of JSON": '{"d": "day", "k": "v", "p": "0.95", "q": "up == 0"}',
    "prose about a signature": "Signature=valid, Signature: checked",
    "a URL without a user": "amqp://mq.example:5672/x and ://:",
    "a manifest": (
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\ntype: Opaque\n---\nspec:\n  containers:\n"
        "  - name: app\n    image: reg.example/app:v1\n    args: [--config, /etc/app.yaml]"
    ),
}


@pytest.mark.parametrize("case", REPLACED)
def test_replaced(case: str) -> None:
    """A secret is replaced exactly, and a second pass changes nothing."""
    text, wanted = REPLACED[case]
    assert sanitise(text) == wanted
    assert sanitise(wanted) == wanted


@pytest.mark.parametrize("case", TRIED)
def test_a_form_that_once_passed_is_found(case: str) -> None:
    """Nothing of the secret is left, and a second pass changes nothing."""
    found = sanitise(TRIED[case])
    assert [s for s in (_W, _B64, _HEX, _HOOK, _CHAT, _URL, _KEY) if s in found] == []
    assert REDACTED in found
    assert sanitise(found) == found


@pytest.mark.parametrize("case", UNTOUCHED)
def test_untouched(case: str) -> None:
    """What only looks like a secret is left alone."""
    assert sanitise(UNTOUCHED[case]) == UNTOUCHED[case]


def test_only_clean_texts_are_remembered() -> None:
    """What is kept to be told at once next time is bounded, and none of it ever held a secret."""
    module = sys.modules[sanitise.__module__]
    for text, _ in REPLACED.values():
        sanitise(text)
    for n in range(5_000):
        sanitise(f"plain words {n}")
    kept: set[str] = module._CLEAN
    assert 1 < len(kept) <= 4_096, "one does not drive out another"
    assert not kept.intersection(text for text, wanted in REPLACED.values() if wanted != text)
    assert max(map(len, kept)) <= 64


def test_name_before_a_private_key() -> None:
    """The head of a key is not taken for the value of a name, which would leave the key."""
    key = "-----BEGIN RSA PRIVATE KEY-----\noak31\n-----END RSA PRIVATE KEY-----"
    assert sanitise(f"secret:\n{key}\nend") == f"secret:\n{R}\nend"


def test_no_rule_is_idle() -> None:
    """Each rule changes at least one of the samples, so none is dead weight."""
    samples = [
        *(text for text, _ in REPLACED.values()),
        *TRIED.values(),
        "bot123456789:" + "a" * 35,
        "https://x.example/api/webhooks/12/abc",
        "https://abcdefghijklmnopqrst@sentry.example/1",
        "ya29.abcdefgh",
        "abc8Q~" + "d" * 31,
        "sk_live_abcdefghij",
        "SG." + "a" * 16 + "." + "b" * 16,
        "hvs." + "a" * 24,
        "npm_" + "a" * 36,
        "pypi-" + "a" * 40,
        "dop_v1_" + "a" * 64,
        "hf_" + "a" * 34,
        "AGE-SECRET-KEY-" + "1A" * 20,
        '{"refresh_token":"x"}',
    ]
    idle = [r.name for r in RULES if not any(r.pattern.search(s) for s in samples)]
    assert idle == []


def test_needles_are_lower_case() -> None:
    """A needle is looked for in the lowered text, so it must be lower case itself."""
    assert [n for r in RULES for n in r.needles if n != n.lower()] == []


@examples(200)
@given(st.sampled_from([text for text, _ in REPLACED.values()]), st.text(max_size=20))
def test_needles_never_hide_a_match(secret: str, around: str) -> None:
    """Skipping rules by their needles gives the same result as trying them all."""
    text = f"{around} {secret} {around}"
    by_all = text
    for rule in RULES:
        by_all = rule.pattern.sub(rule.replacement, by_all)
    assert sys.modules[sanitise.__module__]._replaced(text) == by_all


# -- cost -----------------------------------------------------------------------------------------

UNITS = [
    "a_", "a_token", "a_token ", '"a_token', "a", "-", "eyJ-", "--a-", "-auth ",
    "pwd=a ", 'pwd="', "pwd='", '"password":"', '"annotations":{', "://a:", "://a:b@",
    "a@", "a@a.", "1.", "-----BEGIN PRIVATE KEY-----", "-----BEGIN CERTIFICATE-----\n-",
    "eyJaaaaa.", "sk-aaaa ", "bearer ", "token: ", "authorization: basic ", '\\"token\\":\\"',
    '"token":"\\', "\n key:", "a:", "aa::", "?sig=", "postgres://a:", "AccountKey=", "é",
    "-----BEGIN A B C PRIVATE KEY-----", "\ud800", "postgres://a:b@", "a\u0345\u0300", "\ufdfa",
    "\uff50", "\u200b", "curl ", "<password ", "name: token\nvalue:", "password%3D", "passphrase:",
]  # fmt: skip
#: What ordinary text costs is the measure; what is quadratic is a thousand times as much.
ORDINARY = "The rollout of app is stuck at step 4, image reg.example.com/app:v1.2 not found.\n"
#: Rules that all work cost this much more than ones that find nothing to do.
TIMES_ORDINARY = 40.0


def _cpu(text: str) -> float:
    """Seconds of CPU per KiB."""
    began = time.process_time()
    sanitise(text)
    return (time.process_time() - began) / (len(text) / 1024)


def _of(unit: str, size: int) -> str:
    return (unit * (size // len(unit) + 1))[:size]


def _bound() -> float:
    """Seconds of CPU that a KiB of any text may take here and now."""
    return TIMES_ORDINARY * max(_cpu(_of(ORDINARY, 1 << 14)) for _ in range(3))


@pytest.mark.parametrize("unit", UNITS)
def test_adversarial_text_takes_linear_time(unit: str) -> None:
    """A text of many pieces that provokes backtracking costs per KiB a multiple of ordinary text."""
    assert _cpu(_of(unit, 1 << 16)) < _bound()


def _units_of(pattern: str, needle: str) -> set[str]:
    """Texts to repeat: words of a pattern, and what its classes hold, alone and behind its needle."""
    words = re.findall(r"[\w:/@\"'=<>.-]+", re.sub(r"\\(?:[a-zA-Z]|(.))", r"\1", pattern))
    parts = {*words, *(word[-1] for word in words), *"aA1 _-.,:;=+/@%&?\"'\\\n"}
    return parts | {f"{needle}{part}" for part in parts} | {needle}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_part_of_every_rule_repeated(rule: Rule) -> None:
    """
    Whatever of a rule is repeated, one piece of it costs no more than a multiple of ordinary text.

    A piece, since that is all that a rule ever sees; of a size to which quadratic time would be 64 times as
    much as allowed. The most costly one is tried as a long text, too.
    """
    pattern = rule.pattern
    source = str(pattern.pattern)
    bound = _bound()
    costs: dict[str, float] = {}
    for unit in sorted({u for n in rule.needles for u in _units_of(source, n)}):
        text = f"{rule.needles[0]} {_of(unit, BLOCK_CHARS)}"
        began = time.process_time()
        pattern.sub(rule.replacement, text)
        costs[unit] = (time.process_time() - began) / (len(text) / 1024)
    worst = max(costs, key=lambda unit: costs[unit])
    assert costs[worst] < bound, worst
    assert _cpu(_of(worst, 1 << 16)) < bound, worst


def test_long_text_is_cleaned_as_a_whole() -> None:
    """Cutting a text into pieces parts no secret, wherever it stands; here into those of a head."""
    module = sys.modules[sanitise.__module__]
    size = module._LEAST_PIECE
    for case, (text, wanted) in REPLACED.items():
        for filler in ("words of prose. ", '"a":"b",', "x"):
            for shift in (0, len(text) // 2, len(text) - 1):
                before = _of(filler, size - shift - 1)
                whole = f"{before}\n{text}\n{_of(filler, size)}"
                found = "".join(sanitised_pieces(whole, size))
                # As a whole it takes as long again: only where that may excuse what was found.
                assert wanted in found or found == module._replaced(whole), (case, filler, shift)


def test_pieces_end_with_their_lines() -> None:
    """A long text is cleaned line by line as far as lines go, in pieces of a bounded size."""
    text = "a line of words that is of no interest to any rule\n" * 2_000
    pieces = list(sanitised_pieces(text))
    assert "".join(pieces) == text
    assert len(pieces) > 10
    assert all(piece.endswith("\n") for piece in pieces)
    assert max(map(len, pieces)) <= PIECE_CHARS
    assert len(list(sanitised_pieces(text[:PIECE_CHARS]))) == 1
    assert len(list(sanitised_pieces(text[: PIECE_CHARS + 1]))) == 2


def test_a_block_is_a_piece_of_its_own() -> None:
    """What one rule takes as a whole is not parted, and what follows it is cleaned in pieces again."""
    lines = "a line of words that is of no interest to any rule\n" * 400
    key = (
        "-----BEGIN PRIVATE KEY-----\n"
        + "abcdefghijklmnopqrstuvwxyz012345\n" * 400
        + "-----END PRIVATE KEY-----\n"
    )
    pieces = list(sanitised_pieces(lines + key + lines))
    (block,) = [piece for piece in pieces if R in piece]
    assert block.startswith(R), "it begins with the block"
    assert len(block) < len(R) + 64, "and ends soon behind it"
    assert "".join(pieces) == f"{lines}{R}\n{lines}"
    assert sanitise(key + lines) == f"{R}\n{lines}", "at the beginning of a text, too"
    assert max(map(len, pieces)) <= PIECE_CHARS


def test_a_block_without_an_end_is_parted() -> None:
    """What never ends is no block: it is cleaned in pieces of the usual size."""
    text = "-----BEGIN PRIVATE KEY-----\n" + "a line of words\n" * (3 * BLOCK_CHARS // 16)
    pieces = list(sanitised_pieces(text))
    assert len(pieces) >= len(text) // PIECE_CHARS


#: What rules of exact case take, and the same in letters of the other case, which is something else.
EXACT = {
    "openai-key": ("sk-proj-Zed900", "SK-PROJ-ZED900"),
    "github-token": ("ghp_" + "a1" * 18, "GHP_" + "a1" * 18),
    "aws-key-id": ("AKIAIOSFODNN7EXAMPLE", "akiaiosfodnn7example"),
    "google-key": ("AIza" + "x" * 35, "aiza" + "x" * 35),
    "sendgrid": (f"SG.{'x' * 16}.{'y' * 16}", f"sg.{'x' * 16}.{'y' * 16}"),
}


def test_rules_that_look_around_take_any_case() -> None:
    """Unless a rule is of exact case it takes letters of both, and letters are those of ASCII."""
    looking = [rule.pattern for rule in RULES if isinstance(rule.pattern, re.Pattern)]
    assert any(pattern.flags & re.IGNORECASE for pattern in looking)
    assert all(pattern.flags & re.ASCII for pattern in looking)


@pytest.mark.parametrize("rule", EXACT)
def test_exact_case(rule: str) -> None:
    """A form that is told by its letters' case is a secret in that case alone."""
    secret, other = EXACT[rule]
    assert sanitise(f"at {secret} here") == f"at {R} here"
    assert sanitise(f"at {other} here") == f"at {other} here"


def test_head_of_a_long_text() -> None:
    """Only as much is cleaned as is asked for, and what is shown of it is what the whole would show."""
    text = f"{'words ' * 400}password=oak31 " * 400
    head = sanitise_head(text, 3000)
    assert 3000 <= len(head) <= 3000 + 2 * BLOCK_CHARS
    assert sanitise(text).startswith(head)
    assert sanitise_head("pwd=a", 3) == f"pwd: {R}"


@examples(300)
@given(st.text(alphabet=st.characters(), max_size=400))
def test_any_text(text: str) -> None:
    """Any text comes back as text that UTF-8 takes, NUL and lone surrogates included."""
    sanitise(text).encode()
    sanitise(text + "\ud800\0").encode()


_fragments = st.sampled_from([
    "password", "=", ":", '"', "'", " ", "\n", "token", "\\", "@", "://", "a", "1.", ".", "{", "}",
    "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "Bearer ", "sk-", "eyJ", R,
])  # fmt: skip


@examples(300)
@given(st.lists(_fragments, max_size=40))
def test_any_mixture_of_fragments(parts: list[str]) -> None:
    """Whatever the rules' own words are combined to, the result is bounded."""
    text = "".join(parts)
    assert len(sanitise(text)) <= 4 * len(text) + 32


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


@examples(150)
@given(JSON)
def test_any_tree(value: Any) -> None:
    """Any JSON value comes back with its shape."""
    result = sanitise_tree(value)
    assert type(result) is type(value)


def test_tree_by_name() -> None:
    """A text is secret by the name of its member, whatever it looks like."""
    tree = {
        "extensions": {
            "apiKey": "x",
            "note": "pwd=a",
            "appSecret": "x",
            "tls.key": "x",
            "maxtoken": "x",
        },
        "pwd": 7,
        "token": "",
        "secret": True,
    }
    assert sanitise_tree(tree) == {
        "extensions": {
            "apiKey": R,
            "note": f"pwd: {R}",
            "appSecret": R,
            "tls.key": R,
            "maxtoken": "x",
        },
        "pwd": R,
        "token": "",
        "secret": True,
    }


def test_tree_is_left_unchanged() -> None:
    """The tree given is not written to."""
    tree = {"a": ["pwd=x", {"b": "pwd=y"}]}
    sanitise_tree(tree)
    assert tree == {"a": ["pwd=x", {"b": "pwd=y"}]}


def test_deep_tree_is_cut() -> None:
    """A tree deeper than any real object is cut instead of ending the process."""
    tree: Any = "pwd=x"
    for _ in range(5000):
        tree = {"a": [tree]}
    shown = repr(sanitise_tree(tree))
    assert shown.count("{") == MAX_DEPTH // 2
    assert R in shown


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"a": value}])
def test_depth_of_a_tree(wrap: Callable[[Any], Any]) -> None:
    """As many levels as are asked for are kept, of lists as of objects; what lies deeper goes whole."""
    assert sanitise_tree(wrap(wrap("x")), depth=2) == wrap(wrap("x"))
    assert sanitise_tree(wrap(wrap("x")), depth=1) == wrap(R)
    assert sanitise_tree(wrap("x"), depth=0) == R


NOBODY_SEES = {
    "a zero-width space": "\u200b",
    "a soft hyphen": "\u00ad",
    "a combining joiner": "\u034f",
    "a selector of variants": "\ufe0f",
    "the last of these selectors": "\U000e01ef",
    "the first of the further selectors": "\U000e0100",
    "a Mongolian selector": "\u180b",
    "the first of the selectors of variants": "\ufe00",
    "a joiner": "\u200d",
    "a filler": "\u3164",
}


@pytest.mark.parametrize("case", NOBODY_SEES)
def test_characters_that_nobody_sees_hide_no_secret(case: str) -> None:
    """A name with one inside is the same name to a reader, and to the rules."""
    character = NOBODY_SEES[case]
    assert "canary" not in sanitise(f"pass{character}word=canary")


def test_head_is_as_long_as_it_is_asked_for() -> None:
    """However much a rule takes away, so many characters are shown if there are as many."""
    text = "".join(f"password={'x' * (n % 90)}1\n" for n in range(200))
    whole = sanitise(text)
    for chars in range(600, 900):
        found = sanitise_head(text, chars)
        assert len(found) >= chars
        assert whole.startswith(found)


def test_letters_of_another_width_stay_beside_a_secret() -> None:
    """Only where a rule knows nothing but the plain spelling is that one shown."""
    wide = {letter: chr(ord(letter) - 0x20 + 0xFF00) for letter in "wordpas"}
    word, password = ("".join(map(wide.__getitem__, text)) for text in ("word", "password"))
    assert sanitise(f"{word} password=hunter2-oak") == f"{word} {sanitise('password=hunter2-oak')}"
    assert "hunter2" not in sanitise(f"{password}=hunter2-oak")


def test_no_piece_ends_before_the_value_of_a_secret() -> None:
    """The only end of a line is no place to cut where it parts a name from its value."""
    secret = "password:\nhunter2-oak-31 "
    assert "hunter2" not in sanitise(secret)
    text = "word " * 1_200 + secret + "word " * 2_000
    assert "hunter2" not in sanitise(text)
    assert len(list(sanitised_pieces(text))) > 1


def test_each_kind_of_block_is_looked_for() -> None:
    """A block of one kind that is whole does not hide that one of another kind is open."""
    whole = "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n"
    opened = '"annotations": {' + '"a.example/note": "a line of words", ' * 200
    text = "word " * 1_100 + whole + opened + "}" + " word" * 3_000
    ends = [len(piece) for piece in sanitised_pieces(text)]
    begun = sanitise(text).index('"annotations"')
    assert begun in [sum(ends[:n]) for n in range(len(ends))], "the block begins a piece"
