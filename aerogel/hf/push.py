"""Upload an exported folder to the Hugging Face hub, in one commit that replaces no file of the repository's owner."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from aerogel.errors import OutputError, UsageError, require
from aerogel.hf.hub import HUB_ID
from aerogel.hf.reason import reason

__all__ = ["check_push", "push"]


def check_push(repo_id: str) -> None:
    """Check, before any work, that an upload is possible. Uses no network.

    Raises:
        UsageError: `repo_id` is not the name of a repository, or there is no token.
        MissingExtraError: huggingface_hub is not installed.
    """
    hub = require("huggingface_hub", "export")
    if not HUB_ID.fullmatch(repo_id):
        raise UsageError(f"--push {repo_id}: must be NAME or OWNER/NAME")
    if not hub.get_token():
        raise UsageError(
            "--push: there is no token for the hub; set HF_TOKEN, or log in with `hf auth login`"
        )


def push(
    folder: Path,
    repo_id: str,
    files: Iterable[str],
    kept: Iterable[str],
    card: str,
    merge: Callable[[str | None], str],
    *,
    public: bool = False,
) -> str:
    """Upload files of a folder to a model repository, which is made if it does not exist.

    Args:
        folder: the folder.
        repo_id: name of the repository.
        files: files to upload, relative to `folder`; earlier versions of them are replaced.
        kept: files to upload only where the repository lacks them. One with other contents is an error.
        card: path of the model card.
        merge: gives the text of the card from the repository's, which is None if it has none.
        public: make a new repository public. An existing one stays as it is.

    Returns:
        Address of the commit.

    Raises:
        UsageError: the repository has another version of a file in `kept`.
        OutputError: the hub refuses, or cannot be reached; the files in `folder` are complete.
    """
    hub = require("huggingface_hub", "export")
    api = hub.HfApi()
    try:
        name = str(api.create_repo(repo_id, private=not public, exist_ok=True).repo_id)
        # The commit names its parent, so that a commit of somebody else in between is not undone.
        parent = api.repo_info(name).sha
        kept = list(kept)
        present = {item.path: item for item in api.get_paths_info(name, [*kept, card], revision=parent)}
        for file in kept:
            if file in present and not _same(folder / file, present[file]):
                raise UsageError(
                    f"--push {repo_id}: the repository has another {file}, so the model there is another one; "
                    "push to another repository"
                )
        old = None
        if card in present:
            with tempfile.TemporaryDirectory() as temporary:
                copy = api.hf_hub_download(name, card, revision=parent, local_dir=temporary)
                old = Path(copy).read_bytes().decode()
        operations = [
            hub.CommitOperationAdd(path_in_repo=file, path_or_fileobj=folder / file)
            for file in (*files, *(file for file in kept if file not in present))
        ]
        operations.append(hub.CommitOperationAdd(path_in_repo=card, path_or_fileobj=merge(old).encode()))
        commit = api.create_commit(
            name, operations, commit_message="Add ONNX files by aerogel export", parent_commit=parent
        )
    except UsageError:
        raise
    except Exception as error:  # the hub's client and the network raise types of their own
        said = reason(error)
        token = hub.get_token()
        if token:
            said = said.replace(token, "***")
        raise OutputError(
            f"--push {repo_id}: the hub did not accept the upload ({said}); the files are complete in {folder}, "
            f"upload them with `hf upload {repo_id} {folder}`"
        ) from error
    return str(commit.commit_url)


def _same(file: Path, item: Any) -> bool:
    """Whether a file has the contents that the hub describes: a Git blob, or the SHA-256 of a large file."""
    content = file.read_bytes()
    if item.lfs is not None:
        return bool(hashlib.sha256(content).hexdigest() == item.lfs.sha256)
    return bool(hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == item.blob_id)
