"""Running exported models: ONNX Runtime, with the sparse kernels where they are available."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.errors import RuntimeLoadError
from aerogel.kernels.cpu.library import find_library, library_path
from aerogel.runtime.mapping import externalize_initializers
from aerogel.runtime.memory import drop_read_pages, return_freed_memory
from aerogel.runtime.model_file import ModelFile, look
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
"""Bytes of the smallest file whose weights `session` maps by default."""

# Microseconds that a thread of a session spins for its next piece of work before it sleeps; ONNX Runtime's own default
# is some 1000. That is much longer than one operator waits for the next, and a neighbour on the core waits for its end.
_SPIN = ("session.intra_op.spin_duration_us", "20")
# What ONNX Runtime says of a library that is registered twice on the same options.
_REGISTERED = "Domain already set in registry"
# ONNX Runtime's severity of a fatal error: nothing below it is printed.
_FATAL = 4
# Where ONNX Runtime looks for the weights of a model that it is given as bytes; 1.20 looks in the current directory.
_FOLDER = "session.model_external_initializers_file_folder_path"
_KNOWS_FOLDER = (1, 22)
# How often a file that changes meanwhile is opened before it is refused.
_TRIES = 3


def check_model(path: Path) -> None:
    """Refuse a model's path where no file is.

    Raises:
        RuntimeLoadError: it does not exist, or is a folder or the like.
    """
    if not path.is_file():
        what = (
            "is a folder" if path.is_dir() else "is not a regular file" if path.exists() else "does not exist"
        )
        raise RuntimeLoadError(f"{path} {what}; give the .onnx file that `aerogel export` wrote")


def session_options(threads: int | None = None) -> onnxruntime.SessionOptions:
    """Options that Aerogel measures best, on a busy machine too.

    `threads` intra-op threads, which spin only briefly for work; None: one per core that this process may use. One
    inter-op thread.

    Raises:
        UsageError: `threads` is neither None nor an integer from 1 to 1024.
    """
    if threads is not None:
        check_threads(threads)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or physical_cores()
    options.add_session_config_entry(*_SPIN)
    options.inter_op_num_threads = 1
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

    The session has the weights and the graph of one file, also where the file is replaced meanwhile: it is then opened
    again.

    Args:
        path: the .onnx file, or a symbolic link to it.
        threads: intra-op threads; None: one per core that this process may use.
        library: True demands the sparse kernels, False leaves them out (dense speed), None uses them if built.
        options: SessionOptions to use instead of `session_options(threads)`; the library is registered on it.
            Options take it only once: pass fresh ones for every session, or library=False where it is registered.
        disabled_optimizers: graph optimizers of ONNX Runtime to leave out.
        mapped: whether large weights stay in the file; of an embedding only the rows that are looked up then come into
            memory. None maps files of `MAPPED_FROM` bytes and more, and copies smaller ones. To map takes the sparse
            kernels and ONNX Runtime 1.22; without them, with `optimized_model_filepath` or where the file has external
            data, the weights inside it are copied. While a session maps a file, replace it by renaming another onto
            it. Whoever writes into it (cp, rsync --inplace) changes what the session computes, and whoever truncates it
            ends the process with SIGBUS; mapped=False is safe from both. ONNX Runtime always maps external data.

    Raises:
        UsageError: `threads` is neither None nor an integer from 1 to 1024.
        RuntimeLoadError: the file or the library cannot be loaded, or the file changes whenever it is opened; the
            message has ONNX Runtime's reason.
    """
    if threads is not None:
        check_threads(threads)
    import onnxruntime

    path = Path(path)
    check_model(path)
    if options is None:
        options = session_options(threads)
        # The reason of a failure comes with its exception; ONNX Runtime would print it a second time.
        options.log_severity_level = _FATAL
    with_library = library or (library is None and find_library() is not None)
    if with_library:
        _register(options)
    # A file that ONNX Runtime saves would have its weights in this one, under a name that its folder does not have.
    if (
        not with_library
        or options.optimized_model_filepath
        or _version(onnxruntime.__version__) < _KNOWS_FOLDER
    ):
        mapped = False
    for _ in range(_TRIES):
        check_model(path)
        file = look(path)
        try:
            opened = _open(file, mapped, options, disabled_optimizers)
        except Exception as error:  # onnxruntime raises its own types, none of them public
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
    """A session of a file; mapped: None where its size decides."""
    import onnxruntime

    model: str | bytes = str(file.path)
    if mapped is None:
        mapped = file.size >= MAPPED_FROM
    if mapped and file.alone and (short := externalize_initializers(file.path)):
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
    except Exception as error:  # onnxruntime raises its own types, none of them public
        raise RuntimeLoadError(f"{library_path()} cannot be registered: {error}") from error


def _version(text: str) -> tuple[int, ...]:
    """Major and minor number."""
    return tuple(int(part) for part in text.split(".")[:2])
