"""``python -m tirami.cli``."""

from tirami.cli import main

main()
