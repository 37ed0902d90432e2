"""Names that a schema refuses, and that those it takes work as what they become."""

import dataclasses

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ml_collections import ConfigDict
from ml_collections.config_flags import config_path

from kunlun_jax.data.names import stream_fault
from kunlun_jax.data.own_data import Events, TableSchema
from kunlun_jax.data.schema import Schema, SchemaError
from tests import factories

# Whatever parts paths, settings, keys of metrics, flags, lines or cells of tables, and letters.
HOSTILE = st.text(
    st.sampled_from("/.=[]{}()\"'`\\|:;,*?~$%#@!&<>+-_ \t\n\r\0\x1b\u200b\u2028aZ3é店👀\ud800")
)
NAMES = st.one_of(HOSTILE, st.sampled_from(dir(ConfigDict)), st.text(max_size=5))


def schema(kind: str, name: str) -> Schema:
    """Return the schema of the factories with something of another name."""
    base = factories.SCHEMA
    stream, *streams = base.streams
    if kind == "stream":
        return dataclasses.replace(base, streams=(dataclasses.replace(stream, name=name), *streams))
    if kind == "label":
        return dataclasses.replace(base, labels=(name,))
    if kind == "data set":
        return dataclasses.replace(base, name=name)
    if kind == "context feature":
        price, *others = base.dense
        return dataclasses.replace(base, dense=(dataclasses.replace(price, name=name), *others))
    if kind == "column of stream":
        column, *others = stream.dense
        changed = dataclasses.replace(
            stream, dense=(dataclasses.replace(column, name=name), *others)
        )
        return dataclasses.replace(base, streams=(changed, *streams))
    assert kind == "vocabulary"
    *_, tag = base.vocabularies
    *sparse, tags = base.sparse
    return dataclasses.replace(
        base,
        vocabularies=(*base.vocabularies[:-1], dataclasses.replace(tag, name=name)),
        sparse=(*sparse, dataclasses.replace(tags, vocabulary=name)),
    )


KINDS = ["stream", "label", "data set", "context feature", "column of stream", "vocabulary"]


def override(stream: str, length: int) -> int:
    """Set a stream's length as the flag `--config.model.streams["view"].max_len` does."""
    config = ConfigDict({"model": {"streams": {}}})
    config.model.streams[stream] = ConfigDict({"max_len": 1})
    path = f'model.streams["{stream}"].max_len'
    assert not set(path) & set(" =")  # a flag ends there
    config_path.set_value(path, config, length)
    return config.model.streams[stream].max_len


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    ["", " ", " a", "a ", "a\nb", "a\tb", "a\0b", "\x1b[31m", "a\u200b", "\ud800", "x" * 101],
)
def test_no_name_of_anything(kind, name):
    with pytest.raises(SchemaError, match=f"^{kind}.*: expected a name of .*, got ") as caught:
        schema(kind, name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name",
    ["page/view", "page.view", "..", ".", "/", "page view", "a=b", "a[0]", 'a"b', "👀", "a:b"],
)
def test_no_name_of_a_stream(name):
    with pytest.raises(
        SchemaError, match="stream: expected a name of letters, digits, '_' and '-'"
    ):
        schema("stream", name)


@pytest.mark.parametrize("name", ["__init__", "to_dict", "items", "keys", "get", "lock", "_fields"])
def test_no_name_of_a_stream_because_its_settings_could_not_be_given(name):
    with pytest.raises(SchemaError, match=f"got '{name}'"):
        schema("stream", name)


@pytest.mark.parametrize("name", ["click/1", "click.1", "..", "/"])
def test_no_name_of_a_task(name):
    with pytest.raises(SchemaError, match="label: expected a name without '/' and"):
        schema("label", name)


def test_the_schema_of_tables_refuses_them_too():
    with pytest.raises(SchemaError, match=r"stream: expected .* got 'page/view'"):
        TableSchema(name="shop", streams=(Events("page/view", ids=("item",)),))
    with pytest.raises(SchemaError, match=r"label: expected .* got 'click/1'"):
        TableSchema(name="shop", streams=(Events("view", ids=("item",)),), labels=("click/1",))


def test_no_attribute_of_a_config_dict_is_a_stream():
    assert [name for name in dir(ConfigDict()) if stream_fault(name) is None] == []


@given(kind=st.sampled_from(KINDS), name=NAMES)
@example(kind="stream", name="class")
@example(kind="stream", name="página")
@example(kind="stream", name="3")
@example(kind="stream", name="add-to-cart")
@example(kind="vocabulary", name="price €/kg.net")
def test_refused_in_one_line_or_good(kind, name):
    try:
        named = schema(kind, name)
    except SchemaError as error:
        assert str(error).isprintable()
        assert len(str(error)) <= 300
        return
    assert Schema.from_json(named.to_json()) == named
    if kind == "stream":
        assert override(name, 7) == 7
