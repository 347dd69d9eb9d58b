import json
import sys

import pytest
import torch

from benchmarks import time_to_accuracy
from gee_core.data.images import PackedImages
from gee_core.data.prepared import Source, write_prepared

TINY = ["network.width=0.0625", "train.batch_size=8", "train.epochs=2", "train.warmup_epochs=0", "train.T_schedule=null"]
TINY += ["train.sizes=null", "train.norm_images=null"]


@pytest.mark.slow
@pytest.mark.parametrize("contender", time_to_accuracy.CONTENDERS)
def test_every_contender_trains_and_is_tested_after_every_epoch(contender, tmp_path, monkeypatch, capsys):
    pixels = torch.randint(0, 256, (32, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = PackedImages(pixels, torch.arange(32) % 2)
    train, test = images.subset(torch.arange(16)), images.subset(torch.arange(16, 32))
    source = Source("random", ("a", "b"), train, test, torch.arange(8))
    write_prepared(tmp_path / "state", "cifar10", source, (0.5,) * 3, (0.3,) * 3)
    command = ["time_to_accuracy", "--data", "none", "--state", str(tmp_path / "state"), "--contender", contender, "--json"]
    monkeypatch.setattr(sys, "argv", [*command, *(word for change in TINY for word in ("--set", change))])
    time_to_accuracy.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["epoch"] for row in found["rows"]] == [1, 2]
    assert all(0 <= row["test_accuracy"] <= 1 for row in found["rows"])
