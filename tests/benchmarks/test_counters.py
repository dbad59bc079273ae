"""What the servers count is read as they mean it."""

from __future__ import annotations

from tests.benchmarks.counters import is_read, is_write, requests_in, watches_in

METRICS = """\
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",resource="notificationrequests",subresource="status",verb="PATCH"} 7
apiserver_request_total{code="409",resource="notificationrequests",subresource="status",verb="PATCH"} 2
apiserver_request_total{code="201",resource="events",subresource="",verb="POST"} 1e+01
apiserver_request_total{code="200",resource="leases",subresource="",verb="PUT"} 99
apiserver_request_total{code="200",resource="",subresource="/openapi/v3",verb="GET"} 8
apiserver_request_total{code="200",resource="",subresource="/version",verb="GET"} 3
apiserver_request_total{code="200",resource="",subresource="openapi/v3",verb="GET"} 1
apiserver_request_total{code="200",resource="services",subresource="",verb="LIST"} 1
apiserver_request_duration_seconds_sum{resource="events",subresource="",verb="POST"} 3.5
apiserver_longrunning_requests{resource="leases",scope="cluster",verb="WATCH"} 2
apiserver_longrunning_requests{resource="leases",scope="namespace",verb="WATCH"} 1
apiserver_longrunning_requests{resource="pods",scope="resource",verb="CONNECT"} 5
"""


def test_requests_are_read_off_the_server() -> None:
    """By verb and resource, refused ones included; what the server asks itself is left out."""
    of_notifications = {"PATCH notificationrequests/status": 9, "POST events": 10}
    assert requests_in(METRICS, "notificationrequests", "events") == of_notifications
    assert requests_in(METRICS) == {**of_notifications, "PUT leases": 99, "GET /version": 3}


def test_open_watches_are_read_off_the_server() -> None:
    """Of whatever scope; other long requests are none."""
    assert watches_in(METRICS) == {"leases": 3}


def test_a_watch_is_neither_read_nor_write() -> None:
    """What is not a read and not a watch is a write."""
    requests = ("GET leases", "LIST leases", "WATCH leases", "PATCH leases", "DELETE leases")
    assert [is_read(r) for r in requests] == [True, True, False, False, False]
    assert [is_write(r) for r in requests] == [False, False, False, True, True]
