"""Tests of the documentation: links lead somewhere, examples are true."""

from __future__ import annotations

import inspect
import itertools
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click
import msgspec
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from palyra import errors
from palyra.cli import nodeinstall, nodeleavelines, nodelogs, nodeservice, nodestatus
from palyra.cli.capability_new import Project
from palyra.cli.main import palyra
from palyra.config import Config
from palyra.config.nodepolicy import load_node_policy
from palyra.config.root import parse
from palyra.console.app import PREFIX
from palyra.console.openapi import document
from palyra.console.routes import SUBJECTS
from palyra.console.routing import Route, Subject
from palyra.core.devices import ClientKind
from palyra.core.handshake import Begun
from palyra.core.identifiers import DeviceId, Entropy
from palyra.core.pake import Confirmations, DevicePake, GatewayPake, PakeTranscript
from palyra.core.transcript import DeviceProof, Enrolment
from palyra.node.files import NodeFiles
from palyra.wire.v1 import node_pb2

ROOT = Path(__file__).resolve().parent.parent
DEVICE = ROOT / "docs" / "device.md"
SERVICE = ROOT / "docs" / "service.md"
MCP = ROOT / "docs" / "mcp.md"
RULES = ROOT / "docs" / "examples" / "node-policy.toml"
GATEWAY_UNIT = ROOT / "docs" / "examples" / "palyra.service"
CONFIGURATION = ROOT / "docs" / "configuration.md"
API = ROOT / "docs" / "api.md"
OPERATIONS = ROOT / "docs" / "operations.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PROTOCOL = ROOT / "docs" / "protocol.md"
PUBLISHED = 32
"""Field numbers below are version 1 and stand in no table."""
PLUGINS = ROOT / "docs" / "plugins.md"
PAGES = sorted(
    page
    for pages in ("*.md", "docs/**/*.md", "benchmarks/**/*.md", "examples/**/*.md")
    for page in ROOT.glob(pages)
)


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


def blocks_of(page: Path, language: str) -> list[str]:
    """The fenced blocks in a language."""
    found = tokens(page)
    return [token.content for token in found if token.type == "fence" and token.info == language]


def rows(page: Path) -> Iterator[list[str]]:
    """The rows of all tables, as they are written, heads included."""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def quoted(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def test_the_configuration_examples_are_valid() -> None:
    """Every TOML block of the configuration page is a palyra.toml that the gateway takes."""
    blocks = blocks_of(CONFIGURATION, "toml")
    assert blocks
    for block in blocks:
        parse(block, CONFIGURATION.name)


def test_configuration_examples_of_other_pages_are_valid() -> None:
    """What an owner or an operator copies from these pages is taken as it is."""
    for page in (DEVICE, SERVICE, MCP):
        found = [block for block in blocks_of(page, "toml") if not block.startswith("[[rule]]")]
        assert found
        for block in found:
            parse(block, page.name)


def test_the_rules_of_a_device_say_what_the_page_tells(tmp_path: Path) -> None:
    """The page has the example file, word for word, and its table is what those rules decide."""
    assert RULES.read_text(encoding="utf-8") in blocks_of(DEVICE, "toml")
    file = tmp_path / RULES.name
    file.write_bytes(RULES.read_bytes())
    file.chmod(0o600)
    policy = load_node_policy(file)
    told = [row for row in rows(DEVICE) if len(row) == 5 and row[1] in ("low", "medium", "high")]
    assert len(told) > 5
    for capability, risk, needed, given, said in told:
        decision = policy.decide(
            *quoted(capability),
            risk=risk,
            needs_mediation=needed == "yes",
            value=json.loads(*quoted(given)),
        )
        words = {"allow": "allows", "deny": "denies", "ask": "asks"}[decision.effect.value]
        rule = f"rule {decision.rule_id} {words}"
        alone = "asks" if words == "asks" else "is allowed"
        assert said == (rule if decision.rule_id else alone)


def test_the_first_configuration_example_is_every_default() -> None:
    """The page's list of values has every one, with the default that the code has."""
    block = blocks_of(CONFIGURATION, "toml")[0]
    assert parse(block, CONFIGURATION.name) == Config()
    sections = tomllib.loads(block)
    assert {name: list(section) for name, section in sections.items()} == {
        name: list(section) for name, section in msgspec.to_builtins(Config()).items()
    }


def test_the_code_for_authors_of_plugins_is_tested_code() -> None:
    """Every Python block of that page stands so in an example or in the project that
    ``capability new`` writes, whose own tests are run elsewhere."""
    files = [path.read_text(encoding="utf-8") for path in ROOT.glob("examples/*/**/*.py")]
    sources = [*files, *Project.named("printer", None).files().values()]
    blocks = blocks_of(PLUGINS, "python")
    assert len(blocks) > 5
    assert not [block for block in blocks if not any(block in each for each in sources)]


def test_the_settings_of_plugins_are_valid() -> None:
    """Every TOML block of that page is a palyra.toml that a node host takes."""
    for block in blocks_of(PLUGINS, "toml"):
        parse(block, PLUGINS.name)


def test_every_page_is_in_the_index() -> None:
    """A reader who starts at docs/index.md finds every page."""
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / urlsplit(link).path).resolve() for link in links(index)}
    assert set(ROOT.glob("docs/**/*.md")) - {index} <= linked


# -- commands ----------------------------------------------------------------------------------

TYPED = re.compile(r"(?:^|\$ |hint:? +|: +|&& )palyra ([a-z][^\n]*)", re.MULTILINE)
AFTERWARDS = re.compile(r"  +\(| \| | && ")
"""What follows a command on its line."""


def commands(page: Path) -> Iterator[str]:
    """The commands of ours that a page tells to type, without the first word."""
    for token in tokens(page):
        if token.type in ("fence", "code_block", "code_inline"):
            text = "\n".join(line.strip() for line in token.content.splitlines())
            for typed in TYPED.findall(text):
                yield AFTERWARDS.split(typed)[0]


def fault(typed: str) -> str:
    """What is wrong with a command line: a verb or an option that there is not."""
    command: click.Command = palyra
    context = click.Context(command, info_name="palyra")
    for word in shlex.split(typed):
        if word.startswith("--"):
            known = {name for each in command.get_params(context) for name in each.opts}
            if word.partition("=")[0] not in known:
                return f"{word} in: {typed}"
        elif isinstance(command, click.Group):
            verb = command.get_command(context, word)
            if verb is None:
                return f"{word} in: {typed}"
            command, context = verb, click.Context(verb, context, word)
    return ""


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_command_exists(page: Path) -> None:
    """A command that a page tells to type has these verbs and these options."""
    assert not [problem for typed in commands(page) if (problem := fault(typed))]


def test_commands_are_found_and_judged() -> None:
    """The check above looks at something, and would see a mistake."""
    assert len(list(commands(OPERATIONS))) > 30
    assert fault("nodes destroy pi") and fault("pairing code --forever") and not fault("nodes list")


# -- a node host as a service ------------------------------------------------------------------

KEYS = {
    "install": nodeinstall.Report,
    "start": nodeservice.Started,
    "stop": nodeservice.Stopped,
    "logs": nodelogs.Lines,
    "logs --follow": nodelogs.Line,
    "uninstall": nodeleavelines.Report,
}


def fields(kind: type[msgspec.Struct]) -> list[str]:
    return sorted(field.name for field in msgspec.structs.fields(kind))


def test_every_key_for_scripts_is_told() -> None:
    """What a verb answers with ``--json`` is in the tables, and nothing else."""
    told = {quoted(row[0])[0]: quoted(row[1]) for row in rows(SERVICE) if quoted(row[0])}
    assert {verb: sorted(told[verb]) for verb in KEYS} == {
        verb: fields(kind) for verb, kind in KEYS.items()
    }
    text = SERVICE.read_text(encoding="utf-8").partition("`status --json` is one object")[2]
    table = text.partition("\n| key ")[2].partition("\n\n")[0]
    keys = [key for line in table.splitlines()[2:] for key in quoted(line.split(" | ")[0])]
    assert sorted(keys) == fields(nodestatus.StatusItem)


def test_every_file_of_a_node_host_is_told() -> None:
    """The table has each of them."""
    files = NodeFiles(Path("/srv"))
    paths = [each for each in vars(files).values() if isinstance(each, Path)]
    names = {each.name for each in paths if each.parent == files.root}
    assert len(names) > 10
    assert names <= {name for row in rows(SERVICE) for name in quoted(row[0])}


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)
@pytest.mark.parametrize("verb", ["verify", "security"])
def test_the_unit_of_a_gateway_is_one(verb: str, tmp_path: Path) -> None:
    """systemd knows and takes every line of the example, and finds it closed."""
    text = GATEWAY_UNIT.read_text(encoding="utf-8")
    file = tmp_path / GATEWAY_UNIT.name
    file.write_text(text.replace("/opt/palyra/bin/twistd", "/usr/bin/env"), encoding="utf-8")
    options = {"verify": ["--man=no"], "security": ["--offline=true", "--threshold=20"]}[verb]
    command = ["systemd-analyze", "--no-pager", verb, *options, str(file)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert verb == "security" or not ran.stdout


# -- the control API, the wire, the rooms ------------------------------------------------------


def row_of(route: Route) -> str:
    """What the page says of a route."""
    names = [parameter.name for parameter in route.query]
    if route.body is not None:
        names += [field.name for field in msgspec.structs.fields(route.body)]
    right = route.right.value if route.right else ""
    asked = f"`{route.method} {route.path.replace('{target}', '{id}')}`"
    takes = ", ".join(f"`{name}`" for name in names)
    return f"| {asked} | {right} | {route.summary} | {takes} |"


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_every_route_is_in_the_tables(subject: Subject) -> None:
    """The page has a table for each subject, with exactly its routes and what they take."""
    text = API.read_text(encoding="utf-8")
    _, found, after = text.partition(f"### {subject.name.capitalize()}\n\n{subject.about}\n\n")
    assert found
    table = after.partition("\n\n")[0].strip().splitlines()
    assert table[2:] == [row_of(route) for route in subject.routes]


def test_every_status_is_in_the_table() -> None:
    """How refusals are answered is told as the OpenAPI document tells it."""
    responses = document(SUBJECTS, PREFIX)["components"]["responses"]
    told = {status: text for status, text, *_ in rows(API) if status.isdigit()}
    assert {f"Problem{status}": text for status, text in told.items()} == {
        name: response["description"] for name, response in responses.items()
    }


def extensions() -> dict[str, str]:
    """The fields that are not of version 1, and those of the messages which are in them."""
    extended: dict[str, list[Any]] = {}
    within = []
    for name, message in node_pb2.DESCRIPTOR.message_types_by_name.items():
        beyond = [field for field in message.fields if field.number >= PUBLISHED]
        if beyond:
            extended[name] = beyond
            within += [field.message_type for field in beyond if field.message_type]
    for message in within:
        extended.setdefault(message.name, list(message.fields))
    return {
        name: ", ".join(f"{each.number} {each.name}" for each in fields)
        for name, fields in extended.items()
    }


def test_every_extension_field_is_in_the_table() -> None:
    """The page's field numbers and names are those of the messages."""
    expected = extensions()
    told = {row[0]: row[1] for row in rows(PROTOCOL) if row[0] in expected}
    assert told == expected


def test_every_code_that_a_device_acts_on_exists() -> None:
    """The codes on the page are codes of errors."""
    known = {
        each.code
        for _, each in inspect.getmembers(errors, inspect.isclass)
        if issubclass(each, errors.PalyraError)
    }
    text = PROTOCOL.read_text(encoding="utf-8").partition("Codes that a device acts on")[2]
    told = set(
        re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)))
    )
    assert len(told) > 8 and told <= known


def exactly(number: str) -> Entropy:
    """Entropy of which SPAKE2 makes that scalar."""
    return lambda size: bytes.fromhex(number).rjust(size, b"\0")


def times(text: str) -> bytes:
    """``33 times 64``."""
    byte, _, count = text.partition(" times ")
    return bytes.fromhex(byte) * int(count)


def test_the_vector_of_the_pin_exchange() -> None:
    """The page's numbers are what this code makes of its inputs."""
    (block,) = blocks_of(PROTOCOL, "json")
    vector = json.loads(block)
    raw = {key: bytes.fromhex(vector[key]) for key in ("challenge", "CA", "csr", "announcement")}
    device = DevicePake(vector["pin"], exactly(vector["x"]))
    gateway = GatewayPake(vector["pin"], exactly(vector["y"]))
    proof = DeviceProof(
        session_id=vector["session_id"],
        device_id=DeviceId(vector["device_id"]),
        client_kind=ClientKind(vector["client_kind"]),
        proof="",
        identity_public=bytes.fromhex(vector["identity_pub"]),
        x25519_public=bytes.fromhex(vector["x25519_pub"]),
        challenge_signature=times(vector["challenge_signature"]),
        transcript_mac=bytes.fromhex(vector["transcript_mac"]),
        enrolment=Enrolment(raw["csr"], times(vector["SIG"]), raw["announcement"]),
    )
    transcript = PakeTranscript(
        begun=Begun(
            vector["session_id"],
            raw["challenge"],
            bytes.fromhex(vector["gateway_ephemeral_public"]),
        ),
        nameplate=vector["nameplate"],
        ca_hash=raw["CA"],
        gateway_share=gateway.share,
        device_share=device.share,
        proof=proof,
    )
    key = device.finish(gateway.share)
    both = Confirmations.of(key, transcript)
    assert key == gateway.finish(device.share)
    made = (device.share, gateway.share, key, transcript.digest(), both.device, both.gateway)
    assert [each.hex() for each in made] == [
        vector[name] for name in ("X", "Y", "K", "T", "cA", "cB")
    ]


def modules(room: str) -> set[str]:
    return {file.name for file in (ROOT / "palyra" / room).glob("*.py")} - {"__init__.py"}


@pytest.mark.parametrize(
    ("room", "heading"),
    [
        ("gateway", "The gateway"),
        ("node", "The node host"),
        ("capability", "Capabilities"),
        ("workers", "Workers"),
        ("plugins", "Plugins"),
        ("supervision", "Supervision"),
        ("mcp", "AI clients"),
    ],
)
def test_every_file_of_a_room_is_told(room: str, heading: str) -> None:
    """The tables of the architecture have each file of these rooms, and no other."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    section = text.partition(f"## {heading}, file by file")[2].partition("\n## ")[0]
    table = (line for line in section.splitlines() if line.startswith("| `"))
    told = [name for line in table for name in quoted(line.split(" | ")[0])]
    assert sorted(told) == sorted(modules(room))


def test_every_file_that_the_architecture_names_exists() -> None:
    """A path with a room in front leads to a file of the package."""
    found = re.findall(r"`((?:core|pki|store)/\w+\.py)`", ARCHITECTURE.read_text(encoding="utf-8"))
    assert found and not [name for name in found if not (ROOT / "palyra" / name).is_file()]
