"""The training loop ``adversarial``: PyKEEN's sLCWA loop, whose sampler knows the model and learns beside it."""

from __future__ import annotations

import copy
import inspect
import logging
import pathlib
from collections.abc import Mapping
from typing import Any, Literal, cast

from class_resolver import HintOrType, OptionalKwargs
from pykeen.constants import PYKEEN_CHECKPOINTS
from pykeen.sampling import NegativeSampler, negative_sampler_resolver
from pykeen.triples import CoreTriplesFactory
from pykeen.triples.weights import loss_weighter_resolver
from pykeen.typing import LongTensor
from torch.optim import SparseAdam
from torch.utils.data import DataLoader

from ..checkpoint import load_weights, own_name, recover
from ..errors import CheckpointError, ConfigurationError
from ..sampling.base import NEEDS_MODEL, AdversarialNegativeSampler, BindsModel, HasLoss, Learns, whole_at_least
from ..sampling.making import check_sampler, check_size, in_stock_study, keywords, make_sampler
from ..sampling.shared import SharedNegativeSampler
from .batches import Batch, BatchStream
from .forward import WholeBatchTrainingLoop
from .losses import check_correction
from .parts import whole_chunks
from .resumption import describe, describe_settings, restore_weights
from .rows import row_wise
from .runs import AfterPretraining, Clipping, Run, cheap_collection, fast_validation

__all__ = ["AdversarialTrainingLoop"]

logger = logging.getLogger(__name__)


class AdversarialTrainingLoop(WholeBatchTrainingLoop):
    """A training loop in which the negative sampler may ask the model, and learn from it.

    It trains every :class:`pykeen.models.ERModel` by every loss and index sampler of PyKEEN, and by all samplers of
    this package, in this order for each batch:

    1. positives are drawn on the model's device, and ``sampler.propose(positives)`` gives their negatives;
    2. model scores positives and negatives, once;
    3. the loss (with PyKEEN's filter masks and sample weights), its backward pass;
    4. ``sampler.learn(negatives, scores)`` with the detached scores, thus before the update of the model;
    5. the optimizer of the model, and PyKEEN's callbacks.

    **Sub-batches** do not change the result: scores are computed part by part, the loss once over the whole batch, and
    its gradient is then carried through the scores part by part (Gao et al., 2021, "Scaling deep contrastive learning
    batch size under memory limited setup"). This costs a second scoring of each part. The sampler learns once a batch.
    Where positives share candidates in chunks, sizes are rounded down to whole chunks, or to equal parts of one.

    **Pre-training.** In the first ``pretraining_epochs`` of the epochs, negatives come from ``pretraining_sampler``,
    and a sampler which learns is warmed up on the positives. Then the optimizers start anew. A stopper is asked from
    there on: none of these epochs is validated, can be the best one, or uses up patience.
    """

    def __init__(
        self,
        *,
        negative_sampler: HintOrType[NegativeSampler] = None,
        negative_sampler_kwargs: OptionalKwargs = None,
        pretraining_epochs: int = 0,
        pretraining_sampler: HintOrType[NegativeSampler] = "bernoulli",
        pretraining_sampler_kwargs: OptionalKwargs = None,
        warm_start: str | pathlib.Path | None = None,
        **kwargs: Any,
    ) -> None:
        """Initialize the loop.

        :param negative_sampler: the name, the class or an instance of the sampler; ``basic`` if None
        :param negative_sampler_kwargs: its keyword-based parameters
        :param pretraining_epochs: in how many of the epochs ``pretraining_sampler`` is used instead, without validation
        :param pretraining_sampler: a sampler which needs no model
        :param pretraining_sampler_kwargs: its keyword-based parameters
        :param warm_start: a file with a state dictionary of the model, ``.safetensors`` or written by
            :func:`torch.save`, from which training starts instead of a random initialisation
        :param kwargs: keyword-based parameters of :class:`pykeen.training.SLCWATrainingLoop`

        :raises ConfigurationError: if an argument cannot work
        """
        unknown = set(kwargs) - keywords(type(self))
        if unknown:
            raise ConfigurationError(
                f"training_loop_kwargs has the unknown keywords {sorted(unknown)}; choose of "
                f"{sorted(keywords(type(self)))}."
            )
        super().__init__(negative_sampler=negative_sampler, negative_sampler_kwargs=negative_sampler_kwargs, **kwargs)
        if negative_sampler is None:
            if in_stock_study():
                raise ConfigurationError(
                    "PyKEEN's hpo_pipeline hands negative_sampler and its ranges to no loop but 'slcwa', and would "
                    "tune something else; use pykeen_advneg.hpo.hpo_pipeline, which takes the same arguments."
                )
            logger.warning("No negative_sampler reached the loop: training on PyKEEN's 'basic' uniform negatives.")
        check_sampler("negative_sampler", negative_sampler, negative_sampler_kwargs)
        cls = check_sampler("pretraining_sampler", pretraining_sampler, pretraining_sampler_kwargs)
        if issubclass(cls, NEEDS_MODEL):
            raise ConfigurationError(
                f"pretraining_sampler={pretraining_sampler!r} needs the model; choose 'bernoulli'."
            )
        whole_at_least("pretraining_epochs", pretraining_epochs, 0)
        self.pretraining_epochs = pretraining_epochs
        self.pretraining_sampler = pretraining_sampler
        self.pretraining_sampler_kwargs = pretraining_sampler_kwargs
        self._warm_start = None if warm_start is None else load_weights(warm_start, self.model)
        self._instance_state = (
            copy.deepcopy(negative_sampler.state_dict()) if isinstance(negative_sampler, NegativeSampler) else None
        )
        self._sampler: NegativeSampler | None = None
        self._runs: list[Run] = []
        self._learning = False
        self._pretraining = False
        self._clipping: Clipping | None = None
        #: how many scores of the model this loop has trained on; a resumed run counts its own
        self.num_scores = 0

    @property
    def sampler(self) -> NegativeSampler | None:
        """The sampler in training, or the trained one; None before the first training."""
        return self._sampler

    def train(
        self, triples_factory: CoreTriplesFactory, num_epochs: int = 1, *args: Any, **kwargs: Any
    ) -> list[float] | None:
        """Train as :meth:`pykeen.training.TrainingLoop.train` does, and take the same arguments.

        A checkpoint is verified before, and the best epoch, if a stopper looks for it, restored after.

        :param triples_factory: the training triples
        :param num_epochs: the number of epochs
        :param args: further arguments of the host
        :param kwargs: further keyword-based parameters of the host

        :returns: the losses of the epochs
        """
        arguments = inspect.signature(super().train).bind(triples_factory, num_epochs, *args, **kwargs)
        arguments.apply_defaults()
        given = arguments.arguments
        self._stopper = given["stopper"]
        self._best = None
        self._check_numbers(given)
        self._check_optimizer()
        if not given["continue_training"]:
            # the host would count on from the epochs of an earlier training, and run too few
            self._epoch, self.losses_per_epochs = 0, []
        # the host's own clipping callbacks never get to know their loop, and fail: clipping is done here
        self._clipping = Clipping(
            given.pop("gradient_clipping_max_norm"),
            given.pop("gradient_clipping_norm_type"),
            given.pop("gradient_clipping_max_abs_value"),
        )
        if given["checkpoint_name"]:
            given["checkpoint_name"] = self._open_checkpoint(given["checkpoint_directory"], given["checkpoint_name"])
        automatic = self.automatic_memory_optimization
        if given["sub_batch_size"] is not None:
            # else the host's search would replace the user's choice, without a word
            self.automatic_memory_optimization = False
        try:
            with cheap_collection(), row_wise(self.model, lambda: self.optimizer), fast_validation(self._stopper):
                losses = super().train(**given)
        finally:
            self.automatic_memory_optimization = automatic
        if isinstance(self._sampler, AdversarialNegativeSampler):
            # before the best epoch is restored, whose sampler may be far from the end
            self._sampler.end_training()
        self._restore_best(triples_factory)
        if given["clear_optimizer"] and isinstance(self._sampler, Learns):
            for optimizer in self._sampler.optimizers():
                optimizer.state.clear()
        return losses

    def _check_optimizer(self) -> None:
        if isinstance(self.optimizer, SparseAdam):
            raise ConfigurationError(
                "optimizer='sparseadam' takes sparse gradients only, which small tables do not have; choose 'rowadam'."
            )

    def _check_numbers(self, given: Mapping[str, Any]) -> None:
        for name in ("batch_size", "sub_batch_size"):
            whole_at_least(name, 1 if given[name] is None else given[name], 1)
        if given["slice_size"] is not None:
            raise ConfigurationError(
                f"slice_size={given['slice_size']} is not possible for negative sampling; leave it out."
            )
        if 0 < given["num_epochs"] <= self.pretraining_epochs:
            logger.warning(
                "num_epochs=%d are all pre-training (pretraining_epochs=%d): the sampler itself is never used, and no "
                "epoch is validated for early stopping.",
                given["num_epochs"],
                self.pretraining_epochs,
            )

    def _open_checkpoint(self, directory: str | pathlib.Path | None, name: str) -> str:
        """Verify the checkpoint of a name given by the user, and give the name of its file."""
        folder = self._folder = pathlib.Path(directory or PYKEEN_CHECKPOINTS)
        path = folder / own_name(name)
        if not path.is_file() and (folder / name).is_file():
            raise CheckpointError(
                f"'{folder / name}' was written by another training loop; choose another checkpoint_name, or delete it."
            )
        recover(path)
        return path.name

    # docstr-coverage: inherited
    def _train(self, *args: Any, **kwargs: Any) -> list[float] | None:
        run = Run(probing=kwargs.get("only_size_probing", False), continued=kwargs.get("continue_training", False))
        self._runs.append(run)
        if self.pretraining_epochs and kwargs.get("stopper") is not None:
            kwargs["stopper"] = AfterPretraining(kwargs["stopper"], self.pretraining_epochs)
        if not run.continued:
            self._rewind_learning_rate()
        try:
            return super()._train(*args, **kwargs)
        finally:
            self._runs.pop()
            if run.probing:
                self._rewind_learning_rate()

    def _rewind_learning_rate(self) -> None:
        """Undo what a scheduler did to the learning rate, from which the host is about to make a new optimizer."""
        assert self.optimizer is not None
        for group in self.optimizer.param_groups:
            group["lr"] = group.get("initial_lr", group["lr"])

    # docstr-coverage: inherited
    def _create_training_data_loader(  # type: ignore[override]
        self,
        triples_factory: CoreTriplesFactory,
        *,
        sampler: Literal["schlichtkrull"] | None = None,
        batch_size: int,
        drop_last: bool,
        num_workers: int | None = None,
        pin_memory: bool = False,
        **kwargs: Any,
    ) -> DataLoader[Batch]:
        run = self._runs[-1]
        is_first = run.stream is None
        if is_first:
            run.sampler = self._prepare_sampler(run, triples_factory)
        assert run.sampler is not None
        if num_workers and isinstance(run.sampler, NEEDS_MODEL):
            raise ConfigurationError(
                f"num_workers={num_workers}: {type(run.sampler).__name__} works with the model being trained, "
                f"of which a worker process would only have a stale copy. Set num_workers=0; nothing is lost, since "
                f"negatives are drawn on the model's device."
            )
        triples = triples_factory._add_inverse_triples_if_necessary(mapped_triples=triples_factory.mapped_triples)
        stream = self._make_stream(
            triples.to("cpu" if num_workers else self.model.device),
            run.sampler,
            batch_size=batch_size,
            drop_last=drop_last,
            subgraphs=sampler == "schlichtkrull",
            loss_weighter=cast("Any", loss_weighter_resolver).make_safe(self.loss_weighter, self.loss_weighter_kwargs),
        )
        if is_first:
            run.stream = stream
        # else it is the stream of the callback `evaluation-loss`: it gets the sampler in training, which learns nothing
        if num_workers:
            return DataLoader(stream, batch_size=None, num_workers=num_workers, pin_memory=pin_memory)
        # the stream has all that the host asks of a loader: an iterator and a length
        return cast("DataLoader[Batch]", stream)

    def _make_stream(self, triples: LongTensor, sampler: NegativeSampler, **kwargs: Any) -> BatchStream:
        """Make what gives the batches."""
        return BatchStream(triples, sampler, **kwargs)

    def _prepare_sampler(self, run: Run, triples_factory: CoreTriplesFactory) -> NegativeSampler:
        """Give a run its sampler: a fresh one, unless training is continued."""
        sampler = self._sampler if run.continued else None
        if sampler is None:
            sampler = self._fresh_sampler(triples_factory)
        if not run.probing:
            self._sampler = sampler
        if self._warm_start is not None and not run.continued:
            restore_weights(self.model, self._warm_start)
        if self.pretraining_epochs:
            run.pretraining_sampler = make_sampler(
                self.pretraining_sampler, self.pretraining_sampler_kwargs, triples_factory
            )
            if isinstance(run.pretraining_sampler, AdversarialNegativeSampler):
                run.pretraining_sampler.to(self.model.device)
        if isinstance(sampler, Learns):
            sampler.clip_gradients = self._clipping
        for used in (sampler, run.pretraining_sampler):
            if isinstance(used, SharedNegativeSampler) and used.log_q_correction:
                check_correction(self.loss)
        if isinstance(sampler, BindsModel):
            sampler.bind(self.scorer)
        return sampler

    def _fresh_sampler(self, triples_factory: CoreTriplesFactory) -> NegativeSampler:
        sampler = self.negative_sampler
        if isinstance(sampler, NegativeSampler):
            check_size(sampler, triples_factory)
            sampler.load_state_dict(copy.deepcopy(self._instance_state or {}))
        else:
            sampler = make_sampler(sampler, self.negative_sampler_kwargs, triples_factory)
        # PyKEEN's own samplers stay on the CPU, where they have tables which are no buffers
        return sampler.to(self.model.device) if isinstance(sampler, AdversarialNegativeSampler) else sampler

    # docstr-coverage: inherited
    def _train_epoch(  # type: ignore[override]
        self, *, epoch: int, only_size_probing: bool, backward: bool = True, **kwargs: Any
    ) -> float:
        outer, self._learning = self._learning, backward and not only_size_probing
        sampler = self._runs[-1].sampler
        assert sampler is not None
        sampler.train(self.model.training)
        if self._is_cut(kwargs.get("sub_batch_size")) and isinstance(sampler, AdversarialNegativeSampler):
            kwargs["sub_batch_size"] = whole_chunks(kwargs["sub_batch_size"], sampler.chunk_size)
        # an evaluation may have left representations without a graph
        self.scorer.lookups.forget()
        try:
            if self._learning:
                self._check_parts(kwargs.get("sub_batch_size"))
                self._begin_epoch(epoch)
            loss = super()._train_epoch(epoch=epoch, only_size_probing=only_size_probing, backward=backward, **kwargs)
            if self._learning:
                self._log_sampler(epoch)
        finally:
            self._learning = outer
        return loss

    def _is_cut(self, size: int | None) -> bool:
        """Whether batches have more than one part, if there are so many positives in a part."""
        stream = self._runs[-1].stream
        assert stream is not None
        return size is not None and size < min(stream.batch_size, len(stream.triples))

    def _check_parts(self, size: int | None) -> None:
        """Check that batches may be cut, before the first one, which may be one of pre-training."""
        run = self._runs[-1]
        is_cut = self._is_cut(size)
        if is_cut and isinstance(run.sampler, HasLoss):
            run.sampler.check_parts()

    def _begin_epoch(self, epoch: int) -> None:
        """Choose the sampler of this epoch, and let the learning rate scheduler reach the one that learns."""
        run = self._runs[-1]
        assert run.stream is not None
        assert run.sampler is not None
        assert self.optimizer is not None
        self._pretraining = run.pretraining_sampler is not None and epoch <= self.pretraining_epochs
        run.stream.sampler = run.sampler
        if self._pretraining:
            assert run.pretraining_sampler is not None
            run.stream.sampler = run.pretraining_sampler
        if isinstance(run.sampler, AdversarialNegativeSampler):
            run.sampler.begin_epoch()
        starts_anew = self.pretraining_epochs > 0 and epoch == self.pretraining_epochs + 1
        if starts_anew:
            self.optimizer.state.clear()
        if not isinstance(run.sampler, Learns):
            return
        if starts_anew:
            run.sampler.end_warm_up()
        if self.lr_scheduler is not None:
            group = self.optimizer.param_groups[0]
            for optimizer in run.sampler.optimizers():
                for own in optimizer.param_groups:
                    own["lr"] = own.setdefault("initial_lr", own["lr"]) * group["lr"] / group["initial_lr"]

    def _log_sampler(self, epoch: int) -> None:
        sampler = self._runs[-1].sampler
        if isinstance(sampler, AdversarialNegativeSampler):
            metrics = sampler.end_epoch()
            if metrics:
                self.result_tracker.log_metrics(metrics=metrics, step=epoch, prefix="sampler")

    def _after_scoring(self, batch: Batch) -> None:
        if not self._learning:
            return
        assert batch.scores is not None
        self.num_scores += batch.scores.positives.numel() + batch.scores.negatives.numel()
        if self._clipping is not None and self._clipping.is_needed:
            self._clipping(self.model.get_grad_params())
        sampler = self._runs[-1].sampler
        if not isinstance(sampler, Learns):
            return
        if self._pretraining:
            sampler.warm_up(batch.negatives.positives)
        else:
            sampler.learn(batch.negatives, batch.scores)

    # docstr-coverage: inherited
    def _extra_state(self, triples_factory: CoreTriplesFactory | None) -> dict[str, Any]:
        return {} if self._sampler is None else {"sampler": self._sampler.state_dict()}

    # docstr-coverage: inherited
    def _load_extra_state(self, state: Mapping[str, Any], triples_factory: CoreTriplesFactory | None) -> None:
        if self._sampler is None:
            assert triples_factory is not None
            self._sampler = self._fresh_sampler(triples_factory)
        self._sampler.load_state_dict(state["sampler"])

    # docstr-coverage: inherited
    def _describe_extra(self) -> str:
        return describe(
            [
                negative_sampler_resolver.lookup(self.negative_sampler),
                self.negative_sampler_kwargs or {},
                describe_settings(self.negative_sampler) if self._instance_state is not None else None,
                self.pretraining_epochs,
                negative_sampler_resolver.lookup(self.pretraining_sampler),
                self.pretraining_sampler_kwargs or {},
            ]
        )
