"""Studies: what is searched, pruned, reproduced and refused."""

from __future__ import annotations

import copy
import inspect
import json
from pathlib import Path
from typing import Any

import optuna
import pykeen.hpo
import pytest
import torch
from click.testing import CliRunner
from pykeen.experiments.cli import experiments
from pykeen.pipeline import pipeline_from_path
from pykeen.sampling import BasicNegativeSampler
from pykeen.training import SLCWATrainingLoop

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.hpo import StudyResult, hpo_pipeline
from pykeen_advneg.hpo.search import SearchOfEachTrial
from pykeen_advneg.hpo.spaces import merged, sampler_ranges
from pykeen_advneg.hpo.studies import FAILURES
from pykeen_advneg.sampling.emu import EMUNegativeSampler
from pykeen_advneg.sampling.kbgan import KBGANNegativeSampler

optuna.logging.set_verbosity(optuna.logging.ERROR)

SMALL: dict[str, Any] = dict(
    dataset="nations",
    model="distmult",
    model_kwargs=dict(embedding_dim=8),
    optimizer_kwargs=dict(lr=0.01),
    training_kwargs=dict(batch_size=512, use_tqdm=False),
    evaluation_kwargs=dict(use_tqdm=False, batch_size=64),
    epochs=2,
    regularizer="no",
    loss="softplus",
)


def study(**kwargs: Any) -> StudyResult:
    return hpo_pipeline(**{**SMALL, "n_trials": 2, **kwargs})


def test_signature_is_that_of_pykeen() -> None:
    theirs, ours = (inspect.signature(f).parameters for f in (pykeen.hpo.hpo_pipeline, hpo_pipeline))
    assert list(theirs) == [name for name in ours if name in theirs]
    differ = {name for name in theirs if theirs[name].default != ours[name].default}
    assert differ == {"training_loop"}
    assert set(ours) - set(theirs) == {
        "training_loop_kwargs_ranges",
        "random_seed",
        "checkpoint_directory",
        "checkpoint_frequency",
    }


def test_pykeens_own_study_refuses_the_loop() -> None:
    with pytest.raises(ConfigurationError, match=r"pykeen_advneg\.hpo\.hpo_pipeline"):
        pykeen.hpo.hpo_pipeline(**SMALL, training_loop="adversarial", negative_sampler="kbgan", n_trials=1)


def test_default_ranges_of_components() -> None:
    ranges = sampler_ranges(KBGANNegativeSampler, {})
    assert {"num_candidates", "generator_kwargs", "generator_optimizer_kwargs"} <= set(ranges)
    assert set(ranges["generator_kwargs"]) == {"embedding_dim"}
    assert set(ranges["generator_optimizer_kwargs"]) == {"lr"}
    below = sampler_ranges(EMUNegativeSampler, {"base": "kbgan"})["base_kwargs"]
    assert "num_candidates" in below
    assert "num_negs_per_pos" not in below, "EMU gives it to its base"
    assert "generator_kwargs" in below
    assert "in_batch_share" in sampler_ranges(EMUNegativeSampler, {})["base_kwargs"]
    assert "generator_kwargs" not in vars(KBGANNegativeSampler)["hpo_default"], "the class is not changed"


def test_merged_ranges() -> None:
    defaults = {"a": {"type": int, "low": 1, "high": 2}, "n": {"b": {"type": int, "low": 1, "high": 2}}}
    before = copy.deepcopy(defaults)
    given = {"a": None, "n": {"c": {"type": float, "low": 0.0, "high": 1.0}}}
    result = merged(defaults, given)
    assert set(result) == {"n"}
    assert set(result["n"]) == {"b", "c"}
    assert defaults == before


def test_nested_parameters_are_searched_and_used(tmp_path: Path) -> None:
    given = dict(generator="complex", generator_kwargs=dict(regularizer=None), num_candidates=5)
    ranges = dict(
        generator_kwargs=dict(embedding_dim=dict(type=int, low=3, high=5)),
        temperature=dict(type="categorical", choices=[0.5, 2.0]),
    )
    before = copy.deepcopy((given, ranges, SMALL))
    result = study(
        negative_sampler="kbgan",
        negative_sampler_kwargs=given,
        negative_sampler_kwargs_ranges=ranges,
        training_loop_kwargs_ranges=dict(pretraining_epochs=dict(type=int, low=0, high=1)),
        save_model_directory=str(tmp_path),
    )
    assert (given, ranges, SMALL) == before
    for trial in result.study.trials:
        assert trial.state.name == "COMPLETE"
        assert trial.params["negative_sampler.temperature"] in {0.5, 2.0}
        assert trial.params["negative_sampler.generator_kwargs.embedding_dim"] in {3, 4, 5}
        assert trial.params["training_loop.pretraining_epochs"] in {0, 1}
        assert 1e-3 <= trial.params["negative_sampler.generator_optimizer_kwargs.lr"] <= 0.1
        assert trial.user_attrs["effort"]["scores"] > 0
        assert (tmp_path / str(trial.number) / "trained_model.pkl").is_file()
    config = result.best_experiment()["pipeline"]
    kwargs = config["negative_sampler_kwargs"]
    best = result.study.best_params
    assert kwargs["generator_kwargs"]["embedding_dim"] == best["negative_sampler.generator_kwargs.embedding_dim"]
    assert kwargs["generator_kwargs"]["regularizer"] is None
    assert config["training_loop_kwargs"]["pretraining_epochs"] == best["training_loop.pretraining_epochs"]


def test_scores_are_counted() -> None:
    result = study(
        n_trials=1,
        negative_sampler="basic",
        negative_sampler_kwargs_ranges=dict(num_negs_per_pos=dict(type=int, low=3, high=3)),
    )
    effort = result.study.trials[0].user_attrs["effort"]
    assert effort["scores"] == 2 * 1592 * (1 + 3), "epochs, triples of Nations, a positive and three negatives"
    assert effort["epochs"] == 2
    assert effort["seconds"] > 0


def test_base_of_emu_is_searched() -> None:
    result = study(n_trials=1, negative_sampler="emu", negative_sampler_kwargs_ranges=dict(num_negs_per_pos=None))
    (trial,) = result.study.trials
    assert trial.state.name == "COMPLETE"
    assert {"negative_sampler.base_kwargs.chunk_size", "negative_sampler.mutation_rate"} <= set(trial.params)
    assert "negative_sampler.num_negs_per_pos" not in trial.params


def test_exported_file_reproduces_the_best_trial(tmp_path: Path) -> None:
    """To the last bit, with early stopping, for a sampler which learns."""
    result = study(
        epochs=6,
        n_trials=3,
        negative_sampler="kbgan",
        negative_sampler_kwargs=dict(num_candidates=5),
        stopper="early",
        stopper_kwargs=dict(frequency=1, patience=2, relative_delta=0.0),
        optimizer_kwargs=None,
        training_loop_kwargs=dict(pretraining_epochs=1),
        random_seed=17,
    )
    best = result.study.best_trial
    assert best.user_attrs["random_seed"] == 17 + best.number
    key = best.user_attrs["checkpoint"]
    assert key == f"{result.study.study_name}-seed17-{best.number}", "no other study has these files"
    path = tmp_path / "best.json"
    result.export(path)
    assert json.loads(path.read_text(encoding="utf-8"))["pipeline"]["evaluator"] == "fastrankbased"
    again = pipeline_from_path(path, use_testing_data=False)
    assert again.metric_results.get_metric(result.objective.metric) == best.value
    assert again.random_seed == 17 + best.number
    assert max(best.intermediate_values.values()) == best.value, "of the best epoch"


def test_exported_file_runs_by_the_command(tmp_path: Path) -> None:
    """`pykeen experiments run` says itself that it evaluates on test; a file which says it, too, would end it."""
    result = study(epochs=1, n_trials=1, negative_sampler="shared")
    result.export(tmp_path / "best.json")
    done = CliRunner().invoke(experiments, ["run", str(tmp_path / "best.json"), "-d", str(tmp_path / "out")])
    assert done.exit_code == 0, done.exception
    assert list((tmp_path / "out").rglob("results.json"))


def test_pykeens_loop_is_judged_by_its_best_epoch(tmp_path: Path) -> None:
    """As the loop `adversarial` is, though PyKEEN's own goes back to it only where it stops early."""
    result = study(
        epochs=5,
        n_trials=1,
        training_loop="slcwa",
        negative_sampler="basic",
        # so that the last epoch is not the best one
        optimizer_kwargs=dict(lr=1.0),
        stopper="early",
        stopper_kwargs=dict(frequency=1, patience=99, relative_delta=0.0),
    )
    (best,) = result.study.trials
    assert best.value == max(best.intermediate_values.values())
    assert best.value > best.intermediate_values[5], "else this shows nothing"
    result.export(tmp_path / "best.json")
    again = pipeline_from_path(tmp_path / "best.json", use_testing_data=False)
    assert again.metric_results.get_metric(result.objective.metric) == best.value


def test_processes_which_share_a_study_draw_different_values(tmp_path: Path) -> None:
    """The search of a trial depends on its number, not on how many there were when its process began."""
    kwargs: dict[str, Any] = dict(seed=3, query="random", kwargs=None)
    storage = f"sqlite:///{tmp_path}/study.db"
    studies = [
        optuna.create_study(study_name="a", storage=storage, sampler=SearchOfEachTrial(**kwargs), load_if_exists=True)
        for _ in range(2)
    ]
    values = [each.ask().suggest_float("x", 0, 1) for each in (*studies, *studies)]
    assert len(set(values)) == 4
    again = optuna.create_study(sampler=SearchOfEachTrial(**kwargs))
    assert [again.ask().suggest_float("x", 0, 1) for _ in range(4)] == values
    grid = SearchOfEachTrial("grid", dict(search_space=dict(x=[1, 2, 3])), 0)
    whole = optuna.create_study(sampler=grid)
    whole.optimize(lambda trial: trial.suggest_float("x", 1, 3), n_trials=3)
    assert {trial.value for trial in whole.trials} == {1, 2, 3}, "which is one sequence"


def test_replicates_and_files(tmp_path: Path) -> None:
    result = study(negative_sampler="shared", negative_sampler_kwargs=dict(chunk_size=64))
    result.save_to_directory(tmp_path)
    best = json.loads((tmp_path / "best_trial.json").read_text())
    assert "use_testing_data" not in best["pipeline"], "the command of PyKEEN says it"
    assert best["metadata"]["value"] == result.study.best_value
    config = json.loads((tmp_path / "best_pipeline" / "pipeline_config.json").read_text())
    assert config["pipeline"]["negative_sampler"] == "shared"
    assert config["pipeline"]["negative_sampler_kwargs"]["chunk_size"] == 64
    assert (tmp_path / "trials.tsv").is_file()
    result.replicate_best_pipeline(directory=tmp_path / "replicates", replicates=2)
    values = [
        json.loads((tmp_path / "replicates" / "replicates" / f"replicate-0000{i}" / "results.json").read_text())
        for i in range(2)
    ]
    mrrs = [v["metrics"]["both"]["realistic"]["inverse_harmonic_mean_rank"] for v in values]
    assert mrrs[0] != mrrs[1], "each replicate has a seed of its own"


class RecordingPruner(optuna.pruners.BasePruner):
    """Prunes the second trial at its second value."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.number == 1 and len(trial.intermediate_values) == 2


def test_pruning_looks_at_the_metric_of_the_study(tmp_path: Path) -> None:
    result = study(
        epochs=4,
        metric="hits_at_1",
        negative_sampler="shared",
        stopper="early",
        stopper_kwargs=dict(frequency=1, patience=9),
        pruner=RecordingPruner(),
        checkpoint_directory=tmp_path,
        checkpoint_frequency=0,
    )
    whole, pruned = result.study.trials
    assert (whole.state.name, pruned.state.name) == ("COMPLETE", "PRUNED")
    assert sorted(pruned.intermediate_values) == [1, 2]
    assert whole.value == max(whole.intermediate_values.values())
    assert whole.value == whole.user_attrs["both.realistic.hits_at_1"]
    assert list(tmp_path.iterdir()) == [], "nothing is left of trials which have ended"


def test_minimised_metric() -> None:
    result = study(
        epochs=3,
        n_trials=1,
        metric="adjusted_arithmetic_mean_rank",
        negative_sampler="shared",
        stopper="early",
        stopper_kwargs=dict(frequency=1, patience=9),
    )
    (trial,) = result.study.trials
    assert result.study.direction.name == "MINIMIZE"
    assert trial.value == min(trial.intermediate_values.values())


class Dying(optuna.pruners.BasePruner):
    """Ends the process, as Ctrl-C does, at the second value."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        if trial.number == 0 and len(trial.intermediate_values) == 2:
            raise KeyboardInterrupt
        return False


def test_interrupted_trial_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """A trial in the queue again, with the attributes of the first, gives the value of an unbroken one."""
    from pykeen_advneg.hpo.storage import Requeue

    common = dict(
        epochs=4,
        negative_sampler="kbgan",
        negative_sampler_kwargs=dict(num_candidates=5),
        stopper="early",
        stopper_kwargs=dict(frequency=1, patience=9),
        storage=f"sqlite:///{tmp_path}/study.db",
        study_name="x",
        load_if_exists=True,
        checkpoint_directory=tmp_path / "checkpoints",
        checkpoint_frequency=0,
        n_trials=1,
    )
    with pytest.raises(KeyboardInterrupt):
        study(**common, pruner=Dying())
    broken = optuna.load_study(study_name="x", storage=f"sqlite:///{tmp_path}/study.db")
    (dead,) = broken.trials
    assert dead.state.name == "FAIL"
    assert any((tmp_path / "checkpoints").iterdir())
    # what a worker does with a trial it finds dead
    Requeue()(broken, dead)
    Requeue()(broken, dead)
    assert len(broken.trials) == 2, "once"
    result = study(**common)
    retried = result.study.trials[1]
    unbroken = study(**{**common, "storage": None, "checkpoint_directory": None}).study.trials[0]
    assert retried.params == dead.params == unbroken.params
    assert retried.value == unbroken.value
    assert retried.intermediate_values == unbroken.intermediate_values
    assert retried.user_attrs["random_seed"] == 0
    assert retried.user_attrs["effort"]["epochs"] == 4
    trained = retried.user_attrs["effort"]["scores"] / unbroken.user_attrs["effort"]["scores"]
    assert trained == 5 / 4, "of four epochs, one was trained twice: that which was lost"
    assert list((tmp_path / "checkpoints").iterdir()) == []


class Failing(BasicNegativeSampler):
    """Works in the dry run, and in no trial."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if len(kwargs["mapped_triples"]) > 600:
            raise RuntimeError("never works")


class Broken(BasicNegativeSampler):
    def corrupt_batch(self, positive_batch: torch.Tensor) -> torch.Tensor:
        raise ValueError("is broken")


def test_errors_after_training_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no signs of a process which died, whose trial would be tried again."""
    from pykeen.evaluation import RankBasedMetricResults

    (tmp_path / "file").touch()
    common = dict(negative_sampler="shared", n_trials=1, checkpoint_directory=tmp_path / "c", checkpoint_frequency=0)
    (trial,) = study(**common, save_model_directory=str(tmp_path / "file")).study.trials
    assert "exists" in trial.user_attrs["error"] or "directory" in trial.user_attrs["error"]
    monkeypatch.setattr(RankBasedMetricResults, "get_metric", lambda *_: float("nan"))
    (trial,) = study(**common).study.trials
    assert (trial.state.name, "not a number" in trial.user_attrs["error"]) == ("FAIL", True)
    assert list((tmp_path / "c").iterdir()) == []


def test_what_is_refused_leaves_no_study(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    for refused in (dict(negative_sampler=Broken), dict(sampler="tpee"), dict(pruner_kwargs=dict(nothing=1))):
        with pytest.raises(ConfigurationError):
            study(**{"negative_sampler": "shared", **refused}, storage=storage, study_name="a")
    assert optuna.get_all_study_names(storage) == []


FLOAT = dict(type=float, low=0.1, high=0.5)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(negative_sampler="kbgam"), "kbgam"),
        (dict(negative_sampler_kwargs_ranges=dict(temprature=FLOAT)), "temprature.*temperature"),
        (dict(negative_sampler_kwargs_ranges=dict(generator_kwargs=dict(embeding_dim=FLOAT))), "embedding_dim"),
        (dict(negative_sampler_kwargs_ranges=dict(generator_kwargs=FLOAT)), "keywords of its own"),
        (dict(training_loop_kwargs_ranges=dict(pretraining=FLOAT)), "pretraining_epochs"),
        (dict(training_kwargs_ranges=dict(batchsize=FLOAT)), "batch_size"),
        (dict(model_kwargs_ranges=dict(embeddingdim=FLOAT)), "embedding_dim"),
        (dict(model_kwargs_ranges=dict(embedding_dim=FLOAT)), "fixed"),
        (dict(negative_sampler_kwargs_ranges=dict(temperature=dict(type=float, low=2, high=1))), "empty"),
        (dict(negative_sampler_kwargs_ranges=dict(temperature=dict(type="categorical", choices=[]))), "choices"),
        (dict(negative_sampler_kwargs_ranges=dict(temperature=dict(type=float, low=0, high=1, log=True))), "positive"),
        (dict(negative_sampler_kwargs_ranges=dict(temperature=dict(type="flaot", low=0, high=1))), "type"),
        (dict(negative_sampler_kwargs_ranges=dict(temperature=dict(type=float, lo=0, high=1))), "low"),
        (dict(lr_scheduler_kwargs_ranges=dict(gamma=FLOAT)), "no lr_scheduler"),
        (dict(negative_sampler="basic", negative_sampler_kwargs=dict(num_negs_per_pos=1)), "nothing to search"),
        (dict(stopper="early", stopper_kwargs=dict(metric="hits_at_10")), "pruned"),
        (dict(stopper="early", training_kwargs_ranges=dict(num_epochs=FLOAT)), "early stopping"),
        (dict(metric="hits"), "metric"),
        (dict(direction="up"), "direction"),
        (dict(sampler="tpee"), "sampler.*tpe"),
        (dict(pruner="mediam"), "pruner.*median"),
        (dict(sampler_kwargs=dict(sed=1)), "sampler_kwargs.*sed"),
        (dict(training_kwargs=dict(checkpoint_name="x")), "checkpoint_name"),
        (dict(training_loop="lcwa"), "draws no negatives"),
        (dict(training_loop_kwargs=dict(negative_sampler="basic")), "give it as negative_sampler"),
        (dict(negative_sampler=Broken, negative_sampler_kwargs=None), "Broken.*is broken"),
        (dict(negative_sampler_kwargs=dict(generator="distmul")), "distmult"),
        (dict(storage="postgresql+psycopg2://nobody:secret@127.0.0.1:1/x"), r"cannot be reached"),
        (dict(storage="nosuchdb://x/y"), "cannot be reached"),
        (dict(storage="grpc://localhost"), "no port"),
    ],
)
def test_errors_before_anything_runs(kwargs: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optuna.Study, "optimize", lambda *_, **__: pytest.fail("it has begun"))
    with pytest.raises(ConfigurationError, match=message) as caught:
        study(**{"negative_sampler": "kbgan", **kwargs})
    assert "secret" not in str(caught.value)


def test_all_trials_fail() -> None:
    with pytest.raises(ConfigurationError, match=f"first {FAILURES} trials.*never works"):
        study(negative_sampler=Failing, n_trials=20)


def test_study_of_another_configuration(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    same = dict(negative_sampler="shared", storage=storage, study_name="a", n_trials=1)
    study(**same)
    with pytest.raises(ConfigurationError, match="exists"):
        study(**same)
    assert len(study(**same, load_if_exists=True).study.trials) == 2
    ranges = dict(chunk_size=dict(type=int, low=8, high=16))
    with pytest.raises(ConfigurationError, match=r"chunk_size.*low is 32 there and 8 here"):
        study(**same, load_if_exists=True, negative_sampler_kwargs_ranges=ranges)
    optuna.create_study(study_name="b", storage=storage).add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(ConfigurationError, match="not made by this package"):
        study(**{**same, "study_name": "b"}, load_if_exists=True)


def test_user_objects_are_not_exported(tmp_path: Path) -> None:
    class Own(SLCWATrainingLoop):
        """A loop of the user."""

    result = study(training_loop=Own, negative_sampler="basic", n_trials=1)
    assert "negative_sampler.num_negs_per_pos" in result.study.best_params, "tuned for any loop"
    with pytest.raises(ConfigurationError, match="training_loop"):
        result.export(tmp_path / "x.json")
