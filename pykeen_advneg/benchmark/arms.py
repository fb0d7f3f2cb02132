"""The arms: stock PyKEEN, this package, and what lies between; models, and training loops for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

import torch
from pykeen.losses import loss_resolver
from pykeen.models import ERModel, Model, model_resolver
from pykeen.optimizers import optimizer_resolver
from pykeen.regularizers import regularizer_resolver
from pykeen.training import SLCWATrainingLoop, training_loop_resolver
from pykeen.triples import CoreTriplesFactory

from ..comparison.configuration import did_you_mean
from ..errors import ConfigurationError
from ..multimodal import MultimodalFeatures
from ..sampling.mmrns.sampler import PAPER_POOL
from .settings import Settings

__all__ = ["Arm", "Work", "check_work", "emu_arms", "engine", "kbgan_arms", "mmrns_arms", "stock"]

#: the candidates of KBGAN's paper, and the margin of its TransE
CANDIDATES = 20
MARGIN = 3.0

#: parts and width of MMRNS's features: those of its paper, and of our description of regions
FEATURES: Mapping[str, tuple[int, int]] = {"text": (4, 384), "image": (24, 25)}


@dataclass(frozen=True)
class Arm:
    """How a model is trained, in PyKEEN's words."""

    name: str
    training_loop: str
    negative_sampler: str
    negative_sampler_kwargs: Mapping[str, Any]
    optimizer: str
    optimizer_kwargs: Mapping[str, Any]

    #: how many scores of a model a positive asks for: its own, those of its negatives and of a generator
    scores_per_positive: int

    #: the modalities of the features which the sampler gets, random numbers
    features: tuple[str, ...] = ()

    @property
    def setup(self) -> dict[str, Any]:
        """What makes the arm, as it is written."""
        own = asdict(self)
        hidden = {"name", "scores_per_positive", *(() if self.features else ("features",))}
        return {name: own[name] for name in own if name not in hidden}


@dataclass(frozen=True)
class Work:
    """What is trained, the same for all arms."""

    #: a name of PyKEEN's, with the suffix ``-l1`` or ``-l2`` for the norm of a distance
    model: str
    negatives: int
    dim: int
    batch_size: int
    threads: int
    loss: str = "crossentropy"
    loss_kwargs: Mapping[str, Any] = field(default_factory=dict)

    #: ``None``: that which PyKEEN gives the model
    regularizer: str | None = None

    @classmethod
    def of(cls, settings: Settings, **changes: Any) -> Work:
        """Take the settings of a benchmark: their first model and number of negatives, unless told otherwise.

        :param settings: the settings
        :param changes: values of other fields

        :returns: the work
        """
        own = cls(
            model=settings.models[0],
            negatives=settings.negatives[0],
            dim=settings.dim,
            batch_size=settings.batch_size,
            threads=settings.threads,
            loss=settings.loss,
            regularizer=settings.regularizer,
        )
        return replace(own, **changes)

    @property
    def case(self) -> dict[str, Any]:
        """What is trained, as it is written."""
        own = asdict(self)
        loss_kwargs: Mapping[str, Any] = own.pop("loss_kwargs")
        return {key: value for key, value in {**own, **loss_kwargs}.items() if value is not None}

    def make_model(self, factory: CoreTriplesFactory, seed: int) -> Model:
        """Build the model, with the regulariser that PyKEEN gives it, unless told otherwise.

        :param factory: the training triples
        :param seed: the seed of its weights

        :returns: the model
        """
        name, dash, norm = self.model.rpartition("-l")
        kwargs: dict[str, Any] = {"scoring_fct_norm": int(norm)} if dash and norm in {"1", "2"} else {}
        cls = model_resolver.lookup(name if kwargs else self.model)
        kwargs |= {"embedding_dim": self.dim, "loss": loss_resolver.make(self.loss, dict(self.loss_kwargs))}
        if self.regularizer is not None:
            # a name would get the parameters of the model's own regulariser
            kwargs["regularizer"] = regularizer_resolver.make(self.regularizer)
        return cls(triples_factory=factory, random_seed=seed, **kwargs)

    def make_loop(self, arm: Arm, factory: CoreTriplesFactory, seed: int) -> SLCWATrainingLoop:
        """Build a training loop with a new model.

        :param arm: how to train
        :param factory: the training triples
        :param seed: the seed of the model

        :returns: the loop, which does not search for what fits into memory
        """
        model = self.make_model(factory, seed)
        kwargs = dict(arm.optimizer_kwargs)
        own = dict(arm.negative_sampler_kwargs)
        if arm.features:
            own["features"] = random_features(arm.features, factory.num_entities, seed)
        loop = training_loop_resolver.make(
            arm.training_loop,
            model=model,
            triples_factory=factory,
            optimizer=optimizer_resolver.make(arm.optimizer, kwargs, params=model.get_grad_params()),
            negative_sampler=arm.negative_sampler,
            negative_sampler_kwargs=own,
            automatic_memory_optimization=False,
        )
        return cast(SLCWATrainingLoop, loop)


def stock(settings: Settings, negatives: int) -> Arm:
    """Make the arm of PyKEEN as it is installed.

    :param settings: the settings
    :param negatives: the number of negatives of each positive

    :returns: the arm
    """
    sampler = {"num_negs_per_pos": negatives}
    rate = {} if settings.stock_lr is None else {"lr": settings.stock_lr}
    return Arm("stock", "slcwa", "basic", sampler, settings.stock_optimizer, rate, 1 + negatives)


def engine(settings: Settings, negatives: int) -> Arm:
    """Make the arm of this package: negatives shared by chunks, an optimizer of rows.

    :param settings: the settings
    :param negatives: the number of negatives of each positive

    :returns: the arm
    """
    sampler = {"num_negs_per_pos": negatives, "chunk_size": settings.chunk_size}
    rate = {} if settings.engine_lr is None else {"lr": settings.engine_lr}
    return Arm("engine", "adversarial", "shared", sampler, settings.engine_optimizer, rate, 1 + negatives)


def kbgan_arms(settings: Settings) -> list[Arm]:
    """Make the arms with 20 candidates: uniform in PyKEEN's loop; uniform, shared and KBGAN in this package's loop.

    All but the first have the same optimizer.

    :param settings: the settings

    :returns: the arms; KBGAN's generator scores all candidates and the model one of them
    """
    count = {"num_negs_per_pos": CANDIDATES}
    base = replace(engine(settings, CANDIDATES), name="shared", optimizer="rowadam", optimizer_kwargs={})
    unshared = replace(base, name="unshared", negative_sampler="basic", negative_sampler_kwargs=count)
    kbgan = replace(
        base,
        name="kbgan",
        negative_sampler="kbgan",
        negative_sampler_kwargs={"num_candidates": CANDIDATES},
        scores_per_positive=CANDIDATES + 2,
    )
    pooled = {"num_candidates": CANDIDATES, "chunk_size": settings.chunk_size}
    in_chunks = replace(kbgan, name="kbgan-shared", negative_sampler_kwargs=pooled)
    original = replace(stock(settings, CANDIDATES), optimizer="adam", optimizer_kwargs={})
    return [original, base, unshared, kbgan, in_chunks]


def emu_arms(settings: Settings, negatives: int) -> list[Arm]:
    """Make the arms of EMU: shared and unshared negatives, and EMU on each, on the latter with a mask for each pair.

    :param settings: the settings
    :param negatives: the number of negatives of each positive

    :returns: the arms; EMU scores each negative twice
    """
    shared = replace(engine(settings, negatives), name="shared")
    count = {"num_negs_per_pos": negatives}
    unshared = replace(shared, name="unshared", negative_sampler="basic", negative_sampler_kwargs=count)
    scores = 1 + 2 * negatives
    bases: list[tuple[Arm, dict[str, Any]]] = [
        (shared, {"base": "shared", "base_kwargs": {"chunk_size": settings.chunk_size}, "masks": "shared"}),
        (unshared, {"base": "basic", "masks": "independent"}),
    ]
    on_top = [
        replace(
            base, name=name, negative_sampler="emu", negative_sampler_kwargs=count | own, scores_per_positive=scores
        )
        for name, (base, own) in zip(("emu", "emu-unshared"), bases, strict=True)
    ]
    return [shared, unshared, *on_top]


def random_features(modalities: Sequence[str], num_entities: int, seed: int) -> MultimodalFeatures:
    """Draw features of the shapes of :data:`FEATURES`: for the time of a step, numbers do not matter.

    :param modalities: which
    :param num_entities: of how many entities
    :param seed: the seed

    :returns: the features
    """
    generator = torch.Generator().manual_seed(seed)
    values = {name: torch.randn(num_entities, *FEATURES[name], generator=generator) for name in modalities}
    return MultimodalFeatures(**cast("dict[str, Any]", values))


def mmrns_arms(settings: Settings, negatives: int, num_entities: int) -> list[Arm]:
    """Make the arms of MMRNS: uniform negatives, and MMRNS by structure, text, text and pictures; a third of the pool.

    All have the loop of this package, and Adam. The pool is that of the paper, or as many as there are entities.

    :param settings: the settings
    :param negatives: the number of negatives of each positive
    :param num_entities: the number of entities

    :returns: the arms
    """
    count: dict[str, Any] = {"num_negs_per_pos": negatives}
    uniform = replace(
        engine(settings, negatives),
        name="unshared",
        negative_sampler="basic",
        negative_sampler_kwargs=count,
        optimizer="adam",
        optimizer_kwargs={},
    )
    third = min(PAPER_POOL, num_entities) // 3
    looks: list[tuple[str, tuple[str, ...], int | None]] = [
        ("mmrns", (), None),
        ("mmrns-text", ("text",), None),
        ("mmrns-text-image", ("text", "image"), None),
        ("mmrns-third", ("text", "image"), third if third >= negatives else None),
    ]
    own = [
        replace(
            uniform,
            name=name,
            negative_sampler="mmrns",
            negative_sampler_kwargs=count | {"pool_size": size},
            features=features,
        )
        for name, features, size in looks
    ]
    return [uniform, *own]


def check_work(settings: Settings) -> None:
    """Build every model and both optimizers on a graph of three entities.

    :param settings: the settings

    :raises ConfigurationError: if a name is not known, or if a part refuses its arguments
    """
    triples = torch.tensor([[0, 0, 1], [1, 0, 2]])
    factory = CoreTriplesFactory(triples, num_entities=3, num_relations=1)
    if settings.loss not in loss_resolver.lookup_dict:
        raise did_you_mean("--loss", settings.loss, loss_resolver.lookup_dict)
    if settings.regularizer not in {None, *regularizer_resolver.lookup_dict}:
        raise did_you_mean("--regularizer", str(settings.regularizer), regularizer_resolver.lookup_dict)
    for option, name in (("stock", settings.stock_optimizer), ("engine", settings.engine_optimizer)):
        if name not in optimizer_resolver.lookup_dict:
            raise did_you_mean(f"--{option}-optimizer", name, optimizer_resolver.lookup_dict)
    for name in settings.models:
        base, dash, norm = name.rpartition("-l")
        if (base if dash and norm in {"1", "2"} else name) not in model_resolver.lookup_dict:
            raise did_you_mean("--models", name, [*model_resolver.lookup_dict, "transe-l1", "transe-l2"])
        work = Work.of(settings, model=name)
        try:
            if not isinstance(work.make_model(factory, seed=0), ERModel):
                raise ConfigurationError("it has no interaction")
            for arm in (stock(settings, 1), engine(settings, 1)):
                work.make_loop(arm, factory, seed=0)
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ConfigurationError(f"--models {name!r} cannot be trained: {reason}; choose another.") from error
