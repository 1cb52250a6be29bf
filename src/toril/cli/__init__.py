"""The command line: `toril worker|jobs|queues|stats|doctor|demo`. It decides nothing about jobs."""
