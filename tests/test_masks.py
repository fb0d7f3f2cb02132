"""Masks which are hashes of places: the same with and without Numba, and distributed as independent numbers are."""

from __future__ import annotations

import builtins
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chi2, norm

from pykeen_advneg.queries import compiling, masks
from pykeen_advneg.queries.grouped import Grouped
from pykeen_advneg.queries.kernels import ABSOLUTE, SQUARE, Terms
from pykeen_advneg.queries.looked import Looked
from pykeen_advneg.queries.masks import Key, PairMasks, bernoulli
from pykeen_advneg.queries.mixing import Mixing, mixed_products, mixed_sums

SHAPE = torch.Size((64, 128, 50))

TOLERANCE = {torch.float32: dict(rtol=1e-4, atol=1e-5), torch.float64: dict(rtol=1e-10, atol=1e-12)}

RATES = [0.1, 0.39, 0.5, 0.9]


def key(rate: float, seed: int = 0) -> Key:
    return Key.draw(rate, None, torch.Generator().manual_seed(seed))


def slow_twin(place: int, given: Key) -> int:
    """The hash with Python's integers."""
    x = (place * 0x9E3779B9 + given.low) % 2**32
    x ^= x >> 16
    x = (x * 0x7FEB352D + given.high) % 2**32
    x ^= x >> 15
    x = (x * 0x846CA68B + given.high) % 2**32
    x ^= x >> 16
    return int(x < given.limit)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int8])
@pytest.mark.parametrize("threads", [0, 1, 2])
def test_hash(rate: float, dtype: torch.dtype, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By PyTorch, and by compiled loops with one and with two threads."""
    if not threads:
        monkeypatch.setattr(masks, "kernels", lambda _: None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    given = key(rate)
    assert bernoulli(torch.Size((7, 100)), given, dtype).flatten().tolist() == [slow_twin(i, given) for i in range(700)]


@pytest.mark.parametrize("rate", RATES)
def test_distribution(rate: float) -> None:
    """Mean, each component's mean, and correlations of neighbours in each direction and of two draws."""
    x = bernoulli(SHAPE, key(rate), torch.float64)
    other = bernoulli(SHAPE, key(rate, seed=1), torch.float64)
    centred, n = (x - rate) / (rate * (1 - rate)) ** 0.5, SHAPE.numel()
    assert abs(centred.mean()) * n**0.5 < norm.ppf(1 - 1e-4)
    for dim in ((0, 1), (0, 2), (1, 2)):
        rest = n // centred.sum(dim=dim).numel()
        statistic = (centred.sum(dim=dim) ** 2 / rest).sum()
        assert chi2.ppf(1e-4, n // rest) < statistic < chi2.ppf(1 - 1e-4, n // rest)
    pairs = [(centred, (other - rate) / (rate * (1 - rate)) ** 0.5)]
    for dim, size in enumerate(SHAPE):
        pairs += [(centred.narrow(dim, 0, size - lag), centred.narrow(dim, lag, size - lag)) for lag in (1, 2, 16)]
    for one, another in pairs:
        assert abs((one * another).mean()) * one.numel() ** 0.5 < norm.ppf(1 - 1e-5)


def test_places_do_not_depend_on_the_rate() -> None:
    """What is kept at a low rate is kept at a higher one: the limit is all that differs."""
    low, high = (bernoulli(SHAPE, key(rate), torch.float32) for rate in (0.2, 0.7))
    assert bool((low <= high).all())
    assert bool((low < high).any())


@pytest.mark.parametrize(("rate", "value"), [(0.0, 0.0), (1.0, 1.0), (1e-12, 0.0), (1 - 1e-12, 1.0)])
def test_no_chance(rate: float, value: float) -> None:
    assert bool((bernoulli(SHAPE, key(rate), torch.float32) == value).all())
    assert bool((PairMasks(key(rate), 3, torch.tensor([2, 0])).dense((4, 5)) == value).all())


def test_masks_of_pairs() -> None:
    """A pair has so many numbers, of which the components have some, in their order, or the same one twice."""
    numbers = bernoulli(torch.Size((6, 5, 4)), key(0.4), torch.float32)
    for components in ([0, 1, 2, 3], [3, 1], [2, 2, 0]):
        dense = PairMasks(key(0.4), 4, torch.tensor(components)).dense((6, 5))
        assert torch.equal(dense.float(), numbers[..., components])


def given(layout: str, dtype: torch.dtype, rate: float = 0.4) -> tuple[list[torch.Tensor], Mixing]:
    generator = torch.Generator().manual_seed(1)
    d, queries = 19, (4, 8) if layout == "grouped" else (32,)
    q, s, own = (torch.randn(*queries, d, generator=generator, dtype=dtype, requires_grad=True) for _ in range(3))
    c = torch.randn(*((4, 21) if layout == "grouped" else (100,)), d, generator=generator, dtype=dtype)
    ids = torch.randint(100, (32, 21), generator=generator)
    rule = Mixing(PairMasks(key(rate), 40, torch.randperm(40, generator=generator)[:d]), _layout(layout, ids))
    return [q, c.requires_grad_(), s, own], rule


def _layout(name: str, ids: torch.Tensor) -> Any:
    return Grouped(8) if name == "grouped" else Looked(ids)


def results(terms: Terms | None, with_scale: bool, layout: str, dtype: torch.dtype) -> list[torch.Tensor]:
    """The sums, and the gradients of a combination of them."""
    (q, c, s, own), rule = given(layout, dtype)
    used = [q, c, own] + ([s] if with_scale else [])
    if terms is None:
        sums = mixed_products(q, c, own, rule)
    else:
        sums = mixed_sums(q, c, s if with_scale else None, own, rule, terms)
    generator = torch.Generator().manual_seed(2)
    loss = sum((x * torch.randn(x.shape, generator=generator, dtype=dtype)).sum() for x in sums)
    return [*sums, *torch.autograd.grad(loss, used)]


@pytest.mark.parametrize(
    ("terms", "with_scale"), [(None, False), (ABSOLUTE, False), (ABSOLUTE, True), (SQUARE, False), (SQUARE, True)]
)
@pytest.mark.parametrize("layout", ["grouped", "looked"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_loops(
    terms: Terms | None, with_scale: bool, layout: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients as by PyTorch, a block of pairs at a time; the same bits for any number of threads."""
    pytest.importorskip("numba")
    fast = results(terms, with_scale, layout, dtype)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(threads, 2))
        again = results(terms, with_scale, layout, dtype)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(x, y) for x, y in zip(fast, again, strict=True))
    monkeypatch.setattr("pykeen_advneg.queries.mixing.kernels", lambda _: None)
    for x, y in zip(fast, results(terms, with_scale, layout, dtype), strict=True):
        torch.testing.assert_close(x, y, **TOLERANCE[dtype])


def test_not_a_number_stays() -> None:
    """What diverges is seen: no sum hides it."""
    (q, c, _, own), rule = given("looked", torch.float32)
    with torch.no_grad():
        c[int(rule.layout.ids_of(q, c)[0, 0])] = float("nan")
    plain, mixed = mixed_products(q, c, own, rule)
    assert bool(plain[0, 0].isnan())
    assert bool(mixed[0, 0].isnan())


@pytest.mark.parametrize("ids", [[[0, 100]], [[-1, 3]]])
def test_ids_out_of_range(ids: list[list[int]]) -> None:
    (q, c, _, own), rule = given("looked", torch.float32)
    with pytest.raises(IndexError, match="of 100 candidates"):
        mixed_products(q[:1], c, own[:1], Mixing(rule.weights, Looked(torch.tensor(ids))))


@pytest.mark.parametrize(("b", "k"), [(0, 3), (4, 0)])
def test_no_pairs(b: int, k: int) -> None:
    (q, c, _, own), rule = given("looked", torch.float32)
    plain, mixed = mixed_products(q[:b], c, own[:b], Mixing(rule.weights, Looked(torch.zeros(b, k, dtype=torch.long))))
    (plain.sum() + mixed.sum()).backward()
    assert plain.shape == mixed.shape == (b, k)
    assert c.grad is None or not c.grad.any()


@pytest.mark.slow
def test_machine_code_from_the_cache(tmp_path: Path) -> None:
    """The process which compiles and those which find machine code compute the same bits, with one and two threads."""
    pytest.importorskip("numba")
    code = (
        "import sys, torch; sys.path.insert(0, sys.argv[1]); torch.set_num_threads(int(sys.argv[2]))\n"
        "from test_masks import SQUARE, results\n"
        "for terms in (None, SQUARE):\n"
        "    found = results(terms, terms is not None, 'looked', torch.float32)\n"
        "    print([x.double().sum().item() for x in found], [x.flatten()[:50].tolist() for x in found])"
    )

    def run(threads: int) -> str:
        command = [sys.executable, "-c", code, str(Path(__file__).parent), str(threads)]
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": "2"}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    assert len({run(threads) for threads in (2, 2, 1, 1)}) == 1
    assert list(tmp_path.rglob("*.nbc"))


def test_without_numba(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once what to install."""
    original = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "numba" or "compiled" in (args[2] or () if len(args) > 2 else ()):
            raise ImportError("No module named 'numba'")
        return original(name, *args, **kwargs)

    compiling._compiled.cache_clear()
    monkeypatch.setattr(builtins, "__import__", refuse)
    with caplog.at_level(logging.INFO):
        assert compiling.kernels(torch.zeros(1)) is None
        assert compiling.kernels(torch.zeros(1)) is None
    monkeypatch.undo()
    compiling._compiled.cache_clear()
    assert caplog.text.count("pykeen-advneg[compiled]") == 1
