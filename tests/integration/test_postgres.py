"""Real daemons with their record in a PostgreSQL database."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.integration.house import House
from tests.store import postgresql


@pytest.fixture(scope="module")
def server() -> Iterator[postgresql.Server]:
    """A database server of this module's own."""
    bin_ = postgresql.programs()
    if bin_ is None:
        pytest.skip(postgresql.INSTALL)
    with postgresql.running(bin_) as running:
        running.run("CREATE ROLE guarded LOGIN PASSWORD 'hunter2'")
        running.run("CREATE DATABASE palyra OWNER guarded TEMPLATE template0")
        yield running


def test_a_gateway_lives_through_the_restarts_of_its_database(
    house: House, server: postgresql.Server
) -> None:
    """Pair, run, crash the server, run again, kill the gateway, start it anew: nothing is lost; a
    second gateway is refused; the password is in no log."""
    config = f'[store]\nurl = "{server.url("palyra", "guarded:hunter2")}"\n'
    gateway = house.gateway(config=config).start()
    named = f"PostgreSQL database palyra on {server.folder}"
    assert named in gateway.process.output()
    assert not (gateway.root / "palyra.sqlite3").exists()
    pi = house.node("pi").pair(gateway)
    first = gateway.ended(gateway.submit(pi.device_id, "echo", b'{"text":"one"}'))
    assert first.job.state == "succeeded"

    refused = house.gateway("second", config).refused()
    assert refused.code == 1 and f"Another gateway uses {named}" in refused.err, refused

    server.restart("immediate")
    second = gateway.ended(gateway.submit(pi.device_id, "echo", b'{"text":"two"}'))
    assert second.job.state == "succeeded"

    gateway.process.send(signal.SIGKILL)
    gateway.process.wait()
    gateway.start()
    gateway.online(pi.device_id)
    assert {job.job_id for job in gateway.jobs()} == {first.job.job_id, second.job.job_id}
    assert named in gateway.cli("doctor").out
    said = gateway.process.output() + refused.err + refused.out
    assert "hunter2" not in said
    assert gateway.process.terminate() == -signal.SIGTERM


def test_an_empty_database_is_not_taken_for_the_old_one(
    house: House, server: postgresql.Server
) -> None:
    """A gateway that was used before does not start on a database that lost everything."""
    server.run("CREATE DATABASE other TEMPLATE template0")
    gateway = house.gateway(config=f'[store]\nurl = "{server.url("other")}"\n').start()
    gateway.process.terminate()
    server.drop("other")
    server.run("CREATE DATABASE other TEMPLATE template0")
    refused = gateway.refused()
    assert refused.code == 1 and "is empty although" in refused.err, refused
    server.drop("other")
