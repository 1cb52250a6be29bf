"""A job that comes true with a transaction of the application's own database, or not at all."""

import asyncio
import sqlite3
from contextlib import closing, suppress

from toril import Toril
from toril.outbox.statements import create_sql


def connect() -> sqlite3.Connection:
    return sqlite3.connect("shop.db")


# Workers hand on what lies in the outbox of this database; with SQLAlchemy a URL takes the place of the function.
toril = Toril("sqlite://", outbox=connect)


@toril.task
async def ship(order: int) -> str:
    return f"order {order} is shipped"


async def buy(order: int, *, paid: bool) -> str:
    with closing(connect()) as database, database:  # commits, or rolls back when something is raised
        database.execute("INSERT INTO orders VALUES (?)", (order,))
        job = await ship.enqueue_in(database, order)
        if not paid:
            raise ValueError("not paid")
    return await job.result(timeout=10)


async def main() -> None:
    with closing(connect()) as database:
        database.executescript(create_sql("sqlite") + "CREATE TABLE orders (id INTEGER)")
    async with toril, toril.worker():
        print(await buy(1, paid=True))
        with suppress(ValueError):
            await buy(2, paid=False)
        print(await buy(3, paid=True))
        completed = (await toril.queue("default").counts()).completed
        print(completed, "jobs,", (await toril.outbox.stats()).jobs, "left")


asyncio.run(main())

# expect: order 1 is shipped
# expect: order 3 is shipped
# expect: 2 jobs, 0 left
