"""The adapter for LibKGE, without LibKGE: against stand-ins for what it uses; test_libkge_jobs.py has the real one."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import libkge_standins as standins
import pytest
import torch
import yaml
from pykeen.datasets import get_dataset
from typer.testing import CliRunner

import pykeen_advneg_libkge
from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.multimodal import MultimodalFeatures
from pykeen_advneg.negatives import Negatives
from pykeen_advneg.sampling.base import Scores
from pykeen_advneg.scoring import Scorer
from pykeen_advneg_libkge.__main__ import app, read_ranges
from pykeen_advneg_libkge.checks import check_scores
from pykeen_advneg_libkge.convert import convert
from pykeen_advneg_libkge.installed import check_libkge
from pykeen_advneg_libkge.losses import EXCLUDED, HostLoss
from pykeen_advneg_libkge.reciprocal import ReciprocalScorer, directed
from pykeen_advneg_libkge.settings import KEY, Settings
from pykeen_advneg_libkge.tuning import default_ranges
from pykeen_advneg_libkge.view import make_view

ENTITIES, RELATIONS = 14, 5

MODELS = [("transe", 1.0), ("transe", 2.0), ("transe", 3.0), ("distmult", 2.0), ("complex", 2.0), ("rotate", 1.0)]
MODELS += [("rotate", 2.0), ("other", 2.0)]

EXAMPLES = Path(__file__).parents[1] / "examples"

YAML = Path(pykeen_advneg_libkge.__file__).parent / f"{KEY}.yaml"


def triples(n: int = 60, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    columns = [torch.randint(high, (n,), generator=generator) for high in (ENTITIES, RELATIONS, ENTITIES)]
    return torch.stack(columns, dim=-1)


def negatives(positives: torch.Tensor, k: int = 6, one_sided: bool = True) -> Negatives:
    b = len(positives)
    column = 2 * torch.randint(2, (b, 1 if one_sided else k))
    return Negatives(positives, torch.randint(ENTITIES, (b, k)), column)


# the view


@pytest.mark.parametrize(("name", "norm"), MODELS)
def test_scores_of_the_view(name: str, norm: float) -> None:
    """Scores and gradients of negatives are those of the model, asked triple by triple."""
    torch.manual_seed(0)
    model = standins.Model(name, ENTITIES, RELATIONS, norm=norm)
    before = copy.deepcopy(model.state_dict())
    scorer = Scorer(make_view(model, ENTITIES, RELATIONS))
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), "to look at a model does not initialise it"
    drawn = negatives(triples(), one_sided=False)
    positives, scores = scorer.both(drawn)
    s, p, o = drawn.triples.view(-1, 3).unbind(-1)
    expected = model.score_spo(s, p, o, direction="o").view(scores.shape)
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(positives.flatten(), model.score_spo(*drawn.positives.unbind(-1)), atol=1e-4, rtol=1e-4)
    parameters = list(model.parameters())
    weights = torch.randn_like(scores)
    found, wanted = (torch.autograd.grad((x * weights).sum(), parameters) for x in (scores, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_known_scorers_have_forms() -> None:
    forms = {
        (name, norm): Scorer(make_view(standins.Model(name, ENTITIES, RELATIONS, norm=norm), ENTITIES, RELATIONS)).form
        for name, norm in MODELS
    }
    products = {(name, norm): "product" for name, norm in MODELS if name in {"distmult", "complex"}}
    distances = dict.fromkeys([("transe", 1.0), ("transe", 2.0), ("rotate", 2.0)], "distance")
    others = dict.fromkeys([("transe", 3.0), ("rotate", 1.0), ("other", 2.0)], "broadcast")
    assert forms == {**products, **distances, **others}


def test_dropout_falls_in_training_only() -> None:
    model = standins.Model("distmult", ENTITIES, RELATIONS, dropout=0.5)
    scorer = Scorer(make_view(model, ENTITIES, RELATIONS))
    assert not torch.equal(scorer.positives(triples()), scorer.positives(triples()))
    model.eval()
    assert torch.equal(scorer.positives(triples()), scorer.positives(triples()))


class Doubled(torch.nn.Module):
    """The scorer of a model, whose scores are a little larger."""

    def __init__(self, scorer: Any) -> None:
        super().__init__()
        self.scorer = scorer

    def score_emb(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self.scorer.score_emb(*args, **kwargs) * 1.01


@pytest.mark.parametrize("kind", [standins.Model, standins.Reciprocal])
@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1.0, 100.0])
def test_scores_of_any_size_are_compared(kind: Any, scale: float) -> None:
    """One part in a hundred is seen, whether scores are as small as those of new embeddings, or large."""
    torch.manual_seed(0)
    model = kind("distmult", ENTITIES, RELATIONS)
    for parameter in model.parameters():
        parameter.data *= scale
    count = RELATIONS * (1 + (kind is standins.Reciprocal))
    view = make_view(model, ENTITIES, count)
    check_scores(model, view, triples(), RELATIONS)
    model._the_scorer = Doubled(model._the_scorer)
    with pytest.raises(ConfigurationError, match="does not score"):
        check_scores(model, view, triples(), RELATIONS)
    assert model.training


def test_both_directions_are_compared() -> None:
    model = standins.Reciprocal("other", ENTITIES, RELATIONS)
    view = make_view(model, ENTITIES, 2 * RELATIONS)
    check_scores(model, view, triples(), RELATIONS)
    # the inverse relations of the model are not those of the view
    model.num = 0
    with pytest.raises(ConfigurationError, match="does not score"):
        check_scores(model, view, triples(), RELATIONS)


def test_models_which_compute_otherwise_are_refused() -> None:
    class Odd(standins.Model):
        def score_spo(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            return super().score_spo(*args, **kwargs)

        def get_o_embedder(self) -> torch.nn.Module:
            return self._objects

    odd = Odd("distmult", ENTITIES, RELATIONS)
    odd._objects = odd._entities
    view = make_view(odd, ENTITIES, RELATIONS)
    with pytest.raises(ConfigurationError, match=r"Odd scores triples in a way of its own.*reciprocal"):
        check_scores(odd, view, triples(), RELATIONS)
    odd._objects = standins.Embedder(ENTITIES, 8)
    with pytest.raises(ConfigurationError, match="different embedders"):
        make_view(odd, ENTITIES, RELATIONS)


# reciprocal relations


def test_reciprocal_scores() -> None:
    model = standins.Reciprocal("distmult", ENTITIES, RELATIONS)
    scorer = ReciprocalScorer(make_view(model, ENTITIES, 2 * RELATIONS), RELATIONS)
    drawn = negatives(triples())
    positives, scores = scorer.both(drawn)
    torch.testing.assert_close(scorer.negatives(drawn), scores)
    for i, (side, positive) in enumerate(zip(drawn.column.flatten().tolist(), drawn.positives, strict=True)):
        direction = "s" if side == 0 else "o"
        expected = model.score_spo(*positive.view(1, 3).unbind(-1), direction=direction)
        torch.testing.assert_close(positives[i], expected)
        torch.testing.assert_close(scores[i], model.score_spo(*drawn.triples[i].unbind(-1), direction=direction))
    heads = scorer.candidates(drawn.positives, 0)
    h = torch.full((len(drawn),), 3)
    torch.testing.assert_close(heads[:, 3], model.score_spo(h, *drawn.positives[:, 1:].unbind(-1), direction="s"))
    for ask in (lambda: scorer.with_slots(drawn), lambda: scorer.replaced([], 0, torch.zeros(1, 1, 8))):
        with pytest.raises(ConfigurationError, match="scores representations"):
            ask()


def test_reciprocal_refuses_both_sides() -> None:
    with pytest.raises(ConfigurationError, match="both sides"):
        directed(negatives(triples(), one_sided=False), RELATIONS)
    drawn = negatives(triples())
    relations = Negatives(drawn.positives, drawn.ids % RELATIONS, torch.ones_like(drawn.column))
    with pytest.raises(ConfigurationError, match="corrupts relations"):
        directed(relations, RELATIONS)


# losses


@pytest.mark.parametrize("name", sorted(standins.LOSSES))
def test_losses(name: str) -> None:
    """Masked negatives add nothing, neither to the loss nor to its gradient: rows are computed without them."""
    torch.manual_seed(1)
    drawn = negatives(triples(8))
    mask = torch.rand(8, 6) > 0.4
    mask[0] = False
    leaves = torch.randn(8, 1, requires_grad=True), torch.randn(8, 8, requires_grad=True)
    drawn = Negatives(drawn.positives, drawn.ids, drawn.column, mask)
    # two more scores than ids: those of generated negatives always count
    loss = HostLoss(standins.LOSSES[name], name)(Scores(*leaves), drawn)
    keep = torch.cat([mask, torch.ones(8, 2, dtype=torch.bool)], dim=1)
    expected = torch.zeros(())
    for i in range(8):
        row = torch.cat([leaves[0][i], leaves[1][i][keep[i]]]).unsqueeze(0)
        labels = torch.zeros(1, dtype=torch.long)
        if name != "kl":
            labels = torch.zeros_like(row)
            labels[0, 0] = 1
        expected = expected + standins.LOSSES[name](row, labels, num_negatives=row.shape[1] - 1) / 8
    torch.testing.assert_close(loss, expected)
    for one, other in zip(*(torch.autograd.grad(x, leaves) for x in (loss, expected)), strict=True):
        torch.testing.assert_close(one, other)


def test_losses_which_cannot_leave_out() -> None:
    drawn = negatives(triples(4))
    scores = Scores(torch.zeros(4, 1), torch.zeros(4, 6))
    masked = Negatives(drawn.positives, drawn.ids, drawn.column, torch.ones(4, 6, dtype=torch.bool))
    assert "bce_mean" not in EXCLUDED
    with pytest.raises(ConfigurationError, match=r"train.loss='bce_mean'.*do not count"):
        HostLoss(standins.bce, "bce_mean")(scores, masked)
    corrected = Negatives(drawn.positives, drawn.ids, drawn.column, log_q=torch.ones(4, 6))
    with pytest.raises(ConfigurationError, match="log_q_correction"):
        HostLoss(standins.bce, "bce")(scores, corrected)
    torch.testing.assert_close(HostLoss(standins.kl, "kl")(scores, corrected), (1 + 6 * torch.tensor(-1.0).exp()).log())


# options


def options(**given: Any) -> dict[str, Any]:
    """The defaults of the YAML, as `Config.get` gives them, with changes."""
    defaults = yaml.safe_load(YAML.read_text(encoding="utf-8"))[KEY]
    found: dict[str, Any] = {"train.loss": "kl", "train.batch_size": 16, "train.subbatch_size": -1}
    found["train.num_workers"] = 0
    for key in ("sampler", "num_samples", "filtered"):
        found[f"{KEY}.{key}"] = defaults[key]
    found[f"{KEY}.sampler_args"] = {}
    for key in ("epochs", "sampler", "num_samples", "filtered"):
        found[f"{KEY}.pretraining.{key}"] = defaults["pretraining"][key]
    found[f"{KEY}.pretraining.sampler_args"] = {}
    assert defaults["sampler_args"] == defaults["pretraining"]["sampler_args"] == {"+++": "+++"}
    names = {name for name in found if name.startswith(KEY)}
    assert len(names) == len(defaults) - 2 + len(defaults["pretraining"]), "an option of the YAML is not read"
    for key, value in given.items():
        name = key.replace("__", ".")
        found[name if name.startswith("train.") else f"{KEY}.{name}"] = value
    return found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sampler": "kbgam"}, "sampler='kbgam' is no sampler"),
        ({"sampler_args": {"generatr": "complex"}}, "unknown keywords"),
        ({"sampler_args": {"num_negs_per_pos": 3}}, "num_samples"),
        ({"sampler_args": {"generatr": "complex"}}, "sampler_args has"),
        ({"num_samples": 0}, "num_samples=0"),
        ({"num_samples": -2}, "num_samples=-2"),
        ({"pretraining__num_samples": 0}, r"pretraining\.num_samples=0"),
        ({"pretraining__sampler_args": {"filtered": True}}, "filtered beside it"),
        ({"filtered": "yes"}, "filtered='yes'"),
        ({"pretraining__epochs": 1, "pretraining__sampler": "kbgan"}, "needs the model"),
    ],
)
def test_options_which_cannot_work(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Settings.of(options(**given).__getitem__)


def test_options_which_are_not_given_are_the_samplers() -> None:
    """The number of negatives is passed on if it is given, for each of the two samplers by itself."""
    settings = Settings.of(options(sampler="kbgan").__getitem__)
    assert settings.sampler.kwargs == settings.pretraining_sampler.kwargs == {"filtered": False}
    given = options(num_samples=7, filtered=True, pretraining__num_samples=3)
    settings = Settings.of(given.__getitem__)
    assert settings.sampler.kwargs == {"num_negs_per_pos": 7, "filtered": True}
    assert settings.pretraining_sampler.kwargs == {"num_negs_per_pos": 3, "filtered": False}


def test_flags_from_the_command_line() -> None:
    """LibKGE hands on what it does not know as text."""
    args = {"base_kwargs": {"corruption_scheme": ["head", "False"]}, "independent_passes": "False", "tied": "true"}
    found = Settings.of(options(sampler="emu", sampler_args=args).__getitem__).sampler.kwargs
    assert found["base_kwargs"] == {"corruption_scheme": ["head", False]}
    assert found["independent_passes"] is False
    assert found["tied"] is True


def test_ranges_which_samplers_suggest() -> None:
    """Those of a sampler and of its components, by the names of options, without what is given."""
    args = {"mutation_rate": 0.3, "base": "kbgan", "base_kwargs": {"num_candidates": 7}}
    given = options(sampler="emu", num_samples=4, sampler_args=args)
    found = default_ranges(Settings.of(given.__getitem__).sampler, given.__getitem__)
    names = {name.removeprefix(f"{KEY}.") for name in found}
    assert {"sampler_args.negative_label", "sampler_args.base_kwargs.generator_kwargs.embedding_dim"} <= names
    assert not {"num_samples", "sampler_args.mutation_rate", "sampler_args.base_kwargs.num_candidates"} & names
    given = options(sampler="emu")
    assert f"{KEY}.num_samples" in default_ranges(Settings.of(given.__getitem__).sampler, given.__getitem__)


def test_files_of_ranges(tmp_path: Path) -> None:
    assert read_ranges(EXAMPLES / "ranges.yaml")["train.optimizer.default.args.lr"]["log"] is True
    (tmp_path / "list.yaml").write_text("[1, 2]")
    for name, message in (("list.yaml", "no mapping"), ("nothing.yaml", "cannot be read")):
        with pytest.raises(ConfigurationError, match=message):
            read_ranges(tmp_path / name)


def test_options_without_effect(jobs: Any) -> None:
    given = {"train.pin_memory": True, "negative_sampling": {"shared": False, "num_samples": {"s": 5}}}
    job = make_job(jobs)
    job._prepare()
    assert not any("no effect" in message for message in job.config.messages)
    job = make_job(jobs)
    job.config.options.update(given)
    job._prepare()
    assert job.config.messages[0].startswith("train.pin_memory, negative_sampling.num_samples.s: no effect")


def test_the_class_of_the_options() -> None:
    name = yaml.safe_load(YAML.read_text(encoding="utf-8"))[KEY]["class_name"]
    assert name in pykeen_advneg_libkge.__all__
    with pytest.raises(AttributeError):
        pykeen_advneg_libkge.Nothing  # noqa: B018


# the job


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with standins.installed(monkeypatch) as module:
        yield module


def make_job(jobs: Any, model: str = "distmult", seed: int = 0, kind: Any = standins.Model, **given: Any) -> Any:
    torch.manual_seed(seed)
    instance = kind(model, ENTITIES, RELATIONS)
    dataset = standins.Dataset(triples(), ENTITIES, RELATIONS)
    return jobs.TrainingJobAdvnegNegativeSampling(standins.Config(options(**given)), dataset, model=instance)


KBGAN = dict(sampler="kbgan", train__loss="margin_ranking", sampler_args=dict(num_candidates=5))
EMU = dict(sampler="emu", num_samples=4)


def states(job: Any) -> list[torch.Tensor]:
    sampler = [value for value in job.sampler.state_dict().values() if isinstance(value, torch.Tensor)]
    return [*job.model.state_dict().values(), *sampler]


def same(one: Any, other: Any) -> bool:
    pairs = list(zip(states(one), states(other), strict=True))
    return all(torch.allclose(a.float(), b.float(), atol=1e-5) for a, b in pairs)


@pytest.mark.parametrize(
    "given",
    [
        dict(sampler="shared", num_samples=4, sampler_args=dict(chunk_size=4)),
        dict(sampler="shared", num_samples=4, filtered=True, train__loss="bce"),
        dict(sampler="basic", num_samples=4),
        dict(sampler="bernoulli", num_samples=1, train__loss="se"),
        KBGAN,
        EMU,
        dict(sampler="emu", sampler_args=dict(base="kbgan", base_kwargs=dict(num_candidates=5))),
        dict(sampler="emu", sampler_args=dict(objective="host"), train__loss="bce"),
        dict(sampler="dans", num_samples=2),
    ],
    ids=lambda given: "-".join(map(str, [given["sampler"], *given.get("sampler_args", {})])),
)
@pytest.mark.parametrize("model", ["transe", "complex"])
def test_training(jobs: Any, given: dict[str, Any], model: str) -> None:
    """Model and networks are trained, and stay finite; what a sampler says is in the trace."""
    job = make_job(jobs, model, **given)
    before = copy.deepcopy(job.model.state_dict())
    networks = copy.deepcopy(list(job.sampler.parameters()))
    entries = job.train(3)
    assert all(not torch.equal(value, before[key]) for key, value in job.model.state_dict().items())
    assert all(torch.isfinite(x).all() for x in states(job))
    assert [entry["batches"] for entry in entries] == [4, 4, 4]
    for one, other in zip(networks, job.sampler.parameters(), strict=True):
        assert not torch.equal(one, other)
    if given is KBGAN:
        assert {"sampler_reward", "sampler_entropy"} <= set(entries[-1])
        assert entries[1]["sampler_baseline"] == pytest.approx(entries[0]["sampler_reward"])


def test_loss_of_a_batch(jobs: Any) -> None:
    """The loss of an epoch and the update, by hand: a softmax over each positive and its negatives."""
    job = make_job(jobs, "distmult", sampler="basic", num_samples=3, train__batch_size=60)
    twin = copy.deepcopy(job.model)
    drawn: list[Any] = []
    draw = job.binding.draw
    job.binding.draw = lambda positives: drawn.append(draw(positives)) or drawn[-1]
    (entry,) = job.train(1)
    every = torch.cat([drawn[0].negatives.positives.unsqueeze(1), drawn[0].negatives.triples], dim=1)
    loss = -twin.score_spo(*every.view(-1, 3).unbind(-1)).view(60, 4).log_softmax(dim=1)[:, 0].mean()
    assert entry["avg_loss"] == pytest.approx(loss.item(), rel=1e-5)
    optimizer = standins.KgeOptimizer.create(job.config, twin)
    loss.backward()
    optimizer.step()
    for one, other in zip(twin.parameters(), job.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


#: without masks, which are drawn for what is scored at once
LABELS = dict(sampler="emu", num_samples=4, sampler_args=dict(variant="labels_only"))


@pytest.mark.parametrize("given", [KBGAN, LABELS, dict(num_samples=4, sampler_args=dict(chunk_size=4))])
def test_sub_batches(jobs: Any, given: dict[str, Any]) -> None:
    entries, trained = [], []
    for size in (-1, 5):
        trained.append(make_job(jobs, train__subbatch_size=size, **given))
        entries.append(trained[-1].train(2)[1])
    assert entries[0]["avg_loss"] == pytest.approx(entries[1]["avg_loss"], rel=1e-4)
    assert same(*trained)


def test_reciprocal_training(jobs: Any) -> None:
    job = make_job(jobs, kind=standins.Reciprocal, **KBGAN)
    before = job.model.get_p_embedder().embed_all().detach().clone()
    job.train(2)
    assert (job.model.get_p_embedder().embed_all() != before).all(), "both directions are trained"
    with pytest.raises(ConfigurationError, match="generates representations"):
        make_job(jobs, kind=standins.Reciprocal, sampler="dans").train(1)


@pytest.mark.parametrize("given", [KBGAN, EMU, dict(sampler="basic", num_samples=2)])
def test_resumed_is_unbroken(jobs: Any, given: dict[str, Any], tmp_path: Path) -> None:
    unbroken = make_job(jobs, **given)
    unbroken.train(4)
    killed = make_job(jobs, **given)
    killed.train(2)
    killed.save(str(tmp_path / "checkpoint_00002.pt"))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_00002.pt"]
    resumed = make_job(jobs, seed=7, **given)
    # a file of our own making, which LibKGE pickles
    resumed._load(torch.load(tmp_path / "checkpoint_00002.pt", weights_only=False))
    resumed.train(4)
    assert all(torch.equal(a, b) for a, b in zip(states(unbroken), states(resumed), strict=True))


def test_resuming_with_another_sampler(jobs: Any) -> None:
    saved = make_job(jobs, **KBGAN).save_to({})
    with pytest.raises(ConfigurationError, match=r"'kbgan'.*'emu'"):
        make_job(jobs, **EMU)._load(saved)
    other = {**KBGAN, "sampler_args": dict(num_candidates=6)}
    with pytest.raises(ConfigurationError, match="num_candidates"):
        make_job(jobs, **other)._load(saved)
    del saved["advneg"]
    job = make_job(jobs, **KBGAN)
    job._load(saved)
    assert "starts anew" in job.config.messages[-1]


@pytest.mark.parametrize("size", [-1, 5])
def test_forward_only(jobs: Any, size: int) -> None:
    """It computes the loss by the sampler in training, and changes nothing."""
    job = make_job(jobs, **KBGAN)
    job.train(1)
    before = copy.deepcopy(states(job))
    config = standins.Config(options(train__subbatch_size=size, **KBGAN))

    class Evaluation:
        parent_job = job

    other = jobs.TrainingJobAdvnegNegativeSampling(config, job.dataset, Evaluation(), job.model, forward_only=True)
    other._prepare()
    assert other.sampler is job.sampler
    with torch.no_grad():
        entry = other.run_epoch()
    assert entry["avg_loss"] > 0
    assert all(torch.equal(a, b) for a, b in zip(before, states(job), strict=True))
    job.epoch += 1
    job.run_epoch()
    alone = jobs.TrainingJobAdvnegNegativeSampling(config, job.dataset, None, job.model, forward_only=True)
    with pytest.raises(ConfigurationError, match=r"training_loss needs the trained sampler 'kbgan'"):
        alone._prepare()
    config = standins.Config(options(sampler="emu", train__loss="bce"))
    alone = jobs.TrainingJobAdvnegNegativeSampling(config, job.dataset, None, job.model, forward_only=True)
    alone._prepare()
    assert alone.run_epoch()["avg_loss"] > 0


def test_forward_only_has_the_mode_of_the_model(jobs: Any) -> None:
    """Validation by the training loss draws in evaluation mode, after which the sampler trains on."""
    job = make_job(jobs, **KBGAN)
    job.train(1)

    class Evaluation:
        parent_job = job

    other = jobs.TrainingJobAdvnegNegativeSampling(job.config, job.dataset, Evaluation(), job.model, forward_only=True)
    other._prepare()
    modes: list[bool] = []
    propose = job.sampler.propose
    job.sampler.propose = lambda positives: modes.append(job.sampler.training) or propose(positives)
    job.model.eval()
    with torch.no_grad():
        other.run_epoch()
    assert modes == [False] * 4
    assert job.sampler.training
    assert job.binding.view.training


def test_pretraining(jobs: Any) -> None:
    """First the generator is warmed up beside other negatives, then both optimizers start anew, as does Adagrad."""
    given = {**KBGAN, "pretraining__epochs": 1, "pretraining__num_samples": 3}
    job = make_job(jobs, **given)
    first, second = job.train(2)
    assert "sampler_reward" not in first
    assert "sampler_reward" in second
    # 4 batches in the second epoch
    assert {int(state["step"]) for state in job.optimizer.state.values()} == {4}
    assert {int(state["step"]) for state in job.sampler.optimizer.state.values()} == {4}


def test_validations_in_pretraining_do_not_count(jobs: Any, tmp_path: Path) -> None:
    """LibKGE looks for the best validation, and for patience, after it has saved the checkpoint of an epoch."""
    job = make_job(jobs, **KBGAN, pretraining__epochs=2)
    job.train(1)
    for epoch in (1, 2, 3):
        job.valid_trace.append({"epoch": epoch, "mean_reciprocal_rank": 1 / epoch})
        job.save(str(tmp_path / "checkpoint.pt"))
    assert [entry["epoch"] for entry in job.valid_trace] == [3]
    job.config.options["train.max_epochs"] = 2
    job._prepare()
    assert any("is not used, and no validation counts" in message for message in job.config.messages)


def test_learning_rates_follow(jobs: Any) -> None:
    job = make_job(jobs, **KBGAN)
    own = job.sampler.optimizer.param_groups[0]["lr"]
    job.optimizer.param_groups[0]["lr"] /= 4
    job.train(1)
    assert job.sampler.optimizer.param_groups[0]["lr"] == pytest.approx(own / 4)


def test_a_batch_is_drawn_once(jobs: Any) -> None:
    """LibKGE tries a batch again with smaller sub-batches where memory is short."""
    job = make_job(jobs, **KBGAN)
    job._prepare()
    job._bound.begin_epoch(1, 1.0)
    batch = next(iter(job.loader))
    for _ in range(2):
        job._prepare_batch(0, batch, standins.TrainingJob._ProcessBatchResult())
        drawn = batch.setdefault("first", batch["draw"])
        assert drawn is batch["draw"]


MMRNS = dict(sampler="mmrns", num_samples=2, sampler_args=dict(pool_size=10))


def test_gradients_of_a_broken_batch_are_forgotten(jobs: Any) -> None:
    """A batch which is tried again, since memory was short, is worth as much as one which is not."""
    trained = []
    for breaks in (False, True):
        job = make_job(jobs, **MMRNS)
        job._prepare()
        job._bound.begin_epoch(1, 1.0)
        torch.manual_seed(0)
        batch = next(iter(job.loader))
        if breaks:
            process = job._process_subbatch
            job._process_subbatch = lambda *args, process=process: process(*args) or 1 / 0
            with pytest.raises(ZeroDivisionError):
                job._process_batch(0, batch)
            job._process_subbatch = process
            assert any(p.grad is not None for p in job.sampler.network.parameters())
            job.optimizer.zero_grad()
        job._process_batch(0, batch)
        trained.append(job)
    moments = [[s["exp_avg"] for s in job.sampler.optimizers()[0].state.values()] for job in trained]
    for one, other in zip(*moments, strict=True):
        torch.testing.assert_close(one, other)


def test_a_broken_lesson_begins_anew(jobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(jobs, **KBGAN)
    job._prepare()
    job._bound.begin_epoch(1, 1.0)
    batch = next(iter(job.loader))
    step = job.sampler.step
    monkeypatch.setattr(job.sampler, "step", lambda *_: (_ for _ in ()).throw(RuntimeError("CUDA out of memory")))
    with pytest.raises(RuntimeError, match="out of memory"):
        job._process_batch(0, batch)
    monkeypatch.setattr(job.sampler, "step", step)
    assert job._process_batch(0, batch).size == 16


def test_the_end_of_training(jobs: Any, caplog: pytest.LogCaptureFixture) -> None:
    given = dict(MMRNS, sampler_args=dict(pool_size=10, exploration_schedule="geometric", exploration_steps=10_000))
    make_job(jobs, **given).train(1)
    assert "exploration hardly fell" in caplog.text.replace(" \n", " ")


def test_labels(jobs: Any, tmp_path: Path) -> None:
    """Features which have labels are brought into the order of LibKGE's numbers."""
    order = torch.randperm(ENTITIES)
    text = order.float().view(-1, 1, 1).repeat(1, 1, 3)
    features = MultimodalFeatures(text=text, labels=[f"entity {number}" for number in order.tolist()])
    features.save(tmp_path / "features.safetensors")
    args = dict(pool_size=10, features=str(tmp_path / "features.safetensors"))
    job = make_job(jobs, **dict(MMRNS, sampler_args=args))
    assert job.sampler.features.text[:, 0, 0].tolist() == list(range(ENTITIES))
    job.train(1)


IMPOSSIBLE: list[tuple[Any, dict[str, Any], str]] = [
    (standins.Model, dict(num_samples=2, filtered=True, train__loss="bce_mean"), "do not count"),
    (standins.Model, dict(num_samples=2, sampler_args=dict(log_q_correction=True), train__loss="bce"), "log_q"),
    (standins.Reciprocal, dict(sampler="dans"), "generates representations"),
    (standins.Reciprocal, MMRNS, "PooledNegatives, which hold more"),
    (standins.Reciprocal, dict(sampler="basic", num_samples=2), "both sides"),
    (standins.Reciprocal, dict(KBGAN, pretraining__epochs=1, pretraining__sampler="basic", pretraining__num_samples=2),
     "both sides"),
    (standins.Model, dict(sampler="dans", sampler_args=dict(detach_fakes=False), train__subbatch_size=4),
     "detach_fakes"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "message"), IMPOSSIBLE)
def test_what_cannot_work_is_said_before_training(jobs: Any, kind: Any, given: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_job(jobs, kind=kind, **given)


def test_trying_out_changes_nothing(jobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    after = []
    for is_tried in (True, False):
        if not is_tried:
            monkeypatch.setattr("pykeen_advneg_libkge.binding.Binding._try_out", lambda *_: None)
        job = make_job(jobs, **EMU)
        after.append((torch.rand(1), states(job)))
        assert job.model.training
        assert job.sampler.training
    assert torch.equal(after[0][0], after[1][0])
    assert all(torch.equal(a, b) for a, b in zip(after[0][1], after[1][1], strict=True))


def test_one_look_at_the_table(jobs: Any) -> None:
    """All entities of a batch are looked up at once, unless there is dropout."""
    calls = []
    for dropout in (0.0, 0.5):
        job = make_job(jobs, "complex", kind=partial(standins.Model, dropout=dropout), num_samples=4)
        before = job.model.get_s_embedder().calls
        job.train(1)
        calls.append((job.model.get_s_embedder().calls - before) / 4)
    assert calls[0] == 1
    assert calls[1] > 1


@pytest.mark.parametrize(("name", "norm"), [("other", 2.0), ("rotate", 1.0)])
def test_shared_candidates_of_any_scorer(name: str, norm: float) -> None:
    """What a chunk shares is scored by the scorer's own product of queries and candidates, with the same gradient."""
    torch.manual_seed(0)
    model = standins.Model(name, ENTITIES, RELATIONS, norm=norm)
    scorer, kge = Scorer(make_view(model, ENTITIES, RELATIONS)), model.get_scorer()
    positives = triples(12)
    drawn = Negatives(positives, torch.randint(ENTITIES, (3, 5)), 2 * torch.randint(2, (12, 1)), chunk_size=4)
    expected = model.score_spo(*drawn.triples.view(-1, 3).unbind(-1)).view(drawn.shape)
    kge.calls.clear()
    scores = scorer.negatives(drawn)
    assert set(kge.calls) <= {"sp_", "_po"}
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)
    weights = torch.randn_like(scores)
    found, wanted = (torch.autograd.grad((x * weights).sum(), list(model.parameters())) for x in (scores, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


# which kge


def test_wrong_kge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "kge"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "kge").mkdir()
    (tmp_path / "kge" / "__init__.py").write_text("ENGINE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"is not LibKGE.*uma-pi1/kge"):
        check_libkge()
    result = CliRunner().invoke(app, ["check"])
    assert isinstance(result.exception, ConfigurationError)


def test_a_checkout_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder of a checkout, Python finds the checkout instead of the package in it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "kge"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "kge" / "kge").mkdir(parents=True)
    (tmp_path / "kge" / "kge" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(ConfigurationError, match="run the command in another folder"):
        check_libkge()


def test_what_libkge_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "kge"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "kge" / "job").mkdir(parents=True)
    (tmp_path / "kge" / "__init__.py").write_text("class Config: pass\nclass Dataset: pass\n")
    (tmp_path / "kge" / "job" / "__init__.py").write_text("from collections import Models\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"ax-platform==0\.4\.3.*sqlalchemy<2"):
        check_libkge()
    monkeypatch.setitem(sys.modules, "kge", None)
    with pytest.raises(ConfigurationError):
        check_libkge()


# data


def test_convert(tmp_path: Path) -> None:
    """What is written is what PyKEEN has, with the same numbers."""
    result = CliRunner().invoke(app, ["convert", "nations", "--into", str(tmp_path), "--vocabulary", "training"])
    assert result.exit_code == 0, result.output
    folder = tmp_path / "nations"
    assert "dataset.name: nations" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["nations"]
    described = yaml.safe_load((folder / "dataset.yaml").read_text())["dataset"]
    dataset = get_dataset(dataset="nations")
    for name, split in {"training": "train", "validation": "valid", "testing": "test"}.items():
        lines = (folder / described[f"files.{split}.filename"]).read_text().splitlines()
        assert [list(map(int, line.split("\t"))) for line in lines] == dataset.factory_dict[
            name
        ].mapped_triples.tolist()
        assert described[f"files.{split}.size"] == len(lines)
    labels = dict(line.split("\t") for line in (folder / "entity_ids.del").read_text().splitlines())
    assert {label: int(number) for number, label in labels.items()} == dataset.entity_to_id
    assert (described["num_entities"], described["num_relations"]) == (dataset.num_entities, dataset.num_relations)
    with pytest.raises(ConfigurationError, match="exists"):
        convert("nations", folder)


def test_convert_a_folder(tmp_path: Path) -> None:
    """Entities which occur in evaluation only are kept; quotes and numbers are labels like others."""
    source = tmp_path / "mine"
    source.mkdir()
    (source / "train.txt").write_text('"a"\tr 1\tb\nb\tr 1\t007\n')
    (source / "valid.txt").write_text('new\tr 1\t"a"\n')
    (source / "test.txt").write_text("b\tr 1\tb\n")
    folder = convert(source, tmp_path / "data" / "mine")
    ids = dict(reversed(line.split("\t")) for line in (folder / "entity_ids.del").read_text().splitlines())
    assert set(ids) == {'"a"', "b", "007", "new"}
    assert (folder / "valid.del").read_text() == f"{ids['new']}\t0\t{ids[chr(34) + 'a' + chr(34)]}\n"
    with pytest.raises(ConfigurationError):
        convert(tmp_path / "nothing", tmp_path / "data" / "nothing")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mine"]
