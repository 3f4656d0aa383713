"""``[policy]``: rules are read whole or refused by place; the examples of the page are true."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import attrs
import msgspec
import pytest
from markdown_it import MarkdownIt

from palyra.config.policy import MAX_RULES, PolicySection, RuleSection, rules_of
from palyra.config.root import Config, load_policy, parse
from palyra.core.devices import ClientKind, Device, Risk
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.core.operators import Role
from palyra.core.policy import Asking, Effect, Principal, Rules, decide, explain
from palyra.core.policyinput import AtMost, OneOf, Prefix
from palyra.errors import ConfigInvalid, Malformed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "policy.md"
ID = "01J9ZC5QXGX4K7QM2ZT9B3FVHD"
BO = Principal(ID, Role.OPERATOR)
PI = Device(
    device_id=DeviceId(ID),
    client_kind=ClientKind.NODE,
    name="pi",
    platform="linux arm64",
    version="0.1.0",
    identity_public=b"",
    identity_fingerprint=Fingerprint(""),
    grants=frozenset(),
    capabilities=(),
    labels={"edge": ""},
    approved_by="",
    paired_at_ms=0,
)
DEVICES = {"pi": PI, "web": attrs.evolve(PI, labels={"env": "prod"})}


def rules(text: str) -> Rules:
    return rules_of(parse(text, "palyra.toml").policy)


def rule(line: str, effect: str = "ask") -> str:
    """A file with one rule that has this line too."""
    return f'[[policy.rule]]\neffect = "{effect}"\n{line}\n'


def refusal(text: str) -> ConfigInvalid:
    with pytest.raises(ConfigInvalid) as refused:
        parse(text, "palyra.toml")
    return refused.value


# -- the page -------------------------------------------------------------------------------------


def blocks() -> list[str]:
    found = MarkdownIt("commonmark").parse(PAGE.read_text(encoding="utf-8"))
    return [token.content for token in found if token.type == "fence" and token.info == "toml"]


def rows(head: str) -> list[list[str]]:
    """The rows of the table with that head, code spans without their marks."""
    table = PAGE.read_text(encoding="utf-8").partition(f"\n| {head} |\n")[2].partition("\n\n")[0]
    cells = [re.split(r" \| ", line.strip("| ")) for line in table.splitlines()[1:]]
    return [[re.sub(r"^`(.*)`$", r"\1", cell) for cell in row] for row in cells]


def test_every_example_is_taken() -> None:
    """What the page shows can be pasted."""
    assert [len(rules(block).rules) for block in blocks()] == [4, 0]
    assert rules(blocks()[1]).floors == {"system.*": Risk.MEDIUM, "acme.print": Risk.HIGH}


@pytest.mark.parametrize("row", rows("capability | risk | device | input | what is said"))
def test_every_call_of_the_page_is_decided_as_it_says(row: list[str]) -> None:
    """With the reason word for word."""
    capability, risk, device, value, said = row
    asking = Asking(BO, capability, Risk(risk), json.loads(value))
    assert explain(decide(rules(blocks()[0]), asking, DEVICES[device])) == said


@pytest.mark.parametrize("row", rows("rule | error"))
def test_every_error_of_the_page_is_what_is_said(row: list[str]) -> None:
    """Word for word."""
    line, error = row
    text = f"[[policy.rule]]\n{line}\n" if line.startswith("effect") else rule(line)
    assert refusal(text).sentence == error


def test_the_tables_are_found() -> None:
    """The checks above look at something."""
    assert len(rows("capability | risk | device | input | what is said")) > 8
    assert len(rows("rule | error")) > 5


# -- what is read ---------------------------------------------------------------------------------


def test_no_rules_are_the_default() -> None:
    """An absent section, an empty one and no file at all."""
    assert rules("") == rules("[policy]\n") == rules_of(Config().policy) == Rules.empty


def test_a_rule_of_an_effect_alone() -> None:
    """Everything else has its default."""
    (made,) = rules(rule("")).rules
    assert (made.rule_id, made.number, made.effect) == ("rule-1", 1, Effect.ASK)
    assert (made.who, made.capability, made.where, made.max_risk) == (None, None, None, None)
    assert (made.input, made.approvers, made.four_eyes) == ((), (), False)
    assert (made.expires_s, made.scopes) == (600, ("once",))


def test_every_field_is_read() -> None:
    """As it is written."""
    (made,) = rules(
        rule(
            f"""id = "a.b-1_c"
who = ["role:viewer", "operator:{ID}", "operator:local:1000", "device:{ID}"]
capability = ["echo", "acme.*"]
where = "group(edge)"
max_risk = "high"
input = [
    {{ path = "", equals = false }},
    {{ path = "/a", one_of = [1, 2.5, "x", true] }},
    {{ path = "/b", prefix = "x" }},
    {{ path = "/c", max = 0 }},
]
approvers = ["role:approver", "role:admin", "operator:{ID}"]
four_eyes = true
expires_s = 30
scopes = ["once", "session", "timeboxed", "once"]"""
        )
    ).rules
    assert made.rule_id == "a.b-1_c" and made.max_risk is Risk.HIGH and made.four_eyes
    who = {"role:viewer", f"operator:{ID}", "operator:local:1000", f"device:{ID}"}
    assert made.who == frozenset(who)
    assert made.capability is not None and made.capability.include("acme.print")
    assert str(made.where) == "group(edge)"
    assert [(each.pointer.text, each.test) for each in made.input] == [
        ("", OneOf((False,))),
        ("/a", OneOf((1, 2.5, "x", True))),
        ("/b", Prefix("x")),
        ("/c", AtMost(0)),
    ]
    assert made.approvers == ("role:approver", "role:admin", f"operator:{ID}")
    assert (made.expires_s, made.scopes) == (30, ("once", "session", "timeboxed"))


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("id = ''", "id"),
        ("id = 'Rule'", "id"),
        ("id = 'a b'", "id"),
        ("id = 4", "id"),
        ("who = []", "who"),
        ("who = 'role:admin'", "who"),
        ("who = ['role:root']", "who[0]"),
        ("who = ['role:']", "who[0]"),
        ("who = ['role:admin', 'operator:bo']", "who[1]"),
        ("who = ['operator:local:']", "who[0]"),
        ("who = ['operator:local:bo']", "who[0]"),
        (f"who = ['operator:{ID.lower()}']", "who[0]"),
        ("who = ['device:X4K7QM']", "who[0]"),
        ("who = ['device']", "who[0]"),
        ("who = [':']", "who[0]"),
        ("capability = []", "capability"),
        ("capability = ['']", "capability[0]"),
        ("capability = ['echo', 'system*']", "capability[1]"),
        ("capability = ['*.health']", "capability[0]"),
        ("capability = ['system.']", "capability[0]"),
        ("capability = ['System.health']", "capability[0]"),
        ("where = ''", "where"),
        ("where = 'label.env'", "where"),
        ("where = 'has(echo)'", "where"),
        ("max_risk = 'none'", "max_risk"),
        ("max_risk = 'Low'", "max_risk"),
        ("input = []", "input"),
        ("input = [{ path = '/a' }]", "input[0]"),
        ("input = [{ path = '/a', equals = 1, max = 1 }]", "input[0]"),
        ("input = [{ equals = 1 }]", "input[0]"),
        ("input = [{ path = '/a', regex = 'x' }]", "input[0]"),
        ("input = [{ path = '/a', max = 1 }, { path = 'a', max = 1 }]", "input[1].path"),
        ("input = [{ path = '/a', equals = [1] }]", "input[0].equals"),
        ("input = [{ path = '/a', equals = 2026-01-01 }]", "input[0].equals"),
        ("input = [{ path = '/a', equals = nan }]", "input[0].equals"),
        ("input = [{ path = '/a', one_of = [] }]", "input[0].one_of"),
        ("input = [{ path = '/a', one_of = [1, inf] }]", "input[0].one_of"),
        ("input = [{ path = '/a', max = -inf }]", "input[0].max"),
        ("input = [{ path = '/a', max = true }]", "input[0].max"),
        ("input = [{ path = '/a', prefix = '' }]", "input[0].prefix"),
        ("input = [{ path = '/a', prefix = 'https://a@b/' }]", "input[0].prefix"),
        ("approvers = []", "approvers"),
        ("approvers = ['role:operator']", "approvers[0]"),
        (f"approvers = ['role:admin', 'device:{ID}']", "approvers[1]"),
        ("approvers = ['anna']", "approvers[0]"),
        ("four_eyes = 'yes'", "four_eyes"),
        ("expires_s = 29", "expires_s"),
        ("expires_s = 86401", "expires_s"),
        ("scopes = []", "scopes"),
        ("scopes = ['once', 'always']", "scopes[1]"),
        ("regex = '.*'", ""),
    ],
)
def test_what_means_nothing_is_named(line: str, path: str) -> None:
    """By its place in the file; of the second rule too."""
    error = refusal(rule("", "allow") + rule(line))
    assert error.path == f"policy.rule[1].{path}".rstrip(".")
    assert error.sentence.startswith(f"palyra.toml: {error.path}: ")


@pytest.mark.parametrize(
    ("effect", "line", "name"),
    [
        ("deny", "max_risk = 'low'", "max_risk"),
        ("deny", "four_eyes = false", "four_eyes"),
        ("allow", "approvers = ['role:admin']", "approvers"),
        ("allow", "expires_s = 600", "expires_s"),
        ("allow", "scopes = ['once']", "scopes"),
    ],
)
def test_what_would_be_read_as_something_else(effect: str, line: str, name: str) -> None:
    """A rule has no field that means nothing for its effect."""
    error = refusal(rule(line, effect))
    assert error.path == f"policy.rule[0].{name}"
    assert error.problem.startswith("rule 1: only rules that ")


def test_an_effect_is_wanted() -> None:
    """A rule without one is not taken for anything."""
    assert refusal("[[policy.rule]]\nid = 'a'\n").path == "policy.rule[0]"


@pytest.mark.parametrize("second", ["id = 'rule-1'", "id = 'x'\n[[policy.rule]]\nid = 'x'"])
def test_two_rules_of_one_id(second: str) -> None:
    """An id that was left out counts too."""
    text = rule("", "allow") + f"[[policy.rule]]\neffect = 'allow'\n{second}\n"
    if text.count("[[policy.rule]]") == 3:
        text += "effect = 'deny'\n"
    error = refusal(text)
    assert error.path.endswith(".id") and error.problem.endswith("has this id")


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("'*' = 'high'", "policy.risk.*"),
        ("'echo' = 'none'", "policy.risk.echo"),
        ("'Echo' = 'high'", "policy.risk.Echo"),
        ("'echo' = 1", "policy.risk[...]"),
    ],
)
def test_a_floor_that_means_nothing(line: str, path: str) -> None:
    """It is of a capability or all below a prefix, and a risk."""
    assert refusal(f"[policy.risk]\n{line}\n").path == path


def test_there_are_only_so_many_rules() -> None:
    """Each call is put to all of them."""
    many = "[[policy.rule]]\neffect = 'allow'\n" * MAX_RULES
    assert len(rules(many).rules) == MAX_RULES
    assert refusal(many + rule("")).path == "policy.rule"


def test_a_section_is_checked_however_it_is_made() -> None:
    """Not only when it comes out of a file."""
    with pytest.raises(Malformed):
        PolicySection((RuleSection("forbid"),))


# -- reading it again -----------------------------------------------------------------------------


def test_rules_come_with_the_hash_of_their_file(tmp_path: Path) -> None:
    """Of exactly the bytes that were read."""
    file = tmp_path / "palyra.toml"
    data = b"# rules\r\n" + rule("id = 'a'").encode()
    file.write_bytes(data)
    section, digest = load_policy(file)
    assert digest == hashlib.sha256(data).hexdigest()
    assert [each.rule_id for each in rules_of(section).rules] == ["a"]
    assert msgspec.to_builtins(section.rule[0])["id"] == "a"


def test_a_file_that_went_away(tmp_path: Path) -> None:
    """Whoever had rules is told, so that they do not vanish with their file."""
    section, digest = load_policy(tmp_path / "palyra.toml")
    assert (section, digest) == (PolicySection(), hashlib.sha256(b"").hexdigest())
    with pytest.raises(ConfigInvalid):
        load_policy(tmp_path / "palyra.toml", required=True)


@pytest.mark.parametrize("text", ["[[policy.rule]]\n", "[jobs]\ntimeout_s = 0\n", "[", "\udcff"])
def test_a_bad_file_is_refused_whole(tmp_path: Path, text: str) -> None:
    """Wherever in it the fault is: the old rules stay."""
    file = tmp_path / "palyra.toml"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigInvalid):
        load_policy(file)
