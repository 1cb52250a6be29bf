"""A page that looks at its session, and a browser that asks for it without a network between them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_DATA = {"user": "ada", "cart": ["pen", "ink"], "theme": "dark"}


async def page(scope: Message, receive: Receive, send: Send) -> None:
    """Fills the session when asked to, else looks at one value of it."""
    if scope["path"] == "/begin":
        scope["session"].update(_DATA)
    elif scope["session"]["user"] != "ada":
        raise ValueError("expected the session that was begun, found another one")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def never() -> Message:
    """A client that stays and says nothing."""
    silence: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    return await silence


class Browser:
    """Calls an application directly, with the cookie that it was given."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._cookie = b""

    async def get(self, path: str = "/") -> None:
        """One request."""
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "scheme": "https",
            "query_string": b"",
            "headers": [(b"host", b"a"), (b"cookie", self._cookie)],
            "client": ("127.0.0.1", 1),
        }
        await self._app(scope, never, self._take)

    async def _take(self, message: Message) -> None:
        for name, value in message.get("headers", ()):
            if name.lower() == b"set-cookie":
                self._cookie = value.partition(b";")[0]
