"""The section `network`."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from gee_core.config.genes import Shape
from gee_core.config.known_networks import default_block, is_own
from gee_core.config.section import Scale, Section
from gee_core.zoo import NETWORKS


class NetworkStructure(Section):
    """What determines a network but for its weights."""

    name: str
    """Key of `gee_core.zoo.NETWORKS`, or your own as `networks.my_vgg:MyVGG` (see docs/tutorials/your-network.md)."""
    block: Literal["pre", "post"] | None
    """Residual block of the ResNets: `pre` (norm and neurons before each convolution), `post` (after it). null: `pre`."""
    pool: Literal["max", "avg"]
    """Kind of the 2x2 pools of CIFARNet and VGG. After `avg` the spikes are no longer binary."""
    width: Annotated[float, Field(gt=0, le=4)]
    """Multiplies every channel count of the paper's table."""
    n_genes: Annotated[int, Field(ge=1, le=10_000)] | None
    """g, number of genes of an encoding. null: the plain network."""
    T: Annotated[int, Field(ge=1, le=64)]
    """Time steps. Your own network must answer with as many."""
    tau: Annotated[float, Field(gt=1, le=1e6)]
    """τ, membrane time constant in steps."""
    decay_input: bool
    """Whether the input current is divided by τ, as the leak is."""
    v_threshold: Scale
    """V_th, firing threshold."""
    v_reset: Annotated[float, Field(ge=-1e6, le=1e6)] | None
    """Membrane potential after a spike. null: V_th is subtracted (soft reset)."""
    detach_reset: bool
    """Whether the gradient ignores the reset."""
    surrogate: Annotated[Literal["piecewise_quadratic", "atan", "sigmoid"], Field(serialization_alias="surrogate_name")]
    """Surrogate gradient, key of `gee_core.snn.lif.SURROGATES`."""
    surrogate_alpha: Scale
    """α, slope of the surrogate gradient."""

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in NETWORKS and not is_own(name):
            own = "or name your own as package.module:NAME, for instance networks.my_vgg:MyVGG"
            raise ValueError(f"unknown network: choose one of {', '.join(NETWORKS)}, {own}")
        return name

    @field_validator("block")
    @classmethod
    def _block_of_the_network(cls, value: str | None, info: ValidationInfo) -> str | None:
        if (name := info.data.get("name")) is None:  # unknown, and refused
            return value
        default = default_block(name)
        if value is not None and default is None:
            reason = "is your own network, and block is for those of the table" if is_own(name) else "has no residual blocks"
            raise ValueError(f"{name} {reason}: set it to null")
        return value or default

    def lif(self) -> dict[str, Any]:
        """The arguments of `gee_core.snn.lif.LIF`."""
        return self.model_dump(exclude={"name", "block", "pool", "width", "n_genes", "init"}, by_alias=True)


class NetworkConfig(NetworkStructure):
    """`network`: the network that is evolved, trained and measured."""

    init: Shape | None
    """Genes of shape at which the wiring, or plain weights, start; those not named, and all if null, are neutral."""

    @property
    def shape(self) -> Shape:
        """`init`, neutral where it is null."""
        return self.init or Shape()

    def structure(self) -> NetworkStructure:
        """What a checkpoint says about the network."""
        return NetworkStructure.model_validate(self.model_dump(exclude={"init"}))
