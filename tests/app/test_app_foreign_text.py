"""Texts of others (addresses, names, errors, files) on the pages: they mean themselves, and fetch nothing.

Two doors lead to what a browser reads: ``widgets.literal`` for places that read Markdown, and ``html.escape`` inside
``widgets.html_block`` for HTML. The first half reads the sources for a way past them; the second half draws pages full
of hostile names, and reads what they send with a Markdown parser.
"""

from __future__ import annotations

import ast
import html
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from app import widgets
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store

APP = Path(widgets.__file__).parent
_CALLS = """
badge button caption checkbox chat_message dialog download_button error expander feedback file_uploader
form_submit_button header info link_button markdown metric multiselect number_input page_link pills popover progress
radio segmented_control select_slider selectbox slider spinner status subheader success tabs text_area text_input title
toast toggle warning
"""
_TEXTS = """
arm_label cause claim description error family file hub_id label learner licence message model name note path prompt
remark report sentence tag tags task text title variant
"""
READ_MARKDOWN = frozenset(_CALLS.split())
"""What Streamlit reads as Markdown in: labels and texts, helps; of those in ``OPTIONS`` the options too."""
OPTIONS = frozenset(("pills", "radio", "segmented_control", "tabs"))
NOT_STREAMLIT = ("html", "widgets", "align", "re", "exports", "figures")
MAKES_PLAIN = ("widgets.literal", "literal", "formatting.", "_span", "len", "min", "max")
"""The functions whose texts may stand in Markdown: numbers in words, and ``literal``."""
OF_OTHERS = frozenset(_TEXTS.split())
"""The attributes and columns that hold texts of others, in what has them."""
OUR_PROSE = ("to_html(", "'\\n'.join(", "'\\n\\n'.join(")
"""The course's own texts, marked up, and its list of sources."""
OURS = {
    "app/align/request_form.py": ("name", "text"),
    "app/compare/controls.py": ("title",),
    "app/compare/export_panel.py": ("label", "title", "share"),
    "app/compare/figure_panels.py": ("kind.upper()",),
    "app/comparison_list.py": ("label",),
    "app/design/advice_card.py": ("wish", "other.components"),
    "app/design/inspect_option.py": ("name", "obstacle.name", "value", "default"),
    "app/design/memory.py": ("what",),
    "app/design/option_list.py": (
        "objective.meaning",
        "_NAMES.get(name, name.capitalize())",
        "name.replace('max_', 'Largest ')",
    ),
    "app/finetune/actions.py": ("label", "help"),
    "app/finetune/launch_preview.py": ("one.label", "minutes", "state.default('on')"),
    "app/finetune/live_panel.py": ("pages", "list(range(pages))", "order"),
    "app/finetune/run_menu.py": ("label", "run.run_id", "list(names)", "place"),  # ids are checked, seeds are numbers
    "app/finetune/try_panel.py": ("words",),
    "app/learn/controls.py": ("label", "help_", "control.label", "control.options"),
    "app/learn/exercise.py": ("label", "said", "question.choices", "question.unit", "chapter.prose.finish"),
    "app/learn/live.py": ("label", "intro", "sentence"),
    "app/learn/player.py": ("label",),
    "app/learn/shell.py": ("label", "points", "page.title", "settings.label", "whose", "MAX_POINTS * len(CHAPTERS)"),
    "app/owndata/picker.py": ("what", "role.title"),
    "app/owndata/preview.py": ("names", "sizes"),
    "app/pickers.py": ("label", "help", "field.capitalize()"),
    "app/sweeps/plan_builder.py": ("name", "label", "meaning", "fitting", "hint", "', '.join(offered)"),
    "app/sweeps/shipped_studies.py": ("pieces[0]", "after", "alt"),
    "app/sweeps/sweep_list.py": ("pages", "key"),
    "app/views/align.py": ("label", "names", "configurations.label(str(chosen))"),
    "app/widgets.py": ("title", "text", "button", "label", "view", "_BLANK_LINES.sub(chr(10), body)"),
}
"""What stands in Markdown besides: words, numbers and ids of this program, looked at one by one."""


def sources() -> Iterator[tuple[str, ast.AST]]:
    for path in sorted(APP.rglob("*.py")):
        yield path.relative_to(APP.parent).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def is_plain(node: ast.expr) -> bool:
    """True for what is a constant of the sources, or made of constants and of what ``MAKES_PLAIN`` makes."""
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.JoinedStr):
        return all(
            isinstance(part, ast.Constant) or part.format_spec is not None or is_plain(part.value)
            for part in node.values
        )
    if isinstance(node, ast.IfExp):
        return is_plain(node.body) and is_plain(node.orelse)
    if isinstance(node, ast.List | ast.Tuple):
        return all(map(is_plain, node.elts))
    if isinstance(node, ast.Starred):
        return is_plain(node.value)
    if isinstance(node, ast.Lambda):
        return is_plain(node.body)
    if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(MAKES_PLAIN):
        return True
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("list", "tuple", "sorted", "str"):
        return all(map(is_plain, node.args))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and is_plain(node.func.value):
        return all(map(is_plain, [*node.args, *(word.value for word in node.keywords)]))
    root = node
    while isinstance(root, ast.Attribute | ast.Subscript):
        root = root.value
    names = [
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(node)
        if hasattr(node, "ctx") and isinstance(node, ast.Name | ast.Attribute)
    ]
    return isinstance(root, ast.Name) and any(name.strip("_").isupper() for name in names)


def texts_read_as_markdown(tree: ast.AST) -> Iterator[ast.expr]:
    for call in ast.walk(tree):
        if not (
            isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in READ_MARKDOWN
        ):
            continue
        if ast.unparse(call.func.value).split(".")[0] in (
            "html",
            "widgets",
            "align",
            "re",
            "exports",
            "self",
            "figures",
        ):
            continue
        named = {"label", "body", "text", "help", "captions"} | ({"options"} if call.func.attr in OPTIONS else set())
        yield from call.args[: 2 if call.func.attr in OPTIONS else 1]
        yield from (word.value for word in call.keywords if word.arg in named)


def leaves(node: ast.expr) -> Iterator[ast.expr]:
    """The parts of a text that are neither plain nor made of others."""
    if is_plain(node):
        return
    if isinstance(node, ast.JoinedStr):
        for part in node.values:
            if isinstance(part, ast.FormattedValue) and part.format_spec is None:
                yield from leaves(part.value)
    elif isinstance(node, ast.IfExp):
        yield from (*leaves(node.body), *leaves(node.orelse))
    else:
        yield node


def test_nothing_foreign_stands_in_markdown_as_it_is():
    seen, strange = set(), []
    for path, tree in sources():
        for leaf in (leaf for text in texts_read_as_markdown(tree) for leaf in leaves(text)):
            written = ast.unparse(leaf)
            seen.add((path, written))
            if written not in OURS.get(path, ()) and not written.startswith(OUR_PROSE):
                strange.append(f"{path}:{leaf.lineno}: {written}")
    stale = {path: set(known) - {leaf for where, leaf in seen if where == path} for path, known in OURS.items()}
    assert not any(stale.values()), stale
    assert strange == [], "pass it through widgets.literal, or note under OURS why it cannot be foreign"


def test_nothing_foreign_stands_in_html_as_it_is():
    """In a text with tags, an attribute or column with a foreign text is escaped where it stands."""
    strange = []
    for path, tree in sources():
        for text in ast.walk(tree):
            if not isinstance(text, ast.JoinedStr):
                continue
            if not any(isinstance(part, ast.Constant) and "<" in str(part.value) for part in text.values):
                continue
            for part in text.values:
                if isinstance(part, ast.FormattedValue) and part.format_spec is None:
                    value = part.value
                    column = isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Constant)
                    last = str(value.slice.value) if column else getattr(value, "attr", "")
                    if last in OF_OTHERS:
                        strange.append(f"{path}:{text.lineno}: {ast.unparse(value)}")
    assert strange == []


def test_html_leaves_by_few_doors():
    doors = {
        path
        for path, tree in sources()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        if any(word.arg == "unsafe_allow_html" for word in call.keywords) or ast.unparse(call.func) == "st.html"
    }
    of_our_prose = {"app/learn/exercise.py", "app/learn/shell.py"}
    style_sheets = {
        *("app/theme.py", "app/views/sweeps.py", "app/design/inspect_option.py", "app/finetune/live_panel.py"),
        *("app/compare/figure_panels.py", "app/learn/controls.py", "app/charts.py"),
    }
    assert doors == {"app/widgets.py"} | of_our_prose | style_sheets


def test_the_reader_of_sources_sees_what_is_foreign():
    tree = ast.parse("st.toast(f'Imported {found.name}')\nst.caption(f'{n:,} of {formatting.plural(3, \"run\")}')")
    assert [ast.unparse(leaf) for text in texts_read_as_markdown(tree) for leaf in leaves(text)] == ["found.name"]


IMAGE = "![x](http://evil.example/x.png)"
HOSTILE = (
    f"{IMAGE}\n\n<img src='http://evil.example/y.png'> </style><img src=http://evil.example/z> [a](http://evil.example)"
)


def fetched(text: str, *, with_html: bool) -> list[str]:
    """What a browser would fetch, or link to, at evil.example for a text that Streamlit reads."""
    found = []
    waiting = list(MarkdownIt("commonmark", {"html": with_html}).parse(text))
    while waiting:
        token = waiting.pop()
        waiting += token.children or ()
        places = [str(value) for value in token.attrs.values()]
        if token.type in ("html_block", "html_inline") and ("<img" in token.content or "</style" in token.content):
            places.append(html.unescape(token.content))
        found += [place for place in places if "evil.example" in place]
    return found


def test_the_parser_sees_what_a_browser_would():
    assert len(fetched(HOSTILE, with_html=False)) == 2
    assert len(fetched(HOSTILE, with_html=True)) == 4
    block = f'<div class="cdka-block">{html.escape(HOSTILE)}</div>'
    assert fetched(block, with_html=True), "a blank line ends a block of HTML: escaping alone is not enough"
    assert fetched(widgets.literal(HOSTILE), with_html=True) == []


@pytest.fixture
def hostile_home(home, monkeypatch):
    """A sweep whose names, notes, tags, settings and causes of failure are all hostile."""
    monkeypatch.setattr("cdka.engine.local.ensure_dispatcher", lambda *args, **more: False)
    monkeypatch.setattr("cdka.engine.local.warm", lambda *args, **more: False)
    store = Store(home)
    specs = [
        RunSpec("digits-vit", "digits-flip", components="2,8,1", seed=seed, task_options={"template": HOSTILE})
        for seed in range(2)
    ]
    specs.append(specs[0].with_(model=f"/models/{HOSTILE.replace('/', '')}"))
    sweep_id = store.create_sweep(HOSTILE, {"kind": "grid", "model": HOSTILE, "task": HOSTILE}, specs)
    store.describe_sweep(sweep_id, note=HOSTILE, tags=[HOSTILE])
    with store.database.write() as sql:
        sql.execute(
            "UPDATE runs SET status = 'failed', attempt = 1, error = ?, finished_at = 1, worked_s = 1", (HOSTILE,)
        )
        sql.execute("UPDATE runs SET status = 'done', error = NULL, metrics = '{\"test/accuracy\":0.5}' WHERE n = 1")
    store.close()
    return sweep_id


ROOMS = {
    "finetune": {"show": "SWEEP", "data": HOSTILE, "tune-lr": HOSTILE},
    "sweeps": {"part": "Your sweeps", "arms": HOSTILE},
    "compare": {"sweep": ["SWEEP", HOSTILE], "metric": HOSTILE, "against": HOSTILE, "hide": HOSTILE, "view": HOSTILE},
    "design": {"model": HOSTILE, "budget": HOSTILE, "modules": HOSTILE, "basket": HOSTILE, "list": HOSTILE},
    "align": {"align_model": HOSTILE, "align_task": HOSTILE, "data": HOSTILE},
    "learn": {"chapter": HOSTILE, "learner": HOSTILE, "hide": HOSTILE, "seed": HOSTILE, "term": HOSTILE},
}


@pytest.mark.parametrize("name", ROOMS)
def test_a_page_full_of_hostile_names_fetches_nothing(hostile_home, room, name):
    asked = {
        key: [hostile_home if one == "SWEEP" else one for one in value]
        if isinstance(value, list)
        else hostile_home
        if value == "SWEEP"
        else value
        for key, value in ROOMS[name].items()
    }
    app = room(name, **asked)
    assert not app.exception, app.exception[0].value
    read = [
        (element.proto.body if hasattr(element.proto, "body") else element.value, getattr(element, "allow_html", False))
        for kind in ("markdown", "caption", "warning", "info", "error", "success", "toast")
        for element in getattr(app, kind)
    ]
    read += [
        (text, False)
        for element in [*app.button, *app.text_input, *app.selectbox, *app.multiselect, *app.number_input]
        for text in (element.label, getattr(element, "help", None) or "")
    ]
    assert read
    assert any("evil" in text for text, _ in read) or name == "align", "it is shown"
    assert [(text, found) for text, allowed in read if (found := fetched(text, with_html=bool(allowed)))] == []
