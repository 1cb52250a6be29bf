"""What a job is: frozen data and pure functions. Nothing here does I/O or knows an engine."""
