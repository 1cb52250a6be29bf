"""Server-sent events to a hundred listeners: each message as it would be written to a hundred connections."""

from __future__ import annotations

import asyncio
import time

from bench.blocks.requests import Message, never
from toril import Toril
from toril.web.api.stream import FrameStream
from toril.web.channels.frames import opened

LISTENERS = 100


async def deliveries_per_s(messages: int) -> float:
    """How many a second, published one by one on an engine in memory."""
    async with Toril("sqlite://") as toril:
        channel = toril.channel("bench")
        got = 0
        everything = asyncio.Event()

        async def write(message: Message) -> None:
            nonlocal got
            got += message.get("body", b"").count(b"\nid: ")
            if got >= LISTENERS * messages:
                everything.set()

        streams = [FrameStream(await opened(channel, None), heartbeat_s=60, longest_s=600) for _ in range(LISTENERS)]
        tasks = [asyncio.create_task(stream({}, never, write)) for stream in streams]
        began = time.perf_counter()
        for number in range(messages):
            await channel.publish({"progress": number, "status": "rendering"})
        await everything.wait()
        took = time.perf_counter() - began
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return LISTENERS * messages / took
