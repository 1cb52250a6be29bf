"""The queues that are measured, one file each, behind `protocol.Queue`."""
