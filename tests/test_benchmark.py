"""The benchmark: what it does with numbers, and that its parts fit together. No time is asserted."""

from __future__ import annotations

import itertools
import json
import math
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from pykeen.datasets import Nations
from pykeen.models import DistMult
from pykeen.regularizers import LpRegularizer, NoRegularizer
from pykeen.training import SLCWATrainingLoop
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from pykeen_advneg import cli
from pykeen_advneg.benchmark import (
    arms,
    evaluating,
    machine,
    memory,
    picture,
    probes,
    ranks,
    reaching,
    records,
    report,
    roofline,
    runner,
    settings,
    steps,
)
from pykeen_advneg.benchmark.graphs import Graph, random_graph
from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.sampling.making import make_sampler
from pykeen_advneg.training import AdversarialTrainingLoop
from pykeen_advneg.training.batches import draw_negatives

TINY: dict[str, Any] = {
    "dataset": "nations",
    "models": ("distmult",),
    "negatives": (3,),
    "dim": 4,
    "batch_size": 100,
    "chunk_size": 20,
    "threads": 1,
    "repeats": 2,
    "seconds": 0.001,
}


def tiny(**changes: Any) -> settings.Settings:
    return settings.Settings.from_options({**TINY, **changes}, quick=True)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return Graph.of("nations", Nations().training)


class FakeProbe(probes.Probe):
    """Writes down when it is asked."""

    kind, unit, setup = "training", "positives/s", {}

    def __init__(self, arm: str, log: list[tuple[str, int]], values: Callable[[int], float] = float) -> None:
        self.arm, self.case, self.log, self.values = arm, {"model": "distmult", "negatives": 3}, log, values

    def prepare(self) -> None:
        self.log.append((self.arm, -1))

    def measure(self, repeat: int) -> probes.Sample:
        self.log.append((self.arm, repeat))
        return probes.Sample(self.values(repeat), {"steps": repeat})


# What is asked for


def test_presets_and_options() -> None:
    full, quick = (settings.Settings.from_options({}, quick) for quick in (False, True))
    assert (full.dataset, full.negatives, full.threads) == ("fb15k237", (32, 256), settings.available_cores())
    assert quick.dataset == "kinships"
    assert quick.dim < full.dim
    assert quick.sweeps["entities"] != full.sweeps["entities"]
    given = settings.Settings.from_options({"dim": 7, "seed": None, "sweeps": {"dim": (3, 5)}}, quick=True)
    assert (given.dim, given.seed, given.sweeps["dim"]) == (7, 0, (3, 5))
    assert given.sweeps["negatives"] == quick.sweeps["negatives"]
    assert set(full.sweeps) == set(settings.SWEEPS)


def test_settings_have_no_paths() -> None:
    assert tiny(dataset="/some/where/graph").to_mapping()["dataset"] == "graph"


@pytest.mark.parametrize(("most", "expected"), [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8))])
def test_threads_are_swept_in_powers_of_two(
    most: int, expected: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "available_cores", lambda: 8)
    assert tiny(threads=most).sweeps["threads"] == expected


def test_numbers() -> None:
    assert settings.numbers("--negatives", "32, 1_000") == (32, 1000)
    assert settings.numbers("--negatives", None) is None
    assert settings.sweeps(["dim=1,2", "batch-size=3"]) == {"dim": (1, 2), "batch_size": (3,)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--negatives", "32,x"], "--negatives '32,x': 'x' is no whole number"),
        (["--negatives", "0"], "--negatives 0 is too small; choose at least 1"),
        (["--negatives", "8,8"], "--negatives has a number twice"),
        (["--dim", "0"], "--dim 0 is too small"),
        (["--repeats", "0"], "--repeats 0 is too small"),
        (["--seconds", "-1"], "--seconds -1.0 must be a positive number"),
        (["--engine-lr", "nan"], "--engine-lr nan must be a positive number"),
        (["--target-mrr", "1.5"], "--target-mrr 1.5 must be between 0 and 1"),
        (["--threads", "4096"], "--threads 4096: this process may use"),
        (["--models", ","], "--models is empty"),
        (["--models", "distmult,transee"], "--models 'transee' is not known; did you mean transe"),
        (["--models", "distmult-l1"], "--models 'distmult-l1' cannot be trained"),
        (["--models", "nodepiece"], "--models 'nodepiece' cannot be trained"),
        (["--loss", "crossentrop"], "--loss 'crossentrop' is not known; did you mean crossentropy"),
        (["--regularizer", "l3"], "--regularizer 'l3' is not known"),
        (["--stock-optimizer", "adm"], "--stock-optimizer 'adm' is not known; did you mean adam"),
        (["--sweep", "dim"], "--sweep 'dim' is malformed"),
        (["--sweep", "dims=3"], "--sweep 'dims' is not known; did you mean dim"),
        (["--sweep", "entities=1"], "--sweep entities 1 is too small"),
        (["--dataset", "natins"], "dataset 'natins' is neither a data set of PyKEEN nor a folder"),
        (["--batch-size", "1000"], "has 1592 training triples, but 3 whole batches are needed; choose at most 530"),
    ],
)
def test_bad_values_are_one_line_and_nothing_is_made(arguments: list[str], message: str, tmp_path: Path) -> None:
    command = ["bench", "scaling", "--quick", "--dataset", "nations", *arguments, "--out", str(tmp_path / "out")]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, command)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not (tmp_path / "out").exists()


def test_too_few_entities_for_kbgan(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has 14 entities, but KBGAN has 20 candidates"):
        runner.run(["kbgan"], tiny(), tmp_path / "out", quiet=True)


def test_help_loads_neither_torch_nor_pykeen() -> None:
    code = (
        "import sys\nfrom pykeen_advneg.cli import app\n"
        "try:\n    app(sys.argv[1:])\nexcept SystemExit as end:\n    code = end.code\n"
        "print([name for name in ('torch', 'pykeen', 'pandas', 'matplotlib') if name in sys.modules], code)"
    )
    for arguments, end in ((["all", "--help"], 0), (["training", "--out", "x", "--dim", "0"], 2)):
        command = [sys.executable, "-c", code, "bench", *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert result.stdout.splitlines()[-1] == f"[] {end}"


# In turns


def test_order_alternates() -> None:
    log: list[tuple[str, int]] = []
    advanced = itertools.count()
    two = [FakeProbe(arm, log) for arm in ("stock", "engine")]
    samples = probes.interleave(two, 3, lambda: next(advanced))
    turns = [("stock", 0), ("engine", 0), ("engine", 1), ("stock", 1), ("stock", 2), ("engine", 2)]
    assert log == [("stock", -1), ("engine", -1), *turns]
    assert next(advanced) == 6
    assert [[sample.value for sample in own] for own in samples] == [[0, 1, 2]] * 2


@given(st.integers(1, 9), st.integers(0, 99))
def test_every_probe_has_the_same_mean_place(count: int, repeat: int) -> None:
    """What comes before and after another cancels over two repeats."""
    first, second = (list(probes.order(count, each)) for each in (repeat, repeat + 1))
    assert {first.index(i) + second.index(i) for i in range(count)} == {count - 1}


# Steps


@given(st.floats(1e-3, 100), st.floats(1e-6, 100), st.integers(3, 10_000))
def test_number_of_steps(seconds: float, step: float, available: int) -> None:
    number = steps.steps_within(seconds, step, available)
    assert 3 <= number <= available
    counted = number - steps.SKIPPED
    assert counted * step <= seconds + step  # not longer than asked, up to one step
    if number < available:
        assert (counted + 1) * step >= seconds  # not shorter either


def test_clock_leaves_out_the_first_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = steps.StepClock()
    for now in (100.0, 107.0, 109.0, 110.0, 110.5):
        monkeypatch.setattr("time.perf_counter", lambda now=now: now)
        clock.post_batch(epoch=1, batch=None)
    # the step from the first to the second batch has the update by the first
    assert clock.steps == [2.0, 1.0, 0.5]


def test_subset(graph: Graph) -> None:
    triples = set(map(tuple, graph.triples.tolist()))
    factory = graph.factory(300, seed=1)
    drawn = set(map(tuple, factory.mapped_triples.tolist()))
    assert len(drawn) == 300
    assert drawn < triples
    assert (factory.num_entities, factory.num_relations) == (14, 55)
    assert drawn != set(map(tuple, graph.factory(300, seed=2).mapped_triples.tolist()))
    assert torch.equal(graph.factory().mapped_triples, graph.triples)


def test_random_graph() -> None:
    drawn = random_graph(1000, seed=0)
    assert drawn.triples.shape == (272_115, 3)
    # each entity is expected 272 times a column; a deviation by 8 standard deviations is no chance
    for column in (0, 2):
        counts = torch.bincount(drawn.triples[:, column], minlength=1000).double()
        assert len(counts) == 1000
        assert (counts - 272.115).abs().max() < 8 * 272.115**0.5
    assert len(torch.bincount(drawn.triples[:, 1])) == drawn.num_relations == 237


class SpiedWork(arms.Work):
    """Keeps the loops which it makes."""

    loops: ClassVar[list[SLCWATrainingLoop]] = []

    def make_loop(self, *args: Any) -> SLCWATrainingLoop:
        self.loops.append(super().make_loop(*args))
        return self.loops[-1]


@pytest.mark.parametrize("make", [arms.stock, arms.engine])
@pytest.mark.parametrize("count", [3, 7])
def test_a_step_probe_trains_its_arm(make: Callable[..., arms.Arm], count: int, graph: Graph) -> None:
    own = tiny()
    work = SpiedWork(**vars(arms.Work.of(own)))
    probe = steps.StepProbe("training", work.case, make(own, 3), work, lambda: graph, own)
    assert len(probe.train(graph, count, seed=0)) == count - 2
    loop = SpiedWork.loops.pop()
    assert type(loop) is (SLCWATrainingLoop if make is arms.stock else AdversarialTrainingLoop)
    assert type(loop.model) is DistMult
    assert loop.model.entity_representations[0].shape == (4,)
    assert len(loop.losses_per_epochs) == 1


def test_throughput_is_derived_from_the_median_step(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tiny()
    work = arms.Work.of(own)
    asked = []

    def train(self: Any, graph: Graph, num_steps: int, seed: int) -> list[float]:
        asked.append((num_steps, seed))
        return [0.5, 0.25, 8.0]

    monkeypatch.setattr(steps.StepProbe, "train", train)
    values = {}
    for unit in ("positives/s", "ms", "GFLOP/s"):
        probe = steps.StepProbe("training", {}, arms.engine(own, 3), work, lambda: graph, own, unit)
        probe.prepare()
        sample = probe.measure(repeat=4)
        values[unit] = sample.value
        assert sample.details == {"ms a step": 500.0, "scores/s": 800.0, "steps": 1}
    assert values == {"positives/s": 200.0, "ms": 500.0, "GFLOP/s": 6 * 4 * 100 * 3 / 0.5 / 1e9}
    assert asked[:2] == [(3, 0), (3, 4)]


def test_arms_differ_in_what_they_should() -> None:
    own = tiny(stock_lr=0.5, engine_optimizer="rowadam")
    stock, engine = arms.stock(own, 3), arms.engine(own, 3)
    assert (stock.training_loop, stock.negative_sampler, stock.optimizer) == ("slcwa", "basic", "adam")
    assert (engine.training_loop, engine.negative_sampler, engine.optimizer) == ("adversarial", "shared", "rowadam")
    assert (stock.optimizer_kwargs, engine.optimizer_kwargs) == ({"lr": 0.5}, {})
    assert engine.negative_sampler_kwargs == {"num_negs_per_pos": 3, "chunk_size": 20}
    names = ("stock", "shared", "unshared", "kbgan", "kbgan-shared")
    by_name = {arm.name: arm for arm in arms.kbgan_arms(own)}
    assert tuple(by_name) == names
    assert [by_name[name].negative_sampler for name in names] == ["basic", "shared", "basic", "kbgan", "kbgan"]
    assert {by_name[name].optimizer for name in names[1:]} == {"rowadam"}
    assert [by_name[name].negative_sampler_kwargs.get("num_negs_per_pos") for name in names[:4]] == [20, 20, 20, None]
    assert by_name["kbgan"].negative_sampler_kwargs == {"num_candidates": 20}
    assert by_name["kbgan-shared"].negative_sampler_kwargs == {"num_candidates": 20, "chunk_size": 20}


def test_arms_of_emu() -> None:
    """Each has the same number of negatives, and the same loop and optimizer as its base."""
    own = arms.emu_arms(tiny(), 3)
    assert [arm.name for arm in own] == ["shared", "unshared", "emu", "emu-unshared"]
    assert [arm.negative_sampler for arm in own] == ["shared", "basic", "emu", "emu"]
    assert {(arm.training_loop, arm.optimizer) for arm in own} == {("adversarial", "sparseadagrad")}
    assert {arm.negative_sampler_kwargs["num_negs_per_pos"] for arm in own} == {3}
    assert own[2].negative_sampler_kwargs["base_kwargs"] == {"chunk_size": 20}
    assert [arm.negative_sampler_kwargs["masks"] for arm in own[2:]] == ["shared", "independent"]
    assert [arm.scores_per_positive for arm in own] == [4, 4, 7, 7]


def test_emu_beside_its_bases(graph: Graph) -> None:
    (probes,) = list(steps.emu_jobs(tiny(models=("distmult",), negatives=(2, 5)), graph))
    assert [probe.arm for probe in probes] == ["shared", "unshared", "emu", "emu-unshared"]
    assert {probe.case["negatives"] for probe in probes} == {5}
    for probe in probes:
        probe.prepare()
        assert probe.measure(0).value > 0


def test_mmrns_beside_uniform_negatives(graph: Graph) -> None:
    """Loop, optimizer, and number of negatives are the same; what it looks at is written, numbers are not."""
    (probes,) = list(steps.mmrns_jobs(tiny(), graph))
    assert [probe.arm for probe in probes] == ["unshared", "mmrns", "mmrns-text", "mmrns-text-image", "mmrns-third"]
    own = [probe.setup for probe in probes]
    assert {(setup["training_loop"], setup["optimizer"]) for setup in own} == {("adversarial", "adam")}
    assert {setup["negative_sampler_kwargs"]["num_negs_per_pos"] for setup in own} == {20}
    assert [setup.get("features", ()) for setup in own] == [(), (), ("text",), ("text", "image"), ("text", "image")]
    json.dumps(own)
    for probe in probes[::4]:
        probe.prepare()
        assert probe.measure(0).value > 0
    loop = probes[3].work.make_loop(probes[3].how, graph.factory(), 0)
    assert loop.negative_sampler_kwargs["features"].modalities == ("text", "image")


@pytest.mark.parametrize(("name", "p"), [("transe-l1", 1), ("transe-l2", 2)])
def test_norms_of_distances(name: str, p: int, graph: Graph) -> None:
    model = arms.Work.of(tiny(models=(name,), regularizer="no")).make_model(graph.factory(), seed=0)
    assert model.interaction.p == p  # type: ignore[attr-defined]


@pytest.mark.parametrize(("given", "kind"), [("no", NoRegularizer), ("lp", LpRegularizer), (None, LpRegularizer)])
def test_regulariser_replaces_the_own_one(given: str | None, kind: type, graph: Graph) -> None:
    """That of ComplEx has parameters which others do not know."""
    model = arms.Work.of(tiny(models=("complex",), regularizer=given)).make_model(graph.factory(), seed=0)
    (entities,) = model.entity_representations  # type: ignore[attr-defined]
    assert type(entities.regularizer) is kind


def test_scaling_sweeps_one_size_at_a_time(graph: Graph) -> None:
    own = tiny(sweeps={"entities": (50, 90), "dim": (2, 4), "negatives": (1,), "batch_size": (10,)})
    jobs = {job[0].case["sweep"]: job for job in steps.scaling_jobs(own, graph)}
    assert set(jobs) == set(settings.SWEEPS)
    for sweep, job in jobs.items():
        assert [(probe.case["value"], probe.arm) for probe in job] == [
            (value, arm) for value in own.sweeps[sweep] for arm in ("stock", "engine")
        ]
        for probe in job:
            assert isinstance(probe, steps.StepProbe)
            assert probe.unit == "ms"
            sizes = {**{name: getattr(arms.Work.of(own), name) for name in ("dim", "negatives", "batch_size")}}
            sizes |= {sweep: probe.case["value"]} if sweep in sizes else {}
            assert {name: getattr(probe.work, name) for name in sizes} == sizes
            assert probe.how.negative_sampler_kwargs["num_negs_per_pos"] == probe.work.negatives
            assert probe.graph().num_entities == (probe.case["value"] if sweep == "entities" else 14)


# The roofline


@pytest.mark.parametrize(("dim", "batch_size", "negatives", "chunk"), [(24, 256, 16, 64), (8, 60, 5, 20)])
def test_operations_are_those_that_torch_counts(dim: int, batch_size: int, negatives: int, chunk: int) -> None:
    own = tiny(dim=dim, batch_size=batch_size, negatives=(negatives,), chunk_size=chunk)
    work, arm, factory = arms.Work.of(own), arms.engine(own, negatives), random_graph(500, 0).factory(batch_size)
    loop = work.make_loop(arm, factory, seed=0)
    assert isinstance(loop, AdversarialTrainingLoop)
    loop.model.eval()
    sampler = make_sampler(arm.negative_sampler, arm.negative_sampler_kwargs, factory)
    drawn = draw_negatives(sampler, factory.mapped_triples)
    with FlopCounterMode(display=False) as counter:
        loop.scorer.negatives(drawn).sum().backward()
    assert counter.get_total_flops() == steps.flops_per_step(work)


def test_traffic_of_a_score() -> None:
    """By hand, for a whole chunk: rows of queries and of candidates are moved four times, scores take 24 bytes."""
    dim, negatives, chunk = 200, 256, 128
    moved = (chunk + negatives) * dim * 4 * 4 + chunk * negatives * 24
    assert roofline.bytes_per_score(dim, negatives, chunk) == pytest.approx(moved / (chunk * negatives))
    assert roofline.intensity(dim, negatives, chunk) == pytest.approx(6 * dim * chunk * negatives / moved)


def test_share_of_the_roof() -> None:
    case = {"operations_a_byte": 4.0}
    own = [
        measured("roofline", arm, unit, values, case=case)
        for arm, unit, values in (
            ("copy 256 MB", "GB/s", [10.0, 30.0, 10.0]),
            ("copy 4 MB", "GB/s", [90.0, 90.0, 90.0]),
            ("SGEMM", "GFLOP/s", [100.0, 100.0, 100.0]),
            ("engine", "GFLOP/s", [10.0, 30.0, 30.0]),
            ("stock", "GFLOP/s", [1.0, 1.0, 1.0]),
        )
    ]
    # the large copy bounds the first and the last repeat by 40, the product the second by 100
    assert report.share_of_roof(own[3], own) == records.Spread(0.3, pytest.approx(0.275), pytest.approx(0.525))
    assert report.share_of_roof(own[4], own) is None
    assert report.share_of_roof(own[3], own[3:]) is None


@pytest.mark.parametrize("kind", ["machine", "roofline"])
def test_the_machine_is_measured(kind: str, graph: Graph) -> None:
    own = tiny(copy_megabytes=1)
    (job,) = runner.jobs(kind, own, Nations(), graph)
    assert [probe.arm for probe in job][:3] == ["copy 1 MB", "copy 4 MB", "SGEMM"]
    assert [probe.arm for probe in job][3:] == (["scorer", "engine", "stock"] if kind == "roofline" else [])
    for probe in job:
        probe.prepare()
        assert math.isfinite(probe.measure(0).value)


def test_calls_are_timed_by_their_median(monkeypatch: pytest.MonkeyPatch) -> None:
    durations = iter([9.0, 9.0, 1.0, 2.0, 7.0, 99.0])
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def call() -> None:
        now[0] += next(durations)

    assert probes.seconds_per_call(call, 20.0) == 2.0
    assert next(durations) == 99.0


# Evaluation and filter


def test_evaluators_agree_and_are_compared(graph: Graph) -> None:
    own = tiny(eval_triples=50, train_epochs=1)
    (job,) = evaluating.evaluation_jobs(own, Nations(), graph)
    stock, engine = probes.interleave(job, 1, lambda: None)
    assert stock[0].details["triples"] == 50
    assert engine[0].details["triples"] == 199
    assert engine[0].details["largest difference"] < 1e-6
    for (sample,), count in ((stock, 50), (engine, 199)):
        assert sample.details["seconds for all"] == pytest.approx(199 / sample.value)
        assert sample.value * sample.details["seconds for all"] * count / 199 == pytest.approx(count)


def test_a_difference_of_metrics_is_found(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = evaluating.evaluation_jobs(tiny(eval_triples=50, train_epochs=1), Nations(), graph)
    engine = job[1]
    assert isinstance(engine, evaluating.EvaluationProbe)
    expected = engine.trained.metrics
    monkeypatch.setattr(engine.trained, "metrics", {**expected, "hits_at_3": expected["hits_at_3"] - 0.125})
    assert engine.measure(0).details["largest difference"] == pytest.approx(0.125)


def test_what_is_known(graph: Graph) -> None:
    triples = torch.cartesian_prod(torch.arange(14), torch.arange(55), torch.arange(14))
    known = set(map(tuple, graph.triples.tolist()))
    assert evaluating.is_known(triples, graph).tolist() == [tuple(each) in known for each in triples.tolist()]


def test_false_hits_are_counted(graph: Graph) -> None:
    class Wrong(evaluating.ExactFilterer):
        def contains(self, batch: torch.Tensor) -> torch.Tensor:
            found = super().contains(batch)
            # two which are known are missed, and one which is not is hit
            found[found.nonzero()[:2, 0]] = False
            found[len(batch) - 1] = True
            return found

    negatives = torch.cat([graph.triples[:5], torch.tensor([[0, 0, 0], [1, 0, 1]])])
    assert not evaluating.is_known(negatives[5:], graph).any()
    probe = evaluating.FilterProbe({}, "engine", Wrong, graph, negatives)
    details = probe.measure(0).details
    assert (details["false hits"], details["misses"]) == (1, 2)
    (job,) = evaluating.filter_jobs(tiny(), graph)
    stock, engine = probes.interleave(job, 1, lambda: None)
    assert [own[0].details["misses"] for own in (stock, engine)] == [0, 0]
    assert engine[0].details["false hits"] == 0
    assert job[0].negatives is job[1].negatives  # type: ignore[attr-defined]


# Memory


@pytest.mark.slow
def test_resident_memory_grows_and_stays_at_its_peak() -> None:
    code = (
        "from pykeen_advneg.benchmark.memory import resident_bytes\nimport torch\n"
        "a = resident_bytes(peak=False)\nx = torch.ones(50_000_000)\nb = resident_bytes(peak=False)\ndel x\n"
        "print(a, b, resident_bytes(peak=False), resident_bytes())"
    )
    # a large parent, whose peak must not be that of its child
    ballast = torch.ones(200_000_000)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    del ballast
    before, during, after, peak = map(int, result.stdout.split())
    assert 190e6 < during - before < 230e6
    assert after < during
    assert peak < before + 230e6


def test_parameters_are_counted(graph: Graph) -> None:
    model = arms.Work.of(tiny()).make_model(graph.factory(), seed=0)
    assert memory.table_bytes(list(model.parameters())) == (14 + 55) * 4 * 4


@pytest.mark.slow
def test_memory_of_a_process_of_its_own() -> None:
    own = tiny(sweeps={"entities": (50, 100_000)}, dim=32)
    (job,) = memory.memory_jobs(own)
    assert job[0].case["entities"] == 100_000
    samples = {probe.arm: probe.measure(0) for probe in job}
    for sample in samples.values():
        assert sample.details["MB of parameters"] == pytest.approx((100_000 + 237) * 32 * 4 / 1e6)
        assert sample.value == pytest.approx(sample.details["MB at the peak"] / sample.details["MB of parameters"])
        assert sample.value > 0.9  # the table itself
    # PyKEEN has a dense gradient and two moments beside the table; a gradient of rows needs none of these
    assert samples["stock"].value > 3.5
    assert samples["engine"].value < samples["stock"].value


@pytest.mark.slow
def test_a_process_which_fails_says_why() -> None:
    own = tiny(models=("distmult",))
    (job,) = memory.memory_jobs(own)
    probe = job[0]
    assert isinstance(probe, memory.MemoryProbe)
    probe.task["work"] = {**probe.task["work"], "loss": "no-such-loss"}  # type: ignore[dict-item]
    with pytest.raises(RuntimeError, match=r"the process which trains failed: .*no-such-loss"):
        probe.measure(0)


# Ranks


@pytest.mark.slow
def test_two_ranks_share_batch_and_threads() -> None:
    own = tiny(models=("distmult",), threads=2)
    (job,) = ranks.rank_jobs(own, num_entities=50)
    assert [probe.arm for probe in job] == ["1 rank", "2 ranks"]
    assert [probe.setup["threads_per_rank"] for probe in job] == [2, 1]
    assert job[0].case == job[1].case
    two = job[1]
    assert isinstance(two, ranks.RanksProbe)
    two.num_steps = 6
    sample = two.measure(0)
    assert sample.details["steps"] == 6 - steps.SKIPPED
    assert sample.value == pytest.approx(1e3 * own.batch_size / sample.details["ms a step"])
    two.task["work"] = {**two.task["work"], "loss": "no-such-loss"}  # type: ignore[dict-item]
    with pytest.raises(RuntimeError, match=r"a rank failed: .*no-such-loss"):
        two.measure(0)


# Time to an MRR


def race(scores: list[float], goal: float, budget: float, step: float = 1.0) -> tuple[reaching.Race, int]:
    """Train with a clock of our own, on which a step takes a second and an evaluation an hour."""
    now, given = [0.0], iter(scores)

    def evaluate() -> float:
        now[0] += 3600
        return next(given)

    own = reaching.Race(evaluate, goal, budget)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.perf_counter", lambda: now[0])
        for batch in range(10_000):
            try:
                own.pre_batch()
            except reaching.Finished:
                return own, batch
            now[0] += step
    raise AssertionError("it never ended")


def test_a_race_ends_at_the_goal_and_does_not_count_evaluations() -> None:
    own, batches = race([0.1, 0.2, 0.3], goal=0.25, budget=1000.0)
    # the first evaluation after a step of one second; the others when time has grown by a fifth, in whole seconds
    assert own.curve == [(1.0, 0.1), (2.0, 0.2), (3.0, 0.3)]
    assert (own.is_reached, own.seconds, batches) == (True, 3.0, 3)


def test_a_race_ends_with_the_budget() -> None:
    own, batches = race([0.1] * 99, goal=0.25, budget=100.0)
    assert (own.is_reached, own.seconds, batches) == (False, 100.0, 100)
    times = [seconds for seconds, _ in own.curve]
    assert times[-1] == 100.0
    assert len(times) < 30
    assert all(b / a >= 1.2 for a, b in itertools.pairwise(times[:-1]))


@pytest.mark.parametrize(("goal", "reached"), [(0.01, True), (0.999, False)])
def test_reaching(goal: float, reached: bool, graph: Graph) -> None:
    own = tiny(target_mrr=goal, budget=0.1)
    (job,) = reaching.reach_jobs(own, Nations(), graph)
    for probe in job:
        sample = probe.measure(0)
        assert sample.censored is not reached
        assert sample.details["best MRR"] == max(mrr for _, mrr in sample.details["curve"])
        assert sample.details["curve"][-1][0] == sample.value
        assert reached or sample.value >= 0.1


# Records and ratios


def measured(kind: str, arm: str, unit: str, values: list[float], **kwargs: Any) -> records.Measurement:
    kwargs = {"case": {"model": "distmult", "negatives": 3}, "censored": [False] * len(values), **kwargs}
    return records.Measurement(kind=kind, arm=arm, unit=unit, values=values, **kwargs)


def test_ratios_are_taken_repeat_by_repeat() -> None:
    # the machine was ten times as slow in the second repeat
    stock, engine = (
        measured("training", "stock", "x/s", [10, 1, 10]),
        measured("training", "engine", "x/s", [30, 3, 20]),
    )
    assert records.ratio(engine, stock) == records.Spread(3.0, 2.5, 3.0)
    # of times, less is better
    assert records.ratio(measured("a", "b", "s", [1, 1, 2]), measured("a", "c", "s", [4, 2, 2])) == records.Spread(
        2, 1.5, 3
    )
    assert records.ratio(stock, measured("training", "x", "s", [1, 1, 1])) is None
    assert records.ratio(stock, measured("training", "x", "x/s", [1, 1])) is None
    assert records.ratio(stock, measured("training", "x", "x/s", [1, 0, 1])) is None


TIMES = st.lists(
    st.tuples(st.floats(0.1, 10), st.booleans(), st.floats(0.1, 10), st.booleans()), min_size=1, max_size=7
)


@given(TIMES, st.randoms())
def test_bounds_hold_whatever_the_rest_of_the_race_would_have_been(rows: list[Any], random: Any) -> None:
    """A time which is a bound may have been anything above: no such completion contradicts what is said."""
    own = measured("a", "engine", "s", [x for x, *_ in rows], censored=[c for _, c, *_ in rows])
    base = measured("a", "stock", "s", [y for *_, y, _ in rows], censored=[c for *_, c in rows])
    said = records.ratio(own, base)
    assert said is not None
    for _ in range(5):
        true = [
            (y * random.uniform(1, 1e6) if y_bound else y) / (x * random.uniform(1, 1e6) if x_bound else x)
            for x, x_bound, y, y_bound in rows
        ]
        median = statistics.median(true)
        match said.bound:
            case "":
                assert median == pytest.approx(said.median)
            case "≥":
                assert median >= said.median * (1 - 1e-9)
            case "≤":
                assert median <= said.median * (1 + 1e-9)
    if not any(c or d for _, c, _, d in rows):
        assert said.bound == ""


@pytest.mark.parametrize(
    ("censored", "expected"),
    [
        ([False, False, False], "2.00 [1.50~2.50]"),
        ([False, False, True], "2.00 [1.50~2.50]"),
        ([False, True, True], "≥ 2.00 [1.50~2.50]"),
    ],
)
def test_a_median_is_known_as_long_as_most_of_its_values_are(censored: list[bool], expected: str) -> None:
    own = measured("time-to-mrr", "stock", "s", [1, 2, 3], censored=censored)
    assert report._spread_text(own.spread) == expected.replace("~", DASH)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9))
def test_quartiles(values: list[float]) -> None:
    own = records.spread(values)
    assert own.median == pytest.approx(statistics.median(values))
    assume(len(values) > 1)
    low, _, high = statistics.quantiles(values, method="inclusive")
    assert (own.low, own.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1, "1.00"), (12.345, "12.3"), (123.45, "123"), (1234567.8, "1,234,568"), (0.0012345, "0.00123"),
     (0.99999, "1.000"), (1.25e-7, "1.2e-07")],
)  # fmt: skip
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert report._number(value) == text


DASH = "\N{EN DASH}"

#: as `advneg bench` writes them, twice for `training`
LINES = """\
{"kind": "training", "case": {"model": "distmult", "negatives": 32, "dim": 4}, "arm": "stock", "unit": "positives/s", \
"values": [1.0, 1.0], "censored": [false, false], "details": {}, "setup": {"optimizer": "adam"}, "run": "a"}
{"kind": "training", "case": {"model": "distmult", "negatives": 32, "dim": 4}, "arm": "engine", "unit": "positives/s", \
"values": [1.0, 1.0], "censored": [false, false], "details": {}, \
"setup": {"optimizer": "rowadagrad", "negative_sampler_kwargs": {"num_negs_per_pos": 32, "chunk_size": 128}}, \
"run": "a"}
{"kind": "training", "case": {"model": "distmult", "negatives": 32, "dim": 4}, "arm": "stock", "unit": "positives/s", \
"values": [1000.0, 1200.0], "censored": [false, false], "details": {"scores/s": [33000.0, 39600.0], "steps": [9, 9]}, \
"setup": {"optimizer": "adam"}, "run": "b", "machine": {"cpu": "A CPU", "cores": 2, "versions": {"torch": "2"}}}
{"kind": "training", "case": {"model": "distmult", "negatives": 32, "dim": 4}, "arm": "engine", "unit": "positives/s", \
"values": [20000.0, 30000.0], "censored": [false, false], "details": {}, \
"setup": {"optimizer": "rowadagrad", "negative_sampler_kwargs": {"num_negs_per_pos": 32, "chunk_size": 128}}, \
"run": "b", "machine": {"cpu": "A CPU", "cores": 2, "versions": {"torch": "2"}}}
{"kind": "scaling", "case": {"sweep": "dim", "value": 2, "dim": 2}, "arm": "engine", "unit": "ms", \
"values": [2.0, 3.0], "censored": [false, false], "run": "b"}
{"kind": "scaling", "case": {"sweep": "dim", "value": 8, "dim": 8}, "arm": "engine", "unit": "ms", \
"values": [4.0, 9.0], "censored": [false, false], "run": "b"}
{"kind": "scaling", "case": {"sweep": "dim", "value": 8, "dim": 8}, "arm": "engi
"""

MARKDOWN = """\
## training

Positives and scores a second, for each model and number of negatives.

| arm | positives/s | times stock | scores/s |
| --- | --- | --- | --- |
| stock | 1,100 [1,050~1,150] | 1 | 36,300 |
| engine | 25,000 [22,500~27,500] | 22.5 [21.2~23.8] |  |

- model distmult, negatives 32, dim 4
- stock: optimizer adam
- engine: optimizer rowadagrad, negative_sampler_kwargs chunk_size=128
- A CPU, 2 cores, torch 2

## scaling

The time of a step against entities, negatives, dimension, batch size and threads.

| value | arm | ms | time, first = 1 |
| --- | --- | --- | --- |
| 2 | engine | 2.50 [2.25~2.75] | 1 |
| 8 | engine | 6.50 [5.25~7.75] | 2.50 [2.25~2.75] |

- sweep dim
""".replace("~", DASH)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    (tmp_path / "bench.jsonl").write_text(LINES)
    return tmp_path / "bench.jsonl"


def test_report_of_a_file(lines: Path) -> None:
    for argument in (lines, lines.parent):
        result = CliRunner().invoke(cli.app, ["bench", "report", str(argument)])
        assert result.exit_code == 0, result.output
        # a stock arm that has been run before does not count, and neither does a line which was cut off
        assert result.output == MARKDOWN


def test_the_report_is_written(lines: Path) -> None:
    runner.write_report(lines.parent)
    assert (lines.parent / "bench.md").read_text() == MARKDOWN
    assert (lines.parent / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_drawn(lines: Path) -> None:
    found = records.measurements(lines)
    own = picture.bars(found)
    assert list(own) == ["training"]
    ((label, drawn),) = own["training"]
    assert label == "distmult, 32 negatives"
    assert drawn == records.ratio(found[1], found[0])
    figure = picture.draw(found)
    assert figure is not None
    (panel,) = figure.axes
    np.testing.assert_allclose(panel.lines[0].get_xdata(), [21.25, 23.75])
    np.testing.assert_allclose(panel.lines[1].get_xdata(), [22.5])
    assert picture.draw(found[2:]) is None


def test_runs_are_not_mixed(lines: Path) -> None:
    """Arms which were not measured in turns are not compared."""
    other = json.loads(LINES.splitlines()[3]) | {"run": "c", "setup": {"optimizer": "rowadam"}}
    with lines.open("a") as file:
        file.write("\n" + json.dumps(other) + "\n")
    found = records.measurements(lines)
    assert [m.run for m in found if m.kind == "training"] == ["b", "b", "c"]
    assert records.find(found, next(m for m in found if m.run == "c"), "stock") is None


def test_a_measurement_survives_its_file(tmp_path: Path) -> None:
    own = measured("time-to-mrr", "stock", "s", [1.0, 2.0], censored=[False, True], details={"curve": [[[1, 2]], []]})
    path = tmp_path / "bench.jsonl"
    path.write_text(json.dumps(own.to_mapping()) + "\n")
    assert records.measurements(path) == [own]
    assert json.loads(path.read_text())["median"] == 1.5


def test_a_file_without_measurements(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no measurements; make some by"):
        records.measurements(tmp_path / "nothing.jsonl")


# All of it


def test_a_failed_job_does_not_end_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[tuple[str, int]] = []

    def fail(repeat: int) -> float:
        raise MemoryError("too [large]")

    def one_more(repeat: int) -> float:
        return repeat + 1.0

    def jobs(kind: str, *args: Any) -> list[list[probes.Probe]]:
        if kind == "machine":
            return []
        return [
            [FakeProbe("stock", log, fail)],
            [FakeProbe("stock", log, one_more), FakeProbe("engine", log, one_more)],
        ]

    monkeypatch.setattr(runner, "jobs", jobs)
    command = ["bench", "training", *options(), "--out", str(tmp_path)]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, command)
    assert result.exit_code == 1
    assert "failed: training" in result.stderr
    assert "MemoryError: too [large]" in result.stderr
    assert [m.arm for m in records.measurements(tmp_path)] == ["stock", "engine"]
    assert "times stock" in result.stdout


def test_an_interrupt_keeps_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(repeat: int) -> float:
        raise KeyboardInterrupt

    def jobs(kind: str, *args: Any) -> list[list[probes.Probe]]:
        return [[FakeProbe("stock", [])], [FakeProbe("engine", [], interrupt)]] if kind == "training" else []

    monkeypatch.setattr(runner, "jobs", jobs)
    result = CliRunner().invoke(cli.app, ["bench", "training", *options(), "--out", str(tmp_path)])
    assert result.exit_code == 130
    assert [m.arm for m in records.measurements(tmp_path)] == ["stock"]


def options(**changes: Any) -> list[str]:
    """TINY as options of the command line."""
    texts: Mapping[str, Any] = {**TINY, **changes}
    pairs = [
        (f"--{name.replace('_', '-')}", ",".join(map(str, value)) if isinstance(value, tuple) else str(value))
        for name, value in texts.items()
    ]
    return ["--quick", *itertools.chain.from_iterable(pairs)]


def test_training_from_the_command_line(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    result = CliRunner(env={"COLUMNS": "200"}).invoke(
        cli.app, ["bench", "training", *options(negatives=(2, 3)), "--out", str(tmp_path)]
    )
    assert result.exit_code == 0, result.output
    assert torch.get_num_threads() == threads
    found = records.measurements(tmp_path)
    training = [m for m in found if m.kind == "training"]
    assert [(m.case["negatives"], m.arm) for m in training] == [
        (2, "stock"), (2, "engine"), (3, "stock"), (3, "engine"),
    ]  # fmt: skip
    assert {len(m.values) for m in found} == {2}
    assert {m.arm for m in found if m.kind == "machine"} == {"copy 32 MB", "copy 4 MB", "SGEMM"}
    for m in found:
        assert all(value > 0 for value in m.values)
        assert m.settings["batch_size"] == 100
        assert {"cpu", "cores", "versions"} <= m.machine.keys()
    text = (tmp_path / "bench.jsonl").read_text()
    assert str(tmp_path) not in text
    assert str(Path.home()) not in text
    assert not platform.node() or platform.node() not in text
    assert "times stock" in result.output
    # again, quietly: the report is of what came last
    runner.run(["training"], tiny(), tmp_path, quiet=True)
    assert len(records.measurements(tmp_path)) == len(found)


@pytest.mark.slow
def test_everything_quick(tmp_path: Path) -> None:
    """All kinds, in the smallest sizes."""
    sweeps = [f"--sweep={name}={values}" for name, values in (("entities", "50,3000"), ("dim", "2,3"))]
    changes = {"dataset": "kinships", "kbgan_dims": 3, "budget": 0.2, "repeats": 1, "train_epochs": 1}
    command = ["bench", "all", *options(**changes), *sweeps, "--out", str(tmp_path), "--quiet"]
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 0, result.output
    assert result.output == ""
    found = records.measurements(tmp_path)
    assert {m.kind for m in found} == {"machine", *settings.KINDS}
    assert set(picture.bars(found)) >= set(settings.KINDS) - {"roofline", "time-to-mrr"}
    text = (tmp_path / "bench.md").read_text()
    assert all(f"## {kind}\n" in text for kind in settings.KINDS)
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_facts_of_the_machine() -> None:
    own = machine.facts()
    assert own["cores"] >= 1
    assert own["versions"]["torch"] == torch.__version__
    assert platform.node() not in map(str, own.values())
