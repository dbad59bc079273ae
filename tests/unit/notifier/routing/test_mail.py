"""Addresses of e-mail entries, and the channels that a list of recipients becomes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.routing.config import RoutingConfig
from notifier.routing.mail import (
    MAX_RECIPIENTS,
    Security,
    parse_recipients,
    parse_sender,
    parse_smarthost,
    recipient_tag,
)
from notifier.routing.models import EmailConfig
from notifier.routing.parse import parse
from syncer.model.errors import ConfigError

EMAIL = frozenset({"email"})

LISTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "one": ("a@example.org", ("a@example.org",)),
    "several": (" a@x.example , b@y.example", ("a@x.example", "b@y.example")),
    "names are left out": ('Jo <a@x>, "Doe, \\"J\\"" <b@x>', ("a@x", "b@x")),
    "bare brackets": ("<a@x>", ("a@x",)),
    "the same once": ("a@X.example, A <a@x.EXAMPLE>", ("a@X.example",)),
    "letters of the local part may differ": ("a@x, A@x", ("a@x", "A@x")),
}


@pytest.mark.parametrize("case", LISTS)
def test_list_of_recipients(case: str) -> None:
    """A list is read as it is written in a mail's header."""
    text, wanted = LISTS[case]
    assert parse_recipients(text) == wanted


REFUSED: dict[str, str] = {
    "nothing": "",
    "no sign": "ops",
    "an empty place": "a@x,,b@x",
    "a comma at the end": "a@x,",
    "a line break": "a@x\r\nBcc: b@x",
    "a line break in a name": '"a\r\nb" <a@x>',
    "a second command": "a@x> SIZE=1",
    "blanks inside": "a b@x",
    "letters beyond ASCII": "jürgen@x",
    "a domain beyond ASCII": "a@bücher.example",
    "a quoted local part": '"a b"@x',
    "a quotation mark in brackets": '<a"b@x>',
    "a literal": "a@[10.0.0.1]",
    "a domain that begins with a dot": "a@.x",
    "an open bracket": "Jo <a@x",
    "too long": "a" * 65 + "@x",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_address_is_refused(case: str) -> None:
    """What could begin another header or command is no address, and is not quoted."""
    with pytest.raises(ValueError, match=r"not an address|cannot be used") as caught:
        parse_recipients(REFUSED[case])
    assert not REFUSED[case] or REFUSED[case] not in str(caught.value)


def test_recipients_are_bounded() -> None:
    """More recipients than an entry may have are refused."""
    many = ", ".join(f"u{n}@x" for n in range(MAX_RECIPIENTS + 1))
    assert len(parse_recipients(many.rpartition(",")[0])) == MAX_RECIPIENTS
    with pytest.raises(ValueError, match="more than 100 addresses"):
        parse_recipients(many)
    with pytest.raises(ValueError, match="longer than"):
        parse_recipients("a" * 40_000)


def test_sender_has_a_name() -> None:
    """The sender's name is kept; two senders are refused."""
    assert parse_sender("Alerts of A <a@x>") == ("Alerts of A", "a@x")
    assert parse_sender("a@x") == ("", "a@x")
    with pytest.raises(ValueError, match="must be one address"):
        parse_sender("a@x, b@x")


HOSTS: dict[str, tuple[str, Security, tuple[str, int]]] = {
    "host and port": ("mail.example:2525", Security.STARTTLS, ("mail.example", 2525)),
    "the port of STARTTLS": ("mail", Security.STARTTLS, ("mail", 587)),
    "the port of TLS": ("mail", Security.IMPLICIT, ("mail", 465)),
    "the port of plain text": ("10.0.0.1", Security.NONE, ("10.0.0.1", 25)),
    "IPv6": ("[fd00::1]:25", Security.NONE, ("fd00::1", 25)),
}


@pytest.mark.parametrize("case", HOSTS)
def test_smarthost(case: str) -> None:
    """The server is a host with or without a port."""
    text, security, wanted = HOSTS[case]
    assert parse_smarthost(text, security) == wanted


@pytest.mark.parametrize(
    "text", ["mail:0", "mail:65536", "mail:x", "http://mail", "mail/x", "a:b@mail", ":25", "mail "]
)
def test_smarthost_of_another_form(text: str) -> None:
    """A URL, a path, a user or an impossible port is refused."""
    with pytest.raises(ValueError, match="must be a host, or host:port"):
        parse_smarthost(text, Security.NONE)


@given(
    st.sampled_from(["{}", "a{}@x", "a@x{}", "<a{}@x>", "<a@x{}>"]),
    st.sampled_from('@.<>", \\\né') | st.text(max_size=200),
)
def test_any_list(form: str, text: str) -> None:
    """Any text gives addresses that hold nothing a server could take for more, or an error."""
    try:
        found = parse_recipients(form.format(text))
    except ValueError:
        return
    assert found
    assert [a for a in found if not a.isascii() or set(a) & set(' <>"\r\n,')] == []


@pytest.mark.parametrize("unit", ['"', "a", "a ", "<", "a@", "\\", "a@x,", '"\\'])
def test_adversarial_list_takes_linear_time(unit: str) -> None:
    """The longest list made to provoke backtracking is read in no time."""
    text = (unit * 32_768)[: 32 * 1024]
    start = time.process_time()
    with pytest.raises(ValueError, match="holds"):
        parse_recipients(text)
    assert time.process_time() - start < 1.0


# -- in the routing file --------------------------------------------------------------------------

WHOLE = "from: Alerts <n@x>, smarthost: 'mail:25'"


def _routing(entries: str) -> RoutingConfig:
    return parse(f"route: {{receiver: r}}\nreceivers: [{{name: r, emailConfigs: [{entries}]}}]",
                 native=EMAIL)  # fmt: skip


def _mails(config: RoutingConfig) -> dict[str, str]:
    return {
        name: target.config.to
        for name, target in config.targets.items()
        if isinstance(target.config, EmailConfig)
    }


def _named(config: RoutingConfig) -> list[str]:
    return [name for name, _ in config.receivers[0].channels(EMAIL)]


def test_each_recipient_is_a_channel() -> None:
    """A list becomes one channel per recipient, so each has a record and retries of its own."""
    config = _routing(f"{{to: 'a@x, b@x', {WHOLE}}}, {{to: c@x, {WHOLE}}}")
    assert _named(config) == [f"email:r:{recipient_tag(each)}" for each in ("a@x", "b@x", "c@x")]
    target = config.targets[f"email:r:{recipient_tag('b@x')}"]
    assert target.config == EmailConfig(
        to="b@x", sender="n@x", smarthost="mail:25", sender_name="Alerts", host="mail", port=25
    )


def test_edited_list_leads_nobody_elses_retry_to_a_recipient() -> None:
    """A name made before an edit leads to the same address after it, or to none."""
    before = _mails(_routing(f"{{to: 'a@x, b@x, c@x', {WHOLE}}}"))
    for text in ("b@x, c@x", "c@x, b@x, a@x", "c@x", "d@x, a@x"):
        after = _mails(_routing(f"{{to: '{text}', {WHOLE}}}"))
        tagged = {n: a for n, a in before.items() if n.count(":") == 2}
        assert len(tagged) == 3
        for name, address in tagged.items():
            assert after.get(name) == (address if address in text else None)


def test_only_recipient_that_gets_company_keeps_its_channel() -> None:
    """The short name of a receiver's only recipient goes on to lead to the first of several."""
    assert _named(_routing(f"{{to: a@x, {WHOLE}}}")) == ["email:r"]
    assert _mails(_routing(f"{{to: 'a@x, b@x', {WHOLE}}}"))["email:r"] == "a@x"


def test_recipient_of_two_entries_gets_one_mail() -> None:
    """Who is named twice is one channel, and the file is warned about."""
    config = _routing(f"{{to: a@x, {WHOLE}}}, {{to: 'a@X, b@x', {WHOLE}}}")
    assert len(_named(config)) == 2
    assert config.warnings == (
        "receivers[0].emailConfigs names a recipient more than once: the first entry is used (line 2)",
    )


PROTECTION: dict[str, tuple[str, Security]] = {
    "STARTTLS unless said otherwise": ("smarthost: mail", Security.STARTTLS),
    "port 465 means TLS from the start": ("smarthost: 'mail:465'", Security.IMPLICIT),
    "what is said wins over the port": (
        "smarthost: 'mail:465', tls: starttls", Security.STARTTLS,
    ),
    "TLS from the start": ("smarthost: 'mail:25', tls: implicit", Security.IMPLICIT),
    "plain text where it is asked for": ("smarthost: 'mail:25', tls: none", Security.NONE),
}  # fmt: skip


@pytest.mark.parametrize("case", PROTECTION)
def test_way_to_the_server_is_protected(case: str) -> None:
    """Plain text is spoken only where the file says so."""
    text, wanted = PROTECTION[case]
    config = _routing(f"{{to: a@x, from: n@x, {text}}}").targets["email:r"].config
    assert isinstance(config, EmailConfig)
    assert config.security is wanted


BROKEN: dict[str, tuple[str, str]] = {
    "a recipient": ("to: 'a@x, oops', from: n@x, smarthost: mail", "to holds something that is"),
    "the sender": ("to: a@x, from: n, smarthost: mail", "from holds something that is not"),
    "the server": ("to: a@x, from: n@x, smarthost: 'mail:x'", "smarthost must be a host"),
    "an unknown word": (
        "to: a@x, from: n@x, smarthost: mail, tls: maybe", "tls: must be 'starttls', 'implicit' or",
    ),
    "a user without password": (
        "to: a@x, from: n@x, smarthost: mail, username: u", "username and credentialRef",
    ),
    "a password without user": (
        "to: a@x, from: n@x, smarthost: mail, credentialRef: p", "username and credentialRef",
    ),
    "a password in plain text": (
        "to: a@x, from: n@x, smarthost: mail, tls: none, username: u, credentialRef: p",
        "tls must not be none where there is a password",
    ),
    "plain text against requireTls": (
        "to: a@x, from: n@x, smarthost: mail, tls: none, requireTls: true",
        "tls must not be none where requireTls is true",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_unusable_entry_names_key_and_line(case: str) -> None:
    """What no mail could be sent with is an error where it stands."""
    text, why = BROKEN[case]
    with pytest.raises(ConfigError) as caught:
        _routing(f"{{{text}}}")
    assert f"receivers[0].emailConfigs[0].{why}" in str(caught.value)
    assert str(caught.value).endswith("(line 2)")


@pytest.mark.parametrize("case", BROKEN)
def test_unusable_entry_is_accepted_where_no_mail_is_sent(case: str) -> None:
    """A file of the replaced controller, which never read these texts, stays usable."""
    if case == "an unknown word":
        return
    text, _ = BROKEN[case]
    config = parse(f"route: {{}}\nreceivers: [{{name: r, emailConfigs: [{{{text}}}]}}]")
    assert [name for name, _ in config.receivers[0].channels()] == ["email"]


def test_require_tls_false_does_not_switch_it_off() -> None:
    """Upstream's default must not become plain text by accident; the file is warned about."""
    config = _routing("{to: a@x, from: n@x, smarthost: mail, requireTls: false}")
    (warning,) = config.warnings
    assert warning == (
        "receivers[0].emailConfigs[0].requireTls has no effect: TLS is always required unless"
        " tls is none (line 2)"
    )


WEBHOOKS: dict[str, tuple[str, str]] = {
    "two tokens": ("bearerToken: a, bearerTokenRef: b", "bearerToken and bearerTokenRef exclude"),
    "two passwords": (
        "basicAuth: {username: u, password: a, passwordRef: b}", "password and passwordRef exclude",
    ),
    "a user without password": ("basicAuth: {username: u}", "basicAuth: needs a username"),
    "a password without user": ("basicAuth: {password: u}", "basicAuth: needs a username"),
    "a colon in the user": (
        "basicAuth: {username: 'a:b', password: c}", "basicAuth: needs a username without a colon",
    ),
    "both ways": (
        "bearerToken: a, basicAuth: {username: u, password: b}", "a token and basicAuth",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WEBHOOKS)
def test_ambiguous_authentication_of_a_webhook(case: str) -> None:
    """Where it is not clear how to authenticate, the file is refused and the place named."""
    text, why = WEBHOOKS[case]
    file = (
        "route: {}\nreceivers:\n"
        f"- {{name: r, webhookConfigs: [{{url: u, httpConfig: {{{text}}}}}]}}"
    )
    with pytest.raises(
        ConfigError, match=r"receivers\[0\]\.webhookConfigs\[0\]\.httpConfig.*line 3"
    ) as c:
        parse(file, native=frozenset({"webhook"}))
    assert why in str(c.value)
    assert parse(file).receivers


def test_the_longest_address() -> None:
    """254 characters, as SMTP has it, and not one more."""
    host = f"{'h' * 63}.{'h' * 63}.{'h' * 61}"
    longest = f"{'u' * 64}@{host}"
    assert len(longest) == 254
    assert len(parse_recipients(longest)) == 1
    with pytest.raises(ValueError, match="not an address"):
        parse_recipients(f"{longest}h")


def test_addresses_are_parted_by_commas_alone() -> None:
    """A semicolon, as some programs write it, is named as a slip and not taken for a comma."""
    with pytest.raises(ValueError, match="holds something that is not an address"):
        parse_recipients('"Night shift" <a@x>;b@x')
    assert parse_recipients('"Night shift" <a@x>,b@x') == ("a@x", "b@x")


@pytest.mark.parametrize(("chars", "used"), [(128, True), (129, False)])
def test_the_length_of_a_name_is_bounded(chars: int, used: bool) -> None:
    """The bound itself can be used."""
    text = f"{'n' * chars} <a@x>"
    if used:
        assert parse_sender(text) == ("n" * chars, "a@x")
    else:
        with pytest.raises(ValueError, match="holds a name that cannot be used"):
            parse_sender(text)


@pytest.mark.parametrize("missing", ["", "to", "from", "smarthost"])
def test_mail_that_lacks_something_is_no_channel(missing: str) -> None:
    """Recipient, sender and server: nothing can be sent without one of them."""
    parts = {"to": "a@x", "from": "n@x", "smarthost": "mail:25"}
    entry = ", ".join(f"{key}: '{value}'" for key, value in parts.items() if key != missing)
    config = _routing(f"{{{entry}}}").receivers[0].entries[0][1][0]
    assert isinstance(config, EmailConfig)
    assert config.complete is not bool(missing)
