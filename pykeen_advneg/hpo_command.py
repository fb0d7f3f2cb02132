"""The commands ``advneg hpo`` and ``advneg hpo-worker``; what loads PyKEEN or torch is imported where it is used."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated

import typer

from .errors import ConfigurationError

__all__ = ["add_commands"]

_Storage = Annotated[
    str | None,
    typer.Option(
        envvar="ADVNEG_STORAGE",
        help="A database URL, journal:PATH, or grpc://HOST:PORT. (default: study.db in the folder of --out)",
    ),
]
_Config = Annotated[pathlib.Path | None, typer.Option(help="Settings as JSON or YAML; options win over the file.")]
_Heartbeat = Annotated[int, typer.Option(help="Seconds between the signs of life of a trial.")]
_Grace = Annotated[int, typer.Option(help="Seconds without one after which another process gets the trial.")]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


def add_commands(
    app: typer.Typer, clear_errors: Callable[[], AbstractContextManager[None]], command: Callable[[], str | None]
) -> None:
    """Add the commands to an application.

    :param app: the application
    :param clear_errors: says what is wrong with the input, and leaves
    :param command: gives what was typed
    """

    @app.command()
    def hpo(
        *,
        out: Annotated[pathlib.Path, typer.Option(help="The folder for results; the same folder again goes on.")],
        dataset: Annotated[str | None, typer.Option(help="A data set of PyKEEN, or a folder.")] = None,
        model: Annotated[str | None, typer.Option(help="A model of PyKEEN, e.g. distmult.")] = None,
        sampler: Annotated[
            list[str] | None, typer.Option(help="[LABEL=]NAME; may be repeated; the first is the base.")
        ] = None,
        set_: Annotated[
            list[str] | None,
            typer.Option("--set", help='Arguments of one sampler, e.g. kbgan:{"loss":"nssa"}; also ..._kwargs_ranges.'),
        ] = None,
        trials: Annotated[int | None, typer.Option(help="Trials of each sampler. (default: 30)")] = None,
        epochs: Annotated[int | None, typer.Option(help="Epochs of a trial, at most. (default: 100)")] = None,
        eval_every: Annotated[
            int | None, typer.Option(help="Epochs between validations. (default: epochs / 20)")
        ] = None,
        patience: Annotated[int | None, typer.Option(help="Validations to wait for a better one. (default: 5)")] = None,
        seeds: Annotated[
            int | None, typer.Option(help="Seeds to train each winner with, 0: none. (default: 5)")
        ] = None,
        random_seed: Annotated[int | None, typer.Option(help="The seed of the first trials. (default: 0)")] = None,
        metric: Annotated[str | None, typer.Option(help="What is optimised, on validation. (default: mrr)")] = None,
        dim: Annotated[int | None, typer.Option(help="A fixed embedding dimension. (default: searched)")] = None,
        loss: Annotated[str | None, typer.Option(help="A loss of PyKEEN. (default: the model's)")] = None,
        optimizer: Annotated[str | None, typer.Option(help="An optimiser. (default: adam)")] = None,
        batch_size: Annotated[int | None, typer.Option(help="A fixed batch size. (default: 256, as in PyKEEN)")] = None,
        search: Annotated[str | None, typer.Option(help="Optuna's sampler. (default: tpe)")] = None,
        pruner: Annotated[str | None, typer.Option(help="Optuna's pruner; nop: none. (default: median)")] = None,
        workers: Annotated[
            int, typer.Option(help="Processes to start on this machine; 0: only watch those of others.")
        ] = 1,
        storage: _Storage = None,
        name: Annotated[str, typer.Option(help="The name of the studies in the storage.")] = "study",
        config: _Config = None,
        heartbeat: _Heartbeat = 10,
        grace: _Grace = 60,
        quiet: _Quiet = False,
    ) -> None:
        """Tune each sampler with the same budget, train the winners with several seeds, and report.

        A study that was killed goes on where it was when the same command is given again.

        Example: advneg hpo --dataset umls --model distmult --sampler shared --sampler kbgan --trials 25 --out tuned
        """
        options = {
            "dataset": dataset,
            "model": model,
            "trials": trials,
            "epochs": epochs,
            "eval_every": eval_every,
            "patience": patience,
            "seeds": seeds,
            "random_seed": random_seed,
            "metric": metric,
            "model_kwargs.embedding_dim": dim,
            "loss": loss,
            "optimizer": optimizer,
            "training_kwargs.batch_size": batch_size,
            "search.sampler": search,
            "search.pruner": pruner,
        }
        with clear_errors():
            from .hpo.options import read_tuning

            tuning = read_tuning(config, sampler or [], set_ or [], options)
            if workers < 0:
                raise ConfigurationError(f"--workers {workers} must not be negative.")
            from .hpo.running import run

            run(
                tuning,
                out,
                name=name,
                storage=storage,
                workers=workers,
                heartbeat=heartbeat,
                grace=grace,
                quiet=quiet,
                command=command(),
            )

    @app.command("hpo-worker")
    def hpo_worker(
        name: Annotated[str, typer.Argument(help="The name of the studies, as given to `advneg hpo --name`.")],
        *,
        storage: Annotated[
            str, typer.Option(envvar="ADVNEG_STORAGE", help="As given to `advneg hpo`; the same for all workers.")
        ],
        checkpoints: Annotated[
            pathlib.Path | None,
            typer.Option(
                help="A folder for checkpoints; on a disk which all machines share, all can go on with a trial."
            ),
        ] = None,
        config: _Config = None,
        heartbeat: _Heartbeat = 10,
        grace: _Grace = 60,
        quiet: _Quiet = False,
    ) -> None:
        """Run trials of studies that `advneg hpo` has made, on this or any other machine, until none is left.

        With --config, the studies are made if they do not exist.

        Example: advneg hpo-worker study --storage postgresql+psycopg2://user@host/name --checkpoints /shared/tuned
        """
        with clear_errors():
            from .hpo.options import read_tuning
            from .hpo.running import run_worker

            tuning = None if config is None else read_tuning(config, [], [], {})
            run_worker(
                name,
                storage=storage,
                tuning=tuning,
                checkpoints=checkpoints,
                heartbeat=heartbeat,
                grace=grace,
                quiet=quiet,
            )
