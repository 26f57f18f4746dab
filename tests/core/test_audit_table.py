"""The audit's table as people read it."""

from mixlayers._core.audit.proof import Proof
from mixlayers._core.audit.report import Audit, Point


def point(name: str, true: bool = True, shape: tuple[int, ...] = (4, 8)) -> Point:
    return Point(
        name, "Layer", shape, true, "" if true else "goes round", swap=Proof("yes") if true else None
    )


def test_repeated_blocks_share_a_row_where_their_verdicts_agree() -> None:
    blocks = [point(f"blocks.{i}.{part}", part == "out") for i in range(24) for part in ("inner", "out")]
    report = Audit(
        (point("0"), point("1"), point("2"), *blocks, point("blocks.24.out", False)), chosen=("blocks.3.out",)
    )
    rows = [line.split("  ")[0] for line in str(report).splitlines()[2:-2]]
    assert rows == [
        "0",
        "1",
        "2",
        "blocks.*.inner (24)",
        "blocks.*.out (23)",
        "blocks.3.out",
        "blocks.24.out",
    ]
    assert len(report.table(folded=False).splitlines()) == 2 + len(report.points) + 2


def test_the_last_line_is_what_wrap_takes() -> None:
    report = Audit((point("a"), point("b")), chosen=("input", "a"))
    assert str(report).splitlines()[-2:] == ["2 of 2 layers are true mixing points.", 'layers=["input", "a"]']
    assert str(Audit((point("a", False),))).splitlines()[-1] == "0 of 1 layers are true mixing points."
