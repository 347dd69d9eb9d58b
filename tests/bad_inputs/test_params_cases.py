"""params.yaml: what it says, and what it is."""

import pytest

from tests.bad_inputs.case import Case, edit, param, remove, row, write

REMEDY = "gee preset use digits"
FIX = "fix it there (`git diff params.yaml` shows your changes); `gee preset use digits` starts anew and keeps this file"


def refused(key: str, value: str, says: str, remedy: str) -> Case:
    return row("load_params", f"params.yaml: {says}", remedy, param(key, value))


def unreadable(content: bytes | str, says: str) -> Case:
    return row("load_params", says, FIX, write("params.yaml", content))


SEDE = edit("params.yaml", "^  seed: 0", "  seed: 0\n  sede: 1")

CASES = [
    *(row(stage, "base.sede is not a known key", "did you mean seed?", SEDE) for stage in ("prepare", "report")),
    row("gee run", "base.sede is not a known key", "did you mean seed?", SEDE),
    row("load_params", "params.yaml: base.seed is missing", "add it", edit("params.yaml", "^  seed: 0\n", "")),
    row(
        "evolve",
        "params.yaml: network.T = 'x'",
        "valid integer",
        param("base.seed", "-1"),
        param("network.T", "x"),
        param("prepare.holdout", "1"),
        messages=3,
    ),
    refused("train.epochs", "many", "train.epochs = 'many'", "valid integer"),
    refused("network.name", "resnet50", "network.name = 'resnet50'", "choose one of cifarnet"),
    refused("network.name", "networks/my.py:A", "network.name = 'networks/my.py:A'", "as package.module:NAME"),
    refused("network.block", "pre", "network.block = 'pre'", "set it to null"),
    refused("network.pool", "min", "network.pool = 'min'", "'max' or 'avg'"),
    refused("network.init", "{omega_O: 1.5}", "network.init.omega_O = 1.5", "less than or equal to 1"),
    refused("network.init", "{gamma_0: 0.5}", "network.init.gamma_0 is not a known key", "remove it"),
    refused("evolve.budget", "{params: 100}", "evolve.budget.params is not a known key", "did you mean parameters?"),
    row(
        "evolve",
        "evolve.budget.parameters = 100: the least that the searched genes allow is ",
        "raise it to that or more, or search genes of structure",
        param("evolve.budget", "{parameters: 100}"),
    ),
    row(
        "evolve",
        "evolve.budget.steps = 1: the least that the searched genes allow is 2",
        "raise it to that or more",
        param("evolve.budget", "{steps: 1}"),
        param("evolve.genes", "[width]"),
    ),
    refused("evolve.objectives", "[energy]", "evolve: objectives = ['energy']: write loss first, and each once", "loss first"),
    row(
        "evolve",
        "evolve: objectives = ['loss', 'energy']: variant ste rewards R_T or R_S, no objectives",
        "set variant to baseline",
        param("evolve.objectives", "[loss, energy]"),
    ),
    row(
        "evolve",
        "evolve: halving = 2.0: it eliminates by epochs, and a front compares",
        "set it to null",
        param("evolve.objectives", "[loss, energy]"),
        param("evolve.variant", "baseline"),
        param("evolve.halving", "2.0"),
    ),
    refused("evolve.choose", "elbow", "evolve.choose = 'elbow': must be knee, limits of parameters", "the number of a member"),
    refused("evolve.choose", "{energy: 3}", "evolve.choose: must be knee, limits of parameters, bytes", "of a member"),
    refused("evolve.genes", "[wirng]", "evolve.genes = ['wirng']: 'wirng' is no gene and no group", "did you mean wiring?"),
    refused("evolve.genes", "[neurons, tau]", "evolve.genes = ['neurons', 'tau']: 'tau' is named twice", "leave out"),
    row(
        "gee run",
        "genes: 'sigma_99' is none of a network with 8 encodings",
        "leave it out",
        param("evolve.genes", "[sigma_99]"),
    ),
    row(
        "gee run",
        "genes: weight_decay is 0: a search on a logarithmic scale cannot start there",
        "set it to 0.0001, or leave weight_decay out",
        param("evolve.weight_decay", "0.0"),
        param("evolve.genes", "[plasticity]"),
    ),
    row(
        "evolve",
        "evolve.choose.parameters = 10: the least that the searched genes allow is ",
        "raise it to that or more",
        param("evolve.objectives", "[loss, energy]"),
        param("evolve.variant", "baseline"),
        param("evolve.choose", "{parameters: 10}"),
    ),
    row(
        "evolve",
        "evolve: choose = 9: a front has at most rescore.top + 1 members",
        "choose 1 to 3",
        param("evolve.objectives", "[loss, energy]"),
        param("evolve.variant", "baseline"),
        param("evolve.rescore", "{top: 2, draws: 1}"),
        param("evolve.choose", "9"),
    ),
    refused("prepare.name", "../x", "prepare.name = '../x'", "should match pattern"),
    refused("prepare.name", "mine", "prepare: name = 'mine' is for images of dataset folder", "null"),
    row(
        "prepare",
        "prepare: name = 'cifar10' is the name of another data set",
        "choose another name",
        param("prepare.dataset", "folder"),
        param("prepare.name", "cifar10"),
    ),
    refused("network.n_genes", "100000000", "network.n_genes = 100000000", "equal to 10000"),
    refused(
        "train.quantise",
        "{format: int4, epochs: 5}",
        "train: quantise.epochs = 5 must not be greater than epochs = 4",
        "epochs = 4",
    ),
    *(refused(f"{run}.norm_images", "1", f"{run}: norm_images = 1 ", "at least batch_size") for run in ("train", "evolve")),
    row(
        "train",
        "train.T_schedule = [2]: your own network runs the steps of its code",
        "set it to null",
        param("network.name", "networks.my:A"),
        param("train.T_schedule", "[2]"),
    ),
    row(
        "train",
        "train: whiten = true would replace the stem of init_from",
        "set one of the two",
        param("train.init_from", "inputs/plain.safetensors"),
        param("train.whiten", "true"),
    ),
    row(
        "train",
        "train.spike_penalty = 0.1: which layers of your own network read spikes is not known",
        "set it to 0",
        param("network.name", "networks.my:A"),
        param("train.spike_penalty", "0.1"),
    ),
    row(
        "evaluate",
        "evaluate.exit = [0.9]: your own network runs all its steps",
        "set it to null",
        param("network.name", "networks.my:A"),
        param("evaluate.exit", "[0.9]"),
    ),
    refused("prepare.path", '"a\\0b"', "prepare.path = 'a\\x00b'", "name another path"),
    refused(
        "evolve.rescore", "{top: 4, draws: 2}", "evolve.rescore.top = 4: a generation has 3 candidates", "set it to 3 or less"
    ),
    row(
        "evolve",
        "start = 'unit' has no use for variant analytic",
        "set it to analytic",
        param("evolve.variant", "analytic"),
        param("evolve.start", "unit"),
    ),
    *(
        refused("robustness.hardware", f"{{n_draws: 1, max_images: null{given}}}", f"robustness.hardware{says}", remedy)
        for given, says, remedy in [
            (", wieghts: [0.1]", ".wieghts is not a known", "did you mean weights?"),
            ("", ": names no domain", "or set it to null"),
            (", lost_step: [3]", ".lost_step = [3]: network.T = 2", "lower"),
        ]
    ),
    refused("report.title", '["\\e[31m"]', "report.title = ['\\x1b[31m']", "valid string"),
    *(
        row(stage, "base.device = cuda:99: torch sees", "set it to auto or cpu", param("base.device", "cuda:99"))
        for stage in ("evolve", "evaluate")
    ),
    row("check", "export.opset = 999", "set it to 18", param("export.opset", "999")),
    row(
        "evolve",
        "evolve.proxy_images: 1000 images are wanted",
        "ask for at most that many",
        param("evolve.proxy_images", "1000"),
    ),
    row("load_params", "params.yaml: not found", REMEDY, remove("params.yaml")),
    row(
        "load_params",
        "params.yaml: cannot be read (is a directory)",
        "a folder of this name lies there: rename or move that folder",
        remove("params.yaml"),
        write("params.yaml/x", ""),
    ),
    unreadable(b"", "params.yaml: must hold sections"),
    unreadable(b"title: caf\xe9\n", "params.yaml: not valid YAML"),
    unreadable("a: !!python/object/apply:os.system [ls]\n", "params.yaml: not valid YAML"),
    unreadable("[" * 1000, "params.yaml: not valid YAML (maximum recursion"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_params_are_refused(case, refuses):
    refuses(case)
