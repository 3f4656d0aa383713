"""``palyra.toml``: every value has a default; an error names the file, the path and the fault."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.config import Config, load
from palyra.config.root import parse
from palyra.core.transports import GrpcFallback, Preference
from palyra.errors import ConfigInvalid


def test_no_file_is_all_defaults(tmp_path: Path) -> None:
    """Nobody needs a configuration; one that was named must be there."""
    assert load(tmp_path / "palyra.toml") == Config()
    with pytest.raises(ConfigInvalid) as caught:
        load(tmp_path / "palyra.toml", required=True)
    assert (caught.value.path, caught.value.problem) == ("file", "does not exist")


def test_an_unreadable_file(tmp_path: Path) -> None:
    """A directory or bytes that are no text are refused by name."""
    with pytest.raises(ConfigInvalid):
        load(tmp_path)
    file = tmp_path / "palyra.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigInvalid) as caught:
        load(file)
    assert str(file) in caught.value.sentence


def test_what_is_no_file_holds_nobody_up(tmp_path: Path) -> None:
    """A pipe in its place, or more than any configuration has, is refused; a pipe that was named
    is somebody's wish."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigInvalid, match="is not a file"):
        load(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    with pytest.raises(ConfigInvalid, match="is not a file"):
        load(tmp_path / "link")
    with pytest.raises(ConfigInvalid, match="is longer than 4 MiB"):
        load(tmp_path / "link", required=True)
    assert load(Path("/dev/null"), required=True) == Config()


def test_a_url_is_not_shown() -> None:
    """The URL of a database may have a password in it: neither a repr nor an error repeats it."""
    url = "postgresql+psycopg://me:hunter2@db/palyra"
    config = parse(f'[store]\nurl = "{url}"\n', "palyra.toml")
    assert config.store.url == url
    assert "hunter2" not in repr(config)
    assert repr(Config().store) == "StoreSection(url='')"
    with pytest.raises(ConfigInvalid) as caught:
        parse('[store]\nurl = "mysql://me:hunter2@db/palyra"\n', "palyra.toml")
    assert caught.value.path == "store.url"
    assert "hunter2" not in caught.value.sentence


def test_published_defaults() -> None:
    """What the documentation promises holds without a file."""
    config = Config()
    assert (config.listen.enrolment, config.listen.node_rpc) == (
        "127.0.0.1:7443",
        "127.0.0.1:7444",
    )
    assert (config.enrolment.code_ttl_s, config.enrolment.approval_ttl_s) == (600, 600)
    assert (config.enrolment.failed_proofs_per_source, config.enrolment.open_sessions) == (
        3,
        10_000,
    )
    assert (config.jobs.timeout_s, config.jobs.max_payload_bytes) == (30.0, 65_536)
    assert (config.gateway.names, config.gateway.shutdown_grace_s) == ((), 10.0)
    assert config.node.mediation_timeout_s == 120.0
    assert (config.node.transport, config.node.grpc_fallback) == (
        Preference.AUTO,
        GrpcFallback.UNREACHABLE,
    )
    assert config.node.pin is None


def test_values_are_read() -> None:
    """One table a section."""
    text = '[gateway]\nnames = ["home.example.org"]\n[jobs]\ntimeout_s = 5\n'
    config = parse(text, "palyra.toml")
    assert config.gateway.names == ("home.example.org",)
    assert config.jobs.timeout_s == 5
    assert config.node == Config().node


def test_a_pin_is_read() -> None:
    """In either case of the letters, with the name of the hash or without; it is 32 bytes."""
    for before in ("sha256:", ""):
        config = parse(f'[node]\nserver_pin = "{before}{"aB" * 32}"\n', "palyra.toml")
        assert config.node.pin == b"\xab" * 32


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[listen]\nquic = 'off'\n", "listen.quic: must be node_rpc, none or HOST:PORT."),
        (
            "[node]\nserver_pin = 'abc'\n",
            "node.server_pin: must be 64 hex digits, with sha256: before them or without.",
        ),
    ],
)
def test_what_it_must_be_is_said_in_words(text: str, problem: str) -> None:
    """And not as a pattern."""
    with pytest.raises(ConfigInvalid) as caught:
        parse(text, "palyra.toml")
    assert caught.value.sentence == f"palyra.toml: {problem}"


@pytest.mark.parametrize("quic", ["node_rpc", "none", "0.0.0.0:7444", "[::]:0"])
def test_where_quic_listens(quic: str) -> None:
    """One of two words, or an address."""
    assert parse(f"[listen]\nquic = '{quic}'\n", "palyra.toml").listen.quic == quic


def test_a_transport_is_read() -> None:
    """A word."""
    config = parse('[node]\ntransport = "quic"\n', "palyra.toml")
    assert config.node.transport is Preference.QUIC


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("[jobs]\ntimeout_s = 0\n", "jobs.timeout_s"),
        ("[jobs]\ntimeout_s = '5'\n", "jobs.timeout_s"),
        ("[jobs]\nmax_payload_bytes = 4194304\n", "jobs.max_payload_bytes"),
        ("[enrolment]\ncode_ttl_s = 29\n", "enrolment.code_ttl_s"),
        ("[gateway]\ntrust_domain = 'Not A Domain'\n", "gateway.trust_domain"),
        ("[gateway]\nnames = ['']\n", "gateway.names[0]"),
        ("[node]\ntransport = 'udp'\n", "node.transport"),
        ("[node]\ngrpc_fallback = 'always'\n", "node.grpc_fallback"),
        ("[node]\nquic_retry_s = 0\n", "node.quic_retry_s"),
        (f"[node]\nserver_pin = 'sha256:{'a' * 63}'\n", "node.server_pin"),
        (f"[node]\nserver_pin = 'md5:{'a' * 64}'\n", "node.server_pin"),
        (f"[node]\nserver_pin = '{'a' * 64}\\n'\n", "node.server_pin"),
        ("[listen]\nquic = 'off'\n", "listen.quic"),
        (f"[node]\nserver_pin = 'sha256:{'a' * 64}\\n'\n", "node.server_pin"),
        ("[listen]\nmax_quic_connections = 0\n", "listen.max_quic_connections"),
        ("[jobs]\ntimeout = 5\n", "jobs"),
        ("[jbos]\n", "top level"),
        ("jobs = 1\n", "jobs"),
        ("[jobs\n", "syntax"),
    ],
)
def test_what_is_wrong_is_named(text: str, path: str) -> None:
    """The path of the value is in the sentence, so that nobody searches for it."""
    with pytest.raises(ConfigInvalid) as caught:
        parse(text, "palyra.toml")
    assert (caught.value.file, caught.value.path) == ("palyra.toml", path)
    assert caught.value.sentence.startswith(f"palyra.toml: {path}: ")


@given(st.text(max_size=80))
@settings(max_examples=100, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text does anything else."""
    try:
        parse(text, "palyra.toml")
    except ConfigInvalid as error:
        assert error.problem


@pytest.mark.parametrize("section", [each.name for each in msgspec.structs.fields(Config)])
def test_every_default_is_acceptable(section: str) -> None:
    """A file that writes a section's defaults down says the same as no file."""
    default = getattr(Config(), section)
    assert msgspec.convert({section: msgspec.to_builtins(default)}, Config) == Config()
