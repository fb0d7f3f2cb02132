"""The optimizers by rows against loops over the rows, and against PyTorch's optimizers of each row by itself."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.lr_scheduler import ExponentialLR

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.optim import RowAdagrad, RowAdam, RowOptimizer, SparseAdagrad
from pykeen_advneg.testing.graphs import same

EVERY = pytest.mark.parametrize("cls", [RowAdagrad, RowAdam, SparseAdagrad])
OPTIONS: dict[type[RowOptimizer], list[dict[str, float]]] = {
    RowAdagrad: [{"lr": 0.3}, {"lr": 0.05, "initial_accumulator_value": 0.7, "eps": 0.1}],
    RowAdam: [{"lr": 0.3}, {"lr": 0.05, "beta1": 0.5, "beta2": 0.8, "eps": 0.1}],
    SparseAdagrad: [{"lr": 0.3}, {"lr": 0.05, "initial_accumulator_value": 0.7, "eps": 0.1}],
}
EVERY_OPTION = [(cls, options) for cls, many in OPTIONS.items() for options in many]

#: the gradient of one step: the ids of rows, some of them more than once, and a value for each of them
Step = tuple[Tensor, Tensor]


def make_steps(n: int, shape: Sequence[int], ids: Sequence[Sequence[int]], seed: int = 0) -> tuple[Tensor, list[Step]]:
    """A parameter of n rows, and random gradients for the given ids."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.double)

    return randn(n, *shape), [(torch.tensor(rows).long(), randn(len(rows), *shape)) for rows in ids]


def sparse(start: Tensor, step: Step) -> Tensor:
    return torch.sparse_coo_tensor(step[0].unsqueeze(0), step[1], start.shape, check_invariants=True)


def dense(start: Tensor, step: Step) -> Tensor:
    return torch.zeros_like(start).index_add(0, *step)


Form = Callable[[Tensor, Step], Tensor]
FORMS = [sparse, dense]


def run(cls: type[RowOptimizer], start: Tensor, steps: Sequence[Step], form: Form, **options: float) -> Tensor:
    parameter = nn.Parameter(start.clone())
    optimizer = cls([parameter], **options)
    for step in steps:
        parameter.grad = form(start, step)
        optimizer.step()
    return parameter.detach()


def adagrad_twin(
    start: Tensor,
    steps: Sequence[Step],
    lr: float = 0.1,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
) -> Tensor:
    """The equation of the docstring, in Python's numbers, row by row."""
    rows = [row.flatten().tolist() for row in start]
    sums = [initial_accumulator_value] * len(rows)
    for ids, values in steps:
        for i, row in enumerate(rows):
            mine = [value.flatten().tolist() for j, value in zip(ids.tolist(), values, strict=True) if j == i]
            if not mine:
                continue
            gradient = [sum(numbers) for numbers in zip(*mine, strict=True)]
            sums[i] += sum(g * g for g in gradient) / len(gradient)
            rows[i] = [x - lr * g / (math.sqrt(sums[i]) + eps) for x, g in zip(row, gradient, strict=True)]
    return torch.tensor(rows, dtype=torch.double).view(start.shape)


def adam_twin(
    start: Tensor,
    steps: Sequence[Step],
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> Tensor:
    """PyTorch's Adam for each row, which takes a step where the row has a gradient."""
    rows = [nn.Parameter(row.clone()) for row in start]
    optimizers = [torch.optim.Adam([row], lr=lr, betas=(beta1, beta2), eps=eps) for row in rows]
    for ids, values in steps:
        for i, (row, optimizer) in enumerate(zip(rows, optimizers, strict=True)):
            if i in ids:
                row.grad = values[ids == i].sum(dim=0)
                optimizer.step()
    return torch.stack([row.detach() for row in rows])


def torch_adagrad(start: Tensor, steps: Sequence[Step], lr: float = 0.1, **options: float) -> Tensor:
    """PyTorch's Adagrad on dense gradients."""
    parameter = nn.Parameter(start.clone())
    optimizer = torch.optim.Adagrad([parameter], lr=lr, **options)
    for step in steps:
        parameter.grad = dense(start, step)
        optimizer.step()
    return parameter.detach()


TWINS: dict[type[RowOptimizer], Callable[..., Tensor]] = {
    RowAdagrad: adagrad_twin,
    RowAdam: adam_twin,
    SparseAdagrad: torch_adagrad,
}


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, list[Step]]:
    n = draw(st.integers(1, 5))
    shape = draw(st.lists(st.integers(1, 3), max_size=2))
    ids = draw(st.lists(st.lists(st.integers(0, n - 1), max_size=7), min_size=1, max_size=6))
    return make_steps(n, shape, ids, seed=draw(st.integers(0, 1000)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("cls", "options"), EVERY_OPTION)
@given(case=cases())
@settings(max_examples=60, deadline=None)
def test_twin(cls: type[RowOptimizer], options: dict[str, float], form: Form, case: tuple[Tensor, list[Step]]) -> None:
    """Also for gradients with the same row several times, for steps without any row, and for 1 to 3 dimensions."""
    torch.testing.assert_close(run(cls, *case, form, **options), TWINS[cls](*case, **options), rtol=1e-9, atol=1e-11)


@EVERY
def test_number(cls: type[RowOptimizer]) -> None:
    """A parameter without dimensions is one row of one element."""
    start, steps = make_steps(1, (), [[0], [0], [0]])
    parameter = nn.Parameter(start[0].clone())
    optimizer = cls([parameter])
    for _, values in steps:
        parameter.grad = values[0].clone()
        optimizer.step()
    torch.testing.assert_close(parameter.detach().view(1), TWINS[cls](start, steps), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_adam_where_all_rows_have_gradients(shape: tuple[int, ...]) -> None:
    start, steps = make_steps(5, shape, [range(5)] * 6)
    parameter = nn.Parameter(start.clone())
    theirs = torch.optim.Adam([parameter], lr=0.02)
    for step in steps:
        parameter.grad = dense(start, step)
        theirs.step()
    for form in FORMS:
        torch.testing.assert_close(run(RowAdam, start, steps, form, lr=0.02), parameter.detach())


def test_sparse_adam_differs() -> None:
    """As the docstring says: a row whose first gradient comes late takes a step of more than the learning rate."""
    start, steps = make_steps(2, (3,), [[0]] * 1000 + [[1]])
    parameter = nn.Parameter(start.clone())
    theirs = torch.optim.SparseAdam([parameter], lr=0.01)
    for step in steps:
        parameter.grad = sparse(start, step)
        theirs.step()
    change = (parameter.detach() - start)[1].abs()
    assert bool((change > 2 * 0.01).all())
    ours = (run(RowAdam, start, steps, sparse, lr=0.01) - start)[1].abs()
    torch.testing.assert_close(ours, torch.full_like(ours, 0.01), rtol=1e-4, atol=0.0)


@EVERY
@pytest.mark.parametrize("form", FORMS)
def test_other_rows_are_untouched(cls: type[RowOptimizer], form: Form) -> None:
    """Neither they nor their state change, bit for bit, even where they have been trained before."""
    start, steps = make_steps(6, (3,), [range(6), [1, 4, 1], [4]])
    parameter = nn.Parameter(start.clone())
    optimizer = cls([parameter], lr=0.1)
    for step in steps:
        before = parameter.detach().clone(), {k: v.clone() for k, v in optimizer.state[parameter].items()}
        parameter.grad = form(start, step)
        optimizer.step()
        others = torch.ones(6, dtype=torch.bool).index_fill(0, step[0], False)
        assert torch.equal(parameter.detach()[others], before[0][others])
        assert not bool((parameter.detach()[~others] == before[0][~others]).any())
        for name, value in before[1].items():
            now = optimizer.state[parameter][name]
            assert name == "step" or torch.equal(now[others], value[others]), name


@pytest.mark.parametrize("cls", [RowAdagrad, RowAdam, SparseAdagrad])
def test_zeros_in_sparse_gradients(cls: type[RowOptimizer]) -> None:
    """A row in the batch whose gradient is zero, as where a hinge is not active, counts as in a dense gradient."""
    start, steps = make_steps(3, (2,), [[0, 1], [1], [0]])
    steps[1][1].zero_()
    torch.testing.assert_close(run(cls, start, steps, sparse), run(cls, start, steps, dense), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cls", [RowAdagrad, RowAdam, SparseAdagrad])
def test_without_epsilon(cls: type[RowOptimizer]) -> None:
    """Zero divided by zero is no number."""
    with pytest.raises(ConfigurationError, match="optimizer_kwargs has eps=0"):
        cls([nn.Parameter(torch.ones(2))], eps=0.0)


def test_settings_of_groups() -> None:
    """Each group has its own, and a parameter without gradient is left alone."""
    start, steps = make_steps(4, (2,), [[0, 2], [2]])
    parameters = [nn.Parameter(start.clone()) for _ in range(3)]
    optimizer = RowAdagrad([{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.7, "eps": 0.3}], lr=0.2)
    for step in steps:
        for parameter in parameters[:2]:
            parameter.grad = sparse(start, step)
        optimizer.step()
    torch.testing.assert_close(parameters[0].detach(), adagrad_twin(start, steps, lr=0.2))
    torch.testing.assert_close(parameters[1].detach(), adagrad_twin(start, steps, lr=0.7, eps=0.3))
    assert torch.equal(parameters[2].detach(), start)
    assert [optimizer.num_steps(parameter) for parameter in parameters] == [2, 2, 0]


@EVERY
def test_rows(cls: type[RowOptimizer]) -> None:
    """Those of the last step, of parameters with a sparse gradient."""
    start, (step, *_) = make_steps(6, (2,), [[5, 1, 5, 3]])
    first, second = (nn.Parameter(start.clone()) for _ in range(2))
    optimizer = cls([first, second])
    first.grad, second.grad = sparse(start, step), dense(start, step)
    optimizer.step()
    assert {id(parameter): rows.tolist() for parameter, rows in optimizer.rows.items()} == {id(first): [1, 3, 5]}
    first.grad = None
    optimizer.step()
    assert optimizer.rows == {}


def test_closure() -> None:
    parameter = nn.Parameter(torch.ones(2, 2, dtype=torch.double))
    optimizer = RowAdagrad([parameter], lr=0.5)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (parameter**2).sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 4.0
    torch.testing.assert_close(parameter.detach(), torch.full((2, 2), 0.5, dtype=torch.double))
    assert optimizer.step() is None


@pytest.mark.parametrize("form", FORMS)
@EVERY
def test_state_goes_through_a_file(cls: type[RowOptimizer], form: Form) -> None:
    """In the middle of training, which then goes on to the same bits."""
    start, steps = make_steps(5, (3,), [[0, 1], [1, 4, 1], [0], [1, 2], [4, 0]])
    whole = run(cls, start.float(), [(ids, values.float()) for ids, values in steps], form, lr=0.1)
    first = nn.Parameter(start.float())
    optimizer: RowOptimizer = cls([first], lr=0.1)
    for i, (ids, values) in enumerate(steps):
        if i == 3:
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            first = nn.Parameter(first.detach().clone())
            optimizer = cls([first], lr=99.0)
            file.seek(0)
            optimizer.load_state_dict(torch.load(file, weights_only=True))
        first.grad = form(start.float(), (ids, values.float()))
        optimizer.step()
    assert torch.equal(first.detach(), whole)
    assert optimizer.num_steps(first) == len(steps)


@EVERY
def test_scheduler(cls: type[RowOptimizer]) -> None:
    """The first change of a row is the gradient's direction times the learning rate of its time."""
    start, steps = make_steps(4, (1,), [[0], [1], [2], [3]])
    parameter = nn.Parameter(start.clone())
    optimizer = cls([parameter], lr=0.8)
    scheduler = ExponentialLR(optimizer, gamma=0.5)
    for step in steps:
        parameter.grad = sparse(start, step)
        optimizer.step()
        scheduler.step()
    change = (parameter.detach() - start).abs().flatten()
    torch.testing.assert_close(change, torch.tensor([0.8, 0.4, 0.2, 0.1], dtype=torch.double), rtol=1e-5, atol=0.0)


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        *((cls, "lr", value) for cls in (RowAdagrad, RowAdam, SparseAdagrad) for value in (-0.1, math.nan, math.inf)),
        (RowAdagrad, "initial_accumulator_value", -1.0),
        (RowAdagrad, "eps", -1e-9),
        (RowAdam, "eps", math.inf),
        (RowAdam, "beta1", 1.0),
        (RowAdam, "beta1", -0.5),
        (RowAdam, "beta2", 1.5),
        (RowAdam, "beta2", math.nan),
        (SparseAdagrad, "lr", "0.1"),
    ],
)
def test_bad_settings(cls: type[RowOptimizer], name: str, value: float) -> None:
    parameters = [nn.Parameter(torch.ones(1))]
    with pytest.raises(ConfigurationError, match=rf"optimizer_kwargs has {name}={value!r}; choose"):
        cls(parameters, **{name: value})


@EVERY
def test_loaded_state_is_the_same(cls: type[RowOptimizer]) -> None:
    """What PyTorch does to a state on loading changes neither its types nor its numbers."""
    start, steps = make_steps(4, (2,), [[0, 1], [1]])
    first, second = (nn.Parameter(start.clone()) for _ in range(2))
    optimizer, other = cls([first]), cls([second])
    for step in steps:
        first.grad = sparse(start, step)
        optimizer.step()
    other.load_state_dict(optimizer.state_dict())
    assert same(other.state_dict(), optimizer.state_dict())
    assert other.num_steps(second) == 2
