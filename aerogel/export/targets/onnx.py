"""Target "onnx": one .onnx file that runs anywhere at dense speed, and faster with the native library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel import runtime
from aerogel.errors import ExportError, ParityError, require
from aerogel.export.parity import Batch, Runner
from aerogel.export.target import Target
from aerogel.hf.reason import reason
from aerogel.kernels.cpu.library import find_library
from aerogel.ops.linear_function import DOMAIN
from aerogel.runtime.mapping import align_initializers

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

__all__ = ["MAX_BYTES", "TARGET", "Onnx"]

MAX_BYTES = 2**31 - 1
"""Maximum size of a protobuf message, and so of an .onnx file."""

_DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64",
}  # fmt: skip


class Onnx(Target):
    """See the module's docstring."""

    suffix = ".onnx"

    def write(self, model: ir.Model, path: Path, *, inline: bool) -> dict[str, Any]:
        """See `Target.write`."""
        require("onnx", "export")
        import onnx.checker

        proto = _message(model, inline=inline)
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
        }

    def size(self, model: ir.Model, *, inline: bool) -> int:
        """See `Target.size`."""
        return len(align_initializers(_message(model, inline=inline).SerializeToString()))

    def runners(self, path: Path) -> Mapping[str, Runner | str]:
        """See `Target.runners`."""
        import onnx

        runners: dict[str, Runner | str] = {"onnxruntime": _runner(path, library=False)}
        if not onnx.load(path).functions:
            runners["aerogel"] = "no node of the model has a sparse kernel"
        elif find_library() is None:
            runners["aerogel"] = "the native library is not built on this machine"
        else:
            runners["aerogel"] = _runner(path, library=True)
        return runners

    def unrounded(self, path: Path) -> Runner:
        """See `Target.unrounded`. The only Round of a function's body becomes an Identity."""
        import onnx

        model = onnx.load(path)
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

    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    if size > MAX_BYTES:
        raise ExportError(
            f"the model has {size:,} bytes of weights, more than the {MAX_BYTES:,} of an .onnx file; "
            "prune it further or export a smaller model"
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
