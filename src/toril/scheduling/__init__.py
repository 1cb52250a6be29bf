"""Schedules: tasks that run again and again, by cron expressions and intervals."""
