"""A web application answers at once and works in the background: one line makes it a worker too."""

import asyncio

import httpx
from fastapi import FastAPI

from toril import Toril

toril = Toril("sqlite://")
app = FastAPI(lifespan=toril.lifespan)


@toril.task
async def shout(text: str) -> str:
    return text.upper()


@app.post("/shout")
async def post(text: str) -> dict[str, str]:
    job = await shout.enqueue(text)
    return {"job": job.id}


@app.get("/shout/{id}")
async def get(id: str) -> dict[str, str]:
    return {"result": await toril.job(id).result(timeout=10)}


async def main() -> None:
    # In production: uvicorn web_application:app
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        job = (await client.post("/shout", params={"text": "hello"})).json()["job"]
        print((await client.get(f"/shout/{job}")).json())


asyncio.run(main())

# expect: {'result': 'HELLO'}
