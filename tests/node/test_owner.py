"""Tests of :mod:`palyra.node.owner`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred

from palyra.capability.catalogue import Offer
from palyra.capability.descriptor import Capability, Risk
from palyra.config.nodepolicy import parse_node_policy
from palyra.errors import InputInvalid
from palyra.node.consents import Consents
from palyra.node.mediation import Answer
from palyra.node.owner import MAX_LOOKS, Owner
from tests.node.fakes import NOW_MS, FakeMediator, act, dispatch

PAGE = b'{"url":"https://example.org/a?b=c"}'


def offer(name: str, **given: Any) -> Offer:
    """An offer of a capability, which needs mediation."""
    version = given.pop("version", "1")
    facts = {"description": "x", "handler": act, "needs_mediation": True} | given
    return Offer(Capability(name=name, **facts).descriptor("tests", version))


URL = offer("desktop.open_url")
PATH = offer("desktop.open_path", risk=Risk.HIGH)


class Asked:
    """An owner, a person whose answers the test gives, and the answers."""

    def __init__(self, path: Path, rules: str = "") -> None:
        self.path = path / "consents.json"
        self.person = FakeMediator()
        self.waiting: list[tuple[Callable[[], str], Deferred[str]]] = []
        self.consents = Consents.open(
            self.path,
            now_ms=lambda: NOW_MS,
            entropy=lambda count: b"x" * count,
            in_thread=maybeDeferred,
        )
        self.owner = Owner(
            "pi",
            mediator=self.person,
            consents=self.consents,
            policy=parse_node_policy(rules, "f"),
            in_thread=self._in_thread,
            new_id=lambda: f"01M80NKQCNT6MW3K{len(self.person.asked):010d}",
        )
        self.told = 0

    def _in_thread(self, call: Callable[..., str], *given: object) -> Deferred[str]:
        done: Deferred[str] = Deferred()
        self.waiting.append((lambda: call(*given), done))
        return done

    def resolve(self) -> None:
        """The thread that looks at the disk is ready."""
        call, done = self.waiting.pop()
        done.callback(call())

    def decide(self, offer: Offer, json: bytes = PAGE) -> list[Answer]:
        """The answer, once it is there."""
        answers: list[Answer] = []
        job = f"01M80NKQCNB8Q2ZN{len(self.person.asked):010d}"
        given = dispatch(1, offer.name, input_json=json, job_id=job)
        decided = self.owner.decide(given, offer, 120.0, self._asking)
        decided.addCallback(answers.append)
        return answers

    def _asking(self) -> None:
        self.told += 1

    def say(self, choice: str) -> None:
        """The person answers what was asked last."""
        self.person.asked[-1][1].callback(Answer(choice, "ana at the terminal"))


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


def test_what_needs_nobody(asked: Asked) -> None:
    """It is allowed, and nobody has decided."""
    plain = offer("x.y", needs_mediation=False)
    assert asked.decide(plain, b"{") == [Answer("once")]
    assert not asked.owner.may_ask("x.y", "medium", False)
    assert asked.owner.may_ask("x.y", "high", False)
    assert asked.owner.may_ask("x.y", "low", True)


def test_the_question(asked: Asked) -> None:
    """What a person sees, with the input in its one spelling."""
    asked.decide(URL, b' {"url" : "https:\\/\\/example.org/a?b=c"}')
    question = asked.person.asked[0][0]
    assert question.argument == PAGE.decode()
    assert (question.opens, question.scope) == (
        "https://example.org/a?b=c",
        "https://example.org",
    )
    assert (question.requested_by, question.risk) == ("ana", "medium")
    assert (question.until_s, asked.told) == (120.0, 1)


def test_a_question_has_an_id_of_its_own(asked: Asked) -> None:
    """Whoever looks at a question and then answers it by its id answers no other one that a
    gateway has put under the same job since; the job is only shown."""
    asked.decide(URL)
    asked.decide(URL, b'{"url":"https://example.net/"}')
    first, second = (each[0] for each in asked.person.asked)
    assert first.question_id != second.question_id
    assert first.job_id == "01M80NKQCNB8Q2ZN0000000000"


def test_a_session_is_for_the_origin(asked: Asked) -> None:
    """Other pages there open; another host is asked about.  Who said it stays known."""
    first = asked.decide(URL)
    asked.say("session")
    assert first == [Answer("session", "ana at the terminal")]
    assert asked.decide(URL, b'{"url":"https://example.org/other"}') == first
    assert asked.decide(URL, b'{"url":"https://example.org:8443/"}') == []
    assert asked.decide(URL, b'{"url":"http://example.org/"}') == []
    assert asked.decide(URL, b'{"url":"https://ana@example.org/"}') == []
    assert asked.decide(URL, b'{"url":"https://example.org/","more":1}') == []
    assert not asked.path.exists()


def test_once_is_once(asked: Asked) -> None:
    """And a no is never remembered."""
    for choice in ("once", "no"):
        asked.decide(URL)
        asked.say(choice)
    assert asked.decide(URL) == []
    assert len(asked.person.asked) == 3


def test_always_is_until_the_capability_changes(asked: Asked) -> None:
    """Another version is another descriptor."""
    asked.decide(URL)
    asked.say("always")
    assert asked.path.exists()
    assert asked.decide(URL) == [Answer("always", "ana at the terminal")]
    assert asked.decide(offer("desktop.open_url", version="2")) == []
    assert asked.decide(URL) == []


def test_high_risk_is_for_exactly_this(asked: Asked) -> None:
    """An origin is not enough."""
    risky = offer("x.y", risk=Risk.HIGH)
    asked.decide(risky)
    assert asked.person.asked[0][0].scope == "exactly this"
    asked.say("always")
    assert asked.decide(risky) == [Answer("always", "ana at the terminal")]
    assert asked.decide(risky, b'{"url":"https://example.org/other"}') == []


def test_a_link_that_leads_elsewhere_is_asked_again(asked: Asked, tmp_path: Path) -> None:
    """A yes is for the file that was shown; the disk is looked at in a thread."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "one")
    given = b'{"path":"%s"}' % str(link).encode()
    first = asked.decide(PATH, given)
    assert asked.person.asked == []
    asked.resolve()
    assert asked.person.asked[0][0].opens == str(tmp_path.resolve() / "one")
    asked.say("always")
    asked.resolve()
    assert first == [Answer("always", "ana at the terminal")]
    again = asked.decide(PATH, given)
    asked.resolve()
    assert again == first and asked.told == 1
    link.unlink()
    link.symlink_to(tmp_path / "two")
    assert asked.decide(PATH, given) == []
    asked.resolve()
    assert len(asked.person.asked) == 2


def test_a_link_that_leads_elsewhere_while_it_is_asked(asked: Asked, tmp_path: Path) -> None:
    """What the person saw is not what would be opened: it is not, and nothing is remembered."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "one")
    given = b'{"path":"%s"}' % str(link).encode()
    answers = asked.decide(PATH, given)
    asked.resolve()
    link.unlink()
    link.symlink_to(tmp_path / "two")
    asked.say("always")
    asked.resolve()
    sentence = "The path leads elsewhere since pi was asked about it."
    assert answers == [Answer.no("mediation_void", sentence)]
    assert asked.consents.remembered() == ()


def test_a_disk_that_hangs_takes_few_threads(asked: Asked) -> None:
    """A look that nobody waits for any more still counts; the next has its turn when one ends."""
    given = [dispatch(number, PATH.name, input_json=b'{"path":"/"}') for number in range(6)]
    decided = [asked.owner.decide(each, PATH, 1.0) for each in given]
    for each in decided:
        each.addErrback(lambda failure: failure.trap(CancelledError) and None)
    assert len(asked.waiting) == MAX_LOOKS
    decided[0].cancel()
    decided[4].cancel()
    assert len(asked.waiting) == MAX_LOOKS and asked.person.asked == []
    asked.resolve()
    assert len(asked.waiting) == MAX_LOOKS and len(asked.person.asked) == 1
    for _ in range(MAX_LOOKS):
        asked.resolve()
    assert len(asked.person.asked) == 4  # two of six were taken back
    call, done = asked.owner.decide(given[0], PATH, 1.0), asked.waiting.pop()[1]
    failed: list[bool] = []
    call.addErrback(lambda failure: failed.append(failure.check(OSError) is OSError))
    done.errback(OSError())
    assert failed == [True]


def test_a_link_is_no_way_around_a_rule(tmp_path: Path) -> None:
    """Rules see where a path leads; what they deny they deny as it is written too."""
    base = tmp_path.resolve()
    (base / "out").symlink_to(base / "private")
    (base / "in").symlink_to(base / "public")
    asked = Asked(
        tmp_path,
        f"""[[rule]]\neffect="deny"\ninput=[{{path="/path",prefix="{base}/private"}}]
        [[rule]]\neffect="deny"\ninput=[{{path="/path",equals="{base}/never"}}]
        [[rule]]\neffect="allow"\ninput=[{{path="/path",prefix="{base}/public"}}]""",
    )

    def said(name: str) -> list[str]:
        answers = asked.decide(PATH, b'{"path":"%s"}' % str(base / name).encode())
        if asked.waiting:
            asked.resolve()
        return [each.decided_by for each in answers]

    assert said("out") == said("private") == ["rule 1"]
    assert said("never") == ["rule 2"]
    assert said("in") == said("public") == ["rule 3"]
    (base / "public").symlink_to(base / "elsewhere")
    assert said("public") == []


def test_a_rule_that_was_written_while_somebody_was_asked(asked: Asked) -> None:
    """What it denies does not run, whoever said yes, and the yes is not remembered."""
    answers = asked.decide(URL)
    asked.owner.policy = parse_node_policy('[[rule]]\neffect="deny"\nid="stop"\n', "f")
    asked.say("always")
    assert [(each.code, each.decided_by) for each in answers] == [
        ("device_policy_denied", "rule stop")
    ]
    assert asked.consents.remembered() == ()


@pytest.mark.parametrize("resolved", [False, True])
def test_a_question_is_taken_back(asked: Asked, resolved: bool) -> None:
    """At any moment of it."""
    decided = asked.owner.decide(dispatch(1, input_json=b'{"path":"/"}'), PATH, 1.0)
    decided.addErrback(lambda failure: failure.trap(CancelledError) and None)
    assert not decided.called
    if resolved:
        asked.resolve()
    decided.cancel()
    assert [each[1].called for each in asked.person.asked] == [True] * resolved
    for _, waiting in asked.waiting:
        waiting.addErrback(lambda failure: failure.trap(CancelledError) and None)


def test_an_input_that_is_no_json(asked: Asked) -> None:
    """Nobody can be asked about it."""
    refused: list[Any] = []
    decided = asked.owner.decide(dispatch(1, input_json=b"{"), URL, 1.0)
    decided.addErrback(lambda failure: refused.append(failure.value))
    assert isinstance(refused[0], InputInvalid)


def test_rules_come_first(tmp_path: Path) -> None:
    """Before what was said before; and by them more, or less, is asked."""
    asked = Asked(tmp_path)
    asked.decide(URL)
    asked.say("always")
    asked.owner.policy = parse_node_policy(
        '[[rule]]\neffect="deny"\ncapability=["desktop.*"]\nid="no-desktop"\n'
        '[[rule]]\neffect="ask"\ncapability=["x.y"]\n'
        '[[rule]]\neffect="allow"\n',
        "f",
    )
    sentence = "The owner of pi does not allow this (rule: no-desktop)."
    denied = Answer.no("device_policy_denied", sentence, "rule no-desktop")
    assert asked.decide(URL) == [denied]
    assert asked.decide(offer("x.y", needs_mediation=False)) == []
    assert asked.decide(offer("x.z")) == [Answer("rule", "rule 3")]
    assert asked.owner.may_ask("x.y", "low", False)
    assert not asked.owner.may_ask("x.z", "high", True)


def test_without_a_memory_nothing_longer_is_offered() -> None:
    """The scope is empty."""
    person = FakeMediator()
    decided = Owner("pi", mediator=person).decide(dispatch(1, input_json=PAGE), URL, 1.0)
    assert person.asked[0][0].scope == ""
    person.asked[0][1].callback(Answer("always", "ana"))
    assert decided.result == Answer("always", "ana")
