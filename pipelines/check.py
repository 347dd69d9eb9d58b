"""Stage check: params.yaml and the files that it names are in order, before DVC empties the outputs of any other stage.

What it writes never changes, so no stage behind it runs again because it did.
"""

from gee_core.config import Params
from gee_core.storage.atomic_files import write_atomically
from pipelines.inputs.init_checkpoint import init_from_files
from pipelines.inputs.start_genotype import load_start
from pipelines.project.params import check_raw_folder, load_params
from pipelines.project.paths import CHECKED
from pipelines.stage import report_input_errors


def check_inputs(params: Params) -> None:
    """See to it that all that ``params`` name is there; where torchvision can download, the folder is made.

    Raises:
        InputError: something is missing or cannot be used.
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
