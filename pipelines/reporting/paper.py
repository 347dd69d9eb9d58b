"""What the paper published of its networks."""

PUBLISHED_ON = ("cifar10", "cifar100", "imagenet")

PAPER_RESULTS: tuple[dict, ...] = (
    # Table 2 (top-1 %, CIFAR-10 / CIFAR-100) and Table 1 (ImageNet), the rows of the paper's own method.
    {"network": "cifarnet", "n_genes": 100, "parameters": 3_721_754, "cifar10": 93.47, "cifar100": 72.97},
    {"network": "cifarnet", "n_genes": 200, "parameters": 7_438_154, "cifar10": 95.79, "cifar100": 75.05},
    {"network": "vgg16", "n_genes": 100, "parameters": 2_514_522, "cifar10": 94.47, "cifar100": 75.02},
    {"network": "vgg16_wide", "n_genes": 200, "parameters": 6_887_050, "cifar10": 95.57, "cifar100": 76.94},
    {"network": "resnet18", "n_genes": 100, "parameters": 3_659_418, "cifar10": 95.60, "cifar100": 77.32},
    {"network": "resnet18", "n_genes": 250, "parameters": 8_723_118, "cifar10": 96.26, "cifar100": 78.91},
    {"network": "resnet19", "n_genes": 100, "parameters": 4_352_154, "cifar10": 95.94, "cifar100": 77.56},
    {"network": "resnet19", "n_genes": 200, "parameters": 8_414_154, "cifar10": 96.80, "cifar100": 78.86},
    {"network": "resnet34", "n_genes": 146, "parameters": 10_750_000, "imagenet": 71.82},
)
"""Published numbers. ``parameters`` for ten classes, except resnet34's (1000; the paper prints 10.75M), and `post` blocks: with
`pre` the ResNets have 768 more, which the paper's digits do not show."""

PLAIN_PARAMETERS = {
    "cifarnet": 19_489_546,
    "vgg16": 9_243_722,
    "vgg16_wide": 18_703_434,
    "resnet18": 11_220_362,
    "resnet19": 12_696_458,
    "resnet34": 21_795_880,
}
"""Those of the same networks unencoded, counted on the networks of ``gee_core``."""


def paper_rows() -> list[dict]:
    """``PAPER_RESULTS`` with the size of the same network unencoded."""
    return [row | {"plain_parameters": PLAIN_PARAMETERS[row["network"]]} for row in PAPER_RESULTS]
