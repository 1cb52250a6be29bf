"""Without any extra installed, everything but the folder that owns the extra can be imported, and the CLI answers."""

import subprocess
import sys
import tomllib

import pytest

from tests.layout.sources import PACKAGE, ROOT, python_files

# What an extra brings, by the name under which it is imported.
BROUGHT = {
    "web": {"fastapi", "jwt", "starlette", "uvicorn"},
    "speed": {"uvloop"},
    "reload": {"watchfiles"},
    "otel": {"opentelemetry"},
    "prometheus": {"prometheus_client"},
    "sqlalchemy": {"sqlalchemy"},
    "demo": {"httpcore", "httpx", "lxml", "protego", "trafilatura"},
}
OWNERS = ("web/", "testing/", "outbox/alchemy.py")

WITHOUT_EXTRAS = """
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

ABSENT = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Absent())
for module in sys.argv[2:]:
    importlib.import_module(module)
from toril.cli.main import main
sys.argv = ["toril", "--help"]
main()
"""


def test_every_extra_is_known_here() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["optional-dependencies"]) == set(BROUGHT)


@pytest.mark.timeout(60)
def test_toril_works_without_extras() -> None:
    names = [path.relative_to(PACKAGE).as_posix() for path in python_files("src/toril")]
    modules = [
        ".".join(("toril", *name.removesuffix(".py").split("/"))).removesuffix(".__init__")
        for name in names
        if not name.startswith(OWNERS) and not name.endswith("__main__.py")
    ]
    absent = ",".join(sorted(set().union(*BROUGHT.values())))
    command = [sys.executable, "-W", "error", "-c", WITHOUT_EXTRAS, absent, *modules]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert ran.returncode == 0, ran.stderr
    assert "worker" in ran.stdout
