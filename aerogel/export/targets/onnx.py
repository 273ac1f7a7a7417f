"""Target "onnx": one .onnx file that runs anywhere at dense speed, and faster with the native library.

Weights beyond the limit of one file are in a second one beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel import runtime
from aerogel.errors import ExportError, ParityError, require
from aerogel.export.parity import Batch, Runner
from aerogel.export.target import GraphTarget
from aerogel.export.targets._external import move_weights
from aerogel.hf.reason import reason
from aerogel.kernels.cpu.library import find_library
from aerogel.ops.linear_function import DOMAIN
from aerogel.runtime.mapping import align_initializers
from aerogel.system.atomic_io import sha256

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

__all__ = ["MAX_BYTES", "TARGET", "Onnx"]

MAX_BYTES = 2**31 - 1
"""Maximum size of a protobuf message, and so of an .onnx file; weights beyond it go to a second file."""

_DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64",
}  # fmt: skip


class Onnx(GraphTarget):
    """See the module's docstring."""

    suffix = ".onnx"
    layouts: tuple[str, ...] = ("flat", "hub")

    def write(self, model: ir.Model, path: Path, *, inline: bool) -> dict[str, Any]:
        """See `GraphTarget.write`."""
        require("onnx", "export")
        import onnx.checker

        proto = _message(model, inline=inline)
        external = {}
        if _weight_bytes(model) > MAX_BYTES:
            data = move_weights(proto, path)
            external = {"external": {"file": data.name, "bytes": data.stat().st_size, "sha256": sha256(data)}}
            path.write_bytes(proto.SerializeToString())
        else:
            path.write_bytes(align_initializers(proto.SerializeToString()))
        try:
            onnx.checker.check_model(path, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ExportError(f"the graph does not pass onnx.checker: {error}") from error
        return {
            "opset": {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import},
            "ir_version": proto.ir_version,
            "functions": sorted(function.name for function in proto.functions),
            "inputs": [_signature(value) for value in proto.graph.input],
            "outputs": [_signature(value) for value in proto.graph.output],
            **external,
        }

    def size(self, model: ir.Model, *, inline: bool) -> int:
        """See `Target.size`. Of a model with external weights, those alone: the rest is a hundredth of a percent."""
        if (weights := _weight_bytes(model)) > MAX_BYTES and not inline:
            return weights
        return len(align_initializers(_message(model, inline=inline).SerializeToString()))

    def runners(self, path: Path) -> Mapping[str, Runner | str]:
        """See `GraphTarget.runners`."""
        import onnx

        runners: dict[str, Runner | str] = {"onnxruntime": _runner(path, library=False)}
        if not onnx.load(path, load_external_data=False).functions:
            runners["aerogel"] = "no node of the model has a sparse kernel"
        elif find_library() is None:
            runners["aerogel"] = "the native library is not built on this machine"
        else:
            runners["aerogel"] = _runner(path, library=True)
        return runners

    def unrounded(self, path: Path) -> Runner:
        """See `GraphTarget.unrounded`. The only Round of a function's body becomes an Identity."""
        import onnx

        model = onnx.load(path, load_external_data=False)
        for graph in (model.graph, *model.functions):
            for node in graph.node:
                if node.op_type == "Round" and not node.domain:
                    node.op_type = "Identity"
        copy = path.with_suffix(".unrounded.onnx")
        onnx.save(model, copy)
        try:
            return _runner(copy, library=False)
        finally:
            copy.unlink()


def _message(model: ir.Model, *, inline: bool) -> onnx.ModelProto:
    """The model as a message, with the bodies of functions in place of their calls if `inline`.

    Raises:
        ExportError: it is too large for a file.
    """
    require("onnx", "export")
    import onnx.inliner
    import onnx_ir as ir

    if inline and (size := _weight_bytes(model)) > MAX_BYTES:
        raise ExportError(
            f"the model has {size:,} bytes of weights, more than the {MAX_BYTES:,} of an .onnx file, which "
            "--inline cannot exceed; omit it, or prune the model further"
        )
    proto = ir.to_proto(model)
    # Initializers have a type of their own. A second one in value_info breaks onnxruntime's quantizer, which
    # transposes only the initializer.
    weights = {tensor.name for tensor in proto.graph.initializer}
    others = [value for value in proto.graph.value_info if value.name not in weights]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(others)
    if inline:
        proto = onnx.inliner.inline_local_functions(proto)
        kept = [entry for entry in proto.opset_import if entry.domain != DOMAIN]
        del proto.opset_import[:]
        proto.opset_import.extend(kept)
    return proto


def _weight_bytes(model: ir.Model) -> int:
    return sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)


def _runner(path: Path, *, library: bool) -> Runner:
    session = runtime.session(path, library=library)
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Batch) -> Batch:
        try:
            return dict(zip(names, session.run(names, inputs), strict=True))
        except Exception as error:  # onnxruntime has its own exception types
            shape = list(next(iter(inputs.values())).shape)
            mode = "with" if library else "without"
            raise ParityError(
                f"ONNX Runtime cannot run the graph on inputs {shape} {mode} the native library ({reason(error)}); "
                "torch.onnx fixed a dimension that must be dynamic"
            ) from error

    return run


def _signature(value: Any) -> dict[str, Any]:
    tensor = value.type.tensor_type
    shape = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return {"name": value.name, "dtype": _DTYPES[tensor.elem_type], "shape": shape}


TARGET = Onnx()
