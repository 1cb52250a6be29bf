"""A tiny HTTP/1.1 server whose every answer a test writes by hand, bytes and all."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class HandmadeSite:
    """`authority` is host:port; `asked` are the paths requested so far."""

    authority: str = ""
    asked: list[str] = field(default_factory=list)

    def url(self, path: str = "/") -> str:
        return f"http://{self.authority}{path}"


Answer = Callable[[str, HandmadeSite], bytes | None]


@asynccontextmanager
async def handmade_site(answer: Answer) -> AsyncIterator[HandmadeSite]:
    """Answer each request with the bytes `answer` returns for its path; None never answers."""
    site = HandmadeSite()
    silent = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        path = request.split(b" ")[1].decode()
        site.asked.append(path)
        body = answer(path, site)
        if body is None:
            await silent.wait()
        else:
            writer.write(body)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    site.authority = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield site
    finally:
        silent.set()
        server.close()
        await server.wait_closed()


def http(body: bytes, *headers: str, status: str = "200 OK", content_type: str = "text/html") -> bytes:
    """A whole HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body
