"""notebooks/: committed with their outputs, and what they say holds when they are run again."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient


def run(path: Path, monkeypatch, values: str, **environment: str) -> tuple[dict, list]:
    """Run a notebook in its folder with this Python; ``values``, an expression of it, and the outputs of its cells."""
    monkeypatch.setenv("PYTHONPATH", str(path.parents[1]))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(f"import json; print(json.dumps({values}))"))
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return json.loads(outputs[-1]["text"].splitlines()[-1]), outputs


def pictures(outputs: list) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_every_notebook_is_committed_as_it_ran_from_top_to_bottom_without_errors(root):
    for path in (root / "notebooks").glob("*.ipynb"):
        code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)) != []
        assert {output.output_type for cell in code for output in cell.outputs} <= {"stream", "display_data", "execute_result"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the kernel's transport
def test_the_encoded_network_learns_the_digits_with_less_than_half_of_the_parameters(root, monkeypatch):
    sizes = "[parameters(net) for net in (plain, genetic, decoded)]"
    values = f"{{'accuracies': [curve[-1] for curve in curves.values()], 'sizes': {sizes}, 'difference': difference}}"
    results, outputs = run(root / "notebooks/encode_and_train.ipynb", monkeypatch, values)
    assert len(results["accuracies"]) == 2 and min(results["accuracies"]) > 0.93
    plain, genetic, decoded = results["sizes"]
    assert genetic < plain / 2 and decoded == plain
    assert results["difference"] < 1e-4
    assert pictures(outputs) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the kernel's transport
def test_the_candidates_of_an_evolution_are_read_from_mlflow(root, finished_project, monkeypatch):
    rows = "table[['generation', 'index', 'fitness', 'sigma_O']].values.tolist()"
    values = f"{{'rows': {rows}, 'winner': winner[['generation', 'index']].astype(int).tolist()}}"
    uri = f"sqlite:///{finished_project}/mlflow.db"
    results, outputs = run(root / "notebooks/read_candidates.ipynb", monkeypatch, values, MLFLOW_TRACKING_URI=uri)
    assert [row[:2] for row in results["rows"]][:6] == [[g, i] for g in range(2) for i in range(3)]
    assert all(row[0] in (2, 3) for row in results["rows"][6:])  # what was scored again, and trained in full
    assert all(sigma > 0 for *_, sigma in results["rows"])
    genotype = json.loads((finished_project / "models/evolve/genotype.json").read_text())
    assert results["winner"] == [genotype["generation"], genotype["index"]]
    (won,) = (row for row in results["rows"] if row[:2] == results["winner"])
    assert won[2:] == pytest.approx([genotype["fitness"], genotype["genes"]["sigma_O"]])
    assert pictures(outputs) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the kernel's transport
def test_an_update_for_each_sensor_carries_one_base_to_it(root, monkeypatch):
    values = "{'before': before, 'after': after, 'sizes': sizes}"
    results, outputs = run(root / "notebooks/many_sensors.ipynb", monkeypatch, values)
    assert all(results["after"][name] > results["before"][name] for name in ("turned", "inverted", "noisy"))
    assert max(results["sizes"].values()) < 3000
    assert pictures(outputs) == 1
