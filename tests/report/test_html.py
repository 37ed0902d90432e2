import pytest

from kunlun_jax.report.html import element, page, section, table
from tests.report.reading import Page, problems

HOSTILE = "</td><script>alert('1')</script> & \"<b>\" &amp; 店"


def small(*children):
    return page("A page", [], [section("Part", *children)])


class TestPage:
    def test_it_is_whole(self):
        assert problems(small("text")) == []

    def test_what_comes_from_data_is_text(self):
        rows = [(HOSTILE, HOSTILE, "1")]
        text = page(
            HOSTILE,
            [element("p", HOSTILE, title=HOSTILE)],
            [section(HOSTILE, table((HOSTILE, "b", "c"), rows, HOSTILE))],
        )
        assert problems(text) == []
        read = Page(text)
        assert read.texts["h1"] == read.texts["h2"] == read.texts["caption"] == [HOSTILE]
        assert read.texts["title"] == [HOSTILE]
        assert read.texts["td"] == [HOSTILE, "1"]
        assert read.attributes("p")[0]["title"] == HOSTILE

    def test_a_name_of_bytes_that_are_no_text_is_written(self):
        text = small(b"caf\xe9".decode("utf-8", "surrogateescape"))
        assert "caf\\udce9" in text.encode().decode()

    @pytest.mark.parametrize(
        ("children", "problem"),
        [
            ([element("script", "1")], "<script>"),
            ([element("a", "x", href="https://example.org")], "<a> refers to https"),
            ([element("h4", "x")], "a heading jumps to level 4"),
            ([element("svg")], "a picture without a role"),
            ([element("svg", role="img")], "1 pictures, 0 texts"),
            ([element("table", element("th", "x"))], "a table without a caption"),
        ],
    )
    def test_the_reader_finds_problems(self, children, problem):
        assert any(found.startswith(problem) for found in problems(small(*children)))


def test_numbers_stand_to_the_right_and_texts_to_the_left():
    read = Page(
        small(table(("a", "b", "c"), [("x", "-1.5 [-2, 1]", "3 days"), ("z", "–", "2")], "t"))
    )
    assert [a["class"] for a in read.attributes("td")] == ["number", "text"] * 2


def test_text_stands_where_it_was_put():
    node = element("p", "a", element("b", "c"), "d", None, "e")
    assert (node.text, node[0].text, node[0].tail) == ("a", "c", "de")
