"""`syncer web` on real servers: what each page says, and what it says while a server is away."""

from __future__ import annotations

import argparse
import asyncio
import re
from urllib.parse import urlsplit, urlunsplit

import pytest

from syncer.cli.access import access
from syncer.cli.web.index import Follower, Index
from tests.beside import beside
from tests.e2e.harness import Stage, until
from tests.integration.exploring import explorer, with_a_past
from tests.integration.operating import NO_SWEEPS, owner
from tests.servers.users import acl_rule, url_of

pytestmark = pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)


async def test_every_page_tells_what_there_is(here: Stage) -> None:
    """With the documented read-only user: now, list, story, receivers, health; and live changes."""
    rule = acl_rule("looker", "secret", prefix=here.prefix, page="explorer")
    await here.redis.execute_command(*rule)  # type: ignore[no-untyped-call]  # redis has no type for it
    url = url_of(here.redis_url, "looker", "secret")
    ns = here.namespace
    async with owner(here.notifier(sync=NO_SWEEPS)):
        await with_a_past(here)
        async with explorer(here, redis_url=url) as site:
            only = await site.get("/list?state=held")
            assert re.findall(rf'href="/n/{ns}/([^"]+)"', only.text) == ["held"]
            story = (await site.get(f"/n/{ns}/refused")).text
            assert "failed for good" in story
            assert "&lt;script&gt;document" in story  # the receiver's answer, as a text
            assert (await site.get(f"/n/{ns}/nobody")).code == 404
            assert "slack:ops" in (await site.get("/receivers")).text
            health = await site.get("/health")
            assert "redis-connect" in health.text
            assert "without an owner" not in health.text
            assert "secret" not in health.text
            now = (await site.get("/")).text
            assert re.findall(rf'href="/n/{ns}/([^"]+)"', now).count("refused") == 1
            assert "receiver(s) in force, from a file of sha256" in now

            async with site.session.get(f"{site.url}/events") as stream:
                assert (await stream.content.readline()).startswith(b"retry:")
                await here.create("late")
                async with asyncio.timeout(30):
                    while b"event: change" not in await stream.content.readline():
                        pass
            assert "/late" in (await site.get("/list")).text
    log = await here.redis.execute_command("ACL", "LOG")  # type: ignore[no-untyped-call]  # likewise
    refused = {entry[b"object"] for entry in log if entry[b"username"] == b"looker"}
    # The doctor asks for what a server may show; everything else is within the rights.
    assert refused <= {b"config|get"}


async def test_an_outage_is_named_and_the_rest_is_shown(here: Stage) -> None:
    """Without Redis the list and the status are shown, without the API server what is known."""
    parts = urlsplit(here.redis_url)
    nobody = urlunsplit(parts._replace(netloc="127.0.0.1:1"))
    ns = here.namespace
    async with owner(here.notifier(sync=NO_SWEEPS)):
        await with_a_past(here)
        async with explorer(here, redis_url=nobody) as site:
            page = (await site.get("/list")).text
            assert f"/n/{ns}/waits" in page
            assert "Redis could not be reached" in page
            story = (await site.get(f"/n/{ns}/refused")).text
            assert "the log could not be read" in story
            assert "failed for good" in story
            assert "known from the status alone" in story
            assert "nothing: it has ended" in story
            waits = (await site.get(f"/n/{ns}/waits")).text
            assert "nothing: Redis does not answer, and attempts are not journaled" in waits
        async with explorer(here) as site:
            await here.plane.pause("kube-apiserver")
            try:
                story = (await site.get(f"/n/{ns}/refused")).text
                assert "the object could not be read" in story
                assert "routed to slack:ops" in story
                assert f"/n/{ns}/waits" in (await site.get("/list")).text
            finally:
                await here.plane.resume("kube-apiserver")
            await until(lambda: _live(here), "the API server is back")


async def _live(here: Stage) -> bool:
    return (await here.api.ask("GET", here.api.requests)).code == 200


async def test_hundreds_of_namespaces_are_followed_and_read_beside(here: Stage) -> None:
    """Each has a watch that stays open; the pages read what they show on other connections."""
    file = here.plane.controller_kubeconfig
    options = argparse.Namespace(
        redis_url=here.redis_url,
        redis_from="",
        kubeconfig=str(file),
        config=None,
        context=None,
        key_prefix=None,
    )
    async with access(options) as at:
        follower = Follower(at, Index(), [f"{here.namespace}-{n}" for n in range(120)])
        async with beside(follower.run()):
            await until(lambda: follower.complete, lambda: follower.problem or "listed", within=60)
            assert not (await at.objects.list_page(here.namespace)).objects
