"""Things that know nothing of jobs."""
