"""The table of networks. To add a network, add an entry to ``NETWORKS``: ``gee_core/model/spec.py`` says what a body can hold.

Stages do not depend on this file but on the entry that `network.name` names, so a new entry makes no result stale.
"""

from gee_core.model.spec import NetworkSpec, P, stages

NETWORKS: dict[str, NetworkSpec] = {
    # The paper's, with its widths.
    "cifarnet": NetworkSpec(256, (256, P, 256, 256, P, 512, 512, P, 1024, 1024)),
    "vgg16": NetworkSpec(64, (128, P, 256, 256, P, 512, 512, P, 512, 512, P), flatten=True),
    # Paper: only ΣC and the head of the wide one can be determined. Here: its order is our reading.
    "vgg16_wide": NetworkSpec(64, (128, P, 256, 256, P, 512, 512, P, 1024, 1024, P), flatten=True),
    "resnet18": NetworkSpec(128, stages((2, 2, 2), (128, 256, 512)), hidden=256),
    "resnet19": NetworkSpec(128, stages((3, 3, 2), (128, 256, 512)), hidden=256),
    "resnet34": NetworkSpec(64, stages((3, 4, 6, 3), (64, 128, 256, 512)), imagenet_stem=True),
}
