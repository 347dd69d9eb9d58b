"""Stage check: checks params.yaml and the files that it names before DVC empties the outputs of other stages.

Its output is constant, so running it does not make any later stage run again.
"""

from gee_core.config import Params
from gee_core.storage.atomic_files import write_atomically
from pipelines.inputs.init_checkpoint import init_from_files
from pipelines.inputs.start_genotype import load_start
from pipelines.project.params import check_raw_folder, load_params
from pipelines.project.paths import CHECKED
from pipelines.stage import report_input_errors


def check_inputs(params: Params) -> None:
    """Check all files and folders that ``params`` name; the folder is created if torchvision can download the images.

    Raises:
        InputError: one is missing or unusable.
    """
    check_raw_folder(params.prepare)
    load_start(params)
    init_from_files(params)


def main() -> None:
    with report_input_errors("check"):
        check_inputs(load_params())
        write_atomically(CHECKED, "params.yaml and the files that it names are in order\n")


if __name__ == "__main__":
    main()
