"""From `app:toril` on the command line to the `Toril` object, with one clear sentence when there is none."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType

from toril.app import Toril
from toril.errors import ConfigError

_CUSTOMARY = "toril"


def load_app(target: str) -> Toril:
    """The `Toril` that `module:attribute` names; `module` alone will do when it holds just one.

    The current folder is searched first, as `python -m` does. Raises ConfigError.
    """
    module_name, colon, attribute = target.partition(":")
    if not module_name or (colon and not attribute) or "/" in module_name or module_name.endswith(".py"):
        raise ConfigError(f'Expected an application as "module:attribute", such as app:toril, found {target!r}.')
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    module = _module(module_name)
    return _attribute(module, attribute) if attribute else _only_one(module)


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(
                f"There is no module {error.name!r} in {Path.cwd()} or on Python's path. "
                "Run the command in the folder that holds it, or add that folder to PYTHONPATH."
            ) from None
        raise ConfigError(_import_failed(name, error)) from error
    except (Exception, SystemExit) as error:  # whatever a user's module may raise is reported the same way
        raise ConfigError(_import_failed(name, error)) from error


def _import_failed(name: str, error: BaseException) -> str:
    last = traceback.format_exception_only(error)[-1].strip()
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    # The first frame is this file's own; without another the module itself could not be compiled.
    where = f" at {frames[-1].filename}, line {frames[-1].lineno}" if len(frames) > 1 else ""
    if isinstance(error, SyntaxError) and error.filename:
        where = f" at {error.filename}, line {error.lineno}"
    return f"Importing {name!r} failed{where}: {last}"


def _attribute(module: ModuleType, path: str) -> Toril:
    value: object = module
    for part in path.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise ConfigError(f"Module {module.__name__!r} has no {path!r}.{_hint(module)}") from None
    if not isinstance(value, Toril):
        raise ConfigError(
            f"Expected {module.__name__}:{path} to be a Toril object, found {_kind(value)}.{_hint(module)}"
        )
    return value


def _only_one(module: ModuleType) -> Toril:
    found = _apps(module)
    if len(found) == 1:
        return next(iter(found.values()))
    if _CUSTOMARY in found:
        return found[_CUSTOMARY]
    if found:
        names = ", ".join(f"{module.__name__}:{name}" for name in found)
        raise ConfigError(f"Module {module.__name__!r} holds {len(found)} Toril objects: say which, {names}.")
    raise ConfigError(f"Module {module.__name__!r} holds no Toril object: expected one such as toril = Toril().")


def _apps(module: ModuleType) -> dict[str, Toril]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Toril)}


def _hint(module: ModuleType) -> str:
    found = _apps(module)
    return f" It holds {', '.join(f'{module.__name__}:{name}' for name in found)}." if found else ""


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"
