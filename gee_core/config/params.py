"""All sections of params.yaml; `network`, `prepare`, `evolve` and `train` have files of their own."""

import functools
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, create_model, field_validator, model_validator

from gee_core.config.evolve import SWITCHES, EvolveConfig
from gee_core.config.genes import GENES, PLAIN, searched_genes, with_genes
from gee_core.config.network import NetworkConfig, encoded_channels, is_own, least_side
from gee_core.config.prepare import PrepareConfig
from gee_core.config.section import Fraction, Positive, Scale, Section, Weight
from gee_core.config.train import SHARED, TrainConfig
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
    """`bf16` (autocast), `fp32`, or `auto`: bf16 where it is faster. That is a GPU that multiplies it natively, or is measured
    on a CPU. An interrupted run goes on in the format in which it began."""


def rising(strengths: list[float]) -> list[float]:
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
    plain: bool
    """Train the same network with plain weights too, by the same recipe, to compare: it takes as long as train. A network that
    is plain, or that starts at `train.init_from`, is trained once."""
    e_mac: Scale
    """E_MAC, energy of a multiply-accumulate in pJ."""
    e_ac: Scale
    """E_AC, energy of an accumulate in pJ."""
    exit: Shares | None
    """Confidences of early exit; an image leaves at the first step whose mean output gives a class at least this probability.
    `exit.csv` has accuracy, mean number of steps and energy for each confidence. null: none."""


class Hardware(Section):
    """`robustness.hardware`: defects of chips, and their strengths. A domain that is null is not measured."""

    n_draws: Positive
    """Draws of each defect at each strength; the report shows their mean and range."""
    max_images: Positive | None
    """At most this many test images; a random part that is the same in every run. null: all."""
    weights: Sigmas | None = None
    """Gaussian noise on the encoded convolutions' weights; σ over the root mean square of each layer's."""
    genes: Sigmas | None = None
    """The same on every X_l and O, before the weights are decoded; a plain network has none."""
    stuck: Shares | None = None
    """Probability of each of those weights to be stuck at zero."""
    threshold: Sigmas | None = None
    """Mismatch of the neurons, V_th·(1 + δ) with δ ~ N(0, σ²); fixed over images and steps, these are the σ's."""
    dropped: Shares | None = None
    """Probability of every spike to be lost."""
    spurious: Shares | None = None
    """Probability of every silent neuron to fire in a step."""
    lost_step: Steps | None = None
    """Steps that are lost; no spike leaves any neuron in them."""
    weight_bits: Shares | None = None
    """Probability of every bit of those weights in int8 to flip; 0 is the int8 network without flips."""
    gene_bits: Shares | None = None
    """The same of every X_l and O in int8; a plain network has none."""

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
    """r, the norm of the noise as a fraction of the image's, among them 0 and the paper's 0.5. Of recordings, the number of
    events that are dropped, added or moved, as a fraction of the recording's, at most 1."""
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

    genes: GeneFormat | None
    """Format of genes.safetensors and genes.onnx; both are measured on all test images. null: neither."""
    register_model: bool
    """Whether to register the model in MLflow, where the model of the highest test accuracy is the `champion`."""


class ReportConfig(Section):
    """`report`: the page."""

    title: Annotated[str, Field(min_length=1, max_length=200)]
    """Heading of the page."""


def check_settings(genes: Mapping[str, float]) -> None:
    """Raise ``ValueError`` for a gene that the setting which it replaces could not be."""
    if lost := next((name for name, value in genes.items() if value is None), None):
        raise ValueError(f"{lost} must be a number, got None")
    _replaced(frozenset(genes)).model_validate(genes)


@functools.cache  # a model takes a hundredth of a second
def _replaced(names: frozenset[str]) -> type[Section]:
    fields = NetworkConfig.model_fields | TrainConfig.model_fields
    replaced: dict[str, Any] = {name: (fields[name].annotation, fields[name]) for name in names}
    return create_model("Replaced", __base__=Section, **replaced)


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

    @model_validator(mode="before")
    @classmethod
    def _proxy_is_as_train(cls, values: Any) -> Any:
        try:
            train, evolve = values["train"], values["evolve"]
            of_train = {name: train[name] for name in SHARED if name in train}
            return {**values, "evolve": {**evolve, "proxy": {**of_train, **evolve["proxy"]}}}
        except (KeyError, TypeError):  # a section is missing or no mapping, and refused
            return values

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if conflicts := [*self._conflicts(), *self._conflicts_of_events()]:
            raise ValueError(conflicts[0])
        known = self.prepare.known
        if image_size := self.prepare.image_size or (known and known.side):
            self.check_sizes(image_size)
        return self

    def _conflicts(self) -> Iterator[str]:
        """Values that values of another section exclude, each with a remedy."""
        network, evolve, train, own = self.network, self.evolve, self.train, is_own(self.network.name)
        searched = set(searched_genes(evolve.genes, 0, network.neuron)) if evolve.searches else set()
        searches = f"evolve.genes = {evolve.genes} searches"
        if network.n_genes is None and (encoded := searched - PLAIN):
            remedy = f"leave it out, or set evolve.variant to analytic (it is {evolve.variant})"
            yield f"network.n_genes = null is a plain network, {searches} {min(encoded)} of an encoded one: {remedy}"
        if network.n_genes is None and evolve.searches and evolve.b and SWITCHES[evolve.variant][1]:
            no_O = f"evolve.variant = {evolve.variant} rewards the entropy of O, which it has not"
            yield f"network.n_genes = null is a plain network, {no_O}: set variant to baseline, or b to 0"
        if network.n_genes is None and train.init_from is not None:
            plain = "is to be encoded, but network.n_genes = null asks for a plain network"
            yield f"train.init_from = {train.init_from!r} {plain}: set the number of genes, or init_from to null"
        if own and self.evaluate.exit is not None:
            yield f"evaluate.exit = {self.evaluate.exit}: your own network runs all its steps: set it to null"
        if own and train.spike_penalty:
            unknown = "which layers of your own network read spikes is not known"
            yield f"train.spike_penalty = {train.spike_penalty}: {unknown}: set it to 0"
        if own and train.finish:
            unknown = "which batch norms come before which neurons of your own network is not known"
            yield f"train.finish = {train.finish.model_dump()}: {unknown}: set it to null"
        if network.neuron == "ilif" and train.finish:
            integers = "with network.neuron = ilif integers stay to the end"
            yield f"train.finish = {train.finish.model_dump()}: {integers}: set network.neuron to lif, or finish to null"
        if evolve.searches and train.init_from is not None:
            drawn = f"training starts there, and evolve.variant = {evolve.variant} searches among other networks"
            yield f"train.init_from = {train.init_from!r}: {drawn}: set variant to analytic"
        if others := [gene for gene in searched & GENES.keys() if GENES[gene].neuron not in ("", network.neuron)]:
            needs = f"which neurons {network.neuron} have not"
            yield f"{searches} {min(others)}, {needs}: leave it out, or set network.neuron to {GENES[min(others)].neuron}"
        for section, schedule in self._schedules():
            if own and schedule is not None:
                yield f"{section}.T_schedule = {schedule}: your own network runs the steps of its code: set it to null"
            if "T" in searched and schedule is not None:
                yield f"{section}.T_schedule = {schedule} fixes the steps, {searches} T: set it to null, or leave out T"
        if lost := self.robustness.hardware and self.robustness.hardware.lost_step:
            named = f"robustness.hardware.lost_step = {lost}"
            if lost[-1] > network.T:
                yield f"{named}: network.T = {network.T} steps can be lost at most: lower it"
            if "T" in searched and lost[-1] > 1:
                yield f"{named}: {searches} T from 1 on: lower it to [0, 1]"

    def _conflicts_of_events(self) -> Iterator[str]:
        """What images and recordings exclude."""
        events, domain, T, strengths = self.prepare.events, self.robustness.domain, self.network.T, self.robustness.strengths
        if (events is not None) != (domain == "events"):
            given = "images in the domains normalised and image" if events is None else "recordings in the domain events"
            yield f"robustness.domain = {domain}: noise is added to {given}: set it to one of these"
        if events is None:
            return
        if strengths[-1] > 1:
            yield f"robustness.strengths = {strengths}: no more than all events can be lost: set none above 1"
        if events.frames != T:
            yield f"prepare.events.frames = {events.frames}: network.T = {T} steps see one each: set one to the other"
        if self.evolve.searches and "T" in searched_genes(self.evolve.genes, 0, self.network.neuron):
            yield f"evolve.genes = {self.evolve.genes} searches T, which is the number of frames of prepare.events: leave out T"
        for section, schedule in self._schedules():
            if wrong := [steps for steps in schedule or () if T % steps]:
                yield f"{section}.T_schedule = {schedule}: {T} frames cannot be summed to {wrong[0]}: leave it out"
        if self.train.randaugment:
            yield f"train.randaugment = {self.train.randaugment}: it is for images, not for counts: set it to 0"
        if self.train.noise:
            yield f"train.noise = {self.train.noise}: Gaussian noise is for images, not for counts: set it to 0"

    def _schedules(self) -> Iterator[tuple[str, list[int] | None]]:
        """The two `T_schedule` by their section."""
        yield from (("train", self.train.T_schedule), ("evolve.proxy", self.evolve.proxy.T_schedule))

    def check_sizes(self, image_size: int) -> None:
        """Raise InputError if `sizes` of `train` or `evolve.proxy` do not fit the network, built for ``image_size`` pixels."""
        least = least_side(self.network.name, image_size)
        for section, sizes in (("train", self.train.sizes or []), ("evolve.proxy", self.evolve.proxy.sizes or [])):
            key = f"{section}.sizes"
            if large := [size for size in sizes if size > image_size]:
                problem = f"{key} = {sizes}: the images have {image_size} pixels, not {large[0]}"
                raise InputError(problem, f"set it to {image_size} or less")
            if small := [size for size in sizes if size < least]:
                problem = f"{key} = {sizes}: {self.network.name} does not run on images of {small[0]} pixels"
                raise InputError(problem, f"leave out {small[0]}, or choose {least} or more")

    @property
    def scores_candidates(self) -> bool:
        """Whether evolve has candidates to score. Without a search, a plain network and `train.init_from` have none."""
        return self.evolve.searches or (self.network.n_genes is not None and self.train.init_from is None)

    @property
    def trains_plain(self) -> bool:
        """Whether a plain network is trained too."""
        return self.evaluate.plain and self.network.n_genes is not None and self.train.init_from is None

    def with_genes(self, values: Mapping[str, float]) -> Self:
        """The parameters in which genes by name replace settings, as the stages after evolve need them."""
        proxy = with_genes(self.evolve.proxy, values)
        evolve = self.evolve.model_copy(update={"proxy": proxy})
        sections = {"network": with_genes(self.network, values), "train": with_genes(self.train, values)}
        return self.model_copy(update={"evolve": evolve, **sections})

    def searched_genes(self) -> tuple[str, ...]:
        """The genes that evolve draws; a ValueError if an own network is not registered, or cannot be built."""
        n_encodings = len(encoded_channels(self.network.name, self.network.width)) if "wiring" in self.evolve.genes else 0
        found = searched_genes(self.evolve.genes, n_encodings, self.network.neuron)
        return tuple(gene for gene in found if gene != "width") if self.evolve.solves_width else found
