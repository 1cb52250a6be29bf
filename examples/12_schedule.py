"""Work that runs again and again: declared on a task, or stored by call, with a time zone where it matters."""

import asyncio

from toril import Cron, Every, Toril

toril = Toril("sqlite://")
seen: list[str] = []
enough = asyncio.Event()


# Stored when a worker starts; it runs once each time, however many workers there are.
@toril.task(schedule=Cron("0 3 * * *", tz="Europe/Berlin"))
async def clean_up(older_than_days: int = 30) -> None:
    print("deleting what is older than", older_than_days, "days")


@toril.task(schedule=Every("50ms"))
async def beat() -> None:
    seen.append("beat")
    if len(seen) >= 3:
        enough.set()


@toril.task
async def report(kind: str) -> None: ...


async def main() -> None:
    async with toril:
        stored = await toril.schedules.upsert(
            "monday", cron="0 8 * * MON", tz="Europe/Berlin", call=report.call("week")
        )
        print(stored.id, "is due at", stored.when)
        async with toril.worker():
            await enough.wait()
        print(sorted(schedule.id for schedule in await toril.schedules.list()))
        await toril.schedules.remove("monday")
    print("at least three beats:", len(seen) >= 3)


asyncio.run(main())

# expect: monday is due at 0 8 * * MON (Europe/Berlin)
# expect: ['beat', 'clean_up', 'monday']
# expect: at least three beats: True
