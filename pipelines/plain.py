"""Stage plain: trains the winner's network with plain weights too, by the same recipe → reports/plain/metrics.json.

The report compares the two, and nothing else depends on it. Without `evaluate.plain` the file is empty.
"""

from gee_core.storage.atomic_files import write_json
from pipelines.engines.ranks import joined
from pipelines.inputs.genotype_file import GenotypeFile, load_genotype
from pipelines.inputs.own_network import network_files
from pipelines.project.params import load_params
from pipelines.project.paths import PREPARED, REPORTS
from pipelines.runtime.input_errors import report_input_errors
from pipelines.runtime.run_files import WORK
from pipelines.runtime.run_folder import folder_of
from pipelines.stage import stage

METRICS = REPORTS / "plain/metrics.json"

MEASURED = ("test_accuracy", "test_loss", "energy_mj", "spikes_per_image")
"""What the file has of the plain network, each as `plain_…`."""


def main() -> None:
    with report_input_errors("plain"):
        wanted = load_params().trains_plain
    if not wanted:
        write_json(METRICS, {})
        return
    from pipelines import evaluate, train  # here, since they load torch
    from pipelines.inputs.loading import prepared_images

    with stage("plain") as s, joined(s.params.base) as compute:
        data, winner = prepared_images(), load_genotype(s.params)
        params = s.params.with_genes(winner.genes)
        network = params.network.model_copy(update={"n_genes": None})
        params = params.model_copy(update={"network": network})
        weights = GenotypeFile(network=network.name, width=network.width, n_genes=None, genes={}, seed=winner.seed)
        inputs = [PREPARED / "meta.json", *network_files(network.name)]
        folder = folder_of("plain", [params.base, network, params.train], inputs, extra=str(winner.seed))
        with train.training_together(s, params, data, folder, compute) as compute:
            with s.progress("plain", params.train.epochs) as steps:
                net = train.run(params, weights, data, folder / WORK, on_step=steps.at, compute=compute).net
            numbers = evaluate.run(params, net, data, compute)[0].model_dump()
            if s.follows:
                return
            metrics = {f"plain_{name}": numbers[name] for name in MEASURED}
            s.run.note(metrics=metrics)
            write_json(METRICS, metrics)
            s.run.finish(METRICS)


if __name__ == "__main__":
    main()
