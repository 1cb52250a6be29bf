"""`python -m bench [embedded|redis] [options]`: measure Toril beside its peers, on its own file and on Redis.

Both run unless one is named. `python -m bench redis --help` lists the options.
"""

from __future__ import annotations

import sys
from importlib import import_module

_RUNS = {"embedded": "bench.embedded", "redis": "bench.redis.run"}


def main(arguments: list[str]) -> int:
    """Run one of them or both. The exit code is 1 when a measure ended without figures."""
    chosen = arguments[:1] if arguments[:1] and arguments[0] in _RUNS else list(_RUNS)
    rest = arguments[1:] if len(chosen) == 1 else arguments
    if len(chosen) > 1 and any(one.startswith("--only") for one in rest):
        sys.exit(f"--only: expected one of {', '.join(_RUNS)} before it, found none: python -m bench redis --only noop")
    # Each is imported when it runs: the peers of the one may be missing where only the other is wanted.
    return max([int(import_module(_RUNS[name]).main(rest)) for name in chosen])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
