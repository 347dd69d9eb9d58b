"""Stage plain: trains what the result is compared with, by the same recipe → reports/plain/metrics.json.

That is the network of the section `network` with plain weights. After a search under a budget also the start of the search, the
start narrowed until it fits, and the plain network narrowed likewise. The report shows them, and nothing else depends on them.
Without `evaluate.plain` the file is empty.
"""

from collections.abc import Iterator

from gee_core.config import Params
from gee_core.storage.atomic_files import write_json
from gee_core.storage.json_object import read_json_model
from pipelines.engines.ranks import joined
from pipelines.inputs.genotype_file import Controls, GenotypeFile, load_genotype
from pipelines.inputs.own_network import network_files
from pipelines.project.params import load_params
from pipelines.project.paths import CONTROLS, PREPARED, REPORTS
from pipelines.runtime.input_errors import reading, report_input_errors
from pipelines.runtime.run_files import WORK
from pipelines.runtime.run_folder import folder_of
from pipelines.stage import stage

METRICS = REPORTS / "plain/metrics.json"

MEASURED = {
    "start": ("test_accuracy", "energy_mj", "parameters"),
    "narrowed": ("test_accuracy", "energy_mj", "parameters"),
    "narrowed_plain": ("test_accuracy", "energy_mj", "parameters"),
    "plain": ("test_accuracy", "test_loss", "energy_mj", "spikes_per_image"),
}
"""What the file has of each network, such as `plain_test_accuracy`."""


def networks(params: Params, winner: GenotypeFile) -> Iterator[tuple[str, Params, GenotypeFile]]:
    """The networks that are trained, by their names in `MEASURED`: the settings and the genotype of each."""
    configured = params.network
    plain = params.model_copy(update={"network": configured.model_copy(update={"n_genes": None})})
    if params.evolve.counts:
        with reading(CONTROLS, "run `dvc repro evolve`"):
            controls = read_json_model(CONTROLS, Controls)
        for name, file in controls:
            if file is not None:
                of = plain if file.n_genes is None else params
                yield name, of.with_genes(file.genes), file.model_copy(update={"seed": winner.seed})
    about = configured.model_dump(include={"width"}) | {"network": configured.name, "n_genes": None}
    yield "plain", plain, GenotypeFile(**about, genes={}, seed=winner.seed)


def main() -> None:
    with report_input_errors("plain"):
        wanted = load_params().trains_plain
    if not wanted:
        write_json(METRICS, {})
        return
    from gee_core.model.wired import plain_parameters  # here, since these load torch
    from pipelines import evaluate, train
    from pipelines.inputs.loading import prepared_images

    with stage("plain") as s, joined(s.params.base) as compute:
        data, params = prepared_images(), s.params
        compared = list(networks(params, load_genotype(params)))
        inputs = [PREPARED / "meta.json", *network_files(params.network.name)]
        wirings = [weights.model_dump_json() for _, _, weights in compared]
        folder = folder_of("plain", [params.base, params.network, params.train], inputs, extra="".join(wirings))
        with train.training_together(s, params, data, folder, compute) as compute:
            metrics = {"configured_plain_parameters": plain_parameters(params.network, data.meta)}
            with s.progress("plain", len(compared) * params.train.epochs) as steps:
                for number, (name, of, weights) in enumerate(compared):

                    def on_step(epochs: float, before: int = number * params.train.epochs, name: str = name) -> None:
                        steps.at(before + epochs, f"the {name} network")

                    net = train.run(of, weights, data, folder / WORK / name, on_step=on_step, compute=compute).net
                    numbers = evaluate.run(of, net, data, compute)[0].model_dump()
                    metrics |= {f"{name}_{measure}": numbers[measure] for measure in MEASURED[name]}
            if s.follows:
                return
            s.run.note(metrics=metrics)
            write_json(METRICS, metrics)
            s.run.finish(METRICS)


if __name__ == "__main__":
    main()
