"""Many workers on one study: no trial is lost or run twice, whoever dies."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from pykeen.pipeline import pipeline_from_path

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.hpo.objective import CHECKPOINT, EFFORT
from pykeen_advneg.hpo.queueing import WORKER, Job, join, load_data, prepare, progress_of, work
from pykeen_advneg.hpo.result import experiment, write_json
from pykeen_advneg.hpo.settings import Tuning
from pykeen_advneg.hpo.storage import Requeue, exclusively, open_storage

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)

EPOCHS = 60
TRIPLES = 1592

SETTINGS: dict[str, Any] = dict(
    dataset="nations",
    model="distmult",
    model_kwargs=dict(embedding_dim=8),
    regularizer="no",
    loss="softplus",
    training_kwargs=dict(batch_size=256),
    samplers=dict(kbgan=dict(negative_sampler_kwargs=dict(num_candidates=5, num_negs_per_pos=2))),
    trials=3,
    epochs=EPOCHS,
    eval_every=3,
    patience=1000,
    checkpoint_frequency=0,
    search=dict(pruner="nop"),
)


def postgres_binaries() -> Path | None:
    """Debian keeps them out of the path."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "pg_ctl").is_file()), None)


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """A server of our own; PostgreSQL refuses to be run by root, who becomes its user."""
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("needs PostgreSQL's initdb and pg_ctl (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg2", reason="needs psycopg2 (the extra 'postgresql')")
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if user and (shutil.which("runuser") is None or subprocess.run([*user, "true"], check=False).returncode):
        pytest.skip("PostgreSQL cannot be run by root, and there is no user 'postgres'")
    # the path of its socket has to be short
    folder = Path(tempfile.mkdtemp(prefix="advneg-pg-"))
    folder.chmod(0o777)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"

    def call(program: str, *arguments: str) -> None:
        subprocess.run([*user, str(binaries / program), *arguments], check=True, stdout=subprocess.DEVNULL, cwd=folder)

    data = str(folder / "data")
    try:
        call("initdb", "-D", data, "-A", "trust", "-U", "tester")
        call("pg_ctl", "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
        yield f"postgresql+psycopg2://tester@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run(
            [*user, str(binaries / "pg_ctl"), "-D", data, "-m", "immediate", "stop"],
            check=False,
            stdout=subprocess.DEVNULL,
            cwd=folder,
        )
        shutil.rmtree(folder, ignore_errors=True)


def start_worker(url: str, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pykeen_advneg", "hpo-worker", "s", "--storage", url, "--heartbeat", "1"]
    command += ["--grace", "4", "--checkpoints", str(folder / "checkpoints")]
    log = (folder / "log").open("ab")
    return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})


def wait_for_victim(job: Job, worker: subprocess.Popen[bytes], folder: Path) -> int:
    """Wait until a worker is in the middle of a trial."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        assert worker.poll() is None, (folder / "log").read_text()
        for trial in job.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            mine = trial.user_attrs.get(WORKER, "").endswith(f":{worker.pid}")
            if mine and 2 <= len(trial.intermediate_values) <= EPOCHS / 3 * 0.7:
                return trial.number
        time.sleep(0.05)
    pytest.fail("no trial was under way: " + (folder / "log").read_text())


def check_a_killed_worker(url: str, tmp_path: Path) -> None:
    tuning = Tuning.from_mapping(SETTINGS)
    storage = open_storage(url, 1, 4)
    (job,) = prepare(tuning, "s", storage, tmp_path / "checkpoints", load_data(tuning))
    workers = [start_worker(url, tmp_path) for _ in range(2)]
    try:
        number = wait_for_victim(job, workers[0], tmp_path)
        workers[0].send_signal(signal.SIGKILL)
        assert workers[1].wait(timeout=240) == 0, (tmp_path / "log").read_text()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    state = progress_of(job.study)
    assert state["complete"] == SETTINGS["trials"], (tmp_path / "log").read_text()
    keys = Counter(trial.user_attrs[CHECKPOINT] for trial in state["trials"])
    assert keys == {f"s.kbgan-{n:04d}": 1 for n in range(SETTINGS["trials"])}, "none is lost, none is run twice"
    trials = job.study.get_trials()
    assert len(trials) == SETTINGS["trials"] + 1
    dead, again = trials[number], trials[-1]
    assert dead.state == TrialState.FAIL
    assert again.system_attrs["retry_history"] == [number]
    assert again.params == dead.params
    assert again.user_attrs[WORKER].endswith(f":{workers[1].pid}")
    assert sorted(again.intermediate_values) == list(range(3, EPOCHS + 1, 3))
    assert list((tmp_path / "checkpoints").iterdir()) == []
    # it went on where the other one stopped: what was trained twice is less than two evaluations
    whole = EPOCHS * TRIPLES * (1 + 2)
    assert again.user_attrs[EFFORT]["scores"] <= whole * (1 + 6 / EPOCHS)
    for trial in (again, job.study.best_trial):
        content = experiment(job.objective, trial)
        content["pipeline"] |= {"use_testing_data": False}
        write_json(content, tmp_path / "trial.json")
        result = pipeline_from_path(tmp_path / "trial.json")
        assert result.metric_results.get_metric(job.objective.metric) == trial.value, "to the last bit"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_killed_worker(kind: str, tmp_path: Path) -> None:
    url = {"journal": f"journal:{tmp_path}/study.log", "sqlite": f"sqlite:///{tmp_path}/study.db"}[kind]
    check_a_killed_worker(url, tmp_path)


@pytest.mark.slow
def test_killed_worker_on_postgresql(postgres: str, tmp_path: Path) -> None:
    check_a_killed_worker(postgres, tmp_path)


@pytest.mark.slow
def test_proxy(tmp_path: Path) -> None:
    """Optuna's gRPC proxy before an SQLite file: heartbeats and the queue work through it."""
    pytest.importorskip("grpc", reason="needs grpcio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "import sys, optuna\n"
        "optuna.storages.run_grpc_proxy_server(optuna.storages.RDBStorage(sys.argv[1]), host='localhost',"
        " port=int(sys.argv[2]))"
    )
    arguments = [sys.executable, "-W", "ignore", "-c", code, f"sqlite:///{tmp_path}/x.db", str(port)]
    with (tmp_path / "server").open("wb") as log:
        server = subprocess.Popen(arguments, stdout=log, stderr=log)
    try:
        write_json({**SETTINGS, "epochs": 3, "trials": 2}, tmp_path / "config.json")
        # in a process of its own, since gRPC and forks do not go together; it makes the studies, too
        command = [sys.executable, "-m", "pykeen_advneg", "hpo-worker", "s", "--storage", f"grpc://localhost:{port}"]
        command += ["--config", str(tmp_path / "config.json"), "--heartbeat", "1", "--grace", "4"]
        worker = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
        assert "Ran 2 trials" in worker.stdout, worker.stderr
    finally:
        server.kill()
        server.wait()
    study = optuna.load_study(study_name="s.kbgan", storage=f"sqlite:///{tmp_path}/x.db")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2


def test_trials_are_shared_out_once(tmp_path: Path) -> None:
    """Two workers in one process, in turns; the second one joins by name alone; trials added later are run, too."""
    url = f"sqlite:///{tmp_path}/study.db"
    quick = {**SETTINGS, "epochs": 3, "trials": 2}
    quick["samplers"] = {"a": dict(negative_sampler="basic"), "b": dict(negative_sampler="shared")}
    tuning = Tuning.from_mapping(quick)
    jobs = prepare(tuning, "s", open_storage(url), None, load_data(tuning))
    joined, others = join("s", open_storage(url), None)
    assert joined == tuning
    assert work(others, Requeue()) == 4
    assert work(jobs, Requeue()) == 0
    a, b = (job.study.get_trials() for job in jobs)
    # the same seeds for all samplers, and the same values of what they share where they are drawn at random
    assert (
        [trial.user_attrs["random_seed"] for trial in a] == [trial.user_attrs["random_seed"] for trial in b] == [0, 1]
    )
    assert [trial.params["optimizer.lr"] for trial in a] == [trial.params["optimizer.lr"] for trial in b]
    assert a[0].params["optimizer.lr"] != a[1].params["optimizer.lr"]
    more = Tuning.from_mapping({**quick, "trials": 3})
    again = prepare(more, "s", open_storage(url), None, load_data(more))
    assert [progress_of(job.study)["waiting"] for job in again] == [1, 1]
    other = Tuning.from_mapping({**quick, "epochs": 4})
    with pytest.raises(ConfigurationError, match="num_epochs is 3 there and 4 here"):
        prepare(other, "s", open_storage(url), None, load_data(other))


def test_joining_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not in this storage"):
        join("s", open_storage(f"journal:{tmp_path}/x.log"), None, patience=0)


def test_name_held_by_one(tmp_path: Path) -> None:
    first, second = (open_storage(f"journal:{tmp_path}/x.log") for _ in range(2))
    start = time.monotonic()
    # who holds it is taken for dead after a while
    with exclusively(first, "x"), exclusively(second, "x", patience=0.5):
        assert time.monotonic() - start >= 0.5
    assert second.get_all_studies() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(trials=0), "trials"),
        (dict(samplers={}), "samplers"),
        (dict(samplers={"a/b": {"negative_sampler": "basic"}}), "file names"),
        (dict(samplers={"a": {"negativesampler": "basic"}}), "negative_sampler"),
        (dict(model=None), "model"),
        (dict(dataset=None), "dataset"),
        (dict(trails=3), "trials"),
    ],
)
def test_settings_which_cannot_work(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Tuning.from_mapping({**SETTINGS, **change})


def test_settings_are_written_and_read() -> None:
    tuning = Tuning.from_mapping(SETTINGS)
    assert Tuning.from_mapping(tuning.to_mapping()).to_mapping() == tuning.to_mapping()
