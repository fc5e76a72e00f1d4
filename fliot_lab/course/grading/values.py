"""Values and messages between the grader and the process that runs a student's code.

What comes back from that process is written by strangers, so it is never unpickled: JSON with the bytes of arrays in
base64, decoded into plain values, arrays, tensors and pandas objects, and into nothing else.
"""

import base64
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable
from typing import IO, Any

MOST_BYTES = 2_000_000  # of one message, and of what the ranges in it stand for
MOST_PANDAS = 5_000  # pandas objects and columns in one message: each takes far longer to make than to write
MOST_COLLIDING = 100  # keys of a dictionary that have one hash
_DTYPE = re.compile(r"[<>|=]?([?biufc]\d*|U\d+|[mM]8(\[\w+\])?)$")
Packed = Any  # what JSON can hold: a plain value as itself, anything else as {"kind": what it is made of}


class NotTaken(ValueError):
    """A value that does not travel: of a kind that is not known here, or too large. `advice` says what does, or nothing."""

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(what)
        self.advice = advice


class Malformed(ValueError):
    """A message that `encode` did not write."""


def encode(value: Any) -> bytes:
    """`value` as JSON. Raises NotTaken, whose text says what cannot be taken over."""
    try:
        made = json.dumps(_packed(value), separators=(",", ":")).encode()
    except RecursionError:
        raise NotTaken(f"a {type(value).__name__} nested too deeply") from None
    except NotTaken:
        raise
    except ValueError as error:  # a whole number of more than 4300 digits
        raise NotTaken(f"a {type(value).__name__} ({error})") from None
    if len(made) > MOST_BYTES:
        raise NotTaken(f"a {type(value).__name__} of more than {MOST_BYTES // 1_000_000} MB")
    return made


def decode(message: bytes) -> Any:
    """The value that `encode` turned into `message`. Raises Malformed for anything else, whatever it is."""
    try:
        return _unpacked(json.loads(message, object_hook=_Budget().spend))
    except Exception as error:  # a stranger wrote it: there is no list of what can go wrong
        raise Malformed(f"{type(error).__name__}: {error}"[:300]) from error


def write_frame(stream: IO[bytes], message: bytes) -> None:
    """Writes a message with its length before it."""
    stream.write(len(message).to_bytes(8, "big") + message)
    stream.flush()


def read_frame(stream: IO[bytes], most: int | None = MOST_BYTES) -> bytes | None:
    """The next message, None where the stream has ended. Raises Malformed for a message longer than `most`."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    length = int.from_bytes(head, "big")
    if most is not None and length > most:
        raise Malformed(f"a message of {length:,} bytes")
    message = stream.read(length)
    return message if len(message) == length else None


# --- packing -----------------------------------------------------------------------------------------------------------


def _packed(value: Any) -> Packed:
    """`value` as what JSON can hold."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    module = type(value).__module__.partition(".")[0]
    if module == "numpy":
        return _packed_numpy(value)
    if module == "pandas":
        return _packed_pandas(value)
    if isinstance(value, list):
        return [_packed(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_packed(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[_packed(key), _packed(item)] for key, item in value.items()]}
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _packed_tensor(value)
    raise NotTaken(f"a {type(value).__name__}")


def _packed_array(array: Any) -> list[Packed]:
    """[dtype, shape, bytes in base64] of a numpy array."""
    if not _DTYPE.match(array.dtype.str):
        raise NotTaken(f"an array of dtype {array.dtype}")
    if array.nbytes > MOST_BYTES:
        raise NotTaken(f"an array of {array.nbytes / 1e6:.3g} MB")
    return [array.dtype.str, list(array.shape), base64.b64encode(array.tobytes()).decode()]


def _packed_numpy(value: Any) -> Packed:
    import numpy as np

    if type(value) is np.ndarray:
        return {"array": _packed_array(value)}
    if isinstance(value, np.generic):
        return {"scalar": _packed_array(np.asarray(value))}
    array = isinstance(value, np.ndarray)  # a matrix or a masked array: what it does with == is its own
    raise NotTaken(f"a {type(value).__name__}", "return a plain array: np.asarray(...)" if array else "")


def _packed_tensor(value: Any) -> Packed:
    """A dense tensor of a dtype that numpy has."""
    try:
        return {"tensor": _packed_array(value.detach().cpu().numpy())}
    except (TypeError, RuntimeError, NotImplementedError):
        raise NotTaken(f"a tensor of dtype {value.dtype} and layout {value.layout}") from None


def _packed_pandas(value: Any) -> Packed:
    import pandas as pd

    if isinstance(value, pd.Series):
        return {"series": [_packed_column(value), _packed_index(value.index), _packed(value.name)]}
    if isinstance(value, pd.DataFrame):
        columns = [_packed_column(value.iloc[:, place]) for place in range(value.shape[1])]
        return {"frame": [columns, _packed_index(value.index), _packed_index(value.columns)]}
    if isinstance(value, pd.Index):
        return {"index": _packed_index(value)}
    raise NotTaken(f"a {type(value).__name__}")


def _packed_index(index: Any) -> Packed:
    import pandas as pd

    if isinstance(index, pd.RangeIndex):
        if _range_bytes(index.start, index.stop, index.step) > MOST_BYTES:
            raise NotTaken(f"a pandas RangeIndex of {len(index):,} rows")
        return {"range": [index.start, index.stop, index.step], "name": _packed(index.name)}
    if isinstance(index, pd.MultiIndex):
        raise NotTaken("a pandas MultiIndex")
    return {"column": _packed_column(index), "name": _packed(index.name)}


def _packed_column(column: Any) -> Packed:
    """The values of a Series or an Index: numbers as an array, texts and mixed columns as a list, categories by their codes."""
    import numpy as np
    import pandas as pd

    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind != "O":
        return {"array": _packed_array(column.to_numpy())}
    if str(dtype) in ("object", "str"):
        return {"dtype": str(dtype), "list": [_packed(item) for item in column.to_numpy(dtype=object)]}
    if isinstance(dtype, pd.CategoricalDtype):
        taken = column.cat if isinstance(column, pd.Series) else column
        codes, categories = _packed_array(np.asarray(taken.codes)), _packed_column(taken.categories)
        return {"codes": codes, "categories": categories, "ordered": bool(dtype.ordered)}
    raise NotTaken(f"a column of dtype {dtype}")


def _range_bytes(start: int, stop: int, step: int) -> int:
    """What a range takes once something reads its numbers."""
    return 8 * max(0, -((start - stop) // step))


# --- unpacking ---------------------------------------------------------------------------------------------------------


class _Budget:
    """What one message may ask for beyond its own length."""

    def __init__(self) -> None:
        self._range_bytes = self._pandas = 0

    def spend(self, packed: dict[str, Packed]) -> dict[str, Packed]:
        """`packed`, one object of the message, as it is. Raises ValueError where the message asks for too much."""
        if "range" in packed:
            self._range_bytes += _range_bytes(*packed["range"])
        if packed.keys() & {"series", "frame", "index"}:
            self._pandas += 1 + (len(packed["frame"][0]) if "frame" in packed else 0)
        if self._range_bytes > MOST_BYTES or self._pandas > MOST_PANDAS:
            raise ValueError(f"ranges of {self._range_bytes:,} bytes, {self._pandas:,} pandas objects")
        return packed


def _unpacked(packed: Packed) -> Any:
    """The value; errors of any kind where `packed` is not what `_packed` makes."""
    if isinstance(packed, list):
        return [_unpacked(item) for item in packed]
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    return _KINDS[kind](content)


def _array(packed: Packed) -> Any:
    """A numpy array that owns its memory."""
    import numpy as np

    text, shape, content = packed
    if not _DTYPE.match(text):
        raise ValueError(f"dtype {text!r}")
    dtype, raw = np.dtype(text), base64.b64decode(content, validate=True)
    if any(type(size) is not int or size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"shape {shape} with {len(raw)} bytes of {text}")
    if dtype.itemsize == 0:  # <U0: as many as one likes, in no bytes
        raise ValueError(f"dtype {text!r}")
    if not raw:
        return np.ndarray(tuple(shape), dtype)
    return np.frombuffer(bytearray(raw), dtype).reshape(tuple(shape))


def _tensor(packed: Packed) -> Any:
    import torch

    return torch.from_numpy(_array(packed))


def _series(packed: Packed) -> Any:
    import pandas as pd

    values, index, name = packed
    return pd.Series(_column(values), index=_index(index), name=_unpacked(name))


def _frame(packed: Packed) -> Any:
    import pandas as pd

    columns, index, names = packed
    rows = _index(index)
    made = pd.DataFrame({place: pd.Series(_column(values), index=rows) for place, values in enumerate(columns)}, index=rows)
    made.columns = _index(names)
    return made


def _index(packed: Packed) -> Any:
    import pandas as pd

    name = _unpacked(packed["name"])
    if "range" in packed:
        start, stop, step = packed["range"]
        return pd.RangeIndex(start, stop, step, name=name)
    return pd.Index(_column(packed["column"]), name=name)


def _column(packed: Packed) -> Any:
    import pandas as pd

    if "array" in packed:
        array = _array(packed["array"])
        if array.ndim != 1:  # pandas would repeat one number for every row
            raise ValueError(f"a column of {array.ndim} dimensions")
        return array
    if "list" in packed:
        if packed["dtype"] not in ("object", "str"):
            raise ValueError(f"a column of dtype {packed['dtype']!r}")
        return pd.Series([_unpacked(item) for item in packed["list"]], dtype=packed["dtype"]).array
    categories = pd.Index(_column(packed["categories"]))
    return pd.Categorical.from_codes(_array(packed["codes"]), categories, ordered=bool(packed["ordered"]))


def _dict(pairs: Packed) -> dict[Any, Any]:
    """A dictionary. Keys that were chosen to have one hash would take hours."""
    made = [(_unpacked(key), _unpacked(item)) for key, item in pairs]
    hashes = Counter(hash(key) for key, _ in made)
    if hashes and max(hashes.values()) > MOST_COLLIDING:
        raise ValueError(f"{max(hashes.values()):,} keys with one hash")
    return dict(made)


_KINDS: dict[str, Callable[[Packed], Any]] = {
    "tuple": lambda items: tuple(_unpacked(item) for item in items),
    "dict": _dict,
    "array": _array,
    "scalar": lambda packed: _array(packed)[()],
    "tensor": _tensor,
    "series": _series,
    "frame": _frame,
    "index": lambda packed: _index(packed),
}
