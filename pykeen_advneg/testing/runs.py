"""What a sampler does in the loop ``adversarial``, and in that of PyKEEN."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pykeen.training import TrainingCallback
from pykeen.training.callbacks import EvaluationLossTrainingCallback
from pykeen.utils import set_random_seed

from ..checkpoint import get_random_state
from ..errors import ModelRequiredError
from ..sampling.base import NEEDS_MODEL
from ..training import AdversarialTrainingLoop
from .graphs import GRAPH, VALIDATION, make_model, same
from .subject import Subject

__all__ = ["RunContract"]


class _Snapshots(TrainingCallback):
    """Keeps the parameters of the sampler after each epoch."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.taken: list[list[torch.Tensor]] = []

    def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: Any) -> None:
        sampler = self.training_loop._sampler  # type: ignore[attr-defined]
        self.taken.append([parameter.detach().clone() for parameter in sampler.parameters()])


class RunContract(Subject):
    """Tests of whole runs."""

    def train(
        self, model_name: str, num_epochs: int = 2, seed: int = 0, probe: bool = True, **kwargs: Any
    ) -> tuple[AdversarialTrainingLoop, list[float]]:
        """Train a model by the loop ``adversarial``.

        :param model_name: one of :data:`MODELS`
        :param num_epochs: the number of epochs
        :param seed: set before
        :param probe: whether PyKEEN probes the memory first
        :param kwargs: laid over the arguments of ``train()``

        :returns: the loop, and the loss of each epoch
        """
        loop = AdversarialTrainingLoop(
            model=make_model(model_name),
            triples_factory=GRAPH,
            optimizer="adam",
            negative_sampler=self.cls,
            negative_sampler_kwargs=dict(self.kwargs),
            automatic_memory_optimization=probe,
        )
        set_random_seed(seed)
        options: dict[str, Any] = {"batch_size": 64, "use_tqdm": False} | kwargs
        losses = loop.train(GRAPH, num_epochs=num_epochs, **options)
        assert losses is not None
        return loop, losses

    @pytest.mark.parametrize("filtered", [False, True], ids=["unfiltered", "filtered"])
    def test_pipeline(self, model_name: str, filtered: bool) -> None:
        """Every model is trained through PyKEEN's pipeline."""
        result = self.run_pipeline(model_name, "adversarial", num_negs_per_pos=2, filtered=filtered)
        assert len(result.losses) == 2  # noqa: PLR2004
        assert all(map(math.isfinite, result.losses))

    def test_stock_loop(self) -> None:
        """PyKEEN's own loop trains by a sampler which needs no model, and another one refuses in one sentence."""
        if not issubclass(self.cls, NEEDS_MODEL):
            assert all(map(math.isfinite, self.run_pipeline("distmult", "slcwa").losses))
            return
        with pytest.raises(ModelRequiredError, match="training_loop='adversarial'") as caught:
            self.run_pipeline("distmult", "slcwa")
        assert "\n" not in str(caught.value)

    def test_evaluation_loss(self, model_name: str) -> None:
        """The callback ``evaluation-loss`` runs, and nothing is learnt from validation triples."""
        before, after = _Snapshots(), _Snapshots()
        evaluation = EvaluationLossTrainingCallback(triples_factory=VALIDATION)
        _, losses = self.train(model_name, callbacks=[before, evaluation, after])
        assert all(map(math.isfinite, losses))
        assert len(before.taken) == 2  # noqa: PLR2004
        assert same(before.taken, after.taken)

    def test_probing(self, model_name: str) -> None:
        """The memory probe changes neither the course of training nor a sampler which was trained before."""
        loop, losses = self.train(model_name)
        assert loop._sampler is not None
        state, random_state = copy.deepcopy(loop._sampler.state_dict()), get_random_state()
        loop.sub_batch_and_slice(batch_size=64, sampler=None, triples_factory=GRAPH)
        assert same(loop._sampler.state_dict(), state)
        assert same(get_random_state(), random_state)
        _, unprobed = self.train(model_name, probe=False)
        assert unprobed == losses

    def test_resume(self, model_name: str, tmp_path: Path) -> None:
        """Two epochs, a new process, and two more give the same bits as four."""
        whole, losses = self.train(model_name, num_epochs=4)
        checkpoints: dict[str, Any] = {
            "checkpoint_directory": tmp_path,
            "checkpoint_name": "run.pt",
            "checkpoint_frequency": 0,
        }
        self.train(model_name, num_epochs=2, **checkpoints)
        resumed, resumed_losses = self.train(model_name, num_epochs=4, seed=1, **checkpoints)
        assert resumed_losses == losses
        assert same(resumed.model.state_dict(), whole.model.state_dict())
        assert resumed._sampler is not None
        assert whole._sampler is not None
        assert same(resumed._sampler.state_dict(), whole._sampler.state_dict())
