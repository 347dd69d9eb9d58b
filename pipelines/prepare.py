"""Stage prepare: reads, splits and measures the raw images → data/prepared."""

from collections.abc import Callable
from pathlib import Path

from gee_core.config import PrepareConfig
from gee_core.data.images import mean_and_std, one_colour
from gee_core.data.meta import Meta
from gee_core.data.prepared import write_prepared
from gee_core.data.sources import IN_FOLDERS, Progress, load_source
from pipelines.project.paths import PREPARED, check_links
from pipelines.stage import stage


def run(
    cfg: PrepareConfig,
    out: Path,
    on_progress: Progress = lambda done, total: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Meta:
    """Read the images of ``cfg``, split them, and write them to ``out``. ``on_note`` is told of what may surprise."""
    source = load_source(cfg, on_progress)
    if cfg.events is None:
        mean, std = mean_and_std(source.train)
    else:  # the network sees counts as they are, so that its stem adds and does not multiply
        mean, std = (0.0,) * source.train.in_channels, (1 / 255,) * source.train.in_channels
    if set(std) == {1.0}:  # every channel is constant: of others it is 0.5 at most
        raise one_colour(cfg.path if source.source == IN_FOLDERS else source.source)
    meta = write_prepared(out, cfg.data_name, source, mean, std)
    if source.has_val:
        on_note(f"the {len(source.holdout):,} images of val/ are the hold-out; prepare.holdout = {cfg.holdout} is not used")
    if source.unread:
        on_note(f"not read: {', '.join(source.unread[:8])}{', …' if len(source.unread) > 8 else ''}")
    if meta.unevenness:
        on_note(f"the classes are uneven: {meta.unevenness}")
    return meta


def main() -> None:
    notes: list[str] = []
    with stage("prepare") as s:
        named = {"dataset": s.params.prepare.data_name}  # as all runs have it: MLflow refuses a second value of a parameter
        s.run.note(s.params.prepare.model_dump(exclude={"name"}) | named)
        check_links(s.params.prepare)  # a folder may have become one since check ran
        with s.progress("prepare", None) as steps:
            meta = run(s.params.prepare, PREPARED, lambda done, total: steps.at(done, "images", total), notes.append)
            if steps.total is None:  # of a data set that is read as a whole
                steps.at(meta.n_train + meta.n_test, "images", meta.n_train + meta.n_test)
        for note in notes:
            print(f"prepare: {note}")
        s.run.note(metrics={"n_train": meta.n_train, "n_test": meta.n_test, "n_holdout": meta.n_holdout})


if __name__ == "__main__":
    main()
