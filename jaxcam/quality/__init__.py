"""Is the explanation any good? Deletion and insertion, axioms, sanity checks. See README.md in this folder."""

__all__: list[str] = []
