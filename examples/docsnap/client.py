"""The demo's way to the API: plain HTTP, as any other program would do it."""

import asyncio
from typing import Any, Self

import httpx

from docsnap.board import Row
from docsnap.children import Child

START_SECONDS = 60.0
POLL_SECONDS = 0.1
MOST_ROWS = 200


class ApiClient:
    """Talks to a running DocSnap on this machine. Use it as an async context manager."""

    def __init__(self, base: str) -> None:
        self._http = httpx.AsyncClient(base_url=base, timeout=10.0, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def wait_until_up(self, children: list[Child]) -> None:
        """Wait for the API and sign in.

        Raises:
            ChildFailed: a process ended while starting.
            TimeoutError: the API did not answer within a minute.
        """
        async with asyncio.timeout(START_SECONDS):
            while not await self._is_up():
                for child in children:
                    child.check()
                await asyncio.sleep(POLL_SECONDS)
        token = (await self._json("POST", "/demo/token"))["token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    async def submit(self, url: str) -> str:
        """Ask for a document; returns the job id."""
        answer = await self._json("POST", "/api/generate-docs", {"url": url})
        return str(answer["jobId"])

    async def rows(self) -> list[Row]:
        """All jobs of the demo, newest first."""
        answer = await self._json("GET", f"/api/documents?limit={MOST_ROWS}")
        return [_row(document) for document in answer["documents"]]

    async def _is_up(self) -> bool:
        try:
            return (await self._http.get("/health/ready")).is_success
        except httpx.TransportError:
            return False

    async def _json(self, method: str, path: str, body: object = None) -> Any:
        response = await self._http.request(method, path, json=body)
        response.raise_for_status()
        return response.json()


def _row(document: dict[str, Any]) -> Row:
    report = document["report"]
    message = f"{report['pages']} pages, {report['words']:,} words" if report else document["error"]
    return Row(
        id=document["id"],
        url=document["url"],
        state=document["state"],
        percent=document["progress"],
        message=message or document["message"] or "",
    )
