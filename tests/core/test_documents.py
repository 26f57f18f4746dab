"""Arguments that stand once in a base class are told in every docstring that has them."""

from mixlayers._core.documents import add_arguments


class Base:
    """What others derive from.

    Args:
        model: Any model,
            whatever it is.
        seed: The run's.

    Attributes:
        step: The next one.

    Raises:
        ValueError: If not.
    """


def test_own_arguments_come_first_and_are_not_told_twice() -> None:
    class Derived(Base):
        """One of them.

        Args:
            model: A special one.
            call: How it is called.
        """

    add_arguments(Derived, Base)
    assert Derived.__doc__ == (
        "One of them.\n\nArgs:\n    model: A special one.\n    call: How it is called.\n    seed: The run's.\n\n"
        "Attributes:\n    step: The next one.\n\nRaises:\n    ValueError: If not."
    )


def test_function_gets_the_arguments_and_no_attributes() -> None:
    def wrap(**options: object) -> None:
        """Makes one."""

    add_arguments(wrap, Base)
    assert wrap.__doc__ == (
        "Makes one.\n\nArgs:\n    model: Any model,\n        whatever it is.\n    seed: The run's.\n\nRaises:\n"
        "    ValueError: If not."
    )


def test_function_without_options_has_told_what_it_takes() -> None:
    def draw(seed: int, axis: int) -> None:
        """Draws.

        Args:
            axis: The last one.
        """

    add_arguments(draw, Base)
    assert draw.__doc__ == (
        "Draws.\n\nArgs:\n    seed: The run's.\n    axis: The last one.\n\nRaises:\n    ValueError: If not."
    )


def test_what_has_no_docstring_stays_so() -> None:
    """As under python -OO."""

    class Silent:
        pass

    def wrap() -> None:
        pass

    add_arguments(wrap, Silent)
    assert wrap.__doc__ is None
