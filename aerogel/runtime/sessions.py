"""Open exported models in ONNX Runtime, with the native library if it is built."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.errors import RuntimeLoadError
from aerogel.kernels.cpu.library import find_library, library_path
from aerogel.runtime.mapping import externalize_initializers
from aerogel.runtime.memory import drop_read_pages, return_freed_memory
from aerogel.runtime.model_file import ModelFile, snapshot
from aerogel.system.cores import physical_cores
from aerogel.system.threads import check_threads

if TYPE_CHECKING:
    import onnxruntime

__all__ = [
    "MAPPED_FROM",
    "SLOWER_WHEN_FUSED",
    "check_model",
    "session",
    "session_options",
]

# Fused skip + LayerNorm costs about 0.45 ms a node in ONNX Runtime 1.31, more than the two nodes it replaces.
SLOWER_WHEN_FUSED = ("SkipLayerNormFusion",)

MAPPED_FROM = 32_000_000
"""Size in bytes of the smallest file that `session` maps by default."""

# Microseconds that an idle thread of a session spins before it sleeps. ONNX Runtime's default, about 1000, is
# much longer than the time between two operators and blocks other processes on the core.
_SPIN = ("session.intra_op.spin_duration_us", "20")
# Part of ONNX Runtime's message for a library that is registered twice on the same options.
_REGISTERED = "Domain already set in registry"
# ONNX Runtime's log level for fatal errors; less severe messages are not printed.
_FATAL = 4
# Folder of the external data of a model that is passed as bytes. ONNX Runtime 1.20 uses the current directory instead.
_FOLDER = "session.model_external_initializers_file_folder_path"
_FOLDER_SINCE = (1, 22)
# Attempts to open a file that keeps changing.
_TRIES = 3


def check_model(path: Path) -> None:
    """Check that a model's path is a file.

    Raises:
        RuntimeLoadError: the path does not exist or is not a regular file.
    """
    if not path.is_file():
        problem = (
            "is a folder" if path.is_dir() else "is not a regular file" if path.exists() else "does not exist"
        )
        raise RuntimeLoadError(f"{path} {problem}; give the .onnx file that `aerogel export` wrote")


def session_options(threads: int | None = None, *, library: bool = False) -> onnxruntime.SessionOptions:
    """Session options for the lowest latency, also on a busy machine: threads spin only briefly while they wait.

    Args:
        threads: intra-op threads; None for one per physical core that this process may use.
        library: whether to register the native library, for programs that create the session themselves, such as
            sentence-transformers. `session` registers it itself.

    Raises:
        UsageError: `threads` is neither None nor an integer from 1 to 1024.
        RuntimeLoadError: `library`, and the native library is missing or cannot be registered.
    """
    if threads is not None:
        check_threads(threads)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or physical_cores()
    options.add_session_config_entry(*_SPIN)
    options.inter_op_num_threads = 1
    if library:
        _register(options)
    return options


def session(
    path: str | Path,
    threads: int | None = None,
    *,
    library: bool | None = None,
    options: Any = None,
    disabled_optimizers: Sequence[str] = SLOWER_WHEN_FUSED,
    mapped: bool | None = None,
) -> onnxruntime.InferenceSession:
    """Open an exported model on the CPU.

    If the file is replaced while it is opened, it is opened again, so that weights and graph are from the same file.

    Args:
        path: the .onnx file, or a symbolic link to it.
        threads: intra-op threads; None for one per physical core that this process may use.
        library: True requires the native library, False does not use it (dense speed), None uses it if it is built.
        options: SessionOptions to use instead of `session_options(threads)`. The library is registered on them, which
            is possible only once: pass fresh options for every session, or library=False if it is registered already.
        disabled_optimizers: graph optimizers of ONNX Runtime to disable.
        mapped: whether large weights are mapped; of an embedding table, only the rows in use are then loaded. None maps
            files of at least `MAPPED_FROM` bytes. Mapping needs the native library and ONNX Runtime 1.22; without them,
            with `optimized_model_filepath` or with external data, the weights in the file are copied. While a session
            maps a file, replace it only by renaming another file: writing into it (cp, rsync --inplace) changes the
            outputs of the session, and truncating it ends the process with SIGBUS. mapped=False is safe from both. ONNX
            Runtime always maps external data.

    Raises:
        UsageError: `threads` is neither None nor an integer from 1 to 1024.
        RuntimeLoadError: the file or the library cannot be loaded, or the file keeps changing; the message has ONNX
            Runtime's reason.
    """
    if threads is not None:
        check_threads(threads)
    import onnxruntime

    path = Path(path)
    check_model(path)
    if options is None:
        options = session_options(threads)
        # ONNX Runtime would also print the message of its exceptions.
        options.log_severity_level = _FATAL
    with_library = library or (library is None and find_library() is not None)
    if with_library:
        _register(options)
    # A model saved with mapped weights would refer to this file, which is not in the folder of the saved model.
    if (
        not with_library
        or options.optimized_model_filepath
        or _version(onnxruntime.__version__) < _FOLDER_SINCE
    ):
        mapped = False
    for _ in range(_TRIES):
        check_model(path)
        file = snapshot(path)
        try:
            opened = _open(file, mapped, options, disabled_optimizers)
        except Exception as error:  # the exception types of onnxruntime are not public
            if not file.unchanged():
                continue
            if _REGISTERED in str(error):
                raise RuntimeLoadError(
                    f"{path} cannot be loaded: the library is already registered on these options; "
                    "pass fresh options, or library=False"
                ) from error
            raise RuntimeLoadError(f"{path} cannot be loaded: {error}") from error
        if file.unchanged():
            return opened
    raise RuntimeLoadError(
        f"{path} changed while it was opened, {_TRIES} times in a row; write it under another name, then rename it"
    )


def _open(
    file: ModelFile, mapped: bool | None, options: Any, disabled_optimizers: Sequence[str]
) -> onnxruntime.InferenceSession:
    """Open a session; with `mapped` None, the size of the file decides."""
    import onnxruntime

    model: str | bytes = str(file.path)
    if mapped is None:
        mapped = file.size >= MAPPED_FROM
    if mapped and file.self_contained and (short := externalize_initializers(file.path)):
        options.add_session_config_entry(_FOLDER, str(file.path.parent))
        model = short
    opened = onnxruntime.InferenceSession(
        model,
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=list(disabled_optimizers),
    )
    return_freed_memory()
    if isinstance(model, bytes):
        drop_read_pages(file.path)
    return opened


def _register(options: Any) -> None:
    try:
        options.register_custom_ops_library(library_path())
    except RuntimeLoadError:
        raise
    except Exception as error:  # the exception types of onnxruntime are not public
        raise RuntimeLoadError(f"{library_path()} cannot be registered: {error}") from error


def _version(text: str) -> tuple[int, ...]:
    """Major and minor version."""
    return tuple(int(part) for part in text.split(".")[:2])
