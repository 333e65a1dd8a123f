"""A report as a page."""

import re
from html.parser import HTMLParser

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.development.pages.page import render_page, state_of
from asgireload.development.pages.report import ErrorPart, FailureReport, Frame
from tests.development.pages.reports import FRAME, LIBRARY, REPORT

VOID = {"meta", "link"}
HEAD = {"html", "head", "meta", "title", "link", "style", "body", "script"}
FRAMES = {"div", "ol", "li", "mark", "i", "b", "code", "span"}
TEXT = {"main", "header", "section", "footer", "p", "strong", "h1", "h2", "pre"}
ELEMENTS = HEAD | FRAMES | TEXT | {"details", "summary", "button"}


class Elements(HTMLParser):
    """Checks that elements are closed in their order, and keeps them with their text."""

    def __init__(self, page):
        super().__init__()
        self.opened, self.found, self.words = [], [], []
        self.feed(page)
        self.close()
        assert not self.opened

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.opened.append(tag)

    def handle_endtag(self, tag):
        assert self.opened.pop() == tag

    def handle_data(self, data):
        if self.opened and self.opened[-1] not in {"style", "script"}:
            self.words.append(data)

    @property
    def text(self):
        return "".join(self.words)


def page_of(report):
    return render_page(report, "/.asgireload/reload")


def with_frames(*frames, **more):
    part = msgspec.structs.replace(REPORT.errors[0], frames=frames, **more)
    return msgspec.structs.replace(REPORT, errors=(part,))


def test_a_page_says_what_failed_and_where():
    text = Elements(page_of(REPORT)).text
    assert "The application could not be imported" in text
    assert "division by zero" in text
    assert "shop/main.py:3" in text


def test_the_failing_line_and_its_part_are_marked():
    page = page_of(REPORT)
    assert '<li data-line="3" class="failing">    return <mark>1 / 0</mark></li>' in page
    assert '<li data-line="2">def price():</li>' in page


def test_a_fault_behind_the_line_is_seen():
    frame = msgspec.structs.replace(FRAME, mark=(16, 17))
    assert "1 / 0<mark> </mark></li>" in page_of(with_frames(frame))


def test_frames_of_libraries_are_folded():
    page = page_of(with_frames(LIBRARY, LIBRARY, FRAME))
    assert "<summary>2 calls in framework</summary>" in page
    assert page.index("2 calls in framework") < page.index('class="failing"')


def test_where_all_is_a_library_nothing_is_folded():
    assert 'class="library"' not in page_of(with_frames(LIBRARY))


def test_calls_that_are_not_shown_are_counted():
    assert "960 more calls are not shown" in page_of(with_frames(FRAME, FRAME, left_out=960))


def test_causes_and_members_have_their_headings():
    others = (ErrorPart("cause", "KeyError", "tea"), ErrorPart("member", "OSError", "gone"))
    page = page_of(msgspec.structs.replace(REPORT, errors=(*REPORT.errors, *others)))
    text = Elements(page).text
    assert "It was caused byKeyError" in text
    assert "The group holdsOSError" in text


def test_a_text_is_open_where_there_is_nothing_else():
    report = FailureReport("crash", "import", "killed by SIGKILL", (), "no words")
    assert '<details class="text" open>' in page_of(report)
    assert '<details class="text">' in page_of(REPORT)


def test_a_page_is_whole_by_itself():
    for tag, attributes in Elements(page_of(REPORT)).found:
        assert "src" not in attributes
        assert not attributes.get("href", "data:,").startswith(("http", "/"))
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes), tag


def test_a_page_knows_what_it_shows():
    element = Elements(page_of(REPORT)).found[0]
    assert element == (
        "html",
        {"lang": "en", "data-state": state_of(REPORT), "data-stream": "/.asgireload/reload"},
    )


hostile = st.text(
    st.sampled_from("<>&\"'/=\0\x1b\r\n é-scriptlybo"), max_size=60
) | st.sampled_from(
    ["</script><script>alert(1)</script>", "<!--", "]]>", "</style>", '" onclick="x', "&lt;"]
)
frames = st.builds(
    Frame,
    file=hostile,
    shown=hostile,
    line=st.integers(0, 9),
    function=hostile,
    is_user=st.booleans(),
    first_line=st.integers(0, 9),
    lines=st.lists(hostile, max_size=4).map(tuple),
    mark=st.none() | st.tuples(st.integers(0, 9), st.integers(1, 70)),
)
parts = st.builds(
    ErrorPart,
    relation=st.sampled_from(["", "cause", "context", "member"]),
    type=hostile,
    message=hostile,
    notes=st.lists(hostile, max_size=2).map(tuple),
    frames=st.lists(frames, max_size=4).map(tuple),
    left_out=st.integers(0, 3),
)
reports = st.builds(
    FailureReport,
    kind=st.sampled_from(["import", "lifespan", "crash"]),
    stage=hostile,
    summary=hostile,
    errors=st.lists(parts, max_size=3).map(tuple),
    text=hostile,
)


@given(reports)
def test_nothing_in_a_report_becomes_markup(report):
    found = Elements(page_of(report)).found
    assert [tag for tag, _ in found].count("script") == 1
    assert {tag for tag, _ in found} <= ELEMENTS
    assert not any(name.startswith("on") for _, attributes in found for name in attributes)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_colour_schemes_are_drawn(scheme):
    assert re.search(r'name="color-scheme" content="light dark"', page_of(REPORT))
    assert scheme in page_of(REPORT)
