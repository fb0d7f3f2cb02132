"""Jobs of LibKGE to measure."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pykeen_advneg_libkge.convert import convert

__all__ = ["METRIC", "STD", "TYPE", "dataset_folder", "embeddings", "libkge_job", "part_of_training"]

TYPE = "advneg_negative_sampling"
METRIC = "mean_reciprocal_rank_filtered"

#: the standard deviation of all initial embeddings
STD = 0.1


def dataset_folder(name: str) -> Path:
    """Give the folder of a data set in LibKGE's format, converted if need be, with the vocabulary of PyKEEN."""
    folder = Path(tempfile.gettempdir()) / "advneg-libkge-data" / name
    return folder if folder.exists() else convert(name, folder, "training")


def part_of_training(name: str, triples: int) -> Path:
    """Give a file with some training triples of a data set, always the same."""
    part = dataset_folder(name) / f"part{triples}.del"
    if not part.exists():
        lines = (part.parent / "train.del").read_text().splitlines()
        order = torch.randperm(len(lines), generator=torch.Generator().manual_seed(0))[:triples].tolist()
        part.write_text("".join(f"{lines[i]}\n" for i in order))
    return part


def libkge_job(folder: Path, dataset: str, options: Mapping[str, Any]) -> Any:
    """Make a job of LibKGE."""
    from kge import Config, Dataset
    from kge.job import Job
    from kge.util.seed import seed_from_config

    config = Config()
    modules = ["kge.job", "kge.model", "kge.model.embedder", "pykeen_advneg_libkge"]
    common = {"job.device": "cpu", "dataset.name": dataset, "modules": modules, "import": [TYPE], "console.quiet": True}
    config.load_options({**common, **options})
    config.folder = str(folder)
    config.init_folder()
    seed_from_config(config)
    return Job.create(config, Dataset.create(config, folder=str(dataset_folder(dataset))))


def embeddings(dim: int) -> dict[str, Any]:
    """Give the options of embeddings in LibKGE."""
    return {
        "lookup_embedder.dim": dim,
        "lookup_embedder.initialize": "normal_",
        "lookup_embedder.initialize_args.normal_.mean": 0.0,
        "lookup_embedder.initialize_args.normal_.std": STD,
    }
