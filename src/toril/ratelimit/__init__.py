"""Rate limits over the engine's counters: how often a key may do something in a time."""
