"""What the docs builder lets through: pages no menu shows, code it can't read, public names that nobody describes."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import agentflow

ROOT = Path(__file__).parents[2]


def paths(nav: object) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, list):
        for entry in nav:
            yield from paths(entry)
    elif isinstance(nav, dict):
        for entry in nav.values():
            yield from paths(entry)


def test_the_menu_shows_every_page_once() -> None:
    shown = sorted(paths(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    assert shown == sorted(str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_marked_block_is_still_a_block(page: Path) -> None:
    """The builder takes `title=` as it is, but any other mark only in braces; else the block ends up in a paragraph."""
    assert re.findall(r"^ *```\w+ +[^{\n]*\btest=.*$", page.read_text(encoding="utf-8"), flags=re.MULTILINE) == []


def public() -> Iterator[tuple[str, object]]:
    for name in sorted(getattr(agentflow, "__all__", dir(agentflow))):
        value = getattr(agentflow, name)
        if name.startswith("_") or not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        yield name, value
        if inspect.isclass(value):
            for member, function in inspect.getmembers(value, inspect.isfunction):
                if not member.startswith("_") and function.__module__.startswith("agentflow."):
                    yield f"{name}.{member}", getattr(value, member)


def test_the_reference_shows_every_public_name() -> None:
    """A block `::: module` shows what is in it and below it, but nothing of a private module."""
    pages = [page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md")]
    blocks = re.findall(r"^::: (\S+)$", "\n".join(pages), flags=re.MULTILINE)

    def shown(name: str, value: object) -> bool:
        home = f"{value.__module__}.{name}"
        return any(
            block in (home, f"agentflow.{name}")
            or (home.startswith(f"{block}.") and "._" not in home.removeprefix(block))
            for block in blocks
        )

    assert [name for name, value in public() if "." not in name and not shown(name, value)] == []


@pytest.mark.parametrize(("name", "value"), [pytest.param(name, value, id=name) for name, value in public()])
def test_a_public_name_says_what_it_is(name: str, value: object) -> None:
    assert inspect.getdoc(value), f"{name} has no docstring of its own or inherited"
