"""The Python of docs/tutorials/use-the-model.md runs, classifies as `gee predict` does and keeps the card."""

import re
from pathlib import Path

import torch

import gee_core
from pipelines.commands.predict.model import open_model

PAGE = Path(__file__).resolve().parents[2] / "docs/tutorials/use-the-model.md"
CARD = {"class_names": ["a", "b", "c"], "in_channels": 1, "image_size": 8, "mean": [0.5], "std": [0.25]}


def test_the_library_classifies_as_gee_predict_does_and_the_file_written_anew_predicts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = gee_core.build_network("cifarnet", 3, 1, 8, n_genes=4, width=1 / 16, T=2, v_threshold=0.01)
    gee_core.save_genes("genes.safetensors", net, card=CARD)
    images = torch.randint(256, (16, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    found = {"gee_core": gee_core, "torch": torch, "images": images}
    exec(block, found)
    p_BK = torch.from_numpy(open_model("genes.safetensors").probabilities(images.numpy()))
    torch.testing.assert_close(found["logits"].softmax(1), p_BK)
    assert found["names"] == [CARD["class_names"][k] for k in p_BK.argmax(1)]
    assert open_model("again.safetensors").card.class_names == ("a", "b", "c")
