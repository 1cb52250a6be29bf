"""The engine for many machines: Redis or Valkey, in BullMQ's layout."""
