"""Measure the plugin beside LibKGE's own job, and beside PyKEEN: ``python measure.py overhead|curves|longer --help``.

Each run appends one line of JSON to a file, which is read again on the next start: what is there is not run twice.
``python measure.py report FOLDER`` makes tables and pictures of the files.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from pykeen_advneg_libkge.convert import convert
from pykeen_advneg_libkge.installed import check_libkge

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

#: epochs and validation MRR
Curve = Iterator[tuple[int, float]]

TYPE = "advneg_negative_sampling"
METRIC = "mean_reciprocal_rank_filtered"

#: the standard deviation of all initial embeddings
STD = 0.1


def machine() -> dict[str, str]:
    """Say what it runs on."""
    checkout = Path(str(check_libkge().__file__)).parents[1]
    words = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    commit = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    packages = {name: version(name) for name in ("torch", "pykeen", "pykeen-advneg", "numpy")}
    return {"libkge": commit, "python": platform.python_version(), "threads": str(torch.get_num_threads()), **packages}


class Records:
    """Results in a file, one line each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.known = [json.loads(line) for line in lines]

    def has(self, **key: Any) -> bool:
        """Whether there is a result with these values."""
        return any(all(record.get(name) == value for name, value in key.items()) for record in self.known)

    def add(self, **record: Any) -> None:
        """Add a result."""
        record["machine"] = machine()
        self.known.append(record)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        typer.echo(json.dumps(record))


def dataset_folder(name: str) -> Path:
    """Give the folder of a data set in LibKGE's format, converted if need be; ids are those of PyKEEN."""
    folder = Path(tempfile.gettempdir()) / "advneg-libkge-data" / name
    return folder if folder.exists() else convert(name, folder, "training")


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


# overhead

#: negatives of LibKGE for each of two slots: with two positives, as many triples as one positive and 2 k + 1 negatives
ARMS: Mapping[str, Mapping[str, Any]] = {
    "LibKGE uniform, triple": {"negative_sampling.implementation": "triple"},
    "LibKGE uniform, batch": {"negative_sampling.implementation": "batch"},
    "LibKGE uniform, shared": {"negative_sampling.implementation": "batch", "negative_sampling.shared": True},
    "basic": {f"{TYPE}.sampler": "basic"},
    "shared, chunks of 1": {f"{TYPE}.sampler": "shared", f"{TYPE}.sampler_args.chunk_size": 1},
    "shared, batch": {f"{TYPE}.sampler": "shared", f"{TYPE}.sampler_args.chunk_size": 1 << 20},
}


def overhead_job(folder: Path, model: str, arm: str, k: int, triples: int) -> Any:
    """Make a job which trains on some triples of FB15k-237."""
    part = dataset_folder("fb15k237") / f"part{triples}.del"
    if not part.exists():
        lines = (part.parent / "train.del").read_text().splitlines()
        order = torch.randperm(len(lines), generator=torch.Generator().manual_seed(0))[:triples].tolist()
        part.write_text("".join(f"{lines[i]}\n" for i in order))
    own = not arm.startswith("LibKGE")
    options = {
        "model": model,
        "train.type": TYPE if own else "negative_sampling",
        "train.split": "part",
        "dataset.files.part.filename": part.name,
        "dataset.files.part.type": "triples",
        "train.loss": "kl",
        "train.batch_size": 512,
        "train.optimizer.default.type": "Adagrad",
        "train.optimizer.default.args.lr": 0.1,
        "random_seed.default": 0,
        **embeddings(128),
        **ARMS[arm],
    }
    if model == "transe":
        options["transe.l_norm"] = 2.0
    if own:
        options[f"{TYPE}.num_samples"] = 2 * k + 1
    else:
        options |= {"negative_sampling.num_samples.s": k, "negative_sampling.num_samples.o": k}
    return libkge_job(folder, "fb15k237", options)


@app.command()
def overhead(
    into: Annotated[Path, typer.Argument(help="The file of results.")],
    rounds: int = 5,
    triples: int = 10_240,
) -> None:
    """Time epochs of all arms in turns, in one process, by the processor's time, on which others have less effect."""
    torch.set_num_threads(1)
    records = Records(into)
    for model in ("transe", "complex"):
        for k in (8, 64):
            with tempfile.TemporaryDirectory() as folder:
                jobs = {arm: overhead_job(Path(folder) / str(i), model, arm, k, triples) for i, arm in enumerate(ARMS)}
                for number in range(-1, rounds):
                    for arm, job in jobs.items():
                        if records.has(model=model, k=k, arm=arm, round=number):
                            continue
                        if not job._is_prepared:
                            job._prepare()
                            job._is_prepared = True
                        job.epoch += 1
                        start, wall = time.process_time(), time.perf_counter()
                        entry = job.run_epoch()
                        spent, wall = time.process_time() - start, time.perf_counter() - wall
                        # the first round warms up
                        if number >= 0:
                            scored = triples * (2 * k + 2)
                            records.add(
                                model=model, k=k, arm=arm, round=number, cpu=spent, wall=wall, scored=scored,
                                loss=entry["avg_loss"],
                            )  # fmt: skip


# curves

#: the sampler, the loss of LibKGE and of PyKEEN, which are the same, and the number of negatives
TASKS: Mapping[str, Mapping[str, Any]] = {
    "kbgan": dict(
        sampler="kbgan", kwargs={}, k=1, libkge=("margin_ranking", 1.0), pykeen=("marginranking", dict(margin=1.0)),
    ),
    "emu": dict(
        sampler="emu", kwargs=dict(base_kwargs=dict(chunk_size=64)), k=32, libkge=("kl", None),
        pykeen=("crossentropy", {}),
    ),
    "nssa": dict(
        sampler="shared", kwargs=dict(chunk_size=64), k=32, libkge=("bce_self_adversarial", 3.0),
        pykeen=("nssa", dict(margin=3.0, adversarial_temperature=1.0)),
    ),
}  # fmt: skip


def initial(x: torch.Tensor) -> torch.Tensor:
    """Initialise embeddings as LibKGE is told to do, both parts of complex numbers alike."""
    torch.nn.init.normal_(torch.view_as_real(x) if x.is_complex() else x, std=STD)
    return x


def curve_of_libkge(dataset: str, model: str, task: str, seed: int, settings: Mapping[str, Any]) -> Curve:
    """Train in LibKGE; yields epochs and validation MRR."""
    chosen = TASKS[task]
    loss, argument = chosen["libkge"]
    options = {
        "model": model,
        "random_seed.default": seed,
        "train.type": TYPE,
        "train.loss": loss,
        "train.batch_size": settings["batch_size"],
        "train.max_epochs": settings["epochs"],
        "train.optimizer.default.type": "Adam",
        "train.optimizer.default.args.lr": settings["lr"],
        "train.checkpoint.every": 0,
        "valid.every": settings["every"],
        "valid.metric": METRIC,
        **embeddings(settings["dim"]),
        TYPE: {"sampler": chosen["sampler"], "num_samples": chosen["k"], "sampler_args": dict(chosen["kwargs"])},
    }
    if argument is not None:
        options["train.loss_arg"] = argument
    if model == "transe":
        options["transe.l_norm"] = 1.0
    with tempfile.TemporaryDirectory() as folder:
        job = libkge_job(Path(folder) / "job", dataset, options)
        job.run()
    for entry in job.valid_trace:
        yield entry["epoch"], entry[METRIC]


def curve_of_pykeen(dataset: str, model: str, task: str, seed: int, settings: Mapping[str, Any]) -> Curve:
    """Train in PyKEEN, with the same model, loss, optimizer and sampler; yields epochs and validation MRR."""
    from pykeen.datasets import get_dataset
    from pykeen.evaluation import RankBasedEvaluator
    from pykeen.losses import loss_resolver
    from pykeen.models import model_resolver
    from pykeen.training.callbacks import TrainingCallback
    from pykeen.utils import set_random_seed

    from pykeen_advneg.training import AdversarialTrainingLoop

    class Validation(TrainingCallback):
        """Validates every so many epochs."""

        def __init__(self) -> None:
            super().__init__()
            self.found: list[tuple[int, float]] = []

        def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: Any) -> None:
            if epoch % settings["every"]:
                return
            self.model.eval()
            results = RankBasedEvaluator(filtered=True).evaluate(
                self.model, data.validation.mapped_triples, use_tqdm=False, batch_size=256,
                additional_filter_triples=[data.training.mapped_triples],
            )  # fmt: skip
            self.model.train()
            self.found.append((epoch, results.get_metric("both.realistic.inverse_harmonic_mean_rank")))

    chosen = TASKS[task]
    name, arguments = chosen["pykeen"]
    data = get_dataset(dataset=dataset)
    set_random_seed(seed)
    kwargs: dict[str, Any] = dict(entity_initializer=initial, relation_initializer=initial)
    if model == "transe":
        # LibKGE constrains nothing
        kwargs |= dict(
            embedding_dim=settings["dim"], scoring_fct_norm=1, entity_constrainer=None, relation_constrainer=None
        )
    else:
        # complex numbers, of which LibKGE counts both parts
        kwargs |= dict(embedding_dim=settings["dim"] // 2, regularizer=None)
    instance = model_resolver.make(
        model, kwargs, triples_factory=data.training, random_seed=seed, loss=loss_resolver.make(name, arguments)
    )
    loop = AdversarialTrainingLoop(
        model=instance,
        triples_factory=data.training,
        optimizer=torch.optim.Adam(instance.get_grad_params(), lr=settings["lr"]),
        negative_sampler=chosen["sampler"],
        negative_sampler_kwargs=dict(num_negs_per_pos=chosen["k"], **chosen["kwargs"]),
    )
    validation = Validation()
    loop.train(
        data.training, settings["epochs"], batch_size=settings["batch_size"], callbacks=validation, use_tqdm=False,
        use_tqdm_batch=False,
    )  # fmt: skip
    yield from validation.found


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
    frameworks = {"LibKGE": curve_of_libkge, "PyKEEN": curve_of_pykeen}
    for task in TASKS:
        for model in ("transe", "complex"):
            for seed in range(seeds):
                for framework, curve in frameworks.items():
                    key = dict(
                        dataset=dataset, model=model, task=task, seed=seed, framework=framework, settings=settings
                    )
                    if not records.has(**key):
                        start = time.process_time()
                        points = list(curve(dataset, model, task, seed, settings))
                        records.add(**key, curve=points, cpu=time.process_time() - start)


# longer: LibKGE alone, with and without our samplers


@app.command()
def longer(
    into: Annotated[Path, typer.Argument(help="The file of results.")],
    dataset: str = "fb15k237",
    epochs: int = 5,
    seeds: int = 1,
    dim: int = 128,
) -> None:
    """Train TransE and ComplEx in LibKGE, on its own negatives and on those of this project."""
    torch.set_num_threads(1)
    records = Records(into)
    arms: dict[str, dict[str, Any]] = {
        "LibKGE uniform": {
            "train.type": "negative_sampling",
            "negative_sampling.num_samples.s": 16,
            "negative_sampling.num_samples.o": 16,
        },
        "shared": {TYPE: {"sampler": "shared", "num_samples": 256}},
        "emu": {TYPE: {"sampler": "emu", "num_samples": 256}},
        "kbgan": {TYPE: {"sampler": "kbgan", "num_samples": 1}, "train.loss": "margin_ranking"},
    }  # fmt: skip
    for seed in range(seeds):
        for model in ("complex", "transe"):
            for arm, own in arms.items():
                key = dict(dataset=dataset, model=model, arm=arm, seed=seed, epochs=epochs, dim=dim)
                if records.has(**key):
                    continue
                options = {
                    "model": model,
                    "random_seed.default": seed,
                    "train.type": TYPE,
                    "train.loss": "kl",
                    "train.batch_size": 1024,
                    "train.max_epochs": epochs,
                    "train.optimizer.default.type": "Adagrad",
                    "train.optimizer.default.args.lr": 0.1,
                    "train.checkpoint.every": 0,
                    "valid.every": 1,
                    "valid.metric": METRIC,
                    "eval.batch_size": 256,
                    **embeddings(dim),
                    **own,
                }
                if model == "transe":
                    options["transe.l_norm"] = 2.0
                start = time.process_time()
                with tempfile.TemporaryDirectory() as folder:
                    job = libkge_job(Path(folder) / "job", dataset, options)
                    job.run()
                points = [(entry["epoch"], entry[METRIC]) for entry in job.valid_trace]
                records.add(**key, curve=points, cpu=time.process_time() - start)


# report


def table(header: list[str], rows: list[list[str]]) -> str:
    """Write a table of Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def report_overhead(records: list[dict[str, Any]]) -> str:
    """Compare the time of arms, round by round, with LibKGE's fastest job without and with shared negatives."""
    spent: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in sorted(records, key=lambda record: record["round"]):
        spent[record["model"], record["k"]][record["arm"]].append(record["cpu"])
    rows = []
    for (model, k), arms in spent.items():
        medians = {arm: statistics.median(times) for arm, times in arms.items()}
        unshared = min(medians["LibKGE uniform, triple"], medians["LibKGE uniform, batch"])
        for arm, median in medians.items():
            own = medians["LibKGE uniform, shared"] if arm in {"shared, batch", "LibKGE uniform, shared"} else unshared
            low, high = min(arms[arm]), max(arms[arm])
            rows.append([model, str(2 * k + 2), arm, f"{median:.2f} ({low:.2f} to {high:.2f})", f"{median / own:.2f}"])
    return table(["model", "triples scored a positive", "arm", "seconds an epoch", "times LibKGE's own"], rows)


def report_curves(records: list[dict[str, Any]], picture: Path) -> str:
    """Compare the last validation MRR, and draw the curves."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    groups: dict[tuple[str, str], dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        groups[record["task"], record["model"]][record["framework"]].append(record)
    figure, axes = plt.subplots(len(TASKS), 2, figsize=(9, 3 * len(TASKS)), squeeze=False, sharex=True)
    rows = []
    for i, task in enumerate(TASKS):
        for j, model in enumerate(("transe", "complex")):
            cells, axis = [], axes[i][j]
            last = {}
            for (framework, found), colour in zip(sorted(groups[task, model].items()), ("C0", "C1"), strict=False):
                for number, record in enumerate(found):
                    label = framework if number == 0 else None
                    axis.plot(*zip(*record["curve"], strict=True), color=colour, label=label, alpha=0.7)
                last[framework] = [record["curve"][-1][1] for record in found]
                mean, deviation = statistics.mean(last[framework]), statistics.stdev(last[framework])
                cells.append(f"{mean:.4f} ± {deviation:.4f}")
            axis.set_title(f"{model}, {task}")
            axis.legend()
            gap = statistics.mean(last["LibKGE"]) - statistics.mean(last["PyKEEN"])
            noise = (statistics.variance(last["LibKGE"]) / len(last["LibKGE"])
                     + statistics.variance(last["PyKEEN"]) / len(last["PyKEEN"])) ** 0.5  # fmt: skip
            rows.append([model, task, *cells, f"{gap:+.4f}", f"{abs(gap) / noise:.1f}"])
    for axis in axes[-1]:
        axis.set_xlabel("epoch")
    for axis in axes[:, 0]:
        axis.set_ylabel("validation MRR")
    figure.tight_layout()
    figure.savefig(picture, dpi=110)
    header = ["model", "sampler", "LibKGE", "PyKEEN", "difference", "in standard errors"]
    return table(header, rows)


def report_longer(records: list[dict[str, Any]]) -> str:
    """Give the last validation MRR of each arm."""
    rows = [
        [record["model"], record["arm"], str(record["epochs"]), f"{record['curve'][-1][1]:.4f}", f"{record['cpu']:.0f}"]
        for record in records
    ]
    return table(["model", "negatives", "epochs", "validation MRR", "seconds of the processor"], rows)


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="The folder of the files.")]) -> None:
    """Write tables, and pictures beside the files."""
    found = {path.stem: Records(path).known for path in sorted(folder.glob("*.jsonl"))}
    if found.get("overhead"):
        typer.echo(report_overhead(found["overhead"]) + "\n")
    if found.get("curves"):
        typer.echo(report_curves(found["curves"], folder / "curves.png") + "\n")
    if found.get("longer"):
        typer.echo(report_longer(found["longer"]) + "\n")
    typer.echo(json.dumps(next(iter(found.values()))[-1]["machine"]))


if __name__ == "__main__":
    app()
