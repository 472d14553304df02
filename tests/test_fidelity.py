"""Whether a mechanism with given options, on a sequence or a grid, is its authors' form, and how it differs if not."""

import re

import pytest
from naive import load

import attention_zoo

TABLE = "no position table on k"
FIVE, THREE = (f"not the authors' convolution of {taps} taps" for taps in (5, 3))
LINE, TURN = "1-D convolution", "1-D rotation"
POOLED = "agents pooled along the sequence"
STRETCHED = "position biases along the sequence, without row and column tables"
WINDOWS = "windows along the sequence, of window^2 tokens"
STRIDED = "strided convolution along the sequence"
DRAWN = "features are drawn once, not at every call"
WHOLE = "the largest whole exponent is subtracted before 1e-6 is added, not the largest W t'"
ADDED = "a local convolution is added"

SAID = [  # spec, words on a sequence, words on a grid; no words: official
    ("pola", [LINE, TABLE], [TABLE]),
    ("pola:key_positions=true", [LINE], []),
    ("pola:key_positions=true,alpha=4", [LINE], []),
    ("pola:key_positions=true,alpha=7,conv=5", [LINE], []),
    ("pola:key_positions=true,alpha=0", [LINE, "no powers"], ["no powers"]),
    ("pola:key_positions=true,conv=3", [LINE, FIVE], [FIVE]),
    ("pola:key_positions=true,conv=0", [FIVE], [FIVE]),
    ("pola:conv=0", [TABLE, FIVE], [TABLE, FIVE]),
    ("pola:key_positions=true,gate=off", [LINE, "no gate"], ["no gate"]),
    ("pola:key_positions=true,gate=sigmoid", [LINE, "sigmoid of the gate"], ["sigmoid of the gate"]),
    ("pola:key_positions=true,power=fixed", [LINE, "fixed powers"], ["fixed powers"]),
    ("pola:key_positions=true,flows=same", [LINE, "one flow for the whole of v"], ["one flow for the whole of v"]),
    ("pola:key_positions=true,flows=opposite", [LINE, "one flow for the whole of v"], ["one flow for the whole of v"]),
    ("flatten", [LINE, TABLE], [TABLE]),
    ("flatten:key_positions=true", [LINE], []),
    ("flatten:key_positions=true,power=4", [LINE], []),
    ("flatten:key_positions=true,power=1", [LINE, "no focusing"], ["no focusing"]),
    ("flatten:key_positions=true,conv=7", [LINE, FIVE], [FIVE]),
    ("flatten:key_positions=true,conv=0", [FIVE], [FIVE]),
    ("agent", [LINE, POOLED, "no position biases"], ["no position biases"]),
    ("agent:bias=true", [LINE, STRETCHED, POOLED], []),
    ("agent:bias=true,agents=9", [LINE, STRETCHED, POOLED], []),
    ("agent:bias=true,conv=5", [LINE, STRETCHED, POOLED, THREE], [THREE]),
    ("agent:bias=true,conv=0", [STRETCHED, POOLED, THREE], [THREE]),
    ("swin", [WINDOWS], []),
    ("swin:window=7", [WINDOWS], []),
    ("swin:bias=false", [WINDOWS, "no relative position bias"], ["no relative position bias"]),
    ("swin:conv=3", [WINDOWS, ADDED], [ADDED]),
    ("pvt", [STRIDED], []),
    ("pvt:reduction=8", [STRIDED], []),
    ("pvt:reduction=1", [], []),  # softmax attention, as in the authors' last stage
    ("pvt:keys=49", [STRIDED], []),
    ("pvt:reduction=1,keys=49", [STRIDED], []),
    ("pvt:conv=3", [STRIDED, ADDED], [ADDED]),
    ("polapp", [LINE, TURN], []),
    ("polapp:conv=0", [TURN, FIVE], [FIVE]),
    ("polapp:rotary=false", [LINE, "no rotation"], ["no rotation"]),
    ("pvt+agent", [STRIDED, LINE, POOLED, "no position biases"], ["no position biases"]),
    ("flowformer", [], []),
    ("flowformer:competition=heads", *[["softmax over the heads, as in the authors' LRA code"]] * 2),
    ("inline:kernel=relu", [LINE], []),
    ("inline:conv=0", *[["not the authors' convolution of 3 taps"]] * 2),
    ("rala", [LINE, TURN], []),
    ("mlla", [LINE, TURN], []),
    ("mlla:gate=false", [LINE, TURN, "no gate"], ["no gate"]),
    ("lotformer:pivots=4", [], []),
    ("lotformer:shrunk=true", *[["rows sum to 1 / M^2, as in the authors' LRA code"]] * 2),
    ("softmax", [], []),
    ("softmax:conv=5", [ADDED], [ADDED]),
    ("softmax+elu:conv=3", [ADDED], [ADDED]),
    ("taylor", *[["on the whole head, not on 16 projected channels"]] * 2),
    ("nystrom:landmarks=32", [], []),
    ("nystrom:conv=0", *[["no convolution of v"]] * 2),
    ("fnet", *[["orthonormal transforms"]] * 2),
    ("fnet:orthonormal=false", [], []),
    ("performer:features=256", *[[DRAWN, WHOLE]] * 2),
    ("performer:features=256,stabiliser=authors", *[[DRAWN]] * 2),
    (
        "performer:kernel=relu",
        *[["relu features of t / K^(1/4), where the authors take t, so that 1e-3 weighs more"]] * 2,
    ),
    ("performer:scaled_twice=true", *[[DRAWN, WHOLE, "q and k are scaled twice, as in Nystromformer's suite"]] * 2),
]
SIZES = {"alpha", "agents", "window", "reduction", "keys"}  # which the authors choose for a model


@pytest.mark.parametrize(("spec", "sequence", "grid"), SAID)
def test_fidelity_is_that_of_the_options(spec: str, sequence: list[str], grid: list[str]):
    entry, options = attention_zoo.find(spec)
    for words, on_grid in ((sequence, False), (grid, True)):
        assert entry.fidelity(on_grid, options) == (f"adapted: {'; '.join(words)}" if words else "official")


@pytest.mark.parametrize("name", attention_zoo.names())
def test_conditions_are_of_options(name: str):
    entry, _ = attention_zoo.find(name)
    for condition in (*entry.adapted_where, *entry.departs):
        assert re.split("!?=", condition)[0] in entry.options
        assert isinstance(entry.holds(condition, {}), bool)


def test_a_condition_is_a_departure_a_value_or_any_other_value():
    entry, _ = attention_zoo.find("pola")
    for conv, held in ((5, ["conv!=0"]), (3, ["conv", "conv!=0"]), (0, ["conv", "conv=0"])):
        assert [text for text in ("conv", "conv=0", "conv!=0") if entry.holds(text, {"conv": conv})] == held


@pytest.mark.parametrize("name", ["pola", "flatten", "agent", "swin", "pvt", "polapp"])
def test_no_option_is_forgotten(name: str):
    """For mechanisms made for images, each option is either a size that the authors choose or a declared departure."""
    entry, _ = attention_zoo.find(name)
    departs = {condition.partition("=")[0].rstrip("!") for condition in entry.departs}
    assert set(entry.options) - departs - ({"conv"} if entry.default("conv") == 0 else set()) <= SIZES


@pytest.mark.parametrize(
    "spec", ["pola:key_positions=true", "flatten:key_positions=true", "agent:bias=true", "swin", "pvt", "pvt:keys=6"]
)
def test_authors_forms_have_a_twin_on_grids(spec: str):
    entry, options = attention_zoo.find(spec)
    reference = load(entry.name)
    assert entry.fidelity(True, options) == "official"
    assert spec in (*reference.grids, *(more for specs in reference.further.values() for more in specs))


@pytest.mark.parametrize(("keys", "sides"), [(49, (56, 28, 14, 7)), (49, (32, 16, 8, 4)), (16, (32, 16, 8, 4))])
def test_reductions_of_pvt(keys: int, sides: tuple[int, ...]):
    """The reductions are 8, 4, 2 and 1 from stage to stage."""
    entry, options = attention_zoo.find(f"pvt:keys={keys}")
    stages = [
        entry.build(attention_zoo.Dims(dim=4, heads=1, length=side**2, grid=(side, side)), options) for side in sides
    ]
    assert [getattr(stage, "reduction", None) for stage in stages] == [8, 4, 2, 1]


def test_no_whole_patches_are_so_few():
    entry, options = attention_zoo.find("pvt:keys=4")
    with pytest.raises(attention_zoo.SpecError, match="keys=4: no whole patches of a grid of 4 x 9 are so few"):
        entry.build(attention_zoo.Dims(dim=4, heads=1, length=36, grid=(4, 9)), options)
