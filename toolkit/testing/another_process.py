"""Work done by a fresh interpreter: what decodes a file is another process, tomorrow, elsewhere.

A function and its arguments go there as a pickle, with the names and files of the modules that
they are from, so that plugins in single files and classes of test modules are found, too.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from toolkit.testing.subject import ConformanceError

T = TypeVar("T")

SECONDS = 300.0
"""Longest that another process may take."""
_START = "from toolkit.testing.another_process import main; main()"


class _Noting(pickle.Pickler):
    """Pickles, and notes the modules that classes and functions are from."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.modules: dict[str, str] = {}

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type) or callable(obj):
            module = sys.modules.get(getattr(obj, "__module__", None) or "")
            place = getattr(module, "__file__", None)
            if module is not None and place:
                self.modules[module.__name__] = str(Path(place).resolve())
        return NotImplemented


def in_another_process(function: Callable[..., T], *arguments: Any) -> T:
    """The result of ``function(*arguments)`` in a fresh interpreter.

    Raises ConformanceError where it can't be had: an argument's class can't be found from there,
    or the function raises.
    """
    file = io.BytesIO()
    pickler = _Noting(file)
    try:
        pickler.dump((function, arguments))
    except Exception as error:
        raise ConformanceError(
            "another process",
            f"can't be handed over ({_one_line(error)}): define the class at the top of a module",
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        job, answer = Path(folder, "job"), Path(folder, "answer")
        job.write_bytes(pickle.dumps((sys.path, pickler.modules, file.getvalue())))
        try:
            done = subprocess.run(
                [sys.executable, "-c", _START, str(job), str(answer)],
                env=_environment(),
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise ConformanceError(
                "another process", f"still running after {SECONDS:g} s"
            ) from None
        if not answer.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ConformanceError("another process", f"it ended with {done.returncode}: {last}")
        result, problem = pickle.loads(answer.read_bytes())
    if problem:
        raise ConformanceError("another process", problem)
    found: T = result
    return found


def _environment() -> dict[str, str]:
    """As here, with as many threads, but another order of sets and dicts of strings."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "1"}
    if "torch" in sys.modules:
        environment["OMP_NUM_THREADS"] = str(sys.modules["torch"].get_num_threads())
    return environment


def main() -> None:
    """The other process: reads the job, writes the answer."""
    job, answer = (Path(text) for text in sys.argv[1:])
    result, problem = None, ""
    try:
        sys.path[:], modules, work = pickle.loads(job.read_bytes())
        for name, file in modules.items():
            _import(name, file)
        function, arguments = pickle.loads(work)
        result = function(*arguments)
    except Exception as error:
        problem = f"it raised {_one_line(error)}"
    answer.write_bytes(pickle.dumps((result, problem)))


def _import(name: str, file: str) -> None:
    """The module by its name, or else its file: a plugin in a single file, a script."""
    if name != "__main__":
        try:
            importlib.import_module(name)
            return
        except ImportError:
            pass
    spec = importlib.util.spec_from_file_location("_script" if name == "__main__" else name, file)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__} ({' '.join(str(error).split())})"
