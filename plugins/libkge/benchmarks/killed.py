"""Jobs which are started by LibKGE's commands, killed, resumed and tested, beside those which are left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from curves import TASKS
from jobs import METRIC, TYPE, embeddings

from pykeen_advneg_libkge.convert import convert
from pykeen_advneg_libkge.installed import check_libkge

__all__ = ["killed_and_whole", "options_of"]

#: how long a job may take to its first checkpoint, in seconds
PATIENCE = 3600


def options_of(dataset: str, model: str, task: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give the configuration of a job, which saves every epoch and is validated after the last one."""
    chosen = TASKS[task]
    loss, argument = chosen["libkge"]
    options = {
        "job.device": "cpu",
        "dataset.name": dataset,
        "random_seed.default": 0,
        "modules": ["kge.job", "kge.model", "kge.model.embedder", "pykeen_advneg_libkge"],
        "import": [TYPE],
        "model": model,
        "train.type": TYPE,
        "train.loss": loss,
        "train.batch_size": settings["batch_size"],
        "train.max_epochs": settings["epochs"],
        "train.optimizer.default.type": "Adagrad",
        "train.optimizer.default.args.lr": settings["lr"],
        "train.checkpoint.every": 1,
        "train.checkpoint.keep": 2,
        "valid.every": settings["epochs"],
        "valid.metric": METRIC,
        "eval.batch_size": 256,
        **embeddings(settings["dim"]),
        TYPE: {"sampler": chosen["sampler"], "num_samples": chosen["k"], "sampler_args": dict(chosen["kwargs"])},
    }
    return options if argument is None else {**options, "train.loss_arg": argument}


def kge(*words: str) -> list[str]:
    """Give one of LibKGE's commands."""
    return [sys.executable, "-m", "kge", *words]


def killed_and_whole(where: Path, dataset: str, model: str, task: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Run a job which is killed in its second epoch, and resumed, and one which is not.

    :returns: what is to be reported

    :raises RuntimeError: if the job ends before it can be killed
    """
    data = Path(str(check_libkge().__file__)).parents[1] / "data" / dataset
    if not data.exists():
        convert(dataset, data)
    path = where / "job.yaml"
    path.write_text(yaml.safe_dump(options_of(dataset, model, task, settings)), encoding="utf-8")
    environment = {**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    broken, whole = where / "broken", where / "whole"
    after = kill(kge("start", str(path), "--folder", str(broken)), broken, environment)
    for words in (kge("resume", str(broken)), kge("start", str(path), "--folder", str(whole))):
        subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, check=True)
    for folder in (broken, whole):
        subprocess.run(kge("test", str(folder)), env=environment, stdout=subprocess.DEVNULL, check=True)
    pair = [torch.load(x / f"checkpoint_{settings['epochs']:05}.pt", weights_only=False) for x in (broken, whole)]
    weights = [checkpoint["model"][0] for checkpoint in pair]
    return {
        "killed": after,
        "identical": all(torch.equal(x, weights[1][name]) for name, x in weights[0].items()),
        "validation": [checkpoint["valid_trace"][-1][METRIC] for checkpoint in pair],
        "test": [tested(folder) for folder in (broken, whole)],
    }


def kill(words: list[str], folder: Path, environment: Mapping[str, str]) -> dict[str, float]:
    """Start a job, and kill it in its second epoch, at about a third of it."""
    process = subprocess.Popen(words, env=dict(environment), stdout=subprocess.DEVNULL)
    start = time.monotonic()
    while not (folder / "checkpoint_00001.pt").exists():
        if process.poll() is not None or time.monotonic() - start > PATIENCE:
            process.kill()
            raise RuntimeError(f"{' '.join(words)} ended, or took too long, before its first checkpoint.")
        time.sleep(0.1)
    seconds = time.monotonic() - start
    time.sleep(seconds / 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if (folder / "checkpoint_00002.pt").exists():
        raise RuntimeError(f"{' '.join(words)} was not killed in its second epoch.")
    return {"epochs": 1, "seconds": round(time.monotonic() - start, 1)}


def tested(folder: Path) -> float:
    """Read the last test result of a job from its trace."""
    lines = (folder / "trace.yaml").read_text(encoding="utf-8").splitlines()
    entries = [yaml.safe_load(line) for line in lines if "split: test" in line and METRIC in line]
    return float(entries[-1][METRIC])
