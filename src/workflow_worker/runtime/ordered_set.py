"""`OrderedSet`: what the name ``set`` means inside asyncio while a run is on the loop, see `ordering`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, cast

T = TypeVar("T")


class OrderedSet(set[T]):
    """A set that iterates in the order of insertion, also after every way of changing it."""

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._order: dict[T, None] = dict.fromkeys(items)
        super().__init__(self._order)

    def __iter__(self) -> Iterator[T]:
        return iter(self._order)

    def __reduce__(self) -> tuple[Any, ...]:
        return set, (list(self),)

    def add(self, element: T, /) -> None:
        """Add an element, last."""
        self._order[element] = None
        super().add(element)

    def discard(self, element: Any, /) -> None:
        """Remove an element if it is there."""
        self._order.pop(element, None)
        super().discard(element)

    def remove(self, element: Any, /) -> None:
        """Remove an element.

        Raises:
            KeyError: It is not there.
        """
        super().remove(element)
        del self._order[element]

    def pop(self) -> T:
        """Remove and return the first element.

        Raises:
            KeyError: The set is empty.
        """
        for element in self._order:
            self.remove(element)
            return element
        raise KeyError("pop from an empty set")

    def clear(self) -> None:
        """Remove all."""
        self._order.clear()
        super().clear()

    def copy(self) -> OrderedSet[T]:
        """The same elements in the same order."""
        return OrderedSet(self._order)

    def update(self, *others: Iterable[T]) -> None:
        """Add all elements of the others, in their order."""
        for other in others:
            for element in list(other):
                self.add(element)

    def _keep(self, remaining: set[Any]) -> None:
        for element in [element for element in self._order if element not in remaining]:
            self.discard(element)

    def difference_update(self, *others: Iterable[Any]) -> None:
        """Remove all elements of the others."""
        self._keep(super().difference(*others))

    def intersection_update(self, *others: Iterable[Any]) -> None:
        """Keep what is in all of the others."""
        self._keep(super().intersection(*others))

    def symmetric_difference_update(self, other: Iterable[T], /) -> None:
        """Keep what is in one of the two only."""
        elements = dict.fromkeys(other)
        for element in elements:
            (self.discard if element in self else self.add)(element)

    def __ior__(self, other: Any, /) -> OrderedSet[T]:
        if not isinstance(other, set | frozenset):
            return NotImplemented
        self.update(cast("Iterable[T]", other))
        return self

    def __isub__(self, other: Any, /) -> OrderedSet[T]:
        if not isinstance(other, set | frozenset):
            return NotImplemented
        self.difference_update(cast("Iterable[T]", other))
        return self

    def __iand__(self, other: Any, /) -> OrderedSet[T]:
        if not isinstance(other, set | frozenset):
            return NotImplemented
        self.intersection_update(cast("Iterable[T]", other))
        return self

    def __ixor__(self, other: Any, /) -> OrderedSet[T]:
        if not isinstance(other, set | frozenset):
            return NotImplemented
        self.symmetric_difference_update(cast("Iterable[T]", other))
        return self

    def __or__(self, other: Any, /) -> OrderedSet[Any]:
        return _combined(self, other, "update")

    def __sub__(self, other: Any, /) -> OrderedSet[T]:
        return _combined(self, other, "difference_update")

    def __and__(self, other: Any, /) -> OrderedSet[T]:
        return _combined(self, other, "intersection_update")

    def __xor__(self, other: Any, /) -> OrderedSet[Any]:
        return _combined(self, other, "symmetric_difference_update")

    def union(self, *others: Iterable[Any]) -> OrderedSet[Any]:
        """All elements, in order."""
        found = self.copy()
        found.update(*others)
        return found

    def difference(self, *others: Iterable[Any]) -> OrderedSet[T]:
        """What is in none of the others, in order."""
        found = self.copy()
        found.difference_update(*others)
        return found

    def intersection(self, *others: Iterable[Any]) -> OrderedSet[T]:
        """What is in all of the others, in order."""
        found = self.copy()
        found.intersection_update(*others)
        return found


def _combined(left: OrderedSet[Any], right: Any, verb: str) -> OrderedSet[Any]:
    if not isinstance(right, set | frozenset):
        return NotImplemented
    found = left.copy()
    getattr(found, verb)(right)
    return found
