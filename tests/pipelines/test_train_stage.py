"""The stage train: the files that it writes, and the messages with which it ends."""

import json
import shutil

import pandas as pd
import pytest

from gee_core.checkpoint import load
from gee_core.data.prepared import load_prepared
from gee_core.genome.encoding import genome_of
from gee_core.model.network import count_parameters
from gee_core.model.wired import architecture_of, wired_network
from gee_core.training.resume import Resumable
from pipelines import train
from pipelines.runtime.run_files import Sent, read_record, read_rows
from pipelines.tracking import publish
from tests.pipelines.train_cases import RATED, SIGMAS, every_change


def write_genotype(folder, **changes):
    path = folder / "models/evolve/genotype.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(SIGMAS.model_dump() | changes))
    return path


def test_the_stage_writes_its_results_and_keeps_its_state_until_dvc_knows_of_them(in_project, make_params, monkeypatch):
    folder = in_project()
    write_genotype(folder)
    train.main()
    history = pd.read_csv(folder / "reports/train/history.csv")
    rates = [f"firing_rate/{layer}" for layer in RATED]
    assert list(history) == ["epoch", "lr", "train_loss", "train_accuracy", *rates, "test_accuracy", "test_loss"]
    assert ((history[rates] >= 0) & (history[rates] <= 1)).all(axis=None)
    assert history[rates].iloc[-1].sum() > 0
    assert len(history) == 4
    metrics = json.loads((folder / "reports/train/metrics.json").read_text())
    params, meta = make_params(), load_prepared(folder / "data/prepared").meta
    net = load(folder / "models/train/network.safetensors")
    assert architecture_of(net).network == params.network.structure()
    plain = wired_network(params.network.model_copy(update={"n_genes": None}), meta, None, 0)
    assert metrics == {
        "train_loss": history.train_loss.iloc[-1],
        "train_accuracy": history.train_accuracy.iloc[-1],
        "parameters": count_parameters(net),
        "plain_parameters": count_parameters(plain),
    }
    assert genome_of(net) is not None
    saved = json.loads((folder / "models/train/network.json").read_text())
    assert list(saved) == ["network", "num_classes", "in_channels", "image_size", "sha256"]
    (path,) = (folder / ".scratch/runs").iterdir()
    points = [(row["step"], row["metrics"]["train_loss"]) for row in read_rows(path)]
    assert points == list(zip(history.epoch, history.train_loss, strict=True))
    assert read_record(path).status == "FINISHED" and len(list(path.glob("files/work/step-*.safetensors"))) == 2
    names = ["models/train/network.safetensors", "reports/train/history.csv"]
    before = [(folder / name).read_bytes() for name in names]
    with monkeypatch.context() as patch:  # `dvc` was killed before it wrote dvc.lock, and runs the stage again
        patch.setattr(train, "train_epoch", lambda *_: pytest.fail("trained again"))
        train.main()
    assert [(folder / name).read_bytes() for name in names] == before


@pytest.mark.parametrize(
    ("store", "says"),
    [("sqlite:///mlflow.db", "train: `gee ui` shows its curves\n"), ("http://a", "train: its curves grow at http://a/run\n")],
)
def test_the_stage_says_where_its_curves_grow(store, says, in_project, monkeypatch, capsys):
    monkeypatch.setenv("GEE_TRACKING", "on")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setattr(publish, "start", lambda owner: None)
    monkeypatch.setattr(publish, "wait", lambda run: (None, []))
    monkeypatch.setattr(train, "read_sent", lambda folder: Sent(page="http://a/run"))
    write_genotype(in_project(train={"epochs": 1, "warmup_epochs": 0}))
    train.main()
    assert capsys.readouterr().err.count(says) == 1


def test_a_run_goes_on_in_the_number_format_in_which_it_began(in_project, monkeypatch):
    folder = in_project(base={"precision": "auto"})
    write_genotype(folder)
    names = ["models/train/network.safetensors", "reports/train/history.csv"]
    in_bf16, kept, formats = [False], Resumable.keep, []
    monkeypatch.setattr("gee_core.compute.bf16_is_faster", lambda: in_bf16[0])

    def run_main():
        try:
            train.main()
        finally:
            formats.append(read_record(next((folder / ".scratch/runs").iterdir())).tags["number_format"])

    run_main()
    whole = [(folder / name).read_bytes() for name in names]
    for name in ("models/train", "reports", ".scratch"):
        shutil.rmtree(folder / name)

    def stop(*state):
        kept(*state)
        in_bf16[0] = True
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Resumable, "keep", stop)
        with pytest.raises(SystemExit):
            run_main()
    run_main()
    assert [(folder / name).read_bytes() for name in names] == whole
    assert formats == ["float32"] * 3


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_every_setting_of_train_and_every_file_is_in_the_key_of_its_folder(in_project, make_params, monkeypatch):
    folder = in_project()
    genotype = write_genotype(folder)
    monkeypatch.setattr(train, "network_files", lambda name: [])
    monkeypatch.setattr(train, "init_from_files", lambda params: [])
    params = make_params()
    folders = {train.train_folder(params)}
    for changed in every_change(params, "base", "network", "train"):
        folders.add(train.train_folder(changed))
    n_settings = sum(len(type(getattr(params, name)).model_fields) for name in ("base", "network", "train"))
    assert len(folders) == 1 + n_settings
    for path in (genotype, folder / "data/prepared/meta.json"):
        path.write_text(path.read_text() + " ")
        assert train.train_folder(params) not in folders
        folders.add(train.train_folder(params))
