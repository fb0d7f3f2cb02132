"""DANS: the networks and their losses, against slow twins."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from dans_twins import bce, discriminator_twin, film_twin, generator_twin, omega_twin, teach_twin
from pykeen.nn.modules import ComplExInteraction, DistMultInteraction, RESCALInteraction, RotatEInteraction

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.sampling.dans.conditions import choose_condition, relation_condition
from pykeen_advneg.sampling.dans.networks import (
    Discriminator,
    Generator,
    Modulation,
    Networks,
    Sizes,
    discriminator_loss,
    generator_loss,
)
from pykeen_advneg.sampling.dans.proposals import Lesson
from pykeen_advneg.sampling.dans.teaching import teach
from pykeen_advneg.sampling.dans.views import RealView


@pytest.mark.parametrize("film", [True, False])
@pytest.mark.parametrize(("condition_dim", "dim"), [(5, 5), (9, 4)])
def test_generator(film: bool, condition_dim: int, dim: int) -> None:
    torch.manual_seed(0)
    generator = Generator(condition_dim, dim, film=film).double()
    conditions = torch.randn(7, condition_dim, dtype=torch.double)
    inputs = conditions + 0.01 * torch.randn_like(conditions)
    fakes = generator(inputs, generator.modulation(conditions), "batch")
    torch.testing.assert_close(fakes, generator_twin(generator, inputs, conditions))
    if film:
        without = Generator(condition_dim, dim, film=False).double()
        without.load_state_dict({k: v for k, v in generator.state_dict().items() if not k.startswith("film")})
        assert not torch.allclose(without(inputs, None, "batch"), fakes)


def test_statistics() -> None:
    """``batch`` leaves what is remembered alone, ``learn`` moves it, and ``remembered`` uses it, for one row, too."""
    torch.manual_seed(0)
    generator = Generator(4, 4)
    x = torch.randn(8, 4)
    modulation = generator.modulation(x)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    of_batch = generator(x, modulation, "batch")
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    torch.testing.assert_close(generator(x, modulation, "learn"), of_batch)
    assert not torch.equal(generator.norms[0].running_mean, before["norms.0.running_mean"])
    row = generator(x[:1], modulation.rows(torch.tensor([0])), "remembered")
    torch.testing.assert_close(row, generator(x, modulation, "remembered")[:1])
    with pytest.raises(ValueError, match="more than 1 value"):
        generator(x[:1], modulation.rows(torch.tensor([0])), "batch")


def test_linear_output_is_unbounded() -> None:
    torch.manual_seed(0)
    generator = Generator(4, 4, output="linear")
    generator.last.bias.data.fill_(7.0)
    x = torch.randn(8, 4)
    assert float(generator(x, generator.modulation(x), "batch").detach().min()) > 1


def test_distance_of_film() -> None:
    torch.manual_seed(0)
    generator = Generator(3, 5)
    conditions = torch.randn(6, 3)
    rows = [film_twin(generator, condition) for condition in conditions]
    a2, b2 = (torch.stack([row[i] for row in rows]) for i in (2, 3))
    modulation = generator.modulation(conditions)
    assert modulation is not None
    torch.testing.assert_close(modulation.distance(), omega_twin(generator, conditions))
    residual = Generator(3, 5, residual=True)
    residual.load_state_dict(generator.state_dict())
    moved = residual.modulation(conditions)
    assert moved is not None
    torch.testing.assert_close(moved.alphas[1], a2 + 1)
    torch.testing.assert_close(moved.betas[1], b2)
    nothing = Modulation((torch.ones(2, 5),) * 2, (torch.zeros(2, 5),) * 2)
    assert float(nothing.distance()) == 0


def test_discriminator() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(6, auxiliary=True)
    x = torch.randn(4, 6)
    adversarial, auxiliary = discriminator(x)
    assert not torch.allclose(adversarial, auxiliary)
    torch.testing.assert_close((adversarial.sigmoid(), auxiliary.sigmoid()), discriminator_twin(discriminator, x))
    assert [tuple(p.shape) for p in discriminator.parameters() if p.ndim == 2] == [
        *((50, 6), (32, 50)),
        *((16, 32), (8, 16), (1, 8)) * 2,
    ]


def test_discriminator_loss_is_that_of_both_sides() -> None:
    """The authors' sum over the sides, of fakes of both generators, with its factors."""
    torch.manual_seed(0)
    real = {side: torch.randn(5) for side in "th"}
    fake = {key: torch.randn(5) for key in itertools.product("ER", "th")}
    pathway = {key: torch.randn(5) for key in itertools.product("ER", "th")}
    expected = sum(bce(x.sigmoid(), 1) for x in real.values())
    for side in "th":
        adversarial = bce(torch.cat([fake["E", side], fake["R", side]]).sigmoid(), 0)
        p = [pathway[x, side].sigmoid() for x in "ER"]
        auxiliary = (bce(p[0], 1) + bce(p[1], 0)) / 2
        expected = expected + (adversarial + auxiliary) / 2
    loss, auxiliary = discriminator_loss(
        torch.cat(list(real.values())),
        torch.cat(list(fake.values())),
        torch.cat(list(pathway.values())),
        torch.tensor([1.0] * 10 + [0.0] * 10),
    )
    torch.testing.assert_close(loss, expected / 4)
    assert float(auxiliary) > 0
    without, nothing = discriminator_loss(torch.cat(list(real.values())), torch.cat(list(fake.values())))
    torch.testing.assert_close(without, loss - auxiliary / 4)
    assert float(nothing) == 0


def test_generator_loss_is_that_of_both_sides() -> None:
    torch.manual_seed(0)
    logits, distances = torch.randn(10), [torch.tensor(3.0), torch.tensor(5.0)]
    expected = (bce(logits[:5].sigmoid(), 1) + bce(logits[5:].sigmoid(), 1)) / 2 + 0.1 * (3 + 5) / 2
    torch.testing.assert_close(generator_loss(logits, distances, 0.1), expected)
    torch.testing.assert_close(generator_loss(logits, [], 0.1), expected - 0.4)


def make_networks(**kwargs: Any) -> Networks:
    torch.manual_seed(0)
    sizes = Sizes(4, {"entity": 4, "relation": 4})
    return Networks(**{"sizes": sizes, "film": True, "residual": False, "auxiliary": True, "output": "tanh", **kwargs})


def lesson(b: int = 6) -> Lesson:
    generator = torch.Generator().manual_seed(1)
    x = [torch.randn(b, 2, 4, generator=generator) for _ in range(2)]
    return Lesson(torch.randn(2 * b, 4, generator=generator), {"entity": x[0], "relation": x[1]})


@pytest.mark.parametrize(
    "options", [dict(), dict(auxiliary=False), dict(film=False), dict(sizes=Sizes(4, {"relation": 4}), auxiliary=False)]
)
def test_lesson_is_that_of_the_twin(options: dict[str, Any]) -> None:
    """Parameters, fakes and losses after a lesson with noise, of different conditions for the two generators."""
    networks, given = make_networks(**options).double(), lesson(3)
    given = Lesson(given.real.double(), {name: given.conditions[name].double() for name in networks.generators})
    slow = copy.deepcopy(networks)
    before = copy.deepcopy(networks.state_dict())
    parts = {**networks.generators, "discriminator": networks.discriminator}
    optimizers = {name: torch.optim.SGD(part.parameters(), lr=0.5) for name, part in parts.items()}

    def step(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    torch.manual_seed(7)
    fakes, losses = teach(
        networks, optimizers, given, step=step, noise=0.5, film_regularization=0.1, discriminator_steps=2
    )
    torch.manual_seed(7)
    noises = [0.5 * torch.randn(6, 4, dtype=torch.double) for _ in networks.generators]
    expected, expected_losses = teach_twin(slow, given, noises, weight=0.1, steps=2, lr=0.5)
    torch.testing.assert_close(fakes, torch.cat(expected))
    assert {name: float(value) for name, value in losses.items()} == pytest.approx(expected_losses)
    for name, parameter in networks.named_parameters():
        torch.testing.assert_close(parameter, slow.get_parameter(name), msg=lambda text, name=name: f"{name}: {text}")
        assert not torch.equal(parameter, before[name])
    for name, generator in networks.generators.items():
        assert not torch.equal(generator.norms[0].running_mean, before[f"generators.{name}.norms.0.running_mean"])


def test_order_of_a_lesson() -> None:
    """A step of each generator, then those of the discriminator, all on the same fakes; nobody moves another one."""
    networks = make_networks()
    parts = {"entity": networks.generators["entity"], "relation": networks.generators["relation"]}
    parts["discriminator"] = networks.discriminator
    optimizers = {name: torch.optim.SGD(part.parameters(), lr=0.1) for name, part in parts.items()}
    order = []

    def step(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        before = {name: [p.detach().clone() for p in part.parameters()] for name, part in parts.items()}
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        moved = [
            name
            for name, part in parts.items()
            if any(not torch.equal(p, q) for p, q in zip(part.parameters(), before[name], strict=True))
        ]
        order.extend(moved)

    fakes, metrics = teach(
        networks, optimizers, lesson(), step=step, noise=0.01, film_regularization=1e-4, discriminator_steps=3
    )
    assert order == ["entity", "relation", "discriminator", "discriminator", "discriminator"]
    assert fakes.shape == (24, 4)
    assert set(metrics) == {
        "generator_loss_entity",
        "generator_loss_relation",
        "discriminator_loss",
        "auxiliary_loss",
    }


@pytest.mark.parametrize("auxiliary", [True, False])
def test_all_parameters_learn(auxiliary: bool) -> None:
    """FiLM and the auxiliary head, too; there is no auxiliary loss without one."""
    networks = make_networks(auxiliary=auxiliary)
    modules = {**networks.generators, "discriminator": networks.discriminator}
    optimizers = {name: torch.optim.SGD(module.parameters(), lr=0.1) for name, module in modules.items()}
    gradients = {}

    def step(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        loss.backward()
        names = {parameter: name for name, parameter in networks.named_parameters()}
        for parameter in optimizer.param_groups[0]["params"]:
            gradients[names[parameter]] = parameter.grad.abs().max()
        optimizer.step()

    _, metrics = teach(
        networks, optimizers, lesson(), step=step, noise=0.01, film_regularization=1e-4, discriminator_steps=1
    )
    assert gradients.keys() == dict(networks.named_parameters()).keys()
    assert [name for name, value in gradients.items() if not value > 0] == []
    assert any("film" in name for name in gradients)
    assert ("auxiliary_loss" in metrics) == auxiliary == any("auxiliary" in name for name in gradients)


def test_film_regularization_pulls_to_one() -> None:
    """With a huge weight, FiLM goes to doing nothing."""
    networks = make_networks(residual=True)
    modules = {**networks.generators, "discriminator": networks.discriminator}
    optimizers = {name: torch.optim.Adam(module.parameters(), lr=0.01) for name, module in modules.items()}

    def step(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    condition = lesson().conditions["entity"].flatten(end_dim=1)
    generator = networks.generators["entity"]
    before = generator.modulation(condition).distance()
    for _ in range(60):
        teach(networks, optimizers, lesson(), step=step, noise=0.01, film_regularization=1e3, discriminator_steps=1)
    assert float(generator.modulation(condition).distance()) < 0.2 * float(before)


def test_conditions() -> None:
    torch.manual_seed(0)
    e, r = torch.randn(4, 6), torch.randn(4, 6)
    r[0, 0] = -1e-9
    tails, heads = relation_condition("product", "product")
    torch.testing.assert_close(tails(e, r), e * r)
    torch.testing.assert_close(heads(e, r), e * r)
    _, heads = relation_condition("product", "reciprocal")
    torch.testing.assert_close(heads(e[1:], r[1:]), e[1:] / r[1:])
    torch.testing.assert_close(heads(e, r)[0, 0], e[0, 0] / -1e-3)
    tails, heads = relation_condition("translation", "product")
    torch.testing.assert_close(heads(tails(e, r), r), e)
    tails, heads = relation_condition("concatenation", "product")
    assert tails(e, r[:, :2]).shape == (4, 8)
    assert not torch.equal(tails(e, r), heads(e, r))
    tails, heads = relation_condition("rotation", "product")
    for row in range(4):
        for i in range(3):
            z, w = complex(*e[row, 2 * i : 2 * i + 2]), complex(*r[row, 2 * i : 2 * i + 2])
            for function, value in ((tails, z * w), (heads, z * w.conjugate())):
                x = function(e, r)[row, 2 * i : 2 * i + 2]
                torch.testing.assert_close(x, torch.tensor([value.real, value.imag]))
    r = torch.nn.functional.normalize(r.view(4, 3, 2), dim=-1).view(4, 6)
    torch.testing.assert_close(heads(tails(e, r), r), e)


REAL, WIDE = RealView((torch.Size([6]),), (False,)), RealView((torch.Size([6, 6]),), (False,))
COMPLEX = RealView((torch.Size([3]),), (True,))


def test_choice_of_the_condition() -> None:
    assert choose_condition(DistMultInteraction(), REAL, REAL, "auto") == "product"
    assert choose_condition(RotatEInteraction(), COMPLEX, COMPLEX, "auto") == "rotation"
    # R-GCN has real entities whatever the decoder
    assert choose_condition(ComplExInteraction(), REAL, REAL, "auto") == "product"
    assert choose_condition(RESCALInteraction(), REAL, WIDE, "auto") == "concatenation"
    assert choose_condition(DistMultInteraction(), REAL, REAL, "translation") == "translation"
    with pytest.raises(ConfigurationError, match="condition='rotation' does not fit DistMultInteraction"):
        choose_condition(DistMultInteraction(), REAL, REAL, "rotation")
    with pytest.raises(ConfigurationError, match="condition='product' does not fit RESCALInteraction"):
        choose_condition(RESCALInteraction(), REAL, WIDE, "product")


def test_real_view() -> None:
    parts = [torch.randn(2, 3), torch.randn(2, 2, 2, dtype=torch.cfloat), torch.randn(2)]
    view = RealView.of(parts)
    x = view.flatten(parts)
    assert x.shape == (2, view.dim) == (2, 3 + 8 + 1)
    for prefix in ((), (5,)):
        again = view.split(x.unsqueeze(1).expand(2, *prefix, view.dim) if prefix else x)
        for part, other in zip(parts, again, strict=True):
            torch.testing.assert_close(other[:, 0] if prefix else other, part)
