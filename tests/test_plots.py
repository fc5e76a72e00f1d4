"""Figures: each draws what it was given, names its axes, fits its text, and reaches the notebook with its alternative text."""

import base64
import html
import io
import itertools
import re
from types import SimpleNamespace

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as oracle
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from fliot_lab import plots

NAMES = [
    "benign", "DDoS", "PartOfAHorizontalPortScan", "C&C-HeartBeat-FileDownload", "Okiru", "Okiru-Attack", "C&C",
    "C&C-Torii", "FileDownload", "C&C-Mirai", "Attack", "PartOfAHorizontalPortScan-Attack, a name of its own",
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_pyplot(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a helper must not call pyplot's show")

    monkeypatch.setattr(plt, "show", refuse)
    yield
    assert plt.get_fignums() == []


@pytest.fixture
def shown(monkeypatch):
    """What `show` displays, in order."""
    pictures = []
    monkeypatch.setattr(plots, "display", pictures.append)
    return pictures


def texts(labels) -> list[str]:
    return [label.get_text().replace("-\n", "-").replace("\n", " ") for label in labels]


def legend(fig: Figure) -> list[str]:
    return texts(fig.legends[0].get_texts())


def assert_readable(fig: Figure) -> None:
    """The axes are named, no two tick labels of an axis overlap, and everything lies inside the figure."""
    FigureCanvasAgg(fig).draw()
    for ax in fig.axes:
        for axis, start, end in ((ax.xaxis, "x0", "x1"), (ax.yaxis, "y0", "y1")):
            boxes = [label.get_window_extent() for label in axis.get_ticklabels() if label.get_rotation() in (0, 90)]
            middle = {box: (getattr(box, start) + getattr(box, end)) / 2 for box in boxes}
            inside = [box for box in boxes if getattr(ax.bbox, start) - 1 <= middle[box] <= getattr(ax.bbox, end) + 1]
            for one, two in itertools.combinations([box for box in inside if box.width], 2):
                assert not one.overlaps(two)
    assert fig.axes[-1].get_xlabel()
    drawn = fig.get_tightbbox()  # inches
    assert min(drawn.x0, drawn.y0) >= 0
    assert drawn.x1 <= fig.get_figwidth() == plots.WIDTH
    assert drawn.y1 <= fig.get_figheight()


# show


def test_show_carries_an_escaped_text_and_a_png_of_twice_the_figures_width(shown) -> None:
    fig = plots.line({"training": [3, 2, 1]})
    plots.show(fig, 'Loss falls from 3 to 1 & the "validation"\n  <line> is missing')
    (picture,) = shown
    said = 'Loss falls from 3 to 1 & the "validation" <line> is missing'
    tag = re.fullmatch(r'<img alt="([^"<>]*)" ([^<>]*) src="data:image/png;base64,([A-Za-z0-9+/=]+)">', picture.data)
    assert tag
    assert html.unescape(tag[1]) == said
    assert 'width="720"' in tag[2]
    assert "max-width: 100%" in tag[2]
    pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(tag[3])), format="png")
    assert pixels.shape[:2] == (round(fig.get_figheight() * plots.DPI), round(fig.get_figwidth() * plots.DPI))
    assert pixels[..., :3].min() < 0.5 < pixels[..., :3].max()
    assert repr(picture) == said
    assert picture._repr_html_() == picture.data


@pytest.mark.parametrize("alt", ["", "   ", "figure", "a plot", None])
def test_show_refuses_a_figure_without_a_text(alt, shown) -> None:
    with pytest.raises(ValueError, match="alt must say in a sentence"):
        plots.show(plots.line({"training": [1]}), alt)
    assert not shown


def test_show_closes_a_figure_that_came_from_pyplot(shown) -> None:
    plots.show(plt.figure(), "an empty white figure")
    assert len(shown) == 1


# class balance


def test_class_balance_draws_every_count_largest_first() -> None:
    counts = dict(zip(NAMES, [23145, 14394, 122, 5, 60_990_708, 1, 6706, 30, 0, 2, 3915, 10], strict=True))
    fig = plots.class_balance(pd.Series(counts), "Flows per class")
    ax = fig.axes[0]
    assert [bar.get_width() for bar in ax.patches] == sorted(counts.values(), reverse=True)
    assert texts(ax.texts) == [f"{count:,}" for count in sorted(counts.values(), reverse=True)]
    assert texts(ax.get_yticklabels()) == sorted(counts, key=lambda name: -counts[name])
    colours = {name: to_hex(bar.get_facecolor()) for name, bar in zip(texts(ax.get_yticklabels()), ax.patches, strict=True)}
    assert colours["benign"] == plots.BENIGN
    assert {colour for name, colour in colours.items() if name != "benign"} == {plots.ATTACK}
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel() == "flows (log scale)"
    assert fig.get_suptitle() == "Flows per class"
    assert_readable(fig)


def test_what_is_neither_benign_nor_attack_has_neither_colour() -> None:
    fig = plots.class_balance({"Aria": 20, "HueBridge": 18}, xlabel="captures")
    assert {to_hex(bar.get_facecolor()) for bar in fig.axes[0].patches} == {plots.NEUTRAL}
    assert len({plots.BENIGN, plots.ATTACK, plots.NEUTRAL}) == 3
    assert not {plots.BENIGN, plots.ATTACK} & set(plots.CURVES)


@pytest.mark.parametrize("counts", [{}, {"benign": -1}])
def test_class_balance_refuses(counts) -> None:
    with pytest.raises(ValueError, match="counts"):
        plots.class_balance(counts)


# timeline


def test_timeline_has_a_panel_per_capture_and_a_strip_per_class() -> None:
    ts = np.array([7200.0, 0.0, 3600.0, 90000.0, 93600.0])
    label = ["DDoS", "benign", "DDoS", "benign", "benign"]
    fig = plots.timeline(ts, label, ["34-1", "34-1", "34-1", "4-1", "4-1"], "Events")
    one, two = fig.axes
    assert (one.get_title(loc="left"), two.get_title(loc="left")) == ("34-1", "4-1")
    assert texts(one.get_yticklabels()) == ["benign", "DDoS"]
    assert texts(two.get_yticklabels()) == ["benign"]
    benign, ddos = one.lines
    assert (list(benign.get_xdata()), list(ddos.get_xdata())) == ([0], [1, 2])
    assert (set(benign.get_ydata()), set(ddos.get_ydata())) == ({0}, {1})
    assert (to_hex(benign.get_color()), to_hex(ddos.get_color())) == (plots.BENIGN, plots.ATTACK)
    assert list(two.lines[0].get_xdata()) == [0, 1]
    assert two.get_xlabel() == "hours since the first flow of the capture"
    assert_readable(fig)


def test_timeline_takes_datetimes_and_draws_crowded_ticks_once() -> None:
    ts = pd.Series(pd.to_datetime(np.r_[np.zeros(20_000), np.full(20_000, 36000.0), 18000.0], unit="s", utc=True))
    (drawn,) = plots.timeline(ts, ["benign"] * len(ts)).axes[0].lines
    assert list(drawn.get_xdata()) == [0, 5, 10]
    same_time = plots.timeline([5.0, 5.0], ["benign", "DDoS"])
    assert [list(strip.get_xdata()) for strip in same_time.axes[0].lines] == [[0], [0]]


@pytest.mark.parametrize(("ts", "label"), [([], []), ([np.nan], ["a"]), ([1.0], [None])])
def test_timeline_refuses(ts, label) -> None:
    with pytest.raises(ValueError, match="at least one row, and a time"):
        plots.timeline(ts, label)


# distribution


def test_distribution_draws_medians_percentiles_dots_and_threshold() -> None:
    rng = np.random.default_rng(0)
    values = {name: rng.lognormal(i / 3, 1, 10 ** (1 + i % 3)) for i, name in enumerate(NAMES)}
    fig = plots.distribution(values, "reconstruction error", threshold=8.25, title="Errors")
    ax = fig.axes[0]
    assert texts(ax.get_yticklabels()) == NAMES
    medians = {float(line.get_ydata().mean()): line.get_xdata()[0] for line in ax.lines if line.get_linewidth() == 2}
    dots = {round(np.mean(line.get_ydata())): line.get_xdata() for line in ax.lines if line.get_marker() == "."}
    ends = np.concatenate([line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2])
    for row, found in enumerate(values.values()):
        assert medians[row] == pytest.approx(np.median(found))
        assert {found.min(), found.max()} <= set(dots[row])
        assert len(dots[row]) == min(len(found), 200)
        for bound in (found[found >= np.percentile(found, 1)].min(), found[found <= np.percentile(found, 99)].max()):
            assert np.isclose(ends, bound).any()
    assert any(set(line.get_xdata()) == {8.25} for line in ax.lines)
    assert legend(fig) == ["threshold 8.25"]
    assert ax.get_xscale() == "log"
    assert_readable(fig)


def test_distribution_shows_zeros_on_a_log_axis_and_anything_on_a_plain_one() -> None:
    zeros = plots.distribution({"benign": [0.0, 1.0, 10.0], "attack": [0.0]}, "bytes")
    assert zeros.axes[0].get_xscale() == "symlog"
    assert zeros.axes[0].get_xlim()[0] <= 0
    plain = plots.distribution({"attack": [-3.0, 4.0]}, "degrees", log=False)
    assert plain.axes[0].get_xlabel() == "degrees"
    assert to_hex(plain.axes[0].lines[0].get_color()) == plots.ATTACK
    for fig in (zeros, plain):
        assert_readable(fig)


@pytest.mark.parametrize(
    ("values", "message"),
    [({}, "values is empty"), ({"a": []}, "'a' must hold"), ({"a": [np.nan]}, "'a' must hold"), ({"a": [-1.0]}, "log=False")],
)
def test_distribution_refuses(values, message) -> None:
    with pytest.raises(ValueError, match=message):
        plots.distribution(values, "error")


# ROC


def test_roc_passes_through_scikit_learns_points_in_steps() -> None:
    rng = np.random.default_rng(0)
    y = rng.random(800) < 0.3
    curves = {name: (y, np.round(rng.normal(size=800) + i * y, 1)) for i, name in enumerate(NAMES[:8])}
    fig = plots.roc(curves, "Detection")
    ax = fig.axes[0]
    drawn = [line for line in ax.lines if line.get_drawstyle() == "steps-post"]
    markers = [line for line in ax.lines if line.get_marker() == "o"]
    for (name, (truth, scores)), line, marker in zip(curves.items(), drawn, markers, strict=True):
        false_alarms, found, _ = oracle.roc_curve(truth, scores, drop_intermediate=False)
        assert np.array_equal(line.get_xdata(), false_alarms)
        assert np.array_equal(line.get_ydata(), found)
        assert (marker.get_xdata()[0], marker.get_ydata()[0]) == (0.01, found[false_alarms <= 0.01].max())
        assert f"{name} (AUC {oracle.roc_auc_score(truth, scores):.3f})" in legend(fig)
    assert legend(fig)[-1] == "chance"
    assert ax.get_xscale() == "log"
    assert ax.get_xlim() == (0.001, 1)
    assert len({(line.get_color(), line.get_linestyle()) for line in drawn}) == 8
    assert ax.get_ylabel()
    assert_readable(fig)


@pytest.mark.parametrize("y", [[True, True], ["benign", "attack"], [1, 2]])
def test_roc_refuses_what_is_not_attacks_and_benign_rows(y) -> None:
    with pytest.raises(ValueError, match="forest: y must hold attacks"):
        plots.roc({"forest": (y, [0.1, 0.2])})
    with pytest.raises(ValueError, match="curves is empty"):
        plots.roc({})


# confusion


def test_confusion_shows_shares_of_rows_and_counts_benign_first() -> None:
    rng = np.random.default_rng(0)
    true = np.array(NAMES)[rng.integers(0, 11, 3000)]  # the last class is predicted and never true
    pred = np.where(rng.random(3000) < 0.8, true, np.array(NAMES)[rng.integers(0, 12, 3000)])
    fig = plots.confusion(true, pred, "Cascade")
    ax = fig.axes[0]
    order = ["benign", *sorted(NAMES[1:])]
    counts = oracle.confusion_matrix(true, pred, labels=order)
    assert texts(ax.get_yticklabels()) == texts(ax.get_xticklabels()) == order
    shares = np.asarray(ax.collections[0].get_array()).reshape(12, 12)
    assert shares == pytest.approx(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    cells = np.array(texts(ax.texts)).reshape(12, 12)
    assert cells[0, 0] == f"{100 * shares[0, 0]:.0f} % {counts[0, 0]}"
    assert (cells == "").tolist() == (counts == 0).tolist()
    assert ax.get_ylabel()
    assert_readable(fig)


@pytest.mark.parametrize("names", [["benign", "attack"], NAMES[:5]])
def test_confusion_of_few_classes_is_readable(names) -> None:
    assert_readable(plots.confusion(names * 3, names[::-1] * 3))


@pytest.mark.parametrize(("true", "pred"), [([], []), (["a"], ["a", "b"]), ([None], ["a"])])
def test_confusion_refuses(true, pred) -> None:
    with pytest.raises(ValueError, match="each with a class"):
        plots.confusion(true, pred)


# bars and lines


def test_bars_keep_their_order_and_show_intervals_where_there_are_any() -> None:
    values = {
        "local only": SimpleNamespace(value=0.713, low=0.62, high=0.81),
        "FedAvg": SimpleNamespace(value=0.9, low=None, high=None),
        "centralised, with all of the captures in one place": np.float32(0.95),
        "diverged": float("nan"),
    }
    fig = plots.bars(values, "macro-F1")
    ax = fig.axes[0]
    assert texts(ax.get_yticklabels()) == list(values)
    assert [bar.get_width() for bar in ax.patches][:3] == pytest.approx([0.713, 0.9, 0.95])
    assert texts(ax.texts) == ["0.713  [0.620, 0.810]", "0.900", "0.950", "n/a"]
    (whisker,) = ax.collections
    assert whisker.get_segments()[0][:, 0] == pytest.approx([0.62, 0.81])
    assert ax.get_xlabel() == "macro-F1"
    assert_readable(fig)


def test_bars_of_large_numbers_are_readable_and_none_are_refused() -> None:
    fig = plots.bars({"dense": 1_234_567, "sparse": 54_321, "none": 321}, "bytes per round")
    assert texts(fig.axes[0].texts) == ["1,234,567", "54,321", "321.0"]
    assert_readable(fig)
    with pytest.raises(ValueError, match="values is empty"):
        plots.bars({}, "bytes")


def test_line_draws_every_series_from_epoch_one() -> None:
    history = {"training": [3.0, 2.0, 1.0], "validation": [3.0, float("nan")]}
    fig = plots.line(history, title="Autoencoder")
    ax = fig.axes[0]
    for drawn, series in zip(ax.lines, history.values(), strict=True):
        assert list(drawn.get_xdata()) == list(range(1, len(series) + 1))
        assert np.array_equal(drawn.get_ydata(), series, equal_nan=True)
    assert legend(fig) == list(history)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "loss")
    assert_readable(fig)
    many = plots.line({name: [1.0, 0.1] for name in NAMES}, ylabel="error", xlabel="round", log=True)
    assert many.axes[0].get_yscale() == "log"
    assert_readable(many)
    with pytest.raises(ValueError, match="history is empty"):
        plots.line({})


def test_a_slider_draws_at_its_start_and_again_when_it_is_moved() -> None:
    drawn = []

    def draw(size):
        drawn.append(size)
        return plots.bars({"one": size}, xlabel="size"), f"One bar of {size}."

    box = plots.slider(draw, [1, 5, 9], start=5, name="size")
    control, image = box.children
    assert drawn == [5]
    assert 'alt="One bar of 5."' in image.value
    control.value = 9
    assert drawn == [5, 9]
    assert 'alt="One bar of 9."' in image.value
    with pytest.raises(ValueError, match="alt must say"):
        plots.slider(lambda _: (plots.bars({"one": 1.0}, xlabel="size"), ""), [1], start=1, name="size")
