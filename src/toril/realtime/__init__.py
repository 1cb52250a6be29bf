"""Channels: typed messages to everybody who listens, on any machine, with replay."""
