"""Running exported models: ONNX Runtime, with the sparse kernels where they are available."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.cores import physical_cores
from aerogel.errors import RuntimeLoadError, UsageError
from aerogel.kernels.cpu import LIBRARY_VARIABLE, find_library
from aerogel.resident import drop_read_pages, return_freed_memory
from aerogel.weights_file import pointing

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["SLOWER_WHEN_FUSED", "check_model", "check_threads", "library_path", "session", "session_options"]

# Fused skip + LayerNorm costs about 0.45 ms a node in ONNX Runtime 1.31, more than the two nodes it replaces.
SLOWER_WHEN_FUSED = ("SkipLayerNormFusion",)

# More than any machine has cores; ONNX Runtime and PyTorch fail, or freeze the machine, on absurd numbers.
_MOST_THREADS = 1024
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


def check_threads(threads: object, name: str = "threads") -> None:
    """Refuse what is no number of threads.

    Raises:
        UsageError: `threads` is not an integer from 1 to 1024; the message calls it `name`.
    """
    if type(threads) is not int or not 1 <= threads <= _MOST_THREADS:
        raise UsageError(f"{name} {threads!r} is out of range; give an integer from 1 to {_MOST_THREADS}")


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


def library_path() -> str:
    """Path to pass to ``register_custom_ops_library`` in any language that has ONNX Runtime.

    Raises:
        RuntimeLoadError: the library was not built for this installation.
    """
    path = find_library()
    if path is None:
        raise RuntimeLoadError(
            "the native library is not built; install a C++17 compiler and reinstall aerogel, "
            "or run the model on stock ONNX Runtime at dense speed"
        )
    if not path.is_file():
        raise RuntimeLoadError(
            f"{LIBRARY_VARIABLE}={path} is not a file; unset it or point it at a built library"
        )
    return str(path)


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
    mapped: bool = True,
) -> onnxruntime.InferenceSession:
    """Open an exported model on the CPU.

    Args:
        path: the .onnx file.
        threads: intra-op threads; None: one per core that this process may use.
        library: True demands the sparse kernels, False leaves them out (dense speed), None uses them if built.
        options: SessionOptions to use instead of `session_options(threads)`; the library is registered on it.
            Options take it only once: pass fresh ones for every session, or library=False where it is registered.
        disabled_optimizers: graph optimizers of ONNX Runtime to leave out.
        mapped: with the sparse kernels, leave large weights in the file, from ONNX Runtime 1.22 on: of an embedding
            only the rows that are looked up come into memory. Whoever replaces the file meanwhile must rename another
            into its place, as `aerogel export` does; writing into it would change, or end, what runs.

    Raises:
        UsageError: `threads` is neither None nor an integer from 1 to 1024.
        RuntimeLoadError: the file or the library cannot be loaded; the message has ONNX Runtime's reason.
    """
    if threads is not None:
        check_threads(threads)
    import onnxruntime

    check_model(Path(path))
    if options is None:
        options = session_options(threads)
        # The reason of a failure comes with its exception; ONNX Runtime would print it a second time.
        options.log_severity_level = _FATAL
    model: str | bytes = str(path)
    if library or (library is None and find_library() is not None):
        try:
            options.register_custom_ops_library(library_path())
        except RuntimeLoadError:
            raise
        except Exception as error:  # onnxruntime raises its own types, none of them public
            raise RuntimeLoadError(f"{library_path()} cannot be registered: {error}") from error
        if mapped and _version(onnxruntime.__version__) >= _KNOWS_FOLDER and (short := pointing(Path(path))):
            options.add_session_config_entry(_FOLDER, str(Path(path).resolve().parent))
            model = short
    try:
        opened = onnxruntime.InferenceSession(
            model,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(disabled_optimizers),
        )
    except Exception as error:
        if _REGISTERED in str(error):
            raise RuntimeLoadError(
                f"{path} cannot be loaded: the library is already registered on these options; "
                "pass fresh options, or library=False"
            ) from error
        raise RuntimeLoadError(f"{path} cannot be loaded: {error}") from error
    return_freed_memory()
    if isinstance(model, bytes):
        drop_read_pages(Path(path))
    return opened


def _version(text: str) -> tuple[int, ...]:
    """Major and minor number."""
    return tuple(int(part) for part in text.split(".")[:2])
