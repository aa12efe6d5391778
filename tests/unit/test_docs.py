# Copyright (c) 2026, The keyops.utrust authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests of the documentation against the files: error codes, trees, links, paths, commands."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml

from tests.support.error_codes import CODE, codes_of_collection, codes_of_contract

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("[!.]*.md")), ROOT / "tests/appliance/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
REPOSITORY = "https://github.com/keyops/keyops.utrust"
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


pages = pytest.mark.parametrize("page", PAGES, ids=page_id)


# Error codes


def codes_of_page() -> list[str]:
    """Return the first cell of every row in the order of the page."""
    return re.findall(r"^\| `([a-z_0-9]+)` \|", read(ROOT / "docs/error-codes.md"), re.MULTILINE)


def test_error_codes_page_lists_every_code_of_the_sources() -> None:
    found = codes_of_collection()
    assert len(found) > 100
    listed = set(codes_of_page())
    assert {code: sorted(files) for code, files in found.items() if code not in listed} == {}


def test_error_codes_page_lists_every_code_of_the_contract() -> None:
    found = codes_of_contract()
    assert len(found) > 30
    assert sorted(found - set(codes_of_page())) == []


def test_error_codes_page_has_no_other_codes() -> None:
    assert sorted(set(codes_of_page()) - set(codes_of_collection()) - codes_of_contract()) == []


def test_error_codes_page_lists_each_code_once() -> None:
    codes = codes_of_page()
    assert sorted({code for code in codes if codes.count(code) > 1}) == []


def test_error_codes_have_meaning_and_remedy() -> None:
    rows = re.findall(r"^\| `.*$", read(ROOT / "docs/error-codes.md"), re.MULTILINE)
    assert [row for row in rows if not re.fullmatch(r"\| `[a-z_0-9]+` \| [^|]+\. \| [^|]+\. \|", row)] == []


@pytest.mark.parametrize(
    "code",
    # One code for each way in which a source names its codes.
    ["response_lost", "node_unreachable", "extra_keys", "hsm_erased", "hsm_firmware_mismatch", "import_not_applied"]
    + ["restore_in_progress", "restore_failed", "import_failed", "audit_inactive", "gate_closed", "plan_missing"],
)
def test_error_codes_are_collected_in_every_form(code: str) -> None:
    assert CODE.fullmatch(code)
    assert code in codes_of_collection()


# Trees, paths and commands


def tree_of_page() -> set[str]:
    """Return the files of the tree in docs/dev/architecture.md."""
    block = re.search(
        r"^```text\n(plugins/\n.*?)^```$", read(ROOT / "docs/dev/architecture.md"), re.MULTILINE | re.DOTALL
    )
    assert block
    folders: list[str] = []
    found: set[str] = set()
    for line in block[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name, *meaning = re.split(r" {2,}", line.strip())
        del folders[depth:]
        if name.endswith("/"):
            folders.append(name)
        else:
            assert meaning, f"{line} has no meaning"
            found.add("".join([*folders, name]))
    return found


def test_tree_of_plugins_has_every_file() -> None:
    listed = tree_of_page()
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "plugins").rglob("*.py")}
    assert len(files) > 50
    assert (
        sorted(name for name in files if name not in listed and str(Path(name).with_name("*.py")) not in listed) == []
    )


def test_tree_of_plugins_has_no_other_files() -> None:
    assert [name for name in sorted(tree_of_page()) if not list(ROOT.glob(name))] == []


@pages
def test_paths_in_backticks_exist(page: Path) -> None:
    """A name in angle brackets stands for any name."""
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".venv")}
    tokens = re.findall(r"`([\w.*<>/-]+/[\w.*<>/-]*)`", FENCE.sub("", read(page)))
    paths = [token for token in tokens if token.split("/")[0] in folders]
    assert [path for path in paths if not list(ROOT.glob(re.sub(r"<\w+>", "*", path).rstrip("/")))] == []


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/dev/testing.md", "docs/dev/releasing.md"])
def test_pages_for_developers_name_folders_of_the_repository(name: str) -> None:
    """A path with an unknown first folder is a typing error."""
    tokens = re.findall(r"`([\w.][\w.*<>-]*/[\w.*<>/-]*)`", FENCE.sub("", read(ROOT / name)))
    assert tokens
    assert [token for token in tokens if not (ROOT / token.split("/")[0]).exists()] == []


@pages
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", read(ROOT / "Makefile"), re.MULTILINE))
    named = {
        word
        for command in re.findall(r"(?:`|^|\$ )make((?: [a-z-]+)+)", read(page), re.MULTILINE)
        for word in command.split()
    }
    assert sorted(named - targets) == []


def heading_anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", read(page)), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_code_blocks_are_closed() -> None:
    """A fence with a language inside of another block ends nothing, and shows the rest of the page as code."""
    broken = []
    for page in [*PAGES, *sorted(ROOT.glob("roles/*/README.md"))]:
        fences = [line for line in read(page).splitlines() if line.startswith("```")]
        if len(fences) % 2 or [line for line in fences[1::2] if line != "```"]:
            broken.append(page_id(page))
    assert broken == []


@pages
def test_links_lead_to_files_and_headings(page: Path) -> None:
    """Links to the repository are checked as files, other links are not followed."""
    raw = REPOSITORY.replace("github.com", "raw.githubusercontent.com")
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", read(page))):
        local = link.removeprefix(f"{REPOSITORY}/blob/main/").removeprefix(f"{raw}/main/")
        if re.match(r"https?://", local):
            continue
        name, dummy, anchor = local.partition("#")
        target = page if not name else ((ROOT if local != link else page.parent) / name).resolve()
        if not target.exists() or (anchor and anchor not in heading_anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(ROOT.glob("roles/*/README.md"))], ids=page_id)
def test_links_of_readmes_are_absolute(page: Path) -> None:
    """Galaxy shows these pages without the repository."""
    links = re.findall(r"\]\(([^)\s]+)\)", read(page))
    assert links or page.parent != ROOT
    assert [link for link in links if not re.match(r"https://|#", link)] == []


@pytest.mark.parametrize("name", ["SECURITY.md", "CODE_OF_CONDUCT.md"])
def test_policies_invent_no_address(name: str) -> None:
    """Reports go through the repository, because the project has no mailbox."""
    text = read(ROOT / name)
    assert "@" not in text
    assert f"{REPOSITORY}/security/advisories/new" in text


def test_readme_has_the_sections_of_the_certification() -> None:
    headings = re.findall(r"^## (.+)$", read(ROOT / "README.md"), re.MULTILINE)
    expected = [
        "Requirements",
        "Installation",
        "Use cases",
        "Testing",
        "Support",
        "Release notes",
        "Related information",
    ]
    assert [name for name in [*expected, "License"] if name not in headings] == []


# Names of the collection


def plugin_names() -> dict[str, set[str]]:
    folders = {kind: ROOT / "plugins" / kind for kind in ("modules", "filter", "callback", "lookup")}
    names = {kind: {path.stem for path in folder.glob("*.py")} for kind, folder in folders.items()}
    names["roles"] = {path.name for path in (ROOT / "roles").iterdir() if path.is_dir()}
    names["playbooks"] = {path.stem for path in (ROOT / "playbooks").glob("*.yml")}
    return names


@pages
def test_names_with_namespace_exist(page: Path) -> None:
    known = {"utrust"}.union(*plugin_names().values())  # utrust is the action group
    named = set(re.findall(r"\bkeyops\.utrust\.([a-z_]+)", read(page)))
    assert sorted(named - known) == []


@pages
def test_variables_of_roles_and_playbooks_exist(page: Path) -> None:
    prefixes = "key_sync|guided_restore|key_gate|key_report|key_status|preflight|readiness|renew_ca|utrust"
    named = set(re.findall(rf"\b((?:{prefixes})_[a-z_]+)\b", read(page)))
    sources = [
        path
        for folder in ("plugins", "roles", "playbooks", "molecule")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".yml"}
    ]
    known = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    host_variables = {f"utrust_{name}" for name in option_names()}
    assert sorted(name for name in named - host_variables if not re.search(rf"\b{name}\b", known)) == []


def option_names() -> set[str]:
    """Return the connection options, and those of EJBCA with their prefix."""
    fragments = [ROOT / f"plugins/doc_fragments/{name}.py" for name in ("_connection", "_ejbca")]
    options = {name for path in fragments for name in re.findall(r"^ +(\w+):$", read(path), re.MULTILINE)}
    return options | {f"ejbca_{name}" for name in options} | {"appliance"}


def test_readme_lists_every_module_role_and_playbook() -> None:
    names = plugin_names()
    text = read(ROOT / "README.md")
    expected = [*names["modules"], *names["roles"], *names["playbooks"] - {"require_nodes"}]
    assert sorted(name for name in expected if f"`{name}`" not in text) == []


def test_changelog_lists_every_plugin_role_and_playbook() -> None:
    release: dict[str, t.Any] = yaml.safe_load(read(ROOT / "changelogs/changelog.yaml"))["releases"]["1.0.0"]
    listed = {"modules": {entry["name"] for entry in release["modules"]}}
    listed |= {kind: {entry["name"] for entry in entries} for kind, entries in release["plugins"].items()}
    listed |= {f"{kind}s": {entry["name"] for entry in entries} for kind, entries in release["objects"].items()}
    assert listed == plugin_names()


def test_changelog_page_lists_every_plugin_role_and_playbook() -> None:
    """The page is generated from changelogs/changelog.yaml, so it can be older than this file."""
    page = read(ROOT / "CHANGELOG.md").replace("\\", "")
    sections = re.split(r"^###+ ", page, flags=re.MULTILINE)
    listed = {
        section.partition("\n")[0]: set(re.findall(r"^\* keyops\.utrust\.(\w+) - ", section, re.MULTILINE))
        for section in sections
    }
    titles = {"filter": "Filter", "callback": "Callback", "lookup": "Lookup"}
    titles |= {kind: f"New {kind.capitalize()}" for kind in ("modules", "roles", "playbooks")}
    assert {kind: listed[title] for kind, title in titles.items()} == plugin_names()


def test_changelog_has_the_present_descriptions() -> None:
    """The release is generated after the last change of a short description."""
    release: dict[str, t.Any] = yaml.safe_load(read(ROOT / "changelogs/changelog.yaml"))["releases"]["1.0.0"]
    entries = {**release["plugins"], "modules": release["modules"]}
    stale = [
        f"{folder}/{entry['name']}"
        for folder, listed in entries.items()
        for entry in listed
        if f"short_description: {entry['description']}\n".replace("\\", "")
        not in read(ROOT / "plugins" / folder / f"{entry['name']}.py").replace('"', "")
    ]
    assert stale == []


# Threat model


def test_threat_model_names_tests_that_exist() -> None:
    """Each attack has a test, and a renamed test does not leave a row without one."""
    page = read(ROOT / "docs/security.md")
    rows = [line for line in page.splitlines() if re.match(r"\| [A-E][0-9C, ]*\d*[^|]*: ", line)]
    names = set(re.findall(r"`(test_\w+)`", page))
    assert len(rows) > 15
    assert [row for row in rows if "`test_" not in row] == []
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert sorted(name for name in names if f"def {name}(" not in sources) == []
