"""Measure the plugin beside LibKGE's own job, and beside PyKEEN: ``python measure.py COMMAND --help``.

Each run appends one line of JSON to a file, which is read again on the next start: what is there is not run twice. What
a result depends on stands in its line, and is what it is found by. ``python measure.py report FOLDER`` makes tables and
pictures of the files.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import reports
import torch
import typer
from arms import arms_of_overhead, arms_of_training, scored
from curves import FRAMEWORKS, TASKS
from jobs import METRIC, embeddings, libkge_job, part_of_training
from killed import killed_and_whole, options_of
from published import arms_of_published, options_of_published
from records import Records

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

MODELS = ("transe", "complex")
NORM: Mapping[str, Mapping[str, Any]] = {"transe": {"transe.l_norm": 2.0}, "complex": {}}


def overhead_job(folder: Path, model: str, arm: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    """Make a job which trains on some triples of FB15k-237."""
    part = part_of_training("fb15k237", settings["triples"])
    options = {
        "model": model,
        "train.split": "part",
        "dataset.files.part.filename": part.name,
        "dataset.files.part.type": "triples",
        "train.loss": settings["loss"],
        "train.batch_size": settings["batch_size"],
        "train.optimizer.default.type": "Adagrad",
        "train.optimizer.default.args.lr": 0.1,
        "random_seed.default": 0,
        **embeddings(settings["dim"]),
        **NORM[model],
        **arm,
    }
    job = libkge_job(folder, "fb15k237", options)
    job._prepare()
    job._is_prepared = True
    return job


@app.command()
def overhead(
    into: Annotated[Path, typer.Argument(help="The file of results.")],
    rounds: int = 5,
    triples: int = 10_240,
    dim: int = 128,
    batch_size: int = 512,
) -> None:
    """Time epochs of all arms in turns, in one process, by the processor's time, on which others have less effect."""
    torch.set_num_threads(1)
    records = Records(into)
    settings = dict(triples=triples, dim=dim, batch_size=batch_size, loss="kl")
    for model in MODELS:
        for k in (8, 64):
            arms = arms_of_overhead(k)
            keys = {
                (arm, number): dict(model=model, k=k, arm=arm, round=number, settings=settings)
                for number in range(rounds)
                for arm in arms
            }
            if all(map(records.has, keys.values())):
                continue
            with tempfile.TemporaryDirectory() as folder:
                jobs = {
                    arm: overhead_job(Path(folder) / str(i), model, options, settings)
                    for i, (arm, options) in enumerate(arms.items())
                }
                for job in jobs.values():
                    one_epoch(job)  # to warm up
                for (arm, _), key in keys.items():
                    if not records.has(key):
                        records.add(**key, scored=triples * scored(arms[arm]), **one_epoch(jobs[arm]))


def one_epoch(job: Any) -> dict[str, float]:
    """Train for an epoch, and time it."""
    job.epoch += 1
    start, wall = time.process_time(), time.perf_counter()
    entry = job.run_epoch()
    return {"cpu": time.process_time() - start, "wall": time.perf_counter() - wall, "loss": entry["avg_loss"]}


@app.command()
def curves(
    into: Annotated[Path, typer.Argument(help="The file of results.")],
    dataset: str = "umls",
    seeds: int = 3,
    epochs: int = 10,
    every: int = 5,
    dim: int = 32,
    lr: float = 0.01,
    batch_size: int = 256,
) -> None:
    """Train the same with LibKGE and with PyKEEN, and validate by the evaluator of each."""
    torch.set_num_threads(1)
    records = Records(into)
    settings = dict(epochs=epochs, every=every, dim=dim, lr=lr, batch_size=batch_size)
    cases = [(task, model, seed) for task in TASKS for model in MODELS for seed in range(seeds)]
    for task, model, seed in cases:
        for framework, curve in FRAMEWORKS.items():
            key = dict(dataset=dataset, model=model, task=task, seed=seed, framework=framework, settings=settings)
            if not records.has(key):
                start = time.process_time()
                points = list(curve(dataset, model, task, seed, settings))
                records.add(**key, curve=points, cpu=time.process_time() - start)


def longer_options(model: str, loss: str, seed: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give what all arms of a comparison have in common."""
    options = {
        "model": model,
        "random_seed.default": seed,
        "train.loss": loss,
        "train.batch_size": settings["batch_size"],
        "train.max_epochs": settings["epochs"],
        "train.optimizer.default.type": "Adagrad",
        "train.optimizer.default.args.lr": settings["lr"],
        "train.checkpoint.every": 0,
        "valid.every": 1,
        "valid.metric": METRIC,
        "eval.batch_size": 256,
        **embeddings(settings["dim"]),
        **NORM[model],
    }
    return options | {"train.loss_arg": 3.0} if loss == "bce_self_adversarial" else options


@app.command()
def longer(
    into: Annotated[Path, typer.Argument(help="The file of results.")],
    dataset: str = "fb15k237",
    epochs: int = 5,
    seeds: int = 1,
    dim: int = 128,
    lr: float = 0.1,
    batch_size: int = 1024,
    negatives: Annotated[int, typer.Option(help="LibKGE's for each of two slots; others score as many triples.")] = 16,
    loss: Annotated[list[str] | None, typer.Option(help="Only these of LibKGE's losses.")] = None,
) -> None:
    """Train TransE and ComplEx in LibKGE on its own negatives and on those of this project, loss by loss.

    All arms of a loss score as many triples a positive as LibKGE's own job, but for EMU, which scores one less; its own
    loss is an arm beside the one with the loss of the others. Margin ranking has one negative for each slot.
    """
    torch.set_num_threads(1)
    records = Records(into)
    settings = dict(epochs=epochs, dim=dim, lr=lr, batch_size=batch_size)
    cases = [
        (seed, model, name, arm, own)
        for seed in range(seeds)
        for model in MODELS
        for name, arms in arms_of_training(negatives).items()
        for arm, own in arms.items()
        if loss is None or name in loss
    ]
    for seed, model, name, arm, own in cases:
        key = dict(
            dataset=dataset, model=model, loss=name, arm=arm, options=own, seed=seed, settings=settings
        )  # fmt: skip
        train(records, key, {**longer_options(model, name, seed, settings), **own})


@app.command()
def published(
    into: Annotated[Path, typer.Argument(help="The file of results.")],
    dataset: str = "fb15k237",
    epochs: int = 3,
    seeds: int = 1,
    model: Annotated[list[str] | None, typer.Option(help="Only these models.")] = None,
    only: Annotated[list[str] | None, typer.Option("--arm", help="Only these arms.")] = None,
) -> None:
    """Train by LibKGE's published configurations for negative sampling, with its own negatives and with others."""
    torch.set_num_threads(1)
    records = Records(into)
    cases = [(seed, name, arm) for seed in range(seeds) for name in model or MODELS for arm in arms_of_published(name)]
    for seed, name, arm in cases:
        if only and arm not in only:
            continue
        own = arms_of_published(name)[arm]
        settings = dict(epochs=epochs, published=options_of_published(name))
        key = dict(dataset=dataset, model=name, loss="kl", arm=arm, options=own, seed=seed, settings=settings)
        options = {
            **options_of_published(name),
            "random_seed.default": seed,
            "train.max_epochs": epochs,
            "train.checkpoint.every": 0,
            "valid.every": epochs,
            "valid.metric": METRIC,
            "eval.batch_size": 256,
        }
        train(records, key, {**options, **own})


def train(records: Records, key: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Train with LibKGE, and record all validations, unless that has been done."""
    if records.has(key):
        return
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        job = libkge_job(Path(folder) / "job", key["dataset"], options)
        job.run()
    points = [(entry["epoch"], entry[METRIC]) for entry in job.valid_trace]
    records.add(**key, scored=scored(key["options"]), curve=points, cpu=time.process_time() - start)


@app.command()
def killed(
    into: Annotated[Path, typer.Argument(help="The file of results.")],
    dataset: str = "fb15k237",
    epochs: int = 3,
    dim: int = 128,
    lr: float = 0.1,
    batch_size: int = 1024,
) -> None:
    """Start jobs by LibKGE's commands, kill them in their second epoch, resume and test them, beside unbroken ones."""
    records = Records(into)
    settings = dict(epochs=epochs, dim=dim, lr=lr, batch_size=batch_size)
    for task in TASKS:
        for model in MODELS:
            key = dict(dataset=dataset, model=model, task=task, settings=settings)
            key["options"] = options_of(dataset, model, task, settings)
            if not records.has(key):
                with tempfile.TemporaryDirectory() as folder:
                    records.add(**key, **killed_and_whole(Path(folder), dataset, model, task, settings))


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="The folder of the files.")]) -> None:
    """Write tables, and pictures beside the files."""
    for path in sorted(folder.glob("*.jsonl")):
        typer.echo(reports.report(path, Records(path).known))


if __name__ == "__main__":
    app()
