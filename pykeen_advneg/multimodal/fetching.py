"""Files which are downloaded once, from where their publishers keep them."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigurationError

__all__ = ["fetch"]


def fetch(url: str, path: Path) -> Path:
    """Download a file, unless it is there.

    :param url: where it is
    :param path: where it belongs

    :returns: the path

    :raises ConfigurationError: if it cannot be downloaded, with what to do by hand
    """
    if path.is_file():
        return path
    from pystow.utils import download

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.part")
    try:
        download(url, temporary, backend="urllib")
        temporary.replace(path)
    except Exception as error:  # what a download raises depends on what went wrong
        raise ConfigurationError(
            f"{url} could not be downloaded ({type(error).__name__}: {error}); download it yourself, and put it at "
            f"'{path}'."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path
