"""
The alerts: each is fired by the series that it is about, and by nothing that a healthy one shows.

`promtool` evaluates the very file that the chart renders. What an alert says (its runbook, its
metrics) is checked against the page and the registry, both ways.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.docs.alerts import ROOT, RULES, alerts
from tests.docs.metrics import named, series

RUNBOOKS: Final = ROOT / "docs" / "alerts.md"
WHO: Final = 'job="notifier",namespace="n",instance="a"'
#: Another installation that the same Prometheus watches.
OTHER: Final = 'job="notifier",namespace="o",instance="b"'

LAST: Final = "notification_ledger_gateway_last_request_timestamp_seconds"

#: By alert: series that fire it (`{}` stands for labels of one replica) and when to look.
FIRED: Final[dict[str, tuple[dict[str, str], str]]] = {
    "NotificationLedgerDown": ({"notification_ledger_shards_owned{}": "_x120"}, "20m"),
    "NotificationLedgerShardUnowned": (
        {
            "notification_ledger_shards{}": "16x120",
            "notification_ledger_shards_owned{}": "15x120",
        },
        "20m",
    ),
    "NotificationLedgerCriticalUndelivered": (
        {"notification_ledger_undelivered_critical_seconds{}": "0+60x120"}, "8m",
    ),
    "NotificationLedgerCriticalHeld": (
        {"notification_ledger_held_critical_seconds{}": "0+60x120"}, "20m",
    ),
    "NotificationLedgerDeliveriesOverdue": (
        {"notification_ledger_oldest_due_seconds{}": "0+60x120"}, "20m",
    ),
    "NotificationLedgerNotLookedAt": (
        {"notification_ledger_unlooked_seconds{}": "0+60x120"}, "20m",
    ),
    "NotificationLedgerNotificationsFail": (
        {
            'notification_ledger_completion_seconds_count{phase="Failed"}': "0+1x120",
            'notification_ledger_completion_seconds_count{phase="Sent"}': "0+2x120",
        },
        "40m",
    ),
    "NotificationLedgerReceiverDown": (
        {
            # A scrape now and then meets a probe.
            'kubernaut_notification_channel_circuit_breaker_state{channel="slack:ops"}': (
                "2x4 1x1 2x4 1x1 2x110"
            )
        },
        "20m",
    ),
    "NotificationLedgerUnknownResults": (
        {
            'notification_ledger_outcomes_total{state="unknown"}': "0+1x120",
            'notification_ledger_outcomes_total{state="success"}': "0+9x120",
        },
        "40m",
    ),
    "NotificationLedgerClocksApart": (
        {"notification_ledger_clock_offset_seconds{}": "-90x120"}, "20m",
    ),
    "NotificationLedgerRedisUnavailable": (
        {"notification_ledger_log_available{}": "1x10 0x100"}, "20m",
    ),
    "NotificationLedgerJournaling": ({"notification_ledger_journaling{}": "1x120"}, "20m"),
    "NotificationLedgerNotJournaled": (
        {'notification_ledger_not_journaled_notifications{basis="older"}': "2x120"}, "20m",
    ),
    "NotificationLedgerRecordsLost": (
        {"notification_ledger_log_loss_ledger_total{}": "0x10 3x100"}, "12m",
    ),
    "NotificationLedgerQuarantined": (
        {'notification_ledger_held_notifications{reason="quarantined"}': "1x120"}, "20m",
    ),
    "NotificationLedgerSelfAuditViolation": (
        {'notification_ledger_scrub_divergence_total{class="memory"}': "0x10 1x100"}, "20m",
    ),
    "NotificationLedgerSelfAuditStalled": (
        {
            "notification_ledger_scrub_age_seconds{}": "90000x120",
            "notification_ledger_live_notifications{}": "3x120",
        },
        "20m",
    ),
    "NotificationLedgerConflictingOutcome": (
        {"notification_ledger_conflicting_outcome_total{}": "0x10 1x100"}, "20m",
    ),
    "NotificationLedgerAttemptsNotSent": (
        {'notification_ledger_held_notifications{reason="not-sent"}': "2x120"}, "20m",
    ),
    "NotificationLedgerOtherInstallation": (
        {"notification_ledger_other_installations{}": "1x120"}, "20m",
    ),
    "NotificationLedgerFenced": (
        {'notification_ledger_held_notifications{reason="fenced"}': "4x120"}, "20m",
    ),
    "NotificationLedgerEpochAhead": (
        {'notification_ledger_held_notifications{reason="epoch-ahead"}': "1x120"}, "20m",
    ),
    "NotificationLedgerStatusLags": (
        {"notification_ledger_dirty_oldest_seconds{}": "0+60x120"}, "20m",
    ),
    "NotificationLedgerStatusesUnprotected": (
        {'notification_ledger_status_policy{state="absent"}': "1x120"}, "20m",
    ),
    "NotificationLedgerStatusRefused": (
        {'notification_ledger_sync_patch_total{result="refused"}': "0+1x120"}, "20m",
    ),
    "NotificationLedgerRoutingStale": ({"notification_ledger_routing_stale{}": "1x120"}, "20m"),
    "NotificationLedgerRoutingDoubtful": (
        {"notification_ledger_routing_doubtful_keys{}": "2x120"}, "20m",
    ),
    "NotificationLedgerLoopLag": (
        {
            'notification_ledger_loop_lag_seconds_bucket{le="0.5"}': "0+1x120",
            'notification_ledger_loop_lag_seconds_bucket{le="2.5"}': "0+60x120",
            'notification_ledger_loop_lag_seconds_bucket{le="+Inf"}': "0+60x120",
        },
        "30m",
    ),
    "NotificationLedgerLoopStalled": (
        {"notification_ledger_loop_longest_stall_seconds{}": "0.02x10 1.7x10 0.02x100"}, "15m",
    ),
    "NotificationLedgerAuditLags": (
        {"notification_ledger_audit_lag_seconds{}": "0+60x120"}, "30m",
    ),
    "NotificationLedgerAuditLost": (
        {'audit_events_dropped_total{service="notification-controller"}': "0x10 5x100"}, "20m",
    ),
    "NotificationLedgerGatewayDown": (
        {"notification_ledger_gateway_requests_in_flight{}": "0x60 _x60"}, "80m",
    ),
    "NotificationLedgerGatewayUnavailable": (
        {'notification_ledger_gateway_requests_total{source="am",code="503"}': "0+1x120"}, "30m",
    ),
    "NotificationLedgerGatewayRefuses": (
        {'notification_ledger_gateway_requests_total{source="am",code="422"}': "0x20 1x100"}, "30m",
    ),
    # One replica has just started; the other one has heard nothing for longer than is expected.
    "NotificationLedgerGatewaySourceOverdue": (
        {
            'notification_ledger_gateway_unheard_seconds{source="am"}': "0+60x120",
            'notification_ledger_gateway_expected_seconds{source="am"}': "600x120",
        },
        "20m",
    ),
    # Sends every ten minutes for a day, and then no more.
    "NotificationLedgerGatewaySourceSilent": (
        {
            "notification_ledger_shards_owned{}": "16x1620",
            f'{LAST}{{source="am"}}': (
                " ".join(f"{60 * at}x9" for at in range(10, 1450, 10)) + " 86400x170"
            ),
        },
        "26h",
    ),
}  # fmt: skip

#: What a process that has just found a loss at its start shows from its first scrape on.
AT_START: Final = {
    "NotificationLedgerRecordsLost": "notification_ledger_log_loss_ledger_total{}",
    "NotificationLedgerConflictingOutcome": "notification_ledger_conflicting_outcome_total{}",
    "NotificationLedgerGatewayRefuses": (
        'notification_ledger_gateway_requests_total{source="am",code="401"}'
    ),
    "NotificationLedgerSelfAuditViolation": (
        'notification_ledger_scrub_divergence_total{class="acked"}'
    ),
}

#: A replica that has been at work for hours: now and then a failure, an unknown, a conflict.
HEALTHY: Final = {
    "notification_ledger_shards{}": "16x240",
    "notification_ledger_shards_owned{}": "16x240",
    "notification_ledger_log_available{}": "1x240",
    "notification_ledger_oldest_due_seconds{}": "0 2 0 1 0x236",
    "notification_ledger_unlooked_seconds{}": "0 100 20 9 3x236",
    "notification_ledger_dirty_oldest_seconds{}": "0 1 0x238",
    "notification_ledger_live_notifications{}": "30x240",
    "notification_ledger_scrub_age_seconds{}": "60x240",
    "notification_ledger_routing_stale{}": "0x240",
    "notification_ledger_routing_doubtful_keys{}": "0x240",
    "notification_ledger_log_loss_ledger_total{}": "0x240",
    "notification_ledger_conflicting_outcome_total{}": "0x240",
    "notification_ledger_audit_lag_seconds{}": "0 3 0x238",
    'audit_events_dropped_total{service="notification-controller"}': "0x240",
    'notification_ledger_held_notifications{reason="quarantined"}': "0x240",
    'notification_ledger_held_notifications{reason="fenced"}': "0x240",
    'notification_ledger_held_notifications{reason="log-unavailable"}': "0x240",
    'notification_ledger_scrub_divergence_total{class="memory"}': "0x240",
    'notification_ledger_scrub_divergence_total{class="status-behind"}': "0x100 1x140",
    'notification_ledger_sync_patch_total{result="refused"}': "0x240",
    'notification_ledger_sync_patch_total{result="conflict"}': "0+1x240",
    'notification_ledger_outcomes_total{state="unknown"}': "0x50 1x190",
    'notification_ledger_outcomes_total{state="success"}': "0+20x240",
    'notification_ledger_completion_seconds_count{phase="Failed"}': "0x50 1x190",
    'notification_ledger_completion_seconds_count{phase="Sent"}': "0+20x240",
    'kubernaut_notification_channel_circuit_breaker_state{channel="slack:ops"}': "0x240",
    "notification_ledger_loop_longest_stall_seconds{}": "0.08x240",
    'notification_ledger_loop_lag_seconds_bucket{le="0.5"}': "0+60x240",
    'notification_ledger_loop_lag_seconds_bucket{le="+Inf"}': "0+60x240",
    "notification_ledger_gateway_requests_in_flight{}": "0x240",
    'notification_ledger_gateway_requests_total{source="am",code="200"}': "0+3x240",
    # One that waits, and is taken when it comes again; strangers at paths of nobody.
    'notification_ledger_gateway_requests_total{source="am",code="503"}': "0x100 1x140",
    'notification_ledger_gateway_requests_total{source="none",code="404"}': "0+1x240",
    f'{LAST}{{source="am"}}': "0+60x120 7200x120",
    'notification_ledger_gateway_unheard_seconds{source="am"}': "0 300 590 5x237",
    'notification_ledger_gateway_expected_seconds{source="am"}': "600x240",
}


def _inputs(found: dict[str, str]) -> list[dict[str, str]]:
    out = []
    for name, values in found.items():
        metric, _, labels = name.partition("{")
        more = labels.rstrip("}")
        out.append({"series": f"{metric}{{{WHO}{',' if more else ''}{more}}}", "values": values})
    return out


def _case(found: dict[str, str], firing: dict[str, list[str]]) -> dict[str, Any]:
    """A test of promtool: at these times these alerts, and no others, are firing."""
    return {
        "interval": "1m",
        "input_series": _inputs(found),
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": at,
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": 1} for name in names
                ],
            }
            for at, names in firing.items()
        ],
    }


def _promtool(
    folder: Path, tests: list[dict[str, Any]], every: str = "1m"
) -> subprocess.CompletedProcess[str]:
    """Try the rules; `every` is the time between two evaluations."""
    program = shutil.which("promtool")
    assert program, "promtool is missing; `. scripts/lib.sh; ensure_prometheus` installs it"
    file = folder / "tests.json"
    file.write_text(
        json.dumps({"rule_files": [str(RULES)], "evaluation_interval": every, "tests": tests})
    )
    return subprocess.run(
        [program, "test", "rules", str(file)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_every_alert_is_fired(tmp_path: Path) -> None:
    """Each alert fires for its own series, and no other one with it but "down"."""
    assert set(FIRED) == set(alerts())
    # Evaluated every minute, the one that takes a day would cost more than all others.
    tests: dict[str, list[dict[str, Any]]] = {"1m": [], "5m": []}
    for name, (found, at) in FIRED.items():
        up = {"notification_ledger_shards_owned{}": "16x120"}
        alone = found if name == "NotificationLedgerDown" else {**up, **found}
        tests["5m" if at.endswith("h") else "1m"].append(_case(alone, {at: [name]}))
    for every, cases in tests.items():
        answer = _promtool(tmp_path, cases, every)
        assert answer.returncode == 0, answer.stdout + answer.stderr


def test_nothing_fires_for_a_healthy_replica(tmp_path: Path) -> None:
    """Hours of ordinary work, with single failures, fire nothing."""
    case = _case(HEALTHY, {f"{minute}m": [] for minute in range(5, 240, 5)})
    answer = _promtool(tmp_path, [case])
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_what_was_found_before_the_first_scrape_fires(tmp_path: Path) -> None:
    """A counter that is above 0 from its first scrape on is news."""
    up = {"notification_ledger_shards_owned{}": "16x120"}
    tests = [
        _case({**up, name: "_x20 2x100"}, {"25m": [alert]}) for alert, name in AT_START.items()
    ]
    answer = _promtool(tmp_path, tests)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("name", sorted(alerts()))
def test_alert_names_series_that_exist_and_its_runbook(name: str) -> None:
    """An alert is about series of the registry, has a severity, and leads to its runbook."""
    alert = alerts()[name]
    assert named(alert["expr"]), "it is about none of our series"
    assert named(alert["expr"]) <= series()
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert alert["annotations"]["summary"].endswith((".", "?"))
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    assert (ROOT / page, anchor) == (RUNBOOKS, name.lower())


def test_every_runbook_belongs_to_an_alert_and_says_what_to_do() -> None:
    """The page has one section per alert, each with meaning, look and remedy, and no other."""
    sections = re.split(r"^### ", RUNBOOKS.read_text(), flags=re.MULTILINE)[1:]
    found = {text.split("\n", 1)[0].strip(): text for text in sections}
    assert list(found) == sorted(alerts())
    for name, text in found.items():
        for part in ("**Means.**", "**Look.**", "**Do.**"):
            assert part in text, f"{name} has no {part}"


def test_no_panel_mixes_up_two_installations(tmp_path: Path) -> None:
    """
    Two healthy installations, watched by one Prometheus: no panel of a dashboard shows less than nothing.

    A number of one of them from which that of both is taken away is negative.
    """
    expressions = [
        target["expr"]
        for board in (RULES.parent / "dashboards").glob("*.json")
        for panel in json.loads(board.read_text())["panels"]
        for target in panel.get("targets", ())
    ]
    assert len(expressions) > 40
    both = [
        {**row, "series": row["series"].replace(WHO, who)}
        for row in _inputs(HEALTHY)
        for who in (WHO, OTHER)
    ]
    for old, new in (("$__rate_interval", "5m"), ("$job", ".*"), ("$namespace", ".*")):
        expressions = [e.replace(old, new) for e in expressions]
    asked = [f"({e}) < 0" for e in expressions]
    case = {
        "interval": "1m",
        "input_series": both,
        "promql_expr_test": [
            {"expr": expr, "eval_time": "2h", "exp_samples": []} for expr in asked
        ],
    }
    answer = _promtool(tmp_path, [case])
    assert answer.returncode == 0, answer.stdout + answer.stderr
