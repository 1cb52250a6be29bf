"""The libraries that are measured on Redis, one file each, behind `protocol.Adapter`.

Each runs in an environment of its own, so a file imports its library and the standard library, and nothing of Toril.
"""
