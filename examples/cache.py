"""The cache: results of functions, kept in memory and in the store, given up by tags when something changes."""

import asyncio

from toril import Toril

toril = Toril("sqlite://")
database = {"ada": ["hello"], "bob": ["hi"]}


@toril.cached(ttl="5m", stale="1h", tags=["user:{user}"])
async def conversations(user: str) -> list[str]:
    print("asking the database for", user)
    return list(database[user])


@toril.cache.warm_up
async def users() -> int:
    await toril.cache.set_many({f"profile:{user}": {"name": user} for user in database}, ttl="1h")
    return len(database)


async def main() -> None:
    async with toril:
        print(await toril.cache.warm())

        print(await conversations("ada"))
        print(await conversations("ada"))
        await asyncio.gather(*(conversations("bob") for _ in range(1_000)))  # one of them asks

        database["ada"].append("how are you?")
        await toril.cache.invalidate("user:ada")
        print(await conversations("ada"))

        print(await toril.cache.get("profile:bob"), await toril.cache.delete_prefix("profile:"))
        stats = await toril.cache.stats()
        print(stats.names[conversations.name].loads, "asked of", 1_003)


asyncio.run(main())

# expect: {'users': 2}
# expect: asking the database for ada
# expect: ['hello']
# expect: ['hello']
# expect: asking the database for bob
# expect: asking the database for ada
# expect: ['hello', 'how are you?']
# expect: {'name': 'bob'} 2
# expect: 3 asked of 1003
