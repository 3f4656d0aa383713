"""What is wrong in a call is said in one sentence, with the exit status of its kind."""

from __future__ import annotations

from tests.integration.device import Device
from tests.integration.house import Gateway, House, NodeHost
from tests.integration.processes import Ran


def refused(done: Ran, code: int, sentence: str) -> None:
    """One sentence, one hint, nothing on stdout, no traceback."""
    assert done.code == code, done
    assert done.out == "", done
    first, second = done.err.splitlines()
    assert first.startswith("error: ") and sentence in first, done
    assert second.startswith("hint:  "), done


def test_input_that_is_not_json_never_leaves_the_command(gateway: Gateway, pi: NodeHost) -> None:
    """Invalid JSON is a usage error that names line and column; no job comes of it."""
    before = gateway.recorded()
    for text in ('{"text":', "{'a':1}", "NaN", "", '"\\ud800"', "[" * 100_000):
        done = gateway.cli("nodes", "invoke", "pi", "echo", "--input", text)
        assert done.code == 2 and done.err.startswith("error: "), (text[:20], done)
        assert "Traceback" not in done.err
    assert gateway.recorded()["jobs"] == before["jobs"]


def test_an_unknown_capability_names_the_nearest(gateway: Gateway, pi: NodeHost) -> None:
    """A typing error is answered with what was probably meant."""
    done = gateway.cli("nodes", "invoke", "pi", "system.helth")
    refused(done, 1, "pi has no capability system.helth. Did you mean system.health")


def test_a_payload_above_the_limit_tells_both_sizes(gateway: Gateway, pi: NodeHost) -> None:
    """The input's size and the limit are in the sentence; a higher limit lets it through."""
    big = '"' + "x" * 70_000 + '"'
    invoke = ["nodes", "invoke", "pi", "echo", "--input", "-"]
    refused(gateway.cli(*invoke, stdin=big), 1, "The input is 69 KiB; the limit is 64 KiB.")
    done = gateway.cli(*invoke, "--max-payload-bytes", "200000", stdin=big)
    assert done.code == 0, done.err
    above = gateway.cli(*invoke, "--max-payload-bytes", "4000000", stdin=big)
    refused(above, 1, "must be 1 to 3145728")


def test_the_largest_payload_passes_both_ways(gateway: Gateway, pi: NodeHost) -> None:
    """An input and an output just below 3 MiB travel whole."""
    limit = 3 * 1024 * 1024
    text = '"' + "x" * (limit - 200) + '"'
    invoke = ["nodes", "invoke", "pi", "echo", "--input", "-", "--max-payload-bytes", str(limit)]
    done = gateway.cli(*invoke, stdin=text)
    assert done.code == 0, done.err
    assert text in done.out


def test_a_target_nobody_has_is_not_found(gateway: Gateway, pi: NodeHost) -> None:
    """An unknown name, and odd ones, are refused by name; nothing else happens."""
    refused(gateway.cli("nodes", "show", "nowhere"), 1, "No device is called nowhere.")
    refused(gateway.cli("nodes", "invoke", "no such", "echo"), 1, "No device is called no such.")
    refused(gateway.cli("jobs", "show", "ZZZZZZ"), 1, "No job is called ZZZZZZ.")
    refused(gateway.cli("pairing", "approve", "nobody"), 1, "No pairing request is called nobody.")


def test_a_timeout_out_of_range_is_refused(gateway: Gateway, pi: NodeHost) -> None:
    """The run time is 1 s to 24 h; the sentence says so."""
    done = gateway.cli("nodes", "invoke", "pi", "echo", "--timeout", "2d")
    refused(done, 1, "timeout_ms: must be 1000 to 86400000")


def test_an_ambiguous_prefix_lists_the_devices(shared: House, gateway: Gateway) -> None:
    """Two devices whose ids begin alike: the prefix is refused and both are named."""
    for name, last in (("nas", "A"), ("nap", "B")):
        node = shared.node(name)
        node.options = ["--device-id", f"01M80NKQCNX4K7QM2ZT9B3FVH{last}"]
        node.pair(gateway)
    done = gateway.cli("nodes", "invoke", "X4K7", "echo")
    refused(done, 1, "X4K7 is the beginning of 2 devices: ")
    assert "X4K7QM nap" in done.err and "X4K7QM nas" in done.err


def test_an_offline_device_is_a_rejected_row(gateway: Gateway) -> None:
    """Nothing is queued for a device that is away, and the list of jobs says so."""
    away = Device(gateway, "away").enrol()
    done = gateway.cli("nodes", "invoke", "away", "echo")
    refused(done, 1, "away is offline; nothing was queued.")
    row = next(job for job in gateway.jobs() if job.device_id == away.device_id)
    assert (row.state, row.error_code) == ("rejected", "device_offline")
    listed = gateway.cli("jobs", "list", "--state", "rejected")
    assert row.job_id in listed.out, listed
