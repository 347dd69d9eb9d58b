"""params.yaml: what it says, and what it is."""

import pytest

from tests.bad_inputs.case import Case, edit, link, param, remove, write

REMEDY = "gee preset digits"
FIX = "fix it there (`git diff params.yaml` shows your changes); `gee preset digits` starts anew and keeps this file"
MERGE_BOMB = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i}\n  <<: [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
ALIAS_BOMB = "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))


def refused(name: str, key: str, value: str, says: str, remedy: str, run: str = "train") -> Case:
    return Case(name=name, run=run, change=(param(key, value),), says=f"params.yaml: {says}", remedy=remedy)


def unreadable(name: str, content: bytes | str, says: str) -> Case:
    return Case(name=name, run="train", change=(write("params.yaml", content),), says=says, remedy=FIX)


SEDE = edit("params.yaml", "^  seed: 0", "  seed: 0\n  sede: 1")
STAGES = ("prepare", "evolve", "train", "evaluate", "robustness", "export", "report")

CASES = [
    *(
        Case(name="unknown key", run=stage, change=(SEDE,), says="base.sede is not a known key", remedy="did you mean seed?")
        for stage in STAGES
    ),
    Case(name="unknown key", run="gee run", change=(SEDE,), says="base.sede is not a known key", remedy="did you mean seed?"),
    Case(
        name="missing key",
        run="train",
        change=(edit("params.yaml", "^  seed: 0\n", ""),),
        says="params.yaml: base.seed is missing",
        remedy="add it",
    ),
    Case(
        name="three problems",
        run="evolve",
        change=(param("base.seed", "-1"), param("network.T", "x"), param("prepare.holdout", "1")),
        says="params.yaml: network.T = 'x'",
        remedy="valid integer",
        messages=3,
    ),
    refused("wrong type", "train.epochs", "many", "train.epochs = 'many'", "valid integer"),
    refused("out of range", "prepare.holdout", "2.0", "prepare.holdout = 2.0", "less than 1", "prepare"),
    refused("unknown network", "network.name", "resnet50", "network.name = 'resnet50'", "choose one of cifarnet"),
    refused(
        "own network by its file",
        "network.name",
        "networks/my.py:A",
        "network.name = 'networks/my.py:A'",
        "as package.module:NAME",
    ),
    refused("a block where there are none", "network.block", "pre", "network.block = 'pre'", "set it to null"),
    refused("unknown block", "network.block", "both", "network.block = 'both'", "'pre' or 'post'"),
    refused("unknown pool", "network.pool", "min", "network.pool = 'min'", "'max' or 'avg'"),
    refused(
        "a gene outside its range", "network.init", "{omega_O: 1.5}", "network.init.omega_O = 1.5", "less than or equal to 1"
    ),
    refused("unknown gene", "network.init", "{gama_end: 1}", "network.init.gama_end is not a known", "did you mean gamma_end?"),
    refused("a gene without a value", "network.init", "{beta: }", "network.init.beta = None", "valid number"),
    refused(
        "a gene of branches where there are none",
        "network.init",
        "{gamma_end: 0.5}",
        "network.init: gamma_end = 0.5 acts on residual blocks, and vgg16 has none",
        "leave it out",
        "evolve",
    ),
    *(
        refused(f"{key} of {value}", f"{section}.{key}", value, f"{section}.{key} = {value}", "greater than or equal", section)
        for section, key, value in [("train", "lr_X", "0"), ("train", "lr_O", "-1.0"), ("evolve", "lr_X", "0.0")]
    ),
    refused("unknown data set", "prepare.dataset", "mnist", "prepare.dataset = 'mnist'", "'digits'", "prepare"),
    *(
        refused(f"the name {name}", "prepare.name", name, f"prepare.name = {name!r}", "should match pattern", "prepare")
        for name in ("../x", "a b", "-x", "x" * 65, "Kätzchen")
    ),
    refused(
        "a name for digits", "prepare.name", "mine", "prepare: name = 'mine' is for images of dataset folder", "null", "prepare"
    ),
    Case(
        name="a name that is taken",
        run="prepare",
        change=(param("prepare.dataset", "folder"), param("prepare.name", "cifar10")),
        says="prepare: name = 'cifar10' is the name of another data set",
        remedy="choose another name",
    ),
    refused("a name of digits alone", "prepare.name", "7", "prepare.name = 7", "valid string", "prepare"),
    *(
        refused(f"a share of {share}", "prepare.test_share", share, f"prepare.test_share = {share}", "than", "prepare")
        for share in ("0.0", "1.0", "-0.5")
    ),
    refused("a device of other digits", "base.device", "cuda:٣", "base.device = 'cuda:٣'", "auto|cpu|cuda"),
    refused(
        "more genes than memory", "network.n_genes", "100000000", "network.n_genes = 100000000", "equal to 10000", "evolve"
    ),
    refused(
        "a batch beyond 32 bits", "train.batch_size", "9000000000", "train.batch_size = 9000000000", "less than 2147483648"
    ),
    refused(
        "a population of millions",
        "evolve.population_size",
        "9000000",
        "evolve.population_size = 9000000",
        "equal to 10000",
        "evolve",
    ),
    refused("a weight that makes F infinite", "evolve.a", "1e300", "evolve.a = 1e+300", "less than or equal", "evolve"),
    refused(
        "an energy that is infinite", "evaluate.e_mac", "1e308", "evaluate.e_mac = 1e+308", "less than or equal", "evaluate"
    ),
    refused("padding of kilometres", "train.crop_padding", "100000000", "train.crop_padding = 100000000", "equal to 1024"),
    refused("an unknown format", "export.genes", "int2", "export.genes = 'int2'", "'fp32', 'bf16', 'int8' or 'int4'", "export"),
    refused(
        "more rounded epochs than there are",
        "train.quantise",
        "{format: int4, epochs: 5}",
        "train: quantise.epochs = 5 must not be greater than epochs = 4",
        "epochs = 4",
    ),
    refused("an unknown rounding", "train.quantise", "{format: fp32, epochs: 1}", "train.quantise.format = 'fp32'", "'int4'"),
    refused("rounding without epochs", "train.quantise", "{format: int4}", "train.quantise.epochs is missing", "add it"),
    refused("a size of two pixels", "train.sizes", "[2, 8]", "train.sizes.0 = 2", "greater than or equal to 4"),
    refused("no sizes", "train.sizes", "[]", "train.sizes = []", "at least 1 item"),
    refused("no steps", "train.T_schedule", "[0, 4]", "train.T_schedule.0 = 0", "greater than or equal to 1"),
    refused("a cooldown of epochs", "train.cooldown", "5", "train.cooldown = 5", "less than or equal to 1"),
    *(
        refused(
            "less than a batch for batch norm",
            f"{run}.norm_images",
            "1",
            f"{run}: norm_images = 1 ",
            "at least batch_size",
            run,
        )
        for run in ("train", "evolve")
    ),
    refused("an optimiser that proxies lack", "evolve.optimizer", "sgd", "evolve.optimizer = 'sgd'", "'muon'", "evolve"),
    Case(
        name="steps of your own network",
        run="train",
        change=(param("network.name", "networks.my:A"), param("train.T_schedule", "[2]")),
        says="train.T_schedule = [2]: your own network runs the steps of its code",
        remedy="set it to null",
    ),
    refused("a NUL in a path", "prepare.path", r'"a\0b"', r"prepare.path = 'a\x00b'", "name another path", "prepare"),
    refused("half a character in a path", "evolve.start", r'"\ud800"', r"evolve.start = '\ud800'", "valid string", "evolve"),
    refused("scored again by none", "evolve.rescore", "{top: 0, draws: 3}", "evolve.rescore.top = 0", "greater than", "evolve"),
    refused("no draws named", "evolve.rescore", "{top: 1}", "evolve.rescore.draws is missing", "add it", "evolve"),
    refused(
        "more to score again than there are",
        "evolve.rescore",
        "{top: 4, draws: 2}",
        "evolve.rescore.top = 4: a generation has 3 candidates",
        "set it to 3 or less",
        "evolve",
    ),
    Case(
        name="a start that is not used",
        run="evolve",
        change=(param("evolve.variant", "analytic"), param("evolve.start", "unit")),
        says="start = 'unit' has no use for variant analytic",
        remedy="set it to analytic",
    ),
    refused(
        "an unknown form", "evolve.genotype", "all", "evolve.genotype = 'all'", "'per_layer', 'shared' or 'shape'", "evolve"
    ),
    refused(
        "a number that nothing is measured by",
        "export.promote_metric",
        "f1",
        "export.promote_metric = 'f1'",
        "'test_accuracy', 'test_loss'",
        "export",
    ),
    *(
        refused(f"defects of hardware: {name}", "robustness.hardware", f"{{n_draws: 1, max_images: null{given}}}", *rest)
        for name, given, *rest in [
            (
                "unknown",
                ", wieghts: [0.1]",
                "robustness.hardware.wieghts is not a known",
                "did you mean weights?",
                "robustness",
            ),
            ("none", "", "robustness.hardware: names no domain", "or set it to null", "robustness"),
            ("no strength", ", genes: []", "robustness.hardware.genes = []", "at least 1 item", "robustness"),
            ("a negative σ", ", weights: [-0.1]", "robustness.hardware.weights.0 = -0.1", "or equal to 0", "robustness"),
            ("a probability of 2", ", dropped: [2]", "robustness.hardware.dropped.0 = 2", "or equal to 1", "robustness"),
            ("strengths that fall", ", stuck: [1, 0]", "robustness.hardware.stuck = [1, 0]", "must rise", "robustness"),
            ("half a step", ", lost_step: [0.5]", "robustness.hardware.lost_step.0 = 0.5", "valid integer", "robustness"),
            (
                "more steps than T",
                ", lost_step: [3]",
                "robustness.hardware.lost_step = [3]: network.T = 2",
                "lower",
                "robustness",
            ),
        ]
    ),
    refused("colours of a terminal", "report.title", r'["\e[31m"]', r"report.title = ['\x1b[31m']", "valid string", "report"),
    refused("a value as long as a book", "report.title", f'"{"x" * 9000}"', "report.title = 'xxx", "at most 200", "report"),
    Case(
        name="a line break in a key",
        run="train",
        change=(edit("params.yaml", "^  seed: 0", '  seed: 0\n  "a\\nb": 1'),),
        says=r"params.yaml: base.a\nb is not a known key",
        remedy="remove it",
    ),
    *(
        Case(
            name="a GPU that is not there",
            run=stage,
            change=(param("base.device", "cuda:99"),),
            says="base.device = cuda:99: torch sees",
            remedy="set it to auto or cpu",
        )
        for stage in ("evolve", "train", "evaluate", "robustness")
    ),
    Case(
        name="an operator set that is not there yet",
        run="check",
        change=(param("export.opset", "999"),),
        says="export.opset = 999",
        remedy="set it to 18",
    ),
    Case(
        name="more proxy images than there are",
        run="evolve",
        change=(param("evolve.proxy_images", "1000"),),
        says="evolve.proxy_images: 1000 images are wanted",
        remedy="ask for at most that many",
    ),
    Case(name="no file", run="train", change=(remove("params.yaml"),), says="params.yaml: not found", remedy=REMEDY),
    Case(
        name="a folder",
        run="train",
        change=(remove("params.yaml"), write("params.yaml/x", "")),
        says="params.yaml: cannot be read (is a directory)",
        remedy="a folder of this name lies there: rename or move that folder",
    ),
    Case(
        name="a link to a device without end",
        run="train",
        change=(link("params.yaml", "/dev/zero"),),
        says="params.yaml: not valid YAML (more than",
        remedy=FIX,
    ),
    unreadable("empty", b"", "params.yaml: must hold sections"),
    unreadable("not UTF-8", b"title: caf\xe9\n", "params.yaml: not valid YAML"),
    unreadable("an object of Python", "a: !!python/object/apply:os.system [ls]\n", "params.yaml: not valid YAML"),
    unreadable("a billion laughs", ALIAS_BOMB, "params.yaml: not valid YAML (more than 20,000 values)"),
    unreadable("a billion merges", MERGE_BOMB, "params.yaml: not valid YAML (more than 30 aliases"),
    unreadable("a list in itself", "a: &a [*a]\n", "params.yaml: not valid YAML (more than 20,000 values)"),
    unreadable("a thousand brackets", "[" * 1000, "params.yaml: not valid YAML (nested too deeply)"),
    unreadable(
        "a number of 40,000 bits", "base: {seed: 0x" + "f" * 10_000 + "}\n", "params.yaml: not valid YAML (a whole number"
    ),
    unreadable("a month 13", "base: {seed: 2024-13-01}\n", "params.yaml: not valid YAML (month must be"),
    unreadable("a mapping as a key", "? {a: b}\n: 1\n", "params.yaml: not valid YAML"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_params_are_refused(case, refuses):
    refuses(case)
