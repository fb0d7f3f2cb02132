"""One of the ranks which torchrun starts: ``torchrun -m pykeen_advneg.training.rank EXPERIMENT OUT``."""

from __future__ import annotations

import json
import os
import pathlib
import sys

import torch
from pykeen.pipeline import pipeline_from_config
from torch import distributed

__all__ = ["main"]


def main(config: str, out: str) -> None:
    """Train what an experiment file of PyKEEN says, as one of the ranks which torchrun has started.

    :param config: the file
    :param out: the folder, which rank 0 writes
    """
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group(backend)
    try:
        content = json.loads(pathlib.Path(config).read_text(encoding="utf-8"))
        content = {"metadata": {}, **content, "pipeline": {**content["pipeline"], "training_loop": "distributed"}}
        result = pipeline_from_config(content)
        if distributed.get_rank() == 0:
            result.save_to_directory(out)
        # a rank which leaves while others still talk to it can bring them down
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
