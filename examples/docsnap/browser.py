"""What the browser gets: the page, its files, strict headers, and in the demo a token."""

from datetime import UTC, datetime, timedelta
from importlib.resources import files
from ipaddress import ip_address

import jwt
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from docsnap.lantern.pages import SECTIONS
from docsnap.settings import Settings, plain_host

DEMO_OWNER = "demo"
TOKEN_LIFE = timedelta(hours=12)
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_FILES = {
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "api.js": "text/javascript; charset=utf-8",
    "jobs.js": "text/javascript; charset=utf-8",
    "main.js": "text/javascript; charset=utf-8",
}


class SecurityHeaders:
    """Puts the security headers on every answer; plain ASGI, so that event streams pass untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run as an ASGI application."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        await self._app(scope, receive, sending if scope["type"] == "http" else send)


def browser_routes(settings: Settings) -> APIRouter:
    """The page and its files; `POST /demo/token` only when the settings ask for the demo."""
    router = APIRouter(include_in_schema=False)
    page = _static("index.html")

    @router.get("/")
    @router.get("/documents/{job_id}")
    async def index() -> Response:
        return Response(page, media_type="text/html; charset=utf-8", headers={"Cache-Control": "no-cache"})

    @router.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in _FILES:
            raise HTTPException(404, "there is no such file")
        return Response(_static(name), media_type=_FILES[name], headers={"Cache-Control": "no-cache"})

    if settings.demo:

        @router.post("/demo/token")
        async def demo_token(request: Request) -> Response:
            _require_loopback(request)
            body = {"token": make_token(settings, DEMO_OWNER), "sites": sample_sites(settings)}
            return JSONResponse(body, headers={"Cache-Control": "no-store"})

    return router


def make_token(settings: Settings, owner: str, *, life: timedelta = TOKEN_LIFE) -> str:
    """A bearer token for `owner`, valid for `life`."""
    now = datetime.now(UTC)
    return jwt.encode({"sub": owner, "iat": now, "exp": now + life}, settings.secret, algorithm="HS256")


def sample_sites(settings: Settings) -> list[dict[str, str]]:
    """The books of the demo site, for the buttons under the form."""
    return [
        {"title": title, "url": f"http://{authority}/{section}/"}
        for authority in sorted(settings.allow_private)
        for section, title in SECTIONS.items()
    ]


def _require_loopback(request: Request) -> None:
    """Both ends must be this machine. The Host header counts too: a foreign name that resolves to 127.0.0.1 is how
    a web page from elsewhere would ask.
    """
    caller = request.client.host if request.client else ""
    if not (_is_loopback(caller) and _is_loopback(request.url.hostname or "")):
        raise HTTPException(403, "demo tokens are for this machine only; open the page as http://127.0.0.1")
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "demo tokens are for the page of this server only")


def _is_loopback(host: str) -> bool:
    bare = plain_host(host)
    try:
        return ip_address(bare).is_loopback
    except ValueError:
        return bare == "localhost"


def _static(name: str) -> bytes:
    return files("docsnap").joinpath("static", name).read_bytes()
