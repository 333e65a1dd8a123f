"""Variants of the server: every edit finds what it edits, and figures compare what was measured in one round."""

import ast
import importlib.util

import pytest

from benchmarks.lighter import imports, run
from benchmarks.lighter.copies import PACKAGE, default_checkout, sources_of
from benchmarks.lighter.early import turned
from benchmarks.lighter.edits import (
    Behind,
    Body,
    DataClasses,
    EditError,
    Instead,
    apply_all,
    fields_of,
    is_plain_struct,
)
from benchmarks.lighter.figures import Samples
from benchmarks.lighter.variants import AS_IT_IS, QUESTIONS, WRITTEN

SOURCES = {
    "a.py": '"""One."""\n\n\nclass Door:\n    async def open(self) -> None:\n        """Say."""\n'
    "        if True:\n            return\n\n    def close(self) -> None:\n        return None\n\n\n"
    "def knock() -> int:\n    return 1\n",
    "b.py": 'import re\n\n_NAME = r"x+"\n\n\ndef f(text):\n    return re.fullmatch(_NAME, text)\n',
}
VARIANTS = [(what, variant) for what, variants in QUESTIONS.items() for variant in variants]


@pytest.mark.parametrize(
    ("what", "variant"), VARIANTS, ids=[f"{what}: {variant.name}" for what, variant in VARIANTS]
)
def test_every_variant_finds_what_it_edits_and_leaves_python(what, variant):
    sources = sources_of(default_checkout() / PACKAGE)
    changed = apply_all(sources, variant.edits)
    assert changed.keys() <= sources.keys()
    for path, text in changed.items():
        assert text != sources[path]
        for node in ast.walk(ast.parse(text)):
            for alias in node.names if isinstance(node, ast.Import) else ():
                if alias.name.startswith(PACKAGE):
                    assert importlib.util.find_spec(alias.name) is not None
    assert bool(changed or variant.flags) == (variant.name != AS_IT_IS)


def test_classes_that_are_written_out_are_there():
    sources = sources_of(default_checkout() / PACKAGE).values()
    nodes = [node for source in sources for node in ast.parse(source).body]
    assert {node.name for node in nodes if isinstance(node, ast.ClassDef)} >= WRITTEN


def test_the_server_as_it_is_comes_first_and_no_name_twice():
    for variants in QUESTIONS.values():
        names = [variant.name for variant in variants]
        assert names[0] == AS_IT_IS
        assert len(set(names)) == len(names)


def test_a_body_is_replaced_and_what_stands_around_it_stays():
    changed = Body("Door.open", "self.close()\nreturn")(SOURCES)["a.py"]
    assert changed == (
        '"""One."""\n\n\nclass Door:\n    async def open(self) -> None:\n        self.close()\n'
        "        return\n\n    def close(self) -> None:\n        return None\n\n\n"
        "def knock() -> int:\n    return 1\n"
    )
    assert "return 2" in Body("knock", "return 2")(SOURCES)["a.py"]


@pytest.mark.parametrize("name", ["Door", "Door.lock", "knock.knock", "lock", "Gate.open"])
def test_a_function_that_is_not_there_is_an_error(name):
    with pytest.raises(EditError, match=name):
        Body(name, "return")(SOURCES)


def test_a_text_that_does_not_stand_there_once_is_an_error():
    assert "return 3" in Instead("return 1", "return 3")(SOURCES)["a.py"]
    for old in ("return", "nothing"):
        with pytest.raises(EditError, match="not once"):
            Instead(old, "")(SOURCES)
    with pytest.raises(EditError, match=r"no c\.py"):
        Behind("c.py", "")(SOURCES)


def test_data_classes_stand_beside_structs_that_are_not_sent():
    text = (
        "import msgspec\n\n\nclass Order(msgspec.Struct, frozen=True):\n    a: int\n    b: str = 'x'\n\n\n"
        "class Sent(msgspec.Struct, tag=True):\n    a: int\n"
    )
    changed = DataClasses(is_plain_struct)({"c.py": text})["c.py"]
    found = {}
    exec(changed, found)
    assert found["_OrderData"]().a is None
    assert "_SentData" not in found
    with pytest.raises(EditError, match="no module"):
        DataClasses(is_plain_struct)(SOURCES)


def test_the_values_of_a_class_are_its_annotations_or_its_slots():
    module = ast.parse("class A:\n    __slots__ = ('x', 'y')\n    def f(self): ...\n")
    assert fields_of(module.body[0]) == ["x", "y"]


def test_edits_build_on_each_other():
    edits = (Body("knock", "return 5"), Instead("return 5", "return 6"))
    assert "return 6" in apply_all(SOURCES, edits)["a.py"]


def test_ratios_compare_what_was_measured_in_one_round():
    samples = Samples({"ms": 1, "never": 1})
    for one, other in ((10.0, 20.0), (100.0, 150.0), (1000.0, None)):
        samples.add(AS_IT_IS, {"ms": one})
        samples.add("without", {"ms": other})
    ratio = samples.ratio("without", AS_IT_IS, "ms")
    assert (ratio.low, ratio.high, ratio.count) == (1.5, 2.0, 2)
    assert samples.ratio(AS_IT_IS, "unknown", "ms") is None
    assert samples.table([AS_IT_IS, "without"]).splitlines()[2:] == [
        "| as it is | ms | 100.0 (10.0 to 1,000.0) | – |",
        "| without | ms | 85.0 (20.0 to 150.0) | 1.750 (1.500 to 2.000) |",
    ]


def test_none_always_follows_the_same_one():
    assert [turned("abc", number) for number in (-1, 0, 1)] == [
        ["c", "a", "b"],
        ["a", "b", "c"],
        ["b", "c", "a"],
    ]


def test_instructions_are_read_from_what_cachegrind_says():
    assert imports.parse_count("==1== I   refs:      1,513,829,541\n") == 1_513_829_541
    with pytest.raises(ValueError, match="told no instructions"):
        imports.parse_count("==1== killed")


def test_variants_are_chosen_by_name_beside_the_first():
    options = run.parse_arguments(["--what", "standby", "--only", "no standby template"])
    assert [variant.name for variant in run.chosen(options)] == [AS_IT_IS, "no standby template"]
    assert options.rounds == run.ROUNDS["standby"]
    options = run.parse_arguments(["--what", "direct", "--rounds", "2"])
    assert run.chosen(options) == list(QUESTIONS["direct"])
    assert options.rounds == 2
    options = run.parse_arguments(["--what", "direct", "--only", "nothing"])
    with pytest.raises(SystemExit, match="'nothing'"):
        run.chosen(options)
