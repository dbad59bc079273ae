r"""
What counts as a secret in a text: one ordered table of rules, and the names of secret members.

`UPSTREAM` repeats the replaced controller's rules with its exact replacements; their order affects the
result (`token: ghp_...` is matched twice). Two of them are narrower than the original so that plain prose
survives: an OpenAI key must begin a word (`disk-pressure` contains `sk-`), and a line of a Kubernetes
Secret must end after its value. Quoted values are wider: they may contain blanks. `ADDED` finds secrets
that these rules miss. `BEFORE` and `WIDER` find more: pairs of a name and a value, flags of a command line,
cookies, elements, other spellings of `=`.

Rules use RE2, which cannot backtrack. A rule that needs look-around uses the standard library's engine:
then a repetition cannot run past the start of the next match, or a look-behind lets it start only where a
run starts, and possessive quantifiers (`++`) prevent backtracking. No group is possessive; instead, groups
are atomic around a plain repetition. Python 3.11.2 (Debian 12) loses its position where a possessive group
fails half-way, and misses secrets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import re2

REDACTED: Final = "[REDACTED]"


@dataclass(frozen=True, slots=True)
class Rule:
    """
    One replacement.

    Attributes:
        name: For tests and documentation.
        needles: Lower-case texts; the pattern can match only where one of them occurs.
        pattern: The pattern; RE2's patterns have the members of the standard library's that are used.
        replacement: Template of the replacement.
    """

    name: str
    needles: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str


def _rule(
    name: str,
    needles: str,
    pattern: str,
    replacement: str = REDACTED,
    *,
    exact_case: bool = False,
) -> Rule:
    """A rule for RE2."""
    options = re2.Options()
    options.case_sensitive = exact_case
    # Otherwise the library prints errors in a pattern to standard error.
    options.log_errors = False
    return Rule(name, tuple(needles.split()), re2.compile(pattern, options), replacement)


def _looking(
    name: str,
    needles: str,
    pattern: str,
    replacement: str = REDACTED,
    *,
    exact_case: bool = False,
) -> Rule:
    """A rule with look-around, which RE2 lacks, for the standard library's engine."""
    flags = re.ASCII if exact_case else re.ASCII | re.IGNORECASE
    return Rule(name, tuple(needles.split()), re.compile(pattern, flags), replacement)


#: The rest of a JSON member after its name; a string that was cut off ends with the text.
_JSON: Final = r'"\s*:\s*"(?:[^"\\]|\\.)*(?:"|\\?\z)'
_PLAIN_MARK: Final = rf"\1: {REDACTED}"
_JSON_MARK: Final = rf'"\1":"{REDACTED}"'
#: Up to the next run of five dashes; PEM headers contain single ones.
_PEM_BODY: Final = r"[^-]*+(?>(?:-(?!----)[^-]*+)*)"

_PASSWORD: Final = "password|passwd|pwd"  # noqa: S105 - names of members, not secrets
_API_KEY: Final = "api[_-]?key"
_TOKEN: Final = "token|access[_-]token"  # noqa: S105 - names of members, not secrets
_SECRET: Final = "client_secret|secret"  # noqa: S105 - names of members, not secrets
_OTHER_KEYS: Final = (
    "(?:refresh|id|auth|session|bot|security|access|sas)[_-]?token|client[_-]?secret|"
    "(?:secret|private|account|signing|encryption|access)[_-]?key|passphrase|routing_key|service_key"
)
#: Longer names that end in such a name: `GITLAB_TOKEN`, `dbPassword`.
_ENDS: Final = (
    r"[\w.-]*[_.-](?:token|secret|api_?key|secret_key|private_key|access_key|passphrase|credentials)"
    r"|[\w.-]+(?:password|passwd)"
)

_NAME: Final = (
    rf"(?:[\w.-]{{0,40}}[_.-])?(?:{_PASSWORD}|{_API_KEY}|{_TOKEN}|{_SECRET}|{_OTHER_KEYS}|"
    r"authorization|credentials|\w{1,40}(?:password|passwd))"
)
#: Like `_NAME`, for RE2 rules that match it as a whole word.
_FULL_NAME: Final = (
    rf"(?:[\w.-]{{0,40}}[_.-])?(?:{_PASSWORD}|{_API_KEY}|{_TOKEN}|{_SECRET}|{_OTHER_KEYS}|passcode|"
    r"credentials?|\w{1,40}(?:password|passwd|secret|token))"
)
#: Names of options on a command line.
FLAG: Final = (
    "password|passwd|pass|token|secret|passphrase|api-?key|(?:access|secret|private|account)-key|"
    "auth|credentials?"
)
#: Words that follow a flag in prose, where it has no value.
_PROSE: Final = (
    r"(?:is|are|was|were|has|have|had|to|and|or|the|a|an|for|from|with|without|in|into|of|on|by|if|as|at|not|no|"
    r"must|may|can|cannot|should|will|would|needs?|takes?|requires?|expects?|flag|flags|option|options|"
    r"argument|parameter|which|that|when|where|instead|set|given|missing|deprecated|required|unset|"
    r"failed|via|than|then|only|file)\b"
)
#: The start of another secret, or of a container, is never taken for the value of the name before it: given
#: `password:` and, on the next line, `token: x`, only `token:` would be replaced, and `x` would remain.
_NEXT_NAME: Final = rf"""(?:"{_NAME}"|'{_NAME}'|\\"{_NAME}\\"|{_NAME})\s*+[:=]"""
_NEXT_SECRET: Final = rf"(?:{_NEXT_NAME}|(?:bearer|basic|digest)\s|-----BEGIN)"
_GAP: Final = rf"""(?>(?:\s++(?!{_NEXT_SECRET}))?)(?![{{\[]\s*+["'{{\[])"""
#: A value in escaped quotes, as in a log line inside JSON.
_ESCAPED_QUOTES: Final = r"""\\++"(?>(?:[^"\\\n]|\\++[^"\\\n])*)(?:\\++"|\Z)"""
#: A value after `:` or `=`: quoted, or up to a blank, quote, comma or brace.
_QUOTED_OR_BARE: Final = (
    r"""(?:[bru]{0,2}"[^"\n]*+"|[bru]{0,2}'[^'\n]*+'|"""
    rf"""{_ESCAPED_QUOTES}|["']?[^\s"',}}]++["']?)"""
)
_VALUE: Final = rf"\s*+[:=]{_GAP}{_QUOTED_OR_BARE}"
#: The same for later rules: they leave the replacements of earlier rules as they are.
_NEW_VALUE: Final = rf"\s*+[:=]{_GAP}(?!\[REDACTED\]){_QUOTED_OR_BARE}"

#: Names in camel case, a few of which the names above cover too; their case distinguishes them from prose.
_CAMEL: Final = (
    r"[a-z][A-Za-z0-9]{0,40}(?:Secret|Token|[Aa]pi[Kk]ey|APIKey|(?:Access|Secret|Private|Signing|Encryption)Key|"
    r"Passphrase|Credentials?)|SecretAccessKey|SecretKey|SessionToken|ClientSecret"
)
#: Names of members that contain key files.
_KEY_FILE: Final = (
    r"client-key-data|ssh-privatekey|(?:[\w-]{1,40}\.)?key\.pem|(?:tls|ca|server|client)\.key"
)
_OF_KIND: Final = r"""["']?kind["']?:[ \t]*["']?Secret\b"""
_DATA: Final = r"[ \t]*(?:data|stringData):[ \t]*\n"
_LINES: Final = r"(?:[ \t]+[^\n]*(?:\n|\z))+"
_DATA_OBJECT: Final = r"""("(?:data|stringData)"\s*:\s*)\{[^{}]*\}"""

_GENERATOR_URL: Final = _rule(
    "generator-url", "generatorurl", '"generatorURL' + _JSON, f'"generatorURL":"{REDACTED}"'
)
_ANNOTATIONS: Final = _rule(
    "annotations-json",
    '"annotations"',
    r'"annotations"\s*:\s*\{[^{}]*\}',
    f'"annotations":{REDACTED}',
)


def _database(name: str, scheme: str, needle: str) -> Rule:
    return _rule(
        name,
        needle,
        rf"({scheme}://[^:/\s@]*):[^\s/]*[^\s/@]@",
        rf"\1:{REDACTED}@",
    )


UPSTREAM: Final = (
    _GENERATOR_URL,
    _ANNOTATIONS,
    _rule("password-json", "passw pwd", f'"({_PASSWORD})' + _JSON, _JSON_MARK),
    _looking("password-plain", "passw pwd", f"({_PASSWORD})" + _VALUE, _PLAIN_MARK),
    _looking(
        "password-url",
        "://",
        r"(://[^:/\s@]++):[^\s/@]++(?:@[^\s/@]++)*?@(?=[^\s/@]*+(?:[\s/]|$))",
        rf"\1:{REDACTED}@",
        exact_case=True,
    ),
    _rule("api-key-json", "api", f'"({_API_KEY})' + _JSON, _JSON_MARK),
    _looking("api-key-plain", "api", f"({_API_KEY})" + _VALUE, _PLAIN_MARK),
    _rule("openai-key", "sk-", r"\bsk-[A-Za-z0-9_-]{4,}", exact_case=True),
    _looking(
        "bearer-token",
        "bearer",
        rf"(bearer)\s++(?!{_NEXT_NAME})[A-Za-z0-9._~+/=-]++",
        rf"Bearer {REDACTED}",
    ),
    _looking("genie-key", "geniekey", r"(geniekey)\s++[A-Za-z0-9._~+/=-]++", rf"\1 {REDACTED}"),
    _rule("github-token", "ghp_", r"ghp_[A-Za-z0-9]{36,}", exact_case=True),
    _rule("token-json", "token", f'"({_TOKEN})' + _JSON, _JSON_MARK),
    _looking("token-plain", "token", rf"\b({_TOKEN})" + _VALUE, _PLAIN_MARK),
    _rule("secret-json", "secret", f'"({_SECRET})' + _JSON, _JSON_MARK),
    _looking("secret-plain", "secret", rf"\b({_SECRET})" + _VALUE, _PLAIN_MARK),
    _looking(
        "authorization-header",
        "authorization",
        rf"(authorization)\s*+:(?>(?:\s++(?!{_NEXT_NAME}))?)[^\s]++",
        _PLAIN_MARK,
    ),
    _rule(
        "aws-access-key",
        "aws_access_key",
        r"""(aws_access_key(?:_id)?)\s*[:=]\s*["']?[A-Z0-9]{20}["']?""",
        rf"\1={REDACTED}",
    ),
    _rule(
        "aws-secret-key",
        "aws_secret",
        r"""(aws_secret_(?:access_)?key)\s*[:=]\s*["']?[A-Za-z0-9/+=]{40}["']?""",
        rf"\1={REDACTED}",
    ),
    _database("postgresql-url", "postgres(?:ql)?", "postgres"),
    _database("mysql-url", "mysql", "mysql"),
    _database("mongodb-url", r"mongodb(?:\+srv)?", "mongodb"),
    _database("redis-url", "rediss?", "redis"),
    _looking(
        "pem-certificate",
        "begin certificate",
        f"-----BEGIN CERTIFICATE-----{_PEM_BODY}-----END CERTIFICATE-----",
    ),
    _looking(
        "private-key",
        "private key",
        rf"-----BEGIN (?:(?:RSA|EC) )?PRIVATE KEY-----{_PEM_BODY}"
        r"-----END (?:(?:RSA|EC) )?PRIVATE KEY-----",
    ),
    _rule(
        "k8s-secret-data",
        "username password token key secret credential",
        r"(?m)^[ \t]*(username|password|token|key|secret|credential):[ \t]*"
        r"[A-Za-z0-9+/=]{8,}[ \t\r]*$",
        rf"  \1: {REDACTED}",
        exact_case=True,
    ),
    _GENERATOR_URL,
    _ANNOTATIONS,
    _looking(
        "email-address",
        "@",
        r"(?<![A-Z0-9._%+-])[A-Z0-9._%+-]++@[A-Z0-9.-]+\.[A-Z]{2,}",
    ),
    _looking(
        "ipv4-address",
        ".",
        r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b",
    ),
)

#: Applied before upstream's rules: its authorization rule takes one word and would leave the credential.
BEFORE: Final = (
    _rule(
        "authorization-scheme",
        "authorization",
        r"""(authorization["']?\s*[:=]\s*["']?(?:basic|digest|negotiate|token|api-?key|geniekey|splunk|"""
        r"""bot|hmac|hawk|sso-key|aws4-hmac-sha256))\s+[^\s"']+""",
        rf"\1 {REDACTED}",
    ),
    _rule(
        # Other spellings of `=`; upstream's rules would take their second character for the value.
        "arrow",
        "=> :=",
        rf"""(?:["':]|\b)({_FULL_NAME})["']?\s*(?:=>|:=)\s*(?:"[^"\n]*"|'[^'\n]*'|"""
        r"""[^\s"'`,;(){}\[\]]+)""",
        _PLAIN_MARK,
    ),
    _looking(
        # A YAML block scalar: the indented lines below. Upstream's rules would take its `|` or `>` instead.
        "block-scalar",
        "| >",
        rf"""(?m)^([ \t]*+)(-[ \t]++)?(["']?(?:{_NAME}|{_KEY_FILE}|[a-z]\w*(?:secret|token))["']?"""
        r"""[ \t]*+:[ \t]*+)"""
        r"""[|>][-+0-9]{0,2}[ \t]*+(?>(?:\n(?:\1(?(2)[ \t]{3,}+|[ \t]++)[^\n]*+|[ \t]*+(?=\n)))+)""",
        rf"\1\2\3{REDACTED}",
    ),
    _rule(
        "list",
        "[ (",
        rf"""(["']?\b{_FULL_NAME}["']?\s*[:=]\s*)[\[(]\s*(?:b?"[^"\n]*"|b?'[^'\n]*')"""
        r"""(?:\s*,\s*(?:b?"[^"\n]*"|b?'[^'\n]*'))*\s*,?\s*[\])]""",
        rf"\1{REDACTED}",
    ),
    _looking(
        "bytes",
        "b'",
        rf"('{_NAME}'\s*+:\s*+)b'[^'\n]*+'",
        rf"\1'{REDACTED}'",
    ),
    _rule(
        # A passphrase may have several words.
        "passphrase",
        "passphrase",
        r"""(?m)(\bpassphrase)["']?\s*[:=][ \t]*[^\s"'\[{][^\n"',}]*$""",
        _PLAIN_MARK,
    ),
    _rule(
        # Values with blanks in a connection string.
        "connection-string",
        ";",
        rf"(;\s*(?:{_PASSWORD})\s*=)[^;\"'\n]+",
        rf"\1{REDACTED}",
    ),
)

#: Secrets that all other rules miss; applied last.
WIDER: Final = (
    _rule(
        "camel-case-json",
        "secret token key passphrase credential",
        f'"({_CAMEL})' + _JSON,
        _JSON_MARK,
        exact_case=True,
    ),
    _looking(
        "camel-case",
        "secret token key passphrase credential",
        rf"""\b({_CAMEL})\b["']?\s*+[:=]\s*+(?!true\b|false\b|null\b|None\b|[0-9.]++\b|["']?\[|{{|\()"""
        rf"{_QUOTED_OR_BARE}",
        _PLAIN_MARK,
        exact_case=True,
    ),
    _rule(
        "key-file",
        "key",
        rf"""(\b(?:{_KEY_FILE})["']?\s*[:=]\s*["']?)[A-Za-z0-9+/=]{{8,}}""",
        rf"\1{REDACTED}",
    ),
    _rule("url-password-alone", "://:", r"(://):[^\s/@]+@", rf"\1:{REDACTED}@"),
    _rule(
        "password-flag",
        "sshpass login",
        r"(\b(?:sshpass|(?:docker|podman|buildah|nerdctl|helm registry)\s+login)\b[^\n|;]{0,300}?\s-p\s*)"
        r"""(?:"[^"\n]*"|'[^'\n]*'|[^\s"'-][^\s"']*)""",
        rf"\1{REDACTED}",
        exact_case=True,
    ),
    _rule(
        "mysql-password",
        "mysql mariadb",
        r"""(\b(?:mysql|mariadb)[\w-]*[^\n|;]{0,300}?\s-p)(?:"[^"\n]*"|'[^'\n]*'|[^\s"']+)""",
        rf"\1{REDACTED}",
        exact_case=True,
    ),
    _rule("aws-signature", "signature=", r"\b(Signature=)[0-9a-f]{32,}", rf"\1{REDACTED}"),
    _rule(
        "mattermost-hook",
        "/hooks/",
        r"(/hooks)/(?:[a-z0-9]{26}\b|[A-Za-z0-9]{17,24}/[A-Za-z0-9]{20,})",
        rf"\1/{REDACTED}",
        exact_case=True,
    ),
    _rule(
        "jwk", '":', r'"(d|p|q|dp|dq|qi|k)"\s*:\s*"[A-Za-z0-9_-]{40,}"', _JSON_MARK, exact_case=True
    ),
    _rule(
        "pagerduty-key",
        "routing integration service",
        r"""(\b(?:routing|integration|service)[ _-]?key\b[^\n]{0,20}?["'\s])[A-Za-z0-9]{32}\b""",
        rf"\1{REDACTED}",
    ),
    _rule(
        "secret-manifest-kind-first",
        "secret",
        rf"(?m)(^[ \t]*{_OF_KIND}[^\n]*\n(?:(?:[^-\n]|-[^-])[^\n]*\n){{0,60}}?{_DATA}){_LINES}",
        rf"\1  {REDACTED}\n",
        exact_case=True,
    ),
    _rule(
        "secret-manifest-data-first",
        "secret",
        rf"(?m)(^{_DATA}){_LINES}((?:(?:[^-\n]|-[^-])[^\n]*\n){{0,60}}?[ \t]*{_OF_KIND})",
        rf"\1  {REDACTED}\n\2",
        exact_case=True,
    ),
    _rule(
        "secret-json-kind-first",
        "secret",
        rf"({_OF_KIND}\"(?s:.{{0,900}}?)){_DATA_OBJECT}",
        rf"\1\2{REDACTED}",
        exact_case=True,
    ),
    _rule(
        "secret-json-data-first",
        "secret",
        rf"{_DATA_OBJECT}((?s:.{{0,900}}?){_OF_KIND})",
        rf"\1{REDACTED}\2",
        exact_case=True,
    ),
    _rule(
        # A name and its value in separate members, on one line or on two.
        "pair",
        "value",
        rf"""((?:\b|["'])(?:name|key)["']?\s*[:=]\s*["']?{_FULL_NAME}["']?\s*,?\s*"""
        r"""["']?value["']?\s*[:=][ \t]*)"""
        r"""(?:"(?:[^"\\]|\\.)*(?:"|\\?\z)|'[^'\n]*(?:'|\z)|[^\s"',{}\[\]|>][^\n,}]*)""",
        rf'\1"{REDACTED}"',
    ),
    _looking(
        "flag",
        "-",
        rf"""(?<![\w-])(--?(?:[a-z0-9]{{1,20}}-){{0,3}}(?:{FLAG}))[ \t]++(?!\[REDACTED\]|-|{_PROSE})"""
        r"""(?:"[^"\n]*+"|'[^'\n]*+'|[^\s"',;)\]}]++)""",
        rf"\1 {REDACTED}",
    ),
    _rule(
        "curl-user",
        "curl wget",
        r"""(\b(?:curl|wget)\b[^\n|;]{0,300}?\s(?:-u|--user|--proxy-user)(?:\s*|=)["']?[^\s:"'@]+:)"""
        r"""[^\s"']+""",
        rf"\1{REDACTED}",
    ),
    _rule(
        "cookie",
        "cookie",
        r"""(\b(?:set-)?cookie)["']?\s*[:=]\s*["']?[\w!#$%&*+.^`|~-]+=[^\n"']*""",
        _PLAIN_MARK,
    ),
    _looking(
        "element",
        "<",
        rf"<((?:[\w-]{{1,40}}:)?{_FULL_NAME})(?>(?:\s[^<>]{{0,200}})?)>(?!\[REDACTED\]|\s*+<)[^<]++",
        rf"<\1>{REDACTED}",
    ),
    _rule(
        "percent-encoded",
        "%3",
        rf"({_FULL_NAME})%3[AD](?:%20|%22|%27|\+)*(?:[^\s&\"'<>%]|%[013-9A-F][0-9A-F]|%2[0-57-9A-F])+",
        rf"\1%3D{REDACTED}",
    ),
    _looking(
        "registry-credentials",
        "auth",
        r"""("_?auth")(\s*+:\s*+)"(?=[^"]{0,200}[A-Z0-9+/=])[A-Za-z0-9+/=_-]{8,}+\"""",
        rf'\1\2"{REDACTED}"',
        exact_case=True,
    ),
    _rule(
        "registry-configuration",
        ".docker",
        r"""(\.docker(?:configjson|cfg))(["']?\s*:\s*["']?)[A-Za-z0-9+/=]{8,}""",
        rf"\1\2{REDACTED}",
    ),
    _rule(
        "registry-line",
        "_auth",
        r"""((?:^|[\s:])_auth(?:token)?\s*=\s*["']?)[^\s"']+""",
        rf"\1{REDACTED}",
    ),
)

ADDED: Final = (
    _rule(
        "escaped-json",
        r"\"",
        rf'(\\"(?:{_PASSWORD}|{_API_KEY}|{_TOKEN}|{_SECRET}|{_OTHER_KEYS}|authorization)\\"'
        r'\s*:\s*)\\"(?:[^"\\]|\\[^"])*\\"',
        rf'\1\\"{REDACTED}\\"',
    ),
    _rule(
        "secret-number-json",
        "passw pwd token secret key",
        rf'"({_PASSWORD}|{_API_KEY}|{_TOKEN}|{_SECRET})"\s*:\s*-?[0-9.eE+-]+',
        _JSON_MARK,
    ),
    _rule(
        "other-key-json",
        "token key passphrase secret passw authorization credentials",
        f'"({_OTHER_KEYS}|authorization|{_ENDS})' + _JSON,
        _JSON_MARK,
    ),
    _rule(
        # Python's repr of a dictionary.
        "single-quoted",
        "passw pwd token secret key passphrase authorization credentials",
        rf"'({_NAME})'\s*:\s*'(?:[^'\\\n]|\\.)*'",
        rf"'\1': '{REDACTED}'",
    ),
    _rule(
        "azure-connection",
        "accountkey sharedaccess",
        r"((?:account|sharedaccess)key|sharedaccesssignature)=[A-Za-z0-9+/=%&_ -]{8,}",
        rf"\1={REDACTED}",
    ),
    _looking(
        "longer-name-plain",
        "token key passphrase secret credentials _pass",
        r"(?<![\w.-])([\w.-]*_(?:token|secret|api_?key|secret_key|private_key|access_key|passphrase|"
        r"credentials)|secret_key_base|"
        r"(?:db|mysql|postgres|pg|mongo|redis|amqp|rabbitmq|smtp|mail|ftp|ldap|admin|root|user)_pass)"
        + _NEW_VALUE,
        _PLAIN_MARK,
    ),
    _looking(
        "other-key-plain",
        "token key passphrase secret",
        rf"\b({_OTHER_KEYS})" + _NEW_VALUE,
        _PLAIN_MARK,
    ),
    _looking(
        "private-key-other",
        "private key",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}?PRIVATE KEY(?: BLOCK)?-----"
        rf"{_PEM_BODY}-----END (?:[A-Z0-9]+ ){{0,3}}?PRIVATE KEY(?: BLOCK)?-----",
    ),
    _rule(
        # A block whose end was cut off; prose after it may be replaced too.
        "private-key-open",
        "private key",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}?PRIVATE KEY(?: BLOCK)?-----(?:[A-Za-z0-9+/=:,\s]|\\n)*",
    ),
    _rule(
        "slack-token",
        "xox xapp-",
        r"\bxox[abceoprs](?:\.xox[bp])?-[A-Za-z0-9-]{3,}|\bxapp-[0-9A-Za-z-]{6,}",
    ),
    _rule(
        "slack-hook",
        "hooks.slack",
        r"(https?://hooks\.slack(?:-gov)?\.com)/[A-Za-z0-9/_%.-]+",
        rf"\1/{REDACTED}",
    ),
    _rule(
        "teams-hook",
        "webhook.office.com",
        r"(webhook\.office\.com)/[A-Za-z0-9/_%@.-]+",
        rf"\1/{REDACTED}",
    ),
    _rule(
        "discord-hook",
        "/api/webhooks/",
        r"(/api/webhooks)/[0-9]+/[A-Za-z0-9_-]+",
        rf"\1/{REDACTED}",
    ),
    _rule("telegram-bot", "bot", r"\bbot[0-9]{6,12}:[A-Za-z0-9_-]{30,}", f"bot{REDACTED}"),
    _rule(
        "url-query-secret",
        "=",
        r"([?&;](?:sig|signature|code|key|api[_-]?key|token|access_token|auth|secret|password|"
        r"x-amz-signature|x-amz-security-token|x-amz-credential|x-goog-signature)=)"
        r"""[^&\s"'<>\[]+""",
        rf"\1{REDACTED}",
    ),
    _rule("url-userinfo", "://", r"://[^\s/:@\[\]]{16,}@", f"://{REDACTED}@"),
    _rule("jwt", "eyj", r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){1,3}"),
    _rule("github-short", "gh", r"\bgh[ousr]_[A-Za-z0-9]{20,}"),
    _rule("github-fine-grained", "github_pat_", r"\bgithub_pat_\w{20,}"),
    _rule("gitlab", "gl", r"\bgl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat|oas)-[A-Za-z0-9_.-]{16,}"),
    _rule("aws-key-id", "akia asia", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", exact_case=True),
    _rule(
        "aws-session-token",
        "session_token security_token",
        r"""(aws_(?:session|security)_token)\s*[:=]\s*["']?[^\s"',}]+["']?""",
        rf"\1={REDACTED}",
    ),
    _rule("google-key", "aiza", r"\bAIza[A-Za-z0-9_-]{35}", exact_case=True),
    _rule("google-oauth", "ya29. gocspx-", r"\b(?:ya29\.[A-Za-z0-9_-]{8,}|GOCSPX-[\w-]{10,})"),
    _rule("azure-client-secret", "8q~", r"\b[A-Za-z0-9_.-]{3}8Q~[A-Za-z0-9_.~-]{30,}"),
    _rule("stripe", "_live_ _test_", r"\b[rps]k_(?:live|test)_[A-Za-z0-9]{10,}"),
    _rule("sendgrid", "sg.", r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}", exact_case=True),
    _rule("vault", "hv", r"\bhv[sbr]\.[A-Za-z0-9_-]{20,}"),
    _rule("webhook-secret", "whsec_", r"\bwhsec_[A-Za-z0-9+/=_-]{8,}"),
    _rule("npm", "npm_", r"\bnpm_[A-Za-z0-9]{30,}"),
    _rule("pypi", "pypi-", r"\bpypi-[A-Za-z0-9_-]{30,}"),
    _rule("digitalocean", "_v1_", r"\bdo[opr]_v1_[a-f0-9]{32,}"),
    _rule("hugging-face", "hf_", r"\bhf_[A-Za-z0-9]{30,}"),
    _rule("age-key", "age-secret-key-", r"AGE-SECRET-KEY-[0-9A-Z]{20,}"),
    _looking(
        "ipv6-address",
        ":",
        r"(?<![\w:])(?:(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}|"
        r"(?:[0-9a-f]{1,4}:){2,6}:(?:[0-9a-f]{1,4}:){0,4}[0-9a-f]{1,4})(?![\w:])",
    ),
)

RULES: Final = (*BEFORE, *UPSTREAM, *ADDED, *WIDER)

#: Names of members of a tree whose value is secret, whatever it looks like.
SECRET_MEMBER: Final = re.compile(
    rf"(?:generatorURL|authorization|{_PASSWORD}|{_API_KEY}|{_TOKEN}|{_SECRET}|{_OTHER_KEYS}|"
    rf"{_ENDS}|(?-i:{_CAMEL})|{_KEY_FILE})",
    re.ASCII | re.IGNORECASE,
)
