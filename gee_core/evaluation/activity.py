"""What a network computes on images: counts by layer, and the theoretical energy that follows from them (Eq. 17).

    E = E_MAC·FL_stem + E_AC·T·(Σ fr_n·FL_n over convolutions n ≥ 2 + Σ fr_m·FL_m over fully connected layers)

FL are multiply-accumulates per step, fr the mean firing rate of a layer's input over neurons, images and steps. Batch norm
(which folds into the convolution before it, or into the thresholds of the neurons after it) and the neurons themselves count
as free, as in the paper. A stem that reads recordings of event cameras runs at every step. It is charged as a layer that reads
spikes, where its input is 0 and 1 alone or counts of events: fr is then the mean count, an accumulate per event. The integers
of I-LIF neurons are such counts, as n binary spikes in the slots of a step would be.

NeuroBench 2.3 counts the connections of active inputs, without those from padding and those of weight zero.
"""

from dataclasses import dataclass, field

PICO_TO_MILLI = 1e-9
E_MAC, E_AC = 4.6, 0.9
"""Energies of Eq. 17 in pJ, as in the paper: of a multiply-accumulate and of an accumulate in float32, in 45 nm CMOS."""


def energy_unit(mj: float) -> tuple[str, float]:
    """The most readable unit for ``mj`` millijoules in three digits, and how many of it make 1 mJ."""
    rounded = abs(float(f"{mj:.3g}"))
    units = ((1e3, "J", 1e-3), (1.0, "mJ", 1.0), (1e-3, "µJ", 1e3), (0.0, "nJ", 1e6))
    return next((unit, scale) for least, unit, scale in units if rounded >= least)


def energy_text(mj: float) -> str:
    """0.00123 → "1.23 µJ", with a no-break space."""
    unit, scale = energy_unit(mj)
    return f"{mj * scale:.3g}\N{NO-BREAK SPACE}{unit}"


def rate_text(rate: float, T: int, levels: int | None) -> str:
    """A firing rate: "firing rate 14.4 %", or of integers "1.4 events per neuron and image, 17 % of the 8 slots"."""
    if levels is None:
        return f"firing rate {100 * rate:.1f}\N{NO-BREAK SPACE}%"
    share = f"{100 * rate / levels:.0f}\N{NO-BREAK SPACE}% of the {T * levels} slots"
    return f"{rate * T:.2g} events per neuron and image, {share}"


@dataclass
class LayerCount:
    """Counts of one convolution or fully connected layer, and the energy that follows from them."""

    layer: str
    kind: str
    """``conv`` (of 1, 2 or 3 dimensions), ``transposed`` or ``fc``."""
    steps: float = 0
    """How often the layer runs per image: T, or 1 for a stem that runs once, as its input does not change."""
    macs: float = 0
    """FL: multiply-accumulates per image and step if every input neuron were active."""
    binary: bool = True
    """Whether its input consists of 0 and 1, that of a stem too: only then does a spike cost one accumulate."""
    spiking: bool = True
    """Whether its input consists of -1, 0 and 1, NeuroBench's condition for accumulates."""
    counts: bool = False
    """Whether its input consists of counts of events, of a recording or of I-LIF neurons: each event costs one accumulate."""
    input_sum: float = 0.0
    input_count: int = 0
    output_rate: float | None = None
    """Mean firing rate of the neurons after it, None without neurons."""
    decode_macs: int = 0
    """Multiply-accumulates of building its weight from genes once."""
    effective: float = 0.0
    """Connections with a weight ≠ 0 from inputs ≠ 0, per image, over all steps: NeuroBench's effective operations."""
    synops: float = 0.0
    """Connections from inputs ≠ 0, per image, over all steps: SpikingJelly's synaptic operations, if the input is binary."""
    dense: float = 0.0
    """Connections from all inputs, without those from padding, per image, over all steps."""

    @property
    def input_rate(self) -> float:
        """fr: mean of the input over neurons, images and steps."""
        return self.input_sum / self.input_count

    def energy_mj(self, e_mac: float = E_MAC, e_ac: float = E_AC) -> float:
        """Energy of this layer per image in mJ, from pJ per operation."""
        per_step = e_ac * self.input_rate if self.binary or self.counts else e_mac
        return per_step * self.macs * self.steps * PICO_TO_MILLI

    def decode_energy_mj(self, e_mac: float = E_MAC) -> float:
        """Energy of building the weight once, in mJ."""
        return e_mac * self.decode_macs * PICO_TO_MILLI

    def row(self, e_mac: float, e_ac: float) -> dict[str, float | str | None]:
        """The row of this layer in layers.csv."""
        return {
            "layer": self.layer,
            "kind": self.kind,
            "input_rate": self.input_rate,
            "binary": self.binary,
            "macs": self.macs,
            "energy_mj": self.energy_mj(e_mac, e_ac),
            "decode_macs": self.decode_macs,
            "decode_energy_mj": self.decode_energy_mj(e_mac),
            "output_rate": self.output_rate,
        }


@dataclass
class Activity:
    """Counts of a whole network. ``print`` shows them as a table."""

    layers: list[LayerCount] = field(default_factory=list)
    """In order of execution."""
    spikes_per_image: float = 0.0
    """Spikes of all neurons, summed over the steps. An output of -1 is a spike. An integer n of I-LIF is n spikes."""
    firing_rate: float = 0.0
    """Spikes per neuron and step."""
    sums: float = 0.0
    """Additions of the residual blocks' branches per image: their elements, times the steps. Networks of the table alone."""
    activation_sparsity: float = 0.0
    """Share of zeros in the outputs of all neurons, over images and steps. NeuroBench counts ReLU and Sigmoid too."""
    connection_sparsity: float = 0.0
    """Share of zeros in the weights of all convolutions and fully connected layers, decoded."""
    footprint: int = 0
    """Bytes of all parameters and buffers, of genes where the network is encoded."""
    footprint_decoded: int = 0
    """``footprint`` with weights in place of genes: what a chip holds that decodes them once."""
    not_counted: dict[str, str] = field(default_factory=dict)
    """Modules with parameters that are neither counted nor free, by name, and their types: layers of other types, and layers
    that were not called."""

    @property
    def silent(self) -> list[str]:
        """The layers whose inputs were all zero. No spike reaches such a layer, and the layer counts as free."""
        return [layer.layer for layer in self.layers if layer.binary and layer.input_sum == 0]

    @property
    def effective_macs(self) -> float:
        """NeuroBench's ``Effective_MACs`` per image: ``effective`` of the layers with other inputs than -1, 0 and 1."""
        return sum(layer.effective for layer in self.layers if not layer.spiking)

    @property
    def effective_acs(self) -> float:
        """NeuroBench's ``Effective_ACs`` per image: ``effective`` of the layers whose inputs are -1, 0 and 1."""
        return sum(layer.effective for layer in self.layers if layer.spiking)

    @property
    def dense(self) -> float:
        """NeuroBench's ``Dense`` per image: the synaptic operations if all inputs and weights were active."""
        return sum(layer.dense for layer in self.layers)

    def neurobench(self) -> dict[str, float | dict[str, float]]:
        """The metrics under NeuroBench's names: footprint in bytes, sparsities as shares, synaptic operations per image."""
        operations = {"Effective_MACs": self.effective_macs, "Effective_ACs": self.effective_acs, "Dense": self.dense}
        sparsities = {key: getattr(self, key) for key in ("connection_sparsity", "activation_sparsity")}
        return {"footprint": self.footprint, **sparsities, "synaptic_operations": operations}

    def energy_mj(self, e_mac: float = E_MAC, e_ac: float = E_AC) -> float:
        """Eq. 17, per image, in mJ, for weights that are stored decoded."""
        return sum(layer.energy_mj(e_mac, e_ac) for layer in self.layers)

    def energy_with_decoding_mj(self, e_mac: float = E_MAC, e_ac: float = E_AC) -> float:
        """``energy_mj``, plus the energy of building every W from its genes once per image."""
        return self.energy_mj(e_mac, e_ac) + sum(layer.decode_energy_mj(e_mac) for layer in self.layers)

    def energy_of_sums_mj(self, e_ac: float = E_AC) -> float:
        """Energy of the residual sums per image in mJ, an accumulate for each addition. ``energy_mj`` leaves it out."""
        return e_ac * self.sums * PICO_TO_MILLI

    def table(self, e_mac: float = E_MAC, e_ac: float = E_AC) -> str:
        """The layers as text, a line each in order of execution, below a line of titles. Energies are per image."""
        titles = "layer", "kind", "MACs per step", "steps", "input", "input rate", "energy", "fires"
        rows = [titles]
        for layer in self.layers:
            fires = "–" if layer.output_rate is None else f"{layer.output_rate:.3f}"
            kind = "binary" if layer.binary else "counts" if layer.counts else "real"
            counts = f"{layer.macs:,.0f}", f"{layer.steps:g}", kind, f"{layer.input_rate:.4g}"
            rows.append((layer.layer or "(the network)", layer.kind, *counts, energy_text(layer.energy_mj(e_mac, e_ac)), fires))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        left = [title in ("layer", "kind", "input") for title in titles]
        lines = ([f"{c:<{w}}" if l else f"{c:>{w}}" for c, w, l in zip(row, widths, left, strict=True)] for row in rows)
        return "\n".join(map("  ".join, lines))

    def totals(self, e_mac: float = E_MAC, e_ac: float = E_AC) -> dict[str, str]:
        """The lines below the table: energy and spikes per image, and the modules that are not counted if there are any."""
        energy = f"{energy_text(self.energy_mj(e_mac, e_ac))} per image (Eq. 17: {e_mac:g} pJ per MAC, {e_ac:g} pJ per AC)"
        if decoding := sum(layer.decode_energy_mj(e_mac) for layer in self.layers):
            energy += f"; {energy_text(decoding)} more with building W"
        if sums := self.energy_of_sums_mj(e_ac):
            energy += f"; {energy_text(sums)} more for the residual sums"
        spikes = f"{self.spikes_per_image:,.1f} per image, {self.firing_rate:.3f} per neuron and step"
        left_out = ", ".join(f"{name} ({kind})" for name, kind in self.not_counted.items())
        return {"energy": energy, "spikes": spikes} | ({"not counted": left_out} if left_out else {})

    def __str__(self) -> str:
        return "\n".join([self.table(), *(f"{name}: {text}" for name, text in self.totals().items())])
