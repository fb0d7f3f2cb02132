"""Runs code in fresh processes which have imported torch and its like, but nothing of PyKEEN.

As a script, this is the parent of these processes: it imports what PyKEEN imports, and forks a child for each request.
That makes a first import of PyKEEN cost one second instead of three.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

#: what takes long to import and is not PyKEEN
HEAVY = [
    "torch",
    "torch.utils.data",
    "pandas",
    "scipy.stats",
    "sklearn.metrics",
    "optuna",
    "matplotlib.pyplot",
    "networkx",
]


class Nursery:
    """Fresh processes on demand."""

    def __init__(self, home: Path) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "PYKEEN_ADVNEG_AUTOLOAD"}
        environment |= {"PYKEEN_HOME": str(home), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=home,
        )

    def run(self, code: str, *, autoload: str | None = None, path: Path | None = None) -> dict[str, Any]:
        """Execute code in a fresh process.

        :param code: sets ``result`` to something that JSON can hold
        :param autoload: the value of ``PYKEEN_ADVNEG_AUTOLOAD``
        :param path: a folder to put on ``sys.path``

        :returns: ``result``, and ``warnings``: the messages of all warnings
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = {"code": code, "autoload": autoload, "path": None if path is None else str(path)}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        reply: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert "error" not in reply, reply["error"]
        return reply

    def close(self) -> None:
        """End the parent; its children have ended already."""
        self.process.communicate(timeout=10)


def _child(request: dict[str, Any]) -> dict[str, Any]:
    loaded = [name for name in sys.modules if name.startswith(("pykeen", "wrapt"))]
    if loaded:
        return {"error": f"not a fresh process: {loaded}"}
    if request["autoload"] is not None:
        os.environ["PYKEEN_ADVNEG_AUTOLOAD"] = request["autoload"]
    if request["path"] is not None:
        sys.path.insert(0, request["path"])
    scope: dict[str, Any] = {"__name__": "__main__"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile(request["code"], "<request>", "exec"), scope)
    return {"result": scope.get("result"), "warnings": [str(warning.message) for warning in caught]}


def _serve(request: dict[str, Any]) -> str:
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        os.dup2(2, 1)
        try:
            reply = _child(request)
        except BaseException:
            reply = {"error": traceback.format_exc()}
        os.write(writer, json.dumps(reply).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    return answer or json.dumps({"error": f"the process ended with status {status}"})


def _main() -> None:
    sys.path.pop(0)
    for name in HEAVY:
        importlib.import_module(name)
    for line in sys.stdin:
        print(_serve(json.loads(line)), flush=True)


if __name__ == "__main__":
    _main()
