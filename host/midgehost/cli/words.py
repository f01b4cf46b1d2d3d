"""Numbers as a person reads them."""


def counted(number: int, noun: str) -> str:
    """`1 alarm`, `2,500 alarms`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
