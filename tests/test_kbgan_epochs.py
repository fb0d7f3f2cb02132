"""KBGAN in the loop: the order of updates, whole epochs against a plain loop, and that it learns."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from kbgan_twins import GRAPH, distmult, replaced, tables, transe
from pykeen.losses import MarginRankingLoss
from pykeen.models import TransE
from pykeen.pipeline import PipelineResult, pipeline
from pykeen.training.callbacks import TrainingCallback
from pykeen.triples import CoreTriplesFactory
from torch import nn

from pykeen_advneg.initializers import unit_ball
from pykeen_advneg.negatives import Negatives
from pykeen_advneg.sampling.base import Scores
from pykeen_advneg.sampling.kbgan import KBGANNegativeSampler
from pykeen_advneg.training import AdversarialTrainingLoop


class Recorder(KBGANNegativeSampler):
    """Writes down what the loop does with it."""

    #: of all batches: the candidates, and the ids which were drawn
    candidates: list[Negatives]
    drawn: list[torch.Tensor]
    #: the scores which were given, and those of the model when they were given
    given: list[torch.Tensor]
    rescored: list[torch.Tensor]
    #: how many parameters the optimizers of the generator and of the model remember
    remembered: list[tuple[int, int]]

    training_loop: AdversarialTrainingLoop

    def __init__(self, *, mapped_triples: torch.Tensor, **kwargs: Any) -> None:
        super().__init__(mapped_triples=mapped_triples, **kwargs)
        self.candidates, self.drawn, self.given, self.rescored, self.remembered = [], [], [], [], []

    def _draw_candidates(self, positives: torch.Tensor, num: int) -> Negatives:
        self.candidates.append(super()._draw_candidates(positives, num))
        return self.candidates[-1]

    def propose(self, positives: torch.Tensor) -> Negatives:
        negatives = super().propose(positives)
        self.drawn.append(negatives.ids)
        return negatives

    def learn(self, negatives: Negatives, scores: Scores) -> None:
        self.given.append(scores.negatives)
        loop = self.training_loop
        with torch.no_grad():
            self.rescored.append(loop.model.score_hrt(negatives.triples.view(-1, 3)).view(negatives.shape))
        self.remembered.append((len(self.optimizer.state), len(loop.optimizer.state)))
        super().learn(negatives, scores)


class Introduction(TrainingCallback):
    """Makes the loop known to its sampler."""

    def pre_batch(self, **kwargs: Any) -> None:
        # nn.Module would register it as a part of the sampler
        object.__setattr__(self.training_loop._sampler, "training_loop", self.training_loop)


def copy_from(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Initialise a table by a copy, where PretrainedInitializer would give the same tensor to all."""
    return target.copy_(source)


INITIAL = {
    name: torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.3
    for seed, (name, shape) in enumerate({"entity": (12, 4), "relation": (3, 4)}.items())
}
INITIALIZERS = {f"{name}_initializer": partial(copy_from, tensor) for name, tensor in INITIAL.items()}


def run_loop(
    num_epochs: int = 3, pretraining_epochs: int = 0, batch_size: int = 25, **kwargs: Any
) -> tuple[Recorder, TransE, list[float]]:
    """Train TransE, constrained to the unit ball, by a DistMult which starts from the same tables."""
    torch.manual_seed(0)
    model = TransE(
        triples_factory=GRAPH,
        embedding_dim=4,
        scoring_fct_norm=1,
        entity_constrainer=unit_ball,
        relation_constrainer=unit_ball,
        loss=MarginRankingLoss(margin=3.0, reduction="sum"),
        random_seed=0,
        **INITIALIZERS,
    )
    generator = {"embedding_dim": 4, "entity_constrainer": None, "regularizer": None, **INITIALIZERS}
    loop = AdversarialTrainingLoop(
        model=model,
        triples_factory=GRAPH,
        optimizer="adam",
        optimizer_kwargs={"lr": 0.05},
        negative_sampler=Recorder,
        negative_sampler_kwargs={
            "num_candidates": 5,
            "temperature": 0.8,
            "generator_kwargs": generator,
            "generator_optimizer_kwargs": {"lr": 0.02},
            **kwargs,
        },
        pretraining_epochs=pretraining_epochs,
    )
    losses = loop.train(GRAPH, num_epochs=num_epochs, batch_size=batch_size, use_tqdm=False, callbacks=[Introduction()])
    assert losses is not None
    assert isinstance(loop._sampler, Recorder)
    return loop._sampler, model, losses


def test_reward_is_from_before_the_update() -> None:
    """The model still gives the scores which are the reward, and they are those of the negatives which were drawn."""
    sampler, _, _ = run_loop()
    assert len(sampler.given) == 9
    for given, rescored in zip(sampler.given, sampler.rescored, strict=True):
        torch.testing.assert_close(given, rescored)


def test_optimizers_are_fresh_after_pretraining() -> None:
    sampler, _, _ = run_loop(num_epochs=4, pretraining_epochs=2)
    assert len(sampler.given) == 6, "it learns in two epochs of three batches"
    assert sampler.remembered[0] == (0, 0)
    assert all(min(sizes) > 0 for sizes in sampler.remembered[1:])


def twin(
    sampler: Recorder, num_epochs: int, num_negs_per_pos: int
) -> tuple[list[torch.Tensor], list[torch.Tensor], list[float]]:
    """KBGAN as the paper's algorithm is written down, triple by triple, with the candidates and draws of a run."""
    discriminator = [nn.Parameter(INITIAL[name].clone()) for name in ("entity", "relation")]
    generator = [nn.Parameter(INITIAL[name].clone()) for name in ("entity", "relation")]
    adam_d = torch.optim.Adam(discriminator, lr=0.05)
    adam_g = torch.optim.Adam(generator, lr=0.02, weight_decay=1e-3)
    batches = list(zip(sampler.candidates, sampler.drawn, strict=True))
    per_epoch = len(batches) // num_epochs
    baseline, losses = 0.0, []
    for epoch in range(num_epochs):
        all_rewards: list[float] = []
        epoch_loss = 0.0
        for candidates, drawn in batches[epoch * per_epoch : (epoch + 1) * per_epoch]:
            loss_d, loss_g = torch.zeros(()), torch.zeros(())
            for positive, column, ids, chosen in zip(
                candidates.positives.tolist(), candidates.column.tolist(), candidates.ids.tolist(), drawn.tolist(),
                strict=True,
            ):  # fmt: skip
                logits = torch.stack([distmult(*generator, *replaced(positive, column[0], e)) for e in ids]) / 0.8
                for entity in chosen:
                    negative = transe(*discriminator, *replaced(positive, column[0], entity))
                    loss_d = loss_d + (3.0 + negative - transe(*discriminator, *positive)).relu()
                    reward = negative.item()
                    all_rewards.append(reward)
                    log_p = logits.log_softmax(dim=0)[ids.index(entity)]
                    loss_g = loss_g - (reward - baseline) * log_p / num_negs_per_pos
            for loss, optimizer in ((loss_d, adam_d), (loss_g, adam_g)):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            for table in discriminator:
                table.data /= table.data.norm(dim=-1, keepdim=True).clamp(min=1.0)
            epoch_loss += loss_d.item() / per_epoch
        baseline = sum(all_rewards) / len(all_rewards)
        losses.append(epoch_loss)
    return [x.detach() for x in discriminator], [x.detach() for x in generator], losses


@pytest.mark.parametrize("num_negs_per_pos", [1, 3])
def test_whole_epochs(num_negs_per_pos: int) -> None:
    """Three epochs of the loop end where a plain loop ends, which has nothing of it but the random draws."""
    sampler, model, losses = run_loop(num_negs_per_pos=num_negs_per_pos)
    # the sampler of the memory probe was another one
    discriminator, generator, expected = twin(sampler, num_epochs=3, num_negs_per_pos=num_negs_per_pos)
    assert losses == pytest.approx(expected, rel=1e-4)
    for twins, trained in ((discriminator, model), (generator, sampler.generator)):
        for x, y, start in zip(twins, tables(trained), INITIAL.values(), strict=True):
            torch.testing.assert_close(y.detach(), x, rtol=1e-3, atol=1e-4)
            assert (x - start).abs().max() > 0.1, "far from where it started"


def typed_graph(seed: int, num_triples: int) -> CoreTriplesFactory:
    """Three types of 20 entities; relation r leads from type r to the next one."""
    generator = torch.Generator().manual_seed(seed)
    relation = torch.randint(3, (num_triples,), generator=generator)
    head, tail = torch.randint(20, (2, num_triples), generator=generator)
    triples = torch.stack([20 * relation + head, relation, 20 * ((relation + 1) % 3) + tail], dim=-1)
    return CoreTriplesFactory.create(triples.unique(dim=0), num_entities=60, num_relations=3)


def mean_rewards(run: PipelineResult, positives: torch.Tensor) -> tuple[float, float]:
    """The mean score, by the trained model, of what the trained generator draws, and of uniform negatives."""
    sampler = run.training_loop._sampler
    with torch.no_grad():
        drawn, uniform = sampler.propose(positives), sampler._draw_candidates(positives, 1)
        drawn, uniform = (run.model.score_hrt(x.triples.view(-1, 3)).mean().item() for x in (drawn, uniform))
    return drawn, uniform


def test_generator_learns_to_be_rewarded() -> None:
    """By name through the pipeline: the longer it learns, the more the model likes what it draws over what is uniform.

    On a graph whose relations have types, which both models can find.
    """
    graph, gains = typed_graph(0, 600), []
    for num_epochs in (1, 30):
        result = pipeline(
            training=graph,
            testing=typed_graph(1, 20),
            model="transe",
            model_kwargs={"embedding_dim": 16},
            optimizer_kwargs={"lr": 0.02},
            training_loop="adversarial",
            negative_sampler="kbgan",
            negative_sampler_kwargs={
                "generator_kwargs": {"embedding_dim": 16},
                "generator_optimizer_kwargs": {"lr": 0.02},
            },
            training_kwargs={"num_epochs": num_epochs, "batch_size": 50, "use_tqdm": False},
            evaluation_kwargs={"use_tqdm": False},
            random_seed=0,
            device="cpu",
        )
        drawn, uniform = mean_rewards(result, graph.mapped_triples.repeat(10, 1))
        gains.append(drawn - uniform)
    assert abs(gains[0]) < 0.1
    assert gains[1] > gains[0] + 0.2
