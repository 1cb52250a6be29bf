"""Once per key: what is asked for twice is done once, by a call or by an HTTP request with an Idempotency-Key."""

import asyncio

import httpx
from fastapi import FastAPI

from toril import IdempotencyMismatch, Toril
from toril.web import IdempotencyMiddleware

toril = Toril("sqlite://")
app = FastAPI()
app.add_middleware(IdempotencyMiddleware, once=toril.once)
charges: list[int] = []


async def charge(amount: int) -> dict[str, int]:
    charges.append(amount)
    return {"charge": len(charges), "amount": amount}


@app.post("/charges")
async def create(amount: int) -> dict[str, int]:
    return await charge(amount)


async def main() -> None:
    async with toril, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
        for _ in range(2):
            print(await toril.once("order:42", lambda: charge(500), asked=500))
        try:
            await toril.once("order:42", lambda: charge(900), asked=900)
        except IdempotencyMismatch as error:
            print(error.code)

        answers = [
            await client.post(f"/charges?amount={amount}", headers={"Idempotency-Key": "a1"}) for amount in (7, 7, 8)
        ]
        for answer in answers:
            print(answer.status_code, answer.headers.get("idempotency-replayed"))
        print(charges)


asyncio.run(main())

# expect: {'charge': 1, 'amount': 500}
# expect: {'charge': 1, 'amount': 500}
# expect: idempotency_mismatch
# expect: 200 None
# expect: 200 true
# expect: 422 None
# expect: [500, 7]
