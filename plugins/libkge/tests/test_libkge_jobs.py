"""The plugin with LibKGE itself: `make test-libkge LIBKGE=path/to/checkout`; skipped where LibKGE is not installed."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libkge_standins as standins
import numpy as np
import pytest
import torch
import yaml
from optuna.pruners import ThresholdPruner
from optuna.trial import TrialState
from typer.testing import CliRunner

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.negatives import Negatives
from pykeen_advneg.sampling.base import Scores
from pykeen_advneg.scoring import Scorer
from pykeen_advneg_libkge.__main__ import app
from pykeen_advneg_libkge.checks import MODEL
from pykeen_advneg_libkge.convert import convert
from pykeen_advneg_libkge.installed import NEEDED, check_libkge
from pykeen_advneg_libkge.losses import EXCLUDED, HostLoss
from pykeen_advneg_libkge.reciprocal import RECIPROCAL
from pykeen_advneg_libkge.tuning import tune

try:
    check_libkge()
except ConfigurationError as missing:
    pytest.skip(f"needs LibKGE: {missing}", allow_module_level=True)

from kge import Config, Dataset
from kge.job import EvaluationJob, Job, TrainingJob
from kge.util import KgeLoss
from kge.util.io import load_checkpoint

TYPE = "advneg_negative_sampling"
KBGAN = {"sampler": "kbgan", "sampler_args": {"num_candidates": 5}}
EMU = {"sampler": "emu", "num_samples": 4, "sampler_args": {"base_kwargs": {"chunk_size": 16}}}
SHARED = {"sampler": "shared", "num_samples": 4, "filtered": True}


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package whose data sets LibKGE finds, and with the data set."""
    home = tmp_path_factory.mktemp("home")
    (home / "own_data").mkdir()
    (home / "own_data" / "__init__.py").touch()
    convert("nations", home / "data" / "nations")
    return home


@pytest.fixture(autouse=True)
def _own_data(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(home))
    # LibKGE's checkpoints hold its configuration, which torch unpickles only if told so
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    yield
    sys.modules.pop("own_data", None)


def settings(own: dict[str, Any], model: str = "distmult", **more: Any) -> dict[str, Any]:
    base = {
        "job.device": "cpu",
        "dataset.name": "nations",
        "random_seed.default": 1,
        "modules": ["kge.job", "kge.model", "kge.model.embedder", "pykeen_advneg_libkge", "own_data"],
        "import": [TYPE],
        "model": model,
        "lookup_embedder.dim": 8,
        "train.type": TYPE,
        "train.loss": "margin_ranking",
        "train.batch_size": 256,
        "train.max_epochs": 2,
        "train.optimizer.default.type": "Adam",
        "train.optimizer.default.args.lr": 0.01,
        "valid.every": 2,
        TYPE: own,
    }
    return {**base, **more}


def job_of(own: dict[str, Any], folder: Path, model: str = "distmult", **more: Any) -> Any:
    from kge.util.seed import seed_from_config

    config = Config()
    config.load_options(settings(own, model, **more))
    config.folder = str(folder)
    config.set("console.quiet", True)
    config.init_folder()
    seed_from_config(config)
    return Job.create(config, Dataset.create(config))


def weights(job: Any) -> list[torch.Tensor]:
    sampler = [value for value in job.sampler.state_dict().values() if isinstance(value, torch.Tensor)]
    return [*job.model.state_dict().values(), *sampler]


# the stand-ins of the other tests


def test_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command says which LibKGE there is, and what its checkpoints need."""
    result = CliRunner().invoke(app, ["check"])
    assert result.exit_code == 0
    assert "commit: " in result.output
    assert "export" not in result.output
    monkeypatch.delenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    assert "need: export TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1" in CliRunner().invoke(app, ["check"]).output


def test_standins_claim_nothing_more() -> None:
    """What the stand-ins have, LibKGE has, with the same parameters."""
    import kge.job
    import kge.model
    import kge.util

    pairs: list[tuple[Any, Any]] = [
        (standins.Config, Config),
        (standins.Dataset, Dataset),
        (standins.TrainingJob, TrainingJob),
        (standins.KgeOptimizer, kge.util.KgeOptimizer),
        (standins.Model, kge.model.KgeModel),
        (standins.Embedder, kge.model.KgeEmbedder),
        (standins.Scorer, kge.model.transe.TransEScorer),
        (standins.TrainingJob._ProcessBatchResult, TrainingJob._ProcessBatchResult),
    ]
    for mine, theirs in pairs:
        for name, function in vars(mine).items():
            if inspect.isfunction(function) and name not in {"__init__", "__eq__", "__repr__", "train"}:
                parameters = set(inspect.signature(function).parameters)
                assert parameters <= set(inspect.signature(getattr(theirs, name)).parameters), name
    constructor = inspect.signature(TrainingJob.__init__)
    assert list(inspect.signature(standins.TrainingJob.__init__).parameters) == list(constructor.parameters)
    for module, names in NEEDED.items():
        assert all(hasattr(sys.modules[module], name) for name in names)
    for cls, name in ((kge.model.ReciprocalRelationsModel, RECIPROCAL), (kge.model.KgeModel, MODEL)):
        assert f"{cls.__module__}.{cls.__qualname__}" == name
    for cls, _ in standins.SCORERS.values():
        if cls.__module__.startswith("kge."):
            assert hasattr(sys.modules[cls.__module__], cls.__name__)


# models and losses

MODELS: list[tuple[str, dict[str, Any]]] = [
    ("transe", {"transe.l_norm": 1.0}),
    ("transe", {"transe.l_norm": 2.0}),
    ("distmult", {}),
    ("complex", {}),
    ("rotate", {"rotate.l_norm": 2.0}),
    ("rotate", {}),
    ("cp", {}),
    ("simple", {}),
    ("rescal", {}),
    ("transh", {}),
]


@pytest.mark.parametrize(("model", "more"), MODELS)
def test_models(model: str, more: dict[str, Any], tmp_path: Path) -> None:
    """Scores of the view are the model's, for corrupted heads and tails; and it trains."""
    job = job_of(SHARED, tmp_path / "job", model, **more)
    positives = job.triples[:40]
    column = 2 * torch.randint(2, (40, 6))
    drawn = Negatives(positives, torch.randint(14, (40, 6)), column)
    with torch.no_grad():
        scores = Scorer(job.binding.view).negatives(drawn)
        expected = job.model.score_spo(*drawn.triples.view(-1, 3).unbind(-1), direction="o").view(40, 6)
    torch.testing.assert_close(scores, expected, atol=1e-3, rtol=1e-3)
    before = [x.clone() for x in job.model.parameters()]
    job.run()
    assert all(torch.isfinite(x).all() for x in job.model.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, job.model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("base", "dim", "own"),
    [("complex", 8, KBGAN), ("complex", 8, EMU), ("conve", 32, SHARED), ("transformer", 64, KBGAN)],
)
def test_reciprocal_relations(base: str, dim: int, own: dict[str, Any], tmp_path: Path) -> None:
    """Both halves of the relations are trained; ConvE and the transformer can be used in this way only."""
    more = {"reciprocal_relations_model.base_model.type": base, "import": [TYPE, base], "lookup_embedder.dim": dim}
    job = job_of(own, tmp_path / "job", "reciprocal_relations_model", **more, **{"train.max_epochs": 1})
    before = job.model.get_p_embedder().embed_all().detach().clone()
    job.run()
    changed = (job.model.get_p_embedder().embed_all() != before).any(dim=1)
    assert changed[:55].any(), "the relations of the data set"
    assert changed[55:].any(), "their inverses"


@pytest.mark.parametrize(("model", "dim"), [("conve", 32), ("transformer", 64)])
def test_models_for_tails_only(model: str, dim: int, tmp_path: Path) -> None:
    """LibKGE itself refuses to ask them for heads: they have to be reciprocal."""
    with pytest.raises(ConfigurationError, match="wrap it in a reciprocal_relations_model"):
        job_of(SHARED, tmp_path / "job", model, **{"import": [TYPE, model], "lookup_embedder.dim": dim})


@pytest.mark.parametrize("name", sorted(EXCLUDED))
def test_losses(name: str, tmp_path: Path) -> None:
    """With all losses of LibKGE, masked negatives are as if they had not been drawn."""
    config = Config()
    config.set("train.loss", name)
    config.set("train.type", TYPE)
    config.set("job.device", "cpu")
    config.folder = str(tmp_path)
    real = KgeLoss.create(config)
    torch.manual_seed(0)
    positives = torch.zeros(6, 3, dtype=torch.long)
    mask = torch.rand(6, 5) > 0.4
    mask[:, 0] = True
    drawn = Negatives(positives, torch.zeros(6, 5, dtype=torch.long), torch.zeros(6, 1, dtype=torch.long), mask)
    leaves = torch.randn(6, 1, requires_grad=True), torch.randn(6, 5, requires_grad=True)
    loss = HostLoss(real, name)(Scores(*leaves), drawn)
    expected = torch.zeros(())
    for i in range(6):
        row = torch.cat([leaves[0][i], leaves[1][i][mask[i]]]).unsqueeze(0)
        labels = torch.zeros_like(row)
        labels[0, 0] = 1
        expected = expected + real(row, labels, num_negatives=row.shape[1] - 1) / 6
    torch.testing.assert_close(loss, expected)
    for one, other in zip(*(torch.autograd.grad(x, leaves) for x in (loss, expected)), strict=True):
        torch.testing.assert_close(one, other)


# LibKGE's habits


@pytest.mark.parametrize(
    "more",
    [
        {"lookup_embedder.sparse": True, "train.optimizer.default.type": "SparseAdam"},
        {"lookup_embedder.dropout": 0.2},
        {"lookup_embedder.regularize": "lp", "lookup_embedder.regularize_weight": 0.1},
        {"train.subbatch_size": 50, "train.trace_level": "batch"},
        {"train.lr_scheduler": "ReduceLROnPlateau", "train.lr_warmup": 1},
        {"train.loss": "bce_self_adversarial", "train.num_workers": 1},
    ],
    ids=lambda more: next(iter(more)),
)
def test_options_of_libkge(more: dict[str, Any], tmp_path: Path) -> None:
    job = job_of(KBGAN, tmp_path / "job", **more)
    job.run()
    lines = (tmp_path / "job" / "trace.yaml").read_text().splitlines()
    epochs = [yaml.safe_load(line) for line in lines if "event: epoch_completed" in line]
    assert [entry["type"] for entry in epochs] == [TYPE, TYPE]
    assert all("sampler_reward" in entry for entry in epochs)
    if "lookup_embedder.regularize" in more:
        assert epochs[0]["avg_penalty"] > 0
    if "train.trace_level" in more:
        assert sum("event: batch_completed" in line for line in lines) == 2 * 7


@pytest.mark.parametrize("own", [KBGAN, EMU, {**SHARED, "num_samples": 2}, {"sampler": "dans"}])
def test_resumed_is_unbroken(own: dict[str, Any], tmp_path: Path) -> None:
    unbroken = job_of(own, tmp_path / "whole", **{"train.max_epochs": 4})
    unbroken.run()
    job_of(own, tmp_path / "parts").run()
    checkpoint = load_checkpoint(str(tmp_path / "parts" / "checkpoint_00002.pt"))
    checkpoint["config"].set("train.max_epochs", 4)
    resumed = Job.create_from(checkpoint)
    resumed.run()
    assert resumed.epoch == 4
    assert all(torch.equal(a, b) for a, b in zip(weights(unbroken), weights(resumed), strict=True))


def test_training_loss_as_validation(tmp_path: Path) -> None:
    """It is computed by the sampler in training, and nothing learns from it."""
    more = {"eval.type": "training_loss", "valid.metric": "avg_loss", "valid.metric_max": False, "valid.every": 1}
    more["valid.metric_expr"] = "avg_loss"
    # by default, LibKGE stops at once where less is better
    more["valid.early_stopping.threshold.metric_value"] = 1000.0
    job = job_of(KBGAN, tmp_path / "job", **more)
    seen: list[list[torch.Tensor]] = []
    job.post_epoch_hooks.append(lambda job: seen.append([x.clone() for x in weights(job)]))
    job.post_valid_hooks.append(lambda job: seen.append([x.clone() for x in weights(job)]))
    job.run()
    assert len(seen) == 4
    for trained, validated in (seen[:2], seen[2:]):
        assert all(torch.equal(a, b) for a, b in zip(trained, validated, strict=True))
    assert job.valid_job._train_job.sampler is job.sampler


def test_grid_search_reaches_the_sampler(tmp_path: Path) -> None:
    more = {
        "job.type": "search",
        "search.type": "grid_search",
        "search.num_workers": 1,
        "search.device_pool": ["cpu"],
        "grid_search.parameters": {f"{TYPE}.sampler_args.num_candidates": [3, 5], f"{TYPE}.num_samples": [1]},
        "train.max_epochs": 1,
        "valid.every": 1,
    }
    job_of({"sampler": "kbgan"}, tmp_path / "search", **more).run()
    found = [yaml.safe_load(path.read_text()) for path in sorted((tmp_path / "search").glob("*/config.yaml"))]
    assert sorted(config[TYPE]["sampler_args"]["num_candidates"] for config in found) == [3, 5]
    assert len(list((tmp_path / "search").glob("*/checkpoint_00001.pt"))) == 2


def test_unknown_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="samplr"):
        job_of({"samplr": "kbgan"}, tmp_path / "one")
    with pytest.raises(ConfigurationError, match="unknown keywords"):
        job_of({"sampler": "kbgan", "sampler_args": {"num_candidate": 3}}, tmp_path / "two")


@pytest.mark.slow
def test_flags_on_the_command_line(tmp_path: Path, home: Path) -> None:
    """LibKGE hands on a flag under `sampler_args` as text."""
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(settings(EMU)))
    words = ["--train.max_epochs", "1", f"--{TYPE}.sampler_args.tied", "False", f"--{TYPE}.num_samples", "3"]
    command = [sys.executable, "-m", "kge", "start", str(tmp_path / "job.yaml"), "--folder", str(tmp_path / "job")]
    environment = {**os.environ, "PYTHONPATH": path_of(home), "OMP_NUM_THREADS": "1"}
    result = subprocess.run([*command, *words], env=environment, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()
    own = load_checkpoint(str(tmp_path / "job" / "checkpoint_00001.pt"))["advneg"]["sampler"]["kwargs"]
    assert own["tied"] is False
    assert own["num_negs_per_pos"] == 3


def test_features(tmp_path: Path) -> None:
    """MMRNS finds its features by the labels of LibKGE's data set."""
    from pykeen.datasets import Nations

    from pykeen_advneg.multimodal import MultimodalFeatures

    training = Nations().training
    labels = sorted(training.entity_to_id, reverse=True)
    numbers = [training.entity_to_id[label] for label in labels]
    text = torch.tensor(numbers).float().view(-1, 1, 1).repeat(1, 1, 4)
    MultimodalFeatures(text=text, labels=labels).save(tmp_path / "features.safetensors")
    args = {"features": str(tmp_path / "features.safetensors"), "pool_size": 10}
    job = job_of({"sampler": "mmrns", "num_samples": 2, "sampler_args": args}, tmp_path / "job")
    # as `convert` has written them
    ids = [training.entity_to_id[label] for label in job.dataset.entity_ids()]
    assert job.sampler.comparison.features.text[:, 0, 0].tolist() == ids
    job.run()
    assert job.epoch == 2


def test_pretraining(tmp_path: Path) -> None:
    """The best checkpoint is one of the epochs which count, and LibKGE stops by these alone."""
    own = {**KBGAN, "pretraining": {"epochs": 3, "num_samples": 2}}
    more = {"train.max_epochs": 5, "valid.every": 1, "valid.early_stopping.patience": 3}
    job = job_of(own, tmp_path / "job", **more)
    # as if the first validation was the best
    name = job.config.get("valid.metric")
    job.post_valid_hooks.append(lambda job: job.valid_trace[-1].update({name: 1 / job.epoch}))
    job.run()
    assert [entry["epoch"] for entry in job.valid_trace] == [4, 5]
    assert load_checkpoint(str(tmp_path / "job" / "checkpoint_best.pt"))["epoch"] == 4
    assert job.sampler.num_negs_per_pos == 1


def test_out_of_memory(tmp_path: Path) -> None:
    """LibKGE halves the sub-batches, and tries again; the result is that of small ones from the start."""
    own = {"sampler": "mmrns", "num_samples": 2, "sampler_args": {"pool_size": 10}}
    trained = []
    for breaks in (False, True):
        more = {"train.subbatch_auto_tune": True, "train.max_epochs": 1, "train.subbatch_size": 256 if breaks else 128}
        job = job_of(own, tmp_path / str(breaks), **more)
        process, left = job._process_subbatch, [breaks]

        def short(*args: Any, process: Any = process, left: list[bool] = left) -> None:
            process(*args)
            if left.pop() if left else False:
                raise RuntimeError("CUDA out of memory")

        job._process_subbatch = short
        job.run()
        assert job.config.get("train.subbatch_size") == 128
        trained.append(job)
    for one, other in zip(*map(weights, trained), strict=True):
        torch.testing.assert_close(one, other)


def test_tuning(tmp_path: Path) -> None:
    """Trials report what counts, and are pruned; a study goes on, and the best options can be trained."""
    own = {**KBGAN, "pretraining": {"epochs": 1}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(settings(own, **{"train.max_epochs": 3, "valid.every": 1})))
    ranges = {f"{TYPE}.sampler_args.temperature": {"type": "float", "low": 0.5, "high": 2.0}}
    ranges["train.optimizer.default.args.lr"] = {"type": "categorical", "choices": [0.01, 0.05]}
    given = dict(path=tmp_path / "job.yaml", folder=tmp_path / "study", ranges=ranges)
    tune(**given, trials=1, pruner=ThresholdPruner(lower=2.0))
    study = tune(**given, trials=3)
    first, *others = study.trials
    assert (first.state, list(first.intermediate_values)) == (TrialState.PRUNED, [2])
    assert not (tmp_path / "study" / "00000" / "checkpoint_00003.pt").exists()
    for trial in others:
        assert trial.state == TrialState.COMPLETE
        assert list(trial.intermediate_values) == [2, 3]
        assert trial.value == max(trial.intermediate_values.values())
    best = Config()
    best.load(str(tmp_path / "study" / "best.yaml"))
    found = best.get(f"{TYPE}.sampler_args.temperature"), best.get("train.optimizer.default.args.lr")
    assert found == tuple(study.best_params.values())
    with pytest.raises(ConfigurationError, match="another configuration"):
        tune(**{**given, "ranges": dict(list(ranges.items())[:1])}, trials=3)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"train.type": "KvsAll"}, "train.type='KvsAll'"),
        ({"valid.every": 0}, "no validation to tune by"),
        ({"valid.every": 2, TYPE: {**KBGAN, "pretraining": {"epochs": 2}}}, "no validation to tune by"),
    ],
)
def test_what_cannot_be_tuned(more: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(settings(KBGAN, **more)))
    with pytest.raises(ConfigurationError, match=message):
        tune(tmp_path / "job.yaml", tmp_path / "study", 1)


def test_options_of_other_jobs_are_named(tmp_path: Path) -> None:
    job = job_of(SHARED, tmp_path / "job", **{"negative_sampling.num_samples.s": 7, "train.max_epochs": 1})
    job.run()
    log = (tmp_path / "job" / "kge.log").read_text()
    assert "negative_sampling.num_samples.s: no effect" in log
    assert log.count("no effect") == 1


def path_of(home: Path) -> str:
    """Let a new process find what this one does."""
    return os.pathsep.join([str(home), *filter(None, [os.environ.get("PYTHONPATH")])])


def assert_same(one: Any, other: Any) -> None:
    """Compare nested values, tensors bit for bit."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, tuple | list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


@pytest.mark.slow
@pytest.mark.parametrize("own", [KBGAN, EMU], ids=["kbgan", "emu"])
def test_start_kill_resume_valid_test(own: dict[str, Any], home: Path, tmp_path: Path) -> None:
    """The commands, as a user gives them; the job is killed at some moment after its second epoch."""
    options = settings(own, "complex", **{"train.max_epochs": 40, "train.checkpoint.every": 0})
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(options))
    environment = {**os.environ, "PYTHONPATH": path_of(home), "OMP_NUM_THREADS": "1"}

    def command(*words: str) -> list[str]:
        return [sys.executable, "-m", "kge", *words]

    folder = tmp_path / "job"
    start = command("start", str(tmp_path / "job.yaml"), "--folder", str(folder))
    process = subprocess.Popen(start, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 600
    while process.poll() is None and not any(folder.glob("checkpoint_0000[2-9].pt")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    epochs = [int(path.stem.rpartition("_")[2]) for path in folder.glob("checkpoint_[0-9]*.pt")]
    assert 2 <= max(epochs) < 40, "it was not killed while it ran"
    for given in (("resume", "--train.max_epochs", str(max(epochs) + 2)), ("valid",), ("test",)):
        words = command(given[0], str(folder), *given[1:])
        result = subprocess.run(words, env=environment, capture_output=True, check=False)
        assert result.returncode == 0, result.stderr.decode()
    trace = (folder / "trace.yaml").read_text()
    assert trace.count("event: job_resumed") == 3
    assert "split: test" in trace
    last = f"checkpoint_{max(epochs) + 2:05}.pt"
    assert max(path.name for path in folder.glob("checkpoint_[0-9]*.pt")) == last
    # as if it had not been killed
    whole = command("start", str(tmp_path / "job.yaml"), "--folder", str(tmp_path / "whole"))
    words = [*whole, "--train.max_epochs", str(max(epochs) + 2)]
    subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, check=True)
    one, other = (load_checkpoint(str(where / last)) for where in (folder, tmp_path / "whole"))
    assert one["epoch"] == other["epoch"] == max(epochs) + 2
    # a model is saved with times and paths
    for pair in zip(one["model"][:1], other["model"][:1], strict=True):
        assert_same(*pair)
    for key in ("optimizer_state_dict", "advneg"):
        assert_same(one[key], other[key])


def test_eval_of_a_checkpoint(tmp_path: Path) -> None:
    job_of(KBGAN, tmp_path / "job").run()
    checkpoint = load_checkpoint(str(tmp_path / "job" / "checkpoint_best.pt"))
    evaluation = EvaluationJob.create_from(checkpoint, eval_split="valid")
    found = evaluation.run()["mean_reciprocal_rank_filtered"]
    assert found == checkpoint["valid_trace"][-1]["mean_reciprocal_rank_filtered"]
