"""README.md: short, its code prints what stands below it, and its numbers and those of RESULTS.md are those of the files."""

import re
from statistics import mean, stdev

import pytest

ACCURACY = "test accuracy, %"


@pytest.fixture(scope="module")
def texts(root):
    """README.md and RESULTS.md, each on one line."""
    return {path.stem: " ".join(path.read_text("utf-8").split()) for path in (root / "README.md", root / "docs/RESULTS.md")}


@pytest.fixture(scope="module")
def value(hook, root):
    """A function: the mean of a column over those rows of a file that have the text ``names`` in their other columns."""

    def value(file, column, *names):
        rows = hook("results/draw_tables").read(root / f"docs/results/data/{file}.csv")
        return mean(float(row["value"]) for row in rows if row["column"] == column and {*names} <= {*row.values()})

    return value


def test_the_texts_are_as_short_as_promised(hook, capsys):
    hook("./count_words").main()
    assert capsys.readouterr().out.splitlines()[-1] == "all limits are met"


def test_its_twelve_lines_run_without_data_and_print_what_it_shows(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    readme = (root / "README.md").read_text(encoding="utf-8")
    code, shown = (re.findall(rf"^```{kind}\n(.*?)^```", readme, re.DOTALL | re.MULTILINE) for kind in ("python", "text"))
    assert len(code) == len(shown) == 1 and len([line for line in code[0].splitlines() if line]) == 12
    printed = []
    names = {"print": lambda *values: printed.append(" ".join(map(str, values)))}
    exec(compile(code[0], "README.md", "exec"), names)
    assert printed == shown[0].splitlines()
    before, after = (sum(p.numel() for p in names[name].parameters()) for name in ("net", "genetic"))
    assert after <= 0.4 * before


def test_what_genes_gain_and_cost_is_what_the_files_say(texts, value):
    def points(file, column, better, worse):
        return f"{value(file, column, better) - value(file, column, worse):.1f}"

    width, cost = (
        [points("headline", f"{epochs} epochs, %", *pair) for epochs in (5, 18)]
        for pair in (("genetic", "narrowed"), ("plain", "genetic"))
    )
    resnet = points("headline_resnet19", ACCURACY, "plain", "genetic, g = 25")
    narrow = points("hardware_networks", ACCURACY, "narrowed", "genetic, g = 25")
    events = points("events", ACCURACY, "plain", "genetic, g = 24")
    assert f"{width[0]} to {width[1]} points more than a plain network narrowed" in texts["README"]
    assert f"{cost[1]} to {cost[0]} points compared with the same plain network, {resnet} in ResNet-19" in texts["README"]
    assert f"At × 0.125, the narrowed network is {narrow} points ahead of the genes" in texts["README"]
    assert f"{width[0]} points ahead of the narrowed network after 5 epochs, {width[1]} after 18" in texts["RESULTS"]
    assert f"{cost[0]} points after 5 epochs, {cost[1]} after 18, {resnet} in ResNet-19" in texts["RESULTS"]
    assert f"it is {narrow} points behind" in texts["RESULTS"]
    assert f"[{events} points behind](results/events.md)" in texts["RESULTS"]
    assert value("headline_energy", "energy, µJ", "narrowed") < 0.5 * value("headline_energy", "energy, µJ", "genetic")
    whitened = f"{value('whitened_stem', ACCURACY, '`cifar10-small`, whitened stem'):.1f} %"
    assert f"{whitened} after 5 epochs, no gain after 18 (one seed)" in texts["README"]
    assert f"after 5 epochs ({whitened}, n = 1)" in texts["RESULTS"]
    longer, without = (value("whitened_stem", ACCURACY, f"`cifar10-cpu`, {stem}") for stem in ("whitened stem", "before"))
    assert longer < without


def test_what_early_exit_spikes_int8_and_fine_tuning_bring_is_what_the_files_say(root, texts, value):
    columns = ("mean steps of 4", "share of energy", ACCURACY)
    steps, share, early = (value("early_exit", column, "CIFAR-10, 18 epochs", "0.6") for column in columns)
    lost = value("early_exit", ACCURACY, "CIFAR-10, 18 epochs", "none") - early
    assert f"[{steps} of 4 steps](results/recipes.md#fewer-steps)" in texts["RESULTS"]
    assert f"and {share} of the energy for {lost:.2f} points" in texts["RESULTS"]
    saved = 100 - 100 * value("spike_penalty", "energy, µJ", "0.6") / value("spike_penalty", "energy, µJ", "0")
    assert f"saves [{saved:.0f} % of the energy](results/recipes.md#fewer-spikes)" in texts["RESULTS"]

    photographs = "`photographs`, whitened stem, late fall"
    rounded, exact = (value("presets", f"as {form} genes, %", photographs) for form in ("int8", "float32"))
    link = "results/accuracy.md#the-presets-whole-pipeline"
    assert f"[{exact - rounded:.1f} points]({link}) on 785 photographs" in texts["RESULTS"]

    tuned, grown = (
        [value("fine_tuning", f"from {start}, %", "1 epoch", seed) for seed in "012"]
        for start in ("`cifarnet.cifar10`", "the analytic σ's")
    )
    ahead = [a - b for a, b in zip(tuned, grown, strict=True)]
    page = (root / "docs/pretrained.md").read_text(encoding="utf-8")
    assert f"{mean(ahead):.1f} points ahead (s.e. {stdev(ahead) / 3**0.5:.1f} over three seeds)" in page


def test_what_a_search_gains_is_what_the_files_say(texts, value):
    start = value("ablation", ACCURACY, "no search (the paper's random)")
    found = [
        f"{value('ablation', ACCURACY, *names) - start:.1f}"
        for names in (
            ("σ = 1", "STE (CMA-ES), σ's per layer"),
            ("σ = 1", "random search, σ's per layer"),
            ("analytic", "no search"),
        )
    ]
    readme = "STE gains {} points (s.e. 1.8), random search {}, the analytic draw without a search {}."
    results = (
        "STE gains {} points (s.e. 1.8), random search {} (s.e. 0.6), the analytic draw alone, without a search, {} (s.e. 0.7)"
    )
    assert readme.format(*found) in texts["README"] and results.format(*found) in texts["RESULTS"]
    cifar, fashion = (
        f"{value('genes_that_pay', column, start, 'CMA-ES') - value('genes_that_pay', column, start, 'none'):.1f}"
        for start in ["the preset's"]
        for column in ("CIFAR-10, %", "Fashion-MNIST, %")
    )
    assert f"A search of thresholds and rates gains {cifar} points" in texts["README"]
    assert f"gains {cifar} points on CIFAR-10 and {fashion} on Fashion-MNIST" in texts["RESULTS"]
    tau = {e: f"{value('kendall', f'E = {e}: τ', 'L_ce (baseline)'):.2f}" for e in (1, 5)}
    assert f"τ = {tau[1]} after one epoch, {tau[5]} after five" in texts["RESULTS"]


def test_times_and_sizes_are_what_the_files_say(texts, value):
    seconds = {
        (target, name): value("time_to_accuracy", f"{target} %: seconds", name)
        for target in (70, 80)
        for name in ("genetic", "plain", "SpikingJelly, default")
    }
    genetic, plain, default = (seconds[80, name] for name in ("genetic", "plain", "SpikingJelly, default"))
    assert f"80 % takes {genetic:.0f} s, a sixth" in texts["README"] and f"80 % after {genetic:.0f} s" in texts["RESULTS"]
    assert round(default / genetic) == 6
    assert f"plain weights take {plain:.0f} s by the same recipe" in texts["README"]
    seventy = seconds[70, "SpikingJelly, default"] / seconds[70, "plain"]
    assert f"plain weights by the same recipe are {default / plain:.1f} to {seventy:.1f} times as fast" in texts["RESULTS"]

    networks = ("`small`, 64", "`small_post`, 64", "`full`, 32", "`full_post`, 32", "`cifarnet`, 64")
    speed, memory, time = (
        [value("training_step", column, network) for network in networks]
        for column in ("speed over SpikingJelly's default", "memory over its default", "time over plain weights")
    )
    assert (f"{min(speed):.1f}", f"{max(memory):.1f}") == ("2.2", "0.3")
    assert (f"{min(time):.2f}", f"{max(time):.2f}") == ("1.01", "1.03")
    assert "2.2 times as fast as SpikingJelly's default, in 0.3 of its memory" in texts["README"]
    assert "2.2 times as fast as SpikingJelly's default at [0.3 of its memory]" in texts["RESULTS"]
    assert "1 to 3 % slower than with plain weights" in texts["RESULTS"]

    genes = value("bytes", "genetic, bytes", "int8")
    assert f"{genes / value('bytes', 'plain, bytes', 'fp32'):.2f}" == "0.10"
    assert f"{genes / value('bytes', 'plain, bytes', 'int8'):.1f}" == "0.4"
    assert "bytes) of the plain float32 file, 0.4 of the plain int8 file" in texts["RESULTS"]
