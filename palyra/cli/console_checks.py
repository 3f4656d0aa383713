"""What ``palyra doctor`` finds out of the console's listener: its port, names and certificate."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cryptography import x509

from palyra._listeners import listener_of
from palyra.cli.ports import refusal
from palyra.config import Config
from palyra.config.addresses import HostPort
from palyra.config.endpoints import Place, own_files, read_place
from palyra.console.hosts import LOOPBACK_NAMES, host_name
from palyra.console.models import Check
from palyra.errors import (
    KeyFilePermission,
    Malformed,
    NameNotInCertificate,
    NamesRequired,
    PortTaken,
    not_listening,
)
from palyra.pki.served import CertificateFiles

NAME = "console"
_TLS_NAME = "palyrad-node-rpc"


def port(config: Config) -> list[Check]:
    """Whether a gateway could listen there; nothing where the console is switched off."""
    where = _place(config)
    if where is None:
        return [Check("ok", NAME, "only on console.sock", "palyra.toml")]
    if isinstance(where, Check):
        return [where]
    address = where.address
    found = taken(NAME, address)
    return [found or Check("ok", NAME, f"{address} is free", str(address))]


def taken(name: str, address: HostPort) -> Check | None:
    """Who has a port that a listener wants, or why else it cannot listen there; None: it can."""
    cause = refusal(address.host or "0.0.0.0", address.port)
    if cause is None:
        return None
    error = not_listening(name, str(address), address.port, cause)
    if isinstance(error, PortTaken):
        error = PortTaken(name, address.port, *listener_of(address.port))
    finding = error.sentence[0].lower() + error.sentence[1:].rstrip(".")
    return Check("FAIL", name, finding, str(address), error.hint)


def checks(root: Path, config: Config, now: datetime) -> list[Check]:
    """Whom it lets in without TLS, and whether its certificate can be shown for its names."""
    where = _place(config)
    if where is None or isinstance(where, Check):
        return []
    if not where.address.is_loopback and not config.gateway.names:
        error = NamesRequired(str(where.address))
        return [Check("FAIL", NAME, error.sentence.rstrip("."), str(where.address), error.hint)]
    return [*_plain(where, config), *_certificate(root, where, config, now)]


def _place(config: Config) -> Place | Check | None:
    text = config.console.endpoint
    if text == "none":
        return None
    try:
        return read_place(text, "console.endpoint")
    except Malformed as error:
        return Check("FAIL", NAME, error.sentence.rstrip("."), text, "correct it in palyra.toml")


def _plain(where: Place, config: Config) -> list[Check]:
    proxies = [each for each in config.console.proxies() if not each.is_loopback]
    if not proxies or where.address.is_loopback:
        return []
    finding = f"{', '.join(map(str, proxies))} may speak plain HTTP to {where.address}"
    hint = "keep that network closed to others, or let the proxy speak TLS"
    return [Check("warn", "console plain", finding, str(where.address), hint)]


def _certificate(root: Path, where: Place, config: Config, now: datetime) -> list[Check]:
    own = own_files(where, config.console)
    file = own[0] if own is not None else root / "identity" / "gateway.pem"
    name = "console certificate"
    try:
        if own is not None:
            CertificateFiles(*own).served()
        found = x509.load_pem_x509_certificates(file.read_bytes())[0]
    except KeyFilePermission as error:
        return [Check("FAIL", name, error.sentence.rstrip("."), error.path, error.hint)]
    except (OSError, ValueError) as error:
        if own is None:  # the checks of the identity say so
            return []
        cause = getattr(error, "strerror", None) or "it is not a certificate (PEM)"
        hint = "correct console.certificate and console.private_key in palyra.toml"
        fault = str(getattr(error, "filename", None) or file)
        return [Check("FAIL", name, f"{fault}: {cause.lower()}", fault, hint)]
    if own is not None and not found.not_valid_before_utc <= now < found.not_valid_after_utc:
        return [_out_of_date(name, found, now, file)]
    return [_named(name, found, config, file, own=own is not None)]


def _out_of_date(name: str, found: x509.Certificate, now: datetime, file: Path) -> Check:
    begins, ends = found.not_valid_before_utc, found.not_valid_after_utc
    if now < begins:
        finding = f"begins only at {begins:%Y-%m-%d %H:%M} UTC"
        return Check("FAIL", name, finding, str(file), "timedatectl set-ntp true")
    finding = f"ended at {ends:%Y-%m-%d %H:%M} UTC"
    return Check("FAIL", name, finding, str(file), f"put a new one into {file}; no restart")


def _named(name: str, found: x509.Certificate, config: Config, file: Path, *, own: bool) -> Check:
    """Whether every configured name stands in it; browsers and remote commands look for theirs."""
    there = _names(found)
    missing = [each for each in config.gateway.names if host_name(each) not in there]
    if not missing:
        shown = ", ".join(sorted(there - {_TLS_NAME}))
        return Check("ok", name, f"for {shown}", str(file))
    shown_names = tuple(sorted(there - {_TLS_NAME, *LOOPBACK_NAMES[1:]}))
    error = NameNotInCertificate(missing[0], shown_names)
    hint = f"get one that names {missing[0]}" if own else "twistd -n palyra (a restart adds it)"
    return Check("FAIL", name, error.sentence.rstrip("."), str(file), hint)


def _names(found: x509.Certificate) -> set[str]:
    try:
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return set()
    dns = extension.value.get_values_for_type(x509.DNSName)
    return {*dns, *map(str, extension.value.get_values_for_type(x509.IPAddress))}
