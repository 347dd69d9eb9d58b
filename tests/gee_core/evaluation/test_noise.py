import pytest
import torch
from scipy import stats

from gee_core.data.augment import Augment, Normalise, add_noise, to_input
from gee_core.evaluation.noise import noisy_input

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
NORMALISE = Normalise(MEAN, STD)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(n=5, seed=1):
    """Images of different brightness, so that one norm for the whole batch would show."""
    images = torch.randint(0, 256, (n, 3, 8, 8), generator=generator(seed))
    return (images * torch.linspace(0.1, 1, n)[:, None, None, None]).to(torch.uint8)


def norms(x_BCHW):
    return torch.tensor([sum(v**2 for v in image.double().flatten().tolist()) ** 0.5 for image in x_BCHW])


def in_domain(x, domain):
    """Network input as what the noise was added to: itself, or the image in [0, 1]."""
    if domain == "normalised":
        return x.double()
    return x.double() * torch.tensor(STD).double()[:, None, None] + torch.tensor(MEAN).double()[:, None, None]


@pytest.mark.parametrize("domain", ["normalised", "image"])
@pytest.mark.parametrize("r", [0.1, 1.0])
def test_the_noises_norm_is_the_strength_times_the_images_own_norm(r, domain):
    clean = in_domain(to_input(pixels(), NORMALISE), domain)
    noisy = in_domain(noisy_input(pixels(), NORMALISE, r, domain, generator()), domain)
    torch.testing.assert_close(norms(noisy - clean), r * norms(clean), rtol=1e-5, atol=0.0, check_dtype=False)
    assert len({round(norm, 3) for norm in norms(clean).tolist()}) == 5


def test_the_generator_alone_decides_the_noise():
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first, again, other = (noisy_input(pixels(), NORMALISE, 0.5, "image", generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_training_adds_noise_whose_strength_each_image_draws_evenly_up_to_the_greatest():
    images = pixels(400)
    clean = to_input(images, NORMALISE)
    noisy = to_input(images, NORMALISE, Augment(0, False, 0, 0.0, noise=0.8), generator())
    assert noisy.is_contiguous(memory_format=torch.channels_last)
    strengths = norms(noisy - clean) / norms(clean)
    assert stats.kstest(strengths.numpy(), "uniform", (0, 0.8)).pvalue > 0.01
    assert strengths.max() <= 0.8 * (1 + 1e-5)


def test_the_noise_is_normal():
    n = (add_noise(torch.ones(1, 3, 64, 64), 1.0, generator()) - 1).flatten()
    assert stats.kstest(n.numpy(), "norm").pvalue > 0.01
