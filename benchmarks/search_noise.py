"""How the search of several objectives chooses where its measurements are as noisy as those of digits. Nothing is trained.

    python -m benchmarks.search_noise TABLE [--seeds 60]

TABLE has the rows of candidates.csv of several runs with the preset digits, and a column `run`. The true log loss and log
energy are smooth functions of the genes, fitted to the candidates of the searches by Gaussian processes. The noise of a
short training is the standard deviation of the log loss over the fresh draws of one candidate in the table. That of a full
training is the standard deviation over the starts that were trained in full. Noise is drawn anew for each candidate,
because rounding alone makes equal seeds differ as much.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

import gee_core
from gee_core.config import SearchConfig
from gee_core.config.genes import GENES
from gee_core.evolution.candidate import Candidate, Price, Score, Scored
from gee_core.evolution.front import START
from gee_core.evolution.search_vector import SearchSpace
from gee_core.seeding import derive_seed
from pipelines.inputs.search import search_space
from pipelines.project.params import check_params
from pipelines.project.presets import load_preset

AT_CHANCE = np.log(10)
"""The loss of digits' best constant answer."""


class Model:
    """Losses and energies as those in ``table``, by ``genes``."""

    def __init__(self, table: pd.DataFrame, genes: list[str]):
        self.genes = genes
        search = table[table["rescored"].isna() & table["L_ce"].notna()]
        x = self._features(search[genes])
        self._middle, self._scale = x.mean(0), x.std(0)
        smooth = [ConstantKernel(1.0) * RBF(np.ones(len(genes)), (0.3, 30)) + WhiteKernel(0.02) for _ in range(2)]
        fits = [GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=2, random_state=0) for kernel in smooth]
        values = np.log(search["L_ce"]), np.log(search["energy_uj"])
        self._loss, self._energy = (fit.fit((x - self._middle) / self._scale, y) for fit, y in zip(fits, values, strict=True))
        fresh = table[table["rescored"].notna() & ~table["in_full"]]
        groups = np.log(fresh["L_ce"]).groupby([fresh["run"], fresh["rescored"]])
        in_full = np.log(table.loc[table["in_full"] & (table["rescored"] == START), "L_ce"])
        self.noise = {False: float(np.sqrt(groups.var().mean())), True: float(in_full.std())}
        """Of the log loss of a short training, and of a full one."""

    def _features(self, values: pd.DataFrame) -> np.ndarray:
        return np.stack([np.log(values[gene]) if GENES[gene].log else values[gene] for gene in self.genes], axis=1)

    def truth(self, genes: dict[str, float]) -> tuple[float, float]:
        """The true loss and the energy in µJ of a network with ``genes``."""
        x = (self._features(pd.DataFrame([genes])) - self._middle) / self._scale
        return float(np.exp(self._loss.predict(x)[0])), float(np.exp(self._energy.predict(x)[0]))

    def score_all(self, candidates: list[Candidate], seed: int) -> Iterator[Scored]:
        """The noisy score of each candidate."""
        for c in candidates:
            loss, energy = self.truth(dict(c.genotype.settings))
            random = np.random.default_rng(derive_seed(seed, "noise", *c.place))
            loss *= np.exp(random.normal(0, self.noise[c.in_full]))
            yield c, Score(loss, dead=loss >= AT_CHANCE, price=Price(0, 0, 1, energy)), 0.0


def search_once(model: Model, seed: int, cfg: SearchConfig, space: SearchSpace) -> dict[str, float]:
    """Search once. Returns the true loss and energy of the winner over those of the start, and the number of trainings."""
    records = gee_core.evolve(cfg, space, seed, lambda candidates: model.score_all(candidates, seed))
    chosen, start = (dict(r.candidate.genotype.settings) for r in (gee_core.winner(records, cfg), records[0]))
    (loss, energy), (start_loss, start_energy) = model.truth(chosen), model.truth(start)
    return {"loss": loss / start_loss, "energy": energy / start_energy, "trainings": len(records)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="candidates of runs, with a column run")
    parser.add_argument("--seeds", type=int, default=60)
    arguments = parser.parse_args()
    table = pd.read_csv(arguments.table)
    params = check_params(load_preset("digits").values, "digits")
    model = Model(table, list(params.evolve.genes))
    print(f"{table['run'].nunique()} runs, noise of the log loss {model.noise[False]:.3f}, in full {model.noise[True]:.3f}")
    space = search_space(params)
    results = pd.DataFrame([search_once(model, seed, params.evolve, space) for seed in range(arguments.seeds)])
    for name in ("loss", "energy"):
        median, high = results[name].quantile([0.5, 0.9])
        print(f"true {name} of the chosen over the start's: median {median:.3f}, 90th percentile {high:.3f}")


if __name__ == "__main__":
    main()
