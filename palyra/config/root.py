"""``palyra.toml`` as a whole."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import get_type_hints

import msgspec

from palyra.config.enrolment import EnrolmentSection
from palyra.config.gateway import GatewaySection
from palyra.config.jobs import JobsSection
from palyra.config.listen import ListenSection
from palyra.config.node import NodeSection
from palyra.config.store import StoreSection
from palyra.core.devices import clean_text
from palyra.errors import ConfigInvalid

MAX_PROBLEM = 240
_AT = re.compile(r"^(?P<problem>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One attribute a section; an absent section has its defaults."""

    gateway: GatewaySection = GatewaySection()
    listen: ListenSection = ListenSection()
    enrolment: EnrolmentSection = EnrolmentSection()
    jobs: JobsSection = JobsSection()
    node: NodeSection = NodeSection()
    store: StoreSection = StoreSection()


def load(path: Path, *, required: bool = False) -> Config:
    """Read a configuration file; a missing one that nobody named is all defaults.

    :raises ConfigInvalid: naming the file, the value's path and what is wrong with it.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        if required:
            raise ConfigInvalid(str(path), "file", "does not exist") from error
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(str(path), "file", f"cannot be read ({error})") from error
    return parse(text, str(path))


def parse(text: str, file: str) -> Config:
    """Read the text of a configuration file; ``file`` is only for errors."""
    try:
        return msgspec.convert(tomllib.loads(text), Config)
    except msgspec.ValidationError as error:
        found = _AT.match(str(error))
        assert found is not None, "the pattern matches every text"
        path, problem = found["path"] or "top level", found["problem"]
        problem = clean_text(_described(path) or problem, MAX_PROBLEM)
        raise ConfigInvalid(file, path, problem) from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, a number of 5,000 digits
        raise ConfigInvalid(file, "syntax", clean_text(str(error), MAX_PROBLEM)) from error


def _described(path: str) -> str:
    """What a value must be, where its section says it better than a pattern would."""
    section, _, name = path.partition(".")
    made = getattr(Config(), section, None)
    hint = get_type_hints(type(made), include_extras=True).get(name)
    said = (getattr(meta, "description", "") for meta in getattr(hint, "__metadata__", ()))
    return "".join(each or "" for each in said)
