"""Is everything known to PyKEEN by name, whatever a process imports first?"""

from __future__ import annotations

import importlib.metadata
import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pykeen
import pytest
from nursery import Nursery

import pykeen_advneg

#: module of PyKEEN, resolver, name of ours
OURS = [
    ("pykeen.sampling", "negative_sampler_resolver", "kbgan"),
    ("pykeen.sampling.filtering", "filterer_resolver", "exact"),
    ("pykeen.evaluation", "evaluator_resolver", "fastrankbased"),
    ("pykeen.training", "training_loop_resolver", "adversarial"),
]

#: data sets of ours
DATA_SETS = ["db15k", "fb15k237numeric", "labeledsplits", "mkgw", "movielens100k"]

#: what follows the imports of an order: who is known now, and after PyKEEN has been imported as a whole
REPORT = (
    f"\nOURS = {OURS!r}"
    + """
import sys
def known():
    return {n: n in getattr(sys.modules[m], resolver).lookup_dict for m, resolver, n in OURS if m in sys.modules}
result = dict(at_once=known(), triggered=bool({"pykeen.datasets", "pykeen_advneg"} & set(sys.modules)))
import pykeen.pipeline
result["at_last"] = known()
result["data_sets"] = sorted(pykeen.datasets.dataset_resolver.lookup_dict)
specs = {name: type(getattr(module, "__spec__", None)) for name, module in sys.modules.items()}
result["observed"] = [name for name, spec in specs.items() if spec.__name__ == "_ObservedSpec"]
"""
)

ALL = {name: True for _, _, name in OURS}


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path_factory.mktemp("home"))
    yield nursery
    nursery.close()


@pytest.fixture(scope="module")
def data_sets(nursery: Nursery) -> list[str]:
    """The names of PyKEEN's data sets without us."""
    return nursery.run("import pykeen.datasets" + REPORT, autoload="0")["result"]["data_sets"]


def check_order(nursery: Nursery, data_sets: list[str], order: str) -> None:
    reply = nursery.run(order + REPORT)
    result = reply["result"]
    if result["triggered"]:
        assert all(result["at_once"].values()), result
    assert result["at_last"] == ALL
    assert result["observed"] == []
    assert result["data_sets"] == sorted([*data_sets, *DATA_SETS])
    assert [message for message in reply["warnings"] if "entry point" in message or "advneg" in message] == []


#: each caught half of PyKEEN imported; the second has nothing else that could be a trigger afterwards
FAST_ORDERS = [
    "import pykeen.pipeline",
    "from pykeen.training import training_loop_resolver",
    "from pykeen.models import TransE",
    "import pykeen_advneg",
]


@pytest.mark.parametrize("order", FAST_ORDERS)
def test_first_import(nursery: Nursery, data_sets: list[str], order: str) -> None:
    check_order(nursery, data_sets, order)


def modules(package: object, depth: int) -> list[str]:
    """The modules of a package which can be imported for their own sake."""
    name, path = package.__name__, package.__path__  # type: ignore[attr-defined]
    found = pkgutil.walk_packages(path, prefix=name + ".", onerror=lambda _: None)
    return [module.name for module in found if module.name.count(".") <= depth and "__main__" not in module.name]


ORDERS = [
    *(f"import {name}" for name in modules(pykeen, depth=1)),
    *(f"import {name}" for name in modules(pykeen_advneg, depth=2)),
    "from pykeen.pipeline import pipeline",
    "from pykeen.pipeline import pipeline_from_config",
    "from pykeen.hpo import hpo_pipeline",
    "from pykeen.datasets import Nations",
    "from pykeen.datasets import get_dataset",
    "from pykeen.datasets.nations import Nations",
    "from pykeen.evaluation import RankBasedEvaluator",
    "from pykeen.evaluation import evaluator_resolver",
    "from pykeen.evaluation.evaluator import Evaluator",
    "from pykeen.losses import MarginRankingLoss",
    "from pykeen.models import model_resolver",
    "from pykeen.models.nbase import ERModel",
    "from pykeen.models.unimodal.trans_e import TransE",
    "from pykeen.nn import Embedding",
    "from pykeen.nn.modules import TransEInteraction",
    "from pykeen.nn.representation import Representation",
    "from pykeen.predict import predict_target",
    "from pykeen.sampling import NegativeSampler",
    "from pykeen.sampling.filtering import filterer_resolver",
    "from pykeen.stoppers import EarlyStopper",
    "from pykeen.training import SLCWATrainingLoop",
    "from pykeen.training.callbacks import TrainingCallback",
    "from pykeen.training.slcwa import SLCWATrainingLoop",
    "from pykeen.triples import TriplesFactory",
    "from pykeen.triples.instances import SLCWABatch",
    "from pykeen.trackers import ResultTracker",
    "import pykeen.typing; import pykeen_advneg",
    "import pykeen.sampling; import pykeen_advneg",
    "import pykeen_advneg; import pykeen.sampling",
    "import pykeen.triples; import pykeen_advneg; import pykeen.models",
    "from pykeen.models import TransE; from pykeen.sampling import negative_sampler_resolver",
    "from pykeen_advneg import AdversarialTrainingLoop",
    "from pykeen_advneg import *",
    "import pykeen.pipeline; import pykeen_advneg; import pykeen_advneg.registry; pykeen_advneg.register()",
]


@pytest.mark.slow
@pytest.mark.parametrize("order", [order for order in ORDERS if order not in FAST_ORDERS])
def test_every_first_import(nursery: Nursery, data_sets: list[str], order: str) -> None:
    check_order(nursery, data_sets, order)


def test_enough_orders() -> None:
    """The enumeration above has found PyKEEN's modules and ours."""
    assert len(set(ORDERS)) >= 60  # of which 33 were known to differ
    assert {"import pykeen.cli", "import pykeen.stoppers", "import pykeen_advneg.sampling.kbgan"} <= set(ORDERS)


def test_pipeline_by_name(nursery: Nursery) -> None:
    """Nothing of this package is imported by the user."""
    code = """
from pykeen.pipeline import pipeline
run = pipeline(
    dataset="nations", model="distmult", model_kwargs=dict(embedding_dim=8), training_loop="adversarial",
    negative_sampler="kbgan", negative_sampler_kwargs=dict(num_candidates=8), evaluator="fastrankbased",
    training_kwargs=dict(num_epochs=1, use_tqdm=False), evaluation_kwargs=dict(use_tqdm=False), device="cpu",
)
result = [type(run.training_loop).__name__, run.training_loop.negative_sampler.__name__, len(run.losses)]
"""
    assert nursery.run(code)["result"] == ["AdversarialTrainingLoop", "KBGANNegativeSampler", 1]


def test_versions_agree() -> None:
    """The version stands in the package; what is installed and what is cited must follow."""
    assert importlib.metadata.version("pykeen-advneg") == pykeen_advneg.__version__
    citation = (Path(__file__).parents[1] / "CITATION.cff").read_text()
    assert f"\nversion: {pykeen_advneg.__version__}\n" in citation


def test_public_names() -> None:
    """The names which are looked up on first use exist, and an unknown one is refused as by any module."""
    for name in pykeen_advneg.__all__:
        assert getattr(pykeen_advneg, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        pykeen_advneg.Nothing  # noqa: B018


def test_import_is_cheap(nursery: Nursery) -> None:
    code = "import pykeen_advneg, sys; dir(pykeen_advneg); result = [n for n in sys.modules if n.startswith('pykeen.')]"
    assert nursery.run(code)["result"] == []


def test_autoload_off(nursery: Nursery) -> None:
    """The explicit import is then the only way, and works after PyKEEN as before it."""
    code = """
from pykeen.training import training_loop_resolver
import sys
result = ["adversarial" in training_loop_resolver.lookup_dict, "pykeen_advneg" in sys.modules]
import pykeen_advneg
result.append("adversarial" in training_loop_resolver.lookup_dict)
"""
    assert nursery.run(code, autoload="0")["result"] == [False, False, True]


def test_twice_is_harmless(nursery: Nursery) -> None:
    code = """
import pykeen.pipeline, importlib, pykeen_advneg
from pykeen.sampling import negative_sampler_resolver as resolver
before = dict(resolver.lookup_dict), dict(resolver.synonyms)
pykeen_advneg.register()
importlib.reload(pykeen_advneg)
result = before == (resolver.lookup_dict, resolver.synonyms)
"""
    reply = nursery.run(code)
    assert reply["result"] is True
    assert [message for message in reply["warnings"] if "entry point" in message] == []


def install(folder: Path, module: str, code: str, entry_points: str) -> Path:
    """Write a module, and the metadata of an installed distribution which brings it."""
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    return folder


PLUGIN = """
from pykeen.models import TransE
from pykeen.pipeline import pipeline
from pykeen.sampling import BasicNegativeSampler
from pykeen.training import TrainingCallback
class ThirdPartyNegativeSampler(BasicNegativeSampler): pass
class Third(TransE): pass
class NoiseTrainingCallback(TrainingCallback): pass
"""

PLUGIN_ENTRY_POINTS = """
[pykeen_advneg.samplers]
short-name = third_party:ThirdPartyNegativeSampler
[pykeen_advneg.models]
third = third_party:Third
[pykeen_advneg.callbacks]
noise = third_party:NoiseTrainingCallback
"""


@pytest.mark.parametrize(
    "order", ["import pykeen.models", "import third_party", "import pykeen.sampling, pykeen_advneg"]
)
def test_third_party(nursery: Nursery, tmp_path: Path, order: str) -> None:
    """Classes of another distribution join through the same groups, under both of their names."""
    code = f"""
{order}
from pykeen.models import model_resolver
from pykeen.sampling import negative_sampler_resolver
from pykeen.training import callback_resolver
names = [
    negative_sampler_resolver.lookup("thirdparty"), negative_sampler_resolver.lookup("short-name"),
    model_resolver.lookup("third"), callback_resolver.lookup("noise"),
]
result = [cls.__name__ for cls in names]
"""
    reply = nursery.run(code, path=install(tmp_path, "third_party", PLUGIN, PLUGIN_ENTRY_POINTS))
    assert reply["result"] == ["ThirdPartyNegativeSampler"] * 2 + ["Third", "NoiseTrainingCallback"]
    assert [message for message in reply["warnings"] if "entry point" in message] == []


CONFLICT = """
from pykeen.sampling import BasicNegativeSampler
class KBGANNegativeSampler(BasicNegativeSampler): pass
"""


@pytest.mark.parametrize(
    ("code", "target", "error"),
    [
        ("raise RuntimeError('out of order')", "broken:Sampler", "RuntimeError: out of order"),
        ("import no_such_module", "broken:Sampler", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("", "broken:Sampler", "AttributeError: module 'broken' has no attribute 'Sampler'"),
        ("", "not an entry point", "AttributeError"),
        ("class Sampler: pass", "broken:Sampler", "not a subclass of pykeen.sampling.negative_sampler.NegativeSampler"),
        (CONFLICT, "broken:KBGANNegativeSampler", "RegistrationNameConflict"),
    ],
    ids=["raises", "import", "attribute", "malformed", "base", "conflict"],
)
def test_broken_third_party(nursery: Nursery, tmp_path: Path, code: str, target: str, error: str) -> None:
    """One warning says what is broken; PyKEEN and the rest work."""
    path = install(tmp_path, "broken", code, f"[pykeen_advneg.samplers]\nunlucky = {target}\n")
    names = "\nresult['kbgan'] = pykeen.sampling.negative_sampler_resolver.lookup('kbgan').__module__"
    reply = nursery.run("import pykeen.models" + REPORT + names, path=path)
    assert reply["result"]["at_last"] == ALL
    assert reply["result"]["kbgan"] == "pykeen_advneg.sampling.kbgan"
    (message,) = [message for message in reply["warnings"] if "entry point" in message]
    assert "unlucky" in message
    assert error in message


def test_broken_dependency(nursery: Nursery) -> None:
    """What fails in this package is a warning too."""
    reply = nursery.run("import sys\nsys.modules['wrapt'] = None\nimport pykeen.pipeline\nresult = True")
    assert reply["result"] is True
    (message,) = [message for message in reply["warnings"] if "advneg" in message]
    assert "wrapt" in message


def test_failed_import_of_pykeen(nursery: Nursery) -> None:
    """An import which fails half-way neither loses the registration nor leaves an observer behind."""
    code = """
import sys
sys.modules["pykeen.pipeline"] = None
try:
    import pykeen.hpo
except ImportError:
    failed = "pykeen.models" in sys.modules and "pykeen.hpo" not in sys.modules
del sys.modules["pykeen.pipeline"]
"""
    result = nursery.run(code + REPORT + "\nresult['failed'] = failed")["result"]
    assert result["failed"]
    assert result["at_last"] == ALL
    assert result["observed"] == []


def pykeen_command(home: Path, *arguments: str) -> str:
    """The output of PyKEEN's own command line in a process of its own."""
    environment = os.environ | {"PYKEEN_HOME": str(home), "OMP_NUM_THREADS": "1"}
    environment.pop("PYKEEN_ADVNEG_AUTOLOAD", None)
    command = [sys.executable, "-m", "pykeen", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=home, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "name"),
    [("negative-samplers", "kbgan"), ("training-loops", "adversarial"), ("evaluators", "fastrankbased")],
)
def test_command_ls(tmp_path: Path, what: str, name: str) -> None:
    assert name in pykeen_command(tmp_path, "ls", what)


@pytest.mark.slow
def test_command_train(tmp_path: Path) -> None:
    options = ["--dataset", "nations", "--training-loop", "adversarial", "--number-epochs", "1", "--embedding-dim", "8"]
    output = pykeen_command(tmp_path, "train", "transe", *options, "--output-directory", str(tmp_path))
    assert "Traceback" not in output


@pytest.mark.slow
def test_command_experiments(tmp_path: Path) -> None:
    configuration = {
        "metadata": {},
        "pipeline": {
            "dataset": "nations",
            "model": "distmult",
            "model_kwargs": {"embedding_dim": 8},
            "training_loop": "adversarial",
            "negative_sampler": "kbgan",
            "negative_sampler_kwargs": {"num_candidates": 4},
            "training_kwargs": {"num_epochs": 1},
        },
    }
    path = tmp_path / "experiment.json"
    path.write_text(json.dumps(configuration))
    pykeen_command(tmp_path, "experiments", "run", str(path), "--directory", str(tmp_path))
    (results,) = tmp_path.glob("*/replicates/*/results.json")
    assert len(json.loads(results.read_text())["losses"]) == 1
