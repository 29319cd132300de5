"""Weights from the Hugging Face hub, `owner/repo` or `owner/repo/file.safetensors`, kept in its own cache."""

import re
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HFValidationError, RepositoryNotFoundError

NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(/(?P<file>.+\.(safetensors|pth|pt)))?")
USUAL = "model.safetensors"


def is_hub_name(name: str) -> bool:
    """Whether a name can only be the hub's: owner/repo, perhaps with a file, and no folder `owner` here.

    Example:
        >>> is_hub_name("timm/resnet50.tv_in1k"), is_hub_name("./weights.safetensors"), is_hub_name("resnet50")
        (True, False, False)
    """
    match = NAME.fullmatch(name)
    if match is None or Path(name).exists() or Path(name.split("/")[0]).is_dir():
        return False
    return match["file"] is not None or not name.endswith((".safetensors", ".pth", ".pt"))


def fetch(name: str) -> Path:
    """The local path of a file on the hub, downloaded unless the cache has it.

    Args:
        name: `owner/repo` for its model.safetensors, or its only .safetensors file; `owner/repo/file` for that file.

    Returns:
        A path in huggingface_hub's cache.

    Raises:
        FileNotFoundError: no connection, no such repository or no such file; one line says which and what to do.
        PermissionError: the repository asks for a login.
        ValueError: the repository has several files to choose from.
    """
    match = NAME.fullmatch(name)
    assert match is not None
    repo, file = match["repo"], match["file"]
    try:
        return download(repo, file or USUAL)
    except FileNotFoundError:
        raise
    except GatedRepoError:
        raise PermissionError(
            f"{repo} is for those its owner lets in; ask at huggingface.co, then run: hf auth login"
        ) from None
    except RepositoryNotFoundError:
        raise FileNotFoundError(
            f"no repository {repo!r} on the hub (or a private one: run hf auth login), and no such path here"
        ) from None
    except HFValidationError as error:
        raise ValueError(f"{repo!r} is no name of a repository: {one_line(error)}") from None
    except EntryNotFoundError:
        files = [path for path in huggingface_hub.HfApi().list_repo_files(repo) if NAME.fullmatch(f"{repo}/{path}")]
    safetensors = [path for path in files if path.endswith(".safetensors")]
    if file is None and len(safetensors) == 1:
        return download(repo, safetensors[0])
    has = f"it has {', '.join(files[:10])}" if files else "it has no .safetensors and no .pth"
    if file is None and safetensors:
        raise ValueError(f"{repo} has several weight files; name one, as in {repo}/{safetensors[0]}; {has}")
    raise FileNotFoundError(f"no file {file or USUAL!r} in {repo} on the hub; {has}")


def download(repo: str, file: str) -> Path:
    """One file of one repository.

    Raises:
        FileNotFoundError: the hub cannot be reached and the cache does not have the file.
        huggingface_hub.errors.HfHubHTTPError: the hub answers that it is not there.
    """
    url = huggingface_hub.hf_hub_url(repo, file)
    try:
        # One question without retries: hf_hub_download alone would try for half a minute where there is no network.
        huggingface_hub.get_hf_file_metadata(url)
    except (EntryNotFoundError, RepositoryNotFoundError, HFValidationError):
        raise
    except Exception as error:  # which one depends on the HTTP library of this huggingface_hub
        cached = huggingface_hub.try_to_load_from_cache(repo, file)
        if isinstance(cached, str):
            return Path(cached)
        raise FileNotFoundError(
            f"cannot fetch {file} of {repo}: {one_line(error)}; where there is a network, get {url} and give its path "
            f"(there is no path {repo}/{file} here)"
        ) from None
    return Path(huggingface_hub.hf_hub_download(repo, file))


def one_line(error: BaseException) -> str:
    """The first line of an error's message, without its final stop.

    Example:
        >>> one_line(ValueError("too large.\\nSee the manual."))
        'too large'
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".:")
