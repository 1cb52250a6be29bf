"""The real `bullmq` of PyPI, by lines as `node/peer.mjs`: python peer.py <port>. Runs in a virtual environment of its
own, so it imports nothing of the project.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from bullmq import FlowProducer, Job, Queue, UnrecoverableError, Worker

URL = f"redis://127.0.0.1:{sys.argv[1]}"
FIELDS = (
    "id", "name", "data", "opts", "progress", "returnvalue", "failedReason", "stacktrace", "timestamp", "delay",
    "priority", "attemptsMade", "processedOn", "finishedOn",
)  # fmt: skip

queues: dict[str, Any] = {}
closable: list[Any] = []


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def shown(value: Any) -> Any:
    """What a job looks like on the line; other values pass as they are."""
    if isinstance(value, list):
        return [shown(each) for each in value]
    if isinstance(value, Job):
        return {name: getattr(value, name, None) for name in FIELDS}
    return value


def queue(name: str) -> Any:
    if name not in queues:
        queues[name] = Queue(name, {"connection": URL})
        closable.append(queues[name])
    return queues[name]


async def handle(job: Any, token: str) -> Any:
    """The tasks of `tasks.py`."""
    say({"notice": "ran", "id": job.id, "name": job.name})
    match job.name:
        case "double":
            return {"doubled": job.data["n"] * 2}
        case "nap":
            await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=job.data["ms"] / 1000)
            return "rested"
        case "flaky":
            if job.attemptsMade < job.data["failures"]:
                raise RuntimeError(f"attempt {job.attemptsMade + 1} failed")
            return job.attemptsMade + 1
        case "hopeless":
            raise UnrecoverableError("never works")
        case "talkative":
            await job.updateProgress(10)
            await job.log("first line")
            await job.updateProgress({"progress": 60, "message": "more than half"})
            await job.log("second line")
            return None
        case "collect" | "gather":
            return await job.getChildrenValues()
        case unknown:
            raise RuntimeError(f"no handler for {unknown}")


async def do(op: str, request: dict[str, Any]) -> Any:
    name = request.get("queue", "")
    match op:
        case "queue":
            return shown(await getattr(queue(name), request["method"])(*request.get("args", ())))
        case "job":
            job = await Job.fromId(queue(name), request["id"])
            return shown(await getattr(job, request["method"])(*request.get("args", ())))
        case "get":
            return shown(await Job.fromId(queue(name), request["id"]))
        case "flow":
            producer = FlowProducer(URL)
            closable.append(producer)
            made = await producer.add(request["flow"])
            return {"id": made["job"].id, "children": [child["job"].id for child in made.get("children", [])]}
        case "worker":
            worker = Worker(name, handle, {"connection": URL, **request.get("options", {})})
            worker.on("error", lambda error, *_: say({"notice": "error", "queue": name, "message": str(error)}))
            closable.append(worker)
            return None
        case _:
            raise ValueError(f"unknown operation {op}")


async def main() -> None:
    lines = asyncio.StreamReader(limit=16 * 1024 * 1024)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    say({"ready": True})
    async for line in lines:
        request = json.loads(line)
        number, op = request.pop("number"), request.pop("op")
        try:
            say({"number": number, "result": await do(op, request)})
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            say({"number": number, "error": str(error) or type(error).__name__, "code": getattr(error, "code", None)})
    for item in reversed(closable):
        await item.close()


if __name__ == "__main__":
    asyncio.run(main())
