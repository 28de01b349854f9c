"""An explorer of rank lists for notebooks: choose a set, two methods and a query, see both lists as in Figure 5.

The picture is an ordinary output of the cell, drawn by `plots.rank_lists` and replaced in place: a saved or
executed notebook keeps the last one, while the controls need a running kernel. `find` and `look` are the explorer
without its controls.
"""

import html
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace

import ipywidgets as widgets
import numpy as np
from IPython.display import Image, display
from matplotlib.figure import Figure

from reproduction import paper, plots, ranklists
from reproduction.ranklists import Method, Rankings
from reproduction.words import number

RULES = {
    "number": "by number",
    "worst": "worst AP of the upper list",
    "gain": "largest gain of the upper list",
    "loss": "largest gain of the lower list",
    "reranking": "largest gain by re-ranking",
}
FALLBACK = "The explorer's controls work in a running JupyterLab: Run All there. What it showed last is below."


@dataclass(frozen=True)
class Choice:
    """What to look at.

    set: one of `paper.SETS`; upper, lower: the methods whose lists are shown, lower may be None; rule: one of RULES;
    number: the query's number, from 0, or its place by the rule, from 1; passed_over: show the images that the
    scoring passes over."""

    set: str
    upper: Method
    lower: Method | None
    rule: str = "gain"
    number: int = 1
    passed_over: bool = True

    @property
    def methods(self) -> list[Method]:
        """The methods that this choice needs, shown ones first."""
        needed = [self.upper] if self.lower is None else [self.upper, self.lower]
        if self.rule == "reranking":
            needed += [replace(self.upper, reranked=again) for again in (False, True)]
        return list(dict.fromkeys(needed))


def title(method: Method) -> str:
    """A method as figures name it.

    >>> title(Method("hcn", "xqda", True))
    'HCN, XQDA, re-ranked'
    """
    return f"{plots.TITLES[method.model]}, {plots.METRICS[method.metric]}{', re-ranked' if method.reranked else ''}"


def find(rankings: Rankings, choice: Choice) -> int:
    """The query that a choice means; of equals by its rule the lowest number comes first.

    A query without a match in the gallery has no AP and comes last by every rule. Raises ValueError for a number
    that there is not, or a rule that needs a lower list."""
    upper = rankings(choice.set, choice.upper)
    count, where = len(upper.query), paper.SET_TITLES.get(choice.set, choice.set)
    if choice.rule == "number":
        if not 0 <= choice.number < count:
            raise ValueError(f"There is no query {choice.number}: {where} has the queries 0 to {count - 1}.")
        return choice.number
    if not 1 <= choice.number <= count:
        raise ValueError(f"There is no place {choice.number}: {where} has the places 1 to {count}.")
    worth = np.where(upper.per_query["valid"], _worth(rankings, choice), -np.inf)
    return int(np.argsort(-worth, kind="stable")[choice.number - 1])


def _worth(rankings: Rankings, choice: Choice) -> np.ndarray:
    """(Q,) what the choice's rule orders by, the largest first."""
    upper = rankings(choice.set, choice.upper).ap
    if choice.rule == "worst":
        return -upper
    if choice.rule == "reranking":
        plain, again = (rankings(choice.set, replace(choice.upper, reranked=r)).ap for r in (False, True))
        return again - plain
    if choice.lower is None:
        raise ValueError(f"{RULES[choice.rule].capitalize()}: choose a lower list to compare with.")
    lower = rankings(choice.set, choice.lower).ap
    return upper - lower if choice.rule == "gain" else lower - upper


def look(rankings: Rankings, choice: Choice, facts: Mapping[str, object]) -> tuple[Figure, str]:
    """The figure of a choice and one sentence that says what it shows. Raises what `find` raises."""
    query = find(rankings, choice)
    why = "" if choice.rule == "number" else RULES[choice.rule]
    if choice.number > 1 and why:
        why += f", number {choice.number}"
    shown = [method for method in (choice.upper, choice.lower) if method]
    lists = [(title(method), rankings(choice.set, method)) for method in shown]
    example = ranklists.example(why, query, lists, ignored=choice.passed_over)
    places = ranklists.TOP + choice.passed_over * ranklists.PASSED_OVER
    where = paper.SET_TITLES.get(choice.set, choice.set)
    about = f"{where} · under each image its camera and distance"
    source = plots.source_text(facts["data_source"], facts["profile"], about)
    figure = plots.rank_lists([example], source, places=places)
    sentence, words, change = f"{where}, {example['title']}.", "", 0.0
    if choice.rule == "reranking":
        words, change = "Re-ranking changes the upper method's AP by", _worth(rankings, choice)[query]
    elif choice.lower:
        words, change = "Upper minus lower AP:", lists[0][1].ap[query] - lists[1][1].ap[query]
    sentence += f" {words} {number(change, 2, signed=True)}." if words else ""
    return figure, sentence


class Explorer:
    """The controls and the picture. `show` displays both; every change of a control draws anew."""

    def __init__(self, rankings: Rankings, facts: Mapping[str, object], start: Choice):
        self._rankings, self._facts = rankings, facts
        self._picture, self._quiet = None, False
        titles = {paper.SET_TITLES.get(name, name): name for name in rankings.models}
        self.set = _dropdown("data set", titles, start.set)
        self.upper, self.lower = _MethodControls("upper list"), _MethodControls("lower list", optional=True)
        self.rule = _dropdown("query", {words: rule for rule, words in RULES.items()}, start.rule)
        self.number = widgets.IntText(start.number, description="number", **_shape(130, 60))
        self.back = widgets.Button(description="◀ before", tooltip="the query before this one", **_shape(85))
        self.on = widgets.Button(description="next ▶", tooltip="the next query", **_shape(85))
        words = "show passed-over images"
        self.passed_over = widgets.Checkbox(start.passed_over, description=words, indent=False, **_shape(200))
        self.message, self.progress = widgets.HTML(), widgets.Output()
        first = [self.set, self.rule, self.number, self.back, self.on]
        rows = [first, self.upper.row, [*self.lower.row, self.passed_over]]
        boxes = [widgets.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows]
        self.controls = widgets.VBox([*boxes, self.message, self.progress])
        self.upper.offer(rankings.models[start.set], start.upper)
        self.lower.offer(rankings.models[start.set], start.lower)
        for control in (self.set, self.rule, self.number, self.passed_over, *self.upper.row, *self.lower.row):
            control.observe(self._changed, "value")
        self.back.on_click(lambda _: self._step(-1))
        self.on.on_click(lambda _: self._step(1))

    @property
    def choice(self) -> Choice:
        others = (control.value for control in (self.rule, self.number, self.passed_over))
        return Choice(self.set.value, self.upper.method, self.lower.method, *others)

    def show(self) -> None:
        """Display the controls and, below them, the picture."""
        display(self.controls._repr_mimebundle_() | {"text/plain": FALLBACK}, raw=True)
        self.draw()

    def draw(self) -> None:
        """Draw what the controls say; what cannot be shown is said instead, and the picture stays."""
        choice = self.choice
        try:
            self._prepare(choice)
            figure, sentence = look(self._rankings, choice, self._facts)
        except (ValueError, OSError, MemoryError, KeyboardInterrupt) as error:
            self.message.value = f"<b>{html.escape(str(error) or 'Interrupted.')}</b>"
            return
        if self.choice != choice:  # changed meanwhile: the kernel takes messages while it works
            return self.draw()
        written = io.BytesIO()
        figure.savefig(written, dpi=figure.dpi, pil_kwargs={"compress_level": 1})  # to show at once, not to keep
        picture = Image(written.getvalue(), format="png", alt=sentence)
        if self._picture is None:
            self._picture = display(picture, display_id=True)
        else:
            self._picture.update(picture)
        self.message.value = html.escape(sentence)

    def _prepare(self, choice: Choice) -> None:
        """Make the rankings that are not there yet, under a word of progress and the work's own progress line."""
        for method in choice.methods:
            if not self._rankings.has(choice.set, method):
                where = paper.SET_TITLES.get(choice.set, choice.set)
                self.message.value = f"<i>Working on {title(method)} on {where}, for the first time …</i>"
                failed = None
                with self.progress:  # which would show an exception and go on
                    try:
                        self._rankings(choice.set, method)
                    except (Exception, KeyboardInterrupt) as error:
                        failed = error
                self.progress.clear_output()
                if failed:
                    raise failed

    def _step(self, by: int) -> None:
        self.number.value += by

    def _changed(self, change) -> None:
        if self._quiet:
            return
        if change["owner"] in (self.set, self.rule):
            self._quiet = True  # one change by the reader, one picture
            if change["owner"] is self.set:
                for controls in (self.upper, self.lower):
                    controls.offer(self._rankings.models[self.set.value], controls.method)
            self.number.value = 0 if self.rule.value == "number" else 1
            self._quiet = False
        self.draw()


class _MethodControls:
    """Model, metric and re-ranking of one list."""

    def __init__(self, words: str, optional: bool = False):
        self._optional = optional
        self.model = _dropdown(words, {})
        self.metric = _dropdown("metric", {words: metric for metric, words in plots.METRICS.items()})
        self.reranked = widgets.Checkbox(description="re-ranked", indent=False, **_shape(110))
        self.row = [self.model, self.metric, self.reranked]

    def offer(self, models, method: Method | None) -> None:
        """Offer these models, and choose a method as far as they allow."""
        options = [(plots.TITLES[model], model) for model in models]
        self.model.options = [*options, ("(none)", None)] if self._optional else options
        if method is None:
            self.model.value = None if self._optional else models[0]
            return
        self.model.value = method.model if method.model in models else models[0]
        self.metric.value, self.reranked.value = method.metric, method.reranked

    @property
    def method(self) -> Method | None:
        if self.model.value is None:
            return None
        return Method(self.model.value, self.metric.value, self.reranked.value)


def _dropdown(words: str, options: Mapping, value=None) -> widgets.Dropdown:
    chosen = {} if value is None else {"value": value}
    return widgets.Dropdown(options=list(options.items()), description=words, **chosen, **_shape(265, 70))


def _shape(width: int, description: int | None = None) -> dict[str, dict]:
    """Width of a control and of its description, in pixels."""
    style = {} if description is None else {"style": {"description_width": f"{description}px"}}
    return {"layout": {"width": f"{width}px"}} | style
