"""Calls under an ask rule, with real processes: they wait, are approved, and run once."""

from __future__ import annotations

import signal

from palyra.console.models import ApprovalAnswer, ApprovalList, Invoke, InvokeAnswer, JobAnswer
from tests.integration.house import Gateway, House

ASK = '[[policy.rule]]\neffect = "ask"\ncapability = ["echo"]\n'
DENY = '[[policy.rule]]\neffect = "deny"\ncapability = ["echo"]\n'


def asked(gateway: Gateway, device_id: str) -> InvokeAnswer:
    """A call that waits: the gateway says so at once."""
    body = Invoke("echo", input_json=b'{"text": "hello"}', ttl_ms=600_000)  # type: ignore[arg-type]
    answer = gateway.console.post(f"nodes/{device_id}/invoke", body, InvokeAnswer).value
    assert (answer.state, answer.waiting_for) == ("queued", "approval")
    return answer


def test_it_waits_runs_once_and_rules_are_read_again(house: House) -> None:
    """Approved by command it runs; a kill between the yes and the run loses neither; and SIGHUP
    brings rules that deny, which say so and leave their mark."""
    gateway = house.gateway(rules=ASK).start()
    node = house.node().pair(gateway)
    first = asked(gateway, node.device_id)
    short = (first.approval_id or "")[10:16]
    listed = gateway.cli("approvals", "list")
    assert listed.code == 0 and first.approval_id and first.approval_id in listed.out, listed
    approved = gateway.cli("approvals", "approve", short)
    assert approved.code == 0 and approved.out.endswith("decision\tapproved\n"), approved
    assert gateway.ended(first.job_id).job.state == "succeeded"
    path = f"approvals/{first.approval_id}"
    found = gateway.console.get(path, ApprovalAnswer).value.approval
    assert (found.state, found.decided_by != "") == ("consumed", True)
    assert gateway.cli("approvals", "approve", short).code == 1

    node.process.terminate()
    second = asked(gateway, node.device_id)
    assert gateway.cli("approvals", "approve", (second.approval_id or "")[10:16]).code == 0
    gateway.process.kill()
    gateway.start()
    node.serve()
    ended = gateway.ended(second.job_id)
    assert (ended.job.state, ended.job.attempts) == ("succeeded", 1)

    third = asked(gateway, node.device_id)
    (gateway.root / "palyra.toml").write_text(
        (gateway.root / "palyra.toml").read_text().replace(ASK, DENY)
    )
    gateway.process.send(signal.SIGHUP)
    assert gateway.ended(third.job_id).job.error_code == "approval_void"
    refused = gateway.cli("nodes", "invoke", node.device_id, "echo")
    assert refused.code == 1 and "denies" in refused.err and "rule 1" in refused.err, refused
    listed_after = gateway.console.get("approvals", ApprovalList).value
    assert (listed_after.pending, len(listed_after.approvals)) == (0, 4)
    kept = gateway.console.get(f"jobs/{first.job_id}", JobAnswer).value
    assert kept.job.approval_id == first.approval_id
