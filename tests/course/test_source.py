"""Lesson sources: a well-formed one is taken apart, and each way to break one is named with file and line."""

import re
from pathlib import Path

import pytest

from fliot_lab.course import build, source, template

WHOLE = '''# ---
# jupyter:
#   kernelspec:
#     name: python3
# ---

# %% [markdown]
# # Doubling

# %% tags=["parameters"]
profile, seed, dataset = "fast", 7, "auto"

# %%
import numpy as np
from fliot_lab import plots
from tests.course import check

# %% [markdown]
# ## The question
#
# How much is twice as much?
#
# ```text
# 2 -> 4
# ```
#
# ## The idea
#
# $$ y = 2 x $$
#
# ## The naive version

# %%
sum([4, 4])

# %% [markdown]
# ## Predict before you run

# %%
plots.show(None, "a figure with words")
plots.slider(None, [1], 1, "x")

# %% [markdown]
# ### Exercise 4.1: twice
#
# <details><summary>Hint</summary>
#
# Add.
# </details>

# %% tags=["exercise"]
# Exercise 4.1: twice
def double(x):
    """Twice x."""
    factor = 2
    # solution
    y = np.asarray(x)
    return factor * y
    # end solution

# %% tags=["check"]
check.double(double)

# %% tags=["check"]
assert double(2) == sum([2, 2])

# %% [markdown] tags=["solution"]
# Or shift the bits.

# %% [markdown] tags=["instructor"]
# Ten minutes.

# %% [markdown]
# ## Quiz
#
# ## Recap
#
# **Limits.** None. **Ethics.** None. **References.** None.

# %% tags=["summary"]
print("{}")
'''


@pytest.fixture
def lesson(tmp_path: Path) -> Path:
    path = tmp_path / "04_doubling.py"
    path.write_text(WHOLE, "utf-8")
    return path


def line_of(text: str, sought: str) -> int:
    """Number of the first line that holds `sought`."""
    return next(number for number, line in enumerate(text.split("\n"), 1) if sought in line)


def test_the_cells_are_those_of_the_file(lesson: Path) -> None:
    found = source.cells(lesson)
    assert len(found) == WHOLE.count("\n# %%")
    lines = WHOLE.split("\n")
    for cell in found:
        assert lines[cell.line - 1].startswith("# %%")  # lines count from 1
        assert cell.text.split("\n") == lines[cell.line : cell.line + cell.text.count("\n") + 1]
        assert cell.markdown == ("[markdown]" in lines[cell.line - 1])
    assert [sorted(cell.tags) for cell in found if cell.tags] == [
        ["parameters"], ["exercise"], ["check"], ["check"], ["solution"], ["instructor"], ["summary"],
    ]  # fmt: skip


def test_a_well_formed_source_passes_and_lacks_nothing(lesson: Path) -> None:
    assert source.check(lesson) == source.cells(lesson)
    assert template.missing(lesson) == []


EXERCISE = WHOLE[WHOLE.index('# %% tags=["exercise"]') : WHOLE.index('# %% tags=["check"]')]
CHECK = '# %% tags=["check"]\ncheck.double(double)\n'


@pytest.mark.parametrize(
    ("old", "new", "at", "message"),
    [
        ("    # end solution\n", "", "    # solution", "`# solution` is never closed"),
        ("    # solution\n", "", "    # end solution", "`# end solution` without `# solution`"),
        ("    return factor", "    # solution\n    return factor", None, "`# solution` again before `# end solution`"),
        ("sum([4, 4])", "# solution\n# end solution", None, "`# solution` stands outside a code cell tagged exercise"),
        ("    # solution\n", "", None, "`# end solution` without"),
        (CHECK, "", '# %% tags=["exercise"]', "exercise 4.1 has no check"),
        ("check.double(double)", "check.double(np)", '# %% tags=["exercise"]', "exercise 4.1 has no check"),
        (EXERCISE, EXERCISE + CHECK + EXERCISE, None, "exercise 4.1 again"),
        (EXERCISE, EXERCISE + EXERCISE.replace("4.1", "4.2"), '# %% tags=["exercise"]', "exercise 4.1 has no check"),
        ('tags=["check"]', 'tags=["chekc"]', 'tags=["chekc"]', "unknown tag 'chekc'; there are check, exercise"),
        ("# Exercise 4.1: twice\ndef", "# Exercise 4: twice\ndef", "# Exercise 4: twice", "the first line of an exercise"),
        ("# Exercise 4.1: twice\ndef", "import os\n# Exercise 4.1: twice\ndef", "import os", "the first line of an exercise"),
        ("# Exercise 4.1: twice\ndef", "# Exercise 5.1: twice\ndef", "# Exercise 5.1", "exercise 5.1 stands in lesson 04"),
        ('# %% tags=["exercise"]', "# %%", None, "outside a code cell tagged exercise"),
        ("    # solution\n    y", "    y", None, "without `# solution`"),
        ("y = np.asarray(x)", "y = np.asarray(x", "y = np", "Python cannot read this cell"),
        ("y = np.asarray(x)", "y = pd.Series(x)", "pd.Series", "exercise 4.1 uses pd, which this cell does not define"),
        ("check.double(double)", "check.nope(double)", '# %% tags=["exercise"]', "exercise 4.1 has no check"),
        ("check.double(double)", "print(double)", '# %% tags=["exercise"]', "exercise 4.1 has no check"),
        ("# # Doubling", "# Doubling", "[markdown]", "the first cell holds the title"),
        ('tags=["instructor"]', "tags=['instructor']", "tags=['instructor']", "must be `# %%` or `# %% [markdown]`"),
        ('tags=["instructor"]', 'tags=["instructor"', 'tags=["instructor"', "must be `# %%` or"),
        ('tags=["instructor"]', 'tag=["instructor"]', ' tag=["instructor"]', "must be `# %%` or"),
        ('tags=["instructor"]', 'tags=["instructor", "solution"]', 'tags=["instructor", ', "must be `# %%` or"),
        ('tags=["instructor"]', 'tags=["check"]', '[markdown] tags=["check"]', "the tag 'check' is for code"),
        ("    y = np.asarray(x)", "    # Solution\n    y = np.asarray(x)", "# Solution", "`# Solution` is nearly a marker"),
        ("    # end solution\n", "    # end solution\n    #solution\n", "#solution", "`#solution` is nearly"),
        ("    # end solution\n", "    # end solution\n    # end of solution\n", "# end of", "is nearly a marker"),
        ("    # solution\n    y", "# solution\n    y", "# solution", "must have the indent of the line below it"),
        ("    # end solution\n", "    # end solution\n    else:\n        pass\n", None, "Python cannot read this cell"),
        ("# Exercise 4.1: twice\ndef", "# Exercise 4.1: twice\n# Exercise 4.2: thrice\ndef", None, "two exercises in one cell"),
        ("# Exercise 4.1: twice\ndef", "# Exercise 4.2: twice\ndef", "# Exercise 4.2", "exercise 4.2 stands where 4.1 is due"),
        (CHECK, CHECK + EXERCISE.replace("4.1", "4.2") + CHECK, None, "exercise 4.2 defines double, as exercise 4.1 does"),
        ('print("{}")', '# %time double(2)\nprint("{}")', "# %time", "uses double, which exercise 4.1 defines"),
        ('print("{}")', "print(double(2))", "print(double", "uses double, which exercise 4.1 defines: a lesson must"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_named_with_file_and_line(lesson: Path, old: str, new: str, at: str | None, message: str) -> None:
    broken = WHOLE.replace(old, new, 1)
    assert broken != WHOLE
    lesson.write_text(broken, "utf-8")
    with pytest.raises(source.SourceError, match=re.escape(message)) as raised:
        source.check(lesson)
    assert str(raised.value).startswith(f"04_doubling.py:{raised.value.line}: ")
    if at is not None:
        assert raised.value.line == line_of(broken, at)


def test_an_exercise_whose_first_line_is_cut_is_refused(lesson: Path) -> None:
    body = EXERCISE[EXERCISE.index("def double") :]
    lesson.write_text(WHOLE.replace(body, "# solution\ndef double(x):\n    return 2 * x\n# end solution\n\n"), "utf-8")
    with pytest.raises(
        source.SourceError, match=r"exercise 4\.1 without its solution does not define double: keep its first line"
    ):
        source.check(lesson)


@pytest.mark.parametrize(
    "body",
    [
        "try:\n        y = 1 / x\n    except ZeroDivisionError as error:\n        print(error)\n    return 2 * x",
        "match x:\n        case [first, *rest]:\n            return rest\n        case {'a': 1, **more}:\n            pass",
        "return [2 * y for y in x], (lambda z: z)(x), [w := 1, w]",
        "def inner(*args, **kwargs):\n        return args, kwargs\n    return inner(x)",
    ],
)
def test_ordinary_python_is_no_mistake(lesson: Path, body: str) -> None:
    lesson.write_text(WHOLE.replace("y = np.asarray(x)\n    return factor * y", body), "utf-8")
    assert source.check(lesson)
    lesson.write_text(WHOLE.replace('print("{}")', "def area(double):\n    return double\n"), "utf-8")  # a name of its own
    assert source.check(lesson)


def test_an_exercise_without_marks_and_a_file_without_cells_are_refused(lesson: Path) -> None:
    lesson.write_text(WHOLE.replace("    # solution\n", "").replace("    # end solution\n", ""), "utf-8")
    with pytest.raises(source.SourceError, match=r"exercise 4\.1 has no solution"):
        source.check(lesson)
    lesson.write_text("import numpy\n", "utf-8")
    with pytest.raises(source.SourceError, match=r"04_doubling\.py:1: no cell begins here"):
        source.check(lesson)


def test_only_checks_solutions_and_notes_may_use_what_an_exercise_defines(lesson: Path) -> None:
    for tag in ("check", "solution", "instructor"):
        lesson.write_text(
            WHOLE.replace("# %% [markdown]\n# ## Quiz", f'# %% tags=["{tag}"]\ndouble(2)\n\n# %% [markdown]\n# ## Quiz')
        )
        assert source.check(lesson)


@pytest.mark.parametrize(
    ("old", "new", "gap"),
    [
        ("# # Doubling", "# # Doubling\n#\n# [Next](05.ipynb)", "a first cell with the title"),
        *((f"# ## {name}", f"# ## No {name.lower()}", f"'{name}'") for name in template.HEADINGS if name != "Exercise"),
        ("# $$ y = 2 x $$", "# y", "formula"),
        ("**Ethics.**", "Ethics:", "Ethics"),
        ('# %% tags=["parameters"]', "# %%", "tagged parameters"),
        ('# %% tags=["summary"]', "# %%", "tagged summary"),
        ('print("{}")\n', 'print("{}")\n\n# %%\nseed\n', "last code cell"),
        ('# %% [markdown] tags=["instructor"]', "# %% [markdown]", "tagged instructor"),
        ("plots.show(", "plots.bars(", "plots.show"),
        ("plots.slider(", "plots.bars(", "plots.slider"),
        ("sum([4, 4])", "import os\nsum([4, 4])", "imports"),
        ("import numpy as np\n", "import numpy as np\n" + "import os\n" * 4, "imports in at most 6 lines"),
        ("sum([4, 4])", "x = 1\n" * 13, "naive version"),
        ("# ### Exercise 4.1: twice", "# ### Exercise 4.2: twice", "the text of exercise 4.1"),
        ("<summary>Hint", "<summary>More", "hint"),
        ("assert double(2) == sum", "double(2) == sum", "asserts exercise 4.1 equal"),
        ("# ```text\n# 2 -> 4\n# ```", "# 2 -> 4", "a picture under the question"),
        ("# ## Quiz\n#\n# ## Recap", "# ## Recap\n#\n# ## Quiz", "the order the parameters, the imports, The question"),
    ],
)
def test_each_part_that_a_lesson_lacks_is_named(lesson: Path, old: str, new: str, gap: str) -> None:
    broken = WHOLE.replace(old, new, 1)
    assert broken != WHOLE
    lesson.write_text(broken, "utf-8")
    assert [found for found in template.missing(lesson) if gap in found]


def test_headings_and_imports_are_read_from_code() -> None:
    assert source.heading("# Exercise 10.2 (extra): a median, by hand\ndef f(): ...") == source.Heading(
        "10.2", "a median, by hand", True
    )
    assert source.heading("x = 1\n# Exercise 3.1: late\n") == source.Heading("3.1", "late", False)
    for code in ("# Exercise 3: x", "# exercise 3.1: x", "# Exercise 3.1:", "print('# Exercise 3.1: x')", ""):
        assert source.heading(code) is None
    codes = [
        "import os, sys as s\nx = 1",
        "%matplotlib inline\nimport gone",
        "def f():\n    import inner",
        "from a.b import c as d",
    ]
    assert source.imports(codes) == "import os, sys as s\nfrom a.b import c as d"


@pytest.mark.parametrize(
    ("code", "python", "lines"),
    [
        ("%matplotlib inline\nx = 1", "pass\nx = 1", [1]),
        ("if x:\n    !ls\n    ?x\nlen?", "if x:\n    pass\n    pass\npass", [2, 3, 4]),
        ("x = 7 \\\n  % 2", "x = 7 \\\n  % 2", []),  # Python, whatever a line of it looks like
        ("def f(:", "def f(:", []),
    ],
)
def test_commands_of_ipython_are_set_aside(code: str, python: str, lines: list[int]) -> None:
    assert source.without_magics(code) == (python, lines)


def test_a_solution_is_cut_at_its_own_indent_and_nothing_else_is() -> None:
    first = "def f(x):\n    if x:\n        # solution\n        return 1\n        # end solution\n    y = 2\n"
    code = first + "    # solution\n    return y\n    # end solution"
    assert source.without_solution(code, "STUB") == "def f(x):\n    if x:\n        STUB\n    y = 2\n    STUB"
    assert source.without_markers(code) == "def f(x):\n    if x:\n        return 1\n    y = 2\n    return y"


def test_no_lesson_of_the_course_lacks_a_part() -> None:
    gaps = {lesson.name: found for lesson in build.lessons() if (found := template.missing(lesson.source))}
    assert not gaps
