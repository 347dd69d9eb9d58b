"""The user's own networks: what is accepted, what is refused and how, and that they are built as those of the table."""

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

import gee_core
from gee_core.config import NetworkConfig, Shape
from gee_core.config.network import encoded_channels, kernel_positions
from gee_core.errors import InputError
from gee_core.genome.encoding import genome_of
from gee_core.genome.genotype import Genotype
from gee_core.model.network import build_network, count_parameters
from gee_core.model.wired import architecture_of, empty_network, find_width, plain_parameters, wired_network
from tests.gee_core.evolution.proxy_task import NETWORK
from tests.gee_core.lively import same_state
from tests.gee_core.own_networks import THREE, VGG, AllSteps, MultiStep, ResNet, lively

pytestmark = pytest.mark.usefixtures("own")

NAME = "networks.my:VGG"
X = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
GENES = pytest.mark.parametrize("n_genes", [4, None], ids=["genetic", "plain"])


class Images:
    num_classes, in_channels, image_size = 5, 1, 8


def config(name: str, **changes) -> NetworkConfig:
    return NetworkConfig.model_validate(NETWORK.model_dump() | {"name": name, "width": 1.0, "n_genes": 4} | changes)


@GENES
def test_one_network_that_runs_its_steps_in_three_ways_answers_alike_in_every_call(n_genes):
    outputs = []
    for net, x in (lively(name, n_genes) for name in THREE):
        outputs.append(net(x))
        assert torch.equal(net(x), outputs[-1])
        assert (genome_of(net) is None) == (n_genes is None)
    assert outputs[2].shape == (3, 6, 5)
    assert (outputs[2][1:] - outputs[2][:-1]).abs().max() > 1e-3
    for o_TBK in outputs[:2]:
        torch.testing.assert_close(o_TBK, outputs[2])


def test_a_class_gets_the_settings_that_its_signature_names_and_no_others():
    seen = {}

    def build(num_classes, in_channels, image_size, width, T, tau, surrogate, pool, v_reset, mine=3, **others):
        seen.update({key: value for key, value in locals().items() if key != "seen"})
        return MultiStep(num_classes, in_channels, image_size, T)

    gee_core.register_network("a:build", build)
    build_network("a:build", 5, 1, 8, width=0.5, pool="avg", T=3, tau=1.5, v_reset=None, surrogate_name="atan", v_threshold=2.0)
    wanted = {"num_classes": 5, "in_channels": 1, "image_size": 8, "width": 0.5, "T": 3, "tau": 1.5, "pool": "avg"}
    assert seen == wanted | {"surrogate": "atan", "v_reset": None, "mine": 3, "others": {}}


def test_a_network_that_says_how_many_steps_it_runs_must_agree_with_T():
    gee_core.register_network("a:eight", lambda num_classes, in_channels, image_size: ResNet(num_classes, in_channels, 8, T=8))
    with pytest.raises(ValueError, match=r"^T = 4, but a:eight answers with 8 steps: set it to 8$"):
        build_network("a:eight", 5, 1, 8, T=4)
    assert build_network("a:eight", 5, 1, 8).T == build_network("a:eight", 5, 1, 8, T=8).T == 8
    gee_core.register_network("a:many", lambda num_classes, in_channels, image_size: ResNet(num_classes, in_channels, 8, T=65))
    with pytest.raises(ValueError, match=r"^network\.T: Input should be less than or equal to 64"):  # no file could hold it
        architecture_of(build_network("a:many", 5, 1, 8))


def changed(change, base=VGG):
    """A builder of ``base``, changed."""

    def build(num_classes, in_channels, image_size):
        net = base(num_classes, in_channels, image_size, *([] if base is AllSteps else [4]))
        return change(net) or net

    return build


def answers(change):
    """A builder of a network whose answer is changed."""

    def hooked(net):
        net.register_forward_hook(lambda module, inputs, o: change(o))

    return changed(hooked)


def raising(num_classes, in_channels, image_size):
    raise KeyError("no such thing")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (raising, r"a:bad\(num_classes=5, in_channels=1, image_size=8, …\) raises KeyError: 'no such thing'$"),
        (changed(lambda net: 3), "a:bad returns a int, not a torch.nn.Module"),
        (changed(lambda net: setattr(net, "other", net.head)), "its other.weight and head.weight are one tensor"),
        (lambda num_classes, **sizes: VGG(7, **sizes, T=4), r"it returns \(4, 2, 7\), not \(T, B, K\) = \(4, 2, 5\)"),
        (changed(lambda net: None, AllSteps), r"raises ValueError: .* begin with `x = x.repeat\(T, 1, 1, 1, 1\)`"),
        (answers(lambda o: (o, o)), r"it returns a tuple, not a tensor: .* \(T, B, K\) alone"),
        (answers(lambda o: o.transpose(0, 1)), r"it returns \(2, 4, 5\), not \(T, B, K\) = \(4, 2, 5\)"),
        (answers(lambda o: o.bfloat16()), r"it returns torch.bfloat16: let its forward end with `return o.float\(\)`"),
        (answers(lambda o: o * torch.nan), "it returns values that are not finite"),
    ],
    ids=lambda value: "" if callable(value) else value[:30],
)
def test_what_is_no_network_for_the_pipeline_is_refused_in_one_line(build, message):
    gee_core.register_network("a:bad", build)
    with pytest.raises(ValueError, match=message) as refused:
        build_network("a:bad", 5, 1, 8, 4)
    assert "\n" not in str(refused.value)


def test_a_module_runs_once_when_it_is_first_built_and_its_chain_is_known_then():
    runs = []

    class Counted(VGG):
        def forward(self, x):
            runs.append(tuple(x.shape))
            return super().forward(x)

    gee_core.register_network("a:counted", Counted)
    build_network("a:counted", 5, 1, 8, 4, T=2)
    build_network("a:counted", 5, 1, 8, T=2, seed=1)
    assert encoded_channels("networks.my:ResNet") == [8, 8, 8, 16, 16]  # without the 1x1 shortcut
    assert encoded_channels("a:counted") == [8, 16, 16] and kernel_positions("a:counted") == 9
    assert runs == [(3, 1, 8, 8)]
    assert encoded_channels("a:counted", 0.5) == [4, 8, 8]  # built as it was first, at another width
    assert runs[1:] == [(3, 1, 8, 8)]


def test_a_network_that_nobody_registered_and_a_name_of_another_form_are_refused():
    with pytest.raises(ValueError, match=r"^networks.other:VGG is not registered: gee_core.register_network makes"):
        build_network("networks.other:VGG", 5)
    for name in ("vgg", "networks/my:VGG", "a:b:c", ":MyVGG"):
        with pytest.raises(ValueError, match=f"{name!r}: an own network is called package.module:NAME"):
            gee_core.register_network(name, VGG)
    with pytest.raises(ValueError, match="a str is no class or function"):
        gee_core.register_network("a:b", "VGG")


def test_the_configured_network_has_drawn_genes_or_its_own_weights():
    before, genotype = torch.get_rng_state(), Genotype(0.3, (0.2,) * 3, Shape(omega_X=0.5))
    genetic, again, other = (wired_network(config(NAME), Images, genotype, seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert same_state(genetic, again) and not torch.equal(genetic.net.head.weight, other.net.head.weight)
    assert genome_of(genetic).channels == encoded_channels(NAME) and genome_of(genetic).O.abs().max() <= 0.6
    plain, shaped = (wired_network(config(NAME, n_genes=None, init=init), Images, None, 3) for init in (None, {"beta": 2.0}))
    stem, conv, *_ = plain.conv_chain()
    assert all(torch.equal(net.conv_chain()[0].weight, stem.weight) for net in (shaped, genetic))
    assert shaped.conv_chain()[1].weight[..., 0, 0].norm() < 0.2 * conv.weight[..., 0, 0].norm()
    for net in (genetic, plain):
        architecture = architecture_of(net)
        assert (architecture.network.name, architecture.network.block, architecture.network.T) == (NAME, None, 3)
        shapes = {key: value.shape for key, value in empty_network(architecture).state_dict().items()}
        assert shapes == {key: value.shape for key, value in net.state_dict().items()}


def test_parameters_are_counted_and_matched_by_width_where_the_class_takes_it():
    genetic = count_parameters(build_network(NAME, 5, 1, 8, n_genes=2))
    assert plain_parameters(config(NAME), Images) == count_parameters(build_network(NAME, 5, 1, 8))
    width = find_width(config(NAME), Images, genetic, tolerance=0.2)
    assert abs(plain_parameters(config(NAME, width=width), Images) - genetic) <= 0.2 * genetic
    with pytest.raises(InputError, match=r"networks.my:ResNet takes no width, .*: let its class take width"):
        find_width(config("networks.my:ResNet"), Images, genetic)


def test_noise_is_repeated_and_the_trial_leaves_no_trace():
    gee_core.register_network("a:noisy", answers(lambda o: o + torch.rand_like(o)))
    before = torch.get_rng_state()
    net = build_network("a:noisy", 5, 1, 8)
    assert {int(norm.num_batches_tracked) for norm in net.modules() if isinstance(norm, nn.BatchNorm2d)} == {0}
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(net.train()(X), net(X))
    net.eval()
    torch.set_rng_state(before)
    assert torch.equal(net(X), net(X))
    assert torch.equal(torch.get_rng_state(), before)


def test_neurons_keep_no_charge_of_a_call_and_can_be_copied_after_training():
    net, x = lively(NAME)
    expected = net(x)
    next(m for m in net.modules() if isinstance(m, neuron.BaseNode)).v = torch.ones(6, 8, 8, 8)
    assert torch.equal(net(x), expected)
    net.train()(x).sum().backward()
    assert same_state(gee_core.decode(net), net)


def test_its_images_and_weights_have_the_ordinary_layout_for_view():
    images, seen = torch.rand(4, 3, 8, 8).contiguous(memory_format=torch.channels_last), []
    for n_genes in (4, None):
        net = build_network(NAME, 5, 3, 8, n_genes, T=2).eval()
        net.net.register_forward_pre_hook(lambda module, args: seen.append(args[0].is_contiguous()))
        plain = gee_core.decode(net)
        assert torch.equal(plain(images), net(images)) and all(seen)
        assert all(conv.weight.is_contiguous() for each in (net, plain) for conv in each.conv_chain())


def test_a_network_for_frames_of_events_alone_is_tried_with_them_and_takes_them():
    gee_core.register_network("networks.my:Frames", AllSteps)
    net = build_network("networks.my:Frames", 5, 2, 8, 4, T=3)
    assert net(torch.rand(3, 6, 2, 8, 8)).shape == (3, 6, 5)
    with pytest.raises(ValueError, match=r"let its forward begin with `x = x\.repeat"):
        build_network("networks.my:Frames", 5, 3, 8, T=3)  # images have one or three channels
    with pytest.raises(ValueError, match=r"for frames of events \(T, B, P, H, W\) = \(4, 2, 2, 8, 8\) it raises RuntimeError"):
        build_network("networks.my:Folded", 5, 2, 8, T=4)
