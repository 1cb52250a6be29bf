"""What happens inside, made visible: log lines from telemetry events."""
