"""README.md: short, its code prints what stands below it, and its numbers and those of RESULTS.md are those of the files."""

import re
from statistics import mean, stdev, variance

import pytest

ACCURACY = "test accuracy, %"


@pytest.fixture(scope="module")
def texts(root):
    """README.md and RESULTS.md, each on one line."""
    return {path.stem: " ".join(path.read_text("utf-8").split()) for path in (root / "README.md", root / "docs/RESULTS.md")}


@pytest.fixture(scope="module")
def values(hook, root):
    """A function: a column of those rows of a file that have the text ``names`` in their other columns."""

    def values(file, column, *names):
        rows = hook("results/draw_tables").read(root / f"docs/results/data/{file}.csv")
        return [float(row["value"]) for row in rows if row["column"] == column and {*names} <= {*row.values()}]

    return values


@pytest.fixture(scope="module")
def value(values):
    """A function: the mean of such a column."""
    return lambda *where: mean(values(*where))


@pytest.fixture(scope="module")
def ahead(values):
    """A function: by how much one network is ahead of another one, and the standard error of that, as texts."""

    def ahead(file, column, better, worse, seeds=None):
        one, other = (values(file, column, *names)[:seeds] for names in (better, worse))
        error = (variance(one) / len(one) + variance(other) / len(other)) ** 0.5
        return f"{mean(one) - mean(other):.1f}", f"{error:.1f}"

    return ahead


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


def test_parameters_are_fewer_by_what_the_files_say(texts, hook, root):
    def fewer(file, genetic):
        rows = hook("results/draw_tables").read(root / f"docs/results/data/{file}.csv")
        sizes = {next(iter(row.values())): int(row["parameters"].replace(",", "")) for row in rows}
        return 100 - 100 * sizes[genetic] / sizes["plain"]

    low, high = fewer("headline", "genetic"), fewer("headline_resnet19", "genetic, g = 25")
    assert f"{low:.0f} to {high:.0f} % fewer parameters" in texts["README"]


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
    assert f"at × 0.125 the narrowed network is [{narrow} points better]" in texts["RESULTS"]
    assert f"a control that the paper lacks, is {cost[1]} to {resnet} points ahead" in texts["RESULTS"]
    genetic, narrowed = (value("integers_controls", ACCURACY, name) for name in ("genetic, g = 50", "narrowed plain, × 0.154"))
    small = "g = 13, 126,323 parameters, D = 8", "narrowed plain, × 0.08, 126,105 parameters, D = 8"
    few, fewer = (value("integers", ACCURACY, name) for name in small)
    gain, of_few = f"{genetic - narrowed:.2f}", f"{few - fewer:.1f}"
    assert f"with integer spikes {gain}, {of_few} at 126,000 parameters (one seed)" in texts["README"]
    assert f"[with integers](results/integers.md#genes-or-a-narrower-network) {gain} (s.e. 0.24)" in texts["RESULTS"]
    lost = [
        value("headline", "5 epochs, %", network) - value("headline_energy", "at r = 0.5 after 5 epochs, %", network)
        for network in ("genetic", "plain", "narrowed")
    ]
    assert "**no**: {:.0f} points lost, {:.0f} and {:.0f} with plain weights".format(*lost) in texts["RESULTS"]
    assert value("headline_energy", "energy, µJ", "narrowed") < 0.5 * value("headline_energy", "energy, µJ", "genetic")
    whitened = f"{value('whitened_stem', ACCURACY, '`cifar10-small`, whitened stem'):.1f} %"
    short, long = (value("integers", ACCURACY, f"**`{preset}`, integers**") for preset in ("cifar10-small", "cifar10-cpu"))
    assert f"{short:.1f} % after 5 epochs, {long:.1f} % after 40 (one seed)" in texts["README"]
    before = value("integers", ACCURACY, "`cifar10-small`, LIF, T = 2, 2, 2, 2, 4")
    assert f"gain [{short - before:.1f} points](results/integers.md)" in texts["RESULTS"]
    assert f"after 5 epochs ({whitened}, n = 1)" in texts["RESULTS"]
    gained = [value("whitened_stem", ACCURACY, f"`cifar10-small`, {stem}") for stem in ("whitened stem", "before")]
    assert f"**A whitened stem** gains [{gained[0] - gained[1]:.1f} points]" in texts["RESULTS"]
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


def test_what_a_search_of_the_wiring_gains_is_what_the_files_say(texts, value, ahead):
    start = ("no search (the paper's random)",)
    found = {
        name: ahead("ablation", ACCURACY, names, start)
        for name, names in {
            "ste": ("σ = 1", "STE (CMA-ES), σ's per layer"),
            "random": ("σ = 1", "random search, σ's per layer"),
            "analytic": ("analytic", "no search"),
        }.items()
    }
    readme = (
        "STE gains {ste[0]} points (s.e. {ste[1]}), random search {random[0]},"
        " the analytic draw without a search {analytic[0]}."
    )
    results = (
        "STE gains {ste[0]} points (s.e. {ste[1]}), random search {random[0]} (s.e. {random[1]}), the analytic draw alone,"
        " without a search, {analytic[0]} (s.e. {analytic[1]})"
    )
    assert readme.format(**found) in texts["README"] and results.format(**found) in texts["RESULTS"]
    cost = ("evolution_cost", ACCURACY)
    alone, none, ste = ("CMA-ES on the loss, E",), ("analytic, no search",), ("STE (CMA-ES), E",)
    gained = "A search on the loss alone gains {} after two epochs (s.e. {})"
    assert gained.format(*ahead(*cost, alone, none)) in texts["RESULTS"]
    fifth = "undecided at a fifth of the passes ({} points behind, s.e. {})"
    assert fifth.format(*ahead(*cost, ("CMA-ES on the loss, 5E",), ste, 3)) in texts["RESULTS"]
    above = "The loss alone with STE's proxies ends {} above STE (s.e. {})"
    assert above.format(*ahead(*cost, alone, ste)) in texts["RESULTS"]
    tau, both = (
        [f"{value('kendall', f'E = {e}: τ', fitness):.2f}" for e in (1, 5)]
        for fitness in ("L_ce (baseline)", "STE, the paper's form")
    )
    ranks = f"τ = {tau[0]} after one epoch, {tau[1]} after five. With R_T and R_S {both[0]} and {both[1]}"
    assert ranks in texts["RESULTS"]


def test_what_a_search_of_neurons_and_rates_gains_is_what_the_files_say(texts, value, ahead):
    cifar, fashion = (
        ahead("genes_that_pay", column, ("the preset's", "CMA-ES"), ("the preset's", "none"))
        for column in ("CIFAR-10, %", "Fashion-MNIST, %")
    )
    passes = [value("genes_that_pay", f"image passes: {stage}", "CMA-ES", "the preset's") for stage in ("search", "training")]
    assert round(passes[0] / passes[1]) == 9
    gained = f"gains {cifar[0]} points on CIFAR-10 and {fashion[0]} on Fashion-MNIST"
    assert f"{gained} before a short run (s.e. {cifar[1]} and {fashion[1]}), for [nine times its passes]" in texts["RESULTS"]
    bad, best = "V_th 0.9, rate 3e-2", value("genes_that_pay", "CIFAR-10, %", "the preset's", "none")
    lost = best - value("genes_that_pay", "CIFAR-10, %", bad, "none")
    assert f"From a bad recipe it recovers all of {lost:.1f} points" in texts["RESULTS"]
    assert value("genes_that_pay", "CIFAR-10, %", bad, "CMA-ES") > best


def test_what_searches_of_structure_gain_is_what_the_files_say(texts, values):
    ratios, points = (values("structure_digits", column) for column in ("its energy", "trained: points"))
    low_high = f"[as accurate for {min(ratios):.2f} to {max(ratios):.2f} of the energy]"
    assert f"Six searches of width, g and neurons on digits: {low_high}" in texts["README"] and len(ratios) == 6
    assert abs(mean(points)) < stdev(points) / 6**0.5  # as accurate
    searched, start = (mean(values("structure_cifar", ACCURACY, "genetic", how)) for how in ("CMA-ES, seed 0", "none"))
    assert searched < start - 0.3  # on CIFAR-10: nothing


def test_kills_are_those_of_the_file(texts, value):
    killed, resumed = (int(value("killed", column)) for column in ("kills", "resumed"))
    for text in texts.values():
        assert f"[{resumed} kills of {killed}]" in text


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
