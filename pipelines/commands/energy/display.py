"""What `gee energy` prints: a table of layers, and totals; or the same as JSON."""

from gee_core.evaluation.activity import Activity
from pipelines.reporting.summary import percent


def as_dict(activity: Activity, jelly: dict[str, float], e_mac: float, e_ac: float) -> dict:
    """All numbers, per image: energies in mJ, rates and sparsities as fractions, footprints in bytes."""
    layers = [
        layer.row(e_mac, e_ac) | {key: getattr(layer, key) for key in ("steps", "synops", "effective", "dense")}
        for layer in activity.layers
    ]
    return {
        "energy_mj": activity.energy_mj(e_mac, e_ac),
        "energy_with_decoding_mj": activity.energy_with_decoding_mj(e_mac, e_ac),
        "energy_of_sums_mj": activity.energy_of_sums_mj(e_ac),
        "spikes_per_image": activity.spikes_per_image,
        "firing_rate": activity.firing_rate,
        "footprint_decoded": activity.footprint_decoded,
        "neurobench": activity.neurobench(),
        "spikingjelly": jelly,
        "same_by_us": same_by_us(activity),
        "not_counted": activity.not_counted,
        "layers": layers,
    }


def same_by_us(activity: Activity) -> dict[str, float]:
    """What SpikingJelly's counters count, by our count, per image."""
    macs = sum(layer.macs * layer.steps for layer in activity.layers if not layer.binary)
    return {"macs": macs, "synops": sum(layer.synops for layer in activity.layers if layer.binary)}


def show(title: str, activity: Activity, jelly: dict[str, float], e_mac: float, e_ac: float) -> None:
    """Print everything for people."""
    print(title, activity.table(e_mac, e_ac), "", sep="\n")
    for name, text in _facts(activity, jelly, e_mac, e_ac).items():
        print(f"{name:<13} {text}")


def _facts(activity: Activity, jelly: dict[str, float], e_mac: float, e_ac: float) -> dict[str, str]:
    terms, ours = activity.neurobench(), same_by_us(activity)
    macs, acs, dense = (f"{value:,.0f}" for value in terms["synaptic_operations"].values())
    facts = activity.totals(e_mac, e_ac) | {
        "NeuroBench": f"effective MACs {macs}, effective ACs {acs}, dense {dense}; "
        f"activation sparsity {percent(activity.activation_sparsity, 1)}, "
        f"connection sparsity {percent(activity.connection_sparsity, 1)}; footprint {activity.footprint:,} bytes",
        "SpikingJelly": f"MACs {jelly['macs']:,.0f} (ours {ours['macs']:,.0f}), "
        f"synaptic operations {jelly['synops']:,.0f} (ours {ours['synops']:,.0f})",
    }
    if activity.footprint_decoded != activity.footprint:
        facts["NeuroBench"] += f", {activity.footprint_decoded:,} with W built"
    if any(abs(jelly[key] - ours[key]) > 1e-6 * max(1, ours[key]) for key in ours):
        facts["mind"] = (
            "the two differ where a network multiplies outside of its layers (attention, functions), "
            "or where a layer's input, or its weight, is binary in some calls alone"
        )
    return facts
