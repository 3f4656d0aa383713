"""Who a request comes from; each listener has its own way to tell."""

from __future__ import annotations

from twisted.web.iweb import IRequest
from zope.interface import Interface

from palyra.console.routing import Route
from palyra.core.operators import Caller


class IAdmission(Interface):
    """Tells who asks, before anything of the body is read."""

    def knows(request: IRequest) -> bool:
        """Whether a request whose head is there shows a credential that is good now.

        Nothing is counted, and a session does not count as used by it.
        """

    def admit(request: IRequest, route: Route, *, again: bool = False) -> Caller:
        """The caller; a stranger (without a role) only where ``route`` asks for no right.

        ``again``: it was admitted, and is looked at once more; a refusal is not counted.

        :raises palyra.errors.SignInRequired: nobody is, or not any more.
        :raises palyra.errors.PalyraError: the request must not be served at all.
        """
