"""The model configuration, ``config.pbtxt``."""

from __future__ import annotations

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from s2svos_engines.contract import Counts, StateSpec, StepContract, TensorSpec
from s2svos_export.triton.graph import START

SEQUENCES = 16
"""How many streams are followed at a time on each instance by default."""

TYPES = {"bool": "TYPE_BOOL", "uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}

_CONFIG = """\
name: "{name}"
backend: "onnxruntime"
# A request is one frame of one stream; the stream's objects are its batch.
max_batch_size: 0
# Two, so that streams on the last but one version can end on it.
version_policy {{ latest {{ num_versions: 2 }} }}

input {{ name: "{frame.name}" data_type: {frame_type} dims: {frame_dims} }}
# As many masks as there are objects (-1), 255 for the object. Only the first request has them.
input {{ name: "{first.name}" data_type: {first_type} dims: {first_dims} optional: true }}
output {{ name: "{masks.name}" data_type: {masks_type} dims: {masks_dims} }}

sequence_batching {{
  # After so long without a frame a stream's state is dropped. Triton's default is one second.
  max_sequence_idle_microseconds: 60000000
  # Streams that an instance follows in turn; further ones wait until one ends. The strategy
  # "direct" would follow one alone.
  oldest {{ max_candidate_sequences: {sequences} }}
  control_input {{
    name: "{start}"
    control {{ kind: CONTROL_SEQUENCE_START bool_false_true: [ false, true ] }}
  }}
{states}}}
"""

_STATE = """\
  state {{
    input_name: "{state.input.name}"
    output_name: "{state.output.name}"
    data_type: {dtype}
    dims: {dims}
    initial_state {{ name: "zero_{state.name}" data_type: {dtype} dims: {zero} zero_data: true }}
  }}
"""


def config_text(contract: StepContract, *, name: str, sequences: int = SEQUENCES) -> str:
    """Return the configuration of a stream graph, the text of ``config.pbtxt``.

    Args:
        contract: of the bundle that the graph is made of.
        name: of the model.
        sequences: streams that are followed at a time on each instance.
    """
    frame, first, masks = contract.frame, contract.first_masks, contract.object_masks
    return _CONFIG.format(
        name=name,
        frame=frame,
        frame_type=TYPES[frame.dtype],
        frame_dims=_dims(frame),
        first=first,
        first_type=TYPES[first.dtype],
        first_dims=_dims(first),
        masks=masks,
        masks_type=TYPES[masks.dtype],
        masks_dims=_dims(masks),
        sequences=sequences,
        start=START.name,
        states="".join(_state(state) for state in contract.states),
    )


def parse_config(text: str) -> ModelConfig:
    """Parse a configuration as Triton does.

    Raises:
        google.protobuf.text_format.ParseError: it is no configuration.
    """
    return text_format.Parse(text, ModelConfig())


def same_interface(config: ModelConfig, other: ModelConfig) -> bool:
    """Return whether two configurations have the same inputs, outputs and states."""

    def interface(config: ModelConfig) -> list[object]:
        batching = config.sequence_batching
        return [*config.input, *config.output, *batching.state, *batching.control_input]

    return interface(config) == interface(other)


def _state(state: StateSpec) -> str:
    spec = state.input
    # A size that is not known has none before the first request: Triton takes one object's. There
    # is one entry, as all objects of a sequence enter with its first request.
    return _STATE.format(
        state=state, dtype=TYPES[spec.dtype], dims=_dims(spec), zero=_dims(spec, objects=1)
    )


def _dims(spec: TensorSpec, *, objects: int = -1) -> str:
    return f"[ {', '.join(map(str, spec.sizes(Counts(objects))))} ]"
