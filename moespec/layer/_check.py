"""Validation of declared fields: errors name the class, the field, the value and the limit."""


def one_of(owner, field, value, allowed):
    if value not in allowed:
        raise ValueError(f"{owner}: {field}={value!r} is not one of {', '.join(map(repr, allowed))}")


def at_least(owner, field, value, low):
    if not isinstance(value, int | float) or isinstance(value, bool) or not value >= low:
        raise ValueError(f"{owner}: {field}={value!r} must be at least {low}")


def above(owner, field, value, low):
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > low:
        raise ValueError(f"{owner}: {field}={value!r} must be greater than {low}")


def within(owner, field, value, low, high):
    if not low <= value < high:
        raise ValueError(f"{owner}: {field}={value!r} must be in [{low}, {high})")


def only_with(owner, field, value, default, needs, holds):
    """`field` may differ from its default only where `holds`; `needs` says in words what that is."""
    if value != default and not holds:
        raise ValueError(f"{owner}: {field}={value!r} needs {needs}")
