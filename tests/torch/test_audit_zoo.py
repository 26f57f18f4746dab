"""What the audit says of other people's models, against the truth that was set by hand."""

import pytest

from tests.torch.audit_zoo import BEGIN, END, PAGE, ZOO, is_proved, table, verdicts


@pytest.mark.parametrize("name", ZOO)
def test_the_audit_tells_the_truth(name):
    case = ZOO[name]
    found = verdicts(case)
    assert {place: is_proved(*found[place]) for place in case.truth} == case.truth


def test_the_page_has_what_is_found():
    """`python tests/torch/audit_zoo.py --write` brings it up to date."""
    text = PAGE.read_text(encoding="utf-8")
    assert text.split(BEGIN)[1].split(END)[0].strip() == table()
