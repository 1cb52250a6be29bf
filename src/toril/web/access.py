"""The gate in front of every route of ours: who may pass, and as whom."""

from __future__ import annotations

import logging

from starlette.requests import HTTPConnection

from toril.errors import AuthRequired
from toril.web.auth import Auth, DescribedAuth, Identity, unauthenticated
from toril.web.loopback import why_not_local
from toril.web.problems import ApiError

_log = logging.getLogger("toril.web")

EVERYBODY = Identity(subject="", admin=True)


class Gate:
    """Lets requests in. With `auth=None` only those which cannot have come from another machine (see `loopback`)."""

    def __init__(self, auth: Auth | None) -> None:
        self.auth = auth
        self.scheme = auth.scheme if isinstance(auth, DescribedAuth) else None

    async def admit(self, request: HTTPConnection) -> Identity:
        """Who is asking. Raises ApiError (401) without valid credentials, AuthRequired outside loopback."""
        if self.auth is not None:
            identity = await self.auth.identify(request)
            if identity is None:
                raise unauthenticated()
            return identity
        reason = why_not_local(request)
        if reason is not None:
            _log.warning("Refused a request to routes that have no auth: %s.", reason)
            raise AuthRequired(
                f"These routes have no auth, so they answer on this machine only, and {reason}: "
                "mount them with auth=JWTAuth(…) or an Auth of your own."
            )
        return EVERYBODY

    async def admit_admin(self, request: HTTPConnection) -> Identity:
        """As `admit`, for admins only. Raises ApiError (403) for others."""
        identity = await self.admit(request)
        if not identity.admin:
            raise ApiError(403, "forbidden", "This is for admins only.")
        return identity
