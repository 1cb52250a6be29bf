"""Tasks: functions made runnable in the background, how their jobs are enqueued, and how those are watched."""
