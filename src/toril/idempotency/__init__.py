"""Once per key: work that is asked for again is not done again, and who asks gets what came of it."""
