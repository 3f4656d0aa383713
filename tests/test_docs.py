"""Tests of the documentation: links lead somewhere, examples are true."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from palyra.config import Config
from palyra.config.root import parse

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATION = ROOT / "docs" / "configuration.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")])


def tokens(page: Path) -> Iterator[Token]:
    """The tokens of a page, those inside paragraphs included."""
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")):
        yield token
        yield from token.children or ()


def links(page: Path) -> Iterator[str]:
    """The targets of links and images."""
    for token in tokens(page):
        target = token.attrGet("href") or token.attrGet("src")
        if target is not None:
            yield str(target)


def anchors(page: Path) -> set[str]:
    """The anchors that headings get: lower case, without punctuation, blanks as dashes."""
    found = list(tokens(page))
    headings = [text for tag, text in itertools.pairwise(found) if tag.tag[:1] == "h"]
    words = (re.sub(r"[^\w\- ]", "", text.content.lower()) for text in headings)
    return {text.strip().replace(" ", "-") for text in words}


def names(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_relative_link_resolves(page: Path) -> None:
    """A link to a file or a heading of this repository leads to one."""
    broken = []
    for link in links(page):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        inside = target.is_relative_to(ROOT) and target.exists()
        if not inside or (parts.fragment and parts.fragment not in anchors(target)):
            broken.append(link)
    assert not broken


def toml_blocks(page: Path) -> list[str]:
    return [
        token.content for token in tokens(page) if token.type == "fence" and token.info == "toml"
    ]


def test_the_configuration_examples_are_valid() -> None:
    """Every TOML block of the configuration page is a palyra.toml that the gateway takes."""
    blocks = toml_blocks(CONFIGURATION)
    assert blocks
    for block in blocks:
        parse(block, CONFIGURATION.name)


def test_the_first_configuration_example_is_every_default() -> None:
    """The page's list of values has every one, with the default that the code has."""
    block = toml_blocks(CONFIGURATION)[0]
    assert parse(block, CONFIGURATION.name) == Config()
    sections = tomllib.loads(block)
    assert {name: list(section) for name, section in sections.items()} == {
        name: list(section) for name, section in msgspec.to_builtins(Config()).items()
    }


def test_every_page_is_in_the_index() -> None:
    """A reader who starts at docs/index.md finds every page."""
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / urlsplit(link).path).resolve() for link in links(index)}
    assert set(ROOT.glob("docs/**/*.md")) - {index} <= linked
