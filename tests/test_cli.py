"""The command line."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from pykeen_advneg import __version__, cli
from pykeen_advneg.comparison.runs import RunStore

TINY = ["--dataset", "nations", "--model", "transe", "--seeds", "1", "--epochs", "2", "--dim", "4"]


@pytest.fixture
def invoke():
    runner = CliRunner(env={"COLUMNS": "200"})

    def call(*arguments: str, code: int = 0):
        result = runner.invoke(cli.app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result

    return call


def test_version(invoke):
    assert invoke("--version").output == f"pykeen-advneg {__version__}\n"


@pytest.mark.parametrize("command", [[], ["list"], ["compare"], ["report"], ["demo"]])
def test_help(invoke, command):
    text = invoke(*command, "--help").output
    assert "Usage:" in text
    if command == ["compare"]:
        assert "LABEL" in text
        assert "(default: 0.001)" in text


def test_no_command_shows_help(invoke):
    assert "compare" in invoke(code=2).output


def test_help_and_bad_options_load_neither_torch_nor_pykeen():
    code = (
        "import sys\nfrom pykeen_advneg.cli import app\n"
        "try:\n    app(sys.argv[1:])\nexcept SystemExit as end:\n    code = end.code\n"
        "print([name for name in ('torch', 'pykeen', 'pandas', 'matplotlib') if name in sys.modules], code)"
    )
    arguments = [["--help"], ["compare", "--help"], ["compare", "--out", "x", "--sampler", "=", "--model", "transe"]]
    for arguments_, end in zip(arguments, (0, 0, 2), strict=True):
        result = subprocess.run([sys.executable, "-c", code, *arguments_], capture_output=True, text=True, check=True)
        assert result.stdout.splitlines()[-1] == f"[] {end}"


def test_module_runs():
    command = [sys.executable, "-m", "pykeen_advneg", "--version"]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"pykeen-advneg {__version__}\n"
    )


def test_list_has_a_line_for_each_class(invoke):
    lines = invoke("list").output.splitlines()
    words = [line.split() for line in lines if line.startswith("  ")]
    names = [each[0] for each in words]
    assert {"kbgan", "basic", "bernoulli", "pseudotyped", "adversarial", "slcwa", "exact", "fastrankbased"} <= set(
        names
    )
    assert all(len(each) > 3 for each in words)
    kbgan = next(line for line in lines if line.startswith("  kbgan "))
    assert "Cai 2018, https://aclanthology.org/N18-1133/" in kbgan
    assert 'needs training_loop="adversarial"' in kbgan
    bernoulli = next(line for line in lines if line.startswith("  bernoulli "))
    assert "(Wang 2014)" in bernoulli
    assert "needs" not in bernoulli
    # those of this package come first
    assert names.index("kbgan") < names.index("basic")
    assert names.index("sparseadagrad") < names.index("adagrad")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sampler", "bernouli"], "sampler 'bernouli' is not known; did you mean bernoulli"),
        (["--sampler", "basic", "--model", "transee"], "model 'transee' is not known; did you mean transe"),
        (
            ["--sampler", "basic", "--dataset", "natins"],
            "dataset 'natins' is neither a data set of PyKEEN nor a folder",
        ),
        (["--sampler", "basic", "--dataset", "./none"], "the folder './none' does not exist"),
        (["--sampler", "basic", "--seeds", "0"], "seeds must be a whole number of at least 1, got 0"),
        (["--sampler", "basic", "--sampler", "basic"], "sampler 'basic' is given twice; tell them apart by labels"),
        (
            ["--sampler", "kbgan", "--sampler-kwargs", "kbgan:{generator: 1}"],
            "--sampler-kwargs for 'kbgan' is not valid",
        ),
        (["--sampler", "kbgan", "--sampler-kwargs", 'kbgan:{"generatr": 1}'], "sampler 'kbgan' cannot be built"),
        (["--sampler", "kbgan", "--loop-kwargs", 'kgan:{"a": 1}'], "did you mean kbgan"),
        (["--sampler", "basic", "--config", "nowhere.json"], "config 'nowhere.json' cannot be read"),
        ([], "samplers: none is given; name at least one, e.g. --sampler bernoulli"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_made(invoke, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = invoke("compare", *TINY, *arguments, "--out", tmp_path / "out", code=2)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert not (tmp_path / "out").exists()


def test_unwritable_folder(invoke, tmp_path):
    (tmp_path / "file").touch()
    result = invoke("compare", *TINY, "--sampler", "basic", "--out", tmp_path / "file" / "out", code=2)
    assert "cannot be written" in result.stderr


@pytest.mark.slow
def test_compare_report_and_compare_again(invoke, tmp_path):
    command = ["compare", *TINY, "--sampler", "first=basic", "--sampler", "stock:bernoulli", "--out", tmp_path]
    result = invoke(*command)
    assert "14 entities, 55 relations" in result.output
    assert str(tmp_path / "report.html") in result.output
    records = list(RunStore(tmp_path).finished().values())
    assert [(each["sampler"], each["config"]["training_loop"]) for each in records] == [
        ("first", "adversarial"), ("stock:bernoulli", "slcwa"),
    ]  # fmt: skip
    assert records[0]["config"]["optimizer_kwargs"] == {"lr": 0.001}
    assert records[0]["config"]["negative_sampler_kwargs"] == {"num_negs_per_pos": 1}
    assert records[0]["data"]["testing"] == 201
    mean = f"{records[0]['test']['mrr']:.4f}"
    assert mean in result.output
    page = (tmp_path / "report.html").read_bytes()
    (tmp_path / "report.html").unlink()
    assert mean in invoke("report", tmp_path).output
    assert (tmp_path / "report.html").read_bytes() == page
    # the same command trains nothing, another configuration is refused
    assert mean in invoke(*command).output
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 2
    assert "optimizer_kwargs.lr is 0.001 there and 0.1 here" in invoke(*command, "--lr", "0.1", code=2).stderr
    # config.json of the folder is a configuration that repeats it
    invoke("compare", "--config", tmp_path / "config.json", "--out", tmp_path / "again", "-q")
    again = list(RunStore(tmp_path / "again").finished().values())
    assert [(each["run"], each["test"]) for each in again] == [(each["run"], each["test"]) for each in records]


@pytest.mark.slow
def test_quiet_prints_nothing(invoke, tmp_path):
    assert invoke("compare", *TINY, "--sampler", "basic", "--out", tmp_path, "--quiet").output == ""


@pytest.mark.slow
def test_vocabulary_of_a_folder(invoke, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    train = "".join(f"e{i}\tr\te{(i + 1) % 9}\n" for i in range(9))
    for split, text in {"train": train, "valid": "e0\tr\te3\n", "test": "e1\tr\te4\nnew\tr\te1\n"}.items():
        (data / f"{split}.tsv").write_text(text)
    command = ["compare", *TINY[2:], "--dataset", data, "--sampler", "basic"]
    dropped = invoke(*command, "--out", tmp_path / "a").output
    assert "1 evaluation triples with unseen ids are dropped" in " ".join(dropped.split())
    kept = invoke(*command, "--vocabulary", "all", "--out", tmp_path / "b").output
    assert "1 evaluation triples would be dropped with --vocabulary training" in " ".join(kept.split())
    counts = [next(iter(RunStore(tmp_path / name).finished().values()))["data"]["testing"] for name in "ab"]
    assert counts == [1, 2]


def test_failed_run_is_reported(invoke, tmp_path, monkeypatch):
    def fail(*args):
        raise RuntimeError("it [diverged]")

    monkeypatch.setattr("pykeen_advneg.comparison.compare.train_run", fail)
    result = invoke("compare", *TINY, "--sampler", "basic", "--out", tmp_path, "-q", code=1)
    assert result.stderr.strip() == "failed: nations / basic / seed 0: RuntimeError: it [diverged]"


def test_interrupt_says_how_to_go_on(invoke, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("pykeen_advneg.comparison.compare.train_run", interrupt)
    result = invoke("compare", *TINY, "--sampler", "basic", "--out", tmp_path, code=130)
    assert "the same command goes on where it was" in " ".join(result.output.split())


def test_report_of_an_empty_folder(invoke, tmp_path):
    assert "has no finished runs" in invoke("report", tmp_path, code=2).stderr


@pytest.mark.slow
def test_demo_says_what_it_does_and_where_the_report_lies(invoke, tmp_path, monkeypatch):
    small = {**cli.DEMO, "seeds": 1, "epochs": 1, "training_kwargs": {"batch_size": 4096}}
    monkeypatch.setattr(cli, "DEMO", small)
    output = invoke("demo", "--out", tmp_path).output
    assert output.index("6 runs of 1 epochs") < output.index("135 entities") < output.index("report.html")
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["datasets"], list(config["samplers"])) == (["umls", "kinships"], ["bernoulli", "basic", "kbgan"])
    assert len(RunStore(tmp_path).finished()) == 6
