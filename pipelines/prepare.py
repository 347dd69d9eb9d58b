"""Stage prepare: reads, splits and measures the raw images → data/prepared."""

from pathlib import Path

from gee_core.config import PrepareConfig
from gee_core.data.images import PackedImages, StreamedImages, mean_and_std
from gee_core.data.prepared import Meta, write_prepared
from gee_core.data.sources import Progress, load_source
from gee_core.data.splits import holdout_indices, stratified_indices
from pipelines.project.paths import PREPARED
from pipelines.stage import stage

STATISTICS_SAMPLE = 2_000
"""Number of streamed images from which mean and std are computed."""


def run(cfg: PrepareConfig, out: Path, on_progress: Progress | None = None) -> Meta:
    """Read the images that ``cfg`` names, split them, and write them to ``out``."""
    source = load_source(cfg, on_progress)
    holdout = holdout_indices(source.train.labels, cfg.holdout, cfg.split_seed, source.class_names)
    mean, std = mean_and_std(_sample(source.train, cfg.split_seed))
    return write_prepared(
        out,
        dataset=cfg.dataset,
        source=source.source,
        class_names=source.class_names,
        mean=mean,
        std=std,
        train=source.train,
        test=source.test,
        holdout=holdout,
    )


def _sample(train: PackedImages | StreamedImages, seed: int) -> PackedImages | StreamedImages:
    if isinstance(train, PackedImages) or len(train) <= STATISTICS_SAMPLE:
        return train
    return train.subset(stratified_indices(train.labels, STATISTICS_SAMPLE, seed, "statistics"))


def main() -> None:
    with stage("prepare") as s, s.progress("prepare", None) as steps:
        s.track.params(s.params.prepare.model_dump())
        meta = run(s.params.prepare, PREPARED, lambda done, total: steps.at(done, "images", total))
        s.track.metrics({"n_train": meta.n_train, "n_test": meta.n_test, "n_holdout": meta.n_holdout})


if __name__ == "__main__":
    main()
