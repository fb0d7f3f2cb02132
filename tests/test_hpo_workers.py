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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn
from urllib.parse import unquote

import optuna
import pytest
from optuna.trial import TrialState
from pykeen.pipeline import pipeline_from_path

from pykeen_advneg.errors import ConfigurationError
from pykeen_advneg.hpo.exclusion import exclusively
from pykeen_advneg.hpo.fairness import differing_ranges
from pykeen_advneg.hpo.jobs import join, load_data, prepare
from pykeen_advneg.hpo.launch import RESTARTS, Workers
from pykeen_advneg.hpo.objective import CHECKPOINT, SamplerObjective
from pykeen_advneg.hpo.options import read_tuning
from pykeen_advneg.hpo.queueing import WORKER, Job, Queue, _run_one, mend, progress_of, work
from pykeen_advneg.hpo.result import experiment, write_json
from pykeen_advneg.hpo.running import run, run_worker
from pykeen_advneg.hpo.settings import Tuning
from pykeen_advneg.hpo.storage import Requeue, masked, open_storage
from pykeen_advneg.hpo.studies import open_study
from pykeen_advneg.hpo.watching import EFFORT
from pykeen_advneg.splits import LabeledSplitsDataset

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


def skip(reason: str) -> NoReturn:
    """Skip a test, or fail where it is known that it can be run."""
    (pytest.fail if os.environ.get("ADVNEG_NEEDS_POSTGRESQL") else pytest.skip)(reason)


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """A server of our own; PostgreSQL refuses to be run by root, who becomes its user."""
    binaries = postgres_binaries()
    if binaries is None:
        skip("needs PostgreSQL's initdb and pg_ctl (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg2", reason="needs psycopg2 (the extra 'postgresql')")
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if user and (shutil.which("runuser") is None or subprocess.run([*user, "true"], check=False).returncode):
        skip("PostgreSQL cannot be run by root, and there is no user 'postgres'")
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
        write_json(content, tmp_path / "trial.json")
        result = pipeline_from_path(tmp_path / "trial.json", use_testing_data=False)
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
    quick["samplers"] = {"a": dict(negative_sampler="basic"), "b": dict(negative_sampler="shared", loss="nssa")}
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
    found = differing_ranges(jobs)
    assert {"loss.margin", "negative_sampler.chunk_size"} <= set(found)
    assert found["loss.margin"]["a"] is None
    assert not [name for name in found if name.startswith(("model.", "optimizer.", "training."))]
    assert a[0].params["optimizer.lr"] != a[1].params["optimizer.lr"]
    more = Tuning.from_mapping({**quick, "trials": 3})
    again = prepare(more, "s", open_storage(url), None, load_data(more))
    assert [progress_of(job.study)["waiting"] for job in again] == [1, 1]
    other = Tuning.from_mapping({**quick, "epochs": 4})
    with pytest.raises(ConfigurationError, match="num_epochs is 3 there and 4 here"):
        prepare(other, "s", open_storage(url), None, load_data(other))


QUICK = {**SETTINGS, "epochs": 4, "eval_every": 1, "trials": 1}


def queue(url: str) -> Queue:
    """A study with a trial which is waiting."""
    storage = open_storage(url, 1, 2)
    optuna.create_study(study_name="q", storage=storage).enqueue_trial({})
    return Queue("q", storage)


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_claim_is_a_sign_of_life(kind: str, tmp_path: Path) -> None:
    """A process which dies before its first heartbeat is found dead, too."""
    study = queue({"journal": f"journal:{tmp_path}/x.log", "sqlite": f"sqlite:///{tmp_path}/x.db"}[kind])
    taken = study.ask()
    # databases are behind a cache
    storage: Any = study._storage._backend if kind == "sqlite" else study._storage
    assert storage._get_stale_trial_ids(study._study_id) == []
    # as if so much time had gone
    storage.grace_period = storage.grace = -1
    assert storage._get_stale_trial_ids(study._study_id) == [taken._trial_id]


def test_search_is_checked_and_part_of_the_study(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    data = load_data(Tuning.from_mapping(QUICK))
    for wrong in (dict(sampler="tpee"), dict(pruner="mediam")):
        with pytest.raises(ConfigurationError, match="did you mean"):
            prepare(Tuning.from_mapping({**QUICK, "search": wrong}), "s", storage, None, data)
    assert storage.get_all_studies() == []
    prepare(Tuning.from_mapping(QUICK), "s", storage, None, data)
    with pytest.raises(ConfigurationError, match=r"search.pruner is 'nop' there and 'median' here"):
        prepare(Tuning.from_mapping({**QUICK, "search": dict(pruner="median")}), "s", storage, None, data)


def test_what_is_refused_leaves_no_study(tmp_path: Path) -> None:
    """Of several samplers, the last one is refused."""
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    tuning = Tuning.from_mapping({**QUICK, "samplers": {"basic": {}, "shared": {}}})

    def check(objective: SamplerObjective) -> None:
        if objective.negative_sampler.__name__.startswith("Shared"):
            raise ConfigurationError("refused")

    with pytest.raises(ConfigurationError, match="refused"):
        prepare(tuning, "s", storage, None, load_data(tuning), check=check)
    assert storage.get_all_studies() == []


class GivingAway(optuna.pruners.BasePruner):
    """Gives the first trial to another process at its second value, as if this process had been asleep."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        if trial.number == 0 and len(trial.intermediate_values) == 2:
            study._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
            Requeue()(study, study.trials[0])
        return False


def test_a_worker_which_was_asleep(tmp_path: Path) -> None:
    """It drops the trial which was given away, leaves its files alone, and goes on."""
    tuning = Tuning.from_mapping(QUICK)
    (job,) = prepare(tuning, "s", open_storage(f"sqlite:///{tmp_path}/study.db"), tmp_path / "c", load_data(tuning))
    job.study.pruner = GivingAway()
    assert _run_one(job, Requeue(), 0)
    assert [trial.state.name for trial in job.study.trials] == ["FAIL", "WAITING"]
    assert any((tmp_path / "c").iterdir()), "what the next one goes on from"
    assert work([job], Requeue()) == 1
    again = job.study.trials[1]
    assert again.state == TrialState.COMPLETE
    assert again.user_attrs[EFFORT]["scores"] < 2 * 4 * TRIPLES * (1 + 2)
    assert list((tmp_path / "c").iterdir()) == []


def write_splits(folder: Path) -> None:
    """Nations with an entity which training lacks."""
    from pykeen.datasets import Nations

    nations = Nations()
    folder.mkdir()
    for name, factory in (("train", nations.training), ("valid", nations.validation), ("test", nations.testing)):
        lines = ["\t".join(row) for row in factory.triples]
        lines += ["atlantis\ttreaties\tusa"] if name == "valid" else []
        (folder / f"{name}.txt").write_text("\n".join(lines))


@pytest.mark.parametrize("vocabulary", ["training", "all"])
def test_files_name_folders(vocabulary: str, tmp_path: Path) -> None:
    """A trial on a folder, with ids from all splits or not, is reproduced by its file."""
    write_splits(tmp_path / "graph")
    settings = {**QUICK, "dataset": str(tmp_path / "graph"), "vocabulary": vocabulary}
    tuning = Tuning.from_mapping(settings)
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    (job,) = prepare(tuning, "s", storage, None, load_data(tuning))
    work([job], Requeue())
    job.result.export(tmp_path / "best.json")
    result = pipeline_from_path(tmp_path / "best.json", use_testing_data=False)
    assert result.metric_results.get_metric(job.objective.metric) == job.study.best_value
    assert ("atlantis" in result.training.entity_to_id) == (vocabulary == "all")
    with (tmp_path / "graph" / "train.txt").open("a") as file:
        file.write("\nusa\ttreaties\tusa")
    with pytest.raises(ConfigurationError, match="fingerprint is"):
        prepare(tuning, "s", storage, None, load_data(tuning))
    with pytest.raises(ConfigurationError, match="other triples than meant"):
        LabeledSplitsDataset(tmp_path / "graph", vocabulary, fingerprint="0" * 16).training  # noqa: B018


def test_who_makes_a_study_writes_its_configuration_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that who comes meanwhile finds it, or nothing, and makes the same."""
    keys: list[str] = []
    original = optuna.Study.set_user_attr

    def note(study: optuna.Study, key: str, value: Any) -> None:
        keys.append(key)
        original(study, key, value)
        # another process, at each moment
        open_study(wanted, storage=storage, load_if_exists=True, study_name="a")

    wanted = {"direction": "maximize", "model": "x"}
    storage = open_storage(f"sqlite:///{tmp_path}/x.db")
    optuna.create_study(storage=storage, study_name="a", direction="maximize")
    monkeypatch.setattr(optuna.Study, "set_user_attr", note)
    open_study(wanted, storage=storage, load_if_exists=True, study_name="a")
    assert keys == ["advneg_configuration", "pykeen_version", "pykeen_git_hash", "model"]


def test_joining_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not in this storage"):
        join("s", open_storage(f"journal:{tmp_path}/x.log"), None, patience=0)


def test_fewer_samplers_than_before(tmp_path: Path) -> None:
    """Who joins works for the settings of the latest run."""
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    for samplers in ({"basic": {}, "shared": {}}, {"shared": {}}):
        tuning = Tuning.from_mapping({**QUICK, "samplers": samplers})
        prepare(tuning, "s", storage, None, load_data(tuning))
    found, jobs = join("s", storage, None, patience=0)
    assert [job.label for job in jobs] == list(found.samplers) == ["shared"]


def test_requeued_by_several(tmp_path: Path) -> None:
    """A lost trial is in the queue once, though several processes find it at the same time, and without its heart."""
    url = f"journal:{tmp_path}/x.log"
    study = queue(url)
    study.ask()
    study._storage.set_trial_state_values(study.trials[0]._trial_id, state=TrialState.FAIL)
    others = [optuna.load_study(study_name="q", storage=open_storage(url)) for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda other: Requeue()(other, other.trials[0]), others))
    assert [trial.state.name for trial in study.trials] == ["FAIL", "WAITING"]
    assert "advneg:heartbeat" not in study.trials[1].system_attrs


def test_lost_trials_are_left_to_others_for_a_while(tmp_path: Path) -> None:
    study = queue(f"sqlite:///{tmp_path}/x.db")
    study.ask()
    study._storage.set_trial_state_values(study.trials[0]._trial_id, state=TrialState.FAIL)
    requeue = Requeue()
    mend(study, requeue, after=60)
    assert len(study.trials) == 1
    assert not progress_of(study)["done"], "it is about to be tried again"
    mend(study, requeue, after=0)
    mend(study, requeue, after=0)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "WAITING"]


def test_workers_are_started_again_five_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the password of the storage out of sight."""
    commands = []

    def start(command: list[str], env: dict[str, str], **_: Any) -> Any:
        commands.append(command)
        assert env["ADVNEG_STORAGE"] == "postgresql://me:secret@host/x"
        return SimpleNamespace(poll=lambda: 1)

    monkeypatch.setattr("pykeen_advneg.hpo.launch.subprocess.Popen", start)
    workers = Workers("s", "postgresql://me:secret@host/x", tmp_path, 1, 10, 60, tmp_path / "log")
    workers.start()
    for _ in range(RESTARTS):
        workers.revive(is_done=False)
    with pytest.raises(ConfigurationError, match="ended with code 1"):
        workers.revive(is_done=False)
    assert len(commands) == 1 + RESTARTS
    assert "secret" not in str(commands)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg2://me:secret@host/x", "postgresql+psycopg2://me:***@host/x"),
        ("postgresql://host/x?user=me&password=secret", "postgresql://host/x?password=***&user=me"),
        ("sqlite:///a/b.db", "sqlite:///a/b.db"),
        ("journal:a:b@c", "journal:a:b@c"),
        ("grpc://host:1", "grpc://host:1"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert unquote(masked(url)) == shown


def test_labels_choose_and_names_replace(tmp_path: Path) -> None:
    """`kbgan` is what the file has by this name; `kbgan=shared` is said anew, over what else it has."""
    write_json({**SETTINGS, "samplers": {"x": dict(negative_sampler="kbgan", loss="nssa")}}, tmp_path / "x.json")
    for text, name in (("x", "kbgan"), ("x=shared", "shared")):
        own = read_tuning(tmp_path / "x.json", [text], [], {}).samplers["x"]
        assert (own["negative_sampler"], own["loss"]) == (name, "nssa")


def test_names_are_part_of_files(tmp_path: Path) -> None:
    options: Any = dict(storage="x.db", heartbeat=1, grace=2, quiet=True)
    with pytest.raises(ConfigurationError, match="file names"):
        run_worker("a/b", tuning=None, checkpoints=None, **options)
    with pytest.raises(ConfigurationError, match="file names"):
        run(Tuning.from_mapping(QUICK), tmp_path / "out", name="a b", workers=1, command=None, **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_worker_asked_to_end(tmp_path: Path) -> None:
    """Its trial is in the queue again at once, and not after the grace period."""
    url = f"journal:{tmp_path}/study.log"
    tuning = Tuning.from_mapping(SETTINGS)
    (job,) = prepare(tuning, "s", open_storage(url, 1, 1000), tmp_path / "checkpoints", load_data(tuning))
    worker = start_worker(url, tmp_path)
    number = wait_for_victim(job, worker, tmp_path)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=60) == 130, (tmp_path / "log").read_text()
    again = job.study.trials[-1]
    assert (again.state, again.system_attrs["retry_history"]) == (TrialState.WAITING, [number])


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
