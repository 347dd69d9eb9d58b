"""Stage check: checks params.yaml and the files that it names before DVC empties the outputs of other stages.

It looks at files, names and ranges. What only a built network can tell, such as the answer of an own one, evolve tells, the
first stage that builds one: of it DVC empties outputs that are stale, and that its cache has.

Its outputs are a constant, and checksums of what `evolve.start` and `train.init_from` name. So running it makes no later stage
run again, unless such a file has changed: then the stages that use it.
"""

import os
from pathlib import Path

from gee_core.config import Params, PrepareConfig
from gee_core.data.folders import is_in_files
from gee_core.errors import InputError, in_section
from gee_core.storage.atomic_files import sha256, write_atomically
from pipelines.inputs.init_from import init_from_files
from pipelines.inputs.own_network import check_module_file
from pipelines.inputs.search import check_search, start_files
from pipelines.project.params import load_params
from pipelines.project.paths import CHECKED, CHECKED_INIT_FROM, CHECKED_START, check_links, check_raw_folder
from pipelines.runtime.input_errors import report_input_errors
from pipelines.runtime.process_tree import file_lock
from pipelines.runtime.run_folder import runs_root


def check_inputs(params: Params) -> None:
    """Check all files and folders that ``params`` name. Images that torchvision can download are, if they are not there.

    Raises:
        InputError: one is missing or unusable, or `base.device` names a GPU that is not there.
    """
    if params.base.device.startswith("cuda"):
        from gee_core.compute import Compute  # loads torch

        with in_section("base"):
            Compute.of(params.base.device, "fp32")
    check_raw_folder(params.prepare)
    if params.prepare.known is None or params.prepare.events is not None:
        from gee_core.data.folders import endings_of, list_images  # loads Pillow

        list_images(Path(params.prepare.path), endings_of(params.prepare.events))
    check_links(params.prepare)
    check_module_file(params.network.name)
    check_search(params)
    init_from_files(params)
    check_downloaded(params.prepare)  # the last, because it may take minutes


def check_downloaded(cfg: PrepareConfig) -> None:
    """Let torchvision download its files that are not there yet. Nothing to do for other images."""
    if cfg.known is None or cfg.known.folder is None or is_in_files(cfg):
        return
    if cfg.stream:
        raise InputError(f"prepare.stream = true: {cfg.path} has no class folders in train/", "set it to false")
    if not all(os.path.isfile(Path(cfg.path, cfg.known.folder, name)) for name in cfg.known.files):
        from gee_core.data.sources import open_torchvision  # loads torch

        with file_lock(runs_root().parent / "download"):  # the second of two runs finds what the first one has downloaded
            open_torchvision(cfg.dataset, Path(cfg.path), train=False)


def main() -> None:
    with report_input_errors("check"):
        params = load_params()
        check_inputs(params)
        for path, files in ((CHECKED_START, start_files(params)), (CHECKED_INIT_FROM, init_from_files(params))):
            write_atomically(path, "".join(f"{sha256(file)}\n" for file in files) or "no file\n")
        write_atomically(CHECKED, "params.yaml and the files that it names are in order\n")


if __name__ == "__main__":
    main()
