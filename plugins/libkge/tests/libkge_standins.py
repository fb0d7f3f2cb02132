"""Small stand-ins for what the plugin uses of LibKGE, under its names; what they lack, the plugin must not use."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional


class Embedder(nn.Module):
    def __init__(self, count: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.calls = 0
        self.table = nn.Embedding(count, dim)
        self.dropout = nn.Dropout(dropout)

    def embed(self, indexes: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.dropout(self.table(indexes))

    def embed_all(self) -> torch.Tensor:
        return self.dropout(self.table.weight)


def transe(s: torch.Tensor, p: torch.Tensor, o: torch.Tensor, norm: float) -> torch.Tensor:
    return -(s + p - o + 1e-6).norm(p=norm, dim=-1)


def distmult(s: torch.Tensor, p: torch.Tensor, o: torch.Tensor, norm: float) -> torch.Tensor:
    return (s * p * o).sum(-1)


def complex_(s: torch.Tensor, p: torch.Tensor, o: torch.Tensor, norm: float) -> torch.Tensor:
    (a, b), (c, d), (e, f) = (x.chunk(2, -1) for x in (s, p, o))
    return (a * c * e + b * c * f + a * d * f - b * d * e).sum(-1)


def rotate(s: torch.Tensor, p: torch.Tensor, o: torch.Tensor, norm: float) -> torch.Tensor:
    (a, b), (e, f) = s.chunk(2, -1), o.chunk(2, -1)
    c, d = p.cos(), p.sin()
    parts = torch.stack([a * c - b * d - e, a * d + b * c - f])
    return -parts.norm(dim=0).norm(p=norm, dim=-1)


def projection(s: torch.Tensor, p: torch.Tensor, o: torch.Tensor, norm: float) -> torch.Tensor:
    """Nothing which PyKEEN has."""
    return (torch.tanh(s * p) * o).sum(-1) + p.sum(-1)


class Scorer(nn.Module):
    """Triple by triple."""

    def __init__(self, function: Callable[..., torch.Tensor], norm: float) -> None:
        super().__init__()
        self.function = function
        self.norm = norm
        self.calls: list[str] = []

    def get_option(self, name: str) -> float:
        assert name == "l_norm"
        return self.norm

    def score_emb(self, s_emb: torch.Tensor, p_emb: torch.Tensor, o_emb: torch.Tensor, combine: str) -> torch.Tensor:
        assert combine in {"spo", "sp_", "_po"}
        self.calls.append(combine)
        n, candidates = len(p_emb), {"sp_": len(o_emb), "_po": len(s_emb)}.get(combine, 1)
        if combine == "sp_":
            s_emb, p_emb, o_emb = s_emb.unsqueeze(1), p_emb.unsqueeze(1), o_emb.unsqueeze(0)
        elif combine == "_po":
            s_emb, p_emb, o_emb = s_emb.unsqueeze(0), p_emb.unsqueeze(1), o_emb.unsqueeze(1)
        return self.function(s_emb, p_emb, o_emb, self.norm).view(n, candidates)


def _named(cls: type, module: str, name: str) -> type:
    return type(name, (cls,), {"__module__": module, "__qualname__": name})


SCORERS = {
    "transe": (_named(Scorer, "kge.model.transe", "TransEScorer"), transe),
    "distmult": (_named(Scorer, "kge.model.distmult", "DistMultScorer"), distmult),
    "complex": (_named(Scorer, "kge.model.complex", "ComplExScorer"), complex_),
    "rotate": (_named(Scorer, "kge.model.rotate", "RotatEScorer"), rotate),
    "other": (_named(Scorer, "elsewhere", "ProjectionScorer"), projection),
}


class Model(nn.Module):
    def __init__(
        self, name: str, entities: int, relations: int, dim: int = 8, norm: float = 2.0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self._entities = Embedder(entities, dim, dropout)
        self._relations = Embedder(relations, dim // 2 if name == "rotate" else dim, dropout)
        cls, function = SCORERS[name]
        self._the_scorer = cls(function, norm)

    def get_s_embedder(self) -> nn.Module:
        return self._entities

    def get_p_embedder(self) -> nn.Module:
        return self._relations

    def get_o_embedder(self) -> nn.Module:
        return self._entities

    def get_scorer(self) -> nn.Module:
        return self._the_scorer

    def score_spo(
        self, s: torch.Tensor, p: torch.Tensor, o: torch.Tensor, direction: str | None = None
    ) -> torch.Tensor:
        s, p, o = self._entities.embed(s), self._relations.embed(p), self._entities.embed(o)
        return self._the_scorer.score_emb(s, p, o, combine="spo").view(-1)


Model.__module__ = "kge.model.kge_model"
Model.__qualname__ = "KgeModel"


class Reciprocal(Model):
    """As LibKGE's reciprocal model; the embedder of relations has twice as many."""

    def __init__(self, name: str, entities: int, relations: int, **kwargs: Any) -> None:
        super().__init__(name, entities, 2 * relations, **kwargs)
        self.num = relations

    def score_spo(
        self, s: torch.Tensor, p: torch.Tensor, o: torch.Tensor, direction: str | None = None
    ) -> torch.Tensor:
        assert direction in {"s", "o"}
        return super().score_spo(s, p, o) if direction == "o" else super().score_spo(o, p + self.num, s)


Reciprocal.__module__ = "kge.model.reciprocal_relations_model"
Reciprocal.__qualname__ = "ReciprocalRelationsModel"


def kl(scores: torch.Tensor, labels: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    return functional.cross_entropy(scores, labels, reduction="sum")


def bce(scores: torch.Tensor, labels: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(scores, labels, reduction="sum")


def margin_ranking(scores: torch.Tensor, labels: torch.Tensor, *, num_negatives: int) -> torch.Tensor:
    assert scores.shape[1] == 1 + num_negatives
    assert (labels.argmax(dim=1) == 0).all()
    return (1 + scores[:, 1:] - scores[:, :1]).relu().sum()


def se(scores: torch.Tensor, labels: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    return ((scores - labels) ** 2).sum()


LOSSES = {"kl": kl, "bce": bce, "margin_ranking": margin_ranking, "se": se}


DEFAULTS: dict[str, Any] = {
    "train.num_workers": 0,
    "train.pin_memory": False,
    "train.max_epochs": 20,
    "negative_sampling": {"class_name": "TrainingJobNegativeSampling", "shared": False, "num_samples": {"s": 3}},
}


class Config:
    """Options by their full names."""

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        self.options = {**DEFAULTS, **(options or {})}
        self.messages: list[str] = []

    def get(self, key: str) -> Any:
        return self.options[key]

    def log(self, msg: str) -> None:
        self.messages.append(msg)


class Dataset:
    def __init__(self, triples: torch.Tensor, entities: int, relations: int) -> None:
        self.triples = triples
        self.sizes = entities, relations

    def split(self, split: str) -> torch.Tensor:
        assert split == "train"
        return self.triples.int()

    def num_entities(self) -> int:
        return self.sizes[0]

    def num_relations(self) -> int:
        return self.sizes[1]

    def entity_ids(self) -> list[str]:
        return [f"entity {number}" for number in range(self.sizes[0])]


class Job:
    job_created_hooks: tuple[Callable[[Any], Any], ...] = ()


class KgeOptimizer:
    @staticmethod
    def create(config: Config, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adagrad(model.parameters(), lr=0.1)


class TrainingJob(Job):
    """The frame of LibKGE's training jobs: batches, steps, what is saved."""

    @dataclass
    class _ProcessBatchResult:
        avg_loss: float = 0.0
        size: int = 0
        prepare_time: float = 0.0
        forward_time: float = 0.0
        backward_time: float = 0.0

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        parent_job: Any = None,
        model: Any = None,
        forward_only: bool = False,
    ) -> None:
        self.config, self.dataset, self.parent_job, self.model = config, dataset, parent_job, model
        self.loss = {**LOSSES, "bce_mean": bce}[config.get("train.loss")]
        self.batch_size = config.get("train.batch_size")
        self._max_subbatch_size = config.get("train.subbatch_size")
        self.device = "cpu"
        self.train_split = "train"
        self.epoch = 0
        self.is_forward_only = forward_only
        self.post_epoch_hooks: list[Callable[[Any], Any]] = []
        self.post_run_hooks: list[Callable[[Any, Any], Any]] = []
        self.valid_trace: list[dict[str, Any]] = []
        self.current_trace: dict[str, Any] = {}
        if not forward_only:
            self.optimizer = KgeOptimizer.create(config, model)
            for group in self.optimizer.param_groups:
                group["initial_lr"] = group["lr"]

    def _prepare(self) -> None:
        pass

    def run_epoch(self) -> dict[str, Any]:
        self.current_trace["epoch"] = {"size": self.num_examples, "batches": len(self.loader)}
        total = 0.0
        for index, batch in enumerate(self.loader):
            if not self.is_forward_only:
                self.optimizer.zero_grad()
            result = self._process_batch(index, batch)
            total += result.avg_loss * result.size
            assert "triples" in batch
            if not self.is_forward_only:
                self.optimizer.step()
        self.current_trace["epoch"]["avg_loss"] = total / self.num_examples
        for hook in self.post_epoch_hooks:
            hook(self)
        return self.current_trace.pop("epoch")

    def train(self, epochs: int) -> list[dict[str, Any]]:
        """As LibKGE's `run`, up to a number of epochs."""
        self._prepare()
        entries = []
        while self.epoch < epochs:
            self.epoch += 1
            entries.append(self.run_epoch())
        for hook in self.post_run_hooks:
            hook(self, None)
        return entries

    def save_to(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        checkpoint["epoch"] = self.epoch
        checkpoint["model"] = copy.deepcopy(self.model.state_dict())
        checkpoint["optimizer"] = copy.deepcopy(self.optimizer.state_dict())
        return checkpoint

    def _load(self, checkpoint: dict[str, Any]) -> None:
        self.epoch = checkpoint["epoch"]
        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])


@contextmanager
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The job's module, as if LibKGE was installed."""
    import importlib
    import sys

    contents: dict[str, dict[str, Any]] = {
        "kge": {"Config": Config, "Dataset": Dataset},
        "kge.job": {"Job": Job, "TrainingJob": TrainingJob},
        "kge.util": {"KgeOptimizer": KgeOptimizer},
        "kge.model": {"KgeModel": Model, "ReciprocalRelationsModel": Reciprocal},
    }
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == "kge"]:
            patch.delitem(sys.modules, name)
        for name, attributes in contents.items():
            module = ModuleType(name)
            vars(module).update(attributes)
            module.__path__ = []  # type: ignore[attr-defined]
            patch.setitem(sys.modules, name, module)
        patch.delitem(sys.modules, "pykeen_advneg_libkge.job", raising=False)
        module = importlib.import_module("pykeen_advneg_libkge.job")
        try:
            yield module
        finally:
            sys.modules.pop("pykeen_advneg_libkge.job", None)
