"""Scripts, Flask and Django enqueue without a line of async; a worker elsewhere runs the jobs."""

from toril import Toril

toril = Toril("sqlite:///toril.db")


@toril.task(queue="mail")
def send(to: str) -> str:
    return f"sent to {to}"


job = send.enqueue_sync("ada@example.com")
print("stored in", job.queue)
others = toril.enqueue_many_sync(send.call(f"user-{n}@example.com") for n in range(100))
print(len(others), "more")

# In production: toril worker synchronous:toril
toril.close_sync()

# expect: stored in mail
# expect: 100 more
