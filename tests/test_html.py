from xml.etree import ElementTree

from qbench.html import counted, terms_table


def test_terms_are_escaped_and_empty_ones_left_out() -> None:
    html = terms_table({"a <b>": "<script>x</script>", "none": None, "empty": ""})
    table = ElementTree.fromstring(html)
    assert [element.tag for element in table.iter()] == ["table", "tr", "th", "td"]
    assert ["".join(cell.itertext()) for cell in table[0]] == ["a <b>", "<script>x</script>"]


def test_words_are_counted_from_the_most_frequent_on() -> None:
    assert counted(["a", "b", "b"]) == "b 2, a 1"
    assert counted([]) == ""
