"""``palyra operators accept``: become an operator of a gateway from afar."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import attrs
import click

from palyra._files import make_private_dir
from palyra.afar.contexts import CURRENT, FOLDER, PENDING, Context, Contexts, checked_name
from palyra.afar.remote import RemoteWay, fetch_chain, tls_context
from palyra.afar.renewal import Pending
from palyra.cli import facts, words
from palyra.cli.client import Answer, Console
from palyra.cli.facts import Fact
from palyra.cli.present import Screen
from palyra.console.models import EnrolOperator, OperatorCertificateAnswer
from palyra.core.operator_uri import OperatorUri
from palyra.core.pairing_uri import spell_token
from palyra.errors import CaMismatch, InsecureCodeArgument, InvitationCaMismatch, Malformed
from palyra.node.firstcontact import named_root

MAX_LINE = 4_096
MAX_HOST = 50


@attrs.frozen
class Accepted:
    """What became of it: the answer, and the context that was made of it."""

    answer: Answer[OperatorCertificateAnswer]
    context: Context
    in_use: bool


def read_line(given: str, *, interactive: bool) -> OperatorUri:
    """The invitation: ``-`` (asked for without echo, or stdin) or ``@FILE``.

    :raises InsecureCodeArgument: it was given itself: other accounts see the arguments.
    :raises Malformed: it is none.
    """
    if given == "-":
        text = (
            click.prompt("Invitation", hide_input=True, err=True)
            if interactive
            else sys.stdin.readline(MAX_LINE)
        )
    elif given.startswith("@"):
        try:
            text = Path(given[1:]).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"{given[1:]} cannot be read") from error
    else:
        raise InsecureCodeArgument(invitation=True)
    return OperatorUri.parse(text)


def accept(uri: OperatorUri, contexts: Contexts, name: str, ca_file: Path | None) -> Accepted:
    """Check whose gateway it is, make a key here, and have it certified.

    ``name`` is the context's, ``ca_file`` the roots of a console that shows a certificate of
    another CA than the gateway's own.

    :raises InvitationCaMismatch: it is another gateway than the invitation's; nothing was sent.
    :raises PalyraError: it cannot be reached, or does not take the invitation.
    """
    name = checked_name(name) if name else _usual_name(uri, contexts)
    context = Context(name, uri.origin, own_roots=ca_file is not None)
    roots = _roots(uri, context) if ca_file is None else _given_roots(ca_file)
    tls = tls_context(roots, None)
    make_private_dir(contexts.root, marks=(FOLDER, CURRENT))
    directory = contexts.directory(context.name)
    make_private_dir(directory)
    pending = Pending(directory / PENDING)
    console = Console(Path(), way=RemoteWay(context.address, lambda: tls))
    signature = base64.b64encode(pending.signature(uri.ca, uri.token)).decode()
    body = EnrolOperator(spell_token(uri.token), pending.csr_pem, signature)
    answer = console.post("operators/enrol", body, OperatorCertificateAnswer)
    return _kept(answer, context, contexts, pending, roots)


def _usual_name(uri: OperatorUri, contexts: Contexts) -> str:
    """The host; with its port where another gateway of that host is known already."""
    name = uri.line.host.replace(":", "-")[:MAX_HOST]
    others = any(each.name == name and each.url != uri.origin for each in contexts.all())
    return checked_name(f"{name}-{uri.line.port}" if others else name)


def _given_roots(file: Path) -> str:
    """:raises Malformed: there is no certificate in it."""
    try:
        pem = file.read_text("utf-8")
        tls_context(pem, None)
    except (OSError, ValueError) as error:
        raise Malformed("ca-file", "holds no certificate (PEM)") from error
    return pem


def _roots(uri: OperatorUri, context: Context) -> str:
    """The CA of the gateway that answers, which is the one that the invitation names."""
    try:
        return named_root(fetch_chain(context.address), uri.ca, None).pem
    except CaMismatch as error:
        raise InvitationCaMismatch() from error


def _kept(
    answer: Answer[OperatorCertificateAnswer],
    context: Context,
    contexts: Contexts,
    pending: Pending,
    roots: str,
) -> Accepted:
    made = answer.value
    known = Context(
        context.name,
        context.url,
        made.operator.name,
        made.operator.operator_id,
        context.own_roots,
    )
    ca_pem = roots if context.own_roots else made.ca_bundle_pem
    contexts.add(known, ca_pem.encode(), pending.pair(made.certificate_pem))
    first = contexts.current() is None
    if first:
        contexts.use(known.name)
    return Accepted(answer, known, first)


def show(screen: Screen, accepted: Accepted) -> None:
    """Who one is now, where, and until when."""
    made, now = accepted.answer.value, screen.now()
    until = made.expires_at_unix_ms
    context = accepted.context
    facts.show(
        screen,
        [
            Fact.same("operator", f"{words.escaped(made.operator.name)}"),
            Fact.same("role", words.escaped(made.operator.role)),
            Fact.same("gateway", words.escaped(context.url)),
            Fact.same("context", words.escaped(context.name)),
            Fact("certificate", f"until {words.when(until, now)}", words.utc(until)),
        ],
    )
    if not accepted.in_use:
        screen.hint(f"palyra context use {words.escaped(context.name)}")
