"""Who is logged in, and what is in their cart: in the store, with a signed id in the cookie and nothing else."""

import asyncio
from typing import Any

import httpx
from fastapi import FastAPI, Request

from toril import Settings, Toril
from toril.settings import SessionSettings
from toril.web import SessionMiddleware, session_of

# In production: TORIL_SESSIONS_SECRET in the environment.
toril = Toril("sqlite://", settings=Settings(sessions=SessionSettings(secret="only for this example " * 2)))
app = FastAPI(lifespan=toril.lifespan)
app.add_middleware(SessionMiddleware, sessions=toril.sessions)


@app.post("/cart/{item}")
async def put(request: Request, item: str) -> list[str]:
    cart: list[str] = request.session.setdefault("cart", [])
    cart.append(item)
    return cart


@app.post("/login/{user}")
async def log_in(request: Request, user: str) -> None:
    # A fresh id from here on: whoever knew the old one knows nothing.
    session_of(request).login(user)


@app.get("/")
async def home(request: Request) -> dict[str, Any]:
    session = session_of(request)
    return {"user": session.user, "cart": session.get("cart")}


async def main() -> None:
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="https://shop.example") as browser,
    ):
        for path in ("/cart/pen", "/cart/ink", "/login/ada"):
            await browser.post(path)
        print((await browser.get("/")).json())
        print([session.agent.partition("/")[0] for session in await toril.sessions.of("ada")])
        await toril.sessions.revoke_all("ada")
        print((await browser.get("/")).json())


asyncio.run(main())

# expect: {'user': 'ada', 'cart': ['pen', 'ink']}
# expect: ['python-httpx']
# expect: {'user': None, 'cart': None}
