"""Toril over HTTP: `jobs_api`, `channel_api` and `health_api` for FastAPI, and who may use them.

Needs the extra `web`: pip install "toril[web]".
"""

from toril.web.access import Gate
from toril.web.api.router import jobs_api
from toril.web.auth import Auth, ClaimHas, Identity, JWTAuth
from toril.web.channels.api import JobOwner, channel_api, everybody
from toril.web.health import health_api
from toril.web.middleware.cache import CacheMiddleware
from toril.web.middleware.idempotency import IdempotencyMiddleware
from toril.web.middleware.ratelimit import RateLimitMiddleware, rate_limited
from toril.web.middleware.sessions import SessionAuth, SessionMiddleware, session_of
from toril.web.mounts import check_bind
from toril.web.problems import ApiError

__all__ = [
    "ApiError",
    "Auth",
    "CacheMiddleware",
    "ClaimHas",
    "Gate",
    "IdempotencyMiddleware",
    "Identity",
    "JWTAuth",
    "JobOwner",
    "RateLimitMiddleware",
    "SessionAuth",
    "SessionMiddleware",
    "channel_api",
    "check_bind",
    "everybody",
    "health_api",
    "jobs_api",
    "rate_limited",
    "session_of",
]
