"""The condition networks a flow may have; a new one is one file and one member here.

Each offers `refusal(levels)`, `weights()` and `build(channels, size, factors)`: a network whose
`channels` are those of its maps, one a level of the flow, and whose forward returns these maps, the
i-th of side size / factors[i], and a vector.
"""

from typing import Annotated

from pydantic import Field

from colorization.models.cinn.convolutional_condition import ConvolutionalConditionConfig
from colorization.models.cinn.resnet_condition import ResNetConditionConfig

ConditionConfig = Annotated[
    ConvolutionalConditionConfig | ResNetConditionConfig, Field(discriminator="name")
]
