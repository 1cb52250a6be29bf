"""Runs jobs: takes them from an engine, calls their tasks, hands the outcomes in."""
