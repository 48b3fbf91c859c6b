"""Write the generated parts of README and docs anew: ``python -m tests.docs.write``."""

from __future__ import annotations

from tests.docs.pages import ROOT, rendered


def main() -> None:
    """Rewrite what is not current, and say which files these were."""
    for path, text in rendered().items():
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
