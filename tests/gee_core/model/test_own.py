"""The user's own networks: what is accepted, what is refused and how, and that they are built as those of the table."""

import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based.model.spiking_resnet import spiking_resnet18
from torch import nn
from torchvision.models import resnet18

import gee_core
from gee_core.config import NetworkConfig, Shape
from gee_core.config.known_networks import encoded_channels, is_own
from gee_core.errors import InputError
from gee_core.genome.encoding import genome_of
from gee_core.genome.genotype import Genotype
from gee_core.model.match_width import narrowed_width
from gee_core.model.network import build_network, count_parameters, count_plain_parameters
from gee_core.model.wired import architecture_of, empty_network, plain_parameters, wired_network
from tests.gee_core.evolution.proxy_task import NETWORK
from tests.gee_core.own_networks import OWN, THREE, VGG, MultiStep, ResNet, lively

pytestmark = pytest.mark.usefixtures("own")

NAME = "networks.my:VGG"
X = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
EVERY = pytest.mark.parametrize("name", OWN)


class Images:
    num_classes, in_channels, image_size = 5, 1, 8


def config(name: str, **changes) -> NetworkConfig:
    return NetworkConfig.model_validate(NETWORK.model_dump() | {"name": name, "width": 1.0, "n_genes": 4} | changes)


def equal(one: nn.Module, other: nn.Module) -> bool:
    others = other.state_dict()
    return all(torch.equal(value, others[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("networks.my_vgg:MyVGG", True),
        ("a:b", True),
        ("vgg16", False),
        ("networks.my_vgg", False),
        ("networks/my_vgg:MyVGG", False),
        ("networks.my-vgg:MyVGG", False),
        ("networks..vgg:MyVGG", False),
        ("a:b:c", False),
        (":MyVGG", False),
        ("networks.vgg:", False),
    ],
)
def test_the_name_of_an_own_network_is_a_module_and_a_name_in_it(name, holds):
    assert is_own(name) == holds


@EVERY
@pytest.mark.parametrize("n_genes", [4, None], ids=["genetic", "plain"])
def test_every_form_answers_with_all_steps_and_the_same_in_every_call(name, n_genes):
    net, x = lively(name, n_genes)
    o_TBK = net(x)
    assert o_TBK.shape == (3, 6, 5)
    assert torch.equal(net(x), o_TBK)
    assert (o_TBK[1:] - o_TBK[:-1]).abs().max() > 1e-3
    assert (genome_of(net) is None) == (n_genes is None)


@pytest.mark.parametrize("n_genes", [4, None], ids=["genetic", "plain"])
def test_one_network_in_three_forms_answers_alike(n_genes):
    outputs = [net(x) for net, x in (lively(name, n_genes) for name in THREE)]
    for o_TBK in outputs[:2]:
        torch.testing.assert_close(o_TBK, outputs[2])


def test_the_chain_is_the_one_that_encode_finds_and_leaves_out_1x1_shortcuts():
    net = build_network("networks.my:ResNet", 5, 1, 8, T=2)
    assert [conv.out_channels for conv in net.conv_chain()] == [8, 8, 8, 16, 16] == encoded_channels("networks.my:ResNet")
    assert {conv.kernel_size for conv in net.conv_chain()} == {(3, 3)}


def test_a_network_is_tried_once_and_tells_its_channels_of_every_width():
    calls = []

    class Counted(VGG):
        def forward(self, x):
            calls.append(len(x))
            return super().forward(x)

    gee_core.register_network("a:counted", Counted, in_channels=1, image_size=8)
    assert [encoded_channels("a:counted", width) for width in (0.5, 2.0)] == [[4, 8, 8], [16, 32, 32]]
    tried = len(calls)
    assert [encoded_channels("a:counted", width) for width in (0.5, 2.0)] == [[4, 8, 8], [16, 32, 32]]
    build_network("a:counted", 5, 1, 8, width=3.0)
    once = len(calls)
    assert encoded_channels("a:counted", 3.0) == [24, 48, 48]
    build_network("a:counted", 5, 1, 8, width=3.0, seed=1)
    assert len(calls) == once > tried


@EVERY
def test_equal_seeds_give_equal_weights_others_give_others_and_the_global_generator_stays(name):
    before = torch.get_rng_state()
    one, same, other = (build_network(name, 5, 1, 8, 4, seed=seed) for seed in (1, 1, 2))
    assert equal(one, same)
    assert not equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_class_gets_the_settings_that_its_signature_names_and_no_others():
    seen = {}

    def build(num_classes, in_channels, image_size, width, T, tau, surrogate, pool, v_reset, mine=3, **others):
        seen.update({key: value for key, value in locals().items() if key != "seen"})
        return MultiStep(num_classes, in_channels, image_size)

    gee_core.register_network("a:build", build)
    build_network("a:build", 5, 1, 8, width=0.5, pool="avg", T=3, tau=1.5, v_reset=None, surrogate_name="atan", v_threshold=2.0)
    wanted = {"num_classes": 5, "in_channels": 1, "image_size": 8, "width": 0.5, "T": 3, "tau": 1.5, "pool": "avg"}
    assert seen == wanted | {"surrogate": "atan", "v_reset": None, "mine": 3, "others": {}}


def test_a_network_that_says_how_many_steps_it_runs_must_agree_with_network_t():
    gee_core.register_network("a:eight", lambda num_classes, in_channels, image_size: ResNet(num_classes, in_channels, 8, T=8))
    with pytest.raises(ValueError, match=r"^network.T = 4, but a:eight answers with 8 steps: set network.T = 8$"):
        build_network("a:eight", 5, 1, 8, T=4)
    assert build_network("a:eight", 5, 1, 8).T == build_network("a:eight", 5, 1, 8, T=8).T == 8
    assert encoded_channels("a:eight") == [8, 8, 8, 16, 16]


def changed(change, base=VGG):
    """A builder of ``base``, changed."""

    def build(num_classes, in_channels, image_size):
        net = base(num_classes, in_channels, image_size)
        return change(net) or net

    return build


def raising(num_classes, in_channels, image_size):
    raise KeyError("no such thing")


def grouped(net):
    net.features[3] = nn.Conv2d(8, 16, 3, padding=1, groups=2)
    net.features[7] = nn.Conv2d(16, 16, 3, padding=1, groups=2)


def mixed(net):
    net.features[7] = nn.Conv2d(16, 16, 5, padding=2)


def without_neurons(net):
    for index in (2, 5, 9):
        net.features[index] = nn.ReLU()


def averaged(net):
    functional.set_step_mode(net, "m")
    net.forward = lambda x: VGG.forward(net, x.repeat(4, 1, 1, 1, 1)).mean(0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (raising, r"a:bad\(num_classes=5, in_channels=1, image_size=8, …\) raises KeyError: 'no such thing'$"),
        (lambda classes: None, "raises TypeError: .* unexpected keyword argument 'num_classes'"),
        (changed(lambda net: 3), "a:bad returns a int, not a torch.nn.Module"),
        (changed(lambda net: net.double()), "its parameter features.0.weight is torch.float64: only float32 is trained"),
        (changed(lambda net: setattr(net, "head", nn.LazyLinear(5))), "its head.weight has no size before the first call"),
        (changed(lambda net: setattr(net, "other", net.head)), "its other.weight and head.weight are one tensor"),
        (changed(without_neurons), "a:bad has no neurons: build it with those of spikingjelly"),
        (lambda num_classes, **sizes: VGG(7, **sizes), r"\(steps, images, classes\) = \(4, 2, 5\): .* returns \(2, 7\); "),
        (changed(averaged), r"for images \(2, 1, 8, 8\) it returns \(2, 5\); .* return the output of every step"),
        (lambda image_size, in_channels, **sizes: VGG(in_channels=3, image_size=8, **sizes), "raises RuntimeError: .*channels"),
        (changed(grouped), "a:bad: a chain needs the stem and at least one more convolution"),
        (changed(mixed), "a:bad: module 'net.features.7' has kernel .* a chain shares one kernel size"),
    ],
    ids=lambda value: "" if callable(value) else value[:30],
)
def test_what_is_no_network_for_the_pipeline_is_refused_in_one_line(build, message):
    gee_core.register_network("a:bad", build)
    with pytest.raises(ValueError, match=message) as refused:
        build_network("a:bad", 5, 1, 8, 4)
    assert "\n" not in str(refused.value)


def test_a_network_that_nobody_registered_and_a_name_of_another_form_are_refused():
    with pytest.raises(ValueError, match=r"^networks.other:VGG is not registered: gee_core.register_network makes"):
        build_network("networks.other:VGG", 5)
    with pytest.raises(ValueError, match=r"'vgg': an own network is called package.module:NAME"):
        gee_core.register_network("vgg", VGG)
    with pytest.raises(ValueError, match="a str is no class or function"):
        gee_core.register_network("a:b", "VGG")


def test_it_takes_no_block():
    with pytest.raises(ValueError, match=r"block must be None for networks.my:VGG, got 'pre'"):
        build_network(NAME, 5, 1, 8, block="pre")


@EVERY
def test_the_configured_network_has_the_drawn_genes_or_its_own_codes_weights_and_describes_itself(name):
    channels = encoded_channels(name)
    genotype = Genotype(0.3, (0.2,) * len(channels), Shape(gamma_0=2.0))
    genetic = wired_network(config(name), Images, genotype, 3)
    assert equal(genetic, wired_network(config(name), Images, genotype, 3))
    genome = genome_of(genetic)
    assert genome.channels == channels
    assert genome.O.abs().max() <= 0.6
    assert {m.weight.unique().item() for m in genetic.modules() if isinstance(m, nn.BatchNorm2d)} == {2.0}
    plain = wired_network(config(name, n_genes=None), Images, None, 3)
    shaped = wired_network(config(name, n_genes=None, init={"beta": 2.0}), Images, None, 3)
    stem, conv, *_ = plain.conv_chain()
    assert torch.equal(shaped.conv_chain()[0].weight, stem.weight)
    assert torch.equal(genetic.conv_chain()[0].weight, stem.weight)
    assert shaped.conv_chain()[1].weight[..., 0, 0].norm() < 0.2 * conv.weight[..., 0, 0].norm()
    for net in (genetic, plain):
        architecture = architecture_of(net)
        assert (architecture.network.name, architecture.network.block, architecture.network.T) == (name, None, 3)
        shapes = {key: value.shape for key, value in empty_network(architecture).state_dict().items()}
        assert shapes == {key: value.shape for key, value in net.state_dict().items()}


def test_parameters_are_counted_and_matched_by_width_where_the_class_takes_it():
    genetic = count_parameters(build_network(NAME, 5, 1, 8, n_genes=2))
    assert plain_parameters(config(NAME), Images) == count_parameters(build_network(NAME, 5, 1, 8))
    width = narrowed_width(config(NAME), Images, genetic, tolerance=0.2)
    assert abs(count_plain_parameters(NAME, 5, 1, 8, width) - genetic) <= 0.2 * genetic
    with pytest.raises(InputError, match=r"networks.my:ResNet takes no width, .*: let its class take `width`"):
        narrowed_width(config("networks.my:ResNet"), Images, genetic)


def test_parameters_that_depend_on_pool_and_steps_are_counted_as_configured():
    class Depends(VGG):
        def __init__(self, num_classes, in_channels, image_size, width, T, pool):
            super().__init__(num_classes, in_channels, image_size, width)
            self.extra = nn.Parameter(torch.zeros(100 * T if pool == "avg" else 1))

    gee_core.register_network("a:depends", Depends)
    settings = config("a:depends", T=2, pool="avg", n_genes=None)
    wanted = count_parameters(wired_network(settings, Images, None, 0))
    assert plain_parameters(settings, Images) == wanted
    assert narrowed_width(settings, Images, wanted) == pytest.approx(1, abs=0.07)


def test_a_stochastic_network_answers_the_same_in_evaluation_and_draws_anew_in_training():
    class Poisson(VGG):
        def forward(self, x):
            return super().forward((torch.rand_like(x) < x.sigmoid()).float())

    gee_core.register_network("a:poisson", Poisson)
    net, before = build_network("a:poisson", 5, 1, 8), torch.get_rng_state()
    assert not torch.equal(net.train()(X), net(X))
    net.eval()
    torch.set_rng_state(before)
    assert torch.equal(net(X), net(X))
    assert torch.equal(torch.get_rng_state(), before)


def test_neurons_keep_no_charge_of_an_earlier_call_and_the_network_can_be_copied_after_training():
    net, x = lively(NAME)
    expected = net(x)
    next(m for m in net.modules() if isinstance(m, neuron.BaseNode)).v = torch.ones(6, 8, 8, 8)
    assert torch.equal(net(x), expected)
    net.train()(x).sum().backward()
    assert equal(gee_core.decode(net), net)


def of_spikingjelly(num_classes, in_channels, image_size):
    net = spiking_resnet18(spiking_neuron=neuron.LIFNode, num_classes=num_classes, detach_reset=True)
    functional.set_step_mode(net, "m")
    return net


def of_torchvision(num_classes, in_channels, image_size):
    net = resnet18(num_classes=num_classes)
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, neuron.LIFNode(detach_reset=True))
    return net


@pytest.mark.slow
@pytest.mark.parametrize(("build", "form"), [(of_spikingjelly, "steps"), (of_torchvision, "single")])
def test_resnets_of_spikingjelly_and_torchvision_are_taken_as_they_are(build, form):
    gee_core.register_network("a:resnet", build)
    net = build_network("a:resnet", 10, 3, 32, n_genes=8, T=2).eval()
    x = torch.randn(2, 3, 32, 32)
    assert (net.form, net(x).shape, len(net.conv_chain())) == (form, (2, 2, 10), 17)
    layers = gee_core.measure_energy(net, [x]).layers
    assert len(layers) == 17 + 3 + 1
    assert {layer.steps for layer in layers} == {2}
