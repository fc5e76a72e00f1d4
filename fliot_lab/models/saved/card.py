"""The folder of a saved model: its files, and the card that says what it is and would show if one of them were changed.

The digests find damage and edits. They do not say who made a model: whoever can write the folder can write new digests.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FORMAT = 1
NAME, GRAPH, WEIGHTS = "card.json", "model.onnx", "weights.safetensors"
#: What a detector's card says of a `score` that is a logarithm, such as a hybrid's.
LOGARITHM = "logarithm"
#: What whoever saves a model must say of it, beside what the model knows itself.
TOLD = ("training", "evaluation", "limits")
_KEYS = {"kind", "version", "settings", "features", *TOLD, "files"}


class ModelError(ValueError):
    """A model that cannot be saved or used. Names the folder or file, what is wrong with it, and what to do."""


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` to write to, which takes its place when the block ends well and is removed when it does not.

    Raises ModelError as `require_free`; nothing is changed then.
    """
    require_free(folder)
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    old = partial.with_suffix(".old")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if not folder.exists():
            partial.rename(folder)
            return
        folder.rename(old)
        try:
            partial.rename(folder)
        except OSError:
            old.rename(folder)
            raise
        shutil.rmtree(old)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def require_free(folder: Path) -> None:
    """Raises ModelError where `folder` is there and is neither a saved model, which would be replaced, nor empty."""
    if folder.exists() and not _is_ours(folder):
        raise ModelError(
            f"{folder} exists and is no saved model, or not that alone; name a new folder, so that nothing of yours is lost"
        )


def _is_ours(folder: Path) -> bool:
    """Whether a folder is empty, or holds a saved model (damaged perhaps, or of another format) and nothing else."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.rglob("*") if not path.is_dir()}
    try:
        return not names or ({"format", "kind"} <= _parsed(folder / NAME).keys() and names <= {NAME, GRAPH, WEIGHTS})
    except ModelError:
        return False


def whole(card: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, bytes]:
    """All files of a saved model by name, the card among them. Raises ModelError where the card holds what JSON cannot."""
    digests = {name: _sha256(content) for name, content in files.items()}
    try:
        text = _text({"format": FORMAT, **card, "files": digests})
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"the card cannot be JSON ({error}); give finite numbers, text, lists, and None for unknown"
        ) from error
    return {**files, NAME: text.encode()}


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes files to `folder`; a file's name may lead into a folder in it. Nothing else is there when it is complete.

    Raises ModelError as `require_free`.
    """
    with replacing(folder) as partial:
        for name, content in files.items():
            (partial / name).parent.mkdir(exist_ok=True)
            (partial / name).write_bytes(content)


def read(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The card of a saved model, and the contents of its files by name.

    Raises ModelError where the folder is no saved model, is of another format, or any file is missing or was changed.
    """
    path = folder / NAME
    if not path.is_file():
        held = "has no card.json" if folder.is_dir() else "is no folder" if folder.exists() else "does not exist"
        raise ModelError(f"{folder} {held}, so it is no saved model; name a folder that `fliot train` or saved.save wrote")
    card = _parsed(path)
    if card.get("format") != FORMAT:
        raise ModelError(
            f"{path} is of format {card.get('format')}, and this version of fliot_lab reads format {FORMAT}; "
            "use the version that wrote it, or train again"
        )
    known = {key: value for key, value in card.items() if key != "digest"}
    if path.read_bytes() != _text(known).encode() or _KEYS - known.keys():
        raise ModelError(f"{path} was changed after it was written; take an unchanged copy, or train again")
    return known, {name: _content(folder / name, digest) for name, digest in known["files"].items()}


def _parsed(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}); take an unchanged copy, or train again") from error
    if not isinstance(card, dict):
        raise ModelError(f"{path} holds no JSON object; take an unchanged copy, or train again")
    return card


def _content(path: Path, digest: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} is missing or unreadable ({error.strerror}); take a whole copy, or train again") from error
    if _sha256(content) != digest:
        raise ModelError(f"{path} is not the file that was saved; take an unchanged copy, or train again")
    return content


def _text(card: Mapping[str, Any]) -> str:
    """The card as it stands in its file, with a digest over all else: equal cards have equal texts."""
    return _json({**card, "digest": _sha256(_json(card).encode())}) + "\n"


def _json(card: Mapping[str, Any]) -> str:
    return json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    """A number or list instead of numpy's."""
    if not hasattr(value, "tolist"):
        raise TypeError(f"{value!r} is a {type(value).__name__}")
    return value.tolist()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
