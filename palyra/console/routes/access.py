"""``auth`` and ``operators``: signing in, and who may administer the gateway."""

from __future__ import annotations

from palyra.console import models, reading
from palyra.console.routing import PAGED, Route
from palyra.core.operators import Right

_ADMIN = Right.ADMINISTER

ROUTES = (
    Route(
        "POST",
        "auth/link",
        "make_sign_in_link",
        "Make a link that signs the caller in to the page, once.",
        lambda of, asked: of.sign_in.link(asked.caller),
        models.SignInLink,
        body=models.NoBody,
    ),
    Route(
        "POST",
        "auth/login/preview",
        "preview_sign_in",
        "Say as whom a link would sign in.",
        lambda of, asked: of.sign_in.preview(asked.body, asked.caller),
        models.SignInPreview,
        None,
        models.SignInToken,
    ),
    Route(
        "POST",
        "auth/login",
        "sign_in",
        "Use a link up and begin a browser session.",
        lambda of, asked: of.sign_in.sign_in(asked.body, asked.request, asked.caller),
        models.SignedIn,
        None,
        models.SignInToken,
    ),
    Route(
        "GET",
        "auth/self",
        "show_self",
        "Say who asks and what they may do.",
        lambda of, asked: of.sign_in.self(asked.caller),
        models.CallerAnswer,
    ),
    Route(
        "POST",
        "auth/logout",
        "sign_out",
        "End the browser session.",
        lambda of, asked: of.sign_in.sign_out(asked.request, asked.caller),
        models.SignedOut,
        body=models.NoBody,
    ),
    Route(
        "GET",
        "operators",
        "list_operators",
        "List operators and open invitations.",
        lambda of, asked: of.operators.operators(
            reading.limit(asked.request), reading.cursor(asked.request)
        ),
        models.OperatorList,
        query=PAGED,
    ),
    Route(
        "POST",
        "operators/invite",
        "invite_operator",
        "Invite a person or a program; the answer is the only one that shows the URI.",
        lambda of, asked: of.operators.invite(asked.body, asked.caller),
        models.InvitedOperator,
        _ADMIN,
        models.InviteOperator,
        example={"name": "bo", "role": "operator"},
    ),
    Route(
        "POST",
        "operators/enrol",
        "enrol_operator",
        "Accept an invitation with a CSR; the same CSR gets the same answer.",
        lambda of, asked: of.operators.enrol(asked.body, asked.caller),
        models.OperatorCertificateAnswer,
        None,
        models.EnrolOperator,
    ),
    Route(
        "POST",
        "operators/self/renew",
        "renew_operator",
        "Get a new certificate for a new CSR.",
        lambda of, asked: of.operators.renew(asked.body, asked.caller),
        models.OperatorCertificateAnswer,
        body=models.RenewOperator,
    ),
    Route(
        "POST",
        "operators/{target}/role",
        "change_role",
        "Give an operator another role.",
        lambda of, asked: of.operators.change_role(asked.target, asked.body, asked.caller),
        models.OperatorAnswer,
        _ADMIN,
        models.ChangeRole,
        example={"role": "approver"},
    ),
    Route(
        "POST",
        "operators/{target}/revoke",
        "revoke_operator",
        "End an operator and their programs: certificates, sessions, links and streams.",
        lambda of, asked: of.operators.revoke(asked.target, asked.body, asked.caller),
        models.RevokedOperator,
        _ADMIN,
        models.RevokeOperator,
        example={"reason": "left"},
    ),
)
