"""Figures of the lessons: one function per kind, each gives a matplotlib Figure; `show` puts it in the notebook with its text.

Benign is blue and attack vermilion in every lesson; whatever is neither (models, devices, clients) gets other colours
of seaborn's colour-blind palette. Figures are made without pyplot, so that none stays open and none is shown twice.
"""

import base64
import html
import io
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import ipywidgets
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn as sns
from IPython.display import HTML, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator
from sklearn.metrics import auc, confusion_matrix, roc_curve

WIDTH = 7.5  # inches, the width of a notebook's output
DPI = 144  # pixels per inch; an <img> at 96 CSS pixels per inch stays sharp on fine screens
_palette = sns.color_palette("colorblind").as_hex()
BENIGN, ATTACK, NEUTRAL = _palette[0], _palette[3], _palette[2]
CURVES = [_palette[i] for i in (2, 1, 4, 9, 5, 7)]
DASHES = ["-", "--", "-.", ":"]
_STYLE = sns.axes_style("whitegrid") | {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "axes.edgecolor": "0.6",
    "grid.color": "0.9",
}


class Estimate(Protocol):
    """A figure with its interval; the bounds are None where there is none."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


class Picture(HTML):
    """An image for the notebook that a program without images shows as its alternative text."""

    def __init__(self, data: str, alt: str) -> None:
        super().__init__(data)
        self.alt = alt

    def __repr__(self) -> str:
        return self.alt


def show(fig: Figure, alt: str) -> None:
    """Nothing; displays `fig` as an image that carries the alternative text `alt`, which says what the figure shows.

    The text is in the `<img>` itself, since nbconvert loses what is in metadata. Raises ValueError for fewer than three
    words.
    """
    display(_picture(fig, alt))


def slider(draw: Callable[[Any], tuple[Figure, str]], options: Sequence[Any], start: Any, name: str) -> ipywidgets.VBox:
    """A slider over `options`, at `start`, above the figure that `draw(option)` gives with its alternative text.

    Not ipywidgets.interact: what is displayed inside an Output widget is sent back to the kernel by whoever executes the
    notebook, and that can meet the kernel's own reply and leave both waiting.
    """
    control = ipywidgets.SelectionSlider(options=options, value=start, description=name, continuous_update=False)
    image = ipywidgets.HTML(_picture(*draw(start)).data)

    def redraw(change: Mapping[str, Any]) -> None:
        image.value = _picture(*draw(change["new"])).data

    control.observe(redraw, "value")
    return ipywidgets.VBox([control, image])


def _picture(fig: Figure, alt: str) -> Picture:
    words = alt.split() if isinstance(alt, str) else []
    if len(words) < 3:
        raise ValueError(f"alt must say in a sentence what the figure shows, for those who cannot see it; got {alt!r}")
    text = " ".join(words)
    png = io.BytesIO()
    fig.savefig(png, format="png", dpi=DPI)
    plt.close(fig)  # only where it came from pyplot, whose figures the notebook would show a second time
    source = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode('ascii')}"
    look = f'width="{round(fig.get_figwidth() * 96)}" style="max-width: 100%; height: auto"'
    return Picture(f'<img alt="{html.escape(text)}" {look} src="{source}">', text)


def class_balance(counts: Mapping[Any, int] | pd.Series, title: str = "", xlabel: str = "flows") -> Figure:
    """Horizontal bars of `counts` by class on a log axis, the largest on top, each with its count written beside it."""
    items = sorted(_some(counts, "counts").items(), key=lambda item: -item[1])
    names, sizes = [name for name, _ in items], [size for _, size in items]
    if min(sizes) < 0:
        raise ValueError(f"counts must not be negative, got {min(sizes)}")
    colours = _colours(names)
    with _figure(_rows_height(names), title) as (fig, ax):
        ax.barh(range(len(names)), sizes, color=[colours[name] for name in names])
        least = 0.7  # left end of the axis, so that a count of 1 still has a bar
        for row, size in enumerate(sizes):
            ax.annotate(f"{size:,}", (max(size, least), row), (4, 0), textcoords="offset points", va="center")
        ax.set_xscale("log")
        ax.set_xlim(least, least * (max(10, *sizes) / least) ** 1.25)  # room for the text of the longest bar
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _short(x)))
        _name_rows(ax, names)
        ax.set_xlabel(f"{xlabel} (log scale)")
    return fig


def timeline(ts: npt.ArrayLike, label: npt.ArrayLike, capture: npt.ArrayLike | None = None, title: str = "") -> Figure:
    """One strip per class with a tick per row at its time, in hours since the first row, in one panel per capture.

    `ts` (n,) is in seconds or a datetime, in any order; the panels come in the order in which the captures first occur
    in `capture` (n,). Ticks that would fall on the same pixel are drawn once.
    """
    frame = pd.DataFrame({"ts": _seconds(ts), "label": np.asarray(label, dtype=object)})
    frame["capture"] = "" if capture is None else np.asarray(capture, dtype=object)
    if frame.empty or frame.isna().to_numpy().any():
        raise ValueError("timeline needs at least one row, and a time, a label and a capture in every row")
    frame["hours"] = (frame["ts"] - frame.groupby("capture")["ts"].transform("min")) / 3600
    panels = [(name, part) for name, part in frame.groupby("capture", sort=False)]
    strips = [_benign_first(part["label"].unique()) for _, part in panels]
    colours = _colours(frame["label"].unique())
    pixel = (frame["hours"].max() or 1.0) / (2 * WIDTH * DPI)
    with _style():
        fig = Figure(figsize=(WIDTH, 0.9 + 0.3 * sum(map(len, strips)) + 0.35 * len(panels)), layout=_layout())
        ratios = [len(names) + 0.2 for names in strips]
        axes = fig.subplots(len(panels), sharex=True, squeeze=False, gridspec_kw={"height_ratios": ratios})[:, 0]
        for ax, (name, part), classes in zip(axes, panels, strips, strict=True):
            ax.set_title(str(name), loc="left", fontsize=10)
            for row, kind in enumerate(classes):
                hours = part.loc[part["label"] == kind, "hours"].to_numpy()
                hours = hours[np.unique(np.floor(hours / pixel), return_index=True)[1]]
                ax.plot(hours, np.full(len(hours), row), "|", color=colours[kind], ms=11, mew=0.8, alpha=0.7)
            _name_rows(ax, classes)
        axes[-1].set_xlabel("hours since the first flow" + (" of the capture" if capture is not None else ""))
        fig.suptitle(_wrapped(title, 80), fontsize=11)
    return fig


def distribution(
    values: Mapping[Any, npt.ArrayLike],
    xlabel: str,
    log: bool = True,
    threshold: float | None = None,
    title: str = "",
) -> Figure:
    """A box per group of `values`: the line is the median, the box the middle half, the whiskers reach from 1 % to 99 %.

    Up to 200 of the group's values lie on it as dots, at even ranks, so the ends are there too. A `threshold` is a
    dashed line.
    """
    groups = {name: np.sort(np.asarray(found, dtype=np.float64).ravel()) for name, found in _some(values, "values").items()}
    for name, found in groups.items():
        if not found.size or not np.isfinite(found).all():
            raise ValueError(f"group {name!r} must hold finite numbers, at least one; leave it out or clean it first")
    smallest = min(found[0] for found in groups.values())
    if log and smallest < 0:
        raise ValueError(f"a log axis cannot show {smallest}; pass log=False")
    colours = _colours(groups)
    with _figure(_rows_height(groups, each=0.5), title) as (fig, ax):
        if log:
            least = min([found[found > 0][0] for found in groups.values() if found[-1] > 0], default=1.0)
            ax.set_xscale("log") if smallest > 0 else ax.set_xscale("symlog", linthresh=least)
            if smallest == 0:  # between 0 and the least value the axis is linear and short: no ticks there
                most = max(found[-1] for found in groups.values())
                ax.set_xticks([0.0, *10.0 ** np.arange(np.ceil(np.log10(least)), np.log10(max(most, least)) + 1)])
        for row, (name, found) in enumerate(groups.items()):
            _box(ax, row, found, colours[name])
        if threshold is not None:
            ax.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:.3g}")
            fig.legend(loc="outside lower right", frameon=False)
        _name_rows(ax, list(groups))
        ax.set_xlabel(xlabel + (" (log scale)" if log else ""))
    return fig


def _box(ax: Axes, row: int, values: npt.NDArray[np.float64], colour: str) -> None:
    shown = values[np.unique(np.linspace(0, len(values) - 1, 200).round().astype(int))]  # `values` are sorted
    wobble = 0.3 * (np.arange(len(shown)) * 0.618 % 1 - 0.5)  # spread without chance, so that a figure repeats itself
    ax.plot(shown, row + wobble, ".", color=colour, ms=3.5, alpha=0.5, zorder=1)
    dark = {"color": "0.2"}
    ax.boxplot(
        [values],
        positions=[row],
        orientation="horizontal",
        whis=(1, 99),
        widths=0.6,
        showfliers=False,
        manage_ticks=False,
        boxprops=dark,
        whiskerprops=dark,
        capprops=dark,
        medianprops={"color": "black", "linewidth": 2},
    )


def roc(curves: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]], title: str = "") -> Figure:
    """Attacks found against false alarms from 0.001 to 1 on a log axis, a dot on each curve at its 1 % of false alarms.

    `curves` maps a name to `(y, scores)`: y (n,) is True for an attack, a higher score is more suspicious. Curves are
    steps, as a threshold moves from row to row; nothing is interpolated. The legend gives the area under each.
    """
    columns = _legend_columns(_some(curves, "curves"), extra=12)
    with _figure(4.2 + 0.21 * -(-(len(curves) + 1) // columns), title) as (fig, ax):
        for i, (name, (y, scores)) in enumerate(curves.items()):
            kinds = np.unique(np.asarray(y)).tolist()
            if kinds != [0, 1]:  # which [False, True] equals
                raise ValueError(f"{name}: y must hold attacks (True or 1) and benign rows (False or 0), got {kinds[:5]}")
            false_alarms, found, _ = roc_curve(np.asarray(y, dtype=bool), np.asarray(scores), drop_intermediate=False)
            look, text = _look(i), f"{name} (AUC {auc(false_alarms, found):.3f})"
            ax.plot(false_alarms, found, drawstyle="steps-post", label=text, **look)
            ax.plot([0.01], [found[false_alarms <= 0.01].max()], "o", color=look["color"], ms=6, zorder=3)
        chance = np.geomspace(1e-3, 1, 100)
        ax.plot(chance, chance, color="0.6", linestyle=(0, (1, 3)), label="chance")
        ax.axvline(0.01, color="0.4", linewidth=0.8)
        ax.set_xscale("log", nonpositive="clip")
        ax.set(xlim=(1e-3, 1), ylim=(-0.02, 1.02))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g} %"))
        ax.set_xlabel("false alarms: share of benign rows flagged (log scale)")
        ax.set_ylabel("share of attack rows found")
        fig.legend(loc="outside lower center", ncols=columns, frameon=False)
    return fig


def confusion(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, title: str = "") -> Figure:
    """Share of each true class (a row) that was given each class (a column), with the number of rows; nothing where none."""
    true, pred = np.asarray(y_true, dtype=object), np.asarray(y_pred, dtype=object)
    if true.shape != pred.shape or true.ndim != 1 or not len(true) or pd.isna([true, pred]).any():
        raise ValueError(f"y_true {true.shape} and y_pred {pred.shape} must be the same n > 0 rows, each with a class")
    names = _benign_first(set(true) | set(pred))
    codes = {name: i for i, name in enumerate(names)}
    counts = confusion_matrix([codes[v] for v in true], [codes[v] for v in pred], labels=range(len(names)))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    text = [
        [f"{100 * share:.0f} %\n{_short(count)}" if count else "" for share, count in zip(*row, strict=True)]
        for row in zip(shares, counts, strict=True)
    ]
    size = 9 if len(names) <= 7 else 7.5
    longest = max(len(part) for name in names for part in _wrapped(name).split("\n"))
    with _figure(1.3 + max(0.4 * len(names), 1.2) + 0.06 * longest, title) as (fig, ax):
        sns.heatmap(
            shares, ax=ax, annot=np.array(text), fmt="", vmin=0, vmax=1, cmap="Blues", cbar=False,
            linewidths=0.5, linecolor="0.9", annot_kws={"size": size}, xticklabels=False, yticklabels=False,
        )  # fmt: skip
        middles = np.arange(len(names)) + 0.5
        turn = 90 if len(names) > 7 else 40 if longest > 60 / len(names) else 0
        ax.set_xticks(middles, [_wrapped(name) for name in names], rotation=turn, ha="right" if turn == 40 else "center")
        ax.set_yticks(middles, [_wrapped(name) for name in names], rotation=0)
        ax.set_xlabel("predicted class")
        ax.set_ylabel("true class (a row is 100 %)")
    return fig


def bars(values: Mapping[str, float | Estimate], xlabel: str, title: str = "") -> Figure:
    """Horizontal bars to compare `values` by name, in the order given, each with its interval where it has one.

    A value is a number or has `value`, `low` and `high`, as the intervals of `fliot_lab.evaluation`. NaN is written as
    n/a.
    """
    names = list(_some(values, "values"))
    with _figure(_rows_height(names), title) as (fig, ax):
        for row, found in enumerate(values.values()):
            if isinstance(found, float | int | np.number):
                value, low, high = float(found), None, None
            else:
                value, low, high = found.value, found.low, found.high
            ax.barh(row, value, color=NEUTRAL, height=0.65)
            text = "n/a" if np.isnan(value) else _figures(value)
            if low is not None and high is not None:
                ax.errorbar((low + high) / 2, row, xerr=(high - low) / 2, fmt="none", ecolor="black", capsize=4)
                text += f"  [{_figures(low)}, {_figures(high)}]"
            ax.text(1.02, row, text, transform=ax.get_yaxis_transform(), va="center")
        if max(map(abs, ax.get_xlim())) >= 1e4:
            ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _short(x)))
        _name_rows(ax, names)
        ax.set_xlabel(xlabel)
    return fig


def line(
    history: Mapping[str, Sequence[float]],
    ylabel: str = "loss",
    xlabel: str = "epoch",
    log: bool = False,
    title: str = "",
) -> Figure:
    """One line per series of `history` over epochs (or rounds) 1, 2, ...; a NaN is a gap."""
    columns = _legend_columns(_some(history, "history"))
    with _figure(3.5 + 0.21 * -(-len(history) // columns), title) as (fig, ax):
        for i, (name, series) in enumerate(history.items()):
            marker = "o" if len(series) <= 30 else ""
            ax.plot(range(1, len(series) + 1), np.asarray(series, float), marker=marker, ms=4, label=name, **_look(i))
        if log:
            ax.set_yscale("log")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        ax.set_xlabel(xlabel)
        ax.set_ylabel(ylabel + (" (log scale)" if log else ""))
        fig.legend(loc="outside lower center", ncols=columns, frameon=False)
    return fig


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(_STYLE):
        yield


@contextmanager
def _figure(height: float, title: str) -> Iterator[tuple[Figure, Axes]]:
    with _style():
        fig = Figure(figsize=(WIDTH, height), layout=_layout())
        fig.suptitle(_wrapped(title, 80), fontsize=11)
        yield fig, fig.subplots()


def _layout() -> ConstrainedLayoutEngine:
    return ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08)


def _some(values: Any, name: str) -> Any:
    if not len(values):
        raise ValueError(f"{name} is empty, so there is nothing to draw")
    return values


def _is_benign(name: Any) -> bool:
    return str(name).casefold() == "benign"


def _colours(names: Iterable[Any]) -> dict[Any, str]:
    """Blue for benign and vermilion for the other classes; one neutral colour where none of `names` is benign."""
    names = list(names)
    other = ATTACK if any(map(_is_benign, names)) or all(str(name).casefold() == "attack" for name in names) else NEUTRAL
    return {name: BENIGN if _is_benign(name) else other for name in names}


def _look(i: int) -> dict[str, Any]:
    """Colour and dashes of the `i`-th curve: both differ from one to the next, for those who see few colours."""
    return {"color": CURVES[i % len(CURVES)], "linestyle": DASHES[i % len(DASHES)]}


def _benign_first(names: Iterable[Any]) -> list[Any]:
    return sorted(names, key=lambda name: (not _is_benign(name), str(name)))


def _wrapped(name: Any, width: int = 30) -> str:
    return "\n".join(textwrap.wrap(str(name), width)) or str(name)


def _rows_height(names: Iterable[Any], each: float = 0.34) -> float:
    """Inches for a figure with one row per name: a wrapped name needs the height of its lines."""
    return 1.1 + sum(max(each, 0.19 * (_wrapped(name).count("\n") + 1)) for name in names)


def _name_rows(ax: Axes, names: Sequence[Any]) -> None:
    ax.set_yticks(range(len(names)), [_wrapped(name) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)  # the first on top
    ax.grid(visible=False, axis="y")


def _figures(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def _legend_columns(names: Iterable[Any], extra: int = 0) -> int:
    """Columns that fit below a figure for labels as long as the longest of `names` and `extra` characters."""
    return max(1, min(3, 90 // (8 + extra + max(len(str(name)) for name in names))))


def _short(count: float) -> str:
    """`count` in few characters: 9,500, 14k, 61M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if count >= size:
            return f"{count / (size if size > 1e4 else 1e3):.3g}{unit}"
    return f"{count:,.0f}"


def _seconds(ts: Any) -> npt.NDArray[np.float64]:
    series = pd.Series(ts if isinstance(ts, pd.Series | pd.Index) else np.asarray(ts))
    if pd.api.types.is_datetime64_any_dtype(series):
        return (series - series.min()).dt.total_seconds().to_numpy()
    return series.to_numpy(dtype=np.float64)
