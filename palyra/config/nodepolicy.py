"""``node-host/node-policy.toml``: the owner's own rules, which nothing from outside writes."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated

import msgspec

from palyra.config.reading import MAX_BYTES, as_text, parse_toml
from palyra.config.ruleparts import (
    EFFECTS,
    MAX_RULES,
    SOME,
    InputSection,
    capabilities_of,
    check_ids,
    id_of,
    numbered,
    optional,
    tests_of,
    word_of,
)
from palyra.core.nodepolicy import NodePolicy
from palyra.core.policy import Effect, Rule
from palyra.errors import ConfigInvalid

_MODES = os.name == "posix"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class NodeRuleSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ``[[rule]]`` as it is written; None where it is not."""

    effect: str
    id: str | None = None
    capability: Annotated[tuple[str, ...], SOME] | None = None
    input: Annotated[tuple[InputSection, ...], SOME] | None = None


class NodePolicyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules in their order.  Making one checks all of it."""

    rule: Annotated[tuple[NodeRuleSection, ...], msgspec.Meta(max_length=MAX_RULES)] = ()

    def __post_init__(self) -> None:
        node_policy_of(self)


def node_policy_of(file: NodePolicyFile) -> NodePolicy:
    """The rules that the file says, compiled.

    :raises Malformed: something in it means nothing; ``field`` is its path in the file, where
        rules count from 0, and the problem names the rule by its number.
    """
    rules = tuple(_rule(each, number) for number, each in enumerate(file.rule, 1))
    check_ids(rules, "rule")
    return NodePolicy(rules)


def load_node_policy(path: Path) -> NodePolicy:
    """The owner's rules; none where there is no file.  A link that leads nowhere is no such case:
    its rules are somewhere.

    :raises ConfigInvalid: naming the file, the value's path and what is wrong with it; or that
        others than the owner could have written it.
    """
    try:
        with open(path, "rb", opener=_open) as file:
            _check_ours(os.fstat(file.fileno()), path)
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            return NodePolicy()
        raise ConfigInvalid(str(path), "file", f"cannot be read ({error.strerror})") from error
    if len(data) > MAX_BYTES:
        raise ConfigInvalid(str(path), "file", f"is longer than {MAX_BYTES // 2**20} MiB")
    return parse_node_policy(as_text(data, path), str(path))


def parse_node_policy(text: str, file: str) -> NodePolicy:
    """The rules in the text of a file; ``file`` is only for errors, as :func:`load_node_policy`."""
    return node_policy_of(parse_toml(text, NodePolicyFile, file))


def _rule(section: NodeRuleSection, number: int) -> Rule:
    path = f"rule[{number - 1}]"
    with numbered(number):
        return Rule(
            rule_id=id_of(section.id, number, f"{path}.id"),
            number=number,
            effect=Effect(word_of(section.effect, EFFECTS, f"{path}.effect")),
            capability=optional(
                section.capability, lambda names: capabilities_of(names, f"{path}.capability")
            ),
            input=tests_of(section.input or (), f"{path}.input"),
        )


def _open(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_ours(found: os.stat_result, path: Path) -> None:
    """Rules that others may write are not the owner's word.  Windows has no such modes."""
    if not stat.S_ISREG(found.st_mode):
        raise ConfigInvalid(str(path), "file", "is not a file")
    if not _MODES:
        return
    if found.st_uid not in (0, os.geteuid()):
        raise ConfigInvalid(str(path), "file", f"belongs to another user (uid {found.st_uid})")
    if found.st_mode & _OTHERS_WRITE:
        mode = stat.S_IMODE(found.st_mode)
        problem = f"may be written by others (mode {mode:04o}); chmod 600 makes it yours"
        raise ConfigInvalid(str(path), "file", problem)
