"""All sections of params.yaml; `network`, `prepare`, `evolve` and `train` have files of their own."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, create_model, field_validator, model_validator

from gee_core.config.evaluation import MEASURES, PROMOTING
from gee_core.config.evolve import EvolveConfig
from gee_core.config.genes import searched_genes, with_genes
from gee_core.config.known_networks import encoded_channels, is_own, least_side
from gee_core.config.network import NetworkConfig
from gee_core.config.prepare import PrepareConfig
from gee_core.config.section import Fraction, Positive, Scale, Section, Weight
from gee_core.config.train import TrainConfig
from gee_core.errors import InputError

GeneFormat = Literal["fp32", "bf16", "int8", "int4"]
"""Formats of the matrices in a file of genes; integers have a scale per gene or per output channel."""


class BaseConfig(Section):
    """`base`: shared by every stage."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    """Seed from which every random draw of a run is derived."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]{1,2})?)$")]
    """`auto` (CUDA where there is one, else the CPU), `cpu`, `cuda` or `cuda:N`."""
    precision: Literal["auto", "fp32", "bf16"]
    """`bf16` autocast, `fp32`, or `auto`: bf16 on a GPU that multiplies it natively, and on a CPU where it is faster, which is
    measured once. An interrupted run goes on in the format in which it began."""

    @field_validator("device", mode="before")
    @classmethod
    def _no_mps(cls, device: object) -> object:
        if device == "mps":
            raise ValueError("mps is not supported (its fused optimiser is untested, and it has no float64): set it to cpu")
        return device


def rising(strengths: list) -> list:
    """Validator: ``strengths`` rise, without repeats."""
    if sorted(set(strengths)) != strengths:
        raise ValueError("must rise, without repeats")
    return strengths


_some = Field(min_length=1, max_length=100)
Sigmas = Annotated[list[Weight], _some, AfterValidator(rising)]
Shares = Annotated[list[Fraction], _some, AfterValidator(rising)]
Steps = Annotated[list[Annotated[int, Field(ge=0, le=64)]], _some, AfterValidator(rising)]


class EvaluateConfig(Section):
    """`evaluate`: accuracy, spikes and energy on the test images (Eq. 17)."""

    batch_size: Positive
    """Images per step."""
    e_mac: Scale
    """E_MAC, energy of a multiply-accumulate in pJ."""
    e_ac: Scale
    """E_AC, energy of an accumulate in pJ."""
    exit: Shares | None
    """Confidences of early exit: an image leaves at the first step at which the mean output so far gives a class at least this
    probability. For each of them the stage writes accuracy, mean number of steps and energy to exit.csv. null: none."""


class Hardware(Section):
    """`robustness.hardware`: which defects of chips, at which strengths; a domain that is null is not measured."""

    n_draws: Positive
    """Draws of each defect at each strength; the report shows their mean and range."""
    max_images: Positive | None
    """Use at most this many test images, a random part that is the same in every run; null for all."""
    weights: Sigmas | None = None
    """Gaussian noise on the decoded weights of the encoded convolutions: σ over the root mean square of each layer's."""
    genes: Sigmas | None = None
    """The same on every X_l and O, before the weights are decoded; a plain network has none."""
    stuck: Shares | None = None
    """Probability of each of those weights to be stuck at zero."""
    threshold: Sigmas | None = None
    """Mismatch of the neurons: V_th·(1 + δ) with δ ~ N(0, σ²), fixed over images and steps; these are the σ's."""
    dropped: Shares | None = None
    """Probability of every spike to be lost."""
    spurious: Shares | None = None
    """Probability of every neuron that is silent in a step to fire."""
    lost_step: Steps | None = None
    """How many of the T steps are lost: no spike leaves any neuron in them."""
    weight_bits: Shares | None = None
    """Probability of every bit of the int8 codes of those weights to flip; 0 is the int8 network without flips."""
    gene_bits: Shares | None = None
    """The same of every X_l and O in int8; a plain network has none."""

    @model_validator(mode="after")
    def _names_a_domain(self) -> Self:
        if not self.strengths():
            raise ValueError(f"names no domain: give strengths to one of {', '.join(DOMAINS)}, or set it to null")
        return self

    def strengths(self) -> dict[str, list[float]]:
        """The strengths of the domains that are to be measured, by domain."""
        return {domain: found for domain in DOMAINS if (found := getattr(self, domain)) is not None}


DOMAINS = tuple(name for name in Hardware.model_fields if name not in ("n_draws", "max_images"))
"""The names of the defects."""


class RobustnessConfig(Section):
    """`robustness`: accuracy on noisy test images (Sec. 4.2), and under the defects of hardware."""

    domain: Literal["normalised", "image", "events"]
    """Where the noise is added: to the normalised tensor or to the image in [0, 1]. `events`, for recordings, measures dropped
    and spurious events, hot pixels and jitter in time, each by itself."""
    strengths: Annotated[list[Weight], Field(min_length=1, max_length=1000)]
    """r, the norm of the noise as a fraction of the image's; among them 0, without noise, and 0.5, the paper's. Of recordings,
    the number of events that are dropped, added or moved, as a fraction of the recording's; at most 1."""
    n_seeds: Positive
    """Number of noise draws per strength."""
    batch_size: Positive
    """Images per step."""
    hardware: Hardware | None
    """The defects of hardware to measure; null for none."""

    @field_validator("strengths")
    @classmethod
    def _has_the_papers(cls, strengths: list[float]) -> list[float]:
        for needed, use in ((0.0, "no noise"), (0.5, "the strength at which the paper and the summary compare")):
            if needed not in strengths:
                raise ValueError(f"must contain {needed}, {use}: add it")
        return rising(strengths)


class ExportConfig(Section):
    """`export`: the trained network as ONNX, as NIR and as its genes, and its registration."""

    opset: Annotated[int, Field(ge=18)]
    """Version of the ONNX operator set."""
    verify_images: Positive
    """Number of test images on which ONNX Runtime, and SpikingJelly's reading of the NIR graph, are compared with torch."""
    genes: GeneFormat | None
    """Format of genes.safetensors and genes.onnx, the network as its genes, measured on all test images; null: neither."""
    register_model: bool
    """Whether to register the model in MLflow."""
    promote_metric: Literal[PROMOTING]  # type: ignore[valid-type]
    """Of models tested on the same images, the best by this number of reports/evaluate/metrics.json is the `champion`."""

    @property
    def higher_is_better(self) -> bool:
        """Whether the better of two models has the higher `promote_metric`."""
        return MEASURES[self.promote_metric].better == "higher"


class ReportConfig(Section):
    """`report`: the page."""

    title: Annotated[str, Field(min_length=1, max_length=200)]
    """Heading of the page."""


def check_settings(genes: Mapping[str, float]) -> None:
    """Raise ``ValueError`` for a gene that the setting which it replaces could not be."""
    fields = NetworkConfig.model_fields | TrainConfig.model_fields
    replaced: dict[str, Any] = {name: (fields[name].annotation, fields[name]) for name in genes}
    create_model("Replaced", __base__=Section, **replaced).model_validate(genes)


class Params(Section):
    """All of params.yaml."""

    base: BaseConfig
    network: NetworkConfig
    prepare: PrepareConfig
    evolve: EvolveConfig
    train: TrainConfig
    evaluate: EvaluateConfig
    robustness: RobustnessConfig
    export: ExportConfig
    report: ReportConfig

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if self.network.n_genes is None and self.evolve.searches:
            raise ValueError(
                f"network.n_genes = null is a plain network, which has no genes to evolve: "
                f"set evolve.variant to analytic (it is {self.evolve.variant})"
            )
        if self.network.n_genes is None and self.train.init_from is not None:
            raise ValueError(
                f"train.init_from = {self.train.init_from!r} is to be encoded, but network.n_genes = null asks for a plain "
                "network: set the number of genes, or init_from to null"
            )
        for section, given in (("evolve", self.evolve.T_schedule), ("train", self.train.T_schedule)):
            if given is not None and is_own(self.network.name):
                raise ValueError(f"{section}.T_schedule = {given}: your own network runs the steps of its code: set it to null")
        self._check_events()
        if self.evaluate.exit is not None and is_own(self.network.name):
            raise ValueError(f"evaluate.exit = {self.evaluate.exit}: your own network runs all its steps: set it to null")
        if self.train.spike_penalty and is_own(self.network.name):
            spikes = "which layers of your own network read spikes is not known: set it to 0"
            raise ValueError(f"train.spike_penalty = {self.train.spike_penalty}: {spikes}")
        lost = self.robustness.hardware and self.robustness.hardware.lost_step
        if lost and lost[-1] > self.network.T:
            raise ValueError(
                f"robustness.hardware.lost_step = {lost}: network.T = {self.network.T} steps can be lost at most: lower it"
            )
        self.evolve.check_fixed(self.train.init_from, self.train.T_schedule, lost or [], self.prepare.events is not None)
        if not is_own(self.network.name):
            self.check_top()
        known = self.prepare.known
        if image_size := self.prepare.image_size or (known and known.side):
            self.check_sizes(image_size)
        return self

    def _check_events(self) -> None:
        events, domain = self.prepare.events, self.robustness.domain
        if (events is not None) != (domain == "events"):
            of = "images in the domains normalised and image" if events is None else "recordings in the domain events"
            raise ValueError(f"robustness.domain = {domain}: noise is added to {of}: set it to one of these")
        if events is None:
            return
        T, strengths = self.network.T, self.robustness.strengths
        if strengths[-1] > 1:
            raise ValueError(f"robustness.strengths = {strengths}: no more than all events can be lost: set none above 1")
        if (frames := events.frames) != T:
            raise ValueError(f"prepare.events.frames = {frames}: network.T = {T} steps see one each: set one to the other")
        for section, given in (("evolve", self.evolve.T_schedule), ("train", self.train.T_schedule)):
            if wrong := [steps for steps in given or () if T % steps]:
                raise ValueError(f"{section}.T_schedule = {given}: {T} frames cannot be summed to {wrong[0]}: leave it out")
        if self.train.randaugment:
            raise ValueError(f"train.randaugment = {self.train.randaugment}: it is for images, not for counts: set it to 0")
        if self.train.noise:
            raise ValueError(f"train.noise = {self.train.noise}: Gaussian noise is for images, not for counts: set it to 0")

    def check_sizes(self, image_size: int) -> None:
        """Raise InputError if `evolve.sizes` or `train.sizes` do not fit the network, built for ``image_size`` pixels."""
        least = least_side(self.network.name, image_size)
        for key, sizes in (("evolve.sizes", self.evolve.sizes or []), ("train.sizes", self.train.sizes or [])):
            if large := [size for size in sizes if size > image_size]:
                problem = f"{key} = {sizes}: the images have {image_size} pixels, not {large[0]}"
                raise InputError(problem, f"set it to {image_size} or less")
            if small := [size for size in sizes if size < least]:
                problem = f"{key} = {sizes}: {self.network.name} does not run on images of {small[0]} pixels"
                raise InputError(problem, f"leave out {small[0]}, or choose {least} or more")

    def check_top(self) -> None:
        """Raise InputError if `evolve.rescore.top` is more than the candidates of a generation; needs a registered network."""
        if self.network.n_genes is not None and self.evolve.searches:
            self.evolve.check_top(len(self.searched_genes()))

    def with_genes(self, values: Mapping[str, float]) -> Self:
        """The parameters in which genes by name replace settings, as the stages after evolve need them."""
        sections = {name: with_genes(getattr(self, name), values) for name in ("network", "evolve", "train")}
        return self.model_copy(update=sections)

    def searched_genes(self) -> tuple[str, ...]:
        """The genes that evolve searches; a ValueError if an own network is not registered, or cannot be built."""
        n_encodings = len(encoded_channels(self.network.name, self.network.width)) if "wiring" in self.evolve.genes else 0
        return searched_genes(self.evolve.genes, n_encodings)
