"""``node-policy.toml``: read whole or refused by place, and only as its owner wrote it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.config import nodepolicy
from palyra.config.nodepolicy import MAX_BYTES, load_node_policy, parse_node_policy
from palyra.config.ruleparts import MAX_RULES
from palyra.core.nodepolicy import NodePolicy
from palyra.core.policy import Effect
from palyra.core.policyinput import AtMost, OneOf
from palyra.errors import ConfigInvalid

RULE = '[[rule]]\neffect = "allow"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node-policy.toml"


def write(path: Path, data: bytes, mode: int = 0o600) -> None:
    path.write_bytes(data)
    path.chmod(mode)


def test_what_a_rule_says(path: Path) -> None:
    """Every field of it."""
    text = (
        '[[rule]]\nid = "small"\neffect = "allow"\ncapability = ["files.fetch", "x.*"]\n'
        'input = [{ path = "/size", max = 10 }, { path = "/to", one_of = ["a", 1] }]\n' + RULE
    )
    write(path, text.encode())
    first, second = load_node_policy(path).rules
    assert (first.rule_id, first.number, first.effect) == ("small", 1, Effect.ALLOW)
    assert first.capability is not None and first.capability.include("x.y")
    assert [test.test for test in first.input] == [AtMost(10), OneOf(("a", 1))]
    assert (second.rule_id, second.named, second.capability) == ("rule-2", False, None)


def test_a_file_that_is_not_there(path: Path) -> None:
    """Has no rules."""
    assert load_node_policy(path) == NodePolicy()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("rule = 1", "rule"),
        ("rules = []", "top level"),
        ("[[rule]]", "rule[0]"),
        (RULE + "who = ['role:admin']", "rule[0]"),
        (RULE + "max_risk = 'low'", "rule[0]"),
        ("[[rule]]\neffect = 'maybe'", "rule[0].effect"),
        (RULE + "id = 'A B'", "rule[0].id"),
        (RULE + "id = 'a'\n" + RULE + "id = 'a'", "rule[1].id"),
        (RULE + "capability = []", "rule[0].capability"),
        (RULE + "capability = ['*']", "rule[0].capability[0]"),
        (RULE + "input = [{ path = 'x', max = 1 }]", "rule[0].input[0].path"),
        (RULE + "input = [{ path = '/x' }]", "rule[0].input[0]"),
        (RULE + "input = [{ path = '/x', max = nan }]", "rule[0].input[0].max"),
        (RULE + "input = [{ path = '/x', pattern = 'a' }]", "rule[0].input[0]"),
        (RULE * (MAX_RULES + 1), "rule"),
        ("rule = [", "syntax"),
    ],
)
def test_what_means_nothing_is_refused(text: str, place: str) -> None:
    """With the file and the path of the value."""
    with pytest.raises(ConfigInvalid) as refused:
        parse_node_policy(text, "node-policy.toml")
    found = refused.value.path.replace("[...]", "[0]")
    assert (refused.value.file, found) == ("node-policy.toml", place)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_rules_that_others_may_write(path: Path, mode: int) -> None:
    """Are not the owner's word; that others read them does no harm."""
    write(path, RULE.encode(), mode)
    with pytest.raises(ConfigInvalid, match=f"may be written by others .mode 0{mode:o}"):
        load_node_policy(path)
    path.chmod(0o644)
    assert len(load_node_policy(path).rules) == 1


def test_rules_of_another_user(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are these; root's are."""
    write(path, RULE.encode())
    if os.geteuid() == 0:
        os.chown(path, 12_345, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 54_321)
    with pytest.raises(ConfigInvalid, match="belongs to another user"):
        load_node_policy(path)
    if os.getuid() == 0:
        os.chown(path, 0, -1)
        assert len(load_node_policy(path).rules) == 1


def test_what_is_no_file_of_rules(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory, a pipe that would block, bytes that are no text, one that is too long, a link
    in a circle or to nowhere: a disk that is not mounted allows nothing."""
    os.mkfifo(path)
    with pytest.raises(ConfigInvalid, match="is not a file"):
        load_node_policy(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigInvalid):
        load_node_policy(path)
    path.rmdir()
    write(path, b"\xff")
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        load_node_policy(path)
    write(path, b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigInvalid, match="longer than 4 MiB"):
        load_node_policy(path)
    path.unlink()
    for elsewhere in (path, path.with_name("nowhere")):
        path.symlink_to(elsewhere)
        with pytest.raises(ConfigInvalid, match="cannot be read"):
            load_node_policy(path)
        path.unlink()


def test_where_files_have_no_modes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile's own access list protects them."""
    write(path, RULE.encode(), 0o666)
    monkeypatch.setattr(nodepolicy, "_MODES", False)
    assert len(load_node_policy(path).rules) == 1


_VALUES = st.one_of(
    st.sampled_from(["'allow'", "'deny'", "'ask'", "1", "[]", "['x.*']", "[{path='/a',max=1}]"]),
    st.text(max_size=10).map(repr),
)
_LINES = st.tuples(st.sampled_from(["id", "effect", "capability", "input", "extra"]), _VALUES).map(
    " = ".join
)


@given(st.one_of(st.text(max_size=80), st.lists(_LINES, max_size=5).map("\n".join)))
@settings(max_examples=100)
def test_any_text_is_rules_or_is_refused(text: str) -> None:
    """With one error, whatever stands there."""
    for file in (text, "[[rule]]\neffect = 'ask'\n" + text, "[[rule]]\n" + text):
        try:
            policy = parse_node_policy(file, "f")
        except ConfigInvalid:
            continue
        assert isinstance(policy, NodePolicy)
