"""Circuit breakers: calls to something that fails are refused for a while, by every process that calls it."""
