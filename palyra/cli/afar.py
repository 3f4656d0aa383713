"""A gateway from afar as its commands ask it: over its context, whose certificate renews itself."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

from palyra.afar.contexts import CA, PAIR, PENDING, Context, Contexts
from palyra.afar.remote import RemoteWay, tls_context
from palyra.afar.renewal import Pending, keep
from palyra.cli.client import Console
from palyra.console.models import OperatorCertificateAnswer, RenewOperator
from palyra.errors import ContextUnusable, PalyraError


def console_of(context: Context, contexts: Contexts, timeout_s: float = 10.0) -> Console:
    """The gateway of a context.  When an answer says so, its certificate is renewed at once."""

    def tls() -> ssl.SSLContext:
        pair = contexts.pair_file(context.name)
        try:
            ca_pem = (contexts.directory(context.name) / CA).read_text()
            return tls_context(ca_pem, pair)
        except (OSError, ValueError) as error:
            raise ContextUnusable(context.name, f"{CA} or {PAIR} is damaged") from error

    def console(due: bool) -> Console:
        renewing = (lambda: _renewed(context, contexts, console(False))) if due else (lambda: None)
        way = RemoteWay(context.address, tls, renewing)
        return Console(Path(), timeout_s, way=way)

    return console(True)


def _renewed(context: Context, contexts: Contexts, console: Console) -> None:
    """Get the next certificate; what goes wrong is tried again with the next command."""
    with contextlib.suppress(PalyraError, OSError):
        renew(context, contexts, console)


def renew(context: Context, contexts: Contexts, console: Console) -> OperatorCertificateAnswer:
    """Get the next certificate with a new key.

    :raises PalyraError: it was refused, or the gateway cannot be reached.
    """
    pending = Pending(contexts.directory(context.name) / PENDING)
    body = RenewOperator(pending.csr_pem)
    answer = console.post("operators/self/renew", body, OperatorCertificateAnswer).value
    keep(context, contexts, pending, answer)
    return answer
